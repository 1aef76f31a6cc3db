//! One user's token as the cache holds it: never changed, shared by all who read it, wiped when the
//! last of them lets go.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::clock::Clock;
use crate::token::AccessToken;

/// A user id and its hash, which is computed once a call.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) hash: u64,
    pub(super) user: &'a [u8],
}

/// The two moments in the life of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// From here on one caller gets another token, and the others go on with this one. `None`: never.
    pub(super) renew_at: Option<Instant>,
    /// How long after that it is not handed out any more; in milliseconds, so 49 days at the longest.
    pub(super) ends_after: u32,
}

impl Times {
    pub(super) const NEVER: Self = Self { renew_at: None, ends_after: u32::MAX };
}

/// Where a token is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Good,
    /// It is good, and time to get another.
    Due,
    Ended,
}

/// A token and its user.
pub(crate) struct Entry {
    hash: u64,
    user: Box<[u8]>,
    token: AccessToken,
    /// As in [`Times`], without its padding.
    renew_at: Option<Instant>,
    ends_after: u32,
    /// How long after its time of renewal the next one may begin, in milliseconds.
    renewal_pause: AtomicU32,
    /// Its place among the entries of its shard, for whoever holds the shard's lock.
    node: u32,
    uses: AtomicU8,
    is_revoked: AtomicBool,
}

/// What an entry costs beside its three pieces of memory: a node of 24 bytes, a slot of 12 and a
/// trace of 4, each with the room that a growing array leaves.
const INDEX_BYTES: usize = 64;
/// More uses than this count no more. A token that is asked for all the time is then only read:
/// no two threads ever write to the same place for it.
const USES_MAX: u8 = 3;

impl Entry {
    pub(super) fn new(key: Key<'_>, token: AccessToken, times: Times, node: u32) -> Self {
        Self {
            hash: key.hash,
            user: key.user.into(),
            token,
            renew_at: times.renew_at,
            ends_after: times.ends_after,
            renewal_pause: AtomicU32::new(0),
            node,
            uses: AtomicU8::new(0),
            is_revoked: AtomicBool::new(false),
        }
    }

    /// For a token that is handed out and not kept.
    pub(super) fn loose(key: Key<'_>, token: AccessToken) -> Self {
        Self::new(key, token, Times::NEVER, u32::MAX)
    }

    pub(crate) fn token(&self) -> &AccessToken {
        &self.token
    }

    pub(super) fn key(&self) -> Key<'_> {
        Key { hash: self.hash, user: &self.user }
    }

    pub(super) fn times(&self) -> Times {
        Times { renew_at: self.renew_at, ends_after: self.ends_after }
    }

    /// Reads the clock only for a token that is renewed one day.
    #[inline]
    pub(super) fn stage(&self, clock: &impl Clock) -> Stage {
        let Some(renew_at) = self.renew_at else {
            return Stage::Good;
        };
        let now = clock.now();
        if now < renew_at {
            return Stage::Good;
        }
        self.late_stage(whole_ms(now - renew_at))
    }

    #[cold]
    fn late_stage(&self, since: u32) -> Stage {
        if since >= self.ends_after {
            Stage::Ended
        } else if since < self.renewal_pause.load(Ordering::Relaxed) {
            Stage::Good
        } else {
            Stage::Due
        }
    }

    /// Makes this call the one that renews, and no other for so long; false if another is.
    pub(super) fn claim_renewal(&self, now: Instant, pause: Duration) -> bool {
        let since = self.since_due(now);
        let until = self.renewal_pause.load(Ordering::Relaxed);
        until <= since
            && self
                .renewal_pause
                .compare_exchange(
                    until,
                    since.saturating_add(whole_ms(pause)),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    pub(super) fn pause_renewal(&self, now: Instant, pause: Duration) {
        let until = self.since_due(now).saturating_add(whole_ms(pause));
        self.renewal_pause.store(until, Ordering::Relaxed);
    }

    fn since_due(&self, now: Instant) -> u32 {
        self.renew_at.map_or(0, |at| whole_ms(now.saturating_duration_since(at)))
    }

    /// It was dropped on purpose, and not to make room: a call that holds it must not hand it out.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }

    /// For a call that holds the shard's lock.
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

    /// Notes that it was asked for, for whoever looks for one to evict.
    #[inline]
    pub(super) fn note_use(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < USES_MAX {
            // Two at once may count as one: it is a hint.
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Takes one use back; false if there is none.
    pub(super) fn spend_use(&self) -> bool {
        let uses = self.uses.load(Ordering::Relaxed);
        self.uses.store(uses.saturating_sub(1), Ordering::Relaxed);
        uses > 0
    }

    /// The memory that it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        weight(self.user.len(), self.token.as_bytes().len())
    }
}

/// The memory that an entry takes, as an ordinary allocator hands it out: 8 bytes of its own for
/// each piece, in steps of 16, 32 at least.
pub(super) fn weight(user_len: usize, token_len: usize) -> usize {
    /// An entry's own piece, with the two counts of an `Arc`.
    const ENTRY: usize = chunk(size_of::<Entry>() + 2 * size_of::<usize>());
    ENTRY + chunk(user_len) + chunk(token_len) + INDEX_BYTES
}

const fn chunk(size: usize) -> usize {
    let chunk = (size + 8).next_multiple_of(16);
    if chunk < 32 { 32 } else { chunk }
}

/// The most that fits where it does not.
pub(super) fn whole_ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_usual_token_stays_below_400_bytes() {
        assert!(weight(23, 143) <= 360, "{}", weight(23, 143));
    }

    #[test]
    fn chunks_are_those_of_the_allocator() {
        assert_eq!([0, 1, 24, 25, 40, 41].map(chunk), [32, 32, 32, 48, 48, 64]);
    }
}
