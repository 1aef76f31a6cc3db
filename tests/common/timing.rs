//! Time limits that hold on a busy machine too.

use std::cell::Cell;
use std::time::{Duration, Instant};

use spike_auth::{Call, Client, Config, Error, ErrorKind};

use super::{call_with_timeout, client};

/// A busy machine may be late by itself. A late library is late every time.
const TRIES: usize = 3;

/// How soon a cancelled call must be back.
pub const CANCEL_MAX: Duration = Duration::from_millis(50);

/// How soon a closed client's calls must be back, and by how much a deadline may be overrun.
pub const GRACE: Duration = Duration::from_millis(100);

/// Runs `measure` until it takes at most `most`, a few times if need be.
pub fn in_time(what: &str, most: Duration, measure: impl Fn() -> Duration) {
    let mut took = Vec::new();
    while took.len() < TRIES {
        took.push(measure());
        if took.last().is_some_and(|last| *last <= most) {
            return;
        }
    }
    panic!("{what}: {took:?}, and not within {most:?}");
}

/// Returns the failure of `call`, which must come after `least`, and at most [`GRACE`] later.
pub fn fails_after(what: &str, least: Duration, call: impl Fn() -> Error) -> Error {
    let failure = Cell::new(None);
    in_time(what, least + GRACE, || {
        let start = Instant::now();
        failure.set(Some(call()));
        let took = start.elapsed();
        assert!(took >= least, "{what}: {took:?}");
        took
    });
    failure.into_inner().unwrap()
}

/// Calls for `user` and runs `stop` once `ready` returns. Returns the result, and how long after.
fn stopped_when(
    client: &Client,
    user: &str,
    timeout_ms: u32,
    ready: impl FnOnce(),
    stop: impl FnOnce(&Call),
) -> (Result<(), Error>, Duration) {
    let call = call_with_timeout(timeout_ms);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let result = client.exchange(user.as_bytes(), Some(&call));
            (result.map(drop), Instant::now())
        });
        ready();
        assert!(!running.is_finished(), "{user}: over before it was stopped");
        let stopped_at = Instant::now();
        stop(&call);
        let (result, ended_at) = running.join().unwrap();
        (result, ended_at.saturating_duration_since(stopped_at))
    })
}

/// Calls for `user` and cancels once `ready` returns. Returns the result, and how long after.
pub fn cancelled_when(
    client: &Client,
    user: &str,
    timeout_ms: u32,
    ready: impl FnOnce(),
) -> (Result<(), Error>, Duration) {
    stopped_when(client, user, timeout_ms, ready, Call::cancel)
}

/// A call that is cancelled after `pause` must return at once.
pub fn check_cancel(what: &str, client: &Client, user: &str, pause: Duration) {
    in_time(what, CANCEL_MAX, || {
        let (result, took) = cancelled_when(client, user, 20_000, || std::thread::sleep(pause));
        let error = result.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{what}: {error:?}");
        assert!(!error.retryable(), "{what}: {error:?}");
        took
    });
}

/// A call whose client is closed after `pause` must return at once.
pub fn check_close(what: &str, config: &Config, user: &str, pause: Duration) {
    in_time(what, GRACE, || {
        let client = client(config);
        let ready = || std::thread::sleep(pause);
        let (result, took) = stopped_when(&client, user, 20_000, ready, |_| client.close());
        assert_eq!(result.err().unwrap().kind(), ErrorKind::Closed, "{what}");
        took
    });
}
