//! Signing with a prepared key: no allocation, no lock, no system call.
//!
//! A signature takes one compression (two or three for an id of 56 bytes or more) and then one more.

use sha2::block_api::compress256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::states::{BLOCK, INITIAL, ONE_BLOCK_MAX, States, digest, inner_block, outer_block};
use super::traces::{clear_registers, without_traces};
use super::{Key, SIGNATURE_LEN, Signature, write_hex};
use crate::error::{Error, ErrorKind};
use crate::undumped::Undumped;
use crate::user_id::{InvalidUserId, USER_ID_MAX, UserId};

/// How many ids are signed side by side. Their compressions do not depend on each other, so the
/// processor overlaps them: per id about two thirds of a single signature's time. More than eight
/// gains nothing and costs stack.
const BATCH: usize = 8;

/// The ids of the self-test: one takes one block, the other as many as an id can take.
const PROOF_IDS: [&[u8]; 2] = [b"proof", &[b'x'; USER_ID_MAX]];

/// The key of an application, as the two states that every signature starts from.
///
/// The bytes of the key are not kept. The states are as secret as the key: they are wiped on drop, and left
/// out of core dumps.
pub struct HmacKey {
    states: Undumped<States>,
    /// Whether the states gave the `hmac` crate's signatures when the key was made.
    proved: bool,
}

impl HmacKey {
    /// Takes the key as the console shows it: the raw bytes, never hex- or base64-decoded.
    ///
    /// Fails with [`ErrorKind::InvalidKey`] unless it has 1 to 4096 bytes, and with [`ErrorKind::Internal`]
    /// if the system gives no memory for it.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        let checked = Key::new(key)?;
        without_traces(|| {
            let mut this = Self { states: States::undumped(key)?, proved: false };
            this.proved = this.agrees_with(&checked);
            Ok(this)
        })
    }

    /// Whether every path of this file signs as the `hmac` crate does.
    fn agrees_with(&self, key: &Key<'_>) -> bool {
        let mut rows = Zeroizing::new([[0; SIGNATURE_LEN]; PROOF_IDS.len()]);
        self.sign_column(PROOF_IDS.into_iter(), rows.as_mut_slice(), |_, _| {});
        PROOF_IDS.into_iter().zip(rows.iter()).all(|(id, row)| {
            UserId::check(id).is_ok_and(|user| {
                key.verify(user, &Signature::new(*row)) && key.verify(user, &self.signature(user))
            })
        })
    }

    /// Fails with [`ErrorKind::Internal`] if the key signs otherwise than the `hmac` crate, as on a
    /// processor that the block function is wrong for. A client checks this before it signs.
    pub(crate) fn check_proof(&self) -> Result<(), Error> {
        if self.proved {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Internal,
            "Signing fails its self-test: the prepared key and the hmac crate sign the same id \
             differently. Use another build of libspike_auth or another processor, and report both.",
        ))
    }

    /// Signs `user`: 64 lowercase hex characters into `out`.
    pub fn sign(&self, user: UserId<'_>, out: &mut [u8; SIGNATURE_LEN]) {
        let mut state = self.states.hash_inner(user.as_bytes());
        self.states.hash_outer(&mut state);
        write_hex(&digest(&state), out);
        state.zeroize();
        clear_registers();
    }

    /// Signs the rows of a column: `out[i]` receives the signature of the id `i`, or 64 NUL bytes
    /// if that id is bad; `report` receives the result of each check. No allocation.
    ///
    /// `out` must have a row for each id: an id without one is neither signed nor reported.
    pub(crate) fn sign_column<'a>(
        &self,
        mut user_ids: impl Iterator<Item = &'a [u8]>,
        out: &mut [[u8; SIGNATURE_LEN]],
        mut report: impl FnMut(usize, Result<(), InvalidUserId>),
    ) {
        let mut index = 0;
        for rows in out.chunks_mut(BATCH) {
            let mut users = [None; BATCH];
            for (user, user_id) in users.iter_mut().zip(user_ids.by_ref().take(rows.len())) {
                let checked = UserId::check(user_id);
                *user = checked.ok();
                report(index, checked.map(|_| ()));
                index += 1;
            }
            self.sign_batch(&users, rows);
        }
    }

    /// Signs up to [`BATCH`] ids, `out[i]` for `users[i]`; 64 NUL bytes for `None`.
    ///
    /// Each step runs over all of them, not id by id: so the compressions overlap.
    fn sign_batch(&self, users: &[Option<UserId<'_>>; BATCH], out: &mut [[u8; SIGNATURE_LEN]]) {
        let mut states = [INITIAL; BATCH];
        let mut blocks = [[0u8; BLOCK]; BATCH];
        for ((user, state), block) in users.iter().zip(&mut states).zip(&mut blocks) {
            match short_id(user) {
                Some(id) => (*state, *block) = (self.states.inner, inner_block(id)),
                None => {
                    *state = user.map_or(INITIAL, |user| self.states.hash_inner(user.as_bytes()))
                }
            }
        }
        for ((user, state), block) in users.iter().zip(&mut states).zip(&blocks) {
            if short_id(user).is_some() {
                compress256(state, std::slice::from_ref(block));
            }
        }
        for (state, block) in states.iter_mut().zip(&mut blocks).take(out.len()) {
            *block = outer_block(state);
            *state = self.states.outer;
        }
        for (state, block) in states.iter_mut().zip(&blocks).take(out.len()) {
            compress256(state, std::slice::from_ref(block));
        }
        for ((user, state), text) in users.iter().zip(&states).zip(out) {
            match user {
                Some(_) => write_hex(&digest(state), text),
                None => *text = [0; SIGNATURE_LEN],
            }
        }
        states.zeroize();
        clear_registers();
    }

    /// Whether `signature` is this key's signature of `user`, compared in constant time.
    pub fn verify(&self, user: UserId<'_>, signature: &Signature) -> bool {
        self.signature(user).text.ct_eq(&signature.text).into()
    }

    /// Whether both are made of the same key, compared in constant time.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.states.ct_eq(&other.states).into()
    }

    /// Signs `user` into a [`Signature`] of its own.
    pub(crate) fn signature(&self, user: UserId<'_>) -> Signature {
        let mut signature = Signature::new([0; SIGNATURE_LEN]);
        self.sign(user, &mut signature.text);
        signature
    }
}

