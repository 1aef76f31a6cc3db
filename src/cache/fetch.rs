//! Single flight: one exchange per user at a time, and its result for all calls that wait for it.
//!
//! The first call that misses leads: it makes the exchange. Calls that miss meanwhile wait, each until
//! its own deadline. A leader that is stopped, or panics, hands the flight off: its progress stays in
//! the flight, one waiter is woken, and that one leads on or leaves in its turn. A failure that no waiter
//! has time to retry ends the flight for all. This file says which thread locks when and wakes which
//! other; `flights.rs` holds the state. `tests/loom` compiles both and tries the orders of threads.

use std::convert::Infallible;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::entry::{Entry, Key};
use super::flights::{
    Fetched, Flight, FlightResult, Flights, HandOff, Waiter, WaiterId, Waiters, shared,
};
use super::{Cache, Clock};
use crate::context::Context;
use crate::error::Error;
use crate::exchange::{Fetcher, Later, Outcome, Progress, SignedUser};
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
        let id = WaiterId::new(context.deadline.at);
        match self.enter(key, context, |flights| flights.join(key.user, id))? {
            Entered::Found(entry) => Ok(Fetched::held(entry)),
            Entered::Leads => self.lead(key, user, fetcher.begin(None), fetcher, context),
            Entered::Waits(flight) => match self.wait(key, &flight, id, context)? {
                Joined::Completed(result) => result,
                Joined::Leads(progress) => self.lead(key, user, progress, fetcher, context),
            },
        }
    }

    /// Joins the user's flight, or begins one.
    pub(super) fn enter<J>(
        &self,
        key: Key<'_>,
        context: &Context,
        join: impl FnOnce(&mut Flights) -> Option<J>,
    ) -> Result<Entered<J>, Error> {
        let now = self.clock.now();
        let mut shard = self.lock(key);
        if let Some((entry, _)) = self.live(&mut shard, key) {
            return Ok(Entered::Found(entry));
        }
        // Also where a flight is under way: its token may be older than the report.
        shard.state.rejections.check(key.hash, now)?;
        if let Some(joined) = join(&mut shard.state.flights) {
            self.counters.coalesced.add(1);
            return Ok(Entered::Waits(joined));
        }
        self.breaker.admit(key.hash, context.deadline.timeout, now)?;
        shard.state.flights.begin(key.user);
        Ok(Entered::Leads)
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
        let turn = |progress: &mut _| {
            fetcher.wait_for_turn(context, progress).map_err(Later::<Infallible>::Over)
        };
        match self.lead_until(key, user, progress, fetcher, context, turn) {
            Led::Ended(result) => result,
            Led::Paused(_, never) => match never {},
        }
    }

    /// The same, where `turn` does not wait.
    pub(super) fn lead_until<'f, F: Fetcher, P>(
        &self,
        key: Key<'_>,
        user: &SignedUser<'_>,
        progress: Progress,
        fetcher: &'f F,
        context: &Context,
        turn: impl Fn(&mut Progress) -> Result<F::Turn<'f>, Later<P>>,
    ) -> Led<P> {
        let mut guard =
            LeaderGuard { cache: self, key, progress, made_in: generation(), is_over: false };
        let outcome = loop {
            self.count_begin(&mut guard.progress);
            let turn = match turn(&mut guard.progress) {
                Ok(turn) => turn,
                Err(Later::Over(outcome)) => break outcome,
                Err(Later::At(time)) => {
                    guard.is_over = true;
                    return Led::Paused(std::mem::take(&mut guard.progress), time);
                }
            };
            // After the wait, in which other users may have been refused.
            if let Err(error) = self.breaker.check(key.hash, self.clock.now()) {
                break Outcome::Failed(error.with_attempts(guard.progress.requests()));
            }
            match fetcher.attempt(turn, user, context, &mut guard.progress) {
                None => {}
                // While the store was asked. Without a store an exchange would follow.
                Some(Outcome::Shared(response)) if self.is_rejected(key, &response) => {
                    guard.progress.leave_store();
                }
                Some(outcome) => break outcome,
            }
        };
        let result = match outcome {
            Outcome::Granted(response) => {
                self.breaker.note_success();
                self.succeed(key, &mut guard.progress, response)
            }
            Outcome::Shared(response) => {
                self.counters.store_hits.add(1);
                self.breaker.note_unused(key.hash, self.clock.now());
                self.succeed(key, &mut guard.progress, response)
            }
            Outcome::Failed(error) => self.fail(key, &mut guard.progress, error),
            Outcome::Interrupted(error) => {
                self.note_interrupted(key, context);
                return Led::Ended(Err(error)); // dropping the guard hands the flight off
            }
        };
        guard.is_over = true;
        Led::Ended(result)
    }

    pub(super) fn note_interrupted(&self, key: Key<'_>, context: &Context) {
        if !context.is_inherited() {
            self.breaker.note_interrupted(key.hash, context.deadline.timeout);
        }
    }

    fn wait(
        &self,
        key: Key<'_>,
        flight: &Arc<Flight>,
        waiter: WaiterId,
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
    fn succeed(
        &self,
        key: Key<'_>,
        progress: &mut Progress,
        response: TokenResponse,
    ) -> FlightResult {
        let now = self.clock.now();
        let token_hash = self.tokens.hash_one(response.token.as_bytes());
        let place = self.reserve(key, &response, now);
        let mut shard = self.lock(key);
        let mut retired = None;
        // A token of the store is no replacement: the service has not been asked for one.
        let checked = match progress.asks_store() {
            true => Ok(()),
            false => shard.state.rejections.check_new(key.hash, token_hash, now),
        };
        let result = match checked {
            Err(error) => Err(progress.with_response(error)),
            Ok(()) => {
                let place = place.filter(|_| shard.state.flights.may_keep(key.user));
                let (entry, left_behind) = shard.add(key, response.token, place);
                retired = left_behind;
                Ok(Fetched::sent(entry, progress.requests()))
            }
        };
        let for_waiters = shared(&result);
        let waiting = shard.state.flights.complete(key.user, for_waiters.clone());
        drop(shard);
        drop(retired);
        self.count_end(progress, result.is_ok());
        wake(waiting, &for_waiters);
        result
    }

    fn is_rejected(&self, key: Key<'_>, response: &TokenResponse) -> bool {
        let token = self.tokens.hash_one(response.token.as_bytes());
        let now = self.clock.now();
        self.lock(key).state.rejections.is_rejected(key.hash, token, now)
    }

    /// Ends a flight with a failure that all its callers share.
    fn fail(&self, key: Key<'_>, progress: &mut Progress, error: Error) -> FlightResult {
        // An error of the breaker itself has no HTTP status.
        if error.http_status() == Some(401) {
            self.breaker.note_refusal(key.hash, self.clock.now());
        }
        let result = Err(error);
        let for_waiters = shared(&result);
        let waiting = self.lock(key).state.flights.complete(key.user, for_waiters.clone());
        self.count_end(progress, false);
        wake(waiting, &for_waiters);
        result
    }

    /// The leader leaves, and the flight is not over.
    pub(super) fn hand_off(&self, key: Key<'_>, progress: Progress) {
        let next = self.lock(key).state.flights.hand_off(key.user, progress);
        self.go_on(key, next);
    }

    pub(super) fn leave(&self, key: Key<'_>, waiter: WaiterId) {
        let next = self.lock(key).state.flights.leave(key.user, waiter);
        if let Some(next) = next {
            self.go_on(key, next);
        }
    }

    /// Asks one waiter after the other, in a loop: a hundred thousand of them may have ended.
    fn go_on(&self, key: Key<'_>, mut next: HandOff) {
        loop {
            next = match next {
                HandOff::Thread(thread) => return thread.unpark(),
                HandOff::Over(mut progress) => return self.count_end(&mut progress, false),
                HandOff::Failed(mut progress, waiting, failure) => {
                    self.count_end(&mut progress, false);
                    return wake(waiting, &Err(failure));
                }
                HandOff::Call(call, progress) => match call.lead(progress) {
                    None => return,
                    Some(progress) => self.lock(key).state.flights.hand_off(key.user, progress),
                },
            }
        }
    }

    fn count_begin(&self, progress: &mut Progress) {
        if progress.begins() {
            self.counters.exchanges.add(1);
        }
    }

    /// Counts an exchange that is over. A flight that ended while the store was asked made none.
    fn count_end(&self, progress: &mut Progress, granted: bool) {
        if progress.asks_store() {
            return;
        }
        self.count_begin(progress); // a started call that no worker came to
        let requests = u64::from(progress.requests());
        self.counters.retries.add(requests.saturating_sub(1));
        self.counters.requests.add(requests);
        self.counters.failures.add(u64::from(!granted));
    }
}

/// What a call finds that missed.
pub(super) enum Entered<J> {
    /// Another call has stored a token since.
    Found(Arc<Entry>),
    Waits(J),
    Leads,
}

/// How far a leader came.
pub(super) enum Led<P> {
    Ended(FlightResult),
    /// It still leads, and has to wait first.
    Paused(Progress, P),
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
        self.cache.hand_off(self.key, progress);
    }
}

/// A waiter that is in the list of its flight.
struct WaiterGuard<'a, C: Clock> {
    cache: &'a Cache<C>,
    key: Key<'a>,
    waiter: WaiterId,
    made_in: u64,
    is_waiting: bool,
}

impl<C: Clock> Drop for WaiterGuard<'_, C> {
    fn drop(&mut self) {
        if !self.is_waiting || self.made_in != generation() {
            return;
        }
        self.cache.leave(self.key, self.waiter);
    }
}

fn wake(waiting: Waiters, result: &FlightResult) {
    for waiter in waiting.into_values() {
        match waiter {
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Call(call) => call.complete(result.clone()),
        }
    }
}
