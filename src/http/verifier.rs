//! webpki's verification, and one thing more about a chain that it refuses.

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
    /// A handshake is verified on the thread that makes it; and rustls has no room in its error, whose
    /// kind decides on the alert that the server gets.
    static STOPS_SHORT: Cell<bool> = const { Cell::new(false) };
}

/// Asks webpki, and gives its answer.
#[derive(Debug)]
pub(super) struct Verifier(Arc<WebPkiServerVerifier>);

impl Verifier {
    /// `None` if there are no roots.
    pub(super) fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Option<Arc<Self>> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Some(Arc::new(Self(builder.build().ok()?)))
    }
}

/// Whether the chain that this thread refused last for its unknown issuer ended with a certificate
/// whose issuer was not sent. Then the server left it out, or there is no other between it and the
/// authority.
pub(super) fn chain_stopped_short() -> bool {
    STOPS_SHORT.get()
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
            STOPS_SHORT.set(stops_short(end_entity, intermediates));
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

/// Whether one goes from issuer to issuer and finds one that was not sent, before one that issued
/// itself.
fn stops_short(end_entity: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> bool {
    let names = |der| {
        let certificate = EndEntityCert::try_from(der).ok()?;
        Some((certificate.issuer().to_vec(), certificate.subject().to_vec()))
    };
    let others: Vec<_> = sent.iter().filter_map(names).collect();
    let Some(first) = names(end_entity) else {
        return false;
    };
    let mut last = &first;
    // More steps than there are certificates would go round in a circle.
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

    /// The certificate `name`, which says that `issuer` issued it.
    fn certificate(name: &str, issuer: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(params(issuer), KeyPair::generate().unwrap());
        params(name).signed_by(&key, &issuer).unwrap().der().clone()
    }

    #[test]
    fn a_chain_stops_short_where_an_issuer_was_not_sent() {
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
            assert_eq!(stops_short(first, &sent), expected);
        }
    }
}