/// The bytes of an id that takes one block, as nearly every id does.
fn short_id<'a>(user: &Option<UserId<'a>>) -> Option<&'a [u8]> {
    user.map(|user| user.as_bytes()).filter(|id| id.len() <= ONE_BLOCK_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{KEY_MAX, Key};
    use super::*;
    use crate::config::Config;
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;
    use sha2::Sha256;
    use std::sync::Arc;

    fn oracle(key: &[u8], message: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(message);
        hex::encode(mac.finalize().into_bytes())
    }

    fn text(signature: &Signature) -> String {
        String::from_utf8(signature.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn every_length_of_id_and_the_key_lengths_around_a_block() {
        for key_len in [1, 31, 32, 63, 64, 65, 127, 128, KEY_MAX] {
            let key: Vec<u8> = (0..key_len).map(|i| i as u8).collect();
            let hmac_key = HmacKey::new(&key).unwrap();
            for len in 1..=USER_ID_MAX {
                let id = vec![b'x'; len];
                let signature = hmac_key.signature(UserId::new(&id).unwrap());
                assert_eq!(text(&signature), oracle(&key, &id), "key {key_len}, id {len}");
            }
        }
    }

    #[test]
    fn a_client_refuses_a_key_that_signs_otherwise_than_the_hmac_crate() {
        let [right, mut wrong_inner, mut wrong_outer] =
            [(); 3].map(|()| HmacKey::new(b"key").unwrap());
        wrong_inner.states.inner[7] ^= 1;
        wrong_outer.states.outer[0] ^= 1;
        for (mut key, agrees) in [(right, true), (wrong_inner, false), (wrong_outer, false)] {
            key.proved = key.agrees_with(&Key::new(b"key").unwrap());
            assert_eq!(key.proved, agrees);
            let mut config = Config::new().unwrap();
            config.set_application_id(b"1").unwrap();
            config.set_base_url(b"http://localhost:1").unwrap();
            config.set_hmac_key(b"key").unwrap();
            Arc::get_mut(config.key.as_mut().unwrap()).unwrap().hmac = key;
            match crate::Client::new(&config) {
                Ok(_) => assert!(agrees),
                Err(error) => {
                    assert!(!agrees, "{error}");
                    assert_eq!(error.kind(), ErrorKind::Internal);
                    assert!(error.message().contains("self-test"), "{error}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_batch_signs_as_one_by_one(
            key in proptest::collection::vec(any::<u8>(), 1..200),
            ids in proptest::collection::vec("[A-Za-z0-9._-]{1,128}| ", 0..=BATCH),
        ) {
            let key = HmacKey::new(&key).unwrap();
            // A space is in no id: it stands for a row without one.
            let mut users = [None; BATCH];
            for (user, id) in users.iter_mut().zip(&ids) {
                *user = UserId::new(id.as_bytes()).ok();
            }
            let mut batch = vec![[1u8; SIGNATURE_LEN]; ids.len()];
            key.sign_batch(&users, &mut batch);
            for (user, signature) in users.iter().zip(&batch) {
                let expected = user.map_or([0; SIGNATURE_LEN], |user| key.signature(user).text);
                prop_assert_eq!(&expected, signature);
            }
        }

        #[test]
        fn equal_to_the_hmac_crate(
            key in proptest::collection::vec(any::<u8>(), 1..300),
            id in "[A-Za-z0-9._-]{1,128}",
        ) {
            let signature = HmacKey::new(&key).unwrap().signature(UserId::new(id.as_bytes()).unwrap());
            prop_assert_eq!(text(&signature), oracle(&key, id.as_bytes()));
        }
    }
}
