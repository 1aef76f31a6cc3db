//! A hash table from users to entries that is read without a lock.
//!
//! Open addressing, linear probing, and removal that closes the gap. A tag beside each slot holds a part
//! of its entry's hash, so that a reader rarely touches another user's entry. One lock, held by the
//! caller, excludes writers from each other. A reader without that lock can overlook an entry that is
//! being moved, but an entry that it finds is the right one, because the whole key is compared. So
//! "found" is reliable without the lock, and "not found" only with it.
//!
//! The cost is on removal, not on reads: a removal asks each thread that has ever read (or as many as
//! there ever were at once) whether it is reading this entry now.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};

use super::entry::{Entry, Key};

/// The tag of an empty slot.
const EMPTY: u32 = 0;
const SLOTS_MIN: usize = 16;
/// Each size has twice as many slots as the one before; the last is larger than any memory.
const SIZES: usize = 32;

/// A table that grows by moving to one of twice the size. The smaller one stays, empty, until all are
/// freed, because a reader may be in it. All retired tables together are as large as the current one.
pub(super) struct GrowingTable {
    tables: [OnceLock<Table>; SIZES],
    current: AtomicUsize,
}

/// Keeps an entry alive, without a write to memory that other threads read.
pub(crate) struct Found(Guard<Option<Arc<Entry>>>);

impl Found {
    #[inline]
    pub(super) fn entry(&self) -> Option<&Arc<Entry>> {
        self.0.as_ref()
    }
}

impl From<Arc<Entry>> for Found {
    fn from(entry: Arc<Entry>) -> Self {
        Self(Guard::from_inner(Some(entry)))
    }
}

impl GrowingTable {
    /// Allocates nothing until the first entry.
    pub(super) fn new() -> Self {
        Self { tables: [const { OnceLock::new() }; SIZES], current: AtomicUsize::new(0) }
    }

    /// The entry of `key`. Without the lock, an entry that is being moved can be overlooked.
    #[inline]
    pub(super) fn find(&self, key: Key<'_>) -> Option<Found> {
        self.table()?.find(key)
    }

    /// All entries; without the lock, all that are not being moved. Writes to no entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = Found> + '_ {
        self.table().into_iter().flat_map(Table::iter)
    }

    pub(super) fn slots(&self) -> usize {
        self.table().map_or(0, Table::slots)
    }

    /// Adds the entry of a user who has none to `count` others. The caller holds the lock, and drops
    /// the result after it: that empties the retired table.
    pub(super) fn put(&self, entry: Arc<Entry>, count: usize) -> Option<Retired<'_>> {
        let table = self.table();
        if let Some(table) = table
            && count < capacity(table.slots())
        {
            table.put(entry);
            return None;
        }
        let entries = table
            .into_iter()
            .flat_map(Table::iter)
            .filter_map(|found| found.entry().cloned())
            .chain([entry])
            .collect();
        let size = self.current.load(Ordering::Relaxed);
        self.publish(table.map_or(size, |_| size + 1), entries);
        table.map(Retired)
    }

    /// Fills an empty table with `entries` of different users. The caller holds the lock.
    pub(super) fn fill(&self, entries: Vec<Arc<Entry>>) {
        let size = (0..SIZES).find(|size| capacity(SLOTS_MIN << size) >= entries.len());
        if let Some(size) = size.filter(|_| !entries.is_empty()) {
            self.publish(size, entries);
        }
    }

    /// Makes another table, complete, and then lets readers into it.
    fn publish(&self, size: usize, entries: Vec<Arc<Entry>>) {
        if let Some(place) = self.tables.get(size) {
            let _ = place.set(Table::of(entries, SLOTS_MIN << size));
            self.current.store(size, Ordering::Release);
        }
    }

    /// Removes an entry. The caller holds the lock.
    pub(super) fn take(&self, key: Key<'_>) {
        if let Some(table) = self.table() {
            table.take(key);
        }
    }

    /// Removes all entries. The caller holds the lock.
    pub(super) fn clear(&self) {
        if let Some(table) = self.table() {
            table.clear();
        }
    }

    #[inline]
    fn table(&self) -> Option<&Table> {
        self.tables.get(self.current.load(Ordering::Acquire))?.get()
    }
}

