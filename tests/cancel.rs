//! Cancelling a call from another thread, wherever it is, and what stays unaffected. Name lookup is in
//! `resolver.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::server::{Outcome, Server, config_for, token};
use common::timing::{CANCEL_MAX, cancelled_when, check_cancel, in_time};
use common::{Sandbox, client, exchange, on_threads};
use spike_auth::{Call, Client, ErrorKind};

/// Long enough for a call to begin its wait.
const PAUSE: Duration = Duration::from_millis(120);

fn pause() {
    std::thread::sleep(PAUSE);
}

fn cancelled_kind(client: &Client, user: &str) -> ErrorKind {
    cancelled_when(client, user, 20_000, pause).0.err().unwrap().kind()
}

// ---- wherever it is

#[test]
fn a_call_is_cancelled_at_once_wherever_it_is() {
    let sandbox = Sandbox::start();
    let rows = [
        ("full", "alice", "connecting"),
        ("silent_tls", "alice", "the TLS handshake"),
        ("silent", "alice", "waiting for the reply"),
        ("http", "fault.stall", "waiting for the reply"),
        ("https", "fault.stall", "waiting for the reply by TLS"),
        ("http", "fault.delay.5000", "a slow reply"),
        ("http", "fault.stall-mid-head", "in the headers"),
        ("https", "fault.stall-mid-head", "in the headers by TLS"),
        ("http", "fault.stall-mid-body", "in the body"),
        ("https", "fault.stall-mid-body", "in the body by TLS"),
        ("http", "fault.drip.20", "a dripping reply"),
        ("https", "fault.drip.20", "a dripping reply by TLS"),
        ("http", "fault.drip-body.20", "a dripping body"),
        ("https", "fault.drip-body.20", "a dripping body by TLS"),
        ("http", "fault.status.401.and.stall-mid-body", "in the body of a refusal"),
        ("https", "fault.status.503.and.drip-body.20", "in the body of a failure"),
        ("http", "fault.retry-after.5", "the back-off"),
        ("https", "fault.retry-after.5", "the back-off by TLS"),
    ];
    let rows = rows.map(|(place, user, what)| (sandbox.url(place), user, what));
    std::thread::scope(|scope| {
        for (url, user, what) in rows {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let client = client(&sandbox.config_for(url));
                check_cancel(what, &client, user, 2 * PAUSE);
                if user != "alice" {
                    // A connection on which a reply may still come is not used again.
                    exchange(&client, "bob");
                }
            });
        }
    });
}

#[test]
fn a_cancelled_back_off_tells_the_attempts_before_it() {
    let sandbox = Sandbox::start();
    let (result, _) = cancelled_when(&sandbox.client(), "fault.retry-after.5", 20_000, pause);
    let error = result.err().unwrap();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Cancelled, 1));
    assert_eq!(sandbox.count("requests"), 1);
}

// ---- before and after

#[test]
fn a_call_that_was_cancelled_before_it_began_sends_nothing() {
    let server = Server::start(|_| Outcome::Reply(token()));
    let client = client(&config_for(&server.url(), None));
    let call = Call::new();
    call.cancel();
    for _ in 0..3 {
        let error = client.exchange(b"alice", Some(&call)).err().unwrap();
        assert_eq!(
            (error.kind(), error.attempts(), error.http_status()),
            (ErrorKind::Cancelled, 0, None)
        );
    }
    assert_eq!(server.connections(), 0);
    // Nor over a connection that stands.
    client.exchange(b"alice", None).unwrap();
    let error = client.exchange(b"alice", Some(&call)).err().unwrap();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Cancelled, 0));
    assert_eq!((server.requests(), server.connections()), (1, 1));
    client.exchange(b"alice", None).unwrap();
    assert_eq!((server.requests(), server.connections()), (2, 1));
}

