//! The token cache through the public API: single flight, expiry, renewal, rejected tokens, the breaker and
//! `Retry-After`. Memory use is tested in `cache_memory.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod dropping;
mod expiry;
mod flight;
mod hand_off;
mod hold;
mod model;
mod refused;
mod rejected;
mod renewal;
mod stats;
mod users;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::Sandbox;
use common::server::{Incoming, Outcome, Server, config_for, reply, token};
use common::timing::{CANCEL_MAX, in_time};
use proptest::prelude::*;
use spike_auth::{AccessToken, Call, Client, Config, Error, ErrorKind, Stats};

/// How long one exchange takes where that matters.
const FLIGHT: Duration = Duration::from_millis(200);
/// How far a deadline may be overrun.
const GRACE: Duration = Duration::from_millis(100);
/// How long a report of a rejected token is remembered; also the pause between two probes.
const WINDOW: Duration = Duration::from_secs(5);
/// How long to wait for an expected event, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Enough for a call, and small enough for a thousand threads.
const STACK: usize = 256 * 1024;

type Answer = Result<String, Error>;

// ---- clients

fn client(config: &Config) -> Client {
    Client::new(config).unwrap()
}

fn client_of(server: &Server) -> Client {
    client(&config_for(&server.url(), None))
}

fn text(token: &AccessToken) -> String {
    String::from_utf8(token.as_bytes().to_vec()).unwrap()
}

fn get(client: &Client, user: &str) -> Answer {
    get_by(client, user, None)
}

fn get_by(client: &Client, user: &str, call: Option<&Call>) -> Answer {
    client.get_token(user.as_bytes(), call).map(|token| text(&token))
}

fn failure(client: &Client, user: &str) -> Error {
    get(client, user).err().unwrap()
}

/// The cached token, if there is one.
fn cached(client: &Client, user: &str) -> Option<String> {
    match client.peek_token(user.as_bytes()) {
        Ok(token) => Some(text(&token)),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotCached, "{error:?}");
            assert_eq!(error.attempts(), 0, "{error:?}");
            None
        }
    }
}

fn invalidate(client: &Client, user: &str, rejected: &str) {
    client.invalidate(user.as_bytes(), rejected.as_bytes()).unwrap();
}

fn stats(client: &Client) -> Stats {
    client.stats().unwrap()
}

fn call_with_timeout(ms: u32) -> Call {
    let call = Call::new();
    call.set_timeout_ms(ms).unwrap();
    call
}

// ---- servers

fn reply_with(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn token_reply(token: &str) -> Vec<u8> {
    reply(200, &format!(r#"{{"access_token":"{token}"}}"#))
}

/// Another token for each request.
fn numbered(number: u64) -> Vec<u8> {
    token_reply(&format!("token-{number}"))
}

/// A 503 with `Retry-After`.
fn busy(seconds: u64) -> Vec<u8> {
    reply_with(503, &format!("Retry-After: {seconds}\r\n"), "")
}

/// Blocks threads until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        let (is_open, opened) = &*self.0;
        *is_open.lock().unwrap() = true;
        opened.notify_all();
    }

    fn pass(&self) {
        let (is_open, opened) = &*self.0;
        let guard = is_open.lock().unwrap();
        drop(opened.wait_while(guard, |is_open| !*is_open).unwrap());
    }
}

/// Answers request number n, from 0, with `answer(n)`.
fn counting(answer: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Server {
    let count = AtomicU64::new(0);
    Server::start(move |_| Outcome::Reply(answer(count.fetch_add(1, Ordering::SeqCst))))
}

/// The same, but the first `held` requests wait for the gate.
fn holding(held: u64, answer: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> (Server, Gate) {
    let gate = Gate::default();
    let entrance = gate.clone();
    let server = counting(move |number| {
        if number < held {
            entrance.pass();
        }
        answer(number)
    });
    (server, gate)
}

/// A server that returns the user id as the token, or refuses all signatures while the flag is set.
fn refusing() -> (Server, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(true));
    let server = {
        let refuses = Arc::clone(&refuses);
        Server::start(move |incoming| {
            Outcome::Reply(if refuses.load(Ordering::SeqCst) {
                reply(401, "")
            } else {
                token_reply(&incoming.user())
            })
        })
    };
    (server, refuses)
}

// ---- callers

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Repeats an attempt that depends on the order of threads until it succeeds.
fn seen_once(what: &str, attempt: impl Fn() -> bool) {
    assert!((0..10).any(|_| attempt()), "never: {what}");
}

/// The result of a call, and its times.
struct Returned {
    answer: Answer,
    began: Instant,
    at: Instant,
}

impl Returned {
    fn kind(&self) -> ErrorKind {
        self.answer.as_ref().err().unwrap().kind()
    }

    fn token(&self) -> &str {
        self.answer.as_ref().unwrap()
    }

    fn took(&self) -> Duration {
        self.at - self.began
    }
}

fn ask<'scope>(
    scope: &'scope Scope<'scope, '_>,
    client: &'scope Client,
    user: &'scope str,
    call: Option<&'scope Call>,
    start: Option<&'scope Barrier>,
) -> ScopedJoinHandle<'scope, Returned> {
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn_scoped(scope, move || {
            start.map(Barrier::wait);
            let began = Instant::now();
            let answer = get_by(client, user, call);
            let at = Instant::now();
            Returned { answer, began, at }
        })
        .unwrap()
}

