//! The access token: checked for what may stand in a header, wiped when it is dropped, and how long
//! it is good for.

mod claims;

use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

pub(crate) use claims::seconds;

/// The longest token in bytes.
pub const TOKEN_MAX: usize = 8192;

/// An access token of one user.
///
/// It holds 1 to 8192 bytes of the characters of a bearer token (RFC 6750, 2.1), so that it can
/// stand in an `Authorization` header and inject nothing. It is wiped on drop and shown by nothing.
#[derive(Clone)]
pub struct AccessToken(Zeroizing<Box<[u8]>>);

impl AccessToken {
    /// Checks `text`; the reason for a refusal never holds any of it.
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
        if !text.iter().all(|&byte| may_stand_in_header(byte)) {
            return Err("the access token holds a character that no bearer token may hold");
        }
        Ok(())
    }

    /// The token's bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A token as the service gave it.
pub(crate) struct Grant {
    pub(crate) token: AccessToken,
    /// How long it is good for, counted from its receipt; `None` where nobody says. Zero: it had
    /// ended before it came.
    pub(crate) lifetime: Option<Duration>,
}

impl Grant {
    /// By the token's own `exp`, else by what the reply said, `expires_in`. `now` is the time by the
    /// clock of whoever made the token: only the distance counts, so that a clock which is off on
    /// either side does no harm.
    pub(crate) fn new(token: AccessToken, expires_in: Option<Duration>, now: SystemTime) -> Self {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let claimed = claims::expiry(token.as_bytes())
            .map(|exp| Duration::from_secs(exp).saturating_sub(now));
        Self {
            token,
            lifetime: claimed.or(expires_in),
        }
    }
}

fn may_stand_in_header(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_byte_is_judged_by_the_rule() {
        for byte in 0..=255u8 {
            let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
                .contains(&byte);
            assert_eq!(
                AccessToken::new(&[b'a', byte]).is_ok(),
                allowed,
                "byte {byte:#04x}"
            );
        }
    }

    #[test]
    fn the_bounds_of_the_length() {
        assert!(AccessToken::new(b"").is_err());
        assert_eq!(
            AccessToken::new(&[b'a'; TOKEN_MAX])
                .unwrap()
                .as_bytes()
                .len(),
            TOKEN_MAX
        );
        assert!(AccessToken::new(&[b'a'; TOKEN_MAX + 1]).is_err());
    }

    #[test]
    fn the_tokens_own_word_goes_before_the_replys() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        // {"exp":1000} between two parts that nobody reads
        let dated = || AccessToken::new(b"e30.eyJleHAiOjEwMDB9.c2ln").unwrap();
        let plain = || AccessToken::new(b"abc").unwrap();
        let reply = Some(Duration::from_secs(77));
        let seconds = |grant: Grant| grant.lifetime.map(|lifetime| lifetime.as_secs());
        assert_eq!(seconds(Grant::new(dated(), reply, at(400))), Some(600));
        assert_eq!(seconds(Grant::new(dated(), reply, at(1000))), Some(0));
        assert_eq!(seconds(Grant::new(dated(), reply, at(5000))), Some(0));
        assert_eq!(seconds(Grant::new(plain(), reply, at(5000))), Some(77));
        assert_eq!(seconds(Grant::new(plain(), None, at(5000))), None);
    }
}
