//! Signing with a prepared key: no allocation, no lock, no system call.
//!
//! An HMAC with a known key is two runs of SHA-256 that start from two fixed states. [`HmacKey`]
//! holds these states, and a signature takes one compression (two or three for an id of 56 bytes
//! or more) and then one more. The compression function comes from the `sha2` crate, which uses
//! SHA-NI where available.

use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{Digest, Key, SIGNATURE_LEN, Signature, write_hex};
use crate::error::{Error, ErrorKind};
use crate::user_id::{InvalidUserId, USER_ID_MAX, UserId};

/// How many ids are signed side by side. Their compressions do not depend on each other, so the
/// processor overlaps them: per id about two thirds of a single signature's time. More than eight
/// gains nothing and costs stack.
const BATCH: usize = 8;

const IPAD: u8 = 0x36;
const OPAD: u8 = 0x5c;
const BLOCK: usize = 64;
const LENGTH_FIELD: usize = 8;
/// The longest message for which padding and length fit into the same block.
const ONE_BLOCK_MAX: usize = BLOCK - LENGTH_FIELD - 1;
/// Blocks for the longest user id, with padding and length.
const BLOCKS_MAX: usize = (USER_ID_MAX + 1 + LENGTH_FIELD).div_ceil(BLOCK);

type State = [u32; 8];
type Block = [u8; BLOCK];

/// SHA-256's initial state (FIPS 180-4, 5.3.3).
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The ids of the self-test: one takes one block, the other as many as an id can take.
const PROOF_IDS: [&[u8]; 2] = [b"proof", &[b'x'; USER_ID_MAX]];

/// The key of an application, as the two states that every signature starts from.
///
/// The bytes of the key are not kept. The states are as secret as the key, and are wiped on drop.
#[derive(Clone)]
pub struct HmacKey {
    inner: State,
    outer: State,
    /// Whether the states gave the `hmac` crate's signatures when the key was made.
    proved: bool,
}

impl HmacKey {
    /// Takes the key as the console shows it: the raw bytes, never hex- or base64-decoded.
    ///
    /// Fails with [`ErrorKind::InvalidKey`] unless it has 1 to 4096 bytes.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        let checked = Key::new(key)?;
        let mut this = Self::from_bytes(key);
        this.proved = this.agrees_with(&checked);
        Ok(this)
    }

    fn from_bytes(key: &[u8]) -> Self {
        let mut block = key_block(key);
        let mut this = Self { inner: INITIAL, outer: INITIAL, proved: false };
        block.iter_mut().for_each(|byte| *byte ^= IPAD);
        compress256(&mut this.inner, &[block]);
        block.iter_mut().for_each(|byte| *byte ^= IPAD ^ OPAD);
        compress256(&mut this.outer, &[block]);
        block.zeroize();
        this
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
        let mut state = self.hash_inner(user.as_bytes());
        self.hash_outer(&mut state);
        write_hex(&digest(&state), out);
        state.zeroize();
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
                Some(id) => (*state, *block) = (self.inner, inner_block(id)),
                None => *state = user.map_or(INITIAL, |user| self.hash_inner(user.as_bytes())),
            }
        }
        for ((user, state), block) in users.iter().zip(&mut states).zip(&blocks) {
            if short_id(user).is_some() {
                compress256(state, std::slice::from_ref(block));
            }
        }
        for (state, block) in states.iter_mut().zip(&mut blocks).take(out.len()) {
            *block = outer_block(state);
            *state = self.outer;
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
    }

    /// Whether `signature` is this key's signature of `user`, compared in constant time.
    pub fn verify(&self, user: UserId<'_>, signature: &Signature) -> bool {
        self.signature(user).text.ct_eq(&signature.text).into()
    }

    /// Whether both are made of the same key, compared in constant time.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        (self.inner.ct_eq(&other.inner) & self.outer.ct_eq(&other.outer)).into()
    }

    /// Signs `user` into a [`Signature`] of its own.
    pub(crate) fn signature(&self, user: UserId<'_>) -> Signature {
        let mut signature = Signature::new([0; SIGNATURE_LEN]);
        self.sign(user, &mut signature.text);
        signature
    }

    #[inline]
    fn hash_inner(&self, message: &[u8]) -> State {
        let mut state = self.inner;
        if message.len() <= ONE_BLOCK_MAX {
            compress256(&mut state, &[inner_block(message)]);
        } else {
            hash_long(&mut state, message);
        }
        state
    }

    #[inline]
    fn hash_outer(&self, state: &mut State) {
        let block = outer_block(state);
        *state = self.outer;
        compress256(state, &[block]);
    }
}

