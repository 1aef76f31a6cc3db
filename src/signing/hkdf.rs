//! HKDF-SHA256 (RFC 5869): other keys out of the HMAC key, for what is not a signature.
//!
//! ring has it too, and does not wipe what it holds.

use zeroize::Zeroizing;

use super::Digest;
use super::states::States;
use super::traces::without_traces;
use crate::error::Error;
use crate::undumped::Undumped;

/// The pseudorandom key, prepared for HMAC. The HMAC key cannot be computed from it. Wiped on drop, and left
/// out of core dumps.
pub(crate) struct DerivedKey(Undumped<States>);

impl DerivedKey {
    /// HKDF-Extract. Fails if the system gives no memory.
    pub(crate) fn extract(salt: &[u8], key: &[u8]) -> Result<Self, Error> {
        let mut salted = States::default(); // no secret
        salted.prepare(salt);
        without_traces(|| States::undumped(salted.mac(key).as_slice()).map(Self))
    }

    /// HKDF-Expand, at most 255 blocks.
    pub(crate) fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        let mut message = Zeroizing::new(Vec::with_capacity(
            size_of::<Digest>() + info.iter().map(|part| part.len()).sum::<usize>() + 1,
        ));
        let mut last = Zeroizing::new(Digest::default());
        for (index, block) in out.chunks_mut(last.len()).enumerate() {
            message.clear();
            if index > 0 {
                message.extend_from_slice(last.as_slice());
            }
            info.iter().for_each(|part| message.extend_from_slice(part));
            message.push(index as u8 + 1);
            last = without_traces(|| self.0.mac(&message));
            block.iter_mut().zip(last.iter()).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(salt: &[u8], key: &[u8], info: &[u8], expected: &str) {
        let mut out = vec![0; expected.len() / 2];
        let (first, second) = info.split_at(info.len() / 2);
        DerivedKey::extract(salt, key).unwrap().expand(&[first, second], &mut out);
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
