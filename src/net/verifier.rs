//! webpki's verification, and whether a refused chain was incomplete.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    crypto::CryptoProvider,
};
use webpki::EndEntityCert;

thread_local! {
    /// Per thread, because a handshake is verified on the thread that makes it. The error of rustls cannot
    /// carry it: its kind chooses the alert that the server receives.
    static INCOMPLETE: Cell<bool> = const { Cell::new(false) };
}

/// Verifies with webpki.
#[derive(Debug)]
pub(super) struct Verifier(Arc<WebPkiServerVerifier>);

impl Verifier {
    /// `None` if there are no roots.
    pub(super) fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Option<Arc<Self>> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Some(Arc::new(Self(builder.build().ok()?)))
    }
}

/// Whether the chain that this thread refused last for an unknown issuer ended with a certificate whose
/// issuer was not sent. Then the server left out an intermediate certificate, or the authority is not
/// trusted.
pub(super) fn chain_was_incomplete() -> bool {
    INCOMPLETE.get()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let answer =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if let Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) = &answer {
            INCOMPLETE.set(is_incomplete(end_entity, intermediates));
        }
        answer
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Whether the chain of issuers reaches one that was not sent before a self-signed certificate.
fn is_incomplete(end_entity: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> bool {
    let names = |der| {
        let certificate = EndEntityCert::try_from(der).ok()?;
        Some((certificate.issuer().to_vec(), certificate.subject().to_vec()))
    };
    let others: Vec<_> = sent.iter().filter_map(names).collect();
    let Some(first) = names(end_entity) else {
        return false;
    };
    let mut last = &first;
    // More steps than certificates would be a circle.
    for _ in 0..=others.len() {
        let (issuer, subject) = last;
        if issuer == subject {
            return false;
        }
        match others.iter().find(|(_, subject)| subject == issuer) {
            Some(next) => last = next,
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// A certificate for `name` that names `issuer` as its issuer.
    fn certificate(name: &str, issuer: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(params(issuer), KeyPair::generate().unwrap());
        params(name).signed_by(&key, &issuer).unwrap().der().clone()
    }

    #[test]
    fn a_chain_is_incomplete_if_an_issuer_was_not_sent() {
        let (leaf, middle) = (certificate("leaf", "middle"), certificate("middle", "root"));
        let (root, other) = (certificate("root", "root"), certificate("other", "root"));
        let (one, two) = (certificate("one", "two"), certificate("two", "one"));
        let garbage = CertificateDer::from(vec![0x30, 0]);
        for (first, sent, expected) in [
            (&leaf, vec![], true),
            (&leaf, vec![&middle], true),
            (&leaf, vec![&root, &other], true),
            (&leaf, vec![&garbage, &middle, &root], false),
            (&leaf, vec![&root, &other, &middle], false),
            (&root, vec![], false),
            (&one, vec![&two, &one], false),
            (&garbage, vec![&middle], false),
        ] {
            let sent: Vec<_> = sent.into_iter().cloned().collect();
            assert_eq!(is_incomplete(first, &sent), expected);
        }
    }
}
