//! What retries may cost, connections that died in the pool, deadlines, and concurrency. Which failures
//! are tried again, and when, is in `faults.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::server::{Outcome, Server, config_for, read_request, reply, tls_for, token};
use common::timing::fails_after;
use common::{Sandbox, call_with_timeout, client, failure, on_threads};
use spike_auth::{Call, Client, Config, Error, ErrorKind};

fn client_of(server: &Server) -> Client {
    client(&config_for(&server.url(), None))
}

/// One attempt per call: a request that is sent again is no attempt, or is not sent.
fn single_attempt_client(server: &Server, ca_pem: Option<&str>) -> Client {
    let mut config = config_for(&server.url(), ca_pem);
    config.set_max_attempts(1).unwrap();
    client(&config)
}

fn failure_of(client: &Client, call: &Call) -> Error {
    client.exchange(b"alice", Some(call)).err().unwrap()
}

// ---- the budget

/// A configuration for a server that does not get as far as TLS.
fn config_before_tls(server: &Server) -> Config {
    let url = format!("https://{}/v3", server.address);
    config_for(&url, Some(&tls_for(&["127.0.0.1"]).1))
}

#[test]
fn fifty_retries_after_timeouts_spend_the_budget() {
    const THREADS: usize = 16;
    const CALLS: usize = 80;
    let silent = Server::accepting(|mut stream| drop(read_request(&mut stream)));
    let mut config = config_before_tls(&silent);
    config.set_max_attempts(2).unwrap();
    config.set_connect_timeout_ms(50).unwrap();
    let client = client(&config);
    on_threads(THREADS, || {
        for _ in 0..CALLS / THREADS {
            assert_eq!(failure(&client, "alice").kind(), ErrorKind::Connect);
        }
    });
    assert_eq!(silent.connections(), CALLS as u64 + 50);
}

#[test]
fn five_successes_without_a_retry_pay_for_one_retry() {
    // Fails so many times, then succeeds.
    let fails = Arc::new(AtomicU32::new(u32::MAX));
    let server = {
        let fails = Arc::clone(&fails);
        Server::start(move |_| {
            let fail =
                fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            Outcome::Reply(if fail.is_ok() { reply(500, "") } else { token() })
        })
    };
    let client = client_of(&server);
    let attempts = || failure(&client, "alice").attempts();
    let succeed = |times: usize| {
        fails.store(0, Ordering::SeqCst);
        (0..times).for_each(|_| drop(client.exchange(b"alice", None).unwrap()));
        fails.store(u32::MAX, Ordering::SeqCst);
    };
    // Ten calls have up to 20 retries: all threads together more than the budget has.
    on_threads(16, || (0..10).for_each(|_| assert!(attempts() <= 3)));
    assert_eq!(server.requests(), 160 + 100);
    assert_eq!(attempts(), 1, "nothing is left");
    assert_eq!(failure(&client_of(&server), "alice").attempts(), 3, "another client's is full");
    succeed(4);
    assert_eq!(attempts(), 1, "4 are too few");
    succeed(1);
    assert_eq!(attempts(), 2, "5 are enough");
    assert_eq!(attempts(), 1, "for once");
    succeed(5);
    fails.store(1, Ordering::SeqCst);
    client.exchange(b"alice", None).unwrap(); // by a retry
    succeed(4);
    assert_eq!(attempts(), 1, "the fifth needed a retry itself");
}

#[test]
fn a_cut_handshake_is_tried_again_and_no_request_is_sent() {
    let cutting = Server::accepting(drop);
    let error = failure(&client(&config_before_tls(&cutting)), "alice");
    assert_eq!((error.kind(), error.attempts(), error.retryable()), (ErrorKind::Tls, 0, true));
    assert_eq!(cutting.connections(), 3);
}

#[test]
fn a_refused_certificate_is_not_tried_again() {
    let (tls, _) = tls_for(&["127.0.0.1"]);
    let (_, other_pem) = tls_for(&["127.0.0.1"]);
    let server = Server::start_with(Some(tls), |_| Outcome::Reply(token()));
    let error = failure(&client(&config_for(&server.url(), Some(&other_pem))), "alice");
    assert_eq!((error.kind(), error.attempts(), error.retryable()), (ErrorKind::Tls, 0, false));
    assert_eq!((server.connections(), server.requests()), (1, 0));
}

