//! Calls that are started, and end later.

use std::sync::Arc;

use super::Client;
use crate::call::Call;
use crate::error::Error;
use crate::requests::{Engine, Order, Queue, Request};
use crate::signing::Signature;
use crate::user_id::UserId;

impl Client {
    fn engine(&self) -> &Arc<Engine> {
        self.engine.get(|_| Arc::new(Engine::new(&self.core, self.max_concurrency)))
    }

    /// Starts [`Client::get_token`] and returns at once.
    pub(crate) fn start_token(
        &self,
        user_id: &[u8],
        call: &Call,
        queue: &Arc<Queue>,
        tag: u64,
    ) -> Result<(), Error> {
        let user = self.signable(user_id)?;
        call.start(|| {
            let order = self.order(user, call, queue, tag);
            let held = match self.look_up(user, Some(call))?.into_live() {
                Ok(entry) => return Ok(Request::hit(order, entry)),
                Err(found) => found.into_due(),
            };
            if let Some(due) = &held
                && (self.core.exchange.direct.is_on_hold()
                    || !self.cache().start_renewal(user, due, &order.context))
            {
                let fetched = self.cache().use_as_it_is(Arc::clone(due));
                return Ok(Request::hit(order, fetched.entry));
            }
            Ok(Request::token(self.engine(), order, held, self.signature(user)?))
        })
    }

    /// Starts [`Client::exchange`].
    pub(crate) fn start_exchange(
        &self,
        user_id: &[u8],
        call: &Call,
        queue: &Arc<Queue>,
        tag: u64,
    ) -> Result<(), Error> {
        let user = self.signable(user_id)?;
        self.start_signed(user, self.signature(user)?, call, queue, tag)
    }

    /// Starts [`Client::exchange_signature`].
    pub(crate) fn start_exchange_signature(
        &self,
        user_id: &[u8],
        signature: &[u8],
        call: &Call,
        queue: &Arc<Queue>,
        tag: u64,
    ) -> Result<(), Error> {
        self.check_open()?;
        let user = UserId::new(user_id)?;
        self.start_signed(user, Signature::parse(signature)?, call, queue, tag)
    }

    fn start_signed(
        &self,
        user: UserId<'_>,
        signature: Signature,
        call: &Call,
        queue: &Arc<Queue>,
        tag: u64,
    ) -> Result<(), Error> {
        call.start(|| {
            let order = self.order(user, call, queue, tag);
            Ok(Request::exchange(self.engine(), order, signature))
        })
    }

    fn order<'a>(&self, user: UserId<'a>, call: &Call, queue: &Arc<Queue>, tag: u64) -> Order<'a> {
        Order { user, context: self.context(Some(call)), tag, queue: Arc::clone(queue) }
    }
}
