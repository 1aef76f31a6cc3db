//! The exchanges that are under way in one shard, and the calls that wait for them.
//!
//! All of it is kept under the lock of the shard, so that nothing is between "fetched" and "stored": a
//! call finds the flight or the entry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::entry::Entry;
use super::sync::{self, AtomicBool, OnceLock, Ordering, Thread};
use crate::error::Error;
use crate::exchange::Progress;
use crate::random::Keyed;

/// A token that an exchange brought, and the number of requests that were sent for it.
#[derive(Clone)]
pub(crate) struct Fetched {
    pub(crate) entry: Arc<Entry>,
    pub(crate) attempts: u32,
}

/// The result that all callers of a flight share.
pub(super) type FlightResult = Result<Fetched, Error>;

/// The part of a flight that waiters read without a lock.
#[derive(Default)]
pub(super) struct Flight {
    result: OnceLock<FlightResult>,
    /// Its leader left, with a result or without. Without, the next waiter to take the lock leads.
    is_leaderless: AtomicBool,
}

impl Flight {
    pub(super) fn result(&self) -> Option<&FlightResult> {
        self.result.get()
    }

    pub(super) fn is_leaderless(&self) -> bool {
        self.is_leaderless.load(Ordering::Acquire)
    }
}

/// The flights of one shard's users.
#[derive(Default)]
pub(super) struct Flights {
    by_user: HashMap<Box<[u8]>, InFlight, Keyed>,
    next_waiter: u64,
}

#[derive(Default)]
struct InFlight {
    flight: Arc<Flight>,
    waiters: Vec<Waiter>,
    /// What was done so far, while it has no leader.
    progress: Option<Progress>,
    /// The user was forgotten since it began.
    is_forgotten: bool,
}

struct Waiter {
    /// Unlike those of all other waiters of the shard.
    id: u64,
    thread: Thread,
    deadline: Instant,
}

/// What becomes of a flight that its leader left.
pub(super) enum HandOff {
    /// Unpark this waiter: it leads on, or leaves in its turn.
    Waiter(Thread),
    /// No waiter has time for the next attempt: all of them find the failure. Unpark them.
    Failed(Progress, Vec<Thread>),
    /// Nobody waits, and the flight is over.
    Over(Progress),
}

impl Flights {
    /// Joins the flight of this user, if there is one. Returns the id of the waiter too.
    pub(super) fn join(&mut self, user: &[u8], deadline: Instant) -> Option<(Arc<Flight>, u64)> {
        let in_flight = self.by_user.get_mut(user)?;
        let id = self.next_waiter;
        self.next_waiter += 1;
        in_flight.waiters.push(Waiter { id, thread: sync::current(), deadline });
        Some((Arc::clone(&in_flight.flight), id))
    }

    /// Begins one, for a user that has none.
    pub(super) fn begin(&mut self, user: &[u8]) {
        self.by_user.insert(user.into(), InFlight::default());
    }

    /// Whether an exchange for this user is under way.
    pub(super) fn is_under_way(&self, user: &[u8]) -> bool {
        self.by_user.contains_key(user)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// The token that a flight of this user brings may be older than now.
    pub(super) fn forget(&mut self, user: &[u8]) {
        if let Some(in_flight) = self.by_user.get_mut(user) {
            in_flight.is_forgotten = true;
        }
    }

    pub(super) fn forget_all(&mut self) {
        self.by_user.values_mut().for_each(|in_flight| in_flight.is_forgotten = true);
    }

    /// Whether the token that a flight brings may be cached.
    pub(super) fn may_keep(&self, user: &[u8]) -> bool {
        self.by_user.get(user).is_some_and(|in_flight| !in_flight.is_forgotten)
    }

    /// Ends a flight. All waiters find `result`: unpark them.
    pub(super) fn complete(&mut self, user: &[u8], result: FlightResult) -> Vec<Thread> {
        let Some(in_flight) = self.by_user.remove(user) else {
            return Vec::new();
        };
        let _ = in_flight.flight.result.set(result);
        in_flight.flight.is_leaderless.store(true, Ordering::Release);
        in_flight.waiters.into_iter().map(|waiter| waiter.thread).collect()
    }

    /// The leader leaves. The waiter with the most time is woken first. If it has no time for the next
    /// attempt, no other has: the flight ends for all at once, and not by one wake-up after the other.
    pub(super) fn hand_off(&mut self, user: &[u8], progress: Progress) -> HandOff {
        let Some(in_flight) = self.by_user.get_mut(user) else {
            return HandOff::Over(progress);
        };
        let Some(next) = in_flight.waiters.iter().max_by_key(|waiter| waiter.deadline) else {
            self.by_user.remove(user);
            return HandOff::Over(progress);
        };
        if let Some(failure) = progress.failure_at(next.deadline) {
            let waiting = self.complete(user, Err(failure.clone()));
            return HandOff::Failed(progress, waiting);
        }
        let thread = next.thread.clone();
        in_flight.progress = Some(progress);
        in_flight.flight.is_leaderless.store(true, Ordering::Release);
        HandOff::Waiter(thread)
    }

    /// A waiter leads from now on, if the flight has no leader. Returns what was done so far.
    pub(super) fn lead(&mut self, user: &[u8], waiter: u64) -> Option<Progress> {
        let in_flight = self.by_user.get_mut(user)?;
        let at = in_flight.waiters.iter().position(|other| other.id == waiter)?;
        let progress = in_flight.progress.take()?;
        in_flight.flight.is_leaderless.store(false, Ordering::Release);
        in_flight.waiters.swap_remove(at);
        Some(progress)
    }

    /// A waiter leaves. It may be the one that was woken to lead: if the flight has no leader, another is
    /// woken.
    pub(super) fn leave(&mut self, user: &[u8], waiter: u64) -> Option<HandOff> {
        let in_flight = self.by_user.get_mut(user)?;
        let at = in_flight.waiters.iter().position(|other| other.id == waiter)?;
        in_flight.waiters.swap_remove(at);
        let progress = in_flight.progress.take()?;
        Some(self.hand_off(user, progress))
    }
}
