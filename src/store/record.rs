//! What stands in the store: a user's key there, sealed tokens, and leases.
//!
//! Application, base URL and user are bound by the key that a record is sealed with, one for each user. So
//! the operator of the store can delete, delay or repeat a record, but can neither read a token nor hand one
//! user another's. The version stands in the names: formats never meet.

use std::sync::Arc;
use std::time::Duration;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::config::{ApplicationId, BaseUrl};
use crate::error::Error;
use crate::keyring::Keyring;
use crate::random;
use crate::token::AccessToken;
use crate::user_id::UserId;

/// The version of names and records.
pub(super) const PREFIX: &[u8; 13] = b"spike_auth:1:";
const NAME_LEN: usize = PREFIX.len() + 32;
const TOKEN: u8 = b'T';
const LEASE: u8 = b'L';
const NONCE_LEN: usize = 12;

/// How long a lease lasts.
pub(super) const LEASE_TIME: Duration = Duration::from_secs(5);

/// The token is being fetched by one client in one process, which no other has the number of.
pub(super) type Lease = [u8; 17];

/// A new number. Without randomness two processes may have the same: then both make an exchange.
pub(super) fn new_lease() -> Lease {
    let mut lease = [0; 17];
    let _ = random::fill(&mut lease);
    lease[0] = LEASE;
    lease
}

/// Makes the keys of users.
pub(super) struct Keys {
    ring: Arc<Keyring>,
    /// The application and the base URL, each after its length.
    scope: Vec<u8>,
}

impl Keys {
    pub(super) fn new(ring: Arc<Keyring>, application_id: &ApplicationId, url: &BaseUrl) -> Self {
        let mut scope = Vec::new();
        for part in [application_id.text(), &url.join("")] {
            scope.extend_from_slice(&(part.len() as u16).to_be_bytes());
            scope.extend_from_slice(part.as_bytes());
        }
        Self { ring, scope }
    }

    /// Two HMACs: about a microsecond. Fails if the client has no key.
    pub(super) fn of(&self, user: UserId<'_>) -> Result<UserKeys, Error> {
        let mut out = Zeroizing::new([0; 48]);
        let info = [&self.scope, user.as_bytes()];
        self.ring.with(|key| key.store().expand(&info, out.as_mut_slice()))?;
        let (name, secret) = out.split_at(16);
        let mut this = UserKeys { name: name_of(name), secret: Zeroizing::default() };
        this.secret.copy_from_slice(secret);
        Ok(this)
    }
}

/// The name in the store that ends with these 16 bytes in hex.
pub(super) fn name_of(bytes: &[u8]) -> [u8; NAME_LEN] {
    let mut name = [b'0'; NAME_LEN];
    let (prefix, digits) = name.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    let _ = hex::encode_to_slice(bytes, digits); // fails only for another length
    name
}

/// What belongs to one user.
pub(super) struct UserKeys {
    /// The name of the user's record.
    pub(super) name: [u8; NAME_LEN],
    secret: Zeroizing<[u8; 32]>,
}

impl UserKeys {
    /// Moves them out of what is not used any more.
    pub(super) fn take(&mut self) -> Self {
        Self { name: self.name, secret: std::mem::take(&mut self.secret) }
    }

    /// The record of a token. `None` without randomness.
    pub(super) fn seal(&self, token: &AccessToken) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        random::fill(&mut nonce).ok()?;
        self.seal_with(nonce, token)
    }

    fn seal_with(&self, nonce: [u8; NONCE_LEN], token: &AccessToken) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(token.as_bytes().len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(token.as_bytes());
        let unique = Nonce::assume_unique_for_key(nonce);
        self.cipher()?.seal_in_place_append_tag(unique, Aad::from([TOKEN]), &mut sealed).ok()?;
        Some([&[TOKEN], &nonce[..], &sealed].concat())
    }

    /// The token in a record of this user; `None` for anything else.
    pub(super) fn open(&self, record: &[u8]) -> Option<AccessToken> {
        let (nonce, sealed) = record.strip_prefix(&[TOKEN])?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let token = self.cipher()?.open_in_place(nonce, Aad::from([TOKEN]), &mut sealed).ok()?;
        AccessToken::new(token).ok()
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.secret.as_slice()).ok().map(LessSafeKey::new)
    }
}

