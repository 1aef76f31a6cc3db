//! Puts the modules together: one application, one key, one base URL.

mod started;

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Cache, Fetched, Found, Lookup, Stats};
use crate::call::Call;
use crate::config::{ClientKey, Config};
use crate::context::{CancelToken, Context};
use crate::core::Core;
use crate::diagnose::{self, Known};
use crate::error::{Error, ErrorKind};
use crate::exchange::SignedUser;
use crate::fork::PerProcess;
use crate::requests::Engine;
use crate::signing::{HmacKey, SIGNATURE_LEN, Signature};
use crate::store;
use crate::token::AccessToken;
use crate::user_id::UserId;

/// Signs user ids and exchanges signatures for tokens. Shared by any number of threads.
pub struct Client {
    core: Arc<Core>,
    known: Known,
    /// The started calls of this process.
    engine: PerProcess<Arc<Engine>>,
    max_concurrency: usize,
    timeout: Duration,
    /// Cancelled when the client is closed.
    closed: CancelToken,
}

impl Client {
    /// Makes a client from `config`, which is copied. Loads the TLS roots; does not connect yet. Fails with
    /// [`ErrorKind::Internal`] if the system has no randomness, or the key fails its self-test.
    ///
    /// Fails with [`ErrorKind::InvalidEnvironment`] if it would use a proxy that
    /// [`Config::load_env`] found and that cannot be used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let application_id = config.application_id.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::IncompleteConfig,
                "The configuration has no application id. Set the one that the Spike console shows, in \
                 SPIKE_APPLICATION_ID or by the setter.",
            )
        })?;
        crate::random::check()?;
        config.key.as_ref().map(|key| key.hmac.check_proof()).transpose()?;
        Ok(Self {
            core: Arc::new(Core::new(config, application_id)?),
            known: Known::new(config),
            engine: PerProcess::empty(),
            max_concurrency: config.max_concurrency as usize,
            timeout: config.timeout,
            closed: CancelToken::new(),
        })
    }

    /// Signs one user id: 64 lowercase hex characters into `out`. No allocation, no lock, no
    /// system call, and the network is not touched.
    pub fn sign_user(&self, user_id: &[u8], out: &mut [u8; SIGNATURE_LEN]) -> Result<(), Error> {
        let user = self.signable(user_id)?;
        self.with_key(|key| key.sign(user, out))
    }

    /// Uses the key of an open client.
    #[inline]
    pub(crate) fn with_key<T>(&self, use_key: impl FnOnce(&HmacKey) -> T) -> Result<T, Error> {
        self.check_open()?;
        self.core.ring.with(|key| use_key(key.hmac()))
    }

    /// The checked user id, if the client is open and has a key.
    #[inline]
    pub(crate) fn signable<'a>(&self, user_id: &'a [u8]) -> Result<UserId<'a>, Error> {
        self.check_key()?;
        UserId::new(user_id)
    }

    /// Later calls sign with this key. Kept tokens stay, and exchanges under way finish: one whose signature the service
    /// refuses is repeated with the new key.
    ///
    /// Fails with [`ErrorKind::InvalidKey`] unless it has 1 to 4096 bytes.
    pub fn set_hmac_key(&self, key: &[u8]) -> Result<(), Error> {
        self.check_open()?;
        let key = Arc::new(ClientKey::new(key)?);
        key.hmac.check_proof()?;
        if self.core.ring.set(&key) {
            self.cache().forget_refusals();
        }
        Ok(())
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
        let user = self.signable(user_id)?;
        self.run(&SignedUser { user, signature: &self.signature(user)? }, call)
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
        self.run(&SignedUser { user, signature: &signature }, call)
    }

    fn run(&self, user: &SignedUser<'_>, call: Option<&Call>) -> Result<(AccessToken, u32), Error> {
        self.core.exchange.direct.run(user, &self.context(call))
    }

    fn context(&self, call: Option<&Call>) -> Context {
        let timeout = call.and_then(Call::timeout).unwrap_or(self.timeout);
        Context::new(timeout, call.map(Call::cancel_token), &self.closed)
    }

    /// The token of `user_id`: from the cache, else by an exchange, which all calls for the same user
    /// share while it is under way. Blocks for the latter only.
    pub fn get_token(&self, user_id: &[u8], call: Option<&Call>) -> Result<AccessToken, Error> {
        let user = self.signable(user_id)?;
        let found = self.look_up(user, call)?;
        if let Some(token) = found.live_token() {
            return Ok(token.clone());
        }
        let fetched = self.fetch(user, found, call)?;
        Ok(fetched.entry.token().clone())
    }

    /// Looks in the cache for a call that can make an exchange.
    #[inline(always)]
    pub(crate) fn look_up(&self, user: UserId<'_>, call: Option<&Call>) -> Result<Lookup, Error> {
        if call.is_some_and(|call| call.cancel_token().is_cancelled()) {
            return Err(Error::cancelled());
        }
        Ok(self.cache().get(user))
    }

    /// A token by an exchange. If `found` is due for renewal and cannot be renewed now, that one.
    #[cold]
    pub(crate) fn fetch(
        &self,
        user: UserId<'_>,
        found: Lookup,
        call: Option<&Call>,
    ) -> Result<Fetched, Error> {
        let cache = self.cache();
        let context = self.context(call);
        let user = SignedUser { user, signature: &self.signature(user)? };
        match found.into_due() {
            None => cache.fetch(&user, &self.core.exchange, &context),
            Some(due) if self.core.exchange.direct.is_on_hold() => Ok(cache.use_as_it_is(due)),
            Some(due) => cache.renew(&user, due, &self.core.exchange, &context),
        }
    }

    /// The token in `found`, if it is due, for a call that cannot renew it.
    pub(crate) fn without_fetch(&self, found: Lookup) -> Option<Fetched> {
        found.into_due().map(|due| self.cache().use_as_it_is(due))
    }

    /// The live token of `user_id` in the cache, else [`ErrorKind::NotCached`]. Never blocks.
    pub(crate) fn peek(&self, user_id: &[u8]) -> Result<Found, Error> {
        self.check_open()?;
        self.cache().peek(UserId::new(user_id)?).ok_or_else(not_cached)
    }

    /// The token of `user_id` if it is in the cache. Never blocks.
    pub fn peek_token(&self, user_id: &[u8]) -> Result<AccessToken, Error> {
        self.peek(user_id)?.token().cloned().ok_or_else(not_cached)
    }

    /// Reports that the service refused `rejected`, a token of `user_id`. Drops it if the cache still
    /// holds it. At most one exchange is made for another within five seconds; if that brings the same
    /// token, or its token is reported too, calls fail with [`ErrorKind::TokenRejected`] until then.
    pub fn invalidate(&self, user_id: &[u8], rejected: &[u8]) -> Result<(), Error> {
        self.check_open()?;
        let user = UserId::new(user_id)?;
        AccessToken::check(rejected).map_err(|why| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "The rejected token is not a valid token: {why}. Pass the token that the service \
                     refused, without \"Bearer \"."
                ),
            )
        })?;
        // First: the call that the report causes must not find the token there.
        if let Some(store) = &self.core.exchange.store {
            store.report(rejected);
        }
        self.cache().invalidate(user, rejected);
        Ok(())
    }

    /// Tries every command that the store needs, on a key of its own: the way to see a wrong setting, because no
    /// other call fails by one. Fails with [`ErrorKind::Store`], also if there is no store.
    pub fn check_store(&self, call: Option<&Call>) -> Result<(), Error> {
        self.check_key()?;
        match &self.core.exchange.store {
            Some(store) => store.check(&self.context(call)),
            None => Err(store::not_set()),
        }
    }

    /// Looks at one thing after the other: settings, key, proxy, name lookup, connection, TLS, one exchange for `user_id`
    /// (empty: none), clock, store. Returns a report in JSON, which says what to do first if something fails. It holds no
    /// secret. Nothing of the cache is used or changed.
    pub fn diagnose(&self, user_id: &[u8], call: Option<&Call>) -> Result<String, Error> {
        self.check_open()?;
        let user = if user_id.is_empty() { None } else { Some(UserId::new(user_id)?) };
        diagnose::run(&self.core, &self.known, user, &self.context(call))
    }

    /// Drops what the cache holds for `user_id`, and what stands in the store. Other processes keep theirs until it
    /// expires or is renewed. Fails with [`ErrorKind::Store`] if the store cannot be reached.
    pub fn forget_shared(&self, user_id: &[u8], call: Option<&Call>) -> Result<(), Error> {
        let user = self.signable(user_id)?;
        self.cache().forget(user);
        match &self.core.exchange.store {
            Some(store) => store.forget(user, &self.context(call)),
            None => Ok(()),
        }
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

    /// Counters of the cache, and what it holds. In a child of a fork the counters begin at zero.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.check_open()?;
        let pending = self.engine.existing().map_or(0, |engine| engine.pending());
        let store = self.core.exchange.store.as_ref().map(|store| store.stats());
        let store = store.unwrap_or_default();
        Ok(Stats {
            pending,
            key_changes: self.core.ring.changes(),
            store_misses: store.misses,
            store_waits: store.waits,
            store_errors: store.errors,
            store_skipped: store.skipped,
            ..self.cache().stats()
        })
    }

    #[inline]
    fn cache(&self) -> &Cache {
        self.core.cache()
    }

    /// Ends the calls in flight at once, and all later ones, with [`ErrorKind::Closed`]. Idempotent.
    pub fn close(&self) {
        self.closed.cancel();
        if let Some(engine) = self.engine.existing() {
            engine.close();
        }
        self.core.exchange.close_idle();
    }

    /// Fails if the client was closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed.is_cancelled() {
            return Err(Error::closed());
        }
        Ok(())
    }

    /// Fails if the client was closed, or has no key.
    #[inline]
    pub(crate) fn check_key(&self) -> Result<(), Error> {
        self.check_open()?;
        self.core.ring.check()
    }

    fn signature(&self, user: UserId<'_>) -> Result<Signature, Error> {
        self.core.ring.with(|key| key.signature(user))
    }
}

#[cold]
pub(crate) fn not_cached() -> Error {
    Error::new(
        ErrorKind::NotCached,
        "There is no token for this user in the cache. Get one with get_token or get_authorization.",
    )
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
        if let Some(engine) = self.engine.existing() {
            engine.join();
        }
        if Arc::strong_count(&self.core) > 1 {
            // In a child: a worker of the parent held it at the fork, so it is never freed. Its tokens are.
            self.core.cache().clear();
        }
    }
}
