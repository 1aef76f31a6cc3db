//! Single flight: one exchange per user at a time, and its result for all calls that wait for it.
//!
//! The first call that misses leads: it makes the exchange. Calls that miss meanwhile wait, each until
//! its own deadline. A leader that is stopped, or panics, hands the flight off: its progress stays in
//! the flight, one waiter is woken, and that one leads on or leaves in its turn. A failure that no waiter
//! has time to retry ends the flight for all. This file says which
//! thread locks when and wakes whom; `flights.rs` holds the state. `tests/loom` compiles both and
//! tries every order of threads.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::entry::Key;
use super::flights::{Fetched, Flight, FlightResult, HandOff};
use super::sync::Thread;
use super::{Cache, Clock};
use crate::context::Context;
use crate::error::Error;
use crate::exchange::{Fetcher, Outcome, Progress, SignedUser};
use crate::fork::generation;
use crate::token::TokenResponse;

impl<C: Clock> Cache<C> {
    /// A token by an exchange: this call's own, or the one that is under way. For a call that
    /// [missed](Cache::get).
    pub(crate) fn fetch<F: Fetcher>(
        &self,
        user: &SignedUser<'_>,
        fetcher: &F,
        context: &Context,
    ) -> FlightResult {
        let key = self.key(user.user);
        let now = self.clock.now();
        let joined = {
            let mut shard = self.lock(key);
            if let Some((entry, _)) = self.live(&mut shard, key) {
                return Ok(Fetched { entry, attempts: 0 });
            }
            // Also where a flight is under way: its token may be older than the report.
            shard.state.rejections.check(key.hash, now)?;
            let joined = shard.state.flights.join(key.user, context.deadline.at);
            if joined.is_none() {
                self.breaker.admit(key.hash, context.deadline.timeout, now)?;
                shard.state.flights.begin(key.user);
            }
            joined
        };
        let Some((flight, waiter)) = joined else {
            self.counters.exchanges.add(1);
            return self.lead(key, user, Progress::default(), fetcher, context);
        };
        self.counters.coalesced.add(1);
        match self.wait(key, &flight, waiter, context)? {
            Joined::Completed(result) => result,
            Joined::Leads(progress) => self.lead(key, user, progress, fetcher, context),
        }
    }

    /// Makes the exchange of a flight, or goes on with it.
    pub(super) fn lead<F: Fetcher>(
        &self,
        key: Key<'_>,
        user: &SignedUser<'_>,
        progress: Progress,
        fetcher: &F,
        context: &Context,
    ) -> FlightResult {
        let mut guard =
            LeaderGuard { cache: self, key, progress, made_in: generation(), is_over: false };
        let outcome = self.exchange(key, user, fetcher, context, &mut guard.progress);
        let result = match outcome {
            Outcome::Granted(response) => self.succeed(key, &guard.progress, response),
            Outcome::Failed(error) => self.fail(key, &guard.progress, error),
            Outcome::Interrupted(error) => {
                if !context.is_inherited() {
                    self.breaker.note_interrupted(key.hash, context.deadline.timeout);
                }
                return Err(error); // dropping the guard hands the flight off
            }
        };
        guard.is_over = true;
        result
    }

    fn exchange<F: Fetcher>(
        &self,
        key: Key<'_>,
        user: &SignedUser<'_>,
        fetcher: &F,
        context: &Context,
        progress: &mut Progress,
    ) -> Outcome {
        loop {
            let turn = match fetcher.wait_for_turn(context, progress) {
                Ok(turn) => turn,
                Err(outcome) => return outcome,
            };
            // After the wait, in which other users may have been refused.
            if let Err(error) = self.breaker.check(key.hash, self.clock.now()) {
                return Outcome::Failed(error.with_attempts(progress.requests()));
            }
            if let Some(outcome) = fetcher.attempt(turn, user, context, progress) {
                return outcome;
            }
        }
    }

