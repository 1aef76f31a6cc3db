//! The counters of the cache.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The counters of a client in this process, since the client was made or the process was forked.
///
/// They add up: `hits + misses` is the number of lookups; `coalesced + exchanges + store_hits <= misses`;
/// `failures <= exchanges`; `requests <= exchanges + retries`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that returned a cached token, including those of `peek_token`.
    pub hits: u64,
    /// Calls that found no token, or that renewed one. `peek_token` counts no misses.
    pub misses: u64,
    /// Misses that waited for an exchange that another call had started.
    pub coalesced: u64,
    /// Exchanges that misses started.
    pub exchanges: u64,
    /// Requests that these exchanges sent.
    pub requests: u64,
    /// Requests that were not the first of their exchange.
    pub retries: u64,
    /// Exchanges that ended without a usable token.
    pub failures: u64,
    /// Entries dropped because their token was reported as rejected.
    pub invalidations: u64,
    /// Entries dropped to make room.
    pub evictions: u64,
    /// Entries in the cache now.
    pub entries: u64,
    /// Their memory in bytes, as it counts for the limit.
    pub bytes: u64,
    /// The number of forks between the process that made the client and this one.
    pub forks: u64,
    /// Started calls that have not ended.
    pub pending: u64,
    /// Misses that took a token from the store.
    pub store_hits: u64,
    /// Exchanges that were made because the store held no token.
    pub store_misses: u64,
    /// Misses that waited for another process' exchange.
    pub store_waits: u64,
    /// Operations of the store that failed.
    pub store_errors: u64,
    /// Exchanges that were made without a look, because the store had failed three times in a row.
    pub store_skipped: u64,
    /// How often the key was changed.
    pub key_changes: u64,
}

/// Up to so many threads count without sharing a stripe.
const STRIPES: usize = 16;

/// Aligned to two cache lines, because processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Stripe(AtomicU64);

#[derive(Default)]
pub(super) struct Counters {
    /// In stripes, so that a hit writes to no memory that another thread writes to.
    hits: [Stripe; STRIPES],
    pub(super) misses: Counter,
    pub(super) coalesced: Counter,
    pub(super) exchanges: Counter,
    pub(super) requests: Counter,
    pub(super) retries: Counter,
    pub(super) failures: Counter,
    pub(super) invalidations: Counter,
    pub(super) evictions: Counter,
    pub(super) store_hits: Counter,
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Release: a reader that sees it sees what was counted before.
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

/// Threads are assigned round robin, at their first hit.
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
