//! What an exchange carries from one attempt, and one leader, to the next.

use std::time::{Duration, Instant};

use super::rate::Slot;
use super::{Outcome, SignedUser, retry};
use crate::error::Error;
use crate::signing::Signature;
use crate::store::Sharing;

/// How far an exchange has come. Another call may go on with it from here.
#[derive(Default)]
pub(crate) struct Progress {
    /// Attempts that were begun.
    pub(super) attempts: u32,
    /// Requests that were sent.
    pub(super) sent: u32,
    /// The wait between the last attempt and the next.
    pub(super) pause: Option<Box<Pause>>,
    /// The part of the store.
    pub(super) sharing: Sharing,
    /// It was counted as an exchange.
    pub(super) is_counted: bool,
    /// In place of the caller's, since the client's key has changed.
    pub(super) signature: Option<Box<Signature>>,
    /// The next request's place in the rate limit.
    pub(super) slot: Option<Slot>,
}

pub(super) struct Pause {
    pub(super) until: Instant,
    /// The reason, and the result if there is no next attempt.
    pub(super) failure: Error,
    /// The retry is paid for. A call that goes on with the exchange does not pay again.
    pub(super) paid: bool,
}

impl Progress {
    /// After an attempt that failed; no other before `until`.
    #[cfg(test)]
    pub(crate) fn paused(until: Instant, failure: Error) -> Self {
        let pause = Some(Box::new(Pause { until, failure, paid: false }));
        Self { attempts: 1, sent: 1, pause, ..Self::default() }
    }

    /// Before the store is asked. It must not answer with the token that is to be renewed.
    pub(crate) fn beginning_with_store(renews: Option<&[u8]>) -> Self {
        Self { sharing: Sharing::look(renews), ..Self::default() }
    }

    /// The exchange has not begun: the store may have a token.
    pub(crate) fn asks_store(&self) -> bool {
        self.sharing.asks()
    }

    /// The store is of no use: an exchange is next.
    pub(crate) fn leave_store(&mut self) {
        self.sharing = Sharing::Over;
    }

    /// Whether to count an exchange now: once, and not while the store is asked.
    pub(crate) fn begins(&mut self) -> bool {
        !self.asks_store() && !std::mem::replace(&mut self.is_counted, true)
    }

    /// What the next attempt is signed with.
    pub(super) fn signature_of<'a>(&'a self, user: &SignedUser<'a>) -> &'a Signature {
        self.signature.as_deref().unwrap_or(user.signature)
    }

    /// How many requests were sent.
    pub(crate) fn requests(&self) -> u32 {
        self.sent
    }

    /// A failure that was found in a good response.
    pub(crate) fn with_response(&self, failure: Error) -> Error {
        failure.with_http_status(200).with_attempts(self.sent)
    }

    /// The failure of the last attempt, if a call with this deadline has no time for the next one.
    pub(crate) fn failure_at(&self, deadline: Instant) -> Option<&Error> {
        let pause = self.pause.as_ref()?;
        let left = deadline.saturating_duration_since(pause.until);
        (!retry::fits(Duration::ZERO, left)).then_some(&pause.failure)
    }

    /// The client may not send before `until`. A call without so much time fails with `failure`.
    pub(super) fn wait_until(&mut self, until: Instant, failure: Error) {
        let failure = failure.with_attempts(self.sent);
        self.pause = Some(Box::new(Pause { until, failure, paid: true }));
    }

    pub(super) fn interrupted(&self, error: Error) -> Outcome {
        Outcome::Interrupted(error.with_attempts(self.sent))
    }

    /// The last attempt was interrupted. It counts if a request went out, but one more is always left:
    /// no call fails because another ran out of time. So callers that are stopped one after the other
    /// send a request each, as they would alone.
    pub(super) fn break_off(&mut self, requests: u32, max_attempts: u32) {
        if requests == 0 {
            self.attempts -= 1;
        }
        self.attempts = self.attempts.min(max_attempts - 1);
    }
}
