//! The messages of TLS failures: what is wrong, and what to do.
//!
//! The TLS crates print the names of their source code, which no message shows. Each failure that a server
//! can cause has a sentence here; the rest share one.

use std::borrow::Cow;

use rustls::{
    AlertDescription, CertificateError, Error as Tls, InvalidMessage, OtherError, PeerIncompatible,
    PeerMisbehaved,
};

use super::verifier::chain_was_incomplete;
use crate::config::{USABLE_KEYS, name_of};
use crate::error::{Error, ErrorKind};

/// What is wrong, as a clause, and the cure, as a sentence without its full stop.
pub(super) struct Reason {
    pub(super) what: Cow<'static, str>,
    pub(super) cure: Cow<'static, str>,
}

impl Reason {
    fn new(what: impl Into<Cow<'static, str>>, cure: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), cure: cure.into() }
    }

    pub(super) fn of(error: &Tls) -> Self {
        match error {
            Tls::InvalidCertificate(reason) => certificate(reason),
            Tls::AlertReceived(alert) => alert_received(*alert),
            Tls::InvalidMessage(
                InvalidMessage::CertificatePayloadTooLarge
                | InvalidMessage::HandshakePayloadTooLarge,
            ) => Self::new(
                "the server's certificates are larger than 64 KiB",
                "Make it send fewer or smaller ones",
            ),
            Tls::InvalidMessage(_) => Self::new(
                "the server did not answer with TLS",
                "Check that the port of the base URL is an https one",
            ),
            Tls::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => too_old(),
            Tls::PeerIncompatible(_) => nothing_in_common(),
            Tls::PeerMisbehaved(
                PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme
                | PeerMisbehaved::SignedKxWithWrongAlgorithm,
            ) => unverifiable("the server signed with an algorithm that was not offered"),
            Tls::NoCertificatesPresented => Self::new(
                "the server sent no certificate",
                "Install one for the host name of the base URL",
            ),
            Tls::DecryptError => interfered("the server's data cannot be decrypted"),
            Tls::PeerSentOversizedRecord => interfered("the server sent an oversized TLS record"),
            Tls::PeerMisbehaved(_)
            | Tls::InappropriateMessage { .. }
            | Tls::InappropriateHandshakeMessage { .. } => {
                interfered("the server violates the TLS protocol")
            }
            _ => interfered("the TLS library reported an error"),
        }
    }
}

/// A failure that the server did not cause.
pub(super) fn own_failure(error: &Tls) -> Option<Error> {
    match error {
        Tls::FailedToGetRandomBytes => Some(crate::random::missing()),
        Tls::FailedToGetCurrentTime => Some(Error::new(
            ErrorKind::Internal,
            "TLS is not possible: this machine's clock is set before 1970. Correct it.",
        )),
        _ => None,
    }
}

fn interfered(what: &'static str) -> Reason {
    Reason::new(what, "Check the server's TLS, and that nothing in between interferes")
}

/// OpenSSL reports the same if the certificate's key is unusable with these versions.
fn too_old() -> Reason {
    Reason::new(
        "the server supports neither TLS 1.2 nor TLS 1.3",
        format!("Update its TLS, and check that its certificate's key is {USABLE_KEYS}"),
    )
}

/// Servers report a missing common cipher and a missing common signature algorithm in the same way.
fn nothing_in_common() -> Reason {
    Reason::new(
        "the server supports no secure cipher, or its certificate has a key that this library cannot \
         verify, or it requires a client certificate",
        format!("Check its ciphers, and that its certificate's key is {USABLE_KEYS}"),
    )
}

/// `what` names an algorithm that webpki or ring does not support.
fn unverifiable(what: &str) -> Reason {
    Reason::new(
        format!("{what}, which this library cannot verify"),
        format!("Use certificates with keys of {USABLE_KEYS}, signed with SHA-256 or SHA-384"),
    )
}

/// Why the server ended the connection.
fn alert_received(alert: AlertDescription) -> Reason {
    use AlertDescription as Alert;
    match alert {
        Alert::ProtocolVersion => too_old(),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => nothing_in_common(),
        Alert::UnrecognisedName => {
            Reason::new("the server does not know the host name", "Check the base URL's host name")
        }
        Alert::NoApplicationProtocol => {
            Reason::new("the server does not speak HTTP/1.1", "Check the port of the base URL")
        }
        Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::CertificateRequired => Reason::new(
            "the server requires a client certificate, and this library has none",
            "Configure the server to accept clients without one",
        ),
        other => Reason::new(
            format!("the server sent the TLS alert {}", name_of_alert(other)),
            "See the server's log for the reason",
        ),
    }
}

