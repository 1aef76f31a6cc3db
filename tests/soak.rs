//! Many threads and every kind of trouble: each result must be explained by what was done to its call,
//! and nothing may be left behind.
//!
//! Runs for five seconds, or for `SPIKE_AUTH_SOAK_SECONDS` (`make soak`).

#![cfg(target_os = "linux")] // for /proc
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use common::allocator::Counting;
use common::timing::GRACE;
use common::{Dice, Sandbox, call_with_timeout, client, subject};
use spike_auth::{AccessToken, Call, Client, Error, ErrorKind};

const THREADS: usize = 64;
/// Fewer than the threads on one client, so that calls wait for their turn too.
const MAX_CONCURRENCY: u32 = 3;
/// A busy machine may be late by itself. Of the calls with one result this part may return later than
/// [`GRACE`], and two of them if they are few; none later than [`LATE_MAX`].
const LATE_PERCENT: u64 = 3;
const LATE_MAX: Duration = Duration::from_secs(5);
/// What is allocated once and not freed: lazy statics of std and rustls.
const HEAP_SLACK: isize = 64 * 1024;
const RSS_SLACK: u64 = 16 * 1024 * 1024;

// ---- faults, and what may come of them

use ErrorKind::*;

/// (fault as a part of the user id, whether there may be a token, the kinds of failure). Every call may
/// also time out or be stopped.
type Fault = (&'static str, bool, &'static [ErrorKind]);

const FAULTS: &[Fault] = &[
    ("", true, &[]),
    ("", true, &[]),
    ("", true, &[]),
    ("", true, &[]),
    ("delay.20", true, &[]),
    ("delay.100", true, &[]),
    ("split", true, &[]),
    ("chunked.7", true, &[]),
    ("early-hints", true, &[]),
    ("http10", true, &[]),
    ("close-delimited", true, &[]),
    ("close-idle", true, &[]),
    ("close-idle.5", true, &[]),
    ("close-next", true, &[]),
    ("close-next", true, &[]),
    ("drip.1", true, &[]),
    ("drip-body.2", true, &[]),
    // The retry may not fit in the time left, or the client's budget may be spent.
    ("status.503.x1", true, &[ServerError]),
    ("status.500.x2", true, &[ServerError]),
    ("status.429.and.retry-after.0.x1", true, &[RateLimited]),
    ("close-before.x1", true, &[ConnectionLost]),
    ("reset-mid.x1", true, &[ConnectionLost]),
    ("status.503", false, &[ServerError]),
    ("status.500.and.retry-after.1", false, &[ServerError]),
    ("status.400", false, &[Refused]),
    ("status.401", false, &[Unauthorized]),
    ("status.403", false, &[Forbidden]),
    ("status.422", false, &[Refused]),
    ("status.302", false, &[UnexpectedStatus]),
    ("html", false, &[InvalidResponse]),
    ("crlf-token", false, &[InvalidResponse]),
    ("garbage", false, &[InvalidResponse]),
    ("close-before", false, &[ConnectionLost]),
    ("close-mid-head", false, &[ConnectionLost]),
    ("close-mid-body", false, &[ConnectionLost]),
    ("close-mid-chunk", false, &[ConnectionLost]),
    ("close-delimited-cut", false, &[ConnectionLost]),
    ("reset-before", false, &[ConnectionLost]),
    ("reset-mid", false, &[ConnectionLost]),
    ("stall", false, &[]),
    ("stall-mid-head", false, &[]),
    ("stall-mid-body", false, &[]),
    // The status was told; the body is not waited for beyond the deadline.
    ("status.401.and.stall-mid-body", false, &[Unauthorized]),
    ("status.503.and.stall-mid-body", false, &[ServerError]),
    ("drip.50", false, &[]),
    ("endless-headers", false, &[ResponseTooLarge]),
    ("endless-body", false, &[ResponseTooLarge]),
];

/// Replies that now and then ask all calls to wait.
const HOLDS: &[Fault] = &[
    ("", true, &[ServerError, RateLimited]),
    ("", true, &[ServerError, RateLimited]),
    ("delay.20", true, &[ServerError, RateLimited]),
    ("stall", false, &[ServerError, RateLimited]),
    ("status.503.and.retry-after.1", false, &[ServerError, RateLimited]),
    ("status.429.and.retry-after.1.x1", true, &[ServerError, RateLimited]),
];

/// (the sandbox's address, how many clients it has, the faults there).
const PLACES: &[(&str, usize, &[Fault])] = &[
    ("http", 4, FAULTS),
    ("https", 4, FAULTS),
    ("http", 1, HOLDS),
    ("refused", 1, &[("", false, &[Connect])]),
    ("reset", 1, &[("", false, &[Connect, ConnectionLost])]),
    ("silent", 1, &[("", false, &[])]),
    ("silent_tls", 1, &[("", false, &[])]),
    ("full", 1, &[("", false, &[])]),
    ("cut_handshake", 1, &[("", false, &[Tls])]),
];

