//! Which process this is, found out without a lock and without a system call.
//!
//! A child of `fork` inherits the memory of its parent: sockets that the parent goes on using, locks
//! that a thread held which the child does not have. So what talks to the network, or is changed
//! under a lock, belongs to a process. A child makes its own, takes over what it safely can, and lets
//! go of the rest.

#![allow(unsafe_code)] // pthread_atfork(3), and the pointer that a child changes

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::{marker::PhantomData, mem, ptr, thread};

use crate::error::{Error, ErrorKind};

/// Counts the forks between the process that loaded the library and this one.
///
/// The process id tells nothing: in nested PID namespaces a child has the id of its parent. The number
/// of a child is fixed before the fork and taken after it, so that handlers that were registered
/// twice count once.
struct Generation {
    now: AtomicU64,
    of_the_next_child: AtomicU64,
}

impl Generation {
    const fn first() -> Self {
        Self { now: AtomicU64::new(0), of_the_next_child: AtomicU64::new(0) }
    }

    /// In the parent, before a fork. Threads that fork at the same time store the same number.
    fn prepare(&self) {
        let next = self.now.load(Ordering::Relaxed) + 1;
        self.of_the_next_child.store(next, Ordering::Relaxed);
    }

    /// In the child, after a fork.
    fn begin_child(&self) {
        let mine = self.of_the_next_child.load(Ordering::Relaxed);
        self.now.store(mine, Ordering::Release);
    }
}

static GENERATION: Generation = Generation::first();

extern "C" fn before_a_fork() {
    GENERATION.prepare();
}

extern "C" fn in_the_child() {
    GENERATION.begin_child();
}

/// The generation of this process. Costs a load from memory, where getpid(2) is a system call.
#[inline]
pub(crate) fn generation() -> u64 {
    let now = GENERATION.now.load(Ordering::Acquire);
    #[cfg(test)]
    let now = now + tests::PRETENDED_FORKS.get();
    now
}

/// From now on forks are counted. The raw system call, which skips `pthread_atfork`, is not seen.
pub(crate) fn watch() -> Result<(), Error> {
    static WATCHING: AtomicBool = AtomicBool::new(false);
    if WATCHING.load(Ordering::Acquire) {
        return Ok(());
    }
    // Two threads at once may both register. To say that it is done before it is would be worse.
    // SAFETY: the handlers are functions of this library, which is never unloaded (`-z nodelete`),
    // and do nothing but load and store two numbers.
    if unsafe { libc::pthread_atfork(Some(before_a_fork), None, Some(in_the_child)) } != 0 {
        return Err(Error::new(
            ErrorKind::Internal,
            "There is no memory to watch for forks with pthread_atfork.",
        ));
    }
    WATCHING.store(true, Ordering::Release);
    Ok(())
}

/// A lock that a child inherited: `None` if a thread of the parent held it at the fork, which would
/// never open it here. If it is free, what it guards is whole: a child sees what each thread of its
/// parent wrote up to one moment, and so never a lock that is open on a change that is half made.
pub(crate) fn try_lock<T>(inherited: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    // Another thread of this process may hold it for a moment.
    const TRIES: usize = 3;
    for _ in 0..TRIES {
        match inherited.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => thread::yield_now(),
        }
    }
    None
}

/// What a process has of its own, and a child finds a copy of in its memory.
pub(crate) trait Inherit: Send + Sync + Sized {
    /// Ends the life of a copy that a child inherited. Frees, and wipes, what no thread of the parent
    /// can have been changing at the fork. The rest stays in memory until the process ends.
    fn abandon(self);
}

impl<T: Send> Inherit for Mutex<T> {
    fn abandon(self) {
        if try_lock(&self).is_none() {
            mem::forget(self);
        }
    }
}

impl Inherit for AtomicUsize {
    fn abandon(self) {}
}

/// A value that each process has its own of. The way to it takes no lock, and costs the same in every
/// generation.
pub(crate) struct PerProcess<T: Inherit> {
    current: AtomicPtr<Owned<T>>,
    owns: PhantomData<Owned<T>>,
}

struct Owned<T> {
    generation: u64,
    value: T,
    /// The value of the process before; null if there is none. It is abandoned one generation late: a
    /// call in which a signal handler forked goes on with it in the child.
    inherited: AtomicPtr<Owned<T>>,
}