/// The number of an alert, and its name in RFC 8446.
fn name_of_alert(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    let name = match number {
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        47 => "illegal_parameter",
        50 => "decode_error",
        51 => "decrypt_error",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        _ => return number.to_string(),
    };
    format!("{number} ({name})")
}

fn certificate(reason: &CertificateError) -> Reason {
    use CertificateError as Bad;
    match reason {
        Bad::Expired | Bad::ExpiredContext { .. } => Reason::new(
            "the server's certificate has expired",
            "Renew it, or correct this machine's clock",
        ),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            Reason::new("the server's certificate is not valid yet", "Correct this machine's clock")
        }
        Bad::NotValidForNameContext { presented, .. } if presented.is_empty() => Reason::new(
            "the server's certificate has no subjectAltName, and its commonName is not used",
            "Replace it with one that has the host name in its subjectAltName",
        ),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Reason::new(
            "the server's certificate is for another host name",
            "Check the base URL's host name",
        ),
        Bad::UnknownIssuer if chain_was_incomplete() => Reason::new(
            "the server's certificate was not issued by a trusted authority, or the server did not send an \
             intermediate certificate: its chain ends before an authority",
            "Make it send the whole chain, or add the private authority's certificate with set_ca_pem or \
             SPIKE_CA_FILE",
        ),
        Bad::UnknownIssuer => Reason::new(
            "the server's certificate was not issued by a trusted authority",
            "Add the certificate of a private authority with set_ca_pem or SPIKE_CA_FILE",
        ),
        Bad::Revoked => Reason::new("the server's certificate was revoked", "Replace it"),
        Bad::BadSignature => Reason::new(
            "a signature of the server or of its certificates does not match the key, or the key is RSA of \
             fewer than 2048 or more than 8192 bits",
            "Replace the certificate, or check that nothing in between interferes",
        ),
        Bad::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            unverifiable(&format!(
                "a signature of the server or of its certificates uses {}",
                name_of(signature_algorithm_id)
            ))
        }
        Bad::UnsupportedSignatureAlgorithmForPublicKeyContext {
            public_key_algorithm_id, ..
        } => unverifiable(&format!(
            "a signature of the server or of its certificates was made by a key that uses {}",
            name_of(public_key_algorithm_id)
        )),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => Reason::new(
            "the server's certificate, or another one of its chain, is not valid for servers: its \
             extendedKeyUsage lacks serverAuth",
            "Replace it with one that has it",
        ),
        Bad::Other(OtherError(other)) => malformed(other.downcast_ref()),
        _ => malformed(None),
    }
}

/// The errors of webpki that rustls does not name.
fn malformed(reason: Option<&webpki::Error>) -> Reason {
    use webpki::Error as Bad;
    let (what, cure) = match reason {
        Some(Bad::CaUsedAsEndEntity) => (
            "the server's certificate is a CA certificate, not one for a server",
            "Use one that the authority has signed (openssl req -x509 makes a CA certificate by default)",
        ),
        Some(Bad::EndEntityUsedAsCa) => (
            "the server's certificate was issued by a certificate that is not a CA's",
            "Replace it with one that an authority has signed",
        ),
        Some(Bad::NameConstraintViolation) => (
            "the server's certificate is for a name that its authority may not sign for",
            "Replace it with one from another authority",
        ),
        Some(
            Bad::PathLenConstraintViolated
            | Bad::MaximumPathDepthExceeded
            | Bad::MaximumPathBuildCallsExceeded
            | Bad::MaximumSignatureChecksExceeded
            | Bad::MaximumNameConstraintComparisonsExceeded,
        ) => (
            "the certificate chain of the server has too many authorities",
            "Make the server send only the certificates of its chain",
        ),
        Some(Bad::UnsupportedCriticalExtension) => (
            "the server's certificate, or another one of its chain, has a critical extension that this \
             library does not know",
            "Replace it with one that has none",
        ),
        Some(Bad::UnsupportedCertVersion) => (
            "the server's certificate, or another one of its chain, is older than X.509 version 3, and so \
             has no subjectAltName",
            "Replace it with one that has the host name in its subjectAltName",
        ),
        _ => (
            "the server's certificate, or another one of its chain, is malformed",
            "Replace it, or check that nothing in between interferes",
        ),
    };
    Reason::new(what, cure)
}
