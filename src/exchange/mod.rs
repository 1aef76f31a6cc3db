//! Step two: the signature for the access token, by the rules of `POST /v3/auth/hmac`.

mod judgement;
mod problem;
mod reply;
mod request;
mod retry_after;

use std::time::Duration;

use crate::config::{ApplicationId, Config};
use crate::error::{Error, Secrets};
use crate::http::{HttpClient, Settings};
use crate::signing::{HmacKey, Signature};
use crate::token::AccessToken;
use crate::user_id::UserId;
use request::RequestBody;

/// The endpoint's path below the base URL.
const PATH: &str = "/auth/hmac";

/// Exchanges signatures for tokens; shared by all threads.
pub(crate) struct Exchange {
    http: HttpClient,
    body: RequestBody,
    timeout: Duration,
}

impl Exchange {
    pub(crate) fn new(config: &Config, application_id: &ApplicationId) -> Result<Self, Error> {
        let http = HttpClient::new(&Settings {
            base_url: &config.base_url,
            path: PATH,
            user_agent: &config.user_agent,
            connect_timeout: config.checked_connect_timeout()?,
            roots: config.tls_roots,
            ca: &config.ca_certificates,
        })?;
        Ok(Self {
            http,
            body: RequestBody::new(application_id),
            timeout: config.timeout,
        })
    }

    /// One exchange, one attempt. `key` is for keeping it out of messages only.
    pub(crate) fn run(
        &self,
        user: UserId<'_>,
        signature: &Signature,
        key: Option<&HmacKey>,
    ) -> Result<AccessToken, Error> {
        let body = self.body.with(user, signature);
        let secrets = Secrets {
            user_id: user.as_bytes(),
            signature,
            key,
        };
        self.http
            .post_json(&body, self.timeout)
            .and_then(|reply| judgement::judge(reply, &secrets))
            .map_err(|error| error.with_attempts(1))
    }

    /// Ends exchanges in flight at once and refuses later ones.
    pub(crate) fn close(&self) {
        self.http.close();
    }
}
