//! Access tokens: the same for a user each time, unless fresh ones are asked for.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Signs the tokens. Nobody verifies them.
const TOKEN_KEY: &[u8] = b"the sandbox signs its tokens with this, for show";
/// The beginning of every second credential, for tests to search for.
pub const CANARY: &str = "compat-canary-";

pub struct Mint {
    header: String,
    issuer: String,
    lifetime: Option<i64>,
    serial: Option<AtomicU64>,
    hash: Hmac<Sha256>,
}

impl Mint {
    pub fn new(application_id: &str, lifetime: Option<i64>, fresh: bool) -> Option<Self> {
        Some(Self {
            header: URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
            issuer: serde_json::to_string(application_id).ok()?,
            lifetime,
            serial: fresh.then(AtomicU64::default),
            hash: Hmac::new_from_slice(TOKEN_KEY).ok()?,
        })
    }

    /// A token for a user. `lifetime`, in seconds, overrides that of the run.
    pub fn token(&self, user: &str, lifetime: Option<i64>) -> String {
        let mut token = format!("{}.", self.header);
        URL_SAFE_NO_PAD.encode_string(self.claims(user, lifetime.or(self.lifetime)), &mut token);
        let tag = self.hash.clone().chain_update(&token).finalize();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(tag.into_bytes(), &mut token);
        token
    }

    /// The second credential of a user.
    pub fn second_credential(&self, user: &str) -> String {
        let tag = self.hash.clone().chain_update("second:").chain_update(user);
        format!("{CANARY}{}", hex::encode(&tag.finalize().into_bytes()[..16]))
    }

    fn claims(&self, user: &str, lifetime: Option<i64>) -> String {
        // User ids have no character that JSON would escape.
        let mut claims = format!(r#"{{"iss":{},"sub":"{user}""#, self.issuer);
        if let Some(lifetime) = lifetime {
            let now = unix_time();
            let _ = write!(claims, r#","iat":{now},"exp":{}"#, now.saturating_add(lifetime));
        }
        if let Some(serial) = &self.serial {
            let _ = write!(claims, r#","jti":"{}""#, serial.fetch_add(1, Ordering::Relaxed));
        }
        claims.push('}');
        claims
    }
}

fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(token: &str) -> serde_json::Value {
        let part = token.split('.').nth(1).unwrap_or_default();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap_or_default())
            .unwrap_or_default()
    }

    #[test]
    fn a_token_is_the_same_each_time_and_holds_the_documented_claims() {
        let mint = Mint::new("9999", None, false).unwrap();
        let token = mint.token("my_application_user_123", None);
        assert_eq!(token, mint.token("my_application_user_123", None));
        assert_ne!(token, mint.token("another", None));
        assert_eq!(token.split('.').count(), 3);
        assert!((140..150).contains(&token.len()), "{}", token.len());
        assert_eq!(
            claims(&token),
            serde_json::json!({"iss": "9999", "sub": "my_application_user_123"})
        );
    }

    #[test]
    fn a_lifetime_gives_the_times_and_a_fault_overrides_it() {
        let mint = Mint::new("9999", Some(60), false).unwrap();
        let run = claims(&mint.token("a", None));
        assert_eq!(run["exp"].as_i64().unwrap() - run["iat"].as_i64().unwrap(), 60);
        let fault = claims(&mint.token("a", Some(-5)));
        assert_eq!(fault["exp"].as_i64().unwrap() - fault["iat"].as_i64().unwrap(), -5);
    }
}
