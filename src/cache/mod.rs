//! The cache: tokens by user, each until it expires, and single flight for the tokens it does not hold.
//!
//! It knows users, tokens and time; of the network it knows only that a
//! [`Fetcher`](crate::exchange::Fetcher) makes exchanges. It belongs to one process: a child of a fork
//! [inherits](Cache::inherit) it.
//!
//! | file | holds |
//! |---|---|
//! | `entry.rs` | one user's token |
//! | `table.rs` | from a user to an entry, read without a lock |
//! | `queues.rs` | eviction: S3-FIFO |
//! | `bounds.rs` | the limits on entries and bytes, and what is used |
//! | `shard.rs` | a part of the users, and the lock over their state |
//! | `fetch.rs`, `flights.rs` | single flight: its protocol; the flights under way and their waiters |
//! | `renewal.rs` | a new token before the old one expires |
//! | `sync.rs` | the primitives of `flights.rs`, which loom replaces |
//! | `rejections.rs`, `breaker.rs` | when not to send: a rejected token, a wrong key |
//! | `counters.rs`, `clock.rs` | statistics; the time |
//!
//! docs/ARCHITECTURE.md says why no cache crate is used.

mod bounds;
mod breaker;
mod clock;
mod counters;
mod entry;
mod fetch;
mod flights;
mod queues;
mod rejections;
mod renewal;
mod shard;
mod started;
mod sync;
mod table;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::config::CacheLimits;
use crate::fork::Inherit;
use crate::token::{self, AccessToken, TokenResponse};
use crate::user_id::UserId;
use bounds::Bounds;
use breaker::Breaker;
use clock::Clock;
pub(crate) use clock::Monotonic;
use counters::Counters;
pub use counters::Stats;
pub(crate) use entry::Entry;
use entry::{Key, Stage, Times, whole_ms};
pub(crate) use flights::{Fetched, FlightResult, Follower, WaiterId};
use shard::{Locked, Reservation, Shard};
pub(crate) use started::{Start, Step};
pub(crate) use table::Found;

/// Fewer entries per shard make eviction choose poorly.
const ENTRIES_PER_SHARD: u64 = 128;
/// No entry takes less.
const ENTRY_BYTES_MIN: u64 = 256;
const SHARDS_MAX: u64 = 64;
/// How many reports of rejected tokens are remembered in all.
const REPORTS_MAX: usize = 4096;

/// The cache of one client in one process.
pub(crate) struct Cache<C: Clock = Monotonic> {
    clock: C,
    /// Keyed anew for each client: nobody can choose users that collide.
    users: RandomState,
    tokens: RandomState,
    ttl: Option<Duration>,
    /// Each alone, because a child takes them over one by one.
    shards: Box<[Arc<Shard>]>,
    bounds: Bounds,
    breaker: Breaker,
    counters: Counters,
    forks: u64,
}

impl<C: Clock> Cache<C> {
    pub(crate) fn new(limits: CacheLimits, clock: C) -> Self {
        let entries = limits.entries.min(limits.bytes / ENTRY_BYTES_MIN);
        let shards =
            (entries / ENTRIES_PER_SHARD).clamp(1, SHARDS_MAX).next_power_of_two() as usize;
        Self {
            clock,
            users: RandomState::new(),
            tokens: RandomState::new(),
            ttl: limits.ttl,
            shards: (0..shards).map(|_| Arc::new(Shard::new(REPORTS_MAX / shards))).collect(),
            bounds: Bounds::new(limits.entries, limits.bytes),
            breaker: Breaker::new(),
            counters: Counters::default(),
            forks: 0,
        }
    }

    /// The cache of a child: its parent's tokens, in the same memory; no flights, no reports, and
    /// counters at zero. Waits for no lock of the parent. `forks` is the number of forks since the
    /// process that made the client.
    pub(crate) fn inherit(&self, clock: C, forks: u64) -> Self {
        let reports = REPORTS_MAX / self.shards.len();
        let shards: Box<[_]> =
            self.shards.iter().map(|shard| shard.inherit(forks, reports)).collect();
        Self {
            clock,
            users: self.users.clone(),
            tokens: self.tokens.clone(),
            ttl: self.ttl,
            bounds: self.bounds.of_a_child(shards.iter().map(|shard| shard.holds())),
            shards,
            breaker: Breaker::new(),
            counters: Counters::default(),
            forks,
        }
    }

