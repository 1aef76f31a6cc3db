//! Turns that do not wait: pauses, a hold, and the call that goes first after it.

use super::*;
use crate::context::CancelToken;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn exchange() -> Exchange {
    exchange_of(&Config::new().unwrap())
}

fn exchange_of(config: &Config) -> Exchange {
    let ring = Arc::new(Keyring::new(config));
    Exchange::new(config, &ApplicationId::new(b"1").unwrap(), &ring).unwrap()
}

fn context(timeout: Duration) -> Context {
    Context::new(timeout, None, &CancelToken::new())
}

fn wish(wait: Duration) -> Error {
    let error = Error::new(ErrorKind::RateLimited, "").with_http_status(429);
    error.with_retry_after(Some(wait))
}

/// Begins a hold as a request that is refused does.
fn hold(exchange: &Exchange, wait: Duration, now: Instant) {
    let Admission::Go(pass) = exchange.hold.admit(now) else { panic!("it holds") };
    pass.end(Some(&wish(wait)), now);
}

#[test]
fn a_turn_that_has_to_wait_says_until_when() {
    let (exchange, now) = (exchange(), Instant::now());
    let poll = |timeout, progress: &mut Progress| {
        let turn = exchange.poll_turn(&context(timeout), progress, Waker::noop());
        turn.map(drop)
    };
    assert!(poll(SECOND, &mut Progress::default()).is_ok());
    // The pause of its own, and no time for it.
    let paused = |until| {
        let pause = Box::new(Pause { until, failure: wish(SECOND), paid: true });
        Progress { attempts: 1, sent: 1, pause: Some(pause), ..Progress::default() }
    };
    let until = now + 20 * SECOND;
    assert!(matches!(poll(60 * SECOND, &mut paused(until)), Err(Later::At(at)) if at == until));
    let late = poll(SECOND, &mut paused(until));
    assert!(matches!(late, Err(Later::Over(Outcome::Interrupted(_)))));
    let mut over = paused(now);
    assert!(poll(SECOND, &mut over).is_ok() && over.pause.is_none());
    // A hold.
    hold(&exchange, 20 * SECOND, now);
    let mut held = Progress::default();
    assert!(matches!(poll(60 * SECOND, &mut held), Err(Later::At(at)) if at == until));
    let late = poll(SECOND, &mut Progress::default());
    assert!(matches!(late, Err(Later::Over(Outcome::Interrupted(_)))));
}

#[test]
fn a_turn_behind_the_first_is_woken() {
    let exchange = exchange();
    hold(&exchange, SECOND, Instant::now() - 2 * SECOND);
    let woken = Arc::new(Woken::default());
    let poll = || {
        let waker = Waker::from(Arc::clone(&woken));
        exchange.poll_turn(&context(60 * SECOND), &mut Progress::default(), &waker)
    };
    let Ok(first) = poll() else { panic!("none is first") };
    let begun = Instant::now();
    for _ in 0..2 {
        let Err(Later::At(gives_way_at)) = poll() else { panic!("it does not wait") };
        assert!(gives_way_at > begun + SECOND);
    }
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    drop(first);
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
}

/// A started call waits for its place in the rate limit without a thread.
#[test]
fn a_turn_beyond_the_rate_says_until_when() {
    let mut config = Config::new().unwrap();
    config.set_max_rate(1);
    let exchange = exchange_of(&config);
    let poll = |timeout, progress: &mut Progress| {
        exchange.poll_turn(&context(timeout), progress, Waker::noop()).map(drop)
    };
    assert!(poll(SECOND, &mut Progress::default()).is_ok());
    let (begun, mut second) = (Instant::now(), Progress::default());
    let Err(Later::At(at)) = poll(60 * SECOND, &mut second) else { panic!("no limit") };
    assert!(at > begun && at < begun + SECOND);
    assert!(matches!(poll(60 * SECOND, &mut second), Err(Later::At(again)) if again == at));
    let late = poll(SECOND, &mut Progress::default());
    assert!(matches!(late, Err(Later::Over(Outcome::Interrupted(_)))));
    drop(second);
    assert!(
        matches!(poll(60 * SECOND, &mut Progress::default()), Err(Later::At(third)) if third == at)
    );
}
