//! A part of the cache: the users whose hashes fall into it, under one lock.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::bounds::Bounds;
use super::entry::{Entry, Key};
use super::flights::Flights;
use super::queues::Queues;
use super::rejections::Rejections;
use super::table::{Found, GrowingTable, Outgrown};
use crate::random::Keyed;
use crate::token::AccessToken;

pub(super) struct Shard {
    /// What is read without the lock, by this process and by its children.
    shelf: Arc<Shelf>,
    /// The shelves of the processes before, the latest first: a child takes over what they held when
    /// it was forked off. They are only read, and not all of the way that led to their state is
    /// known: the child does not have the threads that were at it.
    before: Vec<Arc<Shelf>>,
    room: Mutex<Room>,
}

struct Shelf {
    table: GrowingTable,
    /// Everything that was taken over is in it.
    is_complete: AtomicBool,
}

/// What only one thread at a time may see.
pub(super) struct Room {
    queues: Queues,
    pub(super) flights: Flights,
    pub(super) rejections: Rejections,
}

/// A shard, locked.
pub(super) struct Locked<'a> {
    shelf: &'a Shelf,
    bounds: &'a Bounds,
    pub(super) room: MutexGuard<'a, Room>,
}

impl Shelf {
    fn new(is_complete: bool) -> Self {
        Self {
            table: GrowingTable::new(),
            is_complete: AtomicBool::new(is_complete),
        }
    }
}

impl Shard {
    pub(super) fn new(reports_max: usize) -> Self {
        Self::with(Shelf::new(true), Vec::new(), reports_max)
    }

    /// For a child: what was held, and nothing of what was going on.
    pub(super) fn inherit(&self, reports_max: usize) -> Self {
        let mut before = vec![Arc::clone(&self.shelf)];
        if !self.shelf.is_complete.load(Ordering::Acquire) {
            before.extend(self.before.iter().map(Arc::clone));
        }
        Self::with(Shelf::new(false), before, reports_max)
    }

    fn with(shelf: Shelf, before: Vec<Arc<Shelf>>, reports_max: usize) -> Self {
        Self {
            shelf: Arc::new(shelf),
            before,
            room: Mutex::new(Room {
                queues: Queues::new(),
                flights: Flights::default(),
                rejections: Rejections::new(reports_max),
            }),
        }
    }

    /// Without a lock. What is found is right; what is not may still be there.
    #[inline]
    pub(super) fn find(&self, key: Key<'_>) -> Option<Found> {
        self.shelf.table.find(key)
    }

    /// Held for a few instructions, never across I/O; while a table grows, for as long as it takes
    /// to copy a pointer for each entry; in a child for the first time, a token for each.
    pub(super) fn lock<'a>(&'a self, bounds: &'a Bounds) -> Locked<'a> {
        let mut locked = Locked {
            shelf: &self.shelf,
            bounds,
            room: self.room.lock().unwrap_or_else(PoisonError::into_inner),
        };
        if !self.shelf.is_complete.load(Ordering::Acquire) {
            locked.take_over(&self.before);
        }
        locked
    }
}

impl<'a> Locked<'a> {
    pub(super) fn find(&self, key: Key<'_>) -> Option<Arc<Entry>> {
        let found = self.shelf.table.find(key)?;
        found.entry().map(Arc::clone)
    }

    /// Puts in an entry for which room was reserved, in the place of any that is there. Drop the
    /// second part of the result when the lock is open again.
    pub(super) fn put(
        &mut self,
        key: Key<'_>,
        token: AccessToken,
        ends: Option<Instant>,
    ) -> (Arc<Entry>, Option<Outgrown<'a>>) {
        if let Some(old) = self.find(key) {
            self.remove(&old);
        }
        let count = self.room.queues.len();
        let entry = self
            .room
            .queues
            .add(key.hash, |node| Entry::new(key, token, ends, node));
        let outgrown = self.shelf.table.put(Arc::clone(&entry), count);
        (entry, outgrown)
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        self.shelf.table.take(entry.key());
        self.room.queues.remove(entry);
        self.bounds.release(entry.weight());
    }

    /// Takes out the entry that is worth least; false if there is none.
    pub(super) fn evict(&mut self) -> bool {
        let slots = self.shelf.table.slots();
        let Some(entry) = self.room.queues.evict(slots) else {
            return false;
        };
        self.shelf.table.take(entry.key());
        self.bounds.release(entry.weight());
        true
    }

    /// Takes out all. To wipe them takes a while: drop the result when the lock is open again.
    pub(super) fn clear(&mut self) -> Queues {
        let queues = std::mem::replace(&mut self.room.queues, Queues::new());
        queues
            .iter()
            .for_each(|entry| self.bounds.release(entry.weight()));
        self.shelf.table.clear();
        self.room.flights.forget_all();
        queues
    }

    fn take_over(&mut self, before: &[Arc<Shelf>]) {
        let mut seen: HashSet<Box<[u8]>, Keyed> = HashSet::default();
        let mut taken = Vec::new();
        for shelf in before {
            for found in shelf.table.iter() {
                let Some(entry) = found.entry() else { continue };
                let key = entry.key();
                // The latest holds.
                if !seen.insert(Box::from(key.user)) || !self.bounds.reserve(entry.weight()) {
                    continue;
                }
                // A copy of each: to count one more reader would write to memory that is still
                // shared with the parent.
                let (token, ends) = (entry.token().clone(), entry.ends());
                let queues = &mut self.room.queues;
                taken.push(queues.add(key.hash, |node| Entry::new(key, token, ends, node)));
            }
            if shelf.is_complete.load(Ordering::Acquire) {
                break;
            }
        }
        self.shelf.table.fill(taken);
        self.shelf.is_complete.store(true, Ordering::Release);
    }
}