/// A table that a larger one has replaced, still full.
pub(super) struct Retired<'a>(&'a Table);

impl Drop for Retired<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// How many entries fit into `slots`: three in four.
const fn capacity(slots: usize) -> usize {
    slots / 4 * 3
}

struct Table {
    tags: Box<[AtomicU32]>,
    slots: Box<[ArcSwapOption<Entry>]>,
}

impl Table {
    /// `count` is a power of two, and large enough.
    fn of(entries: Vec<Arc<Entry>>, count: usize) -> Self {
        let mut tags = vec![EMPTY; count];
        let mut slots: Vec<Option<Arc<Entry>>> = vec![None; count];
        for entry in entries {
            let hash = entry.key().hash;
            let mut at = hash as usize & (count - 1);
            while tags.get(at).is_some_and(|tag| *tag != EMPTY) {
                at = (at + 1) & (count - 1);
            }
            if let (Some(tag), Some(slot)) = (tags.get_mut(at), slots.get_mut(at)) {
                (*tag, *slot) = (tag_of(hash), Some(entry));
            }
        }
        Self {
            tags: tags.into_iter().map(AtomicU32::new).collect(),
            slots: slots.into_iter().map(ArcSwapOption::new).collect(),
        }
    }

    fn slots(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    fn find(&self, key: Key<'_>) -> Option<Found> {
        self.locate(key).map(|(_, found)| found)
    }

    #[inline]
    fn locate(&self, key: Key<'_>) -> Option<(usize, Found)> {
        let tag = tag_of(key.hash);
        let mut at = self.home(key.hash);
        for _ in 0..self.tags.len() {
            match self.tags.get(at)?.load(Ordering::Acquire) {
                EMPTY => return None,
                other if other == tag => {
                    let found = Found(self.slots.get(at)?.load());
                    if found.entry().is_some_and(|entry| entry.is_of(key)) {
                        return Some((at, found));
                    }
                }
                _ => {}
            }
            at = self.next(at);
        }
        None
    }

    /// Adds an entry, for which there is room.
    fn put(&self, entry: Arc<Entry>) {
        let hash = entry.key().hash;
        let mut at = self.home(hash);
        while self.tag(at) != EMPTY {
            at = self.next(at);
        }
        self.set(at, tag_of(hash), Some(entry));
    }

    fn take(&self, key: Key<'_>) {
        let Some((mut hole, found)) = self.locate(key) else {
            return;
        };
        drop(found);
        // An entry behind the gap moves up, unless that would put it before its home.
        let mut at = self.next(hole);
        while self.tag(at) != EMPTY {
            let moved = self.slots.get(at).and_then(|slot| slot.load_full());
            if let Some(moved) = moved
                && self.distance(self.home(moved.key().hash), at) >= self.distance(hole, at)
            {
                self.set(hole, self.tag(at), Some(moved));
                hole = at;
            }
            at = self.next(at);
        }
        self.set(hole, EMPTY, None);
    }

    fn clear(&self) {
        for at in 0..self.slots.len() {
            if self.tag(at) != EMPTY {
                self.set(at, EMPTY, None);
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = Found> + '_ {
        self.tags
            .iter()
            .zip(&self.slots)
            .filter(|(tag, _)| tag.load(Ordering::Acquire) != EMPTY)
            .map(|(_, slot)| Found(slot.load()))
            .filter(|found| found.0.is_some())
    }

    fn set(&self, at: usize, tag: u32, entry: Option<Arc<Entry>>) {
        if let (Some(place), Some(slot)) = (self.tags.get(at), self.slots.get(at)) {
            // In this order: a reader that sees the tag sees the entry.
            slot.store(entry);
            place.store(tag, Ordering::Release);
        }
    }

    fn tag(&self, at: usize) -> u32 {
        self.tags.get(at).map_or(EMPTY, |tag| tag.load(Ordering::Relaxed))
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.tags.len() - 1)
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.tags.len() - 1)
    }

    /// The number of steps from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.tags.len() - 1)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let slots = std::mem::take(&mut self.slots).into_vec();
        for (tag, slot) in self.tags.iter().zip(slots) {
            if tag.load(Ordering::Relaxed) == EMPTY {
                // An empty slot owns nothing, and its drop would ask all threads.
                std::mem::forget(slot);
            }
        }
    }
}

