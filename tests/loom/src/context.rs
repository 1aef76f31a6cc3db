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
    /// Gives up instead of waiting, like a call that times out or is cancelled. Loom tries it at every moment.
    pub(crate) gives_up: bool,
}

impl Context {
    pub(crate) fn is_inherited(&self) -> bool {
        false
    }

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