#[test]
fn cancelling_afterwards_does_nothing_to_the_call_and_lasts_for_the_handle() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let call = Call::new();
    for _ in 0..3 {
        client.exchange(b"alice", Some(&call)).unwrap(); // a handle serves one call after another
    }
    call.cancel();
    call.cancel();
    for _ in 0..3 {
        let error = client.exchange(b"alice", Some(&call)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    // Calls without a handle, or with another, are not affected.
    client.exchange(b"alice", None).unwrap();
    client.exchange(b"alice", Some(&Call::new())).unwrap();
    assert_eq!(sandbox.count("requests"), 5);
    assert_eq!(sandbox.count("connections"), 1);
}

// ---- what is not affected

#[test]
fn cancelling_one_call_leaves_the_others_on_the_client_alone() {
    let sandbox = Sandbox::start();
    for scheme in ["http", "https"] {
        let client = client(&sandbox.config_for(sandbox.url(scheme)));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let client = &client;
                scope.spawn(move || exchange(client, &format!("fault.delay.400.other-{number}")));
            }
            assert_eq!(cancelled_kind(&client, "fault.stall"), ErrorKind::Cancelled);
        });
    }
}

#[test]
fn cancelled_calls_give_their_permits_back() {
    let sandbox = Sandbox::start();
    let mut config = sandbox.config();
    config.set_max_concurrency(2).unwrap();
    config.set_timeout_ms(3000).unwrap();
    let client = client(&config);
    for user in [
        "fault.stall",
        "fault.stall-mid-body",
        "fault.status.500.and.retry-after.5",
        "fault.drip.20",
        "fault.stall",
    ] {
        assert_eq!(cancelled_kind(&client, user), ErrorKind::Cancelled);
    }
    // Both permits are there.
    on_threads(2, || exchange(&client, "fault.delay.300"));
    assert_eq!(sandbox.count("max_in_flight"), 2);
}

// ---- the queue for a permit

/// A server that keeps the user "holder" waiting until it is released, and notes the users in order.
struct Queue {
    server: Server,
    client: Client,
    released: Arc<AtomicBool>,
    served: Arc<Mutex<Vec<String>>>,
}

impl Queue {
    fn new() -> Self {
        let released = Arc::new(AtomicBool::new(false));
        let served = Arc::new(Mutex::new(Vec::new()));
        let server = {
            let (released, served) = (Arc::clone(&released), Arc::clone(&served));
            Server::start(move |incoming| {
                let user = incoming.user();
                let is_holder = user == "holder";
                served.lock().unwrap().push(user);
                while is_holder && !released.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Outcome::Reply(token())
            })
        };
        let mut config = config_for(&server.url(), None);
        config.set_max_concurrency(1).unwrap();
        Self { client: client(&config), server, released, served }
    }

