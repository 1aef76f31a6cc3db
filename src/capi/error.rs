//! The error struct, which the caller owns, and the failures that it reports.

use std::borrow::Cow;
use std::ffi::c_char;
use std::mem::size_of;

use super::status::spike_auth_status;
use crate::cache::Fetched;
use crate::error::{Error, cut};

/// The detail of a failure. The caller owns it: put one on the stack, pass its address, and read it when a
/// function has failed. A function that takes it rewrites all of it, also on success, so it need not be
/// initialised. NULL may be passed instead. Its size is always 512 bytes.
#[repr(C)]
pub struct spike_auth_error {
    /// The status that the function returned.
    pub status: i32,
    /// The status code of the HTTP response; 0 if there was none.
    pub http_status: i32,
    /// How long to wait before a retry, in milliseconds; -1 if unknown.
    pub retry_after_ms: i64,
    /// How many requests were sent for this result, also on success. 0 for a cached token, or if no connection
    /// could be made.
    pub attempts: u32,
    /// 1 if the same call may succeed later, else 0.
    pub retryable: u32,
    /// What failed and what to do about it. UTF-8, NUL-terminated, cut at a character boundary. Never contains a
    /// key, a signature, a token, or the user id.
    pub message: [c_char; 424],
    /// 1 if another call made the exchange, and this one only waited for its result; else 0. So exchanges are
    /// the results with `attempts` over 0 and without `shared`.
    pub shared: u32,
    /// On success with the old token, whose renewal this call tried: the status with which that failed. Else 0.
    pub renewal_status: i32,
    /// Zero. Reserved for later versions.
    pub reserved: [u64; 7],
}

const _: () = assert!(size_of::<spike_auth_error>() == 512);

const MESSAGE_MAX: usize = 424 - 1;

impl spike_auth_error {
    fn none() -> Self {
        Self {
            status: spike_auth_status::Ok as i32,
            http_status: 0,
            retry_after_ms: -1,
            attempts: 0,
            retryable: 0,
            message: [0; 424],
            shared: 0,
            renewal_status: 0,
            reserved: [0; 7],
        }
    }

    fn of(failure: &Failure) -> Self {
        let mut this = Self { status: failure.status() as i32, ..Self::none() };
        match failure {
            Failure::Boundary { message, .. } => this.set_message(message),
            Failure::Core(error) => {
                this.http_status = error.http_status().map_or(0, i32::from);
                this.retry_after_ms = error
                    .retry_after()
                    .map_or(-1, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                this.attempts = error.attempts();
                this.shared = error.is_shared().into();
                this.retryable = error.retryable().into();
                this.set_message(error.message());
            }
        }
        this
    }

    fn set_message(&mut self, message: &str) {
        // A C reader stops at the first NUL anyway.
        let text = cut(message, MESSAGE_MAX).bytes().take_while(|byte| *byte != 0);
        for (place, byte) in self.message.iter_mut().zip(text) {
            *place = byte as c_char;
        }
    }
}

/// Why a function failed: in the core, or at the boundary, before the core was called.
pub(super) enum Failure {
    Core(Error),
    Boundary { status: spike_auth_status, message: Cow<'static, str> },
}

impl Failure {
    pub(super) fn new(status: spike_auth_status, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Boundary { status, message: message.into() }
    }

    pub(super) fn status(&self) -> spike_auth_status {
        match self {
            Self::Core(error) => error.kind().into(),
            Self::Boundary { status, .. } => *status,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

/// What was done for a result.
#[derive(Clone, Copy)]
pub(super) struct Work {
    attempts: u32,
    is_shared: bool,
    renewal: spike_auth_status,
}

impl Work {
    pub(super) const NONE: Self = Self::of(0);

    /// The requests of an exchange.
    pub(super) const fn of(attempts: u32) -> Self {
        Self { attempts, is_shared: false, renewal: spike_auth_status::Ok }
    }
}

impl From<&Fetched> for Work {
    fn from(fetched: &Fetched) -> Self {
        Self {
            is_shared: fetched.is_shared,
            renewal: fetched.renewal.map_or(spike_auth_status::Ok, Into::into),
            ..Self::of(fetched.attempts)
        }
    }
}

/// A function that sends nothing.
impl From<()> for Work {
    fn from((): ()) -> Self {
        Self::NONE
    }
}

/// # Safety
/// `err` is NULL or points to memory for one `spike_auth_error`, which may be uninitialised.
#[inline]
pub(super) unsafe fn write_error(err: *mut spike_auth_error, outcome: &Result<Work, Failure>) {
    if err.is_null() {
        return;
    }
    match outcome {
        // In place: the common case, without a copy of 512 bytes on the stack.
        // SAFETY: not NULL, and writable as the caller promises; need not be aligned.
        Ok(work) => unsafe {
            err.cast::<u8>().write_bytes(0, size_of::<spike_auth_error>());
            (&raw mut (*err).retry_after_ms).write_unaligned(-1);
            (&raw mut (*err).attempts).write_unaligned(work.attempts);
            (&raw mut (*err).shared).write_unaligned(work.is_shared.into());
            (&raw mut (*err).renewal_status).write_unaligned(work.renewal as i32);
        },
        // SAFETY: as above.
        Err(failure) => unsafe { err.write_unaligned(spike_auth_error::of(failure)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(text: String) -> Vec<u8> {
        let error = spike_auth_error::of(&Failure::new(spike_auth_status::Internal, text));
        assert_eq!(error.message[MESSAGE_MAX], 0);
        error.message.iter().map(|c| *c as u8).take_while(|byte| *byte != 0).collect()
    }

    #[test]
    fn a_long_message_is_cut_on_the_border_of_a_character() {
        assert_eq!(message_of("x".repeat(423)).len(), 423);
        assert_eq!(message_of("x".repeat(424)).len(), 423);
        let cut = message_of("\u{e9}".repeat(300));
        assert_eq!(cut.len(), 422);
        assert!(std::str::from_utf8(&cut).is_ok());
        assert_eq!(message_of("a\0b".into()), b"a");
    }
}
