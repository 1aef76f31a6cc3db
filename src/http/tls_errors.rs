//! What TLS fails with, in words: what is wrong, and what to do.
//!
//! The TLS crates write their errors with the names of their source code. None of that reaches a
//! message: each reason that a server can give cause for has a sentence here, and a rest has one too.

use std::borrow::Cow;

use rustls::{
    AlertDescription, CertificateError, Error as Tls, InvalidMessage, OtherError, PeerIncompatible,
    PeerMisbehaved,
};

use super::verifier::chain_stopped_short;
use crate::config::{USABLE_KEYS, name_of};
use crate::error::{Error, ErrorKind};

/// What is wrong, as the part of a sentence, and the cure, as a sentence without its end.
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
                "the server's certificates are too large: more than 64 KiB",
                "Let it send fewer of them, or smaller ones",
            ),
            Tls::InvalidMessage(_) => Self::new(
                "what the server sent is not TLS",
                "Check the port of the base URL, and that it is an https one",
            ),
            Tls::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => too_old(),
            Tls::PeerIncompatible(_) => nothing_in_common(),
            Tls::PeerMisbehaved(
                PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme
                | PeerMisbehaved::SignedKxWithWrongAlgorithm,
            ) => unchecked("a signature of the server is of a kind that was not offered"),
            Tls::NoCertificatesPresented => Self::new(
                "the server sent no certificate",
                "Give it one for the host name of the base URL",
            ),
            Tls::DecryptError => interfered("what the server sent cannot be decrypted"),
            Tls::PeerSentOversizedRecord => {
                interfered("the server sent more than a record may hold")
            }
            Tls::PeerMisbehaved(_)
            | Tls::InappropriateMessage { .. }
            | Tls::InappropriateHandshakeMessage { .. } => {
                interfered("the server does not keep to the rules of TLS")
            }
            _ => interfered("the TLS library gave up"),
        }
    }
}

/// A failure that has nothing to do with the server.
pub(super) fn own_failure(error: &Tls) -> Option<Error> {
    match error {
        Tls::FailedToGetRandomBytes => Some(crate::random::missing()),
        Tls::FailedToGetCurrentTime => Some(Error::new(
            ErrorKind::Internal,
            "TLS is not possible while this machine's clock stands before 1970. Correct it.",
        )),
        _ => None,
    }
}

fn interfered(what: &'static str) -> Reason {
    Reason::new(what, "Check the server's TLS, and that nothing between interferes")
}

/// Or its certificate's key is none for them: OpenSSL says the same then.
fn too_old() -> Reason {
    Reason::new(
        "the server takes neither TLS 1.2 nor TLS 1.3",
        format!("Bring its TLS up to date, and check that its certificate's key is {USABLE_KEYS}"),
    )
}

/// A server that finds no kind of signature in common says the same as one that finds no cipher.
fn nothing_in_common() -> Reason {
    Reason::new(
        "the server has no cipher that is still safe, or its certificate a key that this library \
         cannot check, or it asks for a certificate of its clients",
        format!("Check its ciphers, and that its certificate's key is {USABLE_KEYS}"),
    )
}

/// `what` is one that webpki or ring does not know.
fn unchecked(what: &str) -> Reason {
    Reason::new(
        format!("{what}, which this library cannot check"),
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
            "the server asks for a certificate of its clients, and this library has none",
            "Let the server take clients without one",
        ),
        other => Reason::new(
            format!("the server ended it with the TLS alert {}", shown(other)),
            "See the server's log for the reason",
        ),
    }
}

/// The number of an alert, and what RFC 8446 calls it.
fn shown(alert: AlertDescription) -> String {
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
            "the server's certificate has no subjectAltName, and its commonName does not count",
            "Replace it by one with the host name there",
        ),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Reason::new(
            "the server's certificate is for another host name",
            "Check the base URL's host name",
        ),
        Bad::UnknownIssuer if chain_stopped_short() => Reason::new(
            "the server's certificate comes from no trusted authority, or the server left out an \
             intermediate certificate: its chain stops before an authority",
            "Let it send the whole chain, or give a private authority's certificate with set_ca_pem \
             or SPIKE_CA_FILE",
        ),
        Bad::UnknownIssuer => Reason::new(
            "the server's certificate comes from no trusted authority",
            "If the authority is a private one, give its certificate with set_ca_pem or SPIKE_CA_FILE",
        ),
        Bad::Revoked => Reason::new("the server's certificate was revoked", "Replace it"),
        Bad::BadSignature => Reason::new(
            "a signature of the server or of its certificates does not fit the key, or the key is RSA of \
             fewer than 2048 or more than 8192 bits",
            "Replace the certificate, or check that nothing between interferes",
        ),
        Bad::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            unchecked(&format!(
                "a signature of the server or of its certificates is {}",
                name_of(signature_algorithm_id)
            ))
        }
        Bad::UnsupportedSignatureAlgorithmForPublicKeyContext {
            public_key_algorithm_id, ..
        } => unchecked(&format!(
            "a signature of the server or of its certificates is by a key that is {}",
            name_of(public_key_algorithm_id)
        )),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => Reason::new(
            "the server's certificate, or one of its chain, is not meant for servers: its \
             extendedKeyUsage lacks serverAuth",
            "Replace it by one that is",
        ),
        Bad::Other(OtherError(other)) => malformed(other.downcast_ref()),
        _ => malformed(None),
    }
}

/// The reasons of webpki for which rustls has no name.
fn malformed(reason: Option<&webpki::Error>) -> Reason {
    use webpki::Error as Bad;
    let (what, cure) = match reason {
        Some(Bad::CaUsedAsEndEntity) => (
            "the server's certificate is an authority's own, and none for a server",
            "Give the server one that the authority has signed (openssl req -x509 makes an authority's by default)",
        ),
        Some(Bad::EndEntityUsedAsCa) => (
            "the server's certificate was issued by one that is no authority's",
            "Replace it by one that an authority has signed",
        ),
        Some(Bad::NameConstraintViolation) => (
            "the server's certificate is for a name that its authority may not sign for",
            "Replace it by one from another authority",
        ),
        Some(
            Bad::PathLenConstraintViolated
            | Bad::MaximumPathDepthExceeded
            | Bad::MaximumPathBuildCallsExceeded
            | Bad::MaximumSignatureChecksExceeded
            | Bad::MaximumNameConstraintComparisonsExceeded,
        ) => (
            "the chain of the server's certificate has more authorities than are allowed",
            "Let the server send no more than the chain",
        ),
        Some(Bad::UnsupportedCriticalExtension) => (
            "the server's certificate, or one of its chain, has a critical extension that this library \
             does not know",
            "Replace it by one without",
        ),
        Some(Bad::UnsupportedCertVersion) => (
            "the server's certificate, or one of its chain, is older than X.509 version 3, and so has no \
             subjectAltName",
            "Replace it by one with the host name there",
        ),
        _ => (
            "the server's certificate, or one of its chain, is malformed",
            "Replace it, or check that nothing between interferes",
        ),
    };
    Reason::new(what, cure)
}
