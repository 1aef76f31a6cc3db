//! One call's own timeout and cancellation.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::config::checked_timeout;
use crate::context::CancelToken;
use crate::error::Error;

/// What one call does differently from its client's defaults. It serves one call at a time.
pub struct Call {
    /// 0: the client's.
    timeout_ms: AtomicU32,
    cancel: CancelToken,
}

impl Call {
    /// The client's timeout, not cancelled.
    pub fn new() -> Self {
        Self { timeout_ms: AtomicU32::new(0), cancel: CancelToken::new() }
    }

    /// Sets the total timeout of the call in milliseconds; it may be shorter or longer than the
    /// client's. 0 for the client's.
    pub fn set_timeout_ms(&self, ms: u32) -> Result<(), Error> {
        checked_timeout("timeout", ms)?;
        self.timeout_ms.store(ms, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the call at once, from any thread: before it begins, while it runs, or after. A cancelled
    /// call stays cancelled.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        match self.timeout_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(ms.into())),
        }
    }

    pub(crate) fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }
}

impl Default for Call {
    fn default() -> Self {
        Self::new()
    }
}
