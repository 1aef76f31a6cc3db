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
}

impl ClientKey {
    /// Takes 1 to 4096 raw bytes. Fails too if the system gives no memory.
    pub(crate) fn new(key: &[u8]) -> Result<Self, Error> {
        Ok(Self { hmac: HmacKey::new(key)?, store: DerivedKey::extract(STORE_SALT, key)? })
    }

    /// The key in a file. `None` if it holds none now.
    pub(crate) fn in_file(path: &Path) -> Option<Self> {
        let key = Self::new(&read_secret(path, KEY_FILE_MAX).ok()?).ok()?;
        key.hmac.check_proof().ok().map(|()| key)
    }
}
