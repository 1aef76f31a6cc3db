//! HKDF-SHA256 (RFC 5869): other keys out of the HMAC key, for what is not a signature.
//!
//! ring has it too, and does not wipe what it holds.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

const BLOCK: usize = 32;

/// The pseudorandom key: the HMAC key cannot be computed from it. Wiped on drop.
#[derive(Clone)]
pub(crate) struct DerivedKey(Zeroizing<[u8; BLOCK]>);

impl DerivedKey {
    /// HKDF-Extract.
    pub(crate) fn extract(salt: &[u8], key: &[u8]) -> Self {
        let mut this = Self(Zeroizing::default());
        this.0.copy_from_slice(mac(salt, &[key]).as_slice());
        this
    }

    /// HKDF-Expand, at most 255 blocks.
    pub(crate) fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        let mut last = Zeroizing::new([0; BLOCK]);
        for (index, block) in out.chunks_mut(BLOCK).enumerate() {
            let before: &[u8] = if index == 0 { &[] } else { last.as_slice() };
            let count = [index as u8 + 1];
            let parts = [&[before], info, &[&count[..]]].concat();
            let next = mac(self.0.as_slice(), &parts);
            last.copy_from_slice(next.as_slice());
            block.iter_mut().zip(next.iter()).for_each(|(to, from)| *to = *from);
        }
    }
}

#[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; BLOCK]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    let mut out = Zeroizing::new([0; BLOCK]);
    out.copy_from_slice(mac.finalize().as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(salt: &[u8], key: &[u8], info: &[u8], expected: &str) {
        let mut out = vec![0; expected.len() / 2];
        let (first, second) = info.split_at(info.len() / 2);
        DerivedKey::extract(salt, key).expand(&[first, second], &mut out);
        assert_eq!(hex::encode(out), expected);
    }

    #[test]
    fn the_vectors_of_rfc_5869() {
        let bytes = |range: std::ops::Range<u8>| range.collect::<Vec<_>>();
        check(
            &bytes(0..13),
            &[0x0b; 22],
            &bytes(0xf0..0xfa),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        );
        check(
            &[],
            &[0x0b; 22],
            &[],
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        );
    }
}
