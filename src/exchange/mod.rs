//! Step two: the signature for the access token, by the rules of `POST /v3/auth/hmac`.

mod judgement;
mod problem;
mod reply;
mod request;
mod retry;
mod retry_after;

use std::time::{Duration, Instant};

use crate::config::{ApplicationId, Config};
use crate::error::{Error, Secrets};
pub(crate) use crate::http::Cancel;
use crate::http::{Deadline, HttpClient, Settings};
use crate::signing::{KeyTrace, Signature};
use crate::token::AccessToken;
use crate::user_id::UserId;
use request::RequestBody;
use retry::Budget;

/// The endpoint's path below the base URL.
const PATH: &str = "/auth/hmac";

/// Exchanges signatures for tokens; shared by all threads.
pub(crate) struct Exchange {
    http: HttpClient,
    body: RequestBody,
    timeout: Duration,
    max_attempts: u32,
    budget: Budget,
    /// For keeping the key out of messages.
    key_trace: Option<KeyTrace>,
}

/// One user, and the signature that speaks for that user.
pub(crate) struct Claim<'a> {
    pub(crate) user: UserId<'a>,
    pub(crate) signature: &'a Signature,
}

impl Exchange {
    pub(crate) fn new(config: &Config, application_id: &ApplicationId) -> Result<Self, Error> {
        let http = HttpClient::new(Settings {
            base_url: &config.base_url,
            path: PATH,
            user_agent: &config.user_agent,
            connect_timeout: config.checked_connect_timeout()?,
            in_flight_max: config.max_concurrency as usize,
            roots: config.tls_roots,
            ca: &config.ca_certificates,
            proxy: config.proxy.for_url(&config.base_url),
        })?;
        Ok(Self {
            http,
            body: RequestBody::new(application_id),
            timeout: config.timeout,
            max_attempts: config.max_attempts,
            budget: Budget::new(),
            key_trace: config.key_trace.clone(),
        })
    }

    /// One exchange: as many attempts as the retry policy and the time allow. `timeout` takes the
    /// place of the client's.
    pub(crate) fn run(
        &self,
        claim: &Claim<'_>,
        timeout: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<AccessToken, Error> {
        let deadline = Deadline::after(timeout.unwrap_or(self.timeout));
        let body = self.body.with(claim.user, claim.signature);
        let (mut attempts, mut sent) = (1, 0);
        loop {
            let failure = match self.attempt(claim, &body, deadline, cancel) {
                Ok(token) => {
                    if attempts == 1 {
                        self.budget.refund();
                    }
                    return Ok(token);
                }
                Err(failure) => {
                    sent += failure.attempts();
                    failure.with_attempts(sent)
                }
            };
            let Some(wait) = self.wait_before_next(&failure, attempts, deadline) else {
                return Err(failure);
            };
            self.http
                .sleep(Instant::now() + wait, cancel)
                .map_err(|error| error.with_attempts(sent))?;
            attempts += 1;
        }
    }

    fn attempt(
        &self,
        claim: &Claim<'_>,
        body: &[u8],
        deadline: Deadline,
        cancel: &Cancel,
    ) -> Result<AccessToken, Error> {
        let secrets = Secrets {
            user_id: claim.user.as_bytes(),
            signature: claim.signature,
            key: self.key_trace.as_ref(),
        };
        let reply = self.http.post_json(body, deadline, cancel)?;
        let requests = reply.requests;
        judgement::judge(reply, &secrets).map_err(|error| error.with_attempts(requests))
    }

    /// The wait, paid for, or `None` if the failure stands.
    fn wait_before_next(
        &self,
        failure: &Error,
        attempts: u32,
        deadline: Deadline,
    ) -> Option<Duration> {
        let wait = retry::wait_before_next(
            failure,
            attempts,
            self.max_attempts,
            deadline.left(),
            random(),
        );
        wait.filter(|_| self.budget.pay(failure))
    }

    /// Ends exchanges in flight at once and refuses later ones.
    pub(crate) fn close(&self) {
        self.http.close();
    }
}

/// A number from 0 up to and without 1. From the kernel each time, and so never the same in a
/// process and its child; it is asked for only after a failure.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the wait is in the middle: nothing that a call should fail for.
    if getrandom::getrandom(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
