//! The exchanges that are under way in one shard, and the calls that wait for them.
//!
//! All of it is kept under the lock of the shard, so that nothing is between "fetched" and "stored": a
//! call finds the flight or the entry.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::entry::Entry;
use super::sync::{self, AtomicBool, OnceLock, Ordering, Thread};
use crate::error::{Error, ErrorKind};
use crate::exchange::Progress;
use crate::random::Keyed;

/// A token, and what was done for it.
#[derive(Clone)]
pub(crate) struct Fetched {
    pub(crate) entry: Arc<Entry>,
    /// How many requests were sent.
    pub(crate) attempts: u32,
    /// Another call made the exchange.
    pub(crate) is_shared: bool,
    /// It is the old token, because its renewal failed so.
    pub(crate) renewal: Option<ErrorKind>,
}

impl Fetched {
    /// A token for which nothing was done.
    pub(crate) fn held(entry: Arc<Entry>) -> Self {
        Self::sent(entry, 0)
    }

    pub(crate) fn sent(entry: Arc<Entry>, attempts: u32) -> Self {
        Self { entry, attempts, is_shared: false, renewal: None }
    }
}

/// The result that all callers of a flight share.
pub(crate) type FlightResult = Result<Fetched, Error>;

/// The result of a leader, for those that waited for it.
pub(super) fn shared(result: &FlightResult) -> FlightResult {
    match result.clone() {
        Ok(fetched) => Ok(Fetched { is_shared: true, ..fetched }),
        Err(error) => Err(error.with_shared()),
    }
}

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
pub(super) struct Flights(HashMap<Box<[u8]>, InFlight, Keyed>);

#[derive(Default)]
struct InFlight {
    /// Made for the first thread that waits.
    flight: Option<Arc<Flight>>,
    /// By deadline: the last has the most time. A waiter leaves without a search.
    waiters: Waiters,
    /// What was done so far, while it has no leader.
    progress: Option<Box<Progress>>,
    /// The user was forgotten since it began.
    is_forgotten: bool,
}

impl InFlight {
    /// Asks the waiter with the most time to lead.
    fn ask_next(&mut self, progress: Progress) -> HandOff {
        match self.waiters.pop_last() {
            None => HandOff::Over(progress),
            Some((_, Waiter::Call(call))) => {
                self.set_leaderless(false);
                HandOff::Call(call, progress)
            }
            Some((id, Waiter::Thread(thread))) => {
                // It waits until it leads.
                self.waiters.insert(id, Waiter::Thread(thread.clone()));
                self.progress = Some(Box::new(progress));
                self.set_leaderless(true);
                HandOff::Thread(thread)
            }
        }
    }

    fn set_leaderless(&self, is_leaderless: bool) {
        if let Some(flight) = &self.flight {
            flight.is_leaderless.store(is_leaderless, Ordering::Release);
        }
    }
}

/// A waiter's deadline, and a number that no other waiter of the process has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(Instant, u64);

impl WaiterId {
    pub(crate) fn new(deadline: Instant) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(deadline, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn deadline(self) -> Instant {
        self.0
    }
}

pub(super) type Waiters = BTreeMap<WaiterId, Waiter>;

/// What waits for a flight: a thread that is parked, or a call that was started.
pub(super) enum Waiter {
    Thread(Thread),
    Call(Arc<dyn Follower>),
}

/// A started call, as the flight sees it.
pub(crate) trait Follower: Send + Sync {
    /// Receives the result. Takes no lock of the cache.
    fn complete(self: Arc<Self>, result: FlightResult);

    /// Becomes the leader, later and elsewhere. Returns `progress` if the call has ended meanwhile. Takes no
    /// lock of the cache.
    fn lead(self: Arc<Self>, progress: Progress) -> Option<Progress>;
}

/// What becomes of a flight that its leader left.
pub(super) enum HandOff {
    /// Unpark this thread: it leads on, or leaves in its turn.
    Thread(Thread),
    /// This call is no waiter any more: it leads on, or returns the progress.
    Call(Arc<dyn Follower>, Progress),
    /// No waiter has time for the next attempt: all of them receive the failure.
    Failed(Progress, Waiters, Error),
    /// Nobody waits, and the flight is over.
    Over(Progress),
}

impl Flights {
    /// This thread joins the flight of this user, if there is one.
    pub(super) fn join(&mut self, user: &[u8], id: WaiterId) -> Option<Arc<Flight>> {
        let in_flight = self.0.get_mut(user)?;
        in_flight.waiters.insert(id, Waiter::Thread(sync::current()));
        Some(Arc::clone(in_flight.flight.get_or_insert_default()))
    }

    /// A started call joins it. `None` if there is no flight.
    pub(super) fn follow(
        &mut self,
        user: &[u8],
        id: WaiterId,
        call: Arc<dyn Follower>,
    ) -> Option<()> {
        self.0.get_mut(user)?.waiters.insert(id, Waiter::Call(call));
        Some(())
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

    /// The token that a flight of this user brings may be older than now.
    pub(super) fn forget(&mut self, user: &[u8]) {
        if let Some(in_flight) = self.0.get_mut(user) {
            in_flight.is_forgotten = true;
        }
    }

    pub(super) fn forget_all(&mut self) {
        self.0.values_mut().for_each(|in_flight| in_flight.is_forgotten = true);
    }

    /// Whether the token that a flight brings may be cached.
    pub(super) fn may_keep(&self, user: &[u8]) -> bool {
        self.0.get(user).is_some_and(|in_flight| !in_flight.is_forgotten)
    }

    /// Ends a flight. Threads that wait find `result`: unpark them. Calls that wait receive it.
    pub(super) fn complete(&mut self, user: &[u8], result: FlightResult) -> Waiters {
        let Some(in_flight) = self.0.remove(user) else {
            return Waiters::new();
        };
        if let Some(flight) = in_flight.flight {
            let _ = flight.result.set(result);
            flight.is_leaderless.store(true, Ordering::Release);
        }
        in_flight.waiters
    }

    /// The leader leaves. The waiter with the most time is asked first. If it has no time for the next
    /// attempt, no other has: the flight ends for all at once, and not by one wake-up after the other.
    pub(super) fn hand_off(&mut self, user: &[u8], progress: Progress) -> HandOff {
        let Some(in_flight) = self.0.get_mut(user) else {
            return HandOff::Over(progress);
        };
        let Some((id, _)) = in_flight.waiters.last_key_value() else {
            self.0.remove(user);
            return HandOff::Over(progress);
        };
        if let Some(failure) = progress.failure_at(id.deadline()).cloned() {
            let waiting = self.complete(user, Err(failure.clone()));
            return HandOff::Failed(progress, waiting, failure);
        }
        in_flight.ask_next(progress)
    }

    /// A waiter leads from now on, if the flight has no leader. Returns what was done so far.
    pub(super) fn lead(&mut self, user: &[u8], waiter: WaiterId) -> Option<Progress> {
        let in_flight = self.0.get_mut(user)?;
        if !in_flight.waiters.contains_key(&waiter) {
            return None;
        }
        let progress = in_flight.progress.take()?;
        in_flight.set_leaderless(false);
        in_flight.waiters.remove(&waiter);
        Some(*progress)
    }

    /// A waiter leaves. It may be the thread that was woken to lead: if the flight has no leader, another
    /// waiter is asked.
    pub(super) fn leave(&mut self, user: &[u8], waiter: WaiterId) -> Option<HandOff> {
        let in_flight = self.0.get_mut(user)?;
        in_flight.waiters.remove(&waiter)?;
        let progress = in_flight.progress.take()?;
        Some(self.hand_off(user, *progress))
    }
}