/// A part of the hash that the slot's position does not tell; never [`EMPTY`].
#[inline]
pub(super) fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::entry::Times;
    use super::*;
    use crate::token::AccessToken;

    /// Hashes that collide often, in the home, the tag, or both.
    fn hash(number: u8) -> u64 {
        u64::from(number % 5) << 33 | u64::from(number % 3)
    }

    fn key(user: &[u8; 1]) -> Key<'_> {
        Key { hash: hash(user[0]), user }
    }

    fn entry(number: u8) -> Arc<Entry> {
        let token = AccessToken::new(format!("token-{number}").as_bytes()).unwrap();
        Arc::new(Entry::new(key(&[number]), token, Times::NEVER, 0))
    }

    fn found(table: &GrowingTable, number: u8) -> Option<*const Entry> {
        table.find(key(&[number])).as_ref().and_then(Found::entry).map(Arc::as_ptr)
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Put(u8),
        Take(u8),
        Clear,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            12 => (0..40u8).prop_map(Operation::Put),
            8 => (0..40u8).prop_map(Operation::Take),
            1 => Just(Operation::Clear),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(operations in proptest::collection::vec(operation(), 0..300)) {
            let table = GrowingTable::new();
            let mut model: HashMap<u8, Arc<Entry>> = HashMap::new();
            for operation in operations {
                match operation {
                    Operation::Put(number) => {
                        if !model.contains_key(&number) {
                            let entry = entry(number);
                            table.put(Arc::clone(&entry), model.len());
                            model.insert(number, entry);
                        }
                    }
                    Operation::Take(number) => {
                        table.take(key(&[number]));
                        model.remove(&number);
                    }
                    Operation::Clear => {
                        table.clear();
                        model.clear();
                    }
                }
                for number in 0..40 {
                    prop_assert_eq!(found(&table, number), model.get(&number).map(Arc::as_ptr));
                }
                prop_assert_eq!(table.iter().count(), model.len());
            }
            // The table holds no removed entry: a removed token is wiped.
            prop_assert!(model.values().all(|entry| Arc::strong_count(entry) == 2));
        }
    }

    /// Four readers look while one writer moves entries: whatever they find is right, and the entries
    /// that were never removed are there at the end.
    #[test]
    fn readers_see_no_entry_of_another_user() {
        let table = GrowingTable::new();
        (0..10).for_each(|number| drop(table.put(entry(number), number.into())));
        let over = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while over.load(Ordering::Relaxed) == 0 {
                        for number in 0..40 {
                            if let Some(found) = table.find(key(&[number])) {
                                let entry = found.entry().unwrap();
                                let token = format!("token-{number}");
                                assert_eq!(entry.token().as_bytes(), token.as_bytes());
                            }
                        }
                    }
                });
            }
            for round in 0..3000u32 {
                let number = 10 + (round % 30) as u8;
                if found(&table, number).is_none() {
                    table.put(entry(number), 40);
                } else {
                    table.take(key(&[number]));
                }
            }
            over.store(1, Ordering::Relaxed);
        });
        for number in 0..10 {
            assert!(found(&table, number).is_some());
        }
    }
}