#[test]
fn the_error_is_that_of_the_last_attempt() {
    let server = Server::start(|incoming| match incoming.connection {
        0 => Outcome::ReplyThenClose(reply(500, ""), Duration::ZERO),
        1 => Outcome::Close,
        _ => Outcome::ReplyThenClose(
            b"HTTP/1.1 429 X\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Duration::ZERO,
        ),
    });
    let error = failure(&client_of(&server), "alice");
    assert_eq!(
        (error.kind(), error.http_status(), error.attempts(), error.retry_after()),
        (ErrorKind::RateLimited, Some(429), 3, Some(Duration::from_secs(17)))
    );
}

#[test]
fn calls_that_fail_together_are_spread_by_jitter() {
    // Of 40 waits between 0 and 100 ms two are all but certainly 30 ms apart.
    let server = Server::start(|_| Outcome::Reply(reply(500, "")));
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(2).unwrap();
    let client = client(&config);
    let took = Mutex::new(Vec::new());
    on_threads(8, || {
        for _ in 0..5 {
            let start = Instant::now();
            failure(&client, "alice");
            took.lock().unwrap().push(start.elapsed());
        }
    });
    let took = took.into_inner().unwrap();
    let spread = *took.iter().max().unwrap() - *took.iter().min().unwrap();
    assert!(spread > Duration::from_millis(30), "{took:?}");
    assert_eq!(server.requests(), 80);
}

// ---- connections that died in the pool

/// Two calls. The connection dies in between or under the second.
fn second_call(server: &Server, ca_pem: Option<&str>, pause: Duration) -> Result<(), Error> {
    let client = single_attempt_client(server, ca_pem);
    client.exchange(b"alice", None).unwrap();
    std::thread::sleep(pause);
    client.exchange(b"bob", None).map(|token| {
        assert_eq!(token.as_bytes(), b"a-token");
    })
}

#[test]
fn a_kept_connection_that_ends_at_the_next_request_costs_one_more_request_and_no_attempt() {
    let (tls, pem) = tls_for(&["127.0.0.1"]);
    for ends in [|| Outcome::Close, || Outcome::Reset] {
        for (tls, pem) in [(None, None), (Some(Arc::clone(&tls)), Some(pem.as_str()))] {
            let server = Server::start_with(tls, move |incoming| {
                match (incoming.connection, incoming.number) {
                    (0, 1) => ends(),
                    _ => Outcome::Reply(token()),
                }
            });
            second_call(&server, pem, Duration::ZERO).unwrap();
            assert_eq!((server.requests(), server.connections()), (3, 2));
        }
    }
}

#[test]
fn a_kept_connection_that_ended_while_idle_costs_a_connection_and_nothing_else() {
    let (tls, pem) = tls_for(&["127.0.0.1"]);
    for (tls, pem) in [(None, None), (Some(tls), Some(pem.as_str()))] {
        let server =
            Server::start_with(tls, |_| Outcome::ReplyThenClose(token(), Duration::from_millis(1)));
        second_call(&server, pem, Duration::from_millis(100)).unwrap();
        assert_eq!((server.requests(), server.connections()), (2, 2));
    }
}

#[test]
fn a_request_is_sent_again_once_and_only_if_the_reply_had_not_begun() {
    // The new connection dies too: a failure like any other, after two requests.
    let server = Server::start(|incoming| match (incoming.connection, incoming.number) {
        (0, 0) => Outcome::Reply(token()),
        _ => Outcome::Close,
    });
    let error = second_call(&server, None, Duration::ZERO).err().unwrap();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::ConnectionLost, 2));
    assert_eq!((server.requests(), server.connections()), (3, 2));

    // A byte has arrived: the service was at work.
    let server = Server::start(|incoming| match (incoming.connection, incoming.number) {
        (0, 1) => Outcome::ReplyThenClose(b"H".to_vec(), Duration::ZERO),
        _ => Outcome::Reply(token()),
    });
    let error = second_call(&server, None, Duration::ZERO).err().unwrap();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::ConnectionLost, 1));
    assert_eq!((server.requests(), server.connections()), (2, 1));
}

