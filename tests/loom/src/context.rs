//! A stand-in for the library's `src/context.rs`.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sync;

#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) timeout: Duration,
}

#[derive(Clone, Copy)]
pub(crate) struct Context {
    pub(crate) deadline: Deadline,
    /// It gives up as soon as it would have to wait. Loom tries that at every moment: it is as if its
    /// time were up, or it were cancelled.
    pub(crate) gives_up: bool,
}

impl Context {
    pub(crate) fn wait_for(&self, _: &str, done: impl Fn() -> bool) -> Result<(), Error> {
        while !done() {
            if self.gives_up {
                return Err(Error::Stopped);
            }
            sync::park();
        }
        Ok(())
    }
}
