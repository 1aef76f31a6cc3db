//! The cache as a whole, on a clock that the tests move and with exchanges that they make up.

mod bounds;
mod expiry;
mod flights;
mod inheritance;
mod model;
mod renewal;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::context::{CancelToken, Context};
use crate::error::{Error, ErrorKind};
use crate::exchange::{Fetcher, Outcome, Progress, SignedUser};
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

pub(super) fn grant(text: &str, lifetime: Option<u64>) -> Outcome {
    Outcome::Granted(TokenResponse {
        token: AccessToken::new(text.as_bytes()).unwrap(),
        lifetime: lifetime.map(Duration::from_secs),
    })
}

/// Gives what it was told to give, one by one, at once.
#[derive(Default)]
pub(super) struct Script {
    outcomes: Mutex<VecDeque<Outcome>>,
    pub(super) exchanges: AtomicU64,
}

impl Script {
    pub(super) fn new(outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        Self { outcomes: Mutex::new(outcomes.into_iter().collect()), exchanges: AtomicU64::new(0) }
    }
}

impl Fetcher for Script {
    type Turn<'a> = ();

    fn wait_for_turn(&self, _: &Context, _: &mut Progress) -> Result<(), Outcome> {
        Ok(())
    }

    fn attempt(
        &self,
        (): (),
        _: &SignedUser<'_>,
        _: &Context,
        _: &mut Progress,
    ) -> Option<Outcome> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        let over = || Outcome::Failed(Error::new(ErrorKind::Internal, "the script is over"));
        Some(self.outcomes.lock().unwrap().pop_front().unwrap_or_else(over))
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

/// The token for `id` as a caller gets it, by one exchange that brings `token` if there is none.
pub(super) fn ask<C: Clock>(
    cache: &Cache<C>,
    id: &str,
    token: Outcome,
) -> Result<String, ErrorKind> {
    let found = cache.get(user(id));
    if let Some(token) = found.live_token() {
        return Ok(text(token));
    }
    fetch(cache, id, found.into_due(), &Script::new([token]), &context())
}

fn text(token: &AccessToken) -> String {
    String::from_utf8(token.as_bytes().to_vec()).unwrap()
}

pub(super) fn peek<C: Clock>(cache: &Cache<C>, id: &str) -> Option<String> {
    let found = cache.peek(user(id))?;
    found.token().map(text)
}
