//! Puts the rooms together: one application, one key, one base URL.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::call::Call;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::exchange::{Cancel, Claim, Exchange};
use crate::signing::{HmacKey, SIGNATURE_LEN, Signature};
use crate::token::AccessToken;
use crate::user_id::UserId;

/// Signs user ids and exchanges signatures for tokens. Shared by any number of threads.
pub struct Client {
    key: Option<HmacKey>,
    exchange: Exchange,
    closed: AtomicBool,
}

impl Client {
    /// Makes a client of `config`, which is copied. Loads the TLS roots; connects to nothing yet.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let application_id = config.application_id.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::IncompleteConfig,
                "The configuration has no application id. Set the one that the Spike console shows.",
            )
        })?;
        Ok(Self {
            key: config.hmac_key.clone(),
            exchange: Exchange::new(config, application_id)?,
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
        let key = self.key()?;
        let user = UserId::new(user_id)?;
        self.run(
            &Claim {
                user,
                signature: &key.signature(user),
            },
            call,
        )
    }

    /// Exchanges a signature that was made elsewhere. Needs no key.
    pub fn exchange_signature(
        &self,
        user_id: &[u8],
        signature: &[u8],
        call: Option<&Call>,
    ) -> Result<AccessToken, Error> {
        self.check_open()?;
        let user = UserId::new(user_id)?;
        let signature = Signature::parse(signature)?;
        self.run(
            &Claim {
                user,
                signature: &signature,
            },
            call,
        )
    }

    fn run(&self, claim: &Claim<'_>, call: Option<&Call>) -> Result<AccessToken, Error> {
        match call {
            Some(call) => self
                .exchange
                .run(claim, call.timeout(), call.cancel_switch()),
            None => self.exchange.run(claim, None, &Cancel::new()),
        }
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