// ---- what is left behind

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting(|_, size, sign| {
    LIVE_BYTES.fetch_add(sign * size as isize, Ordering::Relaxed);
});

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// A thread that was joined may take a moment to leave /proc.
fn settled(directory: &str, expected: usize) -> usize {
    for _ in 0..200 {
        if entries(directory) <= expected {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    entries(directory)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

// ---- one run

/// A client, and when it was closed: noted first, so that every effect is explained.
struct Target {
    client: Client,
    faults: &'static [Fault],
    closed: OnceLock<Instant>,
}

/// A call that will be cancelled. When is noted first, so that every effect is explained.
struct Cancellation {
    call: Arc<Call>,
    at: Arc<OnceLock<Instant>>,
}

struct Soak {
    sandbox: Sandbox,
    targets: Vec<RwLock<Arc<Target>>>,
    /// By their time.
    cancellations: Mutex<BTreeMap<(Instant, u64), Cancellation>>,
    stop: AtomicBool,
    serial: AtomicU64,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<String, Times>,
    unexplained: Vec<String>,
}

/// How late the calls with one outcome were.
#[derive(Debug, Default)]
struct Times {
    calls: u64,
    late: u64,
    latest: Duration,
    latest_user: String,
}

impl Times {
    fn are_good(&self) -> bool {
        self.late <= 2 + self.calls * LATE_PERCENT / 100 && self.latest <= LATE_MAX
    }
}

fn target(sandbox: &Sandbox, place: &str, faults: &'static [Fault]) -> Arc<Target> {
    let mut config = sandbox.config_for(sandbox.url(place));
    config.set_max_concurrency(MAX_CONCURRENCY).unwrap();
    Arc::new(Target { client: client(&config), faults, closed: OnceLock::new() })
}

/// One place per client.
fn places() -> impl Iterator<Item = (&'static str, &'static [Fault])> {
    PLACES
        .iter()
        .flat_map(|&(place, clients, faults)| std::iter::repeat_n((place, faults), clients))
}

impl Soak {
    fn start() -> Self {
        let sandbox = Sandbox::start();
        let targets =
            places().map(|(place, faults)| RwLock::new(target(&sandbox, place, faults))).collect();
        Self {
            sandbox,
            targets,
            cancellations: Mutex::default(),
            stop: AtomicBool::new(false),
            serial: AtomicU64::new(0),
            tally: Mutex::default(),
        }
    }

    fn run(&self, time: Duration) {
        self.stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| self.cancel_calls());
            scope.spawn(|| self.close_clients());
            for number in 0..THREADS {
                scope.spawn(move || self.work(Dice::new(number)));
            }
            std::thread::sleep(time);
            self.stop.store(true, Ordering::Relaxed);
        });
    }

    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Goes on until the workers have ended: some wait for their cancellation.
    fn cancel_calls(&self) {
        while self.running() || !self.cancellations.lock().unwrap().is_empty() {
            let now = Instant::now();
            let due = {
                let mut all = self.cancellations.lock().unwrap();
                let later = all.split_off(&(now, u64::MAX));
                std::mem::replace(&mut *all, later)
            };
            for cancellation in due.values() {
                cancellation.at.get_or_init(Instant::now);
                cancellation.call.cancel();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Closes one client after the other in the middle of its calls, and replaces it.
    fn close_clients(&self) {
        let mut dice = Dice::new(0);
        while self.running() {
            std::thread::sleep(Duration::from_millis(20 + dice.roll(80)));
            let index = dice.roll(self.targets.len() as u64) as usize;
            let (place, faults) = places().nth(index).unwrap();
            let next = target(&self.sandbox, place, faults);
            let old = std::mem::replace(&mut *self.targets[index].write().unwrap(), next);
            old.closed.get_or_init(Instant::now);
            old.client.close();
        }
    }

    fn work(&self, mut dice: Dice) {
        while self.running() {
            let index = dice.roll(self.targets.len() as u64) as usize;
            let target = Arc::clone(&self.targets[index].read().unwrap());
            self.call_once(&target, &mut dice);
            std::thread::sleep(Duration::from_millis(dice.roll(10)));
        }
    }

    fn call_once(&self, target: &Target, dice: &mut Dice) {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (fault, token, failures) =
            target.faults[dice.roll(target.faults.len() as u64) as usize];
        let user = match fault {
            "" => format!("soak-{serial}"),
            fault => format!("fault.{fault}.soak-{serial}"),
        };
        let timeout = Duration::from_millis(10 + dice.roll(490));
        let call = Arc::new(call_with_timeout(timeout.as_millis() as u32));
        let cancelled = Arc::new(OnceLock::new());
        let start = Instant::now();
        if dice.roll(6) == 0 {
            let at = start + Duration::from_millis(dice.roll(200));
            let cancellation = Cancellation { call: Arc::clone(&call), at: Arc::clone(&cancelled) };
            self.cancellations.lock().unwrap().insert((at, serial), cancellation);
        }
        let result = target.client.exchange(user.as_bytes(), Some(&call));
        let end = Instant::now();
        let outcome = Outcome {
            user,
            may_have_token: token,
            failures,
            // The client may have been closed before the call began.
            ended_after: [
                Some(start + timeout),
                cancelled.get().copied(),
                target.closed.get().map(|at| start.max(*at)),
            ],
            end,
        };
        self.note(&outcome, &result);
    }

    fn note(&self, outcome: &Outcome, result: &Result<AccessToken, Error>) {
        let name = match result {
            Ok(_) => "Token".to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        };
        let complaint = outcome.complaint(result);
        let overrun = outcome.overrun();
        let mut tally = self.tally.lock().unwrap();
        tally.unexplained.extend(complaint);
        let times = tally.outcomes.entry(name).or_default();
        times.calls += 1;
        times.late += u64::from(overrun > GRACE);
        if overrun > times.latest {
            times.latest = overrun;
            times.latest_user.clone_from(&outcome.user);
        }
    }
}

/// What was done to a call, and what may come of it.
struct Outcome {
    user: String,
    may_have_token: bool,
    failures: &'static [ErrorKind],
    /// Its deadline, and when it was cancelled and its client closed, if they were.
    ended_after: [Option<Instant>; 3],
    end: Instant,
}

impl Outcome {
    /// How long it went on after the first event that should have ended it.
    fn overrun(&self) -> Duration {
        let first = self.ended_after.iter().flatten().min();
        first.map_or(Duration::ZERO, |&first| self.end.saturating_duration_since(first))
    }

    fn complaint(&self, result: &Result<AccessToken, Error>) -> Option<String> {
        let explained = match result {
            Ok(token) => self.may_have_token && subject(token.as_bytes()) == self.user,
            Err(error) => self.explains(error.kind()),
        };
        let said = result.as_ref().map_or_else(
            |error| format!("{:?}: {}", error.kind(), error.message()),
            |token| format!("the token of {}", subject(token.as_bytes())),
        );
        (!explained).then(|| format!("{}: {said}", self.user))
    }

    fn explains(&self, kind: ErrorKind) -> bool {
        let [deadline, cancelled, closed] =
            self.ended_after.map(|at| at <= Some(self.end) && at.is_some());
        match kind {
            Timeout => deadline,
            Cancelled => cancelled,
            Closed => closed,
            // Such a status may be the result when the time is up, but not when the call was stopped.
            kind if self.user.contains("stall-mid-body") => {
                deadline && self.failures.contains(&kind)
            }
            kind => self.failures.contains(&kind),
        }
    }
}

// ---- the test

fn seconds() -> f64 {
    std::env::var("SPIKE_AUTH_SOAK_SECONDS").map_or(5.0, |text| text.parse().unwrap())
}

#[test]
fn every_result_is_explained_and_nothing_is_left_behind() {
    let time = Duration::from_secs_f64(seconds());
    let (descriptors, threads) = (entries("/proc/self/fd"), entries("/proc/self/task"));

    // Makes what is made once.
    let warm_up = Soak::start();
    warm_up.run(time / 5);
    drop(warm_up);
    let live_before = LIVE_BYTES.load(Ordering::Relaxed);

    let soak = Soak::start();
    soak.run(time / 5);
    let resident_before = resident_bytes();
    soak.run(time * 3 / 5);
    let resident_after = resident_bytes();
    let tally = std::mem::take(&mut *soak.tally.lock().unwrap());
    drop(soak);
    let calls: u64 = tally.outcomes.values().map(|times| times.calls).sum();
    println!("{calls} calls; late is by more than {GRACE:?}\n{:#?}", tally.outcomes);
    assert!(
        tally.unexplained.is_empty(),
        "{} of {calls} calls:\n{}",
        tally.unexplained.len(),
        tally.unexplained[..tally.unexplained.len().min(20)].join("\n")
    );
    for name in ["Token", "Timeout", "Cancelled", "Closed", "ConnectionLost"] {
        assert!(tally.outcomes.contains_key(name), "none came to {name}");
    }
    for (name, times) in &tally.outcomes {
        assert!(times.are_good(), "{name}: {times:?}");
    }
    drop(tally);

    assert_eq!(settled("/proc/self/fd", descriptors), descriptors);
    assert_eq!(settled("/proc/self/task", threads), threads);
    let live = LIVE_BYTES.load(Ordering::Relaxed) - live_before;
    let grown = resident_after.saturating_sub(resident_before);
    println!("{calls} calls left {live} bytes on the heap; {grown} bytes more were resident");
    assert!(live <= HEAP_SLACK, "{live} bytes were not given back");
    assert!(grown <= RSS_SLACK, "{grown} bytes more were resident");
}
