//! A part of the cache: the users whose hashes select it, under one lock.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bounds::Bounds;
use super::entry::{Entry, Key, Times};
use super::flights::Flights;
use super::queues::Queues;
use super::rejections::Rejections;
use super::table::{Found, GrowingTable, Retired};
use crate::fork::try_lock;
use crate::random::Keyed;
use crate::token::AccessToken;

pub(super) struct Shard {
    /// Read without the lock.
    table: GrowingTable,
    state: Mutex<ShardState>,
}

/// The part of a shard that its lock protects.
pub(super) struct ShardState {
    queues: Queues,
    /// The memory of the entries.
    bytes: u64,
    pub(super) flights: Flights,
    pub(super) rejections: Rejections,
    /// The process that uses the shard, by its number of forks.
    owner: u64,
}

/// Room for one entry within the bounds. Released on drop, unless an entry takes it.
pub(super) struct Reservation<'a> {
    pub(super) bounds: &'a Bounds,
    pub(super) weight: usize,
    pub(super) times: Times,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.bounds.release(self.weight);
    }
}

/// A shard, locked.
pub(super) struct Locked<'a> {
    table: &'a GrowingTable,
    bounds: &'a Bounds,
    pub(super) state: MutexGuard<'a, ShardState>,
}

impl Shard {
    pub(super) fn new(reports_max: usize) -> Self {
        Self {
            table: GrowingTable::new(),
            state: Mutex::new(ShardState {
                queues: Queues::new(),
                bytes: 0,
                flights: Flights::default(),
                rejections: Rejections::new(reports_max),
                owner: 0,
            }),
        }
    }

    /// The shard for the forked child `owner`: this one, so the tokens share their memory with the parent.
    /// If a thread of the parent held the lock at the fork: a copy of what can be read without it.
    pub(super) fn inherit(self: &Arc<Self>, owner: u64, reports_max: usize) -> Arc<Self> {
        match try_lock(&self.state) {
            Some(mut state) => {
                if state.owner != owner {
                    state.owner = owner;
                    state.flights = Flights::default();
                    state.rejections = Rejections::new(reports_max);
                }
                Arc::clone(self)
            }
            None => Arc::new(self.copy(owner, reports_max)),
        }
    }

    fn copy(&self, owner: u64, reports_max: usize) -> Self {
        let mut copy = Self::new(reports_max);
        let state = copy.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.owner = owner;
        let mut seen: HashSet<Box<[u8]>, Keyed> = HashSet::default();
        let entries = self.table.iter().filter_map(|found| {
            let entry = found.entry()?;
            // An entry that was being moved is in two slots.
            if !seen.insert(entry.key().user.into()) {
                return None;
            }
            state.bytes += entry.weight() as u64;
            // A new entry: `node` of the original belongs to the queues of the original.
            let (token, times) = (entry.token().clone(), entry.times());
            let make = |node| Entry::new(entry.key(), token, times, node);
            Some(state.queues.add(entry.key().hash, make))
        });
        copy.table.fill(entries.collect());
        copy
    }

    /// The number of its entries, and their bytes.
    pub(super) fn holds(&self) -> (u64, u64) {
        let state = self.state();
        (state.queues.len() as u64, state.bytes)
    }

    /// Drops a shard of the parent in a forked child; leaks it if a thread of the parent held its lock.
    pub(super) fn abandon(self: Arc<Self>) {
        // Not the last if the child's cache uses the same shard.
        let is_last = Arc::strong_count(&self) == 1;
        if is_last && try_lock(&self.state).is_none() {
            std::mem::forget(self);
        }
    }

    /// Takes no lock, and may miss an entry that is being moved.
    #[inline]
    pub(super) fn find(&self, key: Key<'_>) -> Option<Found> {
        self.table.find(key)
    }

    /// The lock is held for a few instructions, never across I/O. When the table grows, it is held while a
    /// pointer per entry is copied.
    pub(super) fn lock<'a>(&'a self, bounds: &'a Bounds) -> Locked<'a> {
        Locked { table: &self.table, bounds, state: self.state() }
    }

    fn state(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Locked<'a> {
    pub(super) fn find(&self, key: Key<'_>) -> Option<Arc<Entry>> {
        let found = self.table.find(key)?;
        found.entry().map(Arc::clone)
    }

    /// An entry for `token`: in the table if it has a reservation, else only for the caller. Drop the second
    /// part of the result after unlocking.
    pub(super) fn add(
        &mut self,
        key: Key<'_>,
        token: AccessToken,
        place: Option<Reservation<'_>>,
    ) -> (Arc<Entry>, Option<Retired<'a>>) {
        match place {
            None => (Arc::new(Entry::uncached(key, token)), None),
            Some(place) => {
                let times = place.times;
                std::mem::forget(place); // the entry's removal releases it
                self.put(key, token, times)
            }
        }
    }

    /// Adds an entry for which room was reserved, and removes the user's older one.
    fn put(
        &mut self,
        key: Key<'_>,
        token: AccessToken,
        times: Times,
    ) -> (Arc<Entry>, Option<Retired<'a>>) {
        if let Some(old) = self.find(key) {
            self.remove(&old);
        }
        let count = self.state.queues.len();
        let entry = self.state.queues.add(key.hash, |node| Entry::new(key, token, times, node));
        self.state.bytes += entry.weight() as u64;
        let retired = self.table.put(Arc::clone(&entry), count);
        (entry, retired)
    }

    /// As if a thread had stopped while it moved the entry.
    #[cfg(test)]
    pub(super) fn put_again(&self, entry: Arc<Entry>) {
        self.table.put(entry, 0);
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        self.table.take(entry.key());
        self.state.queues.remove(entry);
        self.release(entry);
    }

    /// Removes the next entry to evict; false if there is none.
    pub(super) fn evict(&mut self) -> bool {
        let slots = self.table.slots();
        let Some(entry) = self.state.queues.evict(slots) else {
            return false;
        };
        self.table.take(entry.key());
        self.release(&entry);
        true
    }

    fn release(&mut self, entry: &Entry) {
        self.state.bytes -= entry.weight() as u64;
        self.bounds.release(entry.weight());
    }

    /// Removes all entries. Wiping them takes a while: drop the result after unlocking.
    pub(super) fn clear(&mut self) -> Queues {
        let queues = std::mem::replace(&mut self.state.queues, Queues::new());
        for entry in queues.iter() {
            entry.revoke();
            self.release(entry);
        }
        self.table.clear();
        self.state.flights.forget_all();
        queues
    }
}