impl<T: Inherit> PerProcess<T> {
    /// Without a value, until a process asks for its own.
    pub(crate) const fn empty() -> Self {
        Self { current: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    pub(crate) fn new(value: T) -> Self {
        let first = Owned { generation: generation(), value, inherited: AtomicPtr::default() };
        Self { current: AtomicPtr::new(Box::into_raw(Box::new(first))), owns: PhantomData }
    }

    /// This process's value. The first call in a process makes it with `make`, which is shown its
    /// parent's, if that had one. Threads that come first at the same time may each make one; one of
    /// these is kept.
    #[inline]
    pub(crate) fn get(&self, make: impl Fn(Option<&T>) -> T) -> &T {
        loop {
            if let Some(value) = self.existing() {
                return value;
            }
            self.make(&make);
        }
    }

    /// This process's value, if it has one already.
    #[inline]
    pub(crate) fn existing(&self) -> Option<&T> {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: `current` is null or came from `Box::into_raw`. It is freed by `drop`, which nobody
        // can overlap with, and by `make` once two generations have gone by. A call that holds the
        // reference has then long ended: the threads of a child begin after its fork, and the one
        // that forked was in a call only if a signal handler forked, once.
        let current = unsafe { current.as_ref() }?;
        (current.generation == generation()).then_some(&current.value)
    }

    #[cold]
    fn make(&self, make: &dyn Fn(Option<&T>) -> T) {
        let generation = generation();
        let inherited = self.current.load(Ordering::Acquire);
        // SAFETY: as in `existing`.
        let parent = unsafe { inherited.as_ref() };
        if parent.is_some_and(|parent| parent.generation == generation) {
            return; // another thread was first
        }
        let value = make(parent.map(|parent| &parent.value));
        let own = Owned { generation, value, inherited: AtomicPtr::new(inherited) };
        let own = Box::into_raw(Box::new(own));
        let published =
            self.current.compare_exchange(inherited, own, Ordering::AcqRel, Ordering::Acquire);
        if published.is_ok() {
            if let Some(parent) = parent {
                let older = parent.inherited.swap(ptr::null_mut(), Ordering::AcqRel);
                // SAFETY: it came from `Box::into_raw`, and nothing points to it any more.
                unsafe { Owned::let_go(older) };
            }
        } else {
            // SAFETY: it was made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(own) }.value);
        }
    }
}

impl<T: Inherit> Owned<T> {
    /// Frees a value and what it inherited.
    ///
    /// # Safety
    ///
    /// `this` is null or came from `Box::into_raw`, and is never used again.
    unsafe fn let_go(mut this: *mut Self) {
        while !this.is_null() {
            // SAFETY: the caller's promise for the first; a value owns what it inherited.
            let Self { generation: made_in, value, mut inherited } =
                *unsafe { Box::from_raw(this) };
            if made_in == generation() {
                drop(value);
            } else {
                value.abandon();
            }
            this = *inherited.get_mut();
        }
    }
}

impl<T: Inherit> Drop for PerProcess<T> {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw`, and `self` was its owner.
        unsafe { Owned::let_go(*self.current.get_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;

    thread_local! {
        /// How many forks the test in this thread pretends.
        pub(super) static PRETENDED_FORKS: Cell<u64> = const { Cell::new(0) };
    }

    fn pretend_fork() {
        PRETENDED_FORKS.set(PRETENDED_FORKS.get() + 1);
    }

    #[test]
    fn handlers_that_are_registered_twice_count_once() {
        let generation = Generation::first();
        for forks in 1..=5 {
            generation.prepare(); // of a fork that failed
            generation.prepare();
            generation.prepare();
            assert_eq!(generation.now.load(Ordering::Relaxed), forks - 1);
            generation.begin_child();
            generation.begin_child();
            assert_eq!(generation.now.load(Ordering::Relaxed), forks);
        }
    }

    /// Counts those that are alive.
    struct Counted {
        _alive: Arc<()>,
        lock: Mutex<()>,
    }

    impl Counted {
        fn new(alive: &Arc<()>) -> Self {
            Self { _alive: Arc::clone(alive), lock: Mutex::new(()) }
        }
    }

    impl Inherit for Counted {
        fn abandon(self) {
            self.lock.abandon();
        }
    }

    #[test]
    fn in_one_process_there_is_one_value() {
        let value = PerProcess::new(Mutex::new(1));
        assert_eq!(*value.get(|_| Mutex::new(2)).lock().unwrap(), 1);
        static EMPTY: PerProcess<AtomicUsize> = PerProcess::empty();
        assert!(EMPTY.existing().is_none());
        EMPTY.get(|_| AtomicUsize::new(3)).fetch_add(1, Ordering::Relaxed);
        assert_eq!(EMPTY.get(|_| AtomicUsize::new(5)).load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_child_makes_its_own_of_its_parents() {
        let value = PerProcess::new(Mutex::new(1));
        for forks in 1..=20 {
            pretend_fork();
            assert!(value.existing().is_none());
            for _ in 0..2 {
                let own = value.get(|parent| Mutex::new(*parent.unwrap().lock().unwrap() + 1));
                assert_eq!(*own.lock().unwrap(), 1 + forks);
            }
        }
    }

    #[test]
    fn what_ancestors_held_is_let_go() {
        let alive = Arc::new(());
        let make = || Counted::new(&alive);
        let value = PerProcess::new(make());
        for _ in 0..20 {
            pretend_fork();
            value.get(|_| make());
            // The child's own, its parent's, and the one of this test.
            assert!(Arc::strong_count(&alive) <= 3);
        }
        pretend_fork(); // a child that frees it without having used it
        drop(value);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn threads_that_come_first_at_once_share_one() {
        for _ in 0..200 {
            let alive = Arc::new(());
            let value = PerProcess::empty();
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let make = |_: Option<&_>| Counted::new(&alive);
                        let first = ptr::from_ref(value.get(make));
                        assert_eq!(ptr::from_ref(value.get(make)), first);
                    });
                }
            });
            assert_eq!(Arc::strong_count(&alive), 2);
        }
    }
}
