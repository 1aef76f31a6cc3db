//! An exchange that asks the store first, if there is one.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::{Exchange, Fetcher, Later, Outcome, Progress, SignedUser};
use crate::config::{ApplicationId, Config};
use crate::context::Context;
use crate::error::Error;
use crate::http::Permit;
use crate::keyring::Keyring;
use crate::store::Store;

/// Without a store it costs a branch.
pub(crate) struct SharedExchange {
    /// The exchange alone.
    pub(crate) direct: Exchange,
    pub(crate) store: Option<Arc<Store>>,
}

/// The right to ask the store or the service.
pub(crate) enum Turn<'a> {
    Store(Permit<'a>),
    Service(super::Turn<'a>),
}

impl SharedExchange {
    pub(crate) fn new(
        config: &Config,
        application_id: &ApplicationId,
        ring: &Arc<Keyring>,
    ) -> Result<Self, Error> {
        let direct = Exchange::new(config, application_id, ring)?;
        Ok(Self { direct, store: Store::new(config, application_id, ring)? })
    }

    /// Closes the connections that are idle.
    pub(crate) fn close_idle(&self) {
        self.direct.close_idle();
        if let Some(store) = &self.store {
            store.close_idle();
        }
    }
}

impl Fetcher for SharedExchange {
    type Turn<'a> = Turn<'a>;

    fn begin(&self, renews: Option<&[u8]>) -> Progress {
        match self.store {
            None => Progress::default(),
            Some(_) => Progress::beginning_with_store(renews),
        }
    }

    fn wait_for_turn(
        &self,
        context: &Context,
        progress: &mut Progress,
    ) -> Result<Turn<'_>, Outcome> {
        if !progress.asks_store() {
            return self.direct.wait_for_turn(context, progress).map(Turn::Service);
        }
        if let Some(until) = progress.sharing.pause() {
            context.sleep(until).map_err(|error| progress.interrupted(error))?;
        }
        self.direct.permit(context, progress).map(Turn::Store)
    }

    /// While another process leads, a started call gives its worker up between two looks.
    fn poll_turn(
        &self,
        context: &Context,
        progress: &mut Progress,
        waker: &Waker,
    ) -> Result<Turn<'_>, Later<Instant>> {
        if !progress.asks_store() {
            return self.direct.poll_turn(context, progress, waker).map(Turn::Service);
        }
        match progress.sharing.pause() {
            Some(until) if Instant::now() < until => Err(Later::At(until)),
            _ => self.direct.permit(context, progress).map(Turn::Store).map_err(Later::Over),
        }
    }

    fn attempt(
        &self,
        turn: Turn<'_>,
        user: &SignedUser<'_>,
        context: &Context,
        progress: &mut Progress,
    ) -> Option<Outcome> {
        match (turn, &self.store) {
            (Turn::Store(_permit), Some(store)) => {
                match store.step(user.user, context, &mut progress.sharing) {
                    Ok(found) => found.map(Outcome::Shared),
                    Err(error) => Some(progress.interrupted(error)),
                }
            }
            (Turn::Store(_), None) => None,
            (Turn::Service(turn), _) => {
                let outcome = self.direct.attempt(turn, user, context, progress);
                match &outcome {
                    Some(Outcome::Granted(response)) => progress.sharing.put(response, context),
                    Some(Outcome::Failed(_)) => progress.sharing.release(context),
                    // It goes on, perhaps with another leader, who has the lease then.
                    _ => {}
                }
                outcome
            }
        }
    }
}
