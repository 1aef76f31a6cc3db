//! The hold: after a 429 or 503 with `Retry-After`, no call of the client sends until then.
//!
//! Such a response concerns the client, not one of its users. Afterwards one call goes first. If it
//! receives another answer, the others follow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::context::{Context, unparker};
use crate::error::{Error, ErrorKind, whole_ms};
use crate::fork::{PerProcess, generation, try_lock};

/// The longest hold, whatever the header says.
const MAX: Duration = Duration::from_secs(600);
/// The others wait for the first call this long. If it hangs, another goes.
const FIRST_MAX: Duration = Duration::from_secs(5);

/// Asked before each request, and told of its end. Takes one lock for a few instructions.
pub(crate) struct Hold(PerProcess<Mutex<Option<Held>>>);

#[derive(Clone)]
struct Held {
    until: Instant,
    /// The status that asked for it: 429 or 503.
    status: u16,
    /// The call that goes first, once the time has passed.
    first: Option<Arc<First>>,
}

/// The call that goes first, as its waiters see it.
pub(crate) struct First {
    gives_way_at: Instant,
    is_over: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

/// What a call may do now.
pub(crate) enum Admission<'a> {
    Go(Pass<'a>),
    /// Wait until then. A call without so much time fails with the error.
    Wait(Instant, Error),
    /// Wait until this call is over, or gives way.
    Queue(Arc<First>),
}

/// The right to send one request.
pub(crate) struct Pass<'a> {
    hold: &'a Hold,
    first: Option<Arc<First>>,
    made_in: u64,
}

impl Hold {
    pub(crate) fn new() -> Self {
        Self(PerProcess::empty())
    }

    /// Whether a request would have to wait.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        self.state().as_ref().is_some_and(|held| now < held.until || held.is_led(now))
    }

    pub(crate) fn admit(&self, now: Instant) -> Admission<'_> {
        let mut state = self.state();
        let mut first = None;
        if let Some(held) = &mut *state {
            if now < held.until {
                return Admission::Wait(held.until, held.failure(now));
            }
            if let Some(first) = held.first.as_ref().filter(|_| held.is_led(now)) {
                return Admission::Queue(Arc::clone(first));
            }
            first = Some(Arc::new(First {
                gives_way_at: now + FIRST_MAX,
                is_over: AtomicBool::new(false),
                waiting: Mutex::default(),
            }));
            held.first.clone_from(&first);
        }
        Admission::Go(Pass { hold: self, first, made_in: generation() })
    }

    fn begin(&self, status: u16, wait: Duration, now: Instant) {
        let until = now + wait.min(MAX);
        let mut state = self.state();
        // Of two wishes the later end holds, the one of a call that was under way among them.
        let until = state.as_ref().map_or(until, |held| held.until.max(until));
        *state = Some(Held { until, status, first: None });
    }

    fn state(&self) -> MutexGuard<'_, Option<Held>> {
        // A child keeps to what its parent was told.
        let inherit = |parent: Option<&Mutex<Option<Held>>>| {
            let held = parent.and_then(try_lock).and_then(|held| held.clone());
            Mutex::new(held.map(|held| Held { first: None, ..held }))
        };
        lock(self.0.get(inherit))
    }
}

impl Held {
    fn is_led(&self, now: Instant) -> bool {
        self.first.as_ref().is_some_and(|first| now < first.gives_way_at)
    }

    fn failure(&self, now: Instant) -> Error {
        let wait = whole_ms(self.until.saturating_duration_since(now));
        let (kind, said) = match self.status {
            429 => (ErrorKind::RateLimited, "429 Too Many Requests"),
            _ => (ErrorKind::ServerError, "503 Service Unavailable"),
        };
        Error::new(
            kind,
            format!(
                "The service answered {said} and asked to wait, so this request was not sent; the next one \
                 goes out in {} ms. Wait until then, and keep a user's token instead of exchanging for every \
                 request.",
                wait.as_millis()
            ),
        )
        .with_retryable(true)
        .with_retry_after(Some(wait))
    }
}

