//! Which process this is, found out without a lock and without a system call.
//!
//! A child of `fork` inherits the memory of its parent: sockets that the parent goes on using, locks
//! that a thread held which the child does not have. So what talks to the network belongs to a
//! process; a child makes its own, and leaves the parent's alone for ever.

#![allow(unsafe_code)] // pthread_atfork(3)

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use once_cell::race::OnceBox;

use crate::error::{Error, ErrorKind};

/// How many forks lie between the process that loaded the library and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The process that counted last. Two threads at once may both register the handler: it then runs
/// twice in a child, and counts once.
static COUNTED_BY: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_the_child() {
    let this = std::process::id();
    if COUNTED_BY.swap(this, Ordering::Relaxed) != this {
        GENERATION.fetch_add(1, Ordering::Release);
    }
}

/// The generation of this process. Costs a load from memory, where getpid(2) is a system call.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Acquire)
}

/// From now on forks are counted. The raw system call, which skips `pthread_atfork`, is not seen.
pub(crate) fn watch() -> Result<(), Error> {
    static WATCHING: AtomicBool = AtomicBool::new(false);
    if WATCHING.load(Ordering::Acquire) {
        return Ok(());
    }
    // Two threads at once may both register. To say that it is done before it is would be worse.
    // SAFETY: the handler is a function of this library, which is never unloaded (`-z nodelete`),
    // and does nothing but count.
    if unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) } != 0 {
        return Err(Error::new(
            ErrorKind::Internal,
            "There is no memory to watch for forks with pthread_atfork.",
        ));
    }
    WATCHING.store(true, Ordering::Release);
    Ok(())
}

/// A value that each process has its own of.
///
/// The way to it takes no lock: one could be held, at the moment of a fork, by a thread that the
/// child does not have. A value of the parent is never dropped in the child, because it may have
/// been half changed when the fork came; its memory stays.
pub(crate) struct PerProcess<T> {
    generation: u64,
    value: Option<T>,
    child: OnceBox<PerProcess<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            generation: generation(),
            value: Some(value),
            child: OnceBox::new(),
        }
    }

    /// For a static, made before any fork.
    pub(crate) const fn first(value: T) -> Self {
        Self {
            generation: 0,
            value: Some(value),
            child: OnceBox::new(),
        }
    }

    /// This process's value. In a child, the first call makes it with `make`.
    pub(crate) fn get(&self, make: impl Fn() -> T) -> &T {
        self.get_from(|_| make())
    }

    /// Likewise; `make` is shown its parent's. Nobody will ever change that again in this process, and
    /// a thread that this process does not have may have left it half changed.
    #[inline]
    pub(crate) fn get_from(&self, make: impl Fn(Option<&T>) -> T) -> &T {
        let now = generation();
        let mut at = self;
        loop {
            match &at.value {
                Some(value) if at.generation == now => return value,
                _ => {}
            }
            at = at
                .child
                .get_or_init(|| Box::new(Self::new(make(at.value.as_ref()))));
        }
    }

    /// This process's value, if it has one already.
    pub(crate) fn existing(&self) -> Option<&T> {
        let now = generation();
        std::iter::successors(Some(self), |at| at.child.get())
            .find(|at| at.generation == now)
            .and_then(|at| at.value.as_ref())
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if self.generation != generation() {
            std::mem::forget(self.value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_one_process_there_is_one_value() {
        let value = PerProcess::new(1);
        assert_eq!(*value.get(|| 2), 1);
        assert_eq!(value.existing(), Some(&1));
        static FIRST: PerProcess<u8> = PerProcess::first(3);
        assert_eq!(*FIRST.get(|| 4), 3);
    }
}
