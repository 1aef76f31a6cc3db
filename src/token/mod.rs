//! The access token, which is valid in a header and wiped on drop, and its lifetime.

mod claims;

use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

pub(crate) use claims::seconds;

/// The maximum length of a token in bytes.
pub const TOKEN_MAX: usize = 8192;

/// An access token of one user.
///
/// It has 1 to 8192 bytes, all of them characters of a bearer token (RFC 6750, 2.1), so it cannot inject
/// anything into an `Authorization` header. It is wiped on drop, and has no `Debug`.
#[derive(Clone)]
pub struct AccessToken(Zeroizing<Box<[u8]>>);

impl AccessToken {
    /// Checks `text`; the error contains no part of it.
    pub(crate) fn new(text: &[u8]) -> Result<Self, &'static str> {
        Self::check(text)?;
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// Whether `text` could be a token.
    pub(crate) fn check(text: &[u8]) -> Result<(), &'static str> {
        if text.is_empty() {
            return Err("the access token is empty");
        }
        if text.len() > TOKEN_MAX {
            return Err("the access token is longer than 8192 bytes");
        }
        if !text.iter().all(|&byte| is_allowed(byte)) {
            return Err("the access token contains a character that no bearer token may have");
        }
        Ok(())
    }

    /// The token's bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A token as the service returned it.
pub(crate) struct TokenResponse {
    pub(crate) token: AccessToken,
    /// From its receipt on; `None` if unknown. Zero: it had expired already.
    pub(crate) lifetime: Option<Duration>,
}

impl TokenResponse {
    /// The lifetime is the first of these that is not zero: from the token's `iat` to its `exp`, which needs
    /// no clock; `expires_in` of the response; from `now` to `exp`. `now` is the time by the service's clock,
    /// which may be wrong.
    pub(crate) fn new(token: AccessToken, expires_in: Option<Duration>, now: SystemTime) -> Self {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let dates = claims::dates(token.as_bytes());
        let measures = [
            dates
                .as_ref()
                .and_then(|dates| Some(dates.expires.saturating_sub(dates.issued?)))
                .map(Duration::from_secs),
            expires_in,
            dates.map(|dates| Duration::from_secs(dates.expires).saturating_sub(now)),
        ];
        let known = measures.into_iter().flatten();
        Self {
            token,
            lifetime: known.reduce(|best, next| if best.is_zero() { next } else { best }),
        }
    }
}

/// A token is renewed before its own end: a tenth of its lifetime, and no more than this.
const MARGIN_MAX: Duration = Duration::from_secs(60);

/// How long a token that came now is used before it is renewed: its lifetime without a margin, and at most
/// `age_max`. `None`: without end.
pub(crate) fn term(lifetime: Option<Duration>, age_max: Option<Duration>) -> Option<Duration> {
    let by_lifetime = lifetime.map(|lifetime| lifetime - MARGIN_MAX.min(lifetime / 10));
    by_lifetime.into_iter().chain(age_max).min()
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn every_byte_is_checked() {
        for byte in 0..=255u8 {
            let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
                .contains(&byte);
            assert_eq!(AccessToken::new(&[b'a', byte]).is_ok(), allowed, "byte {byte:#04x}");
        }
    }

    #[test]
    fn the_limits_of_the_length() {
        assert!(AccessToken::new(b"").is_err());
        assert_eq!(AccessToken::new(&[b'a'; TOKEN_MAX]).unwrap().as_bytes().len(), TOKEN_MAX);
        assert!(AccessToken::new(&[b'a'; TOKEN_MAX + 1]).is_err());
    }

    fn token(claims: &str) -> AccessToken {
        let claims = URL_SAFE_NO_PAD.encode(claims);
        AccessToken::new(format!("e30.{claims}.c2ln").as_bytes()).unwrap()
    }

    #[test]
    fn the_lifetime_depends_on_clocks_as_little_as_possible() {
        let both = r#"{"exp":1000,"iat":900}"#;
        let (exp, wrong, none) = (r#"{"exp":1000}"#, r#"{"exp":1000,"iat":1000}"#, "{}");
        for (claims, expires_in, now, expected) in [
            (both, Some(77), 400, Some(100)),
            (both, None, 5000, Some(100)), // a Date that is hours ahead
            (both, Some(0), 5000, Some(100)),
            (exp, Some(77), 400, Some(77)),
            (exp, Some(77), 5000, Some(77)),
            (exp, Some(0), 400, Some(600)),
            (exp, None, 400, Some(600)),
            (exp, None, 1000, Some(0)),
            (exp, None, 5000, Some(0)),
            (wrong, Some(77), 400, Some(77)),
            (wrong, Some(0), 400, Some(600)),
            (wrong, Some(0), 1000, Some(0)),
            (none, Some(77), 5000, Some(77)),
            (none, Some(0), 5000, Some(0)),
            (none, None, 5000, None),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let response =
                TokenResponse::new(token(claims), expires_in.map(Duration::from_secs), now);
            let lifetime = response.lifetime.map(|lifetime| lifetime.as_secs());
            assert_eq!(lifetime, expected, "{claims} {expires_in:?} {now:?}");
        }
    }
}
