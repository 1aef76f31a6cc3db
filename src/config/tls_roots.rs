//! Which certificates are trusted.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{Error, ErrorKind};

/// Where the trusted roots come from. A CA that was given is trusted beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsRoots {
    /// The platform's store; on Linux `SSL_CERT_FILE` and `SSL_CERT_DIR` name another one. The
    /// bundled set takes its place where the system has no store at all and neither variable is set.
    #[default]
    Platform,
    /// Mozilla's set, as it was when the library was built.
    Bundled,
    /// None but the CA that was given.
    None,
}

/// Certificates of a private CA, each known to be usable as a root.
#[derive(Clone, Default)]
pub(crate) struct CaCertificates(Vec<CertificateDer<'static>>);

impl CaCertificates {
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let mut certificates = Vec::new();
        for (index, section) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let certificate = section.map_err(|error| {
                unusable(&format!("section {} is not valid PEM ({error})", index + 1))
            })?;
            // rustls-based stacks skip a certificate that they cannot read; then every handshake
            // fails and nothing says why.
            RootCertStore::empty()
                .add(certificate.clone())
                .map_err(|error| {
                    unusable(&format!(
                        "certificate {} cannot be read ({error})",
                        index + 1
                    ))
                })?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(unusable("it holds no \"-----BEGIN CERTIFICATE-----\""));
        }
        Ok(Self(certificates))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }
}

fn unusable(why: &str) -> Error {
    Error::new(
        ErrorKind::TlsRoots,
        format!("Unusable CA certificate: {why}. Pass the CA's certificates in PEM form."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca_pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec![])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .pem()
    }

    #[test]
    fn several_certificates_with_text_around_them() {
        let pem = format!("a comment\n{}\nanother\n{}", ca_pem(), ca_pem());
        assert_eq!(
            CaCertificates::from_pem(pem.as_bytes())
                .unwrap()
                .iter()
                .count(),
            2
        );
    }

    #[test]
    fn what_is_refused_at_once() {
        let good = ca_pem();
        let cases = [
            (String::new(), "holds no"),
            ("not a certificate".to_owned(), "holds no"),
            (
                good.replace("-----END CERTIFICATE-----", ""),
                "not valid PEM",
            ),
            (good.replacen("MII", "!!!", 1), "not valid PEM"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
                "certificate 1 cannot be read",
            ),
            (
                format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "certificate 2 cannot be read",
            ),
        ];
        for (pem, reason) in cases {
            let error = CaCertificates::from_pem(pem.as_bytes()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::TlsRoots);
            assert!(error.message().contains(reason), "{}", error.message());
        }
    }
}
