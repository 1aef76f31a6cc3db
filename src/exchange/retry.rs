//! The retry policy: which failures are retried, after what wait, and the budget. It knows no network and
//! no clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// The longest wait of the back-off itself.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// No retry if less of the call's time is left after the wait: it would only replace the known failure by
/// a timeout.
const ATTEMPT_MIN: Duration = Duration::from_millis(10);
/// The first step of the back-off.
const BASE: Duration = Duration::from_millis(100);
/// The same after a 429 or 503 without `Retry-After`.
const BASE_OVERLOADED: Duration = Duration::from_secs(1);

/// The wait before attempt `attempts` + 1. `None` if there is none: the failure is not retryable, or the
/// attempts are used up. `random` is from 0 up to, not including, 1.
pub(crate) fn wait_before_next(
    failure: &Error,
    attempts: u32,
    max_attempts: u32,
    random: f64,
) -> Option<Duration> {
    if attempts >= max_attempts || !may_pass(failure) {
        return None;
    }
    let wait =
        backoff(failure, attempts).mul_f64(random).max(failure.retry_after().unwrap_or_default());
    Some(wait)
}

/// Whether a wait and an attempt fit into what is left of the call's time.
pub(crate) fn fits(wait: Duration, left: Duration) -> bool {
    wait + ATTEMPT_MIN < left
}

/// Whether another attempt may succeed within the same call.
fn may_pass(failure: &Error) -> bool {
    failure.retryable()
        && matches!(
            failure.kind(),
            ErrorKind::Resolve
                | ErrorKind::Connect
                | ErrorKind::Tls
                | ErrorKind::Proxy
                | ErrorKind::ConnectionLost
                | ErrorKind::RateLimited
                | ErrorKind::ServerError
        )
}

/// Full jitter: any wait from nothing to this. It spreads clients that failed together.
fn backoff(failure: &Error, attempts: u32) -> Duration {
    let overloaded =
        matches!(failure.http_status(), Some(429 | 503)) && failure.retry_after().is_none();
    let base = if overloaded { BASE_OVERLOADED } else { BASE };
    let doublings = attempts.saturating_sub(1).min(16);
    (base * 2u32.pow(doublings)).min(BACKOFF_MAX)
}

/// The retry budget of a client: while a service is down, it receives one request per call after a
/// hundred failed ones, and not several.
pub(crate) struct Budget(AtomicI64);

impl Budget {
    const FULL: i64 = 500;
    const RETRY: i64 = 5;
    const RETRY_AFTER_TIMEOUT: i64 = 10;
    const REFUND: i64 = 1;

    pub(crate) const fn new() -> Self {
        Self(AtomicI64::new(Self::FULL))
    }

    /// Pays for a retry after `failure`, if there is enough left.
    pub(crate) fn pay(&self, failure: &Error) -> bool {
        let price = if failure.timed_out() { Self::RETRY_AFTER_TIMEOUT } else { Self::RETRY };
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left >= price).then_some(left - price)
            })
            .is_ok()
    }

    /// A success without a retry gives a little back.
    pub(crate) fn refund(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left < Self::FULL).then_some(left + Self::REFUND)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: ErrorKind) -> Error {
        Error::new(kind, "").with_retryable(true)
    }

    fn status(status: u16) -> Error {
        let kind = if status == 429 { ErrorKind::RateLimited } else { ErrorKind::ServerError };
        failure(kind).with_http_status(status)
    }

    fn longest(failure: &Error, attempts: u32) -> u128 {
        wait_before_next(failure, attempts, u32::MAX, 1.0).unwrap().as_millis()
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        use ErrorKind::*;
        let passing = [Resolve, Connect, Tls, ConnectionLost, Proxy, RateLimited, ServerError];
        let others = [
            Timeout,
            Cancelled,
            Closed,
            Refused,
            Unauthorized,
            Forbidden,
            UnexpectedStatus,
            InvalidResponse,
            ResponseTooLarge,
            TokenRejected,
            Internal,
        ];
        for kind in passing.into_iter().chain(others) {
            let wait = wait_before_next(&failure(kind), 1, 3, 0.5);
            assert_eq!(wait.is_some(), passing.contains(&kind), "{kind:?}");
            // A bad certificate is a failed handshake too, and one that does not pass.
            let lasting = Error::new(kind, "");
            assert_eq!(wait_before_next(&lasting, 1, 3, 0.5), None, "{kind:?}");
        }
    }

    #[test]
    fn the_attempts_are_counted() {
        let lost = failure(ErrorKind::ConnectionLost);
        for (attempts, max, again) in
            [(1, 1, false), (1, 2, true), (2, 2, false), (9, 10, true), (10, 10, false)]
        {
            assert_eq!(wait_before_next(&lost, attempts, max, 0.0).is_some(), again);
        }
    }

    #[test]
    fn the_backoff_doubles_up_to_five_seconds_and_begins_at_nothing() {
        let lost = failure(ErrorKind::ConnectionLost);
        let steps: Vec<_> = (1..=8).map(|attempts| longest(&lost, attempts)).collect();
        assert_eq!(steps, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(wait_before_next(&lost, 5, 9, 0.0), Some(Duration::ZERO));
        assert_eq!(longest(&lost, u32::MAX - 1), 5000);
    }

    #[test]
    fn an_overloaded_service_is_given_longer() {
        for code in [429, 503] {
            assert_eq!(
                [1, 2, 3].map(|attempts| longest(&status(code), attempts)),
                [1000, 2000, 4000]
            );
        }
        assert_eq!(longest(&status(500), 1), 100);
    }

    #[test]
    fn retry_after_is_a_floor() {
        let wish = status(503).with_retry_after(Some(Duration::from_millis(700)));
        assert_eq!(wait_before_next(&wish, 1, 3, 0.0).unwrap().as_millis(), 700);
        assert_eq!(longest(&wish, 1), 700);
        assert_eq!(longest(&wish, 5), 1600);
    }

    #[test]
    fn a_wait_fits_if_an_attempt_does_after_it() {
        let ms = Duration::from_millis;
        assert!(!fits(ms(2000), ms(2000)));
        assert!(!fits(ms(2000), ms(2010)));
        assert!(fits(ms(2000), ms(2011)));
        assert!(!fits(Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn the_budget_pays_for_a_hundred_retries_and_fifty_after_timeouts() {
        let lost = failure(ErrorKind::ConnectionLost);
        let slow = failure(ErrorKind::Connect).with_timed_out();
        let paid = |failure: &Error| {
            let budget = Budget::new();
            (0..1000).filter(|_| budget.pay(failure)).count()
        };
        assert_eq!((paid(&lost), paid(&slow)), (100, 50));
    }

    #[test]
    fn successes_fill_the_budget_up_and_not_beyond() {
        let (budget, lost) = (Budget::new(), failure(ErrorKind::ConnectionLost));
        while budget.pay(&lost) {}
        (0..5).for_each(|_| budget.refund());
        assert!(budget.pay(&lost) && !budget.pay(&lost));
        (0..10_000).for_each(|_| budget.refund());
        assert_eq!((0..1000).filter(|_| budget.pay(&lost)).count(), 100);
    }
}