fn join_all(callers: Vec<ScopedJoinHandle<'_, Returned>>) -> Vec<Returned> {
    callers.into_iter().map(|caller| caller.join().unwrap()).collect()
}

/// `count` concurrent callers for one user.
fn crowd(client: &Client, count: usize, meanwhile: impl FnOnce()) -> Vec<Returned> {
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        let callers = (0..count).map(|_| ask(scope, client, "alice", None, Some(&start))).collect();
        meanwhile();
        join_all(callers)
    })
}

/// Callers for one user with these timeouts. They join one after another, and the first leads. `act` runs
/// when all have joined.
fn flight(client: &Client, timeouts: &[u32], act: impl FnOnce(&[Call])) -> Vec<Returned> {
    let calls: Vec<_> = timeouts.iter().map(|ms| call_with_timeout(*ms)).collect();
    std::thread::scope(|scope| {
        let mut callers = Vec::new();
        for call in &calls {
            callers.push(ask(scope, client, "alice", Some(call), None));
            let joined = callers.len() as u64;
            wait_until("the next caller has joined", || {
                let stats = stats(client);
                stats.exchanges + stats.coalesced == joined
            });
        }
        act(&calls);
        join_all(callers)
    })
}

/// Runs `work` on `count` threads, with the number of each.
fn on_threads(count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..count {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
}

/// Checks that all have the same result, and returns the token or the error as text.
fn shared(all: &[Returned]) -> String {
    let say = |returned: &Returned| match &returned.answer {
        Ok(token) => token.clone(),
        Err(error) => format!("{error:?}"),
    };
    let first = say(&all[0]);
    all.iter().for_each(|returned| assert_eq!(say(returned), first));
    first
}

fn last(all: &[Returned]) -> Instant {
    all.iter().map(|returned| returned.at).max().unwrap()
}

/// xorshift64: its quality does not matter, and a seed makes it reproducible.
struct Dice(u64);

impl Dice {
    fn new(seed: usize) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ (seed as u64 + 1))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// When the last response was sent.
#[derive(Clone)]
struct LastReply(Arc<Mutex<Instant>>);

impl LastReply {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn now(&self) {
        *self.0.lock().unwrap() = Instant::now();
    }

    fn until(&self, later: Instant) -> Duration {
        later.saturating_duration_since(*self.0.lock().unwrap())
    }
}

/// Invariants that hold at every moment.
fn check_sums(stats: &Stats) {
    assert!(stats.coalesced + stats.exchanges <= stats.misses, "{stats:?}");
    assert!(stats.failures <= stats.exchanges, "{stats:?}");
    assert!(stats.requests <= stats.exchanges + stats.retries, "{stats:?}");
    assert_eq!(stats.forks, 0);
}

/// Invariants that hold while no call is running.
fn check_sums_at_rest(stats: &Stats) {
    check_sums(stats);
    assert!(stats.retries <= stats.requests, "{stats:?}");
    assert_eq!(stats.entries == 0, stats.bytes == 0, "{stats:?}");
}