impl Drop for HmacKey {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// The number of bits that SHA-256 has seen at the end of a message that follows the key's block.
fn bit_length(message_len: usize) -> [u8; LENGTH_FIELD] {
    ((BLOCK + message_len) as u64 * 8).to_be_bytes()
}

/// The key as HMAC takes it: whole, or its digest if it is longer than a block (RFC 2104, 2).
#[allow(clippy::indexing_slicing, reason = "each part is at most a block long")]
fn key_block(key: &[u8]) -> Block {
    let mut block = [0u8; BLOCK];
    if key.len() > BLOCK {
        let mut digest = Sha256::digest(key);
        block[..digest.len()].copy_from_slice(&digest);
        digest.as_mut_slice().zeroize();
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    block
}

/// The bytes of an id that takes one block, as nearly every id does.
fn short_id<'a>(user: &Option<UserId<'a>>) -> Option<&'a [u8]> {
    user.map(|user| user.as_bytes()).filter(|id| id.len() <= ONE_BLOCK_MAX)
}

/// A message of at most [`ONE_BLOCK_MAX`] bytes with its padding.
#[inline]
fn inner_block(message: &[u8]) -> Block {
    let mut block = [0u8; BLOCK];
    pad(&mut block, message);
    block
}

/// A longer message, up to [`USER_ID_MAX`] bytes. Rare, so it is kept out of the short path's code.
#[cold]
#[allow(clippy::indexing_slicing, reason = "no user id needs more blocks")]
fn hash_long(state: &mut State, message: &[u8]) {
    let mut blocks = [[0u8; BLOCK]; BLOCKS_MAX];
    let used = (message.len() + 1 + LENGTH_FIELD).div_ceil(BLOCK);
    let blocks = &mut blocks[..used];
    pad(blocks.as_flattened_mut(), message);
    compress256(state, blocks);
}

/// Message, one set bit, zeros, length. `padded` is zeroed, and as long as its blocks.
#[inline]
#[allow(clippy::indexing_slicing, reason = "the callers count the blocks that padding needs")]
fn pad(padded: &mut [u8], message: &[u8]) {
    let length_at = padded.len() - LENGTH_FIELD;
    padded[..message.len()].copy_from_slice(message);
    padded[message.len()] = 0x80;
    padded[length_at..].copy_from_slice(&bit_length(message.len()));
}

/// The inner digest as the message of the outer hash. It is no secret: only the outer state turns
/// it into a signature.
#[inline]
fn outer_block(inner: &State) -> Block {
    const DIGEST: usize = size_of::<State>();
    // The padding never changes, and is loaded in one piece.
    const PADDED: Block = {
        let mut block = [0u8; BLOCK];
        block[DIGEST] = 0x80;
        let [high, low] = (((BLOCK + DIGEST) * 8) as u16).to_be_bytes();
        (block[BLOCK - 2], block[BLOCK - 1]) = (high, low);
        block
    };
    let mut block = PADDED;
    for (bytes, word) in block.chunks_exact_mut(4).zip(inner) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    block
}

#[inline]
fn digest(state: &State) -> Digest {
    let mut digest = Digest::default();
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::super::{KEY_MAX, Key};
    use super::*;
    use crate::config::Config;
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;

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

    /// Its messages are no user ids: they go in below the check.
    #[test]
    fn rfc_4231() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/rfc4231.json")).unwrap();
        let field = |case: &serde_json::Value, name: &str| case[name].as_str().unwrap().to_owned();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let key = HmacKey::new(&hex::decode(field(case, "key")).unwrap()).unwrap();
            let mut state = key.hash_inner(&hex::decode(field(case, "data")).unwrap());
            key.hash_outer(&mut state);
            assert!(hex::encode(digest(&state)).starts_with(&field(case, "mac")), "{case}");
        }
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_message_that_is_too_long_panics_and_is_not_signed_in_part() {
        HmacKey::new(b"key").unwrap().hash_inner(&[b'x'; BLOCKS_MAX * BLOCK]);
    }

    #[test]
    fn a_client_refuses_a_key_that_signs_otherwise_than_the_hmac_crate() {
        let right = HmacKey::new(b"key").unwrap();
        let mut wrong_inner = right.clone();
        wrong_inner.inner[7] ^= 1;
        let mut wrong_outer = right.clone();
        wrong_outer.outer[0] ^= 1;
        for (mut key, agrees) in [(right, true), (wrong_inner, false), (wrong_outer, false)] {
            key.proved = key.agrees_with(&Key::new(b"key").unwrap());
            assert_eq!(key.proved, agrees);
            let mut config = Config::new().unwrap();
            config.set_application_id(b"1").unwrap();
            config.set_base_url(b"http://localhost:1").unwrap();
            config.set_hmac_key(b"key").unwrap();
            config.key.as_mut().unwrap().hmac = key;
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
