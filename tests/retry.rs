//! When a call is tried again, how often, and what that may cost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::Sandbox;
use common::server::{Outcome, Server, config_for, reply, tls_for, token};
use common::timing::in_time;
use spike_auth::{Call, Client, Config, Error, ErrorKind};

/// By how much a deadline may be overrun.
const GRACE: Duration = Duration::from_millis(100);

fn client(config: &Config) -> Client {
    Client::new(config).unwrap()
}

fn failure(client: &Client, call: Option<&Call>) -> Error {
    client.exchange(b"alice", call).err().unwrap()
}

/// Runs `work` on so many threads.
fn on_threads(count: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(&work);
        }
    });
}

// ---- the budget

#[test]
fn a_server_that_fails_for_good_is_not_asked_three_times_for_each_call() {
    const THREADS: usize = 8;
    const CALLS: usize = 10_000;
    let server = Server::start(|_| Outcome::Reply(reply(500, "")));
    let client = client(&config_for(&server.url(), None));
    let attempts = AtomicU64::new(0);
    on_threads(THREADS, || {
        for _ in 0..CALLS / THREADS {
            let error = failure(&client, None);
            assert_eq!(error.http_status(), Some(500));
            attempts.fetch_add(error.attempts().into(), Ordering::Relaxed);
        }
    });
    // 500 tokens pay for a hundred retries at 5 each, and nothing comes back.
    assert_eq!(server.requests(), CALLS as u64 + 100);
    assert_eq!(attempts.into_inner(), server.requests());
}

/// Takes connections, counts them, and does with each what `then` does.
fn listener(then: impl Fn(TcpStream) + Send + 'static) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("https://{}/v3", listener.local_addr().unwrap());
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            then(stream.unwrap());
        }
    });
    (url, count)
}

#[test]
fn a_retry_after_a_timeout_costs_twice_as_much() {
    const THREADS: usize = 16;
    const CALLS: usize = 80;
    // A handshake that is never answered.
    let held = Arc::new(Mutex::new(Vec::new()));
    let (url, connections) = {
        let held = Arc::clone(&held);
        listener(move |stream| held.lock().unwrap().push(stream))
    };
    let mut config = config_for(&url, Some(&tls_for(&["127.0.0.1"]).1));
    config.set_max_attempts(2).unwrap();
    config.set_connect_timeout_ms(50).unwrap();
    let client = client(&config);
    on_threads(THREADS, || {
        for _ in 0..CALLS / THREADS {
            let error = failure(&client, None);
            assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        }
    });
    assert_eq!(connections.load(Ordering::SeqCst), CALLS as u64 + 50);
    held.lock().unwrap().clear(); // the listener's thread goes on
}

#[test]
fn a_handshake_that_is_cut_is_tried_again_and_no_request_is_sent() {
    let (url, connections) = listener(drop);
    let config = config_for(&url, Some(&tls_for(&["127.0.0.1"]).1));
    let error = failure(&client(&config), None);
    assert!(error.retryable());
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Tls, 0));
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

/// A server that fails as often as it is told to.
fn failing(fails: &Arc<AtomicU32>) -> Server {
    let fails = Arc::clone(fails);
    Server::start(move |_| {
        let fail =
            fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        Outcome::Reply(if fail.is_ok() { reply(500, "") } else { token() })
    })
}

#[test]
fn five_successes_pay_for_one_retry_and_one_that_needed_a_retry_pays_nothing() {
    let fails = Arc::new(AtomicU32::new(u32::MAX));
    let server = failing(&fails);
    let client = client(&config_for(&server.url(), None));
    let succeed = |times: usize| {
        fails.store(0, Ordering::SeqCst);
        (0..times).for_each(|_| drop(client.exchange(b"alice", None).unwrap()));
        fails.store(u32::MAX, Ordering::SeqCst);
    };
    on_threads(16, || {
        // Ten calls have up to 20 retries: all threads together more than the budget has.
        (0..10).for_each(|_| drop(failure(&client, None)));
    });
    assert_eq!(failure(&client, None).attempts(), 1, "nothing is left");
    succeed(4);
    assert_eq!(failure(&client, None).attempts(), 1, "4 are too few");
    succeed(1);
    assert_eq!(failure(&client, None).attempts(), 2, "5 are enough");
    assert_eq!(failure(&client, None).attempts(), 1, "for once");
    succeed(5);
    fails.store(1, Ordering::SeqCst);
    client.exchange(b"alice", None).unwrap(); // by a retry
    succeed(4);
    assert_eq!(failure(&client, None).attempts(), 1, "the fifth needed a retry itself");
}

