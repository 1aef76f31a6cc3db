//! The access token: checked for what may stand in a header, and wiped when it is dropped.

use zeroize::Zeroizing;

/// The longest token in bytes.
pub const TOKEN_MAX: usize = 8192;

/// An access token of one user.
///
/// It holds 1 to 8192 bytes of the characters of a bearer token (RFC 6750, 2.1), so that it can
/// stand in an `Authorization` header and inject nothing. It is opaque: its claims are not read.
/// It is wiped on drop and shown by nothing.
pub struct AccessToken(Zeroizing<Box<[u8]>>);

impl AccessToken {
    /// Checks `text`; the reason for a refusal never holds any of it.
    pub(crate) fn new(text: &[u8]) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("the access token is empty");
        }
        if text.len() > TOKEN_MAX {
            return Err("the access token is longer than 8192 bytes");
        }
        if !text.iter().all(|&byte| may_stand_in_header(byte)) {
            return Err("the access token holds a character that no bearer token may hold");
        }
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// The token's bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
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
}
