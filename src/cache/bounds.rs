//! The limits of the whole cache, and how much of them is used.

use std::sync::atomic::{AtomicU64, Ordering};

/// Room is reserved before an entry is added and released after it was removed, so the limits hold at
/// every moment.
pub(super) struct Bounds {
    entries_max: u64,
    bytes_max: u64,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Bounds {
    pub(super) fn new(entries_max: u64, bytes_max: u64) -> Self {
        Self { entries_max, bytes_max, entries: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// The bounds of a forked child, with the entries and bytes of each inherited shard. A reservation
    /// that a thread of the parent held at the fork is in no shard, and so it is free again.
    pub(super) fn of_a_child(&self, shards: impl Iterator<Item = (u64, u64)>) -> Self {
        let (entries, bytes) = shards.fold((0, 0), |sum, shard| (sum.0 + shard.0, sum.1 + shard.1));
        Self {
            entries: AtomicU64::new(entries),
            bytes: AtomicU64::new(bytes),
            ..Self::new(self.entries_max, self.bytes_max)
        }
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether an entry fits into an empty cache.
    pub(super) fn allow(&self, weight: usize) -> bool {
        self.entries_max > 0 && weight as u64 <= self.bytes_max
    }

    /// Reserves room for one entry; false if there is none.
    pub(super) fn reserve(&self, weight: usize) -> bool {
        if !add_within(&self.entries, 1, self.entries_max) {
            return false;
        }
        let fits = add_within(&self.bytes, weight as u64, self.bytes_max);
        if !fits {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }

    pub(super) fn release(&self, weight: usize) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(weight as u64, Ordering::Relaxed);
    }
}

fn add_within(count: &AtomicU64, more: u64, max: u64) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            now.checked_add(more).filter(|sum| *sum <= max)
        })
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_stay_within_both_limits() {
        let bounds = Bounds::new(2, 100);
        assert!(bounds.reserve(60));
        assert!(!bounds.reserve(41), "too many bytes");
        assert!(bounds.reserve(40));
        assert!(!bounds.reserve(0), "too many entries");
        assert_eq!((bounds.entries(), bounds.bytes()), (2, 100));
        bounds.release(60);
        bounds.release(40);
        assert_eq!((bounds.entries(), bounds.bytes()), (0, 0));
        assert!(bounds.allow(100) && !bounds.allow(101));
        assert!(!Bounds::new(0, 100).allow(1));
        assert!(Bounds::new(1, u64::MAX).reserve(usize::MAX));
    }
}
