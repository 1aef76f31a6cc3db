//! HMAC-SHA256 from prepared states.
//!
//! An HMAC with a known key is two runs of SHA-256 that start from two fixed states. They are as secret as
//! the key. The compression function comes from the `sha2` crate, which uses SHA-NI where available.

use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use super::Digest;
use crate::error::Error;
use crate::undumped::Undumped;

const IPAD: u8 = 0x36;
const OPAD: u8 = 0x5c;
pub(super) const BLOCK: usize = 64;
const LENGTH_FIELD: usize = 8;
/// The longest message for which padding and length fit into the same block.
pub(super) const ONE_BLOCK_MAX: usize = BLOCK - LENGTH_FIELD - 1;

pub(super) type State = [u32; 8];
pub(super) type Block = [u8; BLOCK];

/// SHA-256's initial state (FIPS 180-4, 5.3.3).
pub(super) const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The states after the two blocks that HMAC makes of a key.
#[derive(Default)]
pub(super) struct States {
    pub(super) inner: State,
    pub(super) outer: State,
}

impl States {
    /// The states of a secret key, where no core dump has them.
    pub(super) fn undumped(key: &[u8]) -> Result<Undumped<Self>, Error> {
        let mut this = Undumped::<Self>::new()?;
        this.prepare(key);
        Ok(this)
    }

    /// Takes a key of any length.
    pub(super) fn prepare(&mut self, key: &[u8]) {
        let mut block = key_block(key);
        (self.inner, self.outer) = (INITIAL, INITIAL);
        block.iter_mut().for_each(|byte| *byte ^= IPAD);
        compress256(&mut self.inner, std::slice::from_ref(&*block));
        block.iter_mut().for_each(|byte| *byte ^= IPAD ^ OPAD);
        compress256(&mut self.outer, std::slice::from_ref(&*block));
    }

    /// The HMAC of a message of any length, which may be secret.
    pub(super) fn mac(&self, message: &[u8]) -> Zeroizing<Digest> {
        let mut state = Zeroizing::new(self.inner);
        hash_long(&mut state, message);
        let block = Zeroizing::new(outer_block(&state));
        *state = self.outer;
        compress256(&mut state, std::slice::from_ref(&*block));
        Zeroizing::new(digest(&state))
    }

    #[inline]
    pub(super) fn hash_inner(&self, message: &[u8]) -> State {
        let mut state = self.inner;
        if message.len() <= ONE_BLOCK_MAX {
            compress256(&mut state, &[inner_block(message)]);
        } else {
            hash_long(&mut state, message);
        }
        state
    }

    #[inline]
    pub(super) fn hash_outer(&self, state: &mut State) {
        let block = outer_block(state);
        *state = self.outer;
        compress256(state, &[block]);
    }
}

impl ConstantTimeEq for States {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.inner.ct_eq(&other.inner) & self.outer.ct_eq(&other.outer)
    }
}

impl Zeroize for States {
    fn zeroize(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// The key as HMAC takes it: whole, or its digest if it is longer than a block (RFC 2104, 2).
#[allow(clippy::indexing_slicing, reason = "each part is at most a block long")]
fn key_block(key: &[u8]) -> Zeroizing<Block> {
    let mut block = Zeroizing::new([0u8; BLOCK]);
    if key.len() > BLOCK {
        let mut digest = Sha256::digest(key);
        block[..digest.len()].copy_from_slice(&digest);
        digest.as_mut_slice().zeroize();
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    block
}

/// A message of at most [`ONE_BLOCK_MAX`] bytes with its padding.
#[inline]
pub(super) fn inner_block(message: &[u8]) -> Block {
    let mut block = [0u8; BLOCK];
    pad(&mut block, message, message.len());
    block
}

/// A message of any length. Rarely used for a signature, so it is kept out of the short path's code.
#[cold]
#[allow(clippy::indexing_slicing, reason = "a rest and its padding take at most two blocks")]
fn hash_long(state: &mut State, message: &[u8]) {
    let (whole, rest) = message.as_chunks::<BLOCK>();
    compress256(state, whole);
    let mut end = Zeroizing::new([[0u8; BLOCK]; 2]);
    let end = &mut end[..if rest.len() <= ONE_BLOCK_MAX { 1 } else { 2 }];
    pad(end.as_flattened_mut(), rest, message.len());
    compress256(state, end);
}

/// The end of a message that follows the key's block: its rest, one set bit, zeros, its length in bits.
/// `padded` is zeroed, and as long as its blocks.
#[inline]
#[allow(clippy::indexing_slicing, reason = "the callers count the blocks that padding needs")]
fn pad(padded: &mut [u8], rest: &[u8], message_len: usize) {
    let length_at = padded.len() - LENGTH_FIELD;
    padded[..rest.len()].copy_from_slice(rest);
    padded[rest.len()] = 0x80;
    padded[length_at..].copy_from_slice(&((BLOCK + message_len) as u64 * 8).to_be_bytes());
}

/// The inner digest as the message of the outer hash. It is no secret for a secret key: only the outer state
/// turns it into an HMAC.
#[inline]
pub(super) fn outer_block(inner: &State) -> Block {
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
pub(super) fn digest(state: &State) -> Digest {
    let mut digest = Digest::default();
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::super::KEY_MAX;
    use super::*;
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;

    fn mac(key: &[u8], message: &[u8]) -> Digest {
        *States::undumped(key).unwrap().mac(message)
    }

    #[test]
    fn rfc_4231() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/rfc4231.json")).unwrap();
        let field = |case: &serde_json::Value, name: &str| case[name].as_str().unwrap().to_owned();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let bytes = |name| hex::decode(field(case, name)).unwrap();
            let found = hex::encode(mac(&bytes("key"), &bytes("data")));
            assert!(found.starts_with(&field(case, "mac")), "{case}");
        }
    }

    proptest! {
        #[test]
        fn equal_to_the_hmac_crate(
            key in proptest::collection::vec(any::<u8>(), 1..300),
            message in proptest::collection::vec(any::<u8>(), 0..=KEY_MAX),
        ) {
            let mut oracle = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            oracle.update(&message);
            prop_assert_eq!(mac(&key, &message), oracle.finalize().into_bytes().0);
        }
    }
}
