//! What the cache has done so far.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counters of a client in this process, since the client was made or the process was forked off.
///
/// They add up: `hits + misses` is the number of calls that asked; `coalesced + exchanges <= misses`;
/// `failures <= exchanges`; `requests <= exchanges + retries`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that were answered from the cache, looks with `peek_token` that found one among them.
    pub hits: u64,
    /// Calls that were not, or that renewed a token. A look that found nothing is no miss: it asked for
    /// nothing more.
    pub misses: u64,
    /// Misses that waited for an exchange which another call had begun.
    pub coalesced: u64,
    /// Exchanges that misses began.
    pub exchanges: u64,
    /// Requests that these exchanges sent.
    pub requests: u64,
    /// Requests among them that were not the first of their exchange.
    pub retries: u64,
    /// Exchanges that ended without a token that could be handed out.
    pub failures: u64,
    /// Entries that were dropped because their token was reported as rejected.
    pub invalidations: u64,
    /// Entries that were dropped to make room.
    pub evictions: u64,
    /// Entries that are held now.
    pub entries: u64,
    /// The memory that they take, in bytes, as it counts for the bound.
    pub bytes: u64,
    /// How many forks lie between the process that made the client and this one.
    pub forks: u64,
}

/// More threads than this share a stripe.
const STRIPES: usize = 16;

/// Each in a cache line of its own (two, because processors fetch them in pairs).
#[repr(align(128))]
#[derive(Default)]
struct Stripe(AtomicU64);

#[derive(Default)]
pub(super) struct Counters {
    /// In stripes, because a hit must write to nothing that another thread writes to.
    hits: [Stripe; STRIPES],
    pub(super) misses: Counter,
    pub(super) coalesced: Counter,
    pub(super) exchanges: Counter,
    pub(super) requests: Counter,
    pub(super) retries: Counter,
    pub(super) failures: Counter,
    pub(super) invalidations: Counter,
    pub(super) evictions: Counter,
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Whoever sees it sees what was counted before.
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Release);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Counters {
    #[inline]
    pub(super) fn hit(&self) {
        if let Some(stripe) = self.hits.get(stripe_of_this_thread()) {
            stripe.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

/// Threads are dealt out to the stripes as they come.
#[inline]
fn stripe_of_this_thread() -> usize {
    const UNKNOWN: usize = usize::MAX;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(UNKNOWN) };
    }
    MINE.with(|mine| {
        if mine.get() == UNKNOWN {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        mine.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hit_is_lost() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..1000).for_each(|_| counters.hit()));
            }
        });
        assert_eq!(counters.hits(), 40_000);
    }
}