/// The lease that `value` is, if it is one.
pub(super) fn lease_in(value: &[u8]) -> Option<Lease> {
    value.try_into().ok().filter(|lease: &Lease| lease[0] == LEASE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use proptest::prelude::*;

    const USER: &str = "my_application_user_123";

    fn keys(key: &str, application: &str, url: Option<&str>, user: &str) -> UserKeys {
        let mut config = Config::new().unwrap();
        config.set_application_id(application.as_bytes()).unwrap();
        config.set_hmac_key(key.as_bytes()).unwrap();
        if let Some(url) = url {
            config.set_base_url(url.as_bytes()).unwrap();
        }
        let application = config.application_id.as_ref().unwrap();
        Keys::new(Arc::new(Keyring::new(&config)), application, &config.base_url)
            .of(UserId::new(user.as_bytes()).unwrap())
            .unwrap()
    }

    fn known() -> UserKeys {
        keys("HMAC_KEY_FROM_ADMIN_CONSOLE", "9999", None, USER)
    }

    fn token(text: &str) -> AccessToken {
        AccessToken::new(text.as_bytes()).unwrap()
    }

    /// Computed with another implementation too.
    #[test]
    fn the_known_answer() {
        let nonce = std::array::from_fn(|i| i as u8);
        let record = known().seal_with(nonce, &token("abc.def.ghi")).unwrap();
        assert_eq!(known().name, *b"spike_auth:1:450d0e6b6b3abf9672f162a2b7a47bab");
        assert_eq!(
            hex::encode(&record),
            "54000102030405060708090a0be1a2e44d1daadd6615c0d84fffc50dc7f566ef65debbdf114163fa"
        );
        assert_eq!(known().open(&record).unwrap().as_bytes(), b"abc.def.ghi");
    }

    #[test]
    fn a_record_belongs_to_one_key_application_url_and_user() {
        let record = known().seal(&token("a-token")).unwrap();
        let other_url = Some("http://localhost:1/v3");
        for other in [
            keys("another key", "9999", None, USER),
            keys("HMAC_KEY_FROM_ADMIN_CONSOLE", "999", None, USER),
            keys("HMAC_KEY_FROM_ADMIN_CONSOLE", "9999", other_url, USER),
            keys("HMAC_KEY_FROM_ADMIN_CONSOLE", "9999", None, "my_application_user_12"),
        ] {
            assert!(other.open(&record).is_none());
            assert_ne!(other.name, known().name);
        }
        assert!(known().open(&record).is_some());
    }

    #[test]
    fn the_same_token_twice_makes_two_records() {
        let seal = || known().seal(&token("a-token")).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn leases_differ_and_are_no_tokens() {
        let (one, other) = (new_lease(), new_lease());
        assert_ne!(one, other);
        assert_eq!((lease_in(&one), lease_in(&one[1..]), lease_in(b"")), (Some(one), None, None));
        assert!(known().open(&one).is_none());
        let record = known().seal(&token("a")).unwrap();
        assert_eq!(lease_in(&record), None);
    }

    proptest! {
        #[test]
        fn a_record_that_was_changed_does_not_open(
            text in "[a-zA-Z0-9._-]{1,200}", at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let keys = known();
            let record = keys.seal(&token(&text)).unwrap();
            let opened = keys.open(&record).unwrap();
            prop_assert_eq!(opened.as_bytes(), text.as_bytes());
            let mut flipped = record.clone();
            flipped[at.index(record.len())] ^= 1 << bit;
            prop_assert!(keys.open(&flipped).is_none());
            prop_assert!(keys.open(&record[..at.index(record.len())]).is_none());
            prop_assert!(keys.open(&[&record[..], b"x"].concat()).is_none());
        }

        #[test]
        fn anything_may_stand_in_the_store(value in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(known().open(&value).is_none());
            prop_assert!(known().open(&[b"T", &value[..]].concat()).is_none());
        }
    }
}
