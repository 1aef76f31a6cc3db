//! A new token before the old one expires.
//!
//! The first call after the time of renewal makes an exchange; the others use the old token meanwhile. So
//! a service that does not answer for a while costs no call a live token.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Key, Stage};
use super::flights::{Fetched, FlightResult};
use super::{Cache, Clock};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::exchange::{Fetcher, SignedUser};
use crate::random;

/// The pause after a renewal began or failed: random, so that the processes of a service do not all try
/// at once.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

impl<C: Clock> Cache<C> {
    /// A new token for `held`, which is due, if this call is the first to try; else `held`. Fails if the
    /// service refuses with 401 or 403, or the call is stopped.
    pub(crate) fn renew<F: Fetcher>(
        &self,
        user: &SignedUser<'_>,
        held: Arc<Entry>,
        fetcher: &F,
        context: &Context,
    ) -> FlightResult {
        let key = self.key(user.user);
        if !self.claim_renewal(key, &held, context) {
            return Ok(self.use_as_it_is(held));
        }
        let progress = fetcher.begin(Some(held.token().as_bytes()));
        self.lead(key, user, progress, fetcher, context)
            .or_else(|error| self.fall_back_on(key, held, error))
    }

    /// Whether this call is the first to renew `held`. Then it leads a flight.
    pub(super) fn claim_renewal(&self, key: Key<'_>, held: &Arc<Entry>, context: &Context) -> bool {
        let begins =
            held.claim_renewal(self.clock.now(), pause()) && self.begin_renewal(key, held, context);
        if begins {
            self.counters.misses.add(1);
        }
        begins
    }

    /// Begins a flight, unless there is one, the cache no longer holds `held`, or a rejected token or the
    /// breaker forbids a request.
    fn begin_renewal(&self, key: Key<'_>, held: &Arc<Entry>, context: &Context) -> bool {
        let now = self.clock.now();
        let mut shard = self.lock(key);
        let is_held = shard.find(key).is_some_and(|entry| Arc::ptr_eq(&entry, held));
        let may_begin = is_held
            && !shard.state.flights.is_under_way(key.user)
            && shard.state.rejections.check(key.hash, now).is_ok()
            && self.breaker.admit(key.hash, context.deadline.timeout, now).is_ok();
        if may_begin {
            shard.state.flights.begin(key.user);
        }
        may_begin
    }

    /// `held`, which is due, for a call that does not renew it.
    pub(crate) fn use_as_it_is(&self, held: Arc<Entry>) -> Fetched {
        self.counters.hit();
        Fetched::held(held)
    }

    /// The result of a renewal that failed: the old token, unless the service refused a new one (401,
    /// 403), the old one expired or was dropped on purpose, or the call was stopped.
    pub(super) fn fall_back_on(
        &self,
        key: Key<'_>,
        held: Arc<Entry>,
        error: Error,
    ) -> FlightResult {
        let mut shard = self.lock(key);
        let current = shard.find(key);
        let is_held = current.as_ref().is_some_and(|entry| Arc::ptr_eq(entry, &held));
        if let Some(401 | 403) = error.http_status() {
            if is_held {
                shard.remove(&held);
            }
            return Err(error);
        }
        let is_stopped = matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed);
        // After a call that was stopped, another may try at once.
        let pause = if is_stopped { Duration::ZERO } else { pause() };
        held.pause_renewal(self.clock.now(), pause);
        if is_stopped || held.is_revoked() || held.stage(&self.clock) == Stage::Expired {
            return Err(error);
        }
        Ok(Fetched { renewal: Some(error.kind()), ..Fetched::sent(held, error.attempts()) })
    }
}

fn pause() -> Duration {
    let (least, most) = PAUSE;
    random::between(least, most)
}
