//! The cache as a whole, on a clock that the tests move and with exchanges that they make up.

mod bounds;
mod expiry;
mod flights;
mod inheritance;
mod model;
mod renewal;

use crate::error::{Error, ErrorKind};
use crate::exchange::{Outcome, Progress};
use crate::token::Grant;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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
    Outcome::Granted(Grant {
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

impl Asker for Script {
    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn wait(&self, _done: &dyn Fn() -> bool) -> Result<(), Error> {
        unreachable!("nobody else asks")
    }

    fn time(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn exchange(
        &self,
        _progress: &mut Progress,
        may_send: &dyn Fn() -> Result<(), Error>,
    ) -> Outcome {
        if let Err(error) = may_send() {
            return Outcome::Failed(error);
        }
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.outcomes.lock().unwrap().pop_front().unwrap_or_else(|| {
            Outcome::Failed(Error::new(ErrorKind::Internal, "the script is over"))
        })
    }
}

/// The token for `id` as a caller gets it, by one exchange that brings `token` if there is none.
pub(super) fn ask<C: Clock>(
    cache: &Cache<C>,
    id: &str,
    token: Outcome,
) -> Result<String, ErrorKind> {
    let script = Script::new([token]);
    let fetched = match cache.get(user(id)) {
        Lookup::Good(found) => return Ok(text(found.token().unwrap())),
        Lookup::Due(found) => cache.renew(user(id), found.into_entry().unwrap(), &script),
        Lookup::Missing => cache.fetch(user(id), &script),
    };
    fetched.map(|fetched| text(fetched.entry.token())).map_err(|error| error.kind())
}

fn text(token: &AccessToken) -> String {
    String::from_utf8(token.as_bytes().to_vec()).unwrap()
}

pub(super) fn peek<C: Clock>(cache: &Cache<C>, id: &str) -> Option<String> {
    let found = cache.peek(user(id))?;
    found.token().map(text)
}
