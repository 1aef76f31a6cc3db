//! Cancelling a call from another thread, wherever it is, and what that leaves alone. Name lookup
//! is in `resolver.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::server::{Outcome, Server, config_for, token};
use common::timing::{CANCEL_MAX, cancelled_when, check_cancel, in_time};
use common::{Sandbox, subject};
use spike_auth::{Call, Client, ErrorKind};

/// Long enough for a call to have come to where it waits.
const PAUSE: Duration = Duration::from_millis(120);

fn pause() {
    std::thread::sleep(PAUSE);
}

fn cancelled() -> Call {
    let call = Call::new();
    call.cancel();
    call
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
                let client = Client::new(&sandbox.config_for(url)).unwrap();
                check_cancel(what, &client, user, 2 * PAUSE);
                if user != "alice" {
                    // A connection that a reply may still come on is not used again.
                    let token = client.exchange(b"bob", None).unwrap();
                    assert_eq!(subject(token.as_bytes()), "bob", "after {what}");
                }
            });
        }
    });
}

#[test]
fn a_call_is_cancelled_at_once_while_a_proxy_says_nothing() {
    let sandbox = Sandbox::start();
    let mut config = sandbox.config_for(sandbox.url("https"));
    config.set_proxy(sandbox.url("proxy_silent").as_bytes()).unwrap();
    let client = Client::new(&config).unwrap();
    check_cancel("the proxy", &client, "alice", PAUSE);
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
    let client = Client::new(&config_for(&server.url(), None)).unwrap();
    let call = cancelled();
    for _ in 0..3 {
        let error = client.exchange(b"alice", Some(&call)).err().unwrap();
        assert_eq!(
            (error.kind(), error.attempts(), error.http_status()),
            (ErrorKind::Cancelled, 0, None)
        );
    }
    assert_eq!(server.connections(), 0);
    // Nor does it over a connection that stands.
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
    // The client's own, and other handles, know nothing of it.
    client.exchange(b"alice", None).unwrap();
    client.exchange(b"alice", Some(&Call::new())).unwrap();
    assert_eq!(sandbox.count("requests"), 5);
    assert_eq!(sandbox.count("connections"), 1);
}

// ---- what it leaves alone

#[test]
fn cancelling_one_call_leaves_the_others_on_the_client_alone() {
    let sandbox = Sandbox::start();
    for scheme in ["http", "https"] {
        let client = Client::new(&sandbox.config_for(sandbox.url(scheme))).unwrap();
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..8)
                .map(|number| {
                    let client = &client;
                    scope.spawn(move || {
                        let user = format!("fault.delay.400.other-{number}");
                        let token = client.exchange(user.as_bytes(), None).unwrap();
                        assert_eq!(subject(token.as_bytes()), user);
                    })
                })
                .collect();
            let (result, _) = cancelled_when(&client, "fault.stall", 20_000, pause);
            assert_eq!(result.err().unwrap().kind(), ErrorKind::Cancelled);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }
}

#[test]
fn cancelled_calls_give_their_slots_back() {
    let sandbox = Sandbox::start();
    let mut config = sandbox.config();
    config.set_max_concurrency(2).unwrap();
    config.set_timeout_ms(3000).unwrap();
    let client = Client::new(&config).unwrap();
    for user in [
        "fault.stall",
        "fault.stall-mid-body",
        "fault.status.500.and.retry-after.5",
        "fault.drip.20",
        "fault.stall",
    ] {
        let (result, _) = cancelled_when(&client, user, 20_000, pause);
        assert_eq!(result.err().unwrap().kind(), ErrorKind::Cancelled);
    }
    // Both of them.
    std::thread::scope(|scope| {
        for number in 0..2 {
            let client = &client;
            let user = format!("fault.delay.300.both-{number}");
            scope.spawn(move || drop(client.exchange(user.as_bytes(), None).unwrap()));
        }
    });
    assert_eq!(sandbox.count("max_in_flight"), 2);
}

// ---- the queue for a slot

/// A server that lets the user "holder" wait for its word, and notes who came in which order.
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
        Self { client: Client::new(&config).unwrap(), server, released, served }
    }

    /// Runs `work` while the only slot is taken; ends it afterwards.
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

    /// Starts a caller for each name, one clearly after the other; cancels those that `goes` says;
    /// tells in which order the others were served.
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

    /// Checks the order of ten callers. On a busy machine a thread may start later than the next:
    /// so it may be seen wrong, but not every time.
    fn check_order(&self, goes: impl Fn(usize) -> bool + Copy) {
        let names: Vec<_> = (0..10).map(|number| format!("caller-{number}")).collect();
        let expected: Vec<_> =
            (0..10).filter(|number| !goes(*number)).map(|number| names[number].clone()).collect();
        let seen: Vec<_> = (0..3)
            .map_while({
                let mut is_done = false;
                let (names, expected) = (&names, &expected);
                move |_| {
                    if is_done {
                        return None;
                    }
                    let order = self.order(names, goes);
                    is_done = order == *expected;
                    Some(order)
                }
            })
            .collect();
        assert!(seen.last() == Some(&expected), "{seen:?}, and not {expected:?}");
    }
}

#[test]
fn callers_are_served_in_the_order_in_which_they_came() {
    Queue::new().check_order(|_| false);
}

#[test]
fn callers_that_are_cancelled_in_the_queue_leave_the_order_of_the_others_alone() {
    let queue = Queue::new();
    queue.check_order(|number| number % 3 == 0); // the first and the last too
    assert_eq!(queue.server.max_in_flight(), 1);
}

#[test]
fn a_call_is_cancelled_at_once_while_it_waits_for_a_slot() {
    let queue = Queue::new();
    queue.while_held(|| {
        check_cancel("the wait for a slot", &queue.client, "alice", PAUSE);
    });
    queue.client.exchange(b"alice", None).unwrap();
    let served = queue.served.lock().unwrap();
    assert_eq!(*served, ["holder", "alice"], "the cancelled one was not sent");
}

/// A cancel may meet the very moment at which the slot becomes free.
#[test]
fn no_slot_is_lost_whenever_the_cancel_comes() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 150;
    let server = Server::start(|_| Outcome::Reply(token()));
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(2).unwrap();
    config.set_timeout_ms(10_000).unwrap();
    let client = Client::new(&config).unwrap();
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
    // Both slots are there, and the calls after find them.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| drop(client.exchange(b"alice", None).unwrap()));
        }
    });
    assert!(server.max_in_flight() <= 2);
}

#[test]
fn one_handle_cancelled_by_many_threads_at_once_is_cancelled_once() {
    let sandbox = Sandbox::start();
    let client = Client::new(&sandbox.config_for(sandbox.url("silent"))).unwrap();
    in_time("eight threads that cancel", CANCEL_MAX, || {
        let call = Call::new();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let error = client.exchange(b"alice", Some(&call)).err().unwrap();
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                std::time::Instant::now()
            });
            pause();
            let start = std::time::Instant::now();
            for _ in 0..8 {
                scope.spawn(|| (0..100).for_each(|_| call.cancel()));
            }
            running.join().unwrap().saturating_duration_since(start)
        })
    });
}
