//! The same for calls that were started: nothing here waits.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::fetch::{Entered, Led};
use super::flights::{Fetched, FlightResult, Follower, WaiterId};
use super::{Cache, Clock, Entry};
use crate::context::Context;
use crate::error::Error;
use crate::exchange::{Fetcher, Progress, SignedUser};
use crate::user_id::UserId;

/// What a started call has to do for a token.
pub(crate) enum Start {
    /// Nothing.
    Ended(FlightResult),
    /// Wait: it is in the list of a flight.
    Follow,
    /// Make the exchange.
    Lead,
}

/// How far a started call came.
pub(crate) enum Step {
    Ended(FlightResult),
    /// It goes on at this time, or when it is woken.
    Paused(Progress, Instant),
}

impl<C: Clock> Cache<C> {
    /// Whether a call becomes the leader of a renewal of `held`, which is due.
    pub(crate) fn start_renewal(
        &self,
        user: UserId<'_>,
        held: &Arc<Entry>,
        context: &Context,
    ) -> bool {
        self.claim_renewal(self.key(user), held, context)
    }

    /// A call for a token that is missing.
    pub(crate) fn start(
        &self,
        user: UserId<'_>,
        id: WaiterId,
        call: Arc<dyn Follower>,
        context: &Context,
    ) -> Start {
        let key = self.key(user);
        match self.enter(key, context, |flights| flights.follow(key.user, id, call)) {
            Ok(Entered::Found(entry)) => Start::Ended(Ok(Fetched::held(entry))),
            Ok(Entered::Waits(())) => Start::Follow,
            Ok(Entered::Leads) => Start::Lead,
            Err(error) => Start::Ended(Err(error)),
        }
    }

    /// Goes on with a flight that a started call leads.
    pub(crate) fn go_on_leading<F: Fetcher>(
        &self,
        user: &SignedUser<'_>,
        held: Option<&Arc<Entry>>,
        progress: Progress,
        fetcher: &F,
        context: &Context,
        waker: &Waker,
    ) -> Step {
        let key = self.key(user.user);
        let turn = |progress: &mut _| fetcher.poll_turn(context, progress, waker);
        match self.lead_until(key, user, progress, fetcher, context, turn) {
            Led::Paused(progress, time) => Step::Paused(progress, time),
            Led::Ended(Ok(fetched)) => Step::Ended(Ok(fetched)),
            Led::Ended(Err(error)) => Step::Ended(self.fail_started(user.user, held, error)),
        }
    }

    /// The result of a leader that failed or was stopped.
    pub(crate) fn fail_started(
        &self,
        user: UserId<'_>,
        held: Option<&Arc<Entry>>,
        error: Error,
    ) -> FlightResult {
        match held {
            None => Err(error),
            Some(held) => self.fall_back_on(self.key(user), Arc::clone(held), error),
        }
    }

    /// A call that followed has ended.
    pub(crate) fn stop_following(&self, user: UserId<'_>, id: WaiterId) {
        self.leave(self.key(user), id);
    }

    /// A call that led has ended, and the flight has not.
    pub(crate) fn stop_leading(&self, user: UserId<'_>, progress: Progress, context: &Context) {
        let key = self.key(user);
        self.note_interrupted(key, context);
        self.hand_off(key, progress);
    }
}
