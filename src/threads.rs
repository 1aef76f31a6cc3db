//! Threads of the library.

#![allow(unsafe_code)] // pthread_sigmask(3)

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread in which all signals are blocked, so that it never runs a signal handler of the
/// program. `stack` is in bytes. Fails if the system has no thread left.
pub(crate) fn spawn(
    name: &str,
    stack: usize,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // A new thread inherits the mask of the thread that starts it.
    let _restored = BlockedSignals::new();
    Builder::new().name(name.into()).stack_size(stack).spawn(work)
}

/// Blocks all signals in this thread until it is dropped; `None` if that failed.
struct BlockedSignals(Option<libc::sigset_t>);

impl BlockedSignals {
    fn new() -> Self {
        // SAFETY: both sets live on this stack; any numbers are a valid signal set, and the two functions
        // write to nothing else.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            let failed = libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) != 0;
            Self((!failed).then_some(before))
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: pthread_sigmask(3) filled the set; nothing is written.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
        }
    }
}
