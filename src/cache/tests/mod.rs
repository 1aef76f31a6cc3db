//! Tests of the whole cache, with a manual clock and made-up exchanges.

mod bounds;
mod expiry;
mod flights;
mod inheritance;
mod model;
mod renewal;
mod shared;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use crate::context::{CancelToken, Context};
use crate::error::{Error, ErrorKind};
use crate::exchange::{Fetcher, Later, Outcome, Progress, SignedUser};
use crate::signing::Signature;

use super::clock::manual::Manual;
use super::*;

pub(super) fn limits(entries: u64, bytes: u64, ttl: Option<Duration>) -> CacheLimits {
    CacheLimits { entries, bytes, ttl }
}

pub(super) fn cache(entries: u64) -> Cache<Manual> {
    Cache::new(limits(entries, u64::MAX, None), Manual::new())
}

pub(super) fn user(id: &str) -> UserId<'_> {
    UserId::new(id.as_bytes()).unwrap()
}

pub(super) fn response(text: &str, lifetime: Option<u64>) -> Outcome {
    Outcome::Granted(TokenResponse {
        token: AccessToken::new(text.as_bytes()).unwrap(),
        lifetime: lifetime.map(Duration::from_secs),
    })
}

/// Exchanges whose outcomes come from a function.
pub(super) struct Exchanges<F>(pub(super) F);

impl<F: Fn() -> Outcome> Fetcher for Exchanges<F> {
    type Turn<'a>
        = ()
    where
        F: 'a;

    fn wait_for_turn(&self, _: &Context, _: &mut Progress) -> Result<(), Outcome> {
        Ok(())
    }

    fn poll_turn(&self, _: &Context, _: &mut Progress, _: &Waker) -> Result<(), Later<Instant>> {
        Ok(())
    }

    fn attempt(
        &self,
        (): (),
        _: &SignedUser<'_>,
        _: &Context,
        _: &mut Progress,
    ) -> Option<Outcome> {
        Some((self.0)())
    }
}

/// A call with a minute of time.
pub(super) fn context() -> Context {
    Context::new(Duration::from_secs(60), None, &CancelToken::new())
}

/// [`Cache::fetch`] or [`Cache::renew`] for `id`, as a client calls them.
pub(super) fn fetch<C: Clock, F: Fetcher>(
    cache: &Cache<C>,
    id: &str,
    due: Option<Arc<Entry>>,
    fetcher: &F,
    context: &Context,
) -> Result<String, ErrorKind> {
    let signature = Signature::parse(&[b'0'; 64]).unwrap();
    let user = SignedUser { user: user(id), signature: &signature };
    let fetched = match due {
        None => cache.fetch(&user, fetcher, context),
        Some(due) => cache.renew(&user, due, fetcher, context),
    };
    fetched.map(|fetched| text(fetched.entry.token())).map_err(|error| error.kind())
}

/// The token for `id` as a caller receives it. If none is cached, one exchange ends with `outcome`.
pub(super) fn ask<C: Clock>(
    cache: &Cache<C>,
    id: &str,
    outcome: Outcome,
) -> Result<String, ErrorKind> {
    let found = cache.get(user(id));
    if let Some(token) = found.live_token() {
        return Ok(text(token));
    }
    let outcome = Cell::new(Some(outcome));
    let exchange = Exchanges(|| outcome.take().expect("one exchange is enough"));
    fetch(cache, id, found.into_due(), &exchange, &context())
}

fn text(token: &AccessToken) -> String {
    String::from_utf8(token.as_bytes().to_vec()).unwrap()
}

pub(super) fn peek<C: Clock>(cache: &Cache<C>, id: &str) -> Option<String> {
    let found = cache.peek(user(id))?;
    found.token().map(text)
}
