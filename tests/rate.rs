//! The client's own rate limit: it holds for one call at a time, for a crowd, and for calls that wait for a
//! permit or a hold; and no call waits longer than it has time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::server::{Outcome, Server, config_for, reply, token};
use common::timing::fails_after;
use common::{call_with_timeout, client, on_threads};
use spike_auth::{Client, ErrorKind};

const PER_SECOND: u32 = 200;
/// What the bucket holds, and how late a slot may be used: so many requests more than the rate may come at
/// once.
const BURST: f64 = 0.07;

fn limited(server: &Server, per_second: u32, concurrency: u32) -> Client {
    let mut config = config_for(&server.url(), None);
    config.set_max_rate(per_second);
    config.set_max_concurrency(concurrency).unwrap();
    client(&config)
}

fn exchange(client: &Client) -> bool {
    client.exchange(b"alice", Some(&call_with_timeout(30_000))).is_ok()
}

/// A server that notes when each request came.
fn noting() -> (Server, std::sync::Arc<Mutex<Vec<Instant>>>) {
    let times = std::sync::Arc::new(Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&times);
    let server = Server::start(move |_| {
        noted.lock().unwrap().push(Instant::now());
        Outcome::Reply(token())
    });
    (server, times)
}

/// In no stretch of time came more requests than the rate and a burst allow.
fn assert_rate_holds(times: &[Instant]) {
    for (first, &start) in times.iter().enumerate() {
        for (last, &end) in times.iter().enumerate().skip(first) {
            let seconds = end.duration_since(start).as_secs_f64();
            // A busy machine may delay what the server notes first.
            let allowed = f64::from(PER_SECOND) * (seconds + BURST + 0.1) + 1.0;
            let came = (last - first + 1) as f64;
            assert!(came <= allowed, "{came} requests in {seconds} s");
        }
    }
}

#[test]
fn the_rate_holds_at_any_number_of_calls_in_flight() {
    for threads in [1, 16, 128] {
        let (server, times) = noting();
        let client = limited(&server, PER_SECOND, 64);
        let left = AtomicU32::new(PER_SECOND);
        let start = Instant::now();
        on_threads(threads, || {
            while left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
            {
                assert!(exchange(&client));
            }
        });
        assert!(start.elapsed() > Duration::from_millis(850), "{threads}: {:?}", start.elapsed());
        let mut times = times.lock().unwrap().clone();
        times.sort();
        assert_eq!(times.len(), PER_SECOND as usize);
        assert_rate_holds(&times);
    }
}

/// Fifty calls wait for two permits while their slots pass. They must not send at once afterwards.
#[test]
fn the_rate_holds_after_a_wait_for_permits() {
    let (times, slow) = (std::sync::Arc::new(Mutex::new(Vec::new())), AtomicU32::new(2));
    let noted = std::sync::Arc::clone(&times);
    let server = Server::start(move |_| {
        noted.lock().unwrap().push(Instant::now());
        if slow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            std::thread::sleep(Duration::from_millis(600));
        }
        Outcome::Reply(token())
    });
    let client = limited(&server, PER_SECOND, 2);
    on_threads(52, || assert!(exchange(&client)));
    let mut times = times.lock().unwrap().clone();
    times.sort();
    assert_rate_holds(&times);
}

#[test]
fn a_call_without_time_for_its_turn_fails_at_once_and_gives_it_back() {
    let (server, _) = noting();
    let client = limited(&server, 1, 8);
    assert!(exchange(&client));
    let error = fails_after("no turn", Duration::ZERO, || {
        client.exchange(b"alice", Some(&call_with_timeout(500))).err().unwrap()
    });
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::RateLimited, 0));
    assert!(error.retryable() && error.http_status().is_none());
    let wait = error.retry_after().unwrap();
    assert!(wait > Duration::from_millis(500) && wait <= Duration::from_secs(1), "{wait:?}");
    // A thousand of them leave the next turn where it was.
    for _ in 0..1000 {
        assert!(client.exchange(b"alice", Some(&call_with_timeout(20))).is_err());
    }
    let begun = Instant::now();
    assert!(exchange(&client));
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!(server.requests(), 2);
}

#[test]
fn retries_take_their_turn_too() {
    let server = Server::start(|_| Outcome::Reply(reply(500, "")));
    let client = limited(&server, 2, 8);
    let begun = Instant::now();
    let error = client.exchange(b"alice", Some(&call_with_timeout(20_000))).err().unwrap();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::ServerError, 3));
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
}

/// Waiters of one user share a turn, and cached tokens need none.
#[test]
fn calls_for_one_user_take_one_turn() {
    let (server, _) = noting();
    let client = limited(&server, 1, 8);
    on_threads(32, || drop(client.get_token(b"alice", Some(&call_with_timeout(5_000))).unwrap()));
    on_threads(8, || drop(client.get_token(b"alice", Some(&call_with_timeout(5_000))).unwrap()));
    assert_eq!(server.requests(), 1);
}