#[test]
fn many_dead_connections_at_once_fail_no_call() {
    // They die together, as when a load balancer goes. No call may meet two of them.
    const THREADS: usize = 16;
    let dead = Arc::new(AtomicBool::new(false));
    let server = {
        let dead = Arc::clone(&dead);
        Server::start(move |incoming| {
            std::thread::sleep(Duration::from_millis(20)); // so that all are in flight at once
            if dead.load(Ordering::SeqCst) && incoming.number > 0 {
                return Outcome::Close;
            }
            Outcome::Reply(token())
        })
    };
    let client = single_attempt_client(&server, None);
    on_threads(THREADS, || drop(client.exchange(b"alice", None).unwrap()));
    assert!(server.connections() > 1);
    dead.store(true, Ordering::SeqCst);
    on_threads(THREADS, || drop(client.exchange(b"alice", None).unwrap()));
}

#[test]
fn two_thousand_calls_succeed_on_a_server_that_keeps_no_connection() {
    const CALLS: u64 = 2000;
    let server = Server::start(|incoming| {
        let spoiled = incoming.number > 0;
        // Right after the reply, around the next request, and when it has come, in turn.
        match incoming.connection % 5 {
            0 => Outcome::ReplyThenClose(token(), Duration::ZERO),
            1 => Outcome::ReplyThenClose(token(), Duration::from_micros(100)),
            2 => Outcome::ReplyThenClose(token(), Duration::from_micros(incoming.connection % 400)),
            3 if spoiled => Outcome::Close,
            _ if spoiled => Outcome::Reset,
            _ => Outcome::Reply(token()),
        }
    });
    let client = single_attempt_client(&server, None);
    for number in 0..CALLS {
        let result = client.exchange(b"alice", None);
        result.unwrap_or_else(|error| panic!("call {number}: {error:?}"));
    }
    assert!(server.connections() >= CALLS / 2);
    assert!(server.requests() <= 2 * CALLS, "{}", server.requests());
}

// ---- deadlines

#[test]
fn a_call_may_have_a_timeout_of_its_own() {
    let sandbox = Sandbox::start();
    let mut config = sandbox.config();
    config.set_timeout_ms(200).unwrap();
    let client = client(&config);
    let user = b"fault.delay.500";
    client.exchange(user, Some(&call_with_timeout(5000))).unwrap();
    for call in [None, Some(call_with_timeout(0))] {
        let error = client.exchange(user, call.as_ref()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout, "the client's");
    }
    let error = fails_after("a shorter timeout", Duration::from_millis(100), || {
        client.exchange(user, Some(&call_with_timeout(100))).err().unwrap()
    });
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("100 ms"), "{error:?}");
}

#[test]
fn a_timeout_out_of_range_is_refused_and_changes_nothing() {
    let call = Call::new();
    for good in [0, 1, 600_000, 30] {
        call.set_timeout_ms(good).unwrap();
    }
    for bad in [600_001, u32::MAX] {
        assert_eq!(call.set_timeout_ms(bad).err().unwrap().kind(), ErrorKind::InvalidArgument);
    }
    let sandbox = Sandbox::start();
    let error = failure_of(&client(&sandbox.config_for(sandbox.url("silent"))), &call);
    assert!(error.message().contains("30 ms"), "{error:?}");
}

#[test]
fn the_wait_for_a_free_connection_is_inside_the_deadline_and_no_attempt() {
    let server = Server::start(|incoming| {
        if incoming.user() == "holder" {
            std::thread::sleep(Duration::from_millis(2500));
        }
        Outcome::Reply(token())
    });
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(1).unwrap();
    let client = client(&config);
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| client.exchange(b"holder", None));
        while server.requests() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let error = fails_after("the wait for a connection", Duration::from_millis(300), || {
            failure_of(&client, &call_with_timeout(300))
        });
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, 0));
        assert_eq!(server.requests(), 1, "nothing was sent");
        // A call with more time waits for its turn.
        client.exchange(b"alice", None).unwrap();
        holder.join().unwrap().unwrap();
    });
    assert_eq!(server.max_in_flight(), 1);
}

#[test]
fn no_more_exchanges_are_in_flight_than_are_allowed() {
    for allowed in [1, 3, 32] {
        let server = Server::start(|_| {
            std::thread::sleep(Duration::from_millis(5));
            Outcome::Reply(token())
        });
        let mut config = config_for(&server.url(), None);
        config.set_max_concurrency(allowed).unwrap();
        let client = client(&config);
        on_threads(48, || {
            (0..2).for_each(|_| drop(client.exchange(b"alice", None).unwrap()));
        });
        assert_eq!(server.requests(), 96);
        assert!(server.max_in_flight() <= allowed.into());
        assert!(server.connections() <= u64::from(allowed), "each connection is used again");
    }
}
