//! A cached token of one user: immutable, shared by its readers, wiped with the last reference.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::clock::Clock;
use crate::token::AccessToken;

/// A user id and its hash, which is computed once per call.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) hash: u64,
    pub(super) user: &'a [u8],
}

/// When a token is renewed and when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// From then on, one caller fetches a new token while the others use this one. `None`: never.
    pub(super) renew_at: Option<Instant>,
    /// How long after `renew_at` it expires, in milliseconds: at most 49 days.
    pub(super) expires_after: u32,
}

impl Times {
    pub(super) const NEVER: Self = Self { renew_at: None, expires_after: u32::MAX };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Live,
    /// Live, and due for renewal.
    Due,
    Expired,
}

/// A token and its user.
pub(crate) struct Entry {
    hash: u64,
    user: Box<[u8]>,
    token: AccessToken,
    /// The fields of [`Times`], without its padding.
    renew_at: Option<Instant>,
    expires_after: u32,
    /// No renewal starts until this many milliseconds after `renew_at`.
    renewal_pause: AtomicU32,
    /// Its index in the queues of its shard. Valid under the shard's lock.
    node: u32,
    frequency: AtomicU8,
    is_revoked: AtomicBool,
}

/// What an entry costs beside its three allocations: a queue node of 24 bytes, a table slot of 12 and a
/// ghost of 4, each with the slack of a growing array.
const INDEX_BYTES: usize = 64;
/// Further uses are not counted, so a hit on a hot entry writes no shared memory.
const FREQUENCY_MAX: u8 = 3;

impl Entry {
    pub(super) fn new(key: Key<'_>, token: AccessToken, times: Times, node: u32) -> Self {
        Self {
            hash: key.hash,
            user: key.user.into(),
            token,
            renew_at: times.renew_at,
            expires_after: times.expires_after,
            renewal_pause: AtomicU32::new(0),
            node,
            frequency: AtomicU8::new(0),
            is_revoked: AtomicBool::new(false),
        }
    }

    /// An entry for a token that is returned but not cached.
    pub(super) fn uncached(key: Key<'_>, token: AccessToken) -> Self {
        Self::new(key, token, Times::NEVER, u32::MAX)
    }

    pub(crate) fn token(&self) -> &AccessToken {
        &self.token
    }

    pub(super) fn key(&self) -> Key<'_> {
        Key { hash: self.hash, user: &self.user }
    }

    pub(super) fn times(&self) -> Times {
        Times { renew_at: self.renew_at, expires_after: self.expires_after }
    }

    /// Reads the clock only if the token has a time of renewal.
    #[inline]
    pub(super) fn stage(&self, clock: &impl Clock) -> Stage {
        let Some(renew_at) = self.renew_at else {
            return Stage::Live;
        };
        let now = clock.now();
        if now < renew_at {
            return Stage::Live;
        }
        self.late_stage(whole_ms(now - renew_at))
    }

    #[cold]
    fn late_stage(&self, since: u32) -> Stage {
        if since >= self.expires_after {
            Stage::Expired
        } else if since < self.renewal_pause.load(Ordering::Relaxed) {
            Stage::Live
        } else {
            Stage::Due
        }
    }

    /// Reserves the renewal for this call, for the length of `pause`; false if it is reserved already.
    pub(super) fn claim_renewal(&self, now: Instant, pause: Duration) -> bool {
        let since = self.since_due(now);
        let until = since.saturating_add(whole_ms(pause));
        self.renewal_pause
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                (old <= since).then_some(until)
            })
            .is_ok()
    }

    pub(super) fn pause_renewal(&self, now: Instant, pause: Duration) {
        let until = self.since_due(now).saturating_add(whole_ms(pause));
        self.renewal_pause.store(until, Ordering::Relaxed);
    }

    fn since_due(&self, now: Instant) -> u32 {
        self.renew_at.map_or(0, |at| whole_ms(now.saturating_duration_since(at)))
    }

    /// Marks an entry that was dropped on purpose, not evicted: a call that still holds it must not
    /// return its token.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }

    /// Reliable under the shard's lock.
    pub(super) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Relaxed)
    }

    pub(super) fn node(&self) -> u32 {
        self.node
    }

    #[inline]
    pub(super) fn is_of(&self, key: Key<'_>) -> bool {
        self.hash == key.hash && *self.user == *key.user
    }

    /// Counts a use, for the eviction order.
    #[inline]
    pub(super) fn increment_frequency(&self) {
        let frequency = self.frequency.load(Ordering::Relaxed);
        if frequency < FREQUENCY_MAX {
            // Two threads at once may count as one: it is a hint.
            self.frequency.store(frequency + 1, Ordering::Relaxed);
        }
    }

    /// False if the frequency is zero already.
    pub(super) fn decrement_frequency(&self) -> bool {
        let frequency = self.frequency.load(Ordering::Relaxed);
        self.frequency.store(frequency.saturating_sub(1), Ordering::Relaxed);
        frequency > 0
    }

    /// Its memory in bytes.
    pub(super) fn weight(&self) -> usize {
        weight(self.user.len(), self.token.as_bytes().len())
    }
}

/// The memory of an entry in bytes, rounded like a common allocator does: 8 bytes of overhead for each
/// allocation, in steps of 16, at least 32.
pub(super) fn weight(user_len: usize, token_len: usize) -> usize {
    /// The entry itself, with the two counters of its `Arc`.
    const ENTRY: usize = chunk(size_of::<Entry>() + 2 * size_of::<usize>());
    ENTRY + chunk(user_len) + chunk(token_len) + INDEX_BYTES
}

const fn chunk(size: usize) -> usize {
    let chunk = (size + 8).next_multiple_of(16);
    if chunk < 32 { 32 } else { chunk }
}

/// Saturates.
pub(super) fn whole_ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_usual_token_takes_less_than_400_bytes() {
        assert!(weight(23, 143) <= 360, "{}", weight(23, 143));
    }

    #[test]
    fn chunks_are_rounded_like_the_allocator_does() {
        assert_eq!([0, 1, 24, 25, 40, 41].map(chunk), [32, 32, 32, 48, 48, 64]);
    }
}
