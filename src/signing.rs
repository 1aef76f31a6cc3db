//! Step one: HMAC-SHA256 over the user id (RFC 2104, FIPS 180-4), as 64 lowercase hex characters.
//!
//! An HMAC with a known key is two runs of SHA-256 that start from two fixed states. [`HmacKey`]
//! holds these two states, and a signature is what follows them: one compression (two or three
//! for an id of 56 bytes and more), then one more. Nothing is allocated, locked, or asked of the
//! kernel. The compression function is the `sha2` crate's, which uses SHA-NI where there is one.

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::error::{Error, ErrorKind};
use crate::user_id::{InvalidUserId, USER_ID_MAX, UserId};

/// The longest HMAC key in bytes.
pub const KEY_MAX: usize = 4096;

/// The length of a signature in hex characters.
pub const SIGNATURE_LEN: usize = 64;

/// How many ids are signed side by side. Their compressions do not depend on each other, so the
/// processor overlaps them: per id about two thirds of a lone signature. More than eight gains
/// nothing and costs stack.
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

/// The key of an application, as the two states that every signature starts from.
///
/// The bytes of the key are not kept. The states are as secret as the key, and are wiped on drop.
#[derive(Clone)]
pub struct HmacKey {
    inner: State,
    outer: State,
}

impl HmacKey {
    /// Takes the key as the console shows it: the raw bytes, never hex- or base64-decoded.
    ///
    /// Fails with [`ErrorKind::InvalidKey`] unless it has 1 to 4096 bytes.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
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
        Ok(Self::from_bytes(key))
    }

    fn from_bytes(key: &[u8]) -> Self {
        let mut block = key_block(key);
        let mut this = Self { inner: INITIAL, outer: INITIAL };
        block.iter_mut().for_each(|byte| *byte ^= IPAD);
        compress256(&mut this.inner, &[block]);
        block.iter_mut().for_each(|byte| *byte ^= IPAD ^ OPAD);
        compress256(&mut this.outer, &[block]);
        block.zeroize();
        this
    }

    /// Signs `user`: 64 lowercase hex characters into `out`.
    pub fn sign(&self, user: UserId<'_>, out: &mut [u8; SIGNATURE_LEN]) {
        let mut state = self.hash_inner(user.as_bytes());
        self.hash_outer(&mut state);
        write_hex(&state, out);
        state.zeroize();
    }

    /// Signs the rows of a column: `out[i]` gets the signature of the id `i`, or 64 NUL bytes if
    /// that id is bad, and `report` is told of every id what it is. No allocation.
    ///
    /// `out` must have a row for each id; what is beyond the shorter of the two is left alone.
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

    /// Signs up to [`BATCH`] ids, `out[i]` for `users[i]`; 64 NUL bytes where there is none.
    ///
    /// Goes step by step over all of them, not id by id: that is what lets them overlap.
    fn sign_batch(&self, users: &[Option<UserId<'_>>], out: &mut [[u8; SIGNATURE_LEN]]) {
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
                Some(_) => write_hex(state, text),
                None => *text = [0; SIGNATURE_LEN],
            }
        }
        states.zeroize();
    }

    /// Whether `signature` is this key's signature of `user`, compared in constant time.
    pub fn verify(&self, user: UserId<'_>, signature: &Signature) -> bool {
        let expected = self.signature(user);
        expected.0.ct_eq(&signature.0).into()
    }

    /// Signs `user` into a [`Signature`] of its own.
    pub(crate) fn signature(&self, user: UserId<'_>) -> Signature {
        let mut signature = Signature([0; SIGNATURE_LEN]);
        self.sign(user, &mut signature.0);
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

/// Number of bits that SHA-256 has seen at the end of a message that follows the key's block.
fn bit_length(message_len: usize) -> [u8; LENGTH_FIELD] {
    ((BLOCK + message_len) as u64 * 8).to_be_bytes()
}

/// The key as HMAC takes it: whole, or its digest if it is longer than a block (RFC 2104, 2).
fn key_block(key: &[u8]) -> Block {
    let mut block = [0u8; BLOCK];
    if key.len() > BLOCK {
        let mut digest = Sha256::digest(key);
        copy_to_start(&mut block, &digest);
        digest.as_mut_slice().zeroize();
    } else {
        copy_to_start(&mut block, key);
    }
    block
}

/// The bytes of an id that takes one block, as nearly every one does.
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

/// A longer message, up to [`USER_ID_MAX`] bytes. The ids of nearly all users are shorter, so this
/// one is kept out of the way of the short path.
#[cold]
fn hash_long(state: &mut State, message: &[u8]) {
    let mut blocks = [[0u8; BLOCK]; BLOCKS_MAX];
    let used = (message.len() + 1 + LENGTH_FIELD).div_ceil(BLOCK);
    if let Some(blocks) = blocks.get_mut(..used) {
        pad(blocks.as_flattened_mut(), message);
        compress256(state, blocks);
    }
}

/// Message, one set bit, zeros, length: `padded` is zeroed and as long as its blocks.
#[inline]
fn pad(padded: &mut [u8], message: &[u8]) {
    copy_to_start(padded, message);
    if let Some(end) = padded.get_mut(message.len()) {
        *end = 0x80;
    }
    if let Some(length) = padded.last_chunk_mut::<LENGTH_FIELD>() {
        *length = bit_length(message.len());
    }
}

/// The inner digest as the message of the outer hash. It holds no secret of its own: without the
/// outer state nobody makes a signature of it.
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
fn copy_to_start(to: &mut [u8], from: &[u8]) {
    if let Some(start) = to.get_mut(..from.len()) {
        start.copy_from_slice(from);
    }
}

/// Lowercase hex without a table: no look-up that depends on a secret, and the compiler makes
/// vector code of it (five times as fast as one look-up per nibble).
#[inline]
fn write_hex(state: &State, out: &mut [u8; SIGNATURE_LEN]) {
    let mut digest = [0u8; size_of::<State>()];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
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

/// A signature: 64 lowercase hex characters.
///
/// It is a permanent credential (it has no nonce and no time), so it is wiped on drop and shown
/// by nothing.
#[derive(Clone)]
pub struct Signature([u8; SIGNATURE_LEN]);

impl Signature {
    /// Takes 64 hex characters in either case; fails with [`ErrorKind::InvalidSignature`].
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let mut raw = [0u8; SIGNATURE_LEN / 2];
        let decoded = hex::decode_to_slice(text, &mut raw);
        raw.zeroize();
        if decoded.is_err() {
            return Err(invalid_signature(text));
        }
        let mut this = Self([0; SIGNATURE_LEN]);
        copy_to_start(&mut this.0, text);
        this.0.make_ascii_lowercase(); // the service takes lowercase only
        Ok(this)
    }

    /// The 64 characters.
    pub fn as_bytes(&self) -> &[u8; SIGNATURE_LEN] {
        &self.0
    }
}

impl Drop for Signature {
    fn drop(&mut self) {
        self.0.zeroize();
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

#[cfg(test)]
mod tests {
    use super::*;
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
            serde_json::from_str(include_str!("../tests/vectors/rfc4231.json")).unwrap();
        let field = |case: &serde_json::Value, name: &str| case[name].as_str().unwrap().to_owned();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let key = HmacKey::new(&hex::decode(field(case, "key")).unwrap()).unwrap();
            let mut state = key.hash_inner(&hex::decode(field(case, "data")).unwrap());
            key.hash_outer(&mut state);
            let mut out = [0; SIGNATURE_LEN];
            write_hex(&state, &mut out);
            let out = String::from_utf8(out.to_vec()).unwrap();
            assert!(out.starts_with(&field(case, "mac")), "{case}");
        }
    }

    #[test]
    fn the_bounds_of_the_key() {
        assert!(HmacKey::new(b"").is_err());
        assert!(HmacKey::new(&[0; KEY_MAX]).is_ok());
        let error = HmacKey::new(&[0; KEY_MAX + 1]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert!(error.message().contains("4097 bytes"));
    }

    #[test]
    fn parsing_takes_both_cases_and_nothing_else() {
        let lower = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";
        let parsed = Signature::parse(lower.to_uppercase().as_bytes()).unwrap();
        assert_eq!(text(&parsed), lower);
        let cases: [(&[u8], &str); 4] = [
            (b"", "0 characters"),
            (&lower.as_bytes()[1..], "63 characters"),
            (&[b'0'; 65], "65 characters"),
            (&[b'g'; 64], "position 0"),
        ];
        for (bad, reason) in cases {
            let error = Signature::parse(bad).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidSignature);
            assert!(error.message().contains(reason), "{}", error.message());
        }
    }

    proptest! {
        #[test]
        fn a_batch_signs_as_one_by_one(
            key in proptest::collection::vec(any::<u8>(), 1..200),
            ids in proptest::collection::vec("[A-Za-z0-9._-]{1,128}| ", 0..=BATCH),
        ) {
            let key = HmacKey::new(&key).unwrap();
            // A space is in no id: it stands for a row that holds none.
            let users: Vec<_> = ids.iter().map(|id| UserId::new(id.as_bytes()).ok()).collect();
            let mut batch = vec![[1u8; SIGNATURE_LEN]; users.len()];
            key.sign_batch(&users, &mut batch);
            for (user, signature) in users.iter().zip(&batch) {
                let expected = user.map_or([0; SIGNATURE_LEN], |user| key.signature(user).0);
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
