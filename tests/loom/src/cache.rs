//! A stand-in for the library's `src/cache/mod.rs`: one user, whose entry is an `Option`. The flights are the
//! library's own files.

use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use loom::sync::{Mutex, MutexGuard};

use crate::context::Context;
use crate::error::Error;
use crate::sync;
use crate::token::{Token, TokenResponse};
pub(crate) use entry::Entry;
use entry::Key;
use flights::Flights;
pub(crate) use flights::{FlightResult, Follower, WaiterId};
pub(crate) use started::{Start, Step};

#[path = "../../../src/cache/fetch.rs"]
#[allow(dead_code)] // for renewals
mod fetch;
#[path = "../../../src/cache/flights.rs"]
#[allow(dead_code)] // for many users
mod flights;
#[path = "../../../src/cache/started.rs"]
#[allow(dead_code)] // for renewals
mod started;

pub(crate) mod entry {
    use super::Token;

    pub(crate) struct Entry(pub(crate) Token);

    #[derive(Clone, Copy)]
    pub(crate) struct Key<'a> {
        pub(crate) hash: u64,
        pub(crate) user: &'a [u8],
    }
}

pub(crate) trait Clock {
    fn now(&self) -> Duration;
}

#[derive(Default)]
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Default)]
pub(crate) struct Cache<C: Clock = Still> {
    clock: C,
    shard: Mutex<ShardState>,
    breaker: Never,
    tokens: BuildHasherDefault<DefaultHasher>,
    pub(crate) counters: Counters,
}

#[derive(Default)]
struct ShardState {
    entry: Option<Arc<Entry>>,
    flights: Flights,
    rejections: Never,
}

struct Locked<'a> {
    state: MutexGuard<'a, ShardState>,
}

impl<C: Clock> Cache<C> {
    fn key<'a>(&self, user: &'a [u8]) -> Key<'a> {
        Key { hash: 0, user }
    }

    fn lock(&self, _: Key<'_>) -> Locked<'_> {
        Locked { state: self.shard.lock().unwrap() }
    }

    fn live(&self, shard: &mut Locked<'_>, _: Key<'_>) -> Option<(Arc<Entry>, ())> {
        shard.state.entry.clone().map(|entry| (entry, ()))
    }

    fn reserve(&self, _: Key<'_>, _: &TokenResponse, _: Duration) -> Option<()> {
        Some(())
    }

    fn claim_renewal(&self, _: Key<'_>, _: &Arc<Entry>, _: &Context) -> bool {
        unreachable!("no model renews a token")
    }

    fn fall_back_on(&self, _: Key<'_>, _: Arc<Entry>, _: Error) -> FlightResult {
        unreachable!("no model renews a token")
    }

    pub(crate) fn forget(&self, user: &[u8]) {
        let mut shard = self.lock(self.key(user));
        shard.state.flights.forget(user);
        shard.state.entry = None;
    }

    pub(crate) fn has_flights(&self) -> bool {
        !self.shard.lock().unwrap().flights.is_empty()
    }
}

impl Locked<'_> {
    fn add(
        &mut self,
        _: Key<'_>,
        token: Token,
        place: Option<()>,
    ) -> (Arc<Entry>, Option<Arc<Entry>>) {
        let entry = Arc::new(Entry(token));
        if place.is_some() {
            self.state.entry = Some(Arc::clone(&entry));
        }
        (entry, None)
    }
}

/// A breaker and reports of rejected tokens that never stop an exchange.
#[derive(Default)]
struct Never;

impl Never {
    fn admit(&self, _: u64, _: Duration, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, _: u64, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    fn check_new(&self, _: u64, _: u64, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    fn is_rejected(&self, _: u64, _: u64, _: Duration) -> bool {
        false
    }

    fn note_unused(&self, _: u64, _: Duration) {}

    fn note_success(&self) {}

    fn note_interrupted(&self, _: u64, _: Duration) {}

    fn note_refusal(&self, _: u64, _: Duration) {}
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) exchanges: Counter,
    pub(crate) coalesced: Counter,
    pub(crate) requests: Counter,
    store_hits: Counter,
    retries: Counter,
    /// Counted once per flight, at its end.
    pub(crate) failures: Counter,
}

/// Uses std's atomics, not loom's: it adds no order between the threads.
#[derive(Default)]
pub(crate) struct Counter {
    sum: AtomicU64,
    times: AtomicU64,
}

impl Counter {
    fn add(&self, count: u64) {
        self.sum.fetch_add(count, Ordering::Relaxed);
        self.times.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    pub(crate) fn times(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }
}
