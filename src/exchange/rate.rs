//! The client's own rate limit: at most so many requests a second, retries included.
//!
//! A token bucket, as a schedule of slots: each request takes the next one, and waits until its time. So a
//! call knows at once whether its wait fits into its deadline, and waiting needs no queue.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, whole_ms};
use crate::fork::{PerProcess, generation};

/// What the bucket holds: slots of this much past time may be taken late. It makes up for timers that
/// overshoot, and is small beside any time over which a rate is measured.
const CREDIT: Duration = Duration::from_millis(20);
/// A slot that a call could not use in time, because it waited for a permit or a hold, is void: a thousand
/// such calls must not send at once.
const VOID_AFTER: Duration = Duration::from_millis(50);

/// Asked before each request. Takes one lock for a few instructions.
pub(crate) struct RateLimit {
    per_second: u32,
    period: Duration,
    schedule: PerProcess<Mutex<Schedule>>,
}

struct Schedule {
    /// No slot from here on is taken.
    next: Instant,
    /// Slots of calls that were stopped before they sent.
    returned: BTreeSet<Instant>,
}

/// The right to send one request, from a time on. Given back if it is dropped before that time.
pub(crate) struct Slot {
    at: Instant,
    limit: Arc<RateLimit>,
    made_in: u64,
}

impl RateLimit {
    /// `None` for a rate of 0, which is no limit.
    pub(crate) fn new(per_second: u32) -> Option<Arc<Self>> {
        let period = Duration::from_secs(1).checked_div(per_second)?;
        Some(Arc::new(Self { per_second, period, schedule: PerProcess::empty() }))
    }

    /// Takes the next free slot, unless `slot` is one that can still be used. Returns its time.
    pub(crate) fn reserve(self: &Arc<Self>, slot: &mut Option<Slot>, now: Instant) -> Instant {
        if let Some(slot) = slot.as_ref().filter(|slot| slot.is_valid(now)) {
            return slot.at;
        }
        let at = self.lock(now).take(self.period, now);
        *slot = Some(Slot { at, limit: Arc::clone(self), made_in: generation() });
        at
    }

    /// Uses the slot for a request that is sent now. `false` if it has to wait for another one first.
    pub(crate) fn spend(self: &Arc<Self>, slot: &mut Option<Slot>, now: Instant) -> bool {
        let is_due = self.reserve(slot, now) <= now;
        if is_due {
            *slot = None;
        }
        is_due
    }

    /// The failure of a call that has no time to wait until `at`.
    pub(crate) fn failure(&self, at: Instant, now: Instant) -> Error {
        let wait = whole_ms(at.saturating_duration_since(now));
        Error::new(
            ErrorKind::RateLimited,
            format!(
                "The client's own limit of {} per second is used up, so this request was not \
                 sent; the next one may go out in {} ms. Allow the call more time, make fewer calls at \
                 once, or raise max_rate.",
                self.per_second,
                wait.as_millis()
            ),
        )
        .with_retryable(true)
        .with_retry_after(Some(wait))
    }

    /// A child of fork has a schedule of its own.
    fn lock(&self, now: Instant) -> MutexGuard<'_, Schedule> {
        let new = |_: Option<&_>| Mutex::new(Schedule { next: now, returned: BTreeSet::new() });
        self.schedule.get(new).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    fn take(&mut self, period: Duration, now: Instant) -> Instant {
        let oldest = now.checked_sub(CREDIT).unwrap_or(now);
        self.returned = self.returned.split_off(&oldest);
        self.returned.pop_first().unwrap_or_else(|| {
            let at = self.next.max(oldest);
            self.next = at + period;
            at
        })
    }
}

impl Slot {
    fn is_valid(&self, now: Instant) -> bool {
        self.made_in == generation() && now.saturating_duration_since(self.at) < VOID_AFTER
    }
}

/// Also where it was used: its time has passed, so nothing is given back.
impl Drop for Slot {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.at > now && self.made_in == generation() {
            self.limit.lock(now).returned.insert(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn slots(limit: &Arc<RateLimit>, count: usize, now: Instant) -> Vec<Option<Slot>> {
        let slot = |_| {
            let mut slot = None;
            limit.reserve(&mut slot, now);
            slot
        };
        (0..count).map(slot).collect()
    }

    fn times(slots: &[Option<Slot>]) -> Vec<Instant> {
        slots.iter().flatten().map(|slot| slot.at).collect()
    }

    #[test]
    fn no_limit_and_the_highest() {
        assert!(RateLimit::new(0).is_none());
        let limit = RateLimit::new(u32::MAX).unwrap();
        let now = Instant::now();
        assert!((0..1000).all(|_| limit.spend(&mut None, now)));
    }

    #[test]
    fn slots_are_a_period_apart_and_the_credit_is_bounded() {
        let limit = RateLimit::new(100).unwrap();
        let now = Instant::now();
        let first = slots(&limit, 3, now);
        assert_eq!(times(&first), [now, now + 10 * MS, now + 20 * MS]);
        // Nothing was asked for ten seconds: two slots of the past, and then again a period apart.
        let later = now + Duration::from_secs(10);
        let at = times(&slots(&limit, 4, later));
        assert_eq!(at, [later - 20 * MS, later - 10 * MS, later, later + 10 * MS]);
    }

    #[test]
    fn a_slot_of_a_call_that_was_stopped_is_given_back() {
        let limit = RateLimit::new(1).unwrap();
        let now = Instant::now();
        let mut taken = slots(&limit, 1000, now);
        let wanted = times(&taken).split_off(500);
        taken.truncate(500);
        let again = slots(&limit, 500, now);
        assert_eq!(times(&again), wanted);
        // One that was used is not.
        assert!(limit.spend(&mut taken[0], now) && taken[0].is_none());
        assert_eq!(times(&slots(&limit, 1, now)), [now + Duration::from_secs(1000)]);
    }

    #[test]
    fn a_slot_that_was_not_used_in_time_is_void() {
        let limit = RateLimit::new(10).unwrap();
        let now = Instant::now() - Duration::from_secs(9); // dropping a slot reads the clock
        let mut late = slots(&limit, 3, now);
        let later = now + Duration::from_secs(3);
        let sent = late.iter_mut().filter_map(|slot| limit.spend(slot, later).then_some(()));
        assert_eq!(sent.count(), 1, "the calls do not send at once");
        assert_eq!(times(&late), [later + 80 * MS, later + 180 * MS]);
    }

    #[test]
    fn the_failure_says_when() {
        let limit = RateLimit::new(7).unwrap();
        let now = Instant::now();
        let error = limit.failure(now + 1500 * MS, now);
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.retry_after(), Some(1500 * MS));
        assert!(error.message().contains("7 per second") && error.message().contains("1500 ms"));
    }
}
