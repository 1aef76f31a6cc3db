//! One user's token as the cache holds it: never changed, shared by all who read it, wiped when the
//! last of them lets go.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::token::AccessToken;

/// A user id and its hash, which is computed once a call.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) hash: u64,
    pub(super) user: &'a [u8],
}

/// The moment that never comes.
pub(super) const NEVER: u64 = u64::MAX;

/// The two moments in the life of a token, in nanoseconds by the cache's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// From here on one caller gets another token, and the others go on with this one. Not after
    /// `ends`: a hit looks at this one alone.
    pub(super) renew_at: u64,
    /// From here on it is not handed out.
    pub(super) ends: u64,
}

impl Times {
    pub(super) const NEVER: Self = Self {
        renew_at: NEVER,
        ends: NEVER,
    };
}

/// A token and its user.
pub(crate) struct Entry {
    hash: u64,
    user: Box<[u8]>,
    token: AccessToken,
    renew_at: AtomicU64,
    ends: u64,
    /// Its place among the entries of its shelf, for whoever holds the shelf's lock.
    node: u32,
    uses: AtomicU8,
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
            renew_at: AtomicU64::new(times.renew_at.min(times.ends)),
            ends: times.ends,
            node,
            uses: AtomicU8::new(0),
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
        Key {
            hash: self.hash,
            user: &self.user,
        }
    }

    pub(super) fn times(&self) -> Times {
        Times {
            renew_at: self.renew_at(),
            ends: self.ends,
        }
    }

    pub(super) fn ends(&self) -> u64 {
        self.ends
    }

    #[inline]
    pub(super) fn renew_at(&self) -> u64 {
        self.renew_at.load(Ordering::Relaxed)
    }

    /// Makes this call the one that renews; false if another is. Until `next` nobody else does.
    pub(super) fn claim_renewal(&self, now: u64, next: u64) -> bool {
        let renew_at = self.renew_at();
        renew_at <= now
            && self
                .renew_at
                .compare_exchange(
                    renew_at,
                    next.min(self.ends),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    pub(super) fn postpone_renewal(&self, next: u64) {
        self.renew_at.store(next.min(self.ends), Ordering::Relaxed);
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