impl First {
    /// Wakes `waker` when it is over. Returns when it gives way.
    pub(crate) fn wake_at_end(&self, waker: &Waker) -> Instant {
        lock(&self.waiting).push(waker.clone());
        if self.is_over.load(Ordering::Acquire) {
            waker.wake_by_ref(); // before it was in the list
        }
        self.gives_way_at
    }

    #[cfg(test)]
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Waits until it is over, or gives way.
    pub(crate) fn wait(&self, context: &Context) -> Result<(), Error> {
        self.wake_at_end(&unparker());
        let deadline = context.deadline;
        let until = self.gives_way_at.min(deadline.at);
        let is_over = context.wait(until, || self.is_over.load(Ordering::Acquire))?;
        if is_over || until < deadline.at {
            return Ok(());
        }
        Err(deadline.missed("waiting for a first request, after the service had asked to wait"))
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Pass<'_> {
    /// Whether another call was told to wait since.
    pub(crate) fn was_withdrawn(&self) -> bool {
        self.first.is_none() && self.hold.state().is_some()
    }

    /// The call has ended, well or with `failure`. Any answer but another wish to wait shows that the service
    /// listens again; no answer shows nothing.
    pub(crate) fn end(self, failure: Option<&Error>, now: Instant) {
        let wish = failure.and_then(|failure| {
            let status = failure.http_status().filter(|status| matches!(status, 429 | 503))?;
            Some((status, failure.retry_after().filter(|wait| !wait.is_zero())?))
        });
        if let Some((status, wait)) = wish {
            self.hold.begin(status, wait, now);
        } else if failure.is_none_or(|failure| failure.http_status().is_some()) {
            self.hold.state().take_if(|held| self.is_first_of(held));
        }
    }

    fn is_first_of(&self, held: &Held) -> bool {
        match (&self.first, &held.first) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => false,
        }
    }
}

