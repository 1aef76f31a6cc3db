//! TLS by rustls, with ring, 1.2 and up. There is no switch that turns verification off.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::control::Control;
use super::errors::connection_lost;
use super::sessions::Sessions;
use super::socket::Socket;
use super::tls_errors::{Reason, own_failure};
use super::tls_roots;
use super::verifier::Verifier;
use crate::config::{CaCertificates, TlsRoots};
use crate::error::{Error, ErrorKind, cut};

pub(crate) type TlsStream = StreamOwned<ClientConnection, Socket>;

/// One configuration for all connections of a client: making it costs milliseconds with the
/// platform's roots, and it holds the session tickets.
pub(crate) fn client_config(
    roots: TlsRoots,
    ca: &CaCertificates,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(tls_roots::store(roots, ca)?, Arc::clone(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous() // as rustls calls all but its own verifier; ours asks that one
        .with_custom_certificate_verifier(verifier.ok_or_else(tls_roots::none)?)
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
    error_within(error).map(|error| {
        let Reason { what, cure } = Reason::of(error);
        match error {
            rustls::Error::AlertReceived(_) => Error::new(
                ErrorKind::Tls,
                format!("The TLS connection was refused: {what}. {cure}."),
            ),
            _ => connection_lost(&what),
        }
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
    let how = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the other side closed it".into(),
        io::ErrorKind::ConnectionReset => "the other side reset it".into(),
        _ => error.to_string(),
    };
    tls_error(
        &format!("the connection ended during it ({})", cut(&how, 80)),
        "Check that the port speaks TLS, and try again",
    )
    .with_retryable(true)
}

fn failed(error: &rustls::Error) -> Error {
    own_failure(error).unwrap_or_else(|| {
        let Reason { what, cure } = Reason::of(error);
        tls_error(&what, &cure)
    })
}

fn tls_error(what: &str, cure: &str) -> Error {
    Error::new(ErrorKind::Tls, format!("The TLS handshake failed: {what}. {cure}."))
}
