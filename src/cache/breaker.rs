//! Stops asking when the key must be wrong: a wrong key must not send a million requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rejections::whole_ms;
use crate::error::{Error, ErrorKind};

/// So many different users in a row, and no success between: it is not the users.
const USERS: usize = 5;
/// How often one request goes out to see whether that has changed.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Asked for an exchange that is about to begin, and told of each that has ended.
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// The users that were refused since the last success, each once, as hashes.
    refused: Vec<u64>,
    /// When the next probe may go out. `None`: nothing is stopped.
    probe_at: Option<Instant>,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Whether an exchange may begin now. If it may while the breaker is open, it is the probe.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Error> {
        let mut state = self.state();
        match state.probe_at {
            None => Ok(()),
            Some(at) if now >= at => {
                state.probe_at = Some(now + PROBE_EVERY);
                Ok(())
            }
            Some(at) => Err(refused(at - now)),
        }
    }

    /// The service accepted a signature.
    pub(super) fn note_success(&self) {
        *self.state() = State::default();
    }

    /// The service refused the signature of this user.
    pub(super) fn note_refusal(&self, user: u64, now: Instant) {
        let mut state = self.state();
        if state.probe_at.is_some() || state.refused.contains(&user) {
            return;
        }
        state.refused.push(user);
        if state.refused.len() >= USERS {
            state.probe_at = Some(now + PROBE_EVERY);
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
            "The service refused the signatures of {USERS} users in a row (401), so this request was not \
             sent; the next one goes out in {} ms. Check the application id and the HMAC key, and that \
             both belong to the same application.",
            wait.as_millis()
        ),
    )
    .with_retry_after(Some(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(start: Instant) -> Breaker {
        let breaker = Breaker::new();
        (0..5).for_each(|user| breaker.note_refusal(user, start));
        breaker
    }

    #[test]
    fn five_different_users_open_it() {
        let start = Instant::now();
        let breaker = Breaker::new();
        for user in [1, 2, 3, 4, 4, 3, 2, 1] {
            breaker.note_refusal(user, start);
            assert!(breaker.admit(start).is_ok());
        }
        breaker.note_refusal(5, start);
        let error = breaker.admit(start).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert_eq!((error.attempts(), error.http_status()), (0, None));
        assert_eq!(error.retry_after(), Some(PROBE_EVERY));
        assert!(!error.retryable());
    }

    #[test]
    fn a_success_between_starts_the_count_anew() {
        let start = Instant::now();
        let breaker = Breaker::new();
        (0..4).for_each(|user| breaker.note_refusal(user, start));
        breaker.note_success();
        (0..4).for_each(|user| breaker.note_refusal(user, start));
        assert!(breaker.admit(start).is_ok());
    }

    #[test]
    fn one_probe_every_five_seconds_until_a_success() {
        let start = Instant::now();
        let breaker = opened(start);
        let at = |ms| start + Duration::from_millis(ms);
        let admitted: Vec<_> = (0..200)
            .map(|step| step * 100)
            .filter(|ms| breaker.admit(at(*ms)).is_ok())
            .collect();
        assert_eq!(admitted, [5000, 10_000, 15_000]);
        breaker.note_refusal(77, at(15_100));
        assert!(breaker.admit(at(15_200)).is_err(), "the probe was refused");
        breaker.note_success();
        assert!(breaker.admit(at(15_300)).is_ok());
    }
}