#[test]
fn a_client_has_a_budget_of_its_own() {
    let server = Server::start(|_| Outcome::Reply(reply(500, "")));
    let config = config_for(&server.url(), None);
    let poor = client(&config);
    on_threads(16, || {
        (0..10).for_each(|_| drop(failure(&poor, None)));
    });
    assert_eq!(failure(&poor, None).attempts(), 1);
    assert_eq!(failure(&client(&config), None).attempts(), 3);
}

// ---- how often, and after what

#[test]
fn as_many_attempts_are_made_as_are_allowed() {
    let server = Server::start(|_| Outcome::Reply(reply(502, "")));
    std::thread::scope(|scope| {
        for allowed in 1..=5 {
            let url = server.url();
            scope.spawn(move || {
                let mut config = config_for(&url, None);
                config.set_max_attempts(allowed).unwrap();
                let error = failure(&client(&config), None);
                assert_eq!((error.kind(), error.attempts()), (ErrorKind::ServerError, allowed));
            });
        }
    });
    assert_eq!(server.requests(), 1 + 2 + 3 + 4 + 5);
}

#[test]
fn what_would_come_again_is_not_tried_again() {
    let page = "x".repeat(70_000);
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let rows = [
        (reply(400, ""), ErrorKind::Refused),
        (reply(401, ""), ErrorKind::Unauthorized),
        (reply(403, ""), ErrorKind::Forbidden),
        (reply(404, ""), ErrorKind::Refused),
        (reply(422, ""), ErrorKind::Refused),
        (reply(301, ""), ErrorKind::UnexpectedStatus),
        (reply(307, ""), ErrorKind::UnexpectedStatus),
        (reply(200, ""), ErrorKind::InvalidResponse),
        (reply(200, "<html>"), ErrorKind::InvalidResponse),
        (reply(200, r#"{"access_token":""}"#), ErrorKind::InvalidResponse),
        (reply(200, &page), ErrorKind::ResponseTooLarge),
        (long_head.into_bytes(), ErrorKind::ResponseTooLarge),
        (b"220 smtp\r\n\r\n".to_vec(), ErrorKind::InvalidResponse),
    ];
    for (bytes, kind) in rows {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let server = Server::start(move |_| Outcome::ReplyThenClose(bytes.clone(), Duration::ZERO));
        let error = failure(&client(&config_for(&server.url(), None)), None);
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{shown:?}");
        assert_eq!(server.requests(), 1, "{shown:?}");
    }
}

#[test]
fn a_certificate_that_is_refused_is_shown_once() {
    let (tls, _) = tls_for(&["127.0.0.1"]);
    let (_, other_pem) = tls_for(&["127.0.0.1"]);
    let server = Server::start_with(Some(tls), |_| Outcome::Reply(token()));
    let error = failure(&client(&config_for(&server.url(), Some(&other_pem))), None);
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Tls, 0));
    assert!(!error.retryable());
    assert_eq!((server.connections(), server.requests()), (1, 0));
}

