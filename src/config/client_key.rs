//! What a client makes of its HMAC key.

use std::path::Path;

use super::files::read_secret;
use crate::error::Error;
use crate::signing::{DerivedKey, HmacKey, KEY_MAX};

/// A file with the key: LF or CR LF may follow it.
pub(super) const KEY_FILE_MAX: u64 = KEY_MAX as u64 + 2;

/// The salt of the keys of the store's records: the version of their format.
const STORE_SALT: &[u8] = b"spike_auth store 1";

/// The keys that are made of it. Its bytes are not kept.
pub(crate) struct ClientKey {
    pub(crate) hmac: HmacKey,
    /// For the records of the store.
    pub(crate) store: DerivedKey,
    pub(crate) shape: KeyShape,
}

impl ClientKey {
    /// Takes 1 to 4096 raw bytes. Fails too if the system gives no memory.
    pub(crate) fn new(key: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            hmac: HmacKey::new(key)?,
            store: DerivedKey::extract(STORE_SALT, key)?,
            shape: KeyShape::of(key),
        })
    }

    /// The key in a file. `None` if it holds none now.
    pub(crate) fn in_file(path: &Path) -> Option<Self> {
        let key = Self::new(&read_secret(path, KEY_FILE_MAX).ok()?).ok()?;
        key.hmac.check_proof().ok().map(|()| key)
    }
}

/// What may be said of a key: its length, and the usual ways in which a copy of it is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyShape {
    pub(crate) length: usize,
    /// A space, tab or newline is at its start.
    pub(crate) starts_blank: bool,
    pub(crate) ends_blank: bool,
    /// The last byte is a newline.
    pub(crate) ends_with_newline: bool,
    /// It holds bytes that no console shows.
    pub(crate) is_binary: bool,
    pub(crate) is_quoted: bool,
    /// Text that begins or ends with an invisible character outside ASCII, such as a byte order mark or a no-break space.
    pub(crate) has_invisible_end: bool,
}

impl KeyShape {
    fn of(key: &[u8]) -> Self {
        let is_blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        let is_invisible = |c: char| match c {
            '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}' => true,
            c => c.is_whitespace() && !c.is_ascii(),
        };
        let text = std::str::from_utf8(key).unwrap_or_default();
        Self {
            length: key.len(),
            starts_blank: is_blank(key.first()),
            ends_blank: is_blank(key.last()),
            ends_with_newline: matches!(key.last(), Some(b'\n' | b'\r')),
            is_binary: !key.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')),
            is_quoted: key.len() > 1
                && key.first() == key.last()
                && matches!(key.first(), Some(b'"' | b'\'')),
            has_invisible_end: text.starts_with(is_invisible) || text.ends_with(is_invisible),
        }
    }
}
