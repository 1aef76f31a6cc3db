//! Many threads, every kind of trouble, for a while: each result must be explained by what was done
//! to its call, and nothing may be left behind.
//!
//! It runs for five seconds, or for as many as `SPIKE_AUTH_SOAK_SECONDS` says (`make soak`).

#![allow(unsafe_code)] // an allocator that counts
#![cfg(target_os = "linux")] // it looks into /proc
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use common::{Sandbox, subject};
use spike_auth::{AccessToken, Call, Client, Error, ErrorKind};

const THREADS: u64 = 64;
/// Fewer than the threads that meet on one client, so that calls wait for their turn too.
const MAX_CONCURRENCY: u32 = 3;
/// How long after its deadline, its cancellation or its client's close a call may come back.
const GRACE: Duration = Duration::from_millis(100);
/// The machine may be late by itself: this part of the calls that came to the same may be, and two
/// of them if they are few; and none by more than this.
const LATE_PERCENT: u64 = 3;
const LATE_MAX: Duration = Duration::from_secs(5);
/// What one time may cost and is not given back: lazily made statics, of std's and of rustls's.
const HEAP_SLACK: isize = 64 * 1024;
const RSS_SLACK: u64 = 16 * 1024 * 1024;

// ---- what can be asked for, and what may come of it

use ErrorKind::*;

/// (fault as a part of the user id, whether there may be a token, the kinds of failure). That its
/// time was up, or that it was stopped, may come of every call.
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
    // Once; the retry may not fit in what is left, or the client's budget may be spent.
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
    // The status was told; what the body would have said is not waited for beyond the deadline.
    ("status.401.and.stall-mid-body", false, &[Unauthorized]),
    ("status.503.and.stall-mid-body", false, &[ServerError]),
    ("drip.50", false, &[]),
    ("endless-headers", false, &[ResponseTooLarge]),
    ("endless-body", false, &[ResponseTooLarge]),
];

/// Where a reply now and then asks all calls to wait.
const HOLDS: &[Fault] = &[
    ("", true, &[ServerError, RateLimited]),
    ("", true, &[ServerError, RateLimited]),
    ("delay.20", true, &[ServerError, RateLimited]),
    ("stall", false, &[ServerError, RateLimited]),
    ("status.503.and.retry-after.1", false, &[ServerError, RateLimited]),
    ("status.429.and.retry-after.1.x1", true, &[ServerError, RateLimited]),
];

/// (the sandbox's address, how many clients share the work there, what may come of it).
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

// ---- what is counted from outside

struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: usize, sign: isize) {
    LIVE_BYTES.fetch_add(sign * bytes as isize, Ordering::Relaxed);
}

// SAFETY: all memory is the system allocator's; this only counts it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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

/// A client that will be closed one day, and when it was.
struct Target {
    client: Client,
    faults: &'static [Fault],
    closed: Moment,
}

/// When something happened, once it has.
#[derive(Default)]
struct Moment(Mutex<Option<Instant>>);

impl Moment {
    /// Noted before it happens, so that no effect of it is seen that is not explained.
    fn now(&self) {
        self.0.lock().unwrap().get_or_insert_with(Instant::now);
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap()
    }
}

/// A call that will be cancelled at a moment that was chosen before.
struct Doomed {
    call: Arc<Call>,
    cancelled: Arc<Moment>,
}

struct Soak {
    sandbox: Sandbox,
    targets: Vec<RwLock<Arc<Target>>>,
    doomed: Mutex<BTreeMap<(Instant, u64), Doomed>>,
    stop: AtomicBool,
    serial: AtomicU64,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<String, Times>,
    unexplained: Vec<String>,
}

/// How the calls with one outcome kept their time.
#[derive(Default)]
struct Times {
    calls: u64,
    late: u64,
    latest: Duration,
    latest_was: String,
}

impl Times {
    fn are_good(&self) -> bool {
        self.late <= 2 + self.calls * LATE_PERCENT / 100 && self.latest <= LATE_MAX
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} late, the latest by {:?} ({})",
            self.calls, self.late, self.latest, self.latest_was
        )
    }
}

/// xorshift64: it need not be good, and a seed makes it the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn target(sandbox: &Sandbox, place: &str, faults: &'static [Fault]) -> Arc<Target> {
    let mut config = sandbox.config_for(sandbox.url(place));
    config.set_max_concurrency(MAX_CONCURRENCY).unwrap();
    Arc::new(Target { client: Client::new(&config).unwrap(), faults, closed: Moment::default() })
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
            doomed: Mutex::default(),
            stop: AtomicBool::new(false),
            serial: AtomicU64::new(0),
            tally: Mutex::default(),
        }
    }

    fn run(&self, time: Duration) {
        self.stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| self.cancel_the_doomed());
            scope.spawn(|| self.close_clients());
            for number in 0..THREADS {
                scope.spawn(move || self.work(Dice(0x9E37_79B9_7F4A_7C15 ^ (number + 1))));
            }
            std::thread::sleep(time);
            self.stop.store(true, Ordering::Relaxed);
        });
    }

    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Goes on until the workers have ended: some of them wait for it.
    fn cancel_the_doomed(&self) {
        while self.running() || !self.doomed.lock().unwrap().is_empty() {
            let now = Instant::now();
            let due = {
                let mut doomed = self.doomed.lock().unwrap();
                let later = doomed.split_off(&(now, u64::MAX));
                std::mem::replace(&mut *doomed, later)
            };
            for doomed in due.values() {
                doomed.cancelled.now();
                doomed.call.cancel();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// One client after the other is closed in the middle of its calls, and another takes its place.
    fn close_clients(&self) {
        let mut dice = Dice(1);
        while self.running() {
            std::thread::sleep(Duration::from_millis(20 + dice.roll(80)));
            let index = dice.roll(self.targets.len() as u64) as usize;
            let (place, faults) = places().nth(index).unwrap();
            let next = target(&self.sandbox, place, faults);
            let old = std::mem::replace(&mut *self.targets[index].write().unwrap(), next);
            old.closed.now();
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
        let call = Arc::new(Call::new());
        call.set_timeout_ms(timeout.as_millis() as u32).unwrap();
        let cancelled = Arc::new(Moment::default());
        let start = Instant::now();
        if dice.roll(6) == 0 {
            let at = start + Duration::from_millis(dice.roll(200));
            let doomed = Doomed { call: Arc::clone(&call), cancelled: Arc::clone(&cancelled) };
            self.doomed.lock().unwrap().insert((at, serial), doomed);
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
                cancelled.get(),
                target.closed.get().map(|at| at.max(start)),
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
            times.latest_was.clone_from(&outcome.user);
        }
    }
}

/// What was done to a call, to judge its result by.
struct Outcome {
    user: String,
    may_have_token: bool,
    failures: &'static [ErrorKind],
    /// Its deadline, and when it was cancelled and its client closed, if they were.
    ended_after: [Option<Instant>; 3],
    end: Instant,
}

impl Outcome {
    /// How long it went on after the first of what should have ended it.
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
            // Such a status may be told when the time is up, but not when the call was stopped.
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

    // What is made once, is made here.
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
