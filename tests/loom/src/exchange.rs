//! A stand-in for the library's `src/exchange/`.

#[path = "../../../src/exchange/fetcher.rs"]
mod fetcher;

use std::time::Instant;

use crate::error::Error;
use crate::token::TokenResponse;
pub(crate) use fetcher::{Fetcher, Later};

pub(crate) struct SignedUser<'a> {
    pub(crate) user: &'a [u8],
}

#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) requests: u32,
    /// No request may be sent before this time.
    pub(crate) pause: Option<Instant>,
    is_counted: bool,
}

impl Progress {
    /// No model has a store.
    pub(crate) fn asks_store(&self) -> bool {
        false
    }

    pub(crate) fn leave_store(&mut self) {}

    pub(crate) fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.is_counted, true)
    }

    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    pub(crate) fn failure_at(&self, deadline: Instant) -> Option<&Error> {
        self.pause.filter(|until| deadline <= *until).map(|_| &Error::Refused)
    }

    pub(crate) fn with_response(&self, error: Error) -> Error {
        error
    }
}

pub(crate) enum Outcome {
    Granted(TokenResponse),
    #[allow(dead_code)] // no model has a store
    Shared(TokenResponse),
    Failed(Error),
    Interrupted(Error),
}