    fn wait(
        &self,
        key: Key<'_>,
        flight: &Arc<Flight>,
        waiter: u64,
        context: &Context,
    ) -> Result<Joined, Error> {
        let mut guard =
            WaiterGuard { cache: self, key, waiter, made_in: generation(), is_waiting: true };
        loop {
            context.wait_for(
                "waiting for the same user's exchange, which another call had begun",
                || flight.is_leaderless(),
            )?;
            if let Some(result) = flight.result() {
                guard.is_waiting = false;
                return Ok(Joined::Completed(result.clone()));
            }
            // Another waiter may have been faster.
            if let Some(progress) = self.lock(key).state.flights.lead(key.user, waiter) {
                guard.is_waiting = false;
                return Ok(Joined::Leads(progress));
            }
        }
    }

    /// Ends a flight with a token, for its waiters and later calls.
    fn succeed(&self, key: Key<'_>, progress: &Progress, response: TokenResponse) -> FlightResult {
        self.breaker.note_success();
        let now = self.clock.now();
        let token_hash = self.tokens.hash_one(response.token.as_bytes());
        let place = self.reserve(key, &response, now);
        let mut shard = self.lock(key);
        let mut retired = None;
        let result = match shard.state.rejections.check_new(key.hash, token_hash, now) {
            Err(error) => Err(progress.with_response(error)),
            Ok(()) => {
                let place = place.filter(|_| shard.state.flights.may_keep(key.user));
                let (entry, left_behind) = shard.add(key, response.token, place);
                retired = left_behind;
                Ok(Fetched { entry, attempts: progress.requests() })
            }
        };
        let waiting = shard.state.flights.complete(key.user, result.clone());
        drop(shard);
        drop(retired);
        self.count_end(progress, result.is_ok());
        wake(waiting);
        result
    }

    /// Ends a flight with a failure that all its callers share.
    fn fail(&self, key: Key<'_>, progress: &Progress, error: Error) -> FlightResult {
        // An error of the breaker itself has no HTTP status.
        if error.http_status() == Some(401) {
            self.breaker.note_refusal(key.hash, self.clock.now());
        }
        let waiting = self.lock(key).state.flights.complete(key.user, Err(error.clone()));
        self.count_end(progress, false);
        wake(waiting);
        Err(error)
    }

    fn go_on(&self, next: HandOff) {
        match next {
            HandOff::Waiter(thread) => thread.unpark(),
            HandOff::Failed(progress, waiting) => {
                self.count_end(&progress, false);
                wake(waiting);
            }
            HandOff::Over(progress) => self.count_end(&progress, false),
        }
    }

    fn count_end(&self, progress: &Progress, granted: bool) {
        let requests = u64::from(progress.requests());
        self.counters.retries.add(requests.saturating_sub(1));
        self.counters.requests.add(requests);
        self.counters.failures.add(u64::from(!granted));
    }
}

/// The end of a wait.
enum Joined {
    Completed(FlightResult),
    Leads(Progress),
}

/// A flight's leader. If it is interrupted or panics, the flight is handed off.
struct LeaderGuard<'a, C: Clock> {
    cache: &'a Cache<C>,
    key: Key<'a>,
    progress: Progress,
    made_in: u64,
    is_over: bool,
}

impl<C: Clock> Drop for LeaderGuard<'_, C> {
    fn drop(&mut self) {
        if self.is_over || self.made_in != generation() {
            return;
        }
        let progress = std::mem::take(&mut self.progress);
        let next = self.cache.lock(self.key).state.flights.hand_off(self.key.user, progress);
        self.cache.go_on(next);
    }
}

/// A waiter that is in the list of its flight.
struct WaiterGuard<'a, C: Clock> {
    cache: &'a Cache<C>,
    key: Key<'a>,
    waiter: u64,
    made_in: u64,
    is_waiting: bool,
}

impl<C: Clock> Drop for WaiterGuard<'_, C> {
    fn drop(&mut self) {
        if !self.is_waiting || self.made_in != generation() {
            return;
        }
        let next = self.cache.lock(self.key).state.flights.leave(self.key.user, self.waiter);
        if let Some(next) = next {
            self.cache.go_on(next);
        }
    }
}

fn wake(waiting: Vec<Thread>) {
    waiting.iter().for_each(Thread::unpark);
}
