//! What belongs to one process: connections, breakers, the tokens that were reported, and counters.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::cluster::{Nodes, Redirect};
use super::connection::{Connection, Endpoint};
use super::record::{Lease, new_lease};
use crate::error::Error;
use crate::fork::{Inherit, try_lock};
use crate::random::Keyed;

/// How many reports of rejected tokens are remembered.
const REPORTS_MAX: usize = 4096;

pub(super) struct Process {
    pub(super) lease: Lease,
    pub(super) counters: Counters,
    state: Mutex<State>,
    reported: Mutex<VecDeque<u64>>,
    /// How many connections are kept, of all nodes together.
    idle_max: usize,
}

struct State {
    nodes: Nodes,
    /// Leases that calls hold. While there is one, a closed client keeps connections for their release.
    leases: usize,
    is_closed: bool,
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

/// How to reach a node now.
pub(super) struct Way {
    pub(super) endpoint: Arc<Endpoint>,
    /// `None`: a new connection is to be made.
    pub(super) kept: Option<Connection>,
    /// See [`Redirect::asks`].
    pub(super) asks: bool,
}

impl Process {
    /// A child has no connection, knows its parent's reports, and learns anew which node has what. Closes the child's
    /// copies of the parent's idle connections, and sends nothing.
    pub(super) fn new(endpoint: Endpoint, idle_max: usize, parent: Option<&Self>) -> Self {
        let reported = parent.and_then(|parent| {
            parent.drop_inherited();
            try_lock(&parent.reported).map(|reported| reported.clone())
        });
        Self {
            lease: new_lease(),
            counters: Counters::default(),
            state: Mutex::new(State { nodes: Nodes::new(endpoint), leases: 0, is_closed: false }),
            reported: Mutex::new(reported.unwrap_or_default()),
            idle_max,
        }
    }

    fn drop_inherited(&self) {
        let idle = try_lock(&self.state).map(|mut state| state.nodes.take_idle());
        drop(idle);
    }

    /// The way to the node of a key; `None` if it is skipped. `always`: also one that is skipped.
    pub(super) fn admit(&self, name: &[u8], always: bool) -> Option<Way> {
        let mut state = self.state();
        let endpoint = state.nodes.of_key(name)?.admitted(always, Instant::now())?;
        Some(self.way(state, endpoint, false))
    }

    /// The same for the node that `from` named.
    #[cold]
    pub(super) fn follow(
        &self,
        from: &Endpoint,
        name: &[u8],
        redirect: &Redirect,
        always: bool,
    ) -> Result<Option<Way>, Error> {
        let mut state = self.state();
        let (node, forgotten) = state.nodes.named(from, name, redirect)?;
        let endpoint = node.and_then(|node| node.admitted(always, Instant::now()));
        let way = endpoint.map(|endpoint| self.way(state, endpoint, redirect.asks));
        drop(forgotten); // closes connections: not under the lock
        Ok(way)
    }

    fn way<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        endpoint: Arc<Endpoint>,
        asks: bool,
    ) -> Way {
        while let Some(mut idle) = state.nodes.at(&endpoint).and_then(|node| node.idle.pop()) {
            drop(state); // what follows makes system calls
            if idle.is_reusable(Instant::now()) {
                return Way { endpoint, kept: Some(idle), asks };
            }
            drop(idle); // closes a connection: not under the lock
            state = self.state();
        }
        Way { endpoint, kept: None, asks }
    }

    /// Its node answered well.
    pub(super) fn put_back(&self, mut connection: Connection) {
        connection.rest();
        let now = connection.idle_since;
        let mut state = self.state(); // unlocked before a connection that is not kept is closed
        let keeps = !state.is_closed || state.leases > 0;
        if let Some(node) = state.nodes.at(&connection.endpoint) {
            node.note_success();
            if keeps {
                node.idle.push(connection);
            }
        }
        let surplus = state.nodes.take_surplus(self.idle_max, now);
        drop(state);
        drop(surplus);
    }

    /// An operation failed by the node's fault.
    pub(super) fn note_failure(&self, endpoint: &Arc<Endpoint>, now: Instant) {
        let idle = self.state().nodes.note_failure(endpoint, now);
        drop(idle); // closes connections: not under the lock
    }

    /// A call holds a lease from now on.
    pub(super) fn begin_lease(&self) {
        self.state().leases += 1;
    }

    /// It does not any more.
    pub(super) fn end_lease(&self) {
        let mut state = self.state();
        state.leases = state.leases.saturating_sub(1);
        let idle = state.take_if_closed();
        drop(state);
        drop(idle); // closes connections: not under the lock
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
    fn take_if_closed(&mut self) -> Vec<Connection> {
        if self.is_closed && self.leases == 0 { self.nodes.take_idle() } else { Vec::new() }
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
    use crate::config::{CaCertificates, StoreUrl, TlsRoots};
    use crate::context::{CancelToken, Context};
    use std::time::Duration;

    fn endpoint() -> Endpoint {
        Endpoint::Path("/nowhere".into())
    }

    fn process() -> Process {
        Process::new(endpoint(), 1, None)
    }

    fn child_of(parent: &Process) -> Process {
        Process::new(endpoint(), 1, Some(parent))
    }

    #[test]
    fn a_store_that_is_skipped_is_still_checked() {
        let process = process();
        for _ in 0..3 {
            let way = process.admit(b"key", false).unwrap();
            process.note_failure(&way.endpoint, Instant::now());
        }
        assert!(process.admit(b"key", false).is_none());
        assert!(process.admit(b"key", true).is_some());
    }

    #[test]
    fn a_connection_that_the_server_closed_is_not_used() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", server.local_addr().unwrap());
        let url = StoreUrl::new(url.as_bytes()).unwrap();
        let (roots, ca) = (TlsRoots::Bundled, CaCertificates::default());
        let endpoint = Endpoint::new(&url.address, roots, &ca).unwrap();
        let process = Process::new(endpoint, 3, None);
        let context = Context::new(Duration::from_secs(20), None, &CancelToken::new());
        let take = || process.admit(b"key", true).unwrap();
        let open = || Connection::open(&take().endpoint, &url, &context).unwrap();
        let connections: Vec<_> = (0..3).map(|_| (open(), server.accept().unwrap())).collect();
        let (kept, mut ends): (Vec<_>, Vec<_>) = connections.into_iter().unzip();
        kept.into_iter().for_each(|connection| process.put_back(connection));
        ends.drain(1..).for_each(drop);
        assert!(take().kept.is_some(), "the first, below two that are closed");
        assert!(take().kept.is_none());
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
