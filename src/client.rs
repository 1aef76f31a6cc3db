//! Puts the rooms together: one application, one key, one base URL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cache::{Asker, Cache, Entry, Fetched, Lookup, Monotonic, Stats};
use crate::call::Call;
use crate::config::{CacheLimits, Config};
use crate::error::{Error, ErrorKind};
use crate::exchange::{Cancel, Claim, Deadline, Exchange, Leave, Outcome, Progress};
use crate::fork::{PerProcess, generation};
use crate::signing::{HmacKey, SIGNATURE_LEN, Signature};
use crate::token::AccessToken;
use crate::user_id::UserId;

/// Signs user ids and exchanges signatures for tokens. Shared by any number of threads.
pub struct Client {
    key: Option<HmacKey>,
    exchange: Exchange,
    cache: PerProcess<Cache>,
    cache_limits: CacheLimits,
    /// The generation of the process that made the client.
    made_in: u64,
    closed: AtomicBool,
}

impl Client {
    /// Makes a client of `config`, which is copied. Loads the TLS roots; connects to nothing yet. Fails
    /// where the system gives no randomness.
    ///
    /// Fails with [`ErrorKind::InvalidEnvironment`] if it would use a proxy that
    /// [`Config::load_env`] found and that cannot be used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let application_id = config.application_id.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::IncompleteConfig,
                "The configuration has no application id. Set the one that the Spike console shows.",
            )
        })?;
        crate::random::check()?;
        config.hmac_key.as_ref().map(HmacKey::check_proof).transpose()?;
        Ok(Self {
            key: config.hmac_key.clone(),
            exchange: Exchange::new(config, application_id)?,
            cache: PerProcess::new(Cache::new(config.cache, Monotonic)),
            cache_limits: config.cache,
            made_in: generation(),
            closed: AtomicBool::new(false),
        })
    }

    /// Signs one user id: 64 lowercase hex characters into `out`. No allocation, no lock, no
    /// system call, and the network is not touched.
    pub fn sign_user(&self, user_id: &[u8], out: &mut [u8; SIGNATURE_LEN]) -> Result<(), Error> {
        let (key, user) = self.signer(user_id)?;
        key.sign(user, out);
        Ok(())
    }

    /// What signs and what is signed, both known to be good.
    pub(crate) fn signer<'a>(&self, user_id: &'a [u8]) -> Result<(&HmacKey, UserId<'a>), Error> {
        Ok((self.key()?, UserId::new(user_id)?))
    }

    /// Signs `user_id` and exchanges the signature for a token. Always asks the service.
    ///
    /// Blocks until the token is there, the service has refused, or the timeout has passed. `call`
    /// sets a timeout of its own or stops it from another thread.
    pub fn exchange(&self, user_id: &[u8], call: Option<&Call>) -> Result<AccessToken, Error> {
        self.exchange_counted(user_id, call).map(|(token, _)| token)
    }

    /// The same, and how many requests were sent.
    pub(crate) fn exchange_counted(
        &self,
        user_id: &[u8],
        call: Option<&Call>,
    ) -> Result<(AccessToken, u32), Error> {
        let key = self.key()?;
        let user = UserId::new(user_id)?;
        self.run(&Claim { user, signature: &key.signature(user) }, call)
    }

    /// Exchanges a signature that was made elsewhere. Needs no key.
    pub fn exchange_signature(
        &self,
        user_id: &[u8],
        signature: &[u8],
        call: Option<&Call>,
    ) -> Result<AccessToken, Error> {
        self.exchange_signature_counted(user_id, signature, call).map(|(token, _)| token)
    }

    /// The same, and how many requests were sent.
    pub(crate) fn exchange_signature_counted(
        &self,
        user_id: &[u8],
        signature: &[u8],
        call: Option<&Call>,
    ) -> Result<(AccessToken, u32), Error> {
        self.check_open()?;
        let user = UserId::new(user_id)?;
        let signature = Signature::parse(signature)?;
        self.run(&Claim { user, signature: &signature }, call)
    }

    fn run(&self, claim: &Claim<'_>, call: Option<&Call>) -> Result<(AccessToken, u32), Error> {
        let deadline = self.exchange.deadline(call.and_then(Call::timeout));
        with_cancel(call, |cancel| self.exchange.run(claim, deadline, cancel))
    }

    /// The token of `user_id`: from the cache, else by an exchange, which all who ask for the same
    /// user at the same time share. Blocks for the latter only.
    pub fn get_token(&self, user_id: &[u8], call: Option<&Call>) -> Result<AccessToken, Error> {
        self.with_token(user_id, call, || Ok(()), |token, _| Ok(token.clone()))
    }

    /// Hands the token of `user_id` to `deliver`, without a copy, and how many requests were sent for it.
    /// `may_fetch` is asked before anything is sent.
    #[inline]
    pub(crate) fn with_token<T, E: From<Error>>(
        &self,
        user_id: &[u8],
        call: Option<&Call>,
        may_fetch: impl FnOnce() -> Result<(), E>,
        deliver: impl FnOnce(&AccessToken, u32) -> Result<T, E>,
    ) -> Result<T, E> {
        let (key, user) = self.signer(user_id)?;
        if call.is_some_and(|call| call.cancel_switch().is_thrown()) {
            return Err(Error::cancelled().into());
        }
        let cache = self.cache();
        let held = match cache.get(user) {
            Lookup::Good(found) => match found.token() {
                Some(token) => return deliver(token, 0),
                None => None,
            },
            Lookup::Due(found) => found.into_entry(),
            Lookup::Missing => None,
        };
        let fetched = match (held, may_fetch()) {
            (held, Ok(())) => self.fetch(cache, key, user, held, call)?,
            (None, Err(error)) => return Err(error),
            (Some(held), Err(_)) => cache.make_do_with(held),
        };
        deliver(fetched.entry.token(), fetched.attempts)
    }

    /// A token by an exchange; if `held` is due for renewal and cannot be renewed now, that one.
    #[cold]
    fn fetch(
        &self,
        cache: &Cache,
        key: &HmacKey,
        user: UserId<'_>,
        held: Option<Arc<Entry>>,
        call: Option<&Call>,
    ) -> Result<Fetched, Error> {
        let signature = key.signature(user);
        let deadline = self.exchange.deadline(call.and_then(Call::timeout));
        with_cancel(call, |cancel| {
            let asker = ClientAsker {
                exchange: &self.exchange,
                claim: Claim { user, signature: &signature },
                deadline,
                cancel,
            };
            match held {
                None => cache.fetch(user, &asker),
                Some(held) if self.exchange.is_on_hold() => Ok(cache.make_do_with(held)),
                Some(held) => cache.renew(user, held, &asker),
            }
        })
    }

    /// Hands the token of `user_id` to `deliver` if it is in the cache; else fails with
    /// [`ErrorKind::NotCached`]. Never blocks.
    pub(crate) fn with_cached_token<T, E: From<Error>>(
        &self,
        user_id: &[u8],
        deliver: impl FnOnce(&AccessToken) -> Result<T, E>,
    ) -> Result<T, E> {
        self.check_open()?;
        let found = self.cache().peek(UserId::new(user_id)?);
        match found.as_ref().and_then(|found| found.token()) {
            Some(token) => deliver(token),
            None => Err(not_cached().into()),
        }
    }

    /// The token of `user_id` if it is in the cache. Never blocks.
    pub fn peek_token(&self, user_id: &[u8]) -> Result<AccessToken, Error> {
        self.with_cached_token(user_id, |token| Ok(token.clone()))
    }

    /// The service refused `rejected`, a token of `user_id`: drops it if it is still the one in the
    /// cache. At most one exchange gets another within five seconds; if that is the same, or is
    /// reported too, calls fail with [`ErrorKind::TokenRejected`] until they are over.
    pub fn invalidate(&self, user_id: &[u8], rejected: &[u8]) -> Result<(), Error> {
        self.check_open()?;
        let user = UserId::new(user_id)?;
        AccessToken::check(rejected).map_err(|why| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "The rejected token cannot be one: {why}. Pass the token that the service \
                     refused, without \"Bearer \"."
                ),
            )
        })?;
        self.cache().invalidate(user, rejected);
        Ok(())
    }

    /// Drops what the cache holds for `user_id`.
    pub fn forget(&self, user_id: &[u8]) -> Result<(), Error> {
        self.check_open()?;
        self.cache().forget(UserId::new(user_id)?);
        Ok(())
    }

    /// Drops all that the cache holds.
    pub fn clear(&self) -> Result<(), Error> {
        self.check_open()?;
        self.cache().clear();
        Ok(())
    }

    /// What the cache did and holds. In a child of a fork the counters begin at zero.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.check_open()?;
        Ok(self.cache().stats())
    }

    #[inline]
    fn cache(&self) -> &Cache {
        self.cache.get(|parent| match parent {
            Some(parent) => parent.inherit(Monotonic, generation() - self.made_in),
            None => Cache::new(self.cache_limits, Monotonic),
        })
    }

    /// Ends the calls in flight at once, each with [`ErrorKind::Closed`]; every later call on this
    /// client ends likewise. Idempotent.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.exchange.close();
    }

    /// Whether it was not closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        Ok(())
    }

    /// The key of an open client.
    pub(crate) fn key(&self) -> Result<&HmacKey, Error> {
        self.check_open()?;
        self.key.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::KeyRequired,
                "The client has no HMAC key and cannot sign. Set the key, or pass a signature that was made elsewhere.",
            )
        })
    }
}

