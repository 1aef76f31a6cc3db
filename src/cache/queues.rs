//! Which entry goes when there is no room: two queues in the manner of S3-FIFO (Yang and others,
//! SOSP 2023), an approximation of least recently used that a scan does not spoil.
//!
//! A new entry waits in the small queue, a tenth of all. If it is asked for again while it is there
//! it moves to the main queue, else it is evicted and leaves a trace; one that comes back while its
//! trace is there goes to the main queue at once. In the main queue each use buys one more round.
//! So users that are seen once pass through the small queue, and do not touch the main one.

use std::sync::Arc;

use super::entry::Entry;
use super::table::tag_of;

/// The small queue's part of all entries: one in so many.
const SMALL_PART: usize = 10;
/// How many entries one search for a victim moves at the most: its work is bounded.
const MOVES_MAX: usize = 32;

const NONE: u32 = u32::MAX;

/// All entries of a shard in the order in which they came. For whoever holds the shard's lock.
pub(super) struct Queues {
    nodes: Vec<Node>,
    /// The first of the nodes that hold nothing; they are linked by `next`.
    free: u32,
    small: List,
    main: List,
    traces: Traces,
}

struct Node {
    entry: Option<Arc<Entry>>,
    /// Towards the newest.
    previous: u32,
    /// Towards the oldest.
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
            traces: Traces::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.nodes.iter().filter_map(|node| node.entry.as_deref())
    }

    /// Adds the entry that `make` makes of its place.
    pub(super) fn add(&mut self, hash: u64, make: impl FnOnce(u32) -> Entry) -> Arc<Entry> {
        let at = self.free_node();
        let entry = Arc::new(make(at));
        let in_main = self.traces.recall(hash);
        if let Some(node) = self.node(at) {
            node.entry = Some(Arc::clone(&entry));
        }
        self.link(at, in_main);
        entry
    }

    /// Takes an entry out, wherever it is.
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

    /// Takes out the entry that is worth least. `slots` is how many slots its table has.
    pub(super) fn evict(&mut self, slots: usize) -> Option<Arc<Entry>> {
        let at = self.victim();
        let in_small = !self.node(at)?.in_main;
        let entry = self.node(at)?.entry.clone()?;
        if in_small {
            self.traces.leave(entry.key().hash, slots);
        }
        self.remove(&entry);
        Some(entry)
    }

    fn victim(&mut self) -> u32 {
        for _ in 0..MOVES_MAX {
            let at = self.oldest();
            let spent = self
                .node(at)
                .and_then(|node| node.entry.as_ref())
                .is_some_and(|entry| entry.spend_use());
            if !spent {
                return at;
            }
            self.unlink(at);
            self.link(at, true);
        }
        self.oldest()
    }

    /// The one to look at first.
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

    /// Makes a node the newest of a list.
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

/// What was evicted from the small queue lately: a part of each hash, in an array as large as the
/// table. A new trace takes the place of an old one, so that it forgets by itself.
#[derive(Default)]
struct Traces(Vec<u32>);

impl Traces {
    fn leave(&mut self, hash: u64, slots: usize) {
        self.0.resize(slots, 0);
        if let Some(place) = self.place(hash) {
            *place = tag_of(hash);
        }
    }

    /// Whether there is a trace; then it is gone.
    fn recall(&mut self, hash: u64) -> bool {
        let Some(place) = self.place(hash) else {
            return false;
        };
        let recalled = *place == tag_of(hash);
        if recalled {
            *place = 0;
        }
        recalled
    }

    fn place(&mut self, hash: u64) -> Option<&mut u32> {
        let slots = self.0.len();
        self.0.get_mut(hash as usize & slots.wrapping_sub(1))
    }
}
