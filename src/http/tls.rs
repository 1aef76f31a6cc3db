//! TLS by rustls, with ring, 1.2 and up. There is no switch that turns verification off.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, StreamOwned};

use super::control::{Control, connection_lost};
use super::sessions::Sessions;
use super::socket::Socket;
use super::tls_roots;
use crate::config::{CaCertificates, TlsRoots};
use crate::error::{Error, ErrorKind, cut};

pub(crate) type TlsStream = StreamOwned<ClientConnection, Socket>;

/// One configuration for all connections of a client: making it costs milliseconds with the
/// platform's roots, and it holds the session tickets.
pub(crate) fn client_config(
    roots: TlsRoots,
    ca: &CaCertificates,
) -> Result<Arc<ClientConfig>, Error> {
    let store = tls_roots::store(roots, ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The same for another process: its session store has a lock, which must not be shared over fork.
pub(crate) fn with_own_sessions(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::store(Arc::new(Sessions::default()));
    Arc::new(config)
}

/// A handshake over `socket`, to its end.
pub(crate) fn handshake(
    socket: Socket,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    control: &Control,
) -> Result<TlsStream, Error> {
    let connection =
        ClientConnection::new(Arc::clone(config), name.clone()).map_err(|error| failed(&error))?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
            let cause = error_within(&error).map_or_else(|| cut_short(&error), failed);
            return Err(control.cause_of(control.fail(cause)));
        }
    }
    Ok(stream)
}

/// What rustls says inside an `io::Error`, if it is rustls that speaks.
fn error_within(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// The same once the handshake is over.
pub(crate) fn broken(error: &io::Error) -> Option<Error> {
    error_within(error).map(|error| match error {
        rustls::Error::AlertReceived(alert) => Error::new(
            ErrorKind::Tls,
            format!("The server ended the TLS connection with the alert {alert:?}. Check what it asks of its clients."),
        ),
        other => connection_lost(cut(&format!("TLS failed in it: {other}"), 120)),
    })
}

/// Whether nothing is left in the connection that the next request could meet: no text that was
/// decrypted and not read, and no farewell of the other side.
pub(crate) fn is_quiet(connection: &mut ClientConnection) -> bool {
    connection
        .process_new_packets()
        .is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed())
}

/// The connection ended during the handshake. That may pass, where a bad certificate does not.
fn cut_short(error: &io::Error) -> Error {
    tls_error(
        &format!(
            "the connection ended during it ({})",
            cut(&error.to_string(), 80)
        ),
        "Check that the port speaks TLS, and try again",
    )
    .with_retryable(true)
}

fn failed(error: &rustls::Error) -> Error {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(reason) => {
            let (what, cure) = certificate(reason);
            tls_error(&what, cure)
        }
        Tls::AlertReceived(
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity,
        )
        | Tls::PeerIncompatible(_) => tls_error(
            "the server does not speak TLS 1.2 or 1.3 with a cipher that is still safe",
            "Bring the server's TLS up to date",
        ),
        Tls::FailedToGetRandomBytes => crate::random::missing(),
        Tls::InvalidMessage(_) => tls_error(
            "what the server sent is not TLS",
            "Check the port of the base URL, and that it is an https one",
        ),
        other => tls_error(
            cut(&other.to_string(), 120),
            "Check the server's TLS, and that nothing between interferes",
        ),
    }
}

fn certificate(reason: &CertificateError) -> (String, &'static str) {
    use CertificateError as Bad;
    match reason {
        Bad::Expired | Bad::ExpiredContext { .. } => (
            "the server's certificate has expired".into(),
            "Renew it, or correct this machine's clock",
        ),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => (
            "the server's certificate is not valid yet".into(),
            "Correct this machine's clock",
        ),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => (
            "the server's certificate is for another host name".into(),
            "Check the base URL's host name",
        ),
        Bad::UnknownIssuer => (
            "the server's certificate comes from no trusted authority".into(),
            "If the authority is a private one, give its certificate with set_ca_pem or SPIKE_CA_FILE",
        ),
        // rustls has no name of its own for it.
        Bad::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            "the server's certificate is an authority's own, and none for a server".into(),
            "Give the server one that the authority has signed (openssl req -x509 makes an authority's by default)",
        ),
        Bad::Revoked => ("the server's certificate was revoked".into(), "Replace it"),
        other => (
            format!(
                "the server's certificate is not acceptable ({})",
                cut(&format!("{other:?}"), 100)
            ),
            "Replace it, or check that nothing between interferes",
        ),
    }
}

fn tls_error(what: &str, cure: &str) -> Error {
    Error::new(
        ErrorKind::Tls,
        format!("The TLS handshake failed: {what}. {cure}."),
    )
}
