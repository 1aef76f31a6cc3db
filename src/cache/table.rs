//! From a user to an entry: a hash table that is read without a lock.
//!
//! Open addressing, linear probing, and removal that closes the gap. Beside each slot stands a part
//! of its entry's hash, so that a reader touches an entry only where it is very likely the one.
//! Writers exclude each other by a lock of their owner's. Whoever reads meanwhile sees every state
//! in between: an entry that is being moved can be overlooked, but what is found is right, because
//! it is compared whole. So "found" can be trusted without the lock, and "not found" with it.
//!
//! A reader pays nothing for that. Whoever takes an entry out pays: each thread that ever read, or as
//! many as there ever were at once, is asked whether it reads this one now.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};

use super::entry::{Entry, Key};

/// A slot that holds nothing.
const EMPTY: u32 = 0;
const SLOTS_MIN: usize = 16;
/// Twice as many slots each time: more than any memory holds.
const SIZES: usize = 32;

/// A table that grows. It moves to one of twice the size, and leaves the smaller one behind, empty:
/// a reader may be in it, and so it is freed with the last. All that are left behind are together as
/// large as the one in use.
pub(super) struct GrowingTable {
    tables: [OnceLock<Table>; SIZES],
    current: AtomicUsize,
}

/// An entry, held for as long as this lives. Costs no write to memory that others read.
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
    /// Allocates nothing until something is put in.
    pub(super) fn new() -> Self {
        Self { tables: [const { OnceLock::new() }; SIZES], current: AtomicUsize::new(0) }
    }

    /// The entry of `key`. Without the lock it may overlook one that is being moved.
    #[inline]
    pub(super) fn find(&self, key: Key<'_>) -> Option<Found> {
        self.table()?.find(key)
    }

    /// All entries; without the lock, those that are not being moved. Writes to none of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Found> + '_ {
        self.table().into_iter().flat_map(Table::iter)
    }

    pub(super) fn slots(&self) -> usize {
        self.table().map_or(0, Table::slots)
    }

    /// Puts in an entry whose user has none, where `count` are in already. For whoever holds the
    /// lock. What it may leave behind is emptied when the result is dropped: not under the lock.
    pub(super) fn put(&self, entry: Arc<Entry>, count: usize) -> Option<Outgrown<'_>> {
        let table = self.table();
        if let Some(table) = table
            && table.has_room_for(count + 1)
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
        table.map(Outgrown)
    }

    /// Puts in all of `entries`, each of another user, where there are none. For whoever holds the
    /// lock.
    pub(super) fn fill(&self, entries: Vec<Arc<Entry>>) {
        let size = (0..SIZES).find(|size| room(SLOTS_MIN << size) >= entries.len());
        if let Some(size) = size.filter(|_| !entries.is_empty()) {
            self.publish(size, entries);
        }
    }

    /// Another table takes over. It is made as a whole, before anybody reads it.
    fn publish(&self, size: usize, entries: Vec<Arc<Entry>>) {
        if let Some(place) = self.tables.get(size) {
            let _ = place.set(Table::of(entries, SLOTS_MIN << size));
            self.current.store(size, Ordering::Release);
        }
    }

    /// Takes out an entry. For whoever holds the lock.
    pub(super) fn take(&self, key: Key<'_>) {
        if let Some(table) = self.table() {
            table.take(key);
        }
    }

    /// Takes out all. For whoever holds the lock.
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

/// A table that was left behind for a larger one, with what it held.
pub(super) struct Outgrown<'a>(&'a Table);

impl Drop for Outgrown<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// How many entries fit into so many slots: three in four.
const fn room(slots: usize) -> usize {
    slots / 4 * 3
}

struct Table {
    tags: Box<[AtomicU32]>,
    slots: Box<[ArcSwapOption<Entry>]>,
}

impl Table {
    /// `count` is a power of two, and there is room.
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

    /// Whether there is room for `count` entries in all.
    fn has_room_for(&self, count: usize) -> bool {
        count <= room(self.slots.len())
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

    /// Puts in an entry, for which there is room.
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
        // What stands behind moves up, unless it would come before its home.
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
            // A reader that sees the tag sees the entry.
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

    /// How many steps it is from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.tags.len() - 1)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let slots = std::mem::take(&mut self.slots).into_vec();
        for (tag, slot) in self.tags.iter().zip(slots) {
            if tag.load(Ordering::Relaxed) == EMPTY {
                // It owns nothing, and its drop would ask all threads whether they read it.
                std::mem::forget(slot);
            }
        }
    }
}

/// The part of a hash that the home does not show; never [`EMPTY`].
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
        fn as_a_map_does(operations in proptest::collection::vec(operation(), 0..300)) {
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
            // What is not in it is held by nothing of it: a token that was taken out is wiped.
            prop_assert!(model.values().all(|entry| Arc::strong_count(entry) == 2));
        }
    }

    /// Four readers look while one writer moves everything about: what is found is right, and what
    /// nobody takes out is overlooked only now and then.
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
