//! What the cache asks for an exchange. A file of its own, because `tests/loom` compiles it too.

use std::task::Waker;
use std::time::Instant;

use super::{Outcome, Progress, SignedUser};
use crate::context::Context;

/// Why a request cannot be sent now.
pub(crate) enum Later<T> {
    /// There is something to wait for.
    At(T),
    Over(Outcome),
}

/// Makes exchanges, in two steps, because the cache's circuit breaker is asked between them.
pub(crate) trait Fetcher {
    /// The right to send one request now.
    type Turn<'a>
    where
        Self: 'a;

    /// Nothing is done yet. `renews`: the token that is to be replaced.
    fn begin(&self, _renews: Option<&[u8]>) -> Progress {
        Progress::default()
    }

    /// Waits until the next request of an exchange may be sent: for the back-off after its last
    /// attempt, as long as the service asked all calls to wait, and for a permit.
    fn wait_for_turn(
        &self,
        context: &Context,
        progress: &mut Progress,
    ) -> Result<Self::Turn<'_>, Outcome>;

    /// The same without a wait, except for a permit: says when to ask again. `waker` may be woken before.
    fn poll_turn(
        &self,
        context: &Context,
        progress: &mut Progress,
        waker: &Waker,
    ) -> Result<Self::Turn<'_>, Later<Instant>>;

    /// Sends a request. `None` if the exchange goes on: with another attempt, or because the service
    /// asked all calls to wait before this one was sent.
    fn attempt(
        &self,
        turn: Self::Turn<'_>,
        user: &SignedUser<'_>,
        context: &Context,
        progress: &mut Progress,
    ) -> Option<Outcome>;
}