    /// The live token of `user`, unless it is due for renewal: a caller that looks here first goes on to
    /// [`Cache::get`], and renews it. A hit takes no lock and no system call; only a thread's first hit
    /// allocates. A miss takes a lock for a few instructions.
    #[inline]
    pub(crate) fn peek(&self, user: UserId<'_>) -> Option<Found> {
        match self.look(user) {
            Lookup::Live(found) => {
                self.counters.hit();
                Some(found)
            }
            Lookup::Due(_) | Lookup::Missing => None,
        }
    }

    /// The same for a call that can fetch.
    #[inline]
    pub(crate) fn get(&self, user: UserId<'_>) -> Lookup {
        let found = self.look(user);
        match found {
            Lookup::Live(_) => self.counters.hit(),
            Lookup::Due(_) => {} // a hit or a miss, by what the call does then
            Lookup::Missing => self.counters.misses.add(1),
        }
        found
    }

    /// Records that the service refused `rejected`, and drops the entry if it holds that token.
    pub(crate) fn invalidate(&self, user: UserId<'_>, rejected: &[u8]) {
        let key = self.key(user);
        let now = self.clock.now();
        let mut shard = self.lock(key);
        let held = shard.find(key);
        match &held {
            Some(entry) if !bool::from(entry.token().as_bytes().ct_eq(rejected)) => return,
            Some(entry) => {
                entry.revoke();
                shard.remove(entry);
                self.counters.invalidations.add(1);
            }
            None => {}
        }
        let token = self.tokens.hash_one(rejected);
        shard.state.rejections.report(key.hash, token, held.is_some(), now);
    }

    /// Drops the entry of `user`. A flight under way brings its token to its waiters only.
    pub(crate) fn forget(&self, user: UserId<'_>) {
        let key = self.key(user);
        let mut shard = self.lock(key);
        shard.state.flights.forget(key.user);
        if let Some(entry) = shard.find(key) {
            entry.revoke();
            shard.remove(&entry);
        }
    }

