//! What belongs to one process: connections, the breaker, the tokens that were reported, and counters.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Connection, Endpoint};
use super::record::{Lease, new_lease};
use crate::fork::{Inherit, try_lock};
use crate::random::Keyed;

/// After so many failures in a row the store is skipped.
const FAILURES: u32 = 3;
/// How long, until one operation tries it again.
const SKIPPED: Duration = Duration::from_secs(5);
/// How many reports of rejected tokens are remembered.
const REPORTS_MAX: usize = 4096;

pub(super) struct Process {
    pub(super) endpoint: Endpoint,
    pub(super) lease: Lease,
    pub(super) counters: Counters,
    state: Mutex<State>,
    reported: Mutex<VecDeque<u64>>,
}

#[derive(Default)]
struct State {
    /// The one used last is at the end and is used next.
    idle: Vec<Connection>,
    /// Leases that calls hold. While there is one, a closed client keeps connections for their release.
    leases: usize,
    is_closed: bool,
    /// Failures in a row.
    failures: u32,
    /// When one operation tries again a store that is skipped.
    probe_at: Option<Instant>,
}

/// Since the client was made or the process was forked.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) misses: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) skipped: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Whether an operation may use the store now.
pub(super) enum Admission {
    /// On this connection, or on a new one.
    Go(Option<Connection>),
    Skip,
}

impl Process {
    /// A child has no connection and knows its parent's reports. Closes the child's copies of the parent's idle
    /// connections, and sends nothing.
    pub(super) fn new(endpoint: Endpoint, parent: Option<&Self>) -> Self {
        let reported = parent.and_then(|parent| {
            parent.drop_inherited();
            try_lock(&parent.reported).map(|reported| reported.clone())
        });
        Self {
            endpoint,
            lease: new_lease(),
            counters: Counters::default(),
            state: Mutex::default(),
            reported: Mutex::new(reported.unwrap_or_default()),
        }
    }

    fn drop_inherited(&self) {
        let idle = try_lock(&self.state).map(|mut state| std::mem::take(&mut state.idle));
        drop(idle);
    }

    /// `always`: also a store that is skipped.
    pub(super) fn admit(&self, always: bool, now: Instant) -> Admission {
        let mut state = self.state();
        if !always && !state.admits(now) {
            return Admission::Skip;
        }
        while let Some(mut idle) = state.idle.pop() {
            drop(state); // what follows makes system calls
            if idle.is_reusable(now) {
                return Admission::Go(Some(idle));
            }
            drop(idle); // closes a connection: not under the lock
            state = self.state();
        }
        Admission::Go(None)
    }

    /// An operation succeeded.
    pub(super) fn put_back(&self, mut connection: Connection) {
        connection.rest();
        let mut state = self.state();
        (state.failures, state.probe_at) = (0, None);
        if !state.is_closed || state.leases > 0 {
            state.idle.push(connection);
        }
    }

    /// An operation failed by the store's fault. The connections that rest are as old as the one that failed.
    pub(super) fn note_failure(&self, now: Instant) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.probe_at = Some(now + SKIPPED);
        }
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle); // closes connections: not under the lock
    }

    /// A call holds a lease from now on.
    pub(super) fn begin_lease(&self) {
        self.state().leases += 1;
    }

    /// It does not any more. Returns a connection for its release, if one rests.
    pub(super) fn end_lease(&self, releases: bool) -> Option<Connection> {
        let mut state = self.state();
        state.leases = state.leases.saturating_sub(1);
        let connection = if releases { state.idle.pop() } else { None };
        let idle = state.take_if_closed();
        drop(state);
        drop(idle); // closes connections: not under the lock
        connection
    }

    /// The client was closed.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let idle = state.take_if_closed();
        drop(state);
        drop(idle);
    }

    /// `token` was reported as rejected. The first in is the first out.
    pub(super) fn report(&self, token: &[u8]) {
        let hash = hash(token);
        let mut reported = self.reported();
        if reported.contains(&hash) {
            return;
        }
        if reported.len() == REPORTS_MAX {
            reported.pop_front();
        }
        reported.push_back(hash);
    }

    /// By hashes of 64 bits: a collision costs an exchange.
    pub(super) fn is_reported(&self, token: &[u8]) -> bool {
        let reported = self.reported();
        !reported.is_empty() && reported.contains(&hash(token))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reported(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether it is not skipped. If it is, the first operation after a while is the probe.
    fn admits(&mut self, now: Instant) -> bool {
        match self.probe_at {
            None => true,
            Some(probe_at) if now < probe_at => false,
            Some(_) => {
                self.probe_at = Some(now + SKIPPED);
                true
            }
        }
    }

    fn take_if_closed(&mut self) -> Vec<Connection> {
        if self.is_closed && self.leases == 0 { std::mem::take(&mut self.idle) } else { Vec::new() }
    }
}

impl Inherit for Process {
    fn abandon(self) {
        self.drop_inherited();
        std::mem::forget(self); // a thread of the parent may have been looking a name up
    }
}

/// The same hash in this process and its children.
pub(super) fn hash(token: &[u8]) -> u64 {
    Keyed.hash_one(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process::new(Endpoint::Path("/nowhere".into()), None)
    }

    fn child_of(parent: &Process) -> Process {
        Process::new(parent.endpoint.of_this_process(), Some(parent))
    }

    fn admits(process: &Process, now: Instant) -> bool {
        matches!(process.admit(false, now), Admission::Go(None))
    }

    #[test]
    fn three_failures_in_a_row_skip_it_until_one_probe() {
        let (process, start) = (process(), Instant::now());
        for _ in 0..2 {
            assert!(admits(&process, start));
            process.note_failure(start);
        }
        assert!(admits(&process, start));
        process.note_failure(start);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!admits(&process, start) && !admits(&process, at(4999)));
        assert!(matches!(process.admit(true, start), Admission::Go(None)), "a check asks always");
        assert!(admits(&process, at(5000)));
        assert!(!admits(&process, at(5001)), "one probe");
        process.note_failure(at(5100));
        assert!(!admits(&process, at(10_099)) && admits(&process, at(10_100)));
    }

    #[test]
    fn the_last_4096_reports_are_remembered_and_inherited() {
        let process = process();
        let token = |i: usize| format!("token-{i}").into_bytes();
        for _ in 0..2 {
            (0..REPORTS_MAX).for_each(|i| process.report(&token(i)));
        }
        assert!(process.is_reported(&token(0)));
        process.report(&token(REPORTS_MAX));
        for process in [&process, &child_of(&process)] {
            assert!(!process.is_reported(&token(0)));
            assert!((1..=REPORTS_MAX).all(|i| process.is_reported(&token(i))));
        }
    }

    #[test]
    fn a_child_has_a_lease_of_its_own() {
        let parent = process();
        assert_ne!(parent.lease, child_of(&parent).lease);
    }
}