    /// Runs `work` while the only permit is taken.
    fn while_held<T>(&self, work: impl FnOnce() -> T) -> T {
        self.released.store(false, Ordering::SeqCst);
        let before = self.server.requests();
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| self.client.exchange(b"holder", None).map(drop));
            while self.server.requests() == before {
                std::thread::sleep(Duration::from_millis(1));
            }
            let result = work();
            self.released.store(true, Ordering::SeqCst);
            holder.join().unwrap().unwrap();
            result
        })
    }

    /// Starts a caller for each name, one clearly after the other, and cancels those that `goes` names.
    /// Returns the others in the order in which they were served.
    fn order(&self, names: &[String], goes: impl Fn(usize) -> bool) -> Vec<String> {
        self.served.lock().unwrap().clear();
        let calls: Vec<_> = names.iter().map(|_| Call::new()).collect();
        std::thread::scope(|scope| {
            self.while_held(|| {
                for (number, (name, call)) in names.iter().zip(&calls).enumerate() {
                    let (client, is_cancelled) = (&self.client, goes(number));
                    scope.spawn(move || {
                        let result = client.exchange(name.as_bytes(), Some(call));
                        match result {
                            Ok(_) => assert!(!is_cancelled, "{name}"),
                            Err(error) => assert_eq!(
                                (is_cancelled, error.kind(), error.attempts()),
                                (true, ErrorKind::Cancelled, 0),
                                "{name}: {error:?}"
                            ),
                        }
                    });
                    std::thread::sleep(Duration::from_millis(40));
                }
                for (number, call) in calls.iter().enumerate() {
                    if goes(number) {
                        call.cancel();
                    }
                }
                pause();
            });
        });
        let served = self.served.lock().unwrap();
        served.iter().filter(|name| *name != "holder").cloned().collect()
    }

    /// Checks the order of ten callers. On a busy machine a thread may start later than the next one,
    /// but not every time.
    fn check_order(&self, goes: impl Fn(usize) -> bool + Copy) {
        let names: Vec<_> = (0..10).map(|number| format!("caller-{number}")).collect();
        let stays = |number: &usize| !goes(*number);
        let expected: Vec<_> = (0..10).filter(stays).map(|number| names[number].clone()).collect();
        let mut seen = Vec::new();
        while seen.last() != Some(&expected) {
            assert!(seen.len() < 3, "{seen:?}, and not {expected:?}");
            seen.push(self.order(&names, goes));
        }
    }
}

#[test]
fn callers_are_served_in_the_order_in_which_they_came() {
    Queue::new().check_order(|_| false);
}

#[test]
fn callers_that_are_cancelled_in_the_queue_leave_the_order_of_the_others() {
    let queue = Queue::new();
    queue.check_order(|number| number % 3 == 0); // the first and the last too
    assert_eq!(queue.server.max_in_flight(), 1);
}

#[test]
fn a_call_is_cancelled_at_once_while_it_waits_for_a_permit() {
    let queue = Queue::new();
    queue.while_held(|| {
        check_cancel("the wait for a permit", &queue.client, "alice", PAUSE);
    });
    queue.client.exchange(b"alice", None).unwrap();
    let served = queue.served.lock().unwrap();
    assert_eq!(*served, ["holder", "alice"], "the cancelled one was not sent");
}

/// A cancel may come at the very moment at which the permit becomes free.
#[test]
fn no_permit_is_lost_whenever_the_cancel_comes() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 150;
    let server = Server::start(|_| Outcome::Reply(token()));
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(2).unwrap();
    config.set_timeout_ms(10_000).unwrap();
    let client = client(&config);
    let (tokens, cancels) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (client, tokens, cancels) = (&client, &tokens, &cancels);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let call = Call::new();
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            let spread = (thread * 97 + round * 31) % 1500;
                            std::thread::sleep(Duration::from_micros(spread as u64));
                            call.cancel();
                        });
                        match client.exchange(b"alice", Some(&call)) {
                            Ok(_) => tokens.fetch_add(1, Ordering::Relaxed),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
                                cancels.fetch_add(1, Ordering::Relaxed)
                            }
                        };
                    });
                }
            });
        }
    });
    let (tokens, cancels) = (tokens.into_inner(), cancels.into_inner());
    assert!(tokens > 0 && cancels > 0, "{tokens} tokens, {cancels} cancels");
    // Both permits are there.
    on_threads(8, || drop(client.exchange(b"alice", None).unwrap()));
    assert!(server.max_in_flight() <= 2);
}

#[test]
fn many_threads_may_cancel_one_handle_at_once() {
    let sandbox = Sandbox::start();
    let client = client(&sandbox.config_for(sandbox.url("silent")));
    in_time("eight threads that cancel", CANCEL_MAX, || {
        let call = Call::new();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let error = client.exchange(b"alice", Some(&call)).err().unwrap();
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                Instant::now()
            });
            pause();
            let start = Instant::now();
            for _ in 0..8 {
                scope.spawn(|| (0..100).for_each(|_| call.cancel()));
            }
            running.join().unwrap().saturating_duration_since(start)
        })
    });
}
