//! Step one: HMAC-SHA256 over the user id (RFC 2104, FIPS 180-4), as 64 lowercase hex characters.
//!
//! [`Key`] signs and verifies once, with the `hmac` crate. [`HmacKey`] is prepared once and signs
//! many times, with half the compressions.
//!
//! A broken invariant panics here, because a signature of the wrong bytes is worse. The C boundary
//! catches the panic.

mod hkdf;
mod prepared;
mod states;
mod traces;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, ErrorKind};
use crate::user_id::UserId;
pub(crate) use hkdf::DerivedKey;
pub use prepared::HmacKey;
use traces::without_traces;

/// The longest HMAC key in bytes.
pub const KEY_MAX: usize = 4096;

/// The length of a signature in hex characters.
pub const SIGNATURE_LEN: usize = 64;

type Digest = [u8; SIGNATURE_LEN / 2];

/// A key for one signature: the raw bytes, of a checked length.
pub(crate) struct Key<'a>(&'a [u8]);

impl<'a> Key<'a> {
    /// Takes the key as the console shows it: the raw bytes, never hex- or base64-decoded.
    ///
    /// Fails with [`ErrorKind::InvalidKey`] unless it has 1 to 4096 bytes.
    pub(crate) fn new(key: &'a [u8]) -> Result<Self, Error> {
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(Error::new(
                ErrorKind::InvalidKey,
                format!(
                    "Invalid HMAC key: it has {} bytes. Pass the key from the Spike console as it \
                     is shown there, 1 to {KEY_MAX} bytes, not decoded.",
                    key.len()
                ),
            ));
        }
        Ok(Self(key))
    }

    /// Signs `user`: 64 lowercase hex characters into `out`.
    pub(crate) fn sign(&self, user: UserId<'_>, out: &mut [u8; SIGNATURE_LEN]) {
        without_traces(|| write_hex(&self.mac(user).finalize().as_bytes().0, out));
    }

    /// Whether `signature` is this key's signature of `user`, compared in constant time.
    pub(crate) fn verify(&self, user: UserId<'_>, signature: &Signature) -> bool {
        let mut digest = Zeroizing::new(Digest::default());
        hex::decode_to_slice(signature.as_bytes(), digest.as_mut_slice()).is_ok()
            && without_traces(|| self.mac(user).verify_slice(digest.as_slice()).is_ok())
    }

    #[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
    fn mac(&self, user: UserId<'_>) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(self.0)
            .expect("HMAC takes a key of any length")
            .chain_update(user.as_bytes())
    }
}

/// A signature: 64 lowercase hex characters.
///
/// It is a permanent credential: it has no nonce and no time. So it is wiped on drop, and has no
/// `Debug` and no `Display`.
#[derive(Clone)]
pub struct Signature {
    text: [u8; SIGNATURE_LEN],
    /// The number of the client's key that made it; 0: made elsewhere.
    key: u32,
}

impl Signature {
    /// Takes 64 hex characters in either case; fails with [`ErrorKind::InvalidSignature`].
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let mut this = Self::new(text.try_into().map_err(|_| invalid_signature(text))?);
        if !this.text.iter().all(u8::is_ascii_hexdigit) {
            return Err(invalid_signature(text));
        }
        this.text.make_ascii_lowercase(); // the service takes lowercase only
        Ok(this)
    }

    fn new(text: [u8; SIGNATURE_LEN]) -> Self {
        Self { text, key: 0 }
    }

    /// The 64 characters.
    pub fn as_bytes(&self) -> &[u8; SIGNATURE_LEN] {
        &self.text
    }

    /// Notes which of a client's keys made it.
    pub(crate) fn by_key(mut self, number: u32) -> Self {
        self.key = number;
        self
    }

    /// The number of the client's key that made it.
    pub(crate) fn key(&self) -> Option<u32> {
        (self.key != 0).then_some(self.key)
    }
}

impl Drop for Signature {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

fn invalid_signature(text: &[u8]) -> Error {
    let why = if text.len() == SIGNATURE_LEN {
        let position = text.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(0);
        format!("the character at position {position} (counted from 0) is not hexadecimal")
    } else {
        format!("it has {} characters, not {SIGNATURE_LEN}", text.len())
    };
    Error::new(
        ErrorKind::InvalidSignature,
        format!(
            "Invalid signature: {why}. Pass the HMAC-SHA256 of the user id as {SIGNATURE_LEN} hex characters."
        ),
    )
}

/// Lowercase hex without a table: no look-up depends on a secret, and the compiler vectorises it
/// (five times as fast as one look-up per nibble).
#[inline]
fn write_hex(digest: &Digest, out: &mut [u8; SIGNATURE_LEN]) {
    let (pairs, _) = out.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(digest) {
        *pair = [hex_digit(byte >> 4), hex_digit(byte & 15)];
    }
}

#[inline]
fn hex_digit(nibble: u8) -> u8 {
    const BEYOND_NINE: u8 = b'a' - b'0' - 10;
    nibble + b'0' + if nibble > 9 { BEYOND_NINE } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";

    #[test]
    fn a_key_has_1_to_4096_bytes() {
        assert!(Key::new(b"").is_err());
        assert!(Key::new(&[0; KEY_MAX]).is_ok());
        let error = Key::new(&[0; KEY_MAX + 1]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert!(error.message().contains("4097 bytes"));
    }

    #[test]
    fn one_signature_is_made_and_verified() {
        let key = Key::new(b"HMAC_KEY_FROM_ADMIN_CONSOLE").unwrap();
        let user = UserId::new(b"my_application_user_123").unwrap();
        let mut signature = [0; SIGNATURE_LEN];
        key.sign(user, &mut signature);
        assert_eq!(signature, SIGNATURE.as_bytes());
        let verifies = |text: &[u8]| key.verify(user, &Signature::parse(text).unwrap());
        assert!(verifies(SIGNATURE.as_bytes()) && verifies(SIGNATURE.to_uppercase().as_bytes()));
        for position in 0..SIGNATURE_LEN {
            let mut other = signature;
            other[position] = if other[position] == b'0' { b'1' } else { b'0' };
            assert!(!verifies(&other), "{position}");
        }
    }

    #[test]
    fn parsing_accepts_both_cases_and_nothing_else() {
        let parsed = Signature::parse(SIGNATURE.to_uppercase().as_bytes()).unwrap();
        assert_eq!(parsed.as_bytes(), SIGNATURE.as_bytes());
        let cases: [(&[u8], &str); 4] = [
            (b"", "0 characters"),
            (&SIGNATURE.as_bytes()[1..], "63 characters"),
            (&[b'0'; 65], "65 characters"),
            (&[b'g'; 64], "position 0"),
        ];
        for (bad, reason) in cases {
            let error = Signature::parse(bad).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidSignature);
            assert!(error.message().contains(reason), "{}", error.message());
        }
    }
}