/// However the call ended, those that wait go on: another goes first, or all do.
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.made_in != generation() {
            return;
        }
        if let Some(held) = &mut *self.hold.state()
            && self.is_first_of(held)
        {
            held.first = None;
        }
        if let Some(first) = &self.first {
            first.end();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn reply(status: u16, wait: Option<Duration>) -> Error {
        Error::new(ErrorKind::RateLimited, "").with_http_status(status).with_retry_after(wait)
    }

    fn go(hold: &Hold, now: Instant) -> Pass<'_> {
        match hold.admit(now) {
            Admission::Go(pass) => pass,
            Admission::Wait(..) => panic!("it has to wait"),
            Admission::Queue(_) => panic!("another one is first"),
        }
    }

    fn queue(hold: &Hold, now: Instant) -> Arc<First> {
        match hold.admit(now) {
            Admission::Queue(first) => first,
            _ => panic!("nobody is first"),
        }
    }

    fn wait(hold: &Hold, now: Instant) -> (Duration, Error) {
        match hold.admit(now) {
            Admission::Wait(until, failure) => (until - now, failure),
            _ => panic!("it may go"),
        }
    }

    #[test]
    fn only_a_429_or_503_that_says_how_long_holds() {
        let now = Instant::now();
        for (status, wait, holds) in [
            (429, Some(SECOND), true),
            (503, Some(SECOND), true),
            (429, None, false),
            (503, None, false),
            (429, Some(Duration::ZERO), false),
            (500, Some(SECOND), false),
            (401, Some(SECOND), false),
        ] {
            let hold = Hold::new();
            go(&hold, now).end(Some(&reply(status, wait)), now);
            assert_eq!(hold.is_on(now), holds, "{status} {wait:?}");
        }
        let hold = Hold::new();
        go(&hold, now).end(None, now);
        assert!(!hold.is_on(now));
    }

    #[test]
    fn the_failure_says_what_is_left() {
        let now = Instant::now();
        for (status, kind) in [(429, ErrorKind::RateLimited), (503, ErrorKind::ServerError)] {
            let hold = Hold::new();
            go(&hold, now).end(Some(&reply(status, Some(60 * SECOND))), now);
            let (left, failure) = wait(&hold, now + 20 * SECOND);
            assert_eq!((left, failure.kind()), (40 * SECOND, kind));
            assert_eq!(failure.retry_after(), Some(40 * SECOND));
            assert_eq!((failure.attempts(), failure.http_status()), (0, None));
            assert!(failure.retryable());
        }
    }

    #[test]
    fn it_is_bounded_and_the_later_end_holds() {
        let (hold, now) = (Hold::new(), Instant::now());
        let under_way = go(&hold, now);
        go(&hold, now).end(Some(&reply(429, Some(100_000 * SECOND))), now);
        assert_eq!(wait(&hold, now).0, MAX);
        under_way.end(Some(&reply(503, Some(SECOND))), now + SECOND);
        assert_eq!(wait(&hold, now).0, MAX);
        let late = Hold::new();
        let under_way = go(&late, now);
        go(&late, now).end(Some(&reply(429, Some(SECOND))), now);
        under_way.end(Some(&reply(429, Some(3 * SECOND))), now);
        assert_eq!(wait(&late, now).0, 3 * SECOND);
    }

    #[test]
    fn a_reply_of_before_does_not_lift_it_and_a_pass_of_before_is_withdrawn() {
        let (hold, now) = (Hold::new(), Instant::now());
        let (under_way, not_sent) = (go(&hold, now), go(&hold, now));
        go(&hold, now).end(Some(&reply(429, Some(SECOND))), now);
        under_way.end(None, now);
        assert!(hold.is_on(now));
        assert!(not_sent.was_withdrawn());
    }

    fn held_until_now(now: Instant) -> Hold {
        let hold = Hold::new();
        go(&hold, now - SECOND).end(Some(&reply(429, Some(SECOND))), now - SECOND);
        hold
    }

    #[test]
    fn one_goes_first_and_then_all_do() {
        let now = Instant::now();
        let hold = held_until_now(now);
        let first = go(&hold, now);
        assert!(!first.was_withdrawn());
        let over = queue(&hold, now);
        assert!(hold.is_on(now) && !over.is_over());
        // Any answer but another wish shows that it listens again.
        first.end(Some(&reply(500, None)), now);
        assert!(over.is_over() && !hold.is_on(now));
        go(&hold, now);
    }

    #[test]
    fn another_wish_holds_again() {
        let now = Instant::now();
        let hold = held_until_now(now);
        let first = go(&hold, now);
        let over = queue(&hold, now);
        first.end(Some(&reply(429, Some(2 * SECOND))), now);
        assert!(over.is_over());
        assert_eq!(wait(&hold, now).0, 2 * SECOND);
    }

    #[test]
    fn the_first_does_not_lift_what_came_after_it() {
        let now = Instant::now();
        let hold = held_until_now(now);
        let first = go(&hold, now);
        hold.begin(429, SECOND, now); // by a request that was under way
        first.end(None, now);
        assert_eq!(wait(&hold, now).0, SECOND);
    }

    #[test]
    fn a_first_that_hangs_gives_way() {
        let now = Instant::now();
        let hold = held_until_now(now);
        let hung = go(&hold, now);
        let over = queue(&hold, now);
        assert_eq!(over.gives_way_at, now + FIRST_MAX);
        let later = now + FIRST_MAX;
        assert!(!hold.is_on(later));
        let second = go(&hold, later);
        queue(&hold, later);
        drop(hung); // late, and no longer the first
        queue(&hold, later);
        second.end(None, later);
        assert!(!hold.is_on(later));
    }

    #[test]
    fn without_an_answer_it_stays() {
        let now = Instant::now();
        let hold = held_until_now(now);
        let lost = Error::new(ErrorKind::Timeout, "").with_attempts(1);
        go(&hold, now).end(Some(&lost), now);
        let _second = go(&hold, now);
        queue(&hold, now);
    }

    #[test]
    fn if_the_first_sends_nothing_another_goes_first() {
        let now = Instant::now();
        let hold = held_until_now(now);
        let stopped = go(&hold, now);
        let over = queue(&hold, now);
        stopped.end(Some(&Error::cancelled()), now);
        assert!(over.is_over());
        let dropped = go(&hold, now); // by a panic
        queue(&hold, now);
        drop(dropped);
        let second = go(&hold, now);
        queue(&hold, now);
        second.end(None, now);
        assert!(!hold.is_on(now));
    }
}