/// A call of this client, as the cache sees it.
struct ClientAsker<'a> {
    exchange: &'a Exchange,
    claim: Claim<'a>,
    deadline: Deadline,
    cancel: &'a Cancel,
}

impl Asker for ClientAsker<'_> {
    fn deadline(&self) -> Instant {
        self.deadline.at
    }

    fn time(&self) -> Duration {
        self.deadline.timeout
    }

    fn wait(&self, done: &dyn Fn() -> bool) -> Result<(), Error> {
        self.exchange.wait(self.deadline, self.cancel, done)
    }

    fn exchange(
        &self,
        progress: &mut Progress,
        may_send: &dyn Fn() -> Result<(), Error>,
    ) -> Outcome {
        let leave = Leave { deadline: self.deadline, cancel: self.cancel, to_send: may_send };
        self.exchange.resume(&self.claim, &leave, progress)
    }
}

/// Runs `body` with the switch of the call's handle, or with one that nobody can throw.
fn with_cancel<T>(call: Option<&Call>, body: impl FnOnce(&Cancel) -> T) -> T {
    match call {
        Some(call) => body(call.cancel_switch()),
        None => body(&Cancel::new()),
    }
}

#[cold]
fn not_cached() -> Error {
    Error::new(
        ErrorKind::NotCached,
        "There is no token for this user in the cache. Get one with get_token or get_authorization.",
    )
}
