//! One exchange per user, however many ask: who makes it, who waits for it, and what becomes of it.
//!
//! The first who misses leads. What is kept of a flight is in `flights.rs`, under the lock of the user's
//! shard; here is who locks when, and who wakes whom. `tests/loom` repeats it for one user, and tries every
//! order of it.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::entry::{self, Entry, Key};
use super::flights::{Fetched, Flight, Landed, Next, Ticket};
use super::{Cache, Clock};
use crate::error::Error;
use crate::exchange::{Outcome, Progress};
use crate::token::Grant;
use crate::user_id::UserId;

/// One who asks for a token: how it gets one itself, and how it waits for another's.
pub(crate) trait Asker {
    fn deadline(&self) -> Instant;

    /// How much time it has in all.
    fn time(&self) -> Duration;

    /// Waits until `done`; fails when its time is up or it is stopped.
    fn wait(&self, done: &dyn Fn() -> bool) -> Result<(), Error>;

    /// Makes an exchange, or goes on with one that another has begun. Asks `may_send` right before
    /// each request.
    fn exchange(
        &self,
        progress: &mut Progress,
        may_send: &dyn Fn() -> Result<(), Error>,
    ) -> Outcome;
}

impl<C: Clock> Cache<C> {
    /// A token by an exchange: this call's own, or the one that is under way. For a call that
    /// [missed](Cache::get).
    pub(crate) fn fetch(&self, user: UserId<'_>, asker: &dyn Asker) -> Landed {
        let key = self.key(user);
        let now = self.clock.now();
        let joined = {
            let mut shard = self.lock(key);
            if let Some((entry, _)) = self.live(&mut shard, key) {
                return Ok(Fetched { entry, attempts: 0 });
            }
            // Also where a flight is under way: what it will bring is for those who came before the
            // report.
            shard.state.rejections.check(key.hash, now)?;
            let joined = shard.state.flights.join(key.user, asker.deadline());
            if joined.is_none() {
                self.breaker.admit(key.hash, asker.time(), now)?;
                shard.state.flights.begin(key.user);
            }
            joined
        };
        match joined {
            Some((flight, ticket)) => {
                self.counters.coalesced.add(1);
                self.wait(key, flight, ticket, asker)
            }
            None => {
                self.counters.exchanges.add(1);
                self.lead(key, Progress::default(), asker)
            }
        }
    }

    /// Makes the exchange of a flight, or goes on with it.
    pub(super) fn lead(&self, key: Key<'_>, progress: Progress, asker: &dyn Asker) -> Landed {
        let mut lead = Lead { cache: self, key, progress, is_over: false };
        let may_send = || self.breaker.check(key.hash, self.clock.now());
        let landed = match asker.exchange(&mut lead.progress, &may_send) {
            Outcome::Granted(grant) => self.store(key, &lead.progress, grant),
            Outcome::Failed(error) => self.fail(key, &lead.progress, error),
            Outcome::Unfinished(error) => {
                self.breaker.note_unfinished(key.hash, asker.time());
                return Err(error); // dropping the lead hands it over
            }
        };
        lead.is_over = true;
        landed
    }

    fn wait(
        &self,
        key: Key<'_>,
        flight: Arc<Flight>,
        ticket: Arc<Ticket>,
        asker: &dyn Asker,
    ) -> Landed {
        let mut seat = Seat { cache: self, key, ticket, is_left: false };
        asker.wait(&|| flight.landed().is_some() || seat.ticket.is_called())?;
        seat.is_left = true;
        if let Some(landed) = flight.landed() {
            return landed.clone();
        }
        let progress = self.lock(key).state.flights.take_baton(key.user);
        self.lead(key, progress, asker)
    }

    /// Ends a flight with a token: for all who wait, and for those who come.
    fn store(&self, key: Key<'_>, progress: &Progress, grant: Grant) -> Landed {
        self.breaker.note_success();
        let now = self.clock.now();
        let times = self.times(grant.lifetime, now);
        let weight = entry::weight(key.user.len(), grant.token.as_bytes().len());
        let has_room = times.is_some() && self.make_room(key, weight);
        let token_hash = self.tokens.hash_one(grant.token.as_bytes());
        let mut shard = self.lock(key);
        let checked = shard
            .state
            .rejections
            .check_new(key.hash, token_hash, now)
            .map_err(|error| progress.with_reply(error));
        let (mut is_put, mut outgrown) = (false, None);
        let landed = checked.map(|()| {
            let entry = match times {
                Some(times) if has_room && shard.state.flights.may_keep(key.user) => {
                    is_put = true;
                    let (entry, left_behind) = shard.put(key, grant.token, times);
                    outgrown = left_behind;
                    entry
                }
                _ => Arc::new(Entry::loose(key, grant.token)),
            };
            Fetched { entry, attempts: progress.requests() }
        });
        let waiting = shard.state.flights.land(key.user, landed.clone());
        drop(shard);
        drop(outgrown);
        if has_room && !is_put {
            self.bounds.release(weight);
        }
        self.count_end(progress, landed.is_ok());
        wake(waiting);
        landed
    }

    /// Ends a flight with a failure that is everybody's.
    fn fail(&self, key: Key<'_>, progress: &Progress, error: Error) -> Landed {
        // Not what the breaker itself said.
        if error.http_status() == Some(401) {
            self.breaker.note_refusal(key.hash, self.clock.now());
        }
        let waiting = self.lock(key).state.flights.land(key.user, Err(error.clone()));
        self.count_end(progress, false);
        wake(waiting);
        Err(error)
    }

    /// The leader goes, and the flight is not over.
    fn pass_on(&self, key: Key<'_>, progress: Progress) {
        let next = self.lock(key).state.flights.pass_on(key.user, progress);
        match next {
            Next::Called(heir) => heir.unpark(),
            Next::Landed(progress, waiting) => {
                self.count_end(&progress, false);
                wake(waiting);
            }
            Next::Over(progress) => self.count_end(&progress, false),
        }
    }

    fn count_end(&self, progress: &Progress, granted: bool) {
        let requests = u64::from(progress.requests());
        self.counters.retries.add(requests.saturating_sub(1));
        self.counters.requests.add(requests);
        self.counters.failures.add(u64::from(!granted));
    }
}

/// A flight's leader. Whatever becomes of it, a panic too, the flight goes on or ends.
struct Lead<'a, C: Clock> {
    cache: &'a Cache<C>,
    key: Key<'a>,
    progress: Progress,
    is_over: bool,
}

impl<C: Clock> Drop for Lead<'_, C> {
    fn drop(&mut self) {
        if !self.is_over {
            let progress = std::mem::take(&mut self.progress);
            self.cache.pass_on(self.key, progress);
        }
    }
}

/// A waiter's place.
struct Seat<'a, C: Clock> {
    cache: &'a Cache<C>,
    key: Key<'a>,
    ticket: Arc<Ticket>,
    is_left: bool,
}

impl<C: Clock> Drop for Seat<'_, C> {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let baton = {
            let mut shard = self.cache.lock(self.key);
            let flights = &mut shard.state.flights;
            flights.leave(self.key.user, &self.ticket);
            self.ticket.is_called().then(|| flights.take_baton(self.key.user))
        };
        if let Some(progress) = baton {
            self.cache.pass_on(self.key, progress);
        }
    }
}

fn wake(waiting: Vec<Thread>) {
    waiting.iter().for_each(Thread::unpark);
}
