//! One call's own timeout and cancellation.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::checked_timeout;
use crate::context::CancelToken;
use crate::error::{Error, ErrorKind};
use crate::fork::PerProcess;
use crate::requests::{Peeked, Request};

/// What one call does differently from its client's defaults. It serves one call at a time.
pub struct Call {
    /// 0: the client's.
    timeout_ms: AtomicU32,
    cancel: CancelToken,
    /// What was started with it last, in this process.
    started: PerProcess<Mutex<Option<Arc<Request>>>>,
    /// Something was started with it, in this process or a parent.
    was_started: AtomicBool,
}

impl Call {
    /// The client's timeout, not cancelled.
    pub fn new() -> Self {
        Self {
            timeout_ms: AtomicU32::new(0),
            cancel: CancelToken::new(),
            started: PerProcess::empty(),
            was_started: AtomicBool::new(false),
        }
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
        if let Some(request) = self.request() {
            request.cancel();
        }
    }

    /// Starts a request, unless one is under way.
    pub(crate) fn start(
        &self,
        start: impl FnOnce() -> Result<Arc<Request>, Error>,
    ) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let mut started = lock(self.started.get(|_| Mutex::default()));
        if started.as_ref().is_some_and(|request| matches!(request.peek(), Peeked::Pending)) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "The call handle is in use: what was started with it has not ended. Take it from its queue \
                 first, or use another handle.",
            ));
        }
        *started = Some(start()?);
        self.was_started.store(true, Ordering::Release);
        drop(started);
        // Cancelled meanwhile, before the request could be found.
        if self.cancel.is_cancelled()
            && let Some(request) = self.request()
        {
            request.cancel();
        }
        Ok(())
    }

    /// Ends what was started with it, because its handle is freed: it is handed out no more.
    pub(crate) fn withdraw(&self) {
        if let Some(request) = self.request() {
            // Also for a worker that makes the exchange, and for calls that were started with it before.
            self.cancel.withdraw();
            request.cancel();
        }
    }

    /// The state of what was started with it; `None` if nothing ever was.
    pub(crate) fn peek(&self) -> Option<Peeked> {
        match self.request() {
            Some(request) => Some(request.peek()),
            None => self.was_started.load(Ordering::Acquire).then_some(Peeked::Inherited),
        }
    }

    fn request(&self) -> Option<Arc<Request>> {
        self.started.existing().and_then(|started| lock(started).clone())
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Call {
    fn default() -> Self {
        Self::new()
    }
}
