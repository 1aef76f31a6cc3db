//! The public keys whose signatures can be verified, by the TLS library's own list, and the names of
//! algorithms for messages. An algorithm without a name here is shown by its number.

use rustls::crypto::ring::default_provider;

/// The usable keys, for messages.
pub(crate) const USABLE_KEYS: &str = "RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519";

/// The sizes of RSA keys that ring accepts, in bits, rounded up to whole bytes like ring does.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";

const UNREADABLE: &str = "a key that cannot be read";

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;

/// Why signatures of a key, the content of a SubjectPublicKeyInfo, cannot be verified; `None` if they can.
pub(crate) fn key_flaw(key: &[u8]) -> Option<String> {
    let Some((algorithm, rest)) = value_of(SEQUENCE, key) else {
        return Some(UNREADABLE.into());
    };
    let algorithms = default_provider().signature_verification_algorithms.all;
    if !algorithms.iter().any(|usable| usable.public_key_alg_id().as_ref() == algorithm) {
        return Some(format!("a key that uses {}", name_of(algorithm)));
    }
    if value_of(OBJECT_IDENTIFIER, algorithm).is_none_or(|(oid, _)| dotted(oid) != RSA) {
        return None;
    }
    match rsa_bits(rest) {
        Some(bits) if RSA_BITS.contains(&bits.next_multiple_of(8)) => None,
        Some(bits) => Some(format!("an RSA key of {bits} bits")),
        None => Some(UNREADABLE.into()),
    }
}

fn rsa_bits(rest: &[u8]) -> Option<usize> {
    let (bits, _) = value_of(BIT_STRING, rest)?;
    let (numbers, _) = value_of(SEQUENCE, bits.strip_prefix(&[0])?)?;
    let (modulus, _) = value_of(INTEGER, numbers)?;
    let start = modulus.iter().position(|&byte| byte != 0)?;
    let modulus = modulus.get(start..)?;
    Some(modulus.len() * 8 - modulus.first()?.leading_zeros() as usize)
}

/// The name of an algorithm from the content of its AlgorithmIdentifier; of an elliptic curve, the curve's.
pub(crate) fn name_of(identifier: &[u8]) -> String {
    let Some((oid, parameters)) = value_of(OBJECT_IDENTIFIER, identifier) else {
        return "an unknown algorithm".into();
    };
    let number = match dotted(oid) {
        number if number == EC => match value_of(OBJECT_IDENTIFIER, parameters) {
            Some((curve, _)) => dotted(curve),
            None => return "a custom curve".into(),
        },
        number => number,
    };
    let name = match number.as_str() {
        RSA => "RSA",
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.14" => "RSA with SHA-224",
        "1.2.840.10040.4.1" => "DSA",
        "2.16.840.1.101.3.4.3.2" => "DSA with SHA-256",
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA with SHA-224",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.10045.3.1.7" => "P-256",
        "1.3.132.0.10" => "secp256k1",
        "1.3.132.0.33" => "P-224",
        "1.3.132.0.34" => "P-384",
        "1.3.132.0.35" => "P-521",
        "1.3.36.3.3.2.8.1.1.7" => "brainpoolP256r1",
        "1.3.36.3.3.2.8.1.1.11" => "brainpoolP384r1",
        "1.3.36.3.3.2.8.1.1.13" => "brainpoolP512r1",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        _ => return format!("algorithm {number}"),
    };
    name.into()
}

/// The content of the DER value at the start of `input`, if it has this tag, and the rest.
pub(crate) fn value_of(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = input.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7F))?;
        let length = digits
            .iter()
            .try_fold(0usize, |sum, &digit| Some(sum.checked_mul(256)? + usize::from(digit)))?;
        (length, rest)
    };
    (first == tag).then(|| rest.split_at_checked(length))?
}

/// An object identifier in dotted notation.
fn dotted(oid: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut part = 0u64;
    for &byte in oid {
        part = part.wrapping_shl(7) | u64::from(byte & 0x7F);
        if byte < 0x80 {
            if parts.is_empty() {
                let first = (part / 40).min(2);
                parts.push(first.to_string());
                part -= first * 40;
            }
            parts.push(part.to_string());
            part = 0;
        }
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        use rcgen::PublicKeyData as _;
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let spki = key.subject_public_key_info();
        value_of(SEQUENCE, &spki).unwrap().0.to_vec()
    }

    fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, content].concat()
    }

    fn rsa_key(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0xFF; bits.div_ceil(8)];
        modulus[0] >>= (8 - bits % 8) % 8;
        modulus.insert(0, 0);
        let numbers = wrapped(SEQUENCE, &wrapped(INTEGER, &modulus));
        let algorithm = wrapped(SEQUENCE, &[RSA_IDENTIFIER, &[0x05, 0x00]].concat());
        // The shortest form of a length, as in a real key.
        let algorithm = [&[SEQUENCE, algorithm[3]], &algorithm[4..]].concat();
        [algorithm, wrapped(BIT_STRING, &[&[0], &numbers[..]].concat())].concat()
    }

    const RSA_IDENTIFIER: &[u8] = b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01";

    #[test]
    fn the_keys_that_the_tls_library_verifies_are_usable() {
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            assert_eq!(key_flaw(&key(algorithm)), None);
        }
        for bits in [2041, 2048, 2049, 4096, 8192] {
            assert_eq!(key_flaw(&rsa_key(bits)), None, "{bits}");
        }
    }

    #[test]
    fn a_key_that_it_cannot_verify_is_named() {
        for bits in [512, 1024, 2040, 8193, 16384] {
            let flaw = key_flaw(&rsa_key(bits)).unwrap();
            assert_eq!(flaw, format!("an RSA key of {bits} bits"));
        }
        for (identifier, name) in [
            (&b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x05\x2B\x81\x04\x00\x23"[..], "P-521"),
            (b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x30\x00", "a custom curve"),
            (b"\x06\x03\x2B\x65\x71", "Ed448"),
            (b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0A", "RSA-PSS"),
            (b"\x06\x08\x2A\x86\x48\xCE\x3D\x04\x03\x04", "ECDSA with SHA-512"),
            (b"\x06\x04\x88\x37\x03\x01", "algorithm 2.999.3.1"),
            (b"\x05\x00", "an unknown algorithm"),
            (b"", "an unknown algorithm"),
        ] {
            assert_eq!(name_of(identifier), name);
            let key = wrapped(SEQUENCE, identifier);
            assert_eq!(key_flaw(&key), Some(format!("a key that uses {name}")));
        }
    }

    #[test]
    fn a_key_that_is_cut_short_cannot_be_read() {
        let whole = rsa_key(2048);
        for end in 0..whole.len() {
            assert_eq!(key_flaw(&whole[..end]).unwrap(), UNREADABLE);
        }
        for length in [0x7F, 0x80, 0x84, 0x88, 0x89, 0xFF] {
            let bytes = [&[SEQUENCE, length][..], &[0xFF; 16]].concat();
            assert!(value_of(SEQUENCE, &bytes).is_none_or(|(content, _)| content.is_empty()));
        }
    }
}
