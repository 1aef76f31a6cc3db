//! What the cache asks for an exchange. A file of its own, because `tests/loom` compiles it too.

use super::{Outcome, Progress, SignedUser};
use crate::context::Context;

/// Makes exchanges, in two steps, because the cache's circuit breaker is asked between them.
pub(crate) trait Fetcher {
    /// The right to send one request now.
    type Turn<'a>
    where
        Self: 'a;

    /// Waits until the next request of an exchange may be sent: for the back-off after its last
    /// attempt, as long as the service asked all calls to wait, and for a permit.
    fn wait_for_turn(
        &self,
        context: &Context,
        progress: &mut Progress,
    ) -> Result<Self::Turn<'_>, Outcome>;

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
