//! The user id: checked once, then signed and sent byte for byte.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// The maximum length of a user id in bytes, as the service documents it.
pub const USER_ID_MAX: usize = 128;

/// A user id that the service accepts: 1 to 128 bytes of `A-Z a-z 0-9 . _ -`.
///
/// It borrows the caller's bytes and never changes them. The most common mistake in integrations is to trim
/// the id for only one of the two steps, so that the signed id differs from the sent one.
#[derive(Clone, Copy)]
pub struct UserId<'a>(&'a [u8]);

impl<'a> UserId<'a> {
    /// Checks `bytes`. Fails with [`ErrorKind::InvalidUserId`]; the message names position and reason.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        Ok(Self::check(bytes)?)
    }

    /// [`UserId::new`] without the allocation of an [`Error`], for millions of invalid ids in bulk signing.
    pub(crate) fn check(bytes: &'a [u8]) -> Result<Self, InvalidUserId> {
        if bytes.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        if bytes.len() > USER_ID_MAX {
            return Err(InvalidUserId::TooLong { len: bytes.len() });
        }
        if all_allowed(bytes) {
            return Ok(Self(bytes));
        }
        Err(first_bad_byte(bytes))
    }

    /// The bytes, unchanged.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// A user id that owns its bytes.
pub(crate) struct OwnedUserId(Box<[u8]>);

impl OwnedUserId {
    pub(crate) fn as_id(&self) -> UserId<'_> {
        UserId(&self.0)
    }
}

impl From<UserId<'_>> for OwnedUserId {
    fn from(user: UserId<'_>) -> Self {
        Self(user.0.into())
    }
}

/// Without the id, which may be personal data.
impl fmt::Debug for UserId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({} bytes)", self.0.len())
    }
}

/// Ranges instead of a table, without short-circuits, so that the compiler can vectorize it.
#[inline(always)]
fn is_allowed(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let digit = byte.wrapping_sub(b'0') < 10;
    letter | digit | (byte == b'.') | (byte == b'_') | (byte == b'-')
}

/// Checks pieces of a fixed size; the last one overlaps the one before, which saves a loop over the rest.
#[inline]
fn all_allowed(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<16>() {
        let (chunks, _) = bytes.as_chunks::<16>();
        return chunks.iter().fold(piece_allowed(last), |ok, chunk| ok & piece_allowed(chunk));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return piece_allowed(first) & piece_allowed(last);
    }
    bytes.iter().fold(true, |ok, &byte| ok & is_allowed(byte))
}

#[inline(always)]
fn piece_allowed<const N: usize>(piece: &[u8; N]) -> bool {
    piece.iter().fold(0, |bad, &byte| bad | u8::from(!is_allowed(byte))) == 0
}

fn first_bad_byte(bytes: &[u8]) -> InvalidUserId {
    let found = bytes.iter().enumerate().find(|&(_, &byte)| !is_allowed(byte));
    match found {
        Some((position, &byte)) => InvalidUserId::Byte { position, byte },
        None => InvalidUserId::Empty,
    }
}

/// Why bytes are not a valid user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidUserId {
    Empty,
    TooLong { len: usize },
    Byte { position: usize, byte: u8 },
}

impl fmt::Display for InvalidUserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => write!(f, "it is empty"),
            Self::TooLong { len } => {
                write!(f, "it has {len} bytes and at most {USER_ID_MAX} are allowed")
            }
            Self::Byte { position, byte } => {
                write!(
                    f,
                    "byte 0x{byte:02x} at position {position} (counted from 0) is not allowed"
                )
            }
        }
    }
}

impl From<InvalidUserId> for Error {
    fn from(why: InvalidUserId) -> Self {
        Error::new(
            ErrorKind::InvalidUserId,
            format!(
                "Invalid user id: {why}. Use 1 to {USER_ID_MAX} of the characters \
                 A-Z a-z 0-9 . _ - and sign the id exactly as it is stored."
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_checked() {
        for byte in 0..=255u8 {
            let allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
                .bytes()
                .any(|b| b == byte);
            assert_eq!(UserId::new(&[byte]).is_ok(), allowed, "byte {byte:#04x}");
        }
    }

    #[test]
    fn an_invalid_byte_is_found_at_every_position() {
        for len in 1..=USER_ID_MAX {
            let mut id = vec![b'a'; len];
            assert!(UserId::check(&id).is_ok());
            for position in 0..len {
                for bad in [0, b' ', b'/', b':', b'@', b'[', b'`', b'{', 0x7f, 0x80, 0xe1, 0xff] {
                    id[position] = bad;
                    let expected = InvalidUserId::Byte { position, byte: bad };
                    assert_eq!(UserId::check(&id).unwrap_err(), expected, "length {len}");
                }
                id[position] = b'a';
            }
        }
    }

    #[test]
    fn the_limits_of_the_length() {
        assert_eq!(UserId::check(b"").unwrap_err(), InvalidUserId::Empty);
        assert!(UserId::check(&[b'a'; 1]).is_ok());
        assert!(UserId::check(&[b'a'; 128]).is_ok());
        assert_eq!(UserId::check(&[b'a'; 129]).unwrap_err(), InvalidUserId::TooLong { len: 129 });
    }

    #[test]
    fn the_message_names_position_and_byte_and_not_the_id() {
        let error = UserId::new(b"alice@example").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUserId);
        assert!(error.message().contains("byte 0x40 at position 5"), "{}", error.message());
        assert!(!error.message().contains("alice"));
    }

    #[test]
    fn nothing_is_trimmed_or_folded() {
        for id in [" a", "a ", "a\n", "\u{e9}", "a\0"] {
            assert!(UserId::new(id.as_bytes()).is_err(), "{id:?}");
        }
        assert_eq!(UserId::new(b"User1").unwrap().as_bytes(), b"User1");
    }

    #[test]
    fn debug_shows_no_id() {
        assert_eq!(format!("{:?}", UserId::new(b"alice").unwrap()), "UserId(5 bytes)");
    }
}