    /// Drops all entries; of flights as [`Cache::forget`].
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let cleared = shard.lock(&self.bounds).clear();
            drop(cleared);
        }
    }

    /// The signatures that were refused so far were made with another key.
    pub(crate) fn forget_refusals(&self) {
        self.breaker.note_success();
    }

    pub(crate) fn stats(&self) -> Stats {
        let counters = &self.counters;
        Stats {
            // Of each sum the lesser side is read first, and counted last: so they hold while other
            // threads go on.
            failures: counters.failures.get(),
            requests: counters.requests.get(),
            retries: counters.retries.get(),
            coalesced: counters.coalesced.get(),
            exchanges: counters.exchanges.get(),
            store_hits: counters.store_hits.get(),
            misses: counters.misses.get(),
            hits: counters.hits(),
            invalidations: counters.invalidations.get(),
            evictions: counters.evictions.get(),
            entries: self.bounds.entries(),
            bytes: self.bounds.bytes(),
            forks: self.forks,
            ..Stats::default()
        }
    }

    #[inline]
    fn key<'a>(&self, user: UserId<'a>) -> Key<'a> {
        let user = user.as_bytes();
        // Without the length before it, which `hash_one` adds: nothing follows the user.
        let mut hasher = self.users.build_hasher();
        hasher.write(user);
        Key { hash: hasher.finish(), user }
    }

    #[inline]
    fn home(&self, key: Key<'_>) -> usize {
        // Not the bits by which a table is entered.
        (key.hash >> 48) as usize & (self.shards.len() - 1)
    }

    #[inline]
    #[allow(clippy::indexing_slicing)] // `home` is below the number of shards, a power of two
    fn shard(&self, key: Key<'_>) -> &Shard {
        &self.shards[self.home(key)]
    }

    fn lock(&self, key: Key<'_>) -> Locked<'_> {
        self.shard(key).lock(&self.bounds)
    }

    #[inline]
    fn look(&self, user: UserId<'_>) -> Lookup {
        let key = self.key(user);
        match self.look_without_lock(key) {
            Lookup::Missing => self.look_under_lock(key),
            found => found,
        }
    }

    /// An entry that is being moved can be overlooked.
    #[inline]
    fn look_without_lock(&self, key: Key<'_>) -> Lookup {
        let Some(found) = self.shard(key).find(key) else {
            return Lookup::Missing;
        };
        let Some(entry) = found.entry() else {
            return Lookup::Missing;
        };
        entry.increment_frequency();
        match entry.stage(&self.clock) {
            Stage::Live => Lookup::Live(found),
            Stage::Due => Lookup::Due(found),
            Stage::Expired => Lookup::Missing,
        }
    }

    #[cold]
    fn look_under_lock(&self, key: Key<'_>) -> Lookup {
        match self.live(&mut self.lock(key), key) {
            None => Lookup::Missing,
            Some((entry, Stage::Due)) => Lookup::Due(entry.into()),
            Some((entry, _)) => Lookup::Live(entry.into()),
        }
    }

    /// The entry of `key`; one that has ended is dropped.
    fn live(&self, shard: &mut Locked<'_>, key: Key<'_>) -> Option<(Arc<Entry>, Stage)> {
        let entry = shard.find(key)?;
        let stage = entry.stage(&self.clock);
        if stage == Stage::Expired {
            shard.remove(&entry);
            return None;
        }
        entry.increment_frequency();
        Some((entry, stage))
    }

    /// Room for the entry of a token that came now; `None` if it is not kept.
    fn reserve(
        &self,
        key: Key<'_>,
        response: &TokenResponse,
        now: Instant,
    ) -> Option<Reservation<'_>> {
        let times = self.times(response.lifetime, now)?;
        let weight = entry::weight(key.user.len(), response.token.as_bytes().len());
        self.make_room(key, weight).then(|| Reservation { bounds: &self.bounds, weight, times })
    }

    /// Reserves room for an entry, and evicts others for it: of its own shard as long as there are
    /// any, then of those that follow.
    fn make_room(&self, key: Key<'_>, weight: usize) -> bool {
        if !self.bounds.allow(weight) {
            return false;
        }
        let home = self.home(key);
        let (before, from) = self.shards.split_at_checked(home).unwrap_or_default();
        for shard in from.iter().chain(before) {
            loop {
                if self.bounds.reserve(weight) {
                    return true;
                }
                let mut shard = shard.lock(&self.bounds);
                // The one that this takes the place of goes first, and is none that was evicted.
                if let Some(old) = shard.find(key) {
                    shard.remove(&old);
                    continue;
                }
                if !shard.evict() {
                    break;
                }
                self.counters.evictions.add(1);
            }
        }
        // What is left is being put in by other threads.
        false
    }

    /// The times of a token that came now; `None`: it is not kept at all.
    fn times(&self, lifetime: Option<Duration>, now: Instant) -> Option<Times> {
        if lifetime == Some(Duration::ZERO) {
            return None;
        }
        let Some(renew_after) = token::term(lifetime, self.ttl) else {
            return Some(Times::NEVER);
        };
        Some(Times {
            // What is beyond the clock's range never comes.
            renew_at: now.checked_add(renew_after),
            // Without an end of its own, at twice the age of renewal.
            expires_after: whole_ms(
                lifetime.map_or(renew_after, |lifetime| lifetime - renew_after),
            ),
        })
    }
}

/// What the cache holds for a call that can have a token made.
pub(crate) enum Lookup {
    Live(Found),
    /// Still live, and due for renewal.
    Due(Found),
    Missing,
}

impl Lookup {
    #[inline]
    pub(crate) fn live_token(&self) -> Option<&AccessToken> {
        match self {
            Self::Live(found) => found.token(),
            Self::Due(_) | Self::Missing => None,
        }
    }

    pub(crate) fn into_live(self) -> Result<Arc<Entry>, Self> {
        match self {
            Self::Live(found) => found.into_entry().ok_or(Self::Missing),
            other => Err(other),
        }
    }

    pub(crate) fn into_due(self) -> Option<Arc<Entry>> {
        match self {
            Self::Due(found) => found.into_entry(),
            Self::Live(_) | Self::Missing => None,
        }
    }
}

impl<C: Clock> Inherit for Cache<C> {
    fn abandon(self) {
        self.shards.into_iter().for_each(Shard::abandon);
        self.breaker.abandon();
    }
}

impl Found {
    /// The entry itself, which a call may hold while it waits.
    fn into_entry(self) -> Option<Arc<Entry>> {
        self.entry().cloned()
    }

    /// The token that was found.
    #[inline]
    pub(crate) fn token(&self) -> Option<&AccessToken> {
        self.entry().map(|entry| entry.token())
    }
}

#[cfg(test)]
mod tests;