#[test]
fn a_200_that_is_cut_short_is_asked_for_again() {
    let server = Server::start(|incoming| match incoming.connection {
        0 => Outcome::ReplyThenClose(
            b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{\"access_token\":".to_vec(),
            Duration::ZERO,
        ),
        1 => Outcome::ReplyThenClose(
            b"HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"a-to".to_vec(),
            Duration::ZERO,
        ),
        _ => Outcome::Reply(token()),
    });
    let result = client(&config_for(&server.url(), None)).exchange(b"alice", None);
    assert_eq!(result.unwrap().as_bytes(), b"a-token");
    assert_eq!(server.requests(), 3);
}

#[test]
fn the_last_failure_is_told_and_not_the_first() {
    let server = Server::start(|incoming| match incoming.connection {
        0 => Outcome::ReplyThenClose(reply(500, ""), Duration::ZERO),
        1 => Outcome::Close,
        _ => Outcome::ReplyThenClose(
            b"HTTP/1.1 429 X\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Duration::ZERO,
        ),
    });
    let error = failure(&client(&config_for(&server.url(), None)), None);
    assert_eq!(
        (error.kind(), error.http_status(), error.attempts(), error.retry_after()),
        (ErrorKind::RateLimited, Some(429), 3, Some(Duration::from_secs(17)))
    );
}

#[test]
fn clients_that_fail_together_do_not_come_again_together() {
    // Full jitter: of 40 waits between 0 and 100 ms some two are far apart, as good as surely.
    let server = Server::start(|_| Outcome::Reply(reply(500, "")));
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(2).unwrap();
    let client = client(&config);
    let took = Mutex::new(Vec::new());
    on_threads(8, || {
        for _ in 0..5 {
            let start = Instant::now();
            failure(&client, None);
            took.lock().unwrap().push(start.elapsed());
        }
    });
    let took = took.into_inner().unwrap();
    let spread = *took.iter().max().unwrap() - *took.iter().min().unwrap();
    assert!(spread > Duration::from_millis(30), "{took:?}");
    assert_eq!(server.requests(), 80);
}

// ---- connections that died in the pool

/// Two calls, one attempt each; the connection dies in between or under the second.
fn second_call(server: &Server, ca_pem: Option<&str>, pause: Duration) -> Result<(), Error> {
    let mut config = config_for(&server.url(), ca_pem);
    config.set_max_attempts(1).unwrap(); // what is done again is free, or not done
    let client = client(&config);
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
fn it_is_done_again_once_and_only_if_the_reply_had_not_begun() {
    // The new connection dies too: that is a failure like any other, and two requests were sent.
    let server = Server::start(|incoming| match (incoming.connection, incoming.number) {
        (0, 0) => Outcome::Reply(token()),
        _ => Outcome::Close,
    });
    let error = second_call(&server, None, Duration::ZERO).err().unwrap();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::ConnectionLost, 2));
    assert_eq!((server.requests(), server.connections()), (3, 2));

    // A byte has come: the service was at work.
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
    // All connections of the pool die together, as when a load balancer goes. No call may meet
    // two of them.
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
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    on_threads(THREADS, || drop(client.exchange(b"alice", None).unwrap()));
    assert!(server.connections() > 1);
    dead.store(true, Ordering::SeqCst);
    on_threads(THREADS, || drop(client.exchange(b"alice", None).unwrap()));
}

#[test]
fn two_thousand_calls_to_a_server_that_never_keeps_its_connections_all_succeed() {
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
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    for number in 0..CALLS {
        let result = client.exchange(b"alice", None);
        assert!(result.is_ok(), "call {number}: {:?}", result.err());
    }
    assert!(server.connections() >= CALLS / 2);
    assert!(server.requests() <= 2 * CALLS, "{}", server.requests());
}

#[test]
fn the_sandboxs_ways_of_hanging_up_fail_no_call() {
    let sandbox = Sandbox::start();
    for scheme in ["http", "https"] {
        let client = client(&sandbox.single_attempt_config_for(sandbox.url(scheme)));
        for fault in ["close-next", "close-idle", "close-idle.1", "close-delimited-abrupt"] {
            for _ in 0..5 {
                client
                    .exchange(format!("fault.{fault}").as_bytes(), None)
                    .unwrap_or_else(|error| panic!("{scheme} {fault}: {error:?}"));
                client
                    .exchange(b"alice", None)
                    .unwrap_or_else(|error| panic!("{scheme} after {fault}: {error:?}"));
            }
        }
    }
}

