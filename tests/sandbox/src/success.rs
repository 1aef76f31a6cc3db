//! The reply to a good request, and the material for faults.

use hyper::StatusCode;

use crate::{answer::Answer, request::Exchange, token::Mint};

/// What faults change in the token before it is made.
#[derive(Default)]
pub struct Plan {
    pub lifetime: Option<i64>,
    /// As JSON, so that it can be anything.
    pub expires_in: Option<String>,
}

/// All that belongs to one good request.
pub struct Case<'a> {
    pub user: &'a str,
    pub signature: &'a str,
    pub body: &'a [u8],
    pub key: &'a str,
    pub token: String,
    second_credential: String,
    expires_in: Option<String>,
}

impl<'a> Case<'a> {
    pub fn new(
        exchange: &'a Exchange,
        body: &'a [u8],
        key: &'a str,
        mint: &Mint,
        plan: Plan,
    ) -> Self {
        Self {
            user: &exchange.user,
            signature: &exchange.signature,
            body,
            key,
            token: mint.token(&exchange.user, plan.lifetime),
            second_credential: mint.second_credential(&exchange.user),
            expires_in: plan.expires_in,
        }
    }

    pub fn answer(&self) -> Answer {
        let mut answer = Answer::new(StatusCode::OK, "application/json", self.document());
        answer.has_token = true;
        answer
    }

    pub fn document(&self) -> String {
        self.document_with(&format!(r#""access_token":"{}""#, self.token))
    }

    /// The success document with these members, given as JSON, in the place of the token. Neither tokens
    /// nor user ids need JSON escapes.
    pub fn document_with(&self, members: &str) -> String {
        let expires_in = self.expires_in.as_ref().map(|value| format!(r#""expires_in":{value},"#));
        let separator = if members.is_empty() { "" } else { "," };
        format!(
            r#"{{{members}{separator}{}"user_info":{}}}"#,
            expires_in.unwrap_or_default(),
            self.user_info()
        )
    }

    pub fn user_info(&self) -> String {
        format!(
            r#"{{"user_id":"{}","compat_application_client_token":"{}"}}"#,
            self.user, self.second_credential
        )
    }

    /// Everything that a client must not show, in one line.
    pub fn secrets(&self) -> String {
        format!(
            "user={} signature={} key={} hmac_key={} token={} authorization=Bearer {} second={} body={}",
            self.user,
            self.signature,
            self.key,
            self.key,
            self.token,
            self.token,
            self.second_credential,
            String::from_utf8_lossy(self.body)
        )
    }
}
