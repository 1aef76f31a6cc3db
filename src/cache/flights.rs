//! One exchange per user, however many ask for it.
//!
//! The first who misses leads; those who miss meanwhile wait for what it brings, each as long as its
//! own time allows. A leader that is stopped hands what it has done so far to a waiter. All of it is
//! kept under the lock of the user's shard, so that between "fetched" and "stored" there is nothing:
//! who comes finds the flight, or the entry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::entry::Entry;
use super::sync::{self, AtomicBool, OnceLock, Ordering, Thread};
use crate::error::Error;
use crate::exchange::Progress;
use crate::random::Keyed;

/// A token that an exchange brought, and how many requests it took.
#[derive(Clone)]
pub(crate) struct Fetched {
    pub(crate) entry: Arc<Entry>,
    pub(crate) attempts: u32,
}

/// What all who wait for a flight are given.
pub(super) type Landed = Result<Fetched, Error>;

/// What a waiter looks at without a lock.
#[derive(Default)]
pub(super) struct Flight(OnceLock<Landed>);

impl Flight {
    pub(super) fn landed(&self) -> Option<&Landed> {
        self.0.get()
    }
}

/// One who waits.
pub(super) struct Ticket {
    thread: Thread,
    deadline: Instant,
    called: AtomicBool,
}

impl Ticket {
    /// Whether it is this one's turn to lead.
    pub(super) fn is_called(&self) -> bool {
        self.called.load(Ordering::Acquire)
    }
}

/// The flights of one shard's users.
#[derive(Default)]
pub(super) struct Flights(HashMap<Box<[u8]>, InFlight, Keyed>);

#[derive(Default)]
struct InFlight {
    flight: Arc<Flight>,
    waiting: Vec<Arc<Ticket>>,
    /// From a leader that left to the waiter that was called.
    baton: Option<Progress>,
    /// The user was forgotten since it began.
    is_forgotten: bool,
}

/// What becomes of a flight that its leader left.
pub(super) enum Next {
    /// This one leads from now on: unpark it.
    Called(Thread),
    /// None of those who wait has time enough: they were given the failure. Unpark them.
    Landed(Progress, Vec<Thread>),
    /// Nobody waits.
    Over(Progress),
}

impl Flights {
    /// Joins the flight of this user, if there is one.
    pub(super) fn join(
        &mut self,
        user: &[u8],
        deadline: Instant,
    ) -> Option<(Arc<Flight>, Arc<Ticket>)> {
        let in_flight = self.0.get_mut(user)?;
        let ticket =
            Arc::new(Ticket { thread: sync::current(), deadline, called: AtomicBool::new(false) });
        in_flight.waiting.push(Arc::clone(&ticket));
        Some((Arc::clone(&in_flight.flight), ticket))
    }

    /// Begins one, for a user that has none.
    pub(super) fn begin(&mut self, user: &[u8]) {
        self.0.insert(user.into(), InFlight::default());
    }

    /// Whether an exchange for this user is under way.
    pub(super) fn is_under_way(&self, user: &[u8]) -> bool {
        self.0.contains_key(user)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the flight of this user brings, if there is one, may be older than now.
    pub(super) fn forget(&mut self, user: &[u8]) {
        if let Some(in_flight) = self.0.get_mut(user) {
            in_flight.is_forgotten = true;
        }
    }

    pub(super) fn forget_all(&mut self) {
        self.0.values_mut().for_each(|in_flight| in_flight.is_forgotten = true);
    }

    /// Whether what a flight brings may be kept.
    pub(super) fn may_keep(&self, user: &[u8]) -> bool {
        self.0.get(user).is_some_and(|in_flight| !in_flight.is_forgotten)
    }

    /// Ends one. Whoever waits finds `landed`: unpark them.
    pub(super) fn land(&mut self, user: &[u8], landed: Landed) -> Vec<Thread> {
        let Some(in_flight) = self.0.remove(user) else {
            return Vec::new();
        };
        let _ = in_flight.flight.0.set(landed);
        in_flight.waiting.iter().map(|ticket| ticket.thread.clone()).collect()
    }

    /// Its leader leaves. Of those who wait the one with the most time leads on.
    pub(super) fn pass_on(&mut self, user: &[u8], progress: Progress) -> Next {
        let Some(in_flight) = self.0.get_mut(user) else {
            return Next::Over(progress);
        };
        let latest = in_flight
            .waiting
            .iter()
            .enumerate()
            .max_by_key(|(_, ticket)| ticket.deadline)
            .map(|(at, _)| at);
        let Some(at) = latest else {
            self.0.remove(user);
            return Next::Over(progress);
        };
        let heir = in_flight.waiting.swap_remove(at);
        if let Some(failure) = progress.stands_at(heir.deadline) {
            let landed = Err(failure.clone());
            let mut threads = self.land(user, landed);
            threads.push(heir.thread.clone());
            return Next::Landed(progress, threads);
        }
        in_flight.baton = Some(progress);
        heir.called.store(true, Ordering::Release);
        Next::Called(heir.thread.clone())
    }

    /// What the leader before has done, for the one who was called.
    pub(super) fn take_baton(&mut self, user: &[u8]) -> Progress {
        self.0.get_mut(user).and_then(|in_flight| in_flight.baton.take()).unwrap_or_default()
    }

    /// One who waits goes. If it was called, the flight must be passed on.
    pub(super) fn leave(&mut self, user: &[u8], ticket: &Arc<Ticket>) {
        if let Some(in_flight) = self.0.get_mut(user) {
            in_flight.waiting.retain(|other| !Arc::ptr_eq(other, ticket));
        }
    }
}
