//! The circuit breaker: a client with a wrong key must not send a million requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, whole_ms};
use crate::fork::Inherit;

/// Opens after refusals (401) for so many different users without a success between them.
const USERS: usize = 5;
/// While it is open, one request per interval is sent.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Users are known by their hashes.
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// The users refused since the last success, each once.
    refused: Vec<u64>,
    open: Option<Open>,
}

struct Open {
    /// When the next probe may be sent.
    probe_at: Instant,
    /// The user of the last probe.
    probe: Option<u64>,
    /// The timeout of the last probe if that was too short for an answer: a call with a longer one goes
    /// first.
    too_short: Duration,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Drops the parent's breaker in a forked child.
    pub(super) fn abandon(self) {
        self.0.abandon();
    }

    /// Whether an exchange of a call with this timeout may start. If the breaker is open, that is the probe.
    pub(super) fn admit(&self, user: u64, timeout: Duration, now: Instant) -> Result<(), Error> {
        let mut state = self.state();
        let Some(open) = &mut state.open else {
            return Ok(());
        };
        let mut at = open.probe_at;
        if timeout <= open.too_short {
            at += PROBE_EVERY;
        }
        if now < at {
            return Err(refused(at - now));
        }
        open.probe_at = now + PROBE_EVERY;
        open.probe = Some(user);
        Ok(())
    }

    /// Whether an admitted exchange may still send a request: others may have been refused while it waited
    /// for a connection.
    pub(super) fn check(&self, user: u64, now: Instant) -> Result<(), Error> {
        match &self.state().open {
            Some(open) if open.probe != Some(user) => {
                Err(refused(open.probe_at.saturating_duration_since(now)))
            }
            _ => Ok(()),
        }
    }

    /// The call of `user` needed no exchange. If it was the probe, the next call is.
    pub(super) fn note_unused(&self, user: u64, now: Instant) {
        if let Some(open) = &mut self.state().open
            && open.probe == Some(user)
        {
            open.probe_at = now;
        }
    }

    /// The service accepted a signature.
    pub(super) fn note_success(&self) {
        *self.state() = State::default();
    }

    /// The service refused the signature of `user`.
    pub(super) fn note_refusal(&self, user: u64, now: Instant) {
        let mut state = self.state();
        if let Some(open) = &mut state.open {
            open.too_short = Duration::ZERO;
            return;
        }
        if !state.refused.contains(&user) {
            state.refused.push(user);
        }
        if state.refused.len() >= USERS {
            state.open =
                Some(Open { probe_at: now + PROBE_EVERY, probe: None, too_short: Duration::ZERO });
        }
    }

    /// An exchange of a call with this timeout was cancelled, or its time ran out.
    pub(super) fn note_interrupted(&self, user: u64, timeout: Duration) {
        if let Some(open) = &mut self.state().open
            && open.probe == Some(user)
        {
            open.too_short = timeout;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(wait: Duration) -> Error {
    let wait = whole_ms(wait);
    Error::new(
        ErrorKind::Unauthorized,
        format!(
            "The service refused the signatures of {USERS} users in a row (401), so no request was sent; \
             the next one is sent in {} ms. Check the application id and the HMAC key, and that both \
             belong to the same application.",
            wait.as_millis()
        ),
    )
    .with_retry_after(Some(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u64 = 77;
    const TIME: Duration = Duration::from_secs(10);

    fn opened(start: Instant) -> Breaker {
        let breaker = Breaker::new();
        (0..5).for_each(|user| breaker.note_refusal(user, start));
        breaker
    }

    fn admits(breaker: &Breaker, time: Duration, now: Instant) -> bool {
        breaker.admit(USER, time, now).is_ok()
    }

    #[test]
    fn five_different_users_open_it() {
        let start = Instant::now();
        let breaker = Breaker::new();
        for user in [1, 2, 3, 4, 4, 3, 2, 1] {
            breaker.note_refusal(user, start);
            assert!(admits(&breaker, TIME, start));
        }
        breaker.note_refusal(5, start);
        let error = breaker.admit(USER, TIME, start).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert_eq!((error.attempts(), error.http_status()), (0, None));
        assert_eq!(error.retry_after(), Some(PROBE_EVERY));
        assert!(!error.retryable());
    }

    #[test]
    fn a_success_resets_the_count() {
        let start = Instant::now();
        let breaker = Breaker::new();
        (0..4).for_each(|user| breaker.note_refusal(user, start));
        breaker.note_success();
        (0..4).for_each(|user| breaker.note_refusal(user, start));
        assert!(admits(&breaker, TIME, start));
    }

    #[test]
    fn one_probe_every_five_seconds_until_a_success() {
        let start = Instant::now();
        let breaker = opened(start);
        let at = |ms| start + Duration::from_millis(ms);
        let admitted: Vec<_> =
            (0..200).map(|step| step * 100).filter(|ms| admits(&breaker, TIME, at(*ms))).collect();
        assert_eq!(admitted, [5000, 10_000, 15_000]);
        breaker.note_refusal(USER, at(15_100));
        assert!(!admits(&breaker, TIME, at(15_200)), "the probe was refused");
        breaker.note_success();
        assert!(admits(&breaker, TIME, at(15_300)));
    }

    #[test]
    fn only_the_probe_is_sent_after_it_opened() {
        let start = Instant::now();
        let breaker = Breaker::new();
        assert!(admits(&breaker, TIME, start));
        (0..5).for_each(|user| breaker.note_refusal(user, start));
        assert!(breaker.check(USER, start).is_err());
        assert!(admits(&breaker, TIME, start + PROBE_EVERY));
        assert!(breaker.check(USER, start + PROBE_EVERY).is_ok());
        assert!(breaker.check(USER + 1, start + PROBE_EVERY).is_err());
    }

    #[test]
    fn a_call_with_more_time_goes_before_a_probe_that_timed_out() {
        let start = Instant::now();
        let breaker = opened(start);
        let short = Duration::from_millis(50);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(admits(&breaker, short, at(5000)));
        breaker.note_interrupted(USER, short);
        assert!(!admits(&breaker, short, at(10_000)));
        assert!(admits(&breaker, TIME, at(10_001)));
        breaker.note_interrupted(USER, short);
        assert!(!admits(&breaker, short, at(15_001)));
        assert!(admits(&breaker, short, at(20_001)), "no call with more time came");
        breaker.note_interrupted(USER + 1, TIME);
        breaker.note_refusal(USER, at(20_002));
        assert!(admits(&breaker, short, at(25_001)), "the probe was answered");
    }

    #[test]
    fn a_probe_that_made_no_exchange_is_left_to_the_next_call() {
        let start = Instant::now();
        let breaker = opened(start);
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [5000, 5001, 5002] {
            assert!(admits(&breaker, TIME, at(ms)));
            breaker.note_unused(USER + 1, at(ms));
            assert!(!admits(&breaker, TIME, at(ms)), "another call");
            breaker.note_unused(USER, at(ms));
        }
        assert!(admits(&breaker, TIME, at(5003)));
        assert!(!admits(&breaker, TIME, at(10_002)));
    }

    #[test]
    fn probes_that_nobody_made_do_not_add_up() {
        let start = Instant::now();
        let breaker = opened(start);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(admits(&breaker, TIME, at(60_000)));
        assert!(!admits(&breaker, TIME, at(64_999)));
        assert!(admits(&breaker, TIME, at(65_000)));
    }
}
