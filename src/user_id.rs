//! The user id: checked once, then signed and sent byte for byte.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// The longest user id in bytes, as the service states it.
pub const USER_ID_MAX: usize = 128;

/// A user id that the service accepts: 1 to 128 bytes of `A-Z a-z 0-9 . _ -`.
///
/// It borrows the caller's bytes and never changes them. The commonest mistake in integrations
/// is to trim the id for one of the two steps, so that the id which was signed is not the id
/// which is sent; here there is only one.
#[derive(Clone, Copy)]
pub struct UserId<'a>(&'a [u8]);

impl<'a> UserId<'a> {
    /// Checks `bytes`; fails with [`ErrorKind::InvalidUserId`], naming position and reason.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        Ok(Self::check(bytes)?)
    }

    /// Like [`UserId::new`], without the allocation of an [`Error`]: bulk signing meets bad ids
    /// by the million.
    pub(crate) fn check(bytes: &'a [u8]) -> Result<Self, InvalidUserId> {
        if bytes.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        if bytes.len() > USER_ID_MAX {
            return Err(InvalidUserId::TooLong { len: bytes.len() });
        }
        // No early exit: a good id is the common case, and this form needs no branch per byte.
        if bytes.iter().fold(true, |ok, &byte| ok & is_allowed(byte)) {
            return Ok(Self(bytes));
        }
        Err(first_bad_byte(bytes))
    }

    /// The bytes, exactly as they were given.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// A user id may be a person's e-mail or number: it stays out of logs.
impl fmt::Debug for UserId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({} bytes)", self.0.len())
    }
}

fn is_allowed(byte: u8) -> bool {
    ALLOWED.get(usize::from(byte)).copied().unwrap_or(false)
}

/// One look-up per byte is quicker than four range checks, and is read off the rule directly.
static ALLOWED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0usize;
    while byte < 256 {
        #[allow(clippy::indexing_slicing)] // evaluated by the compiler
        {
            table[byte] =
                (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b'-');
        }
        byte += 1;
    }
    table
};

fn first_bad_byte(bytes: &[u8]) -> InvalidUserId {
    let found = bytes
        .iter()
        .enumerate()
        .find(|&(_, &byte)| !is_allowed(byte));
    match found {
        Some((position, &byte)) => InvalidUserId::Byte { position, byte },
        None => InvalidUserId::Empty,
    }
}

/// Why bytes are no user id.
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
                write!(
                    f,
                    "it has {len} bytes and at most {USER_ID_MAX} are allowed"
                )
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
    fn every_single_byte_is_judged_by_the_rule() {
        for byte in 0..=255u8 {
            let allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
                .bytes()
                .any(|b| b == byte);
            assert_eq!(UserId::new(&[byte]).is_ok(), allowed, "byte {byte:#04x}");
        }
    }

    #[test]
    fn the_bounds_of_the_length() {
        assert_eq!(UserId::check(b"").unwrap_err(), InvalidUserId::Empty);
        assert!(UserId::check(&[b'a'; 1]).is_ok());
        assert!(UserId::check(&[b'a'; 128]).is_ok());
        assert_eq!(
            UserId::check(&[b'a'; 129]).unwrap_err(),
            InvalidUserId::TooLong { len: 129 }
        );
    }

    #[test]
    fn the_message_names_position_and_byte_and_not_the_id() {
        let error = UserId::new(b"alice@example").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUserId);
        assert!(
            error.message().contains("byte 0x40 at position 5"),
            "{}",
            error.message()
        );
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
        assert_eq!(
            format!("{:?}", UserId::new(b"alice").unwrap()),
            "UserId(5 bytes)"
        );
    }
}
