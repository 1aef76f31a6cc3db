//! The trusted certificates.

use rustls::RootCertStore;
use rustls::pki_types::TrustAnchor;

use super::algorithms::{USABLE_KEYS, key_flaw};
use super::pem::{self, Found};
use crate::error::{Error, ErrorKind};

/// Where the trusted roots come from. The CA of [`crate::Config::set_ca_pem`] is trusted in addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsRoots {
    /// The platform's store. On Linux, `SSL_CERT_FILE` and `SSL_CERT_DIR` name another one, unless they are
    /// empty or the program has raised privileges. The bundled roots are used only if the system has no store
    /// at all and neither variable is set.
    #[default]
    Platform,
    /// Mozilla's roots as of the build of the library.
    Bundled,
    /// Only the CA that was set.
    None,
}

/// Certificates of a private CA, each checked to be usable as a root.
#[derive(Clone, Default)]
pub(crate) struct CaCertificates(Vec<TrustAnchor<'static>>);

impl CaCertificates {
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for found in pem::certificates(text) {
            let Found { position, certificate } = found.map_err(|why| unusable(&why))?;
            // Skipping an unreadable certificate would make every handshake fail without a reason.
            store
                .add(certificate)
                .map_err(|_| unusable(&position.says("contains no readable certificate")))?;
            let flaw = store.roots.last().and_then(|root| key_flaw(&root.subject_public_key_info));
            if let Some(flaw) = flaw {
                return Err(refused(
                    &position.says(&format!("has {flaw}, whose signatures cannot be verified")),
                    &format!("Use a CA whose key is {USABLE_KEYS}"),
                ));
            }
        }
        if store.is_empty() {
            return Err(unusable(pem::why_none(text)));
        }
        Ok(Self(store.roots))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TrustAnchor<'static>> {
        self.0.iter()
    }
}

fn unusable(why: &str) -> Error {
    refused(why, "Pass the CA's certificates as PEM")
}

fn refused(why: &str, cure: &str) -> Error {
    Error::new(ErrorKind::TlsRoots, format!("Unusable CA certificate: {why}. {cure}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    fn ca_pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem()
    }

    fn refusal(pem: &str) -> String {
        let error = CaCertificates::from_pem(pem.as_bytes()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::TlsRoots);
        error.message().to_owned()
    }

    #[test]
    fn several_certificates_with_text_around_them_are_read() {
        let pem = format!("a comment\n{}\nanother\n{}", ca_pem(), ca_pem());
        let found = CaCertificates::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(found.iter().count(), 2);
    }

    #[test]
    fn unusable_texts_are_refused() {
        let good = ca_pem();
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, reason) in [
            ("", "contains no \"-----BEGIN CERTIFICATE-----\""),
            ("not a certificate", "contains no"),
            (garbage, "section 1 (line 1) contains no readable certificate"),
            (&format!("{good}{garbage}"), "section 2 (line "),
            (&good.replacen("MII", "!!!", 1), "section 1 (line 1) is not valid base64"),
        ] {
            let said = refusal(pem);
            assert!(said.contains(reason), "{said}");
        }
        let der = [0x30, 0x82, 0x01, 0x02, 0x30];
        let error = CaCertificates::from_pem(&der).err().unwrap();
        assert!(error.message().contains("-inform DER"), "{error}");
    }

    #[test]
    fn a_ca_whose_signatures_cannot_be_verified_is_refused() {
        // The identifiers of P-384 and P-521 differ in the last byte.
        const P384: &[u8] = b"\x06\x05\x2B\x81\x04\x00\x22";
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let ca = rcgen::CertificateParams::new(vec![]).unwrap();
        let mut der = ca.self_signed(&key).unwrap().der().to_vec();
        let at = der.windows(P384.len()).position(|part| part == P384);
        der[at.unwrap() + P384.len() - 1] = 0x23;
        let base64 = base64::engine::general_purpose::STANDARD.encode(der);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        let said = refusal(&format!("{}{pem}", ca_pem()));
        assert!(said.contains("section 2 (line "), "{said}");
        assert!(said.contains("a key that uses P-521"), "{said}");
        assert!(said.ends_with("P-256, P-384 or Ed25519."), "{said}");
    }
}
