//! Fork detection, without a lock and without a system call.
//!
//! A forked child inherits the memory of its parent: sockets that the parent still uses, and locks of threads
//! that the child does not have. So everything that uses the network or a lock belongs to one process. A
//! child makes its own, reuses what is safe, and abandons the rest.

#![allow(unsafe_code)] // pthread_atfork(3), and the pointer that a child changes

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::{marker::PhantomData, mem, ptr, thread};

use crate::error::{Error, ErrorKind};

/// Counts the forks between the process that loaded the library and this one.
///
/// A process id does not identify a process: in nested PID namespaces, a child can have the id of its parent.
/// The number of a child is chosen before the fork and set after it, so handlers that are registered twice
/// count once.
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

/// The generation of this process. One load from memory; getpid(2) would be a system call.
#[inline]
pub(crate) fn generation() -> u64 {
    let now = GENERATION.now.load(Ordering::Acquire);
    #[cfg(test)]
    let now = now + tests::PRETENDED_FORKS.get();
    now
}

/// Starts to count forks. A fork by raw system call skips `pthread_atfork` and is not noticed.
pub(crate) fn watch() -> Result<(), Error> {
    static WATCHING: AtomicBool = AtomicBool::new(false);
    if WATCHING.load(Ordering::Acquire) {
        return Ok(());
    }
    // Two threads at once may both register, which is harmless.
    // SAFETY: the handlers are functions of this library, which is never unloaded (`-z nodelete`), and only load
    // and store two numbers.
    if unsafe { libc::pthread_atfork(Some(before_a_fork), None, Some(in_the_child)) } != 0 {
        return Err(Error::new(
            ErrorKind::Internal,
            "Forks cannot be detected: pthread_atfork(3) failed for lack of memory. Try again.",
        ));
    }
    WATCHING.store(true, Ordering::Release);
    Ok(())
}

/// Locks an inherited mutex. `None` if a thread of the parent held it at the fork: no thread of the child
/// would ever unlock it. If it is free, its data is consistent, because the child has a snapshot of the
/// parent's memory.
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

/// A value that belongs to one process, and of which a forked child inherits a copy.
pub(crate) trait Inherit: Send + Sync + Sized {
    /// Drops an inherited copy. Frees and wipes what no thread of the parent can have been changing at the
    /// fork, and leaks the rest.
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

/// A value of which each process has its own. Access takes no lock, and costs the same in every generation.
pub(crate) struct PerProcess<T: Inherit> {
    current: AtomicPtr<Owned<T>>,
    owns: PhantomData<Owned<T>>,
}

struct Owned<T> {
    generation: u64,
    value: T,
    /// The value of the parent process, or null. It is abandoned one generation late, because a call in which
    /// a signal handler forked still uses it in the child.
    inherited: AtomicPtr<Owned<T>>,
}

impl<T: Inherit> PerProcess<T> {
    /// Without a value until [`PerProcess::get`].
    pub(crate) const fn empty() -> Self {
        Self { current: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    pub(crate) fn new(value: T) -> Self {
        let first = Owned { generation: generation(), value, inherited: AtomicPtr::default() };
        Self { current: AtomicPtr::new(Box::into_raw(Box::new(first))), owns: PhantomData }
    }

    /// The value of this process. The first call makes it with `make`, which receives the parent's value, if
    /// there is one. Concurrent first calls may each make one; one of them is kept.
    #[inline]
    pub(crate) fn get(&self, make: impl Fn(Option<&T>) -> T) -> &T {
        loop {
            if let Some(value) = self.existing() {
                return value;
            }
            self.make(&make);
        }
    }

    /// The value of this process, if it has one.
    #[inline]
    pub(crate) fn existing(&self) -> Option<&T> {
        let current = self.current.load(Ordering::Acquire);
        // Freed by `drop`, which has exclusive access, and by `make` after two generations. By then no call holds
        // the reference: the threads of a child start after its fork, and the thread that forked was in a call
        // only if a signal handler forked, once.
        // SAFETY: `current` is null or came from `Box::into_raw`, and is not freed while it is used, as above.
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
            return; // another thread made it
        }
        let value = make(parent.map(|parent| &parent.value));
        let own = Owned { generation, value, inherited: AtomicPtr::new(inherited) };
        let own = Box::into_raw(Box::new(own));
        let published =
            self.current.compare_exchange(inherited, own, Ordering::AcqRel, Ordering::Acquire);
        if published.is_ok() {
            if let Some(parent) = parent {
                let older = parent.inherited.swap(ptr::null_mut(), Ordering::AcqRel);
                // SAFETY: it came from `Box::into_raw`, and nothing else points to it.
                unsafe { Owned::free(older) };
            }
        } else {
            // SAFETY: it was made above and not published.
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
    unsafe fn free(mut this: *mut Self) {
        while !this.is_null() {
            // SAFETY: the caller's promise for the first one; each value owns the one it inherited.
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
        // SAFETY: it came from `Box::into_raw`, and `self` owns it.
        unsafe { Owned::free(*self.current.get_mut()) };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;

    thread_local! {
        /// The number of forks that the test in this thread pretends.
        pub(super) static PRETENDED_FORKS: Cell<u64> = const { Cell::new(0) };
    }

    /// From now on this thread is in a child.
    pub(crate) fn pretend_fork() {
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

    /// Counts the live instances.
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
    fn a_child_makes_its_value_from_its_parents() {
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
    fn the_values_of_ancestors_are_freed() {
        let alive = Arc::new(());
        let make = || Counted::new(&alive);
        let value = PerProcess::new(make());
        for _ in 0..20 {
            pretend_fork();
            value.get(|_| make());
            // The child's, its parent's, and the reference of this test.
            assert!(Arc::strong_count(&alive) <= 3);
        }
        pretend_fork(); // a child that frees it without having used it
        drop(value);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn concurrent_first_calls_share_one_value() {
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
