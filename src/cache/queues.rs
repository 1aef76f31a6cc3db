//! The eviction order: S3-FIFO (Yang et al., SOSP 2023), a scan-resistant approximation of LRU.
//!
//! A new entry starts in the small queue, a tenth of all entries. If it is used again there, it moves
//! to the main queue; else it is evicted, and its hash goes to the ghost queue. An entry whose hash is
//! in the ghost queue starts in the main queue. In the main queue, each use delays the eviction by one
//! round. One-off users therefore pass through the small queue and do not evict active ones.

use std::sync::Arc;

use super::entry::Entry;
use super::table::tag_of;

/// One in this many entries is in the small queue.
const SMALL_PART: usize = 10;
/// Bounds the work of one eviction.
const MOVES_MAX: usize = 32;

const NONE: u32 = u32::MAX;

/// The entries of a shard in the order of their arrival. Used under the shard's lock.
pub(super) struct Queues {
    nodes: Vec<Node>,
    /// The first free node; the others follow by `next`.
    free: u32,
    small: List,
    main: List,
    ghosts: GhostQueue,
}

struct Node {
    entry: Option<Arc<Entry>>,
    /// Towards the newest entry.
    previous: u32,
    /// Towards the oldest entry.
    next: u32,
    in_main: bool,
}

#[derive(Clone, Copy)]
struct List {
    newest: u32,
    oldest: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self { newest: NONE, oldest: NONE, len: 0 };
}

impl Queues {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            small: List::EMPTY,
            main: List::EMPTY,
            ghosts: GhostQueue::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.nodes.iter().filter_map(|node| node.entry.as_deref())
    }

    /// Adds the entry that `make` builds from the index of its node.
    pub(super) fn add(&mut self, hash: u64, make: impl FnOnce(u32) -> Entry) -> Arc<Entry> {
        let at = self.free_node();
        let entry = Arc::new(make(at));
        let in_main = self.ghosts.remove(hash);
        if let Some(node) = self.node(at) {
            node.entry = Some(Arc::clone(&entry));
        }
        self.link(at, in_main);
        entry
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        let at = entry.node();
        self.unlink(at);
        let free = self.free;
        if let Some(node) = self.node(at) {
            node.entry = None;
            node.next = free;
            self.free = at;
        }
    }

    /// Removes the next entry to evict. `slots` is the number of slots of the table.
    pub(super) fn evict(&mut self, slots: usize) -> Option<Arc<Entry>> {
        let at = self.victim();
        let in_small = !self.node(at)?.in_main;
        let entry = self.node(at)?.entry.clone()?;
        if in_small {
            self.ghosts.insert(entry.key().hash, slots);
        }
        self.remove(&entry);
        Some(entry)
    }

    fn victim(&mut self) -> u32 {
        for _ in 0..MOVES_MAX {
            let at = self.oldest();
            let was_used = self
                .node(at)
                .and_then(|node| node.entry.as_ref())
                .is_some_and(|entry| entry.decrement_frequency());
            if !was_used {
                return at;
            }
            self.unlink(at);
            self.link(at, true);
        }
        self.oldest()
    }

    fn oldest(&self) -> u32 {
        if self.small.len * SMALL_PART >= self.len() || self.main.len == 0 {
            self.small.oldest
        } else {
            self.main.oldest
        }
    }

    fn free_node(&mut self) -> u32 {
        if let Some(node) = self.nodes.get(self.free as usize) {
            let at = self.free;
            self.free = node.next;
            return at;
        }
        let at = self.nodes.len() as u32;
        self.nodes.push(Node { entry: None, previous: NONE, next: NONE, in_main: false });
        at
    }

    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(at as usize)
    }

    fn list(&mut self, in_main: bool) -> &mut List {
        if in_main { &mut self.main } else { &mut self.small }
    }

    /// Makes a node the newest of its list.
    fn link(&mut self, at: u32, in_main: bool) {
        let list = self.list(in_main);
        let second = list.newest;
        list.newest = at;
        list.len += 1;
        if second == NONE {
            list.oldest = at;
        }
        if let Some(node) = self.node(second) {
            node.previous = at;
        }
        if let Some(node) = self.node(at) {
            (node.previous, node.next, node.in_main) = (NONE, second, in_main);
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(node) = self.node(at) else { return };
        let (previous, next, in_main) = (node.previous, node.next, node.in_main);
        if let Some(node) = self.node(previous) {
            node.next = next;
        }
        if let Some(node) = self.node(next) {
            node.previous = previous;
        }
        let list = self.list(in_main);
        list.len -= 1;
        if list.newest == at {
            list.newest = next;
        }
        if list.oldest == at {
            list.oldest = previous;
        }
    }
}

/// The tags of the hashes that were evicted from the small queue lately, in an array as large as the
/// table. New tags overwrite old ones.
#[derive(Default)]
struct GhostQueue(Vec<u32>);

impl GhostQueue {
    fn insert(&mut self, hash: u64, slots: usize) {
        self.0.resize(slots, 0);
        if let Some(slot) = self.slot(hash) {
            *slot = tag_of(hash);
        }
    }

    /// Whether `hash` was in it.
    fn remove(&mut self, hash: u64) -> bool {
        match self.slot(hash) {
            Some(slot) if *slot == tag_of(hash) => {
                *slot = 0;
                true
            }
            _ => false,
        }
    }

    fn slot(&mut self, hash: u64) -> Option<&mut u32> {
        let slots = self.0.len();
        self.0.get_mut(hash as usize & slots.wrapping_sub(1))
    }
}