// ---- deadlines

fn call_with_timeout(ms: u32) -> Call {
    let call = Call::new();
    call.set_timeout_ms(ms).unwrap();
    call
}

#[test]
fn a_calls_own_timeout_may_be_shorter_than_the_clients() {
    let sandbox = Sandbox::start();
    for (url, user) in [
        (sandbox.url("silent"), "alice"),
        (sandbox.url("silent_tls"), "alice"),
        (sandbox.url("full"), "alice"),
        (sandbox.url("https"), "fault.drip.20"),
    ] {
        let client = client(&sandbox.config_for(url));
        let timeout = Duration::from_millis(200);
        in_time(url, timeout + GRACE, || {
            let start = Instant::now();
            let error =
                client.exchange(user.as_bytes(), Some(&call_with_timeout(200))).err().unwrap();
            let took = start.elapsed();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
            assert!(error.message().contains("200 ms"), "{error:?}");
            assert!(took >= timeout, "{took:?}");
            took
        });
    }
}

#[test]
fn a_calls_own_timeout_may_be_longer_than_the_clients() {
    let sandbox = Sandbox::start();
    let mut config = sandbox.config();
    config.set_timeout_ms(200).unwrap();
    let client = client(&config);
    let user = b"fault.delay.500";
    let error = client.exchange(user, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let zero = call_with_timeout(0); // the client's
    let error = client.exchange(user, Some(&zero)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    client.exchange(user, Some(&call_with_timeout(5000))).unwrap();
    // And the next call has the client's again.
    let error = client.exchange(user, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn a_timeout_out_of_range_is_refused_and_the_one_before_stays() {
    let call = Call::new();
    for good in [0, 1, 600_000, 30] {
        call.set_timeout_ms(good).unwrap();
    }
    for bad in [600_001, u32::MAX] {
        let error = call.set_timeout_ms(bad).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let sandbox = Sandbox::start();
    let client = client(&sandbox.config_for(sandbox.url("silent")));
    let error = failure(&client, Some(&call));
    assert!(error.message().contains("30 ms"), "{error:?}");
}

#[test]
fn a_wait_that_does_not_fit_into_the_calls_own_deadline_is_not_begun() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    in_time("a wait that is not begun", Duration::from_millis(300), || {
        let start = Instant::now();
        let error =
            client.exchange(b"fault.retry-after.2", Some(&call_with_timeout(1500))).err().unwrap();
        let took = start.elapsed();
        assert_eq!(
            (error.kind(), error.http_status(), error.attempts()),
            (ErrorKind::ServerError, Some(503), 1)
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        assert!(error.retryable());
        took
    });
}

#[test]
fn one_deadline_holds_for_all_attempts_together() {
    // Each attempt alone is well within it.
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_millis(150));
        Outcome::Reply(reply(500, ""))
    });
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(10).unwrap();
    config.set_timeout_ms(500).unwrap();
    let client = client(&config);
    in_time("all attempts", Duration::from_millis(500) + GRACE, || {
        let start = Instant::now();
        let error = failure(&client, None);
        let took = start.elapsed();
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::ServerError), "{error:?}");
        assert!(error.attempts() < 5, "{error:?}");
        took
    });
}

#[test]
fn the_wait_for_a_slot_is_inside_the_deadline_and_no_attempt() {
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
        in_time("the wait for a slot", Duration::from_millis(300) + GRACE, || {
            let start = Instant::now();
            let error = failure(&client, Some(&call_with_timeout(300)));
            let took = start.elapsed();
            assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, 0));
            assert!(took >= Duration::from_millis(300), "{took:?}");
            took
        });
        assert_eq!(server.requests(), 1, "nothing was sent");
        // One with more time gets its turn.
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
        assert!(server.connections() <= u64::from(allowed), "a connection per slot is enough");
    }
}
