//! TLS 1.2 and 1.3 by rustls with ring. Verification cannot be turned off.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, StreamOwned};

use super::call_io::CallIo;
use super::certificate::Certificate;
use super::errors::connection_lost;
use super::sessions::Sessions;
use super::socket::{Socket, describe};
use super::tls_errors::{Reason, own_failure};
use super::tls_roots::{self, Roots};
use super::verifier::Verifier;
use crate::config::{CaCertificates, Host, TlsRoots};
use crate::error::{Error, ErrorKind, cut};

pub(super) type TlsStream = StreamOwned<ClientConnection, Socket>;

/// TLS to one host: the configuration, and the name that the certificate must have.
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// How many roots it trusts, and where they are from.
    roots: (usize, Cow<'static, str>),
}

impl Tls {
    /// Loading the platform's roots costs milliseconds.
    pub(crate) fn new(
        host: &Host,
        roots: TlsRoots,
        ca: &CaCertificates,
        protocols: &[&[u8]],
    ) -> Result<Self, Error> {
        let trusted = tls_roots::store(roots, ca)?;
        let roots = (trusted.store.len(), trusted.from.clone());
        Ok(Self { config: client_config(trusted, protocols)?, name: server_name(host)?, roots })
    }

    /// The same for one process: its session store has a lock, which must not be shared over fork.
    pub(crate) fn of_this_process(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::store(Arc::new(Sessions::default()));
        Self { config: Arc::new(config), name: self.name.clone(), roots: self.roots.clone() }
    }

    /// The same for another host, whose name its certificate must have. Sessions are not shared with it.
    pub(crate) fn to(&self, host: &Host) -> Result<Self, Error> {
        Ok(Self { name: server_name(host)?, ..self.of_this_process() })
    }

    /// Completes a handshake over `socket`.
    pub(super) fn handshake(&self, socket: Socket, call: &CallIo) -> Result<TlsStream, Error> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|error| failed(&error))?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                let cause = || error_within(&error).map_or_else(|| interrupted(&error), failed);
                return Err(call.failure_or(cause));
            }
        }
        Ok(stream)
    }

    /// What a handshake has agreed on, for a report.
    pub(super) fn facts(&self, connection: &ClientConnection) -> TlsFacts {
        let leaf = connection.peer_certificates().and_then(|chain| chain.first());
        let certificate = leaf.and_then(|leaf| Certificate::read(leaf)).unwrap_or_default();
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let (roots, roots_from) = self.roots.clone();
        TlsFacts { version, certificate, roots, roots_from }
    }
}

/// A completed handshake, in words.
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    pub(crate) certificate: Certificate,
    /// How many roots are trusted.
    pub(crate) roots: usize,
    pub(crate) roots_from: Cow<'static, str>,
}

/// The name that a certificate of `host` must have.
fn server_name(host: &Host) -> Result<ServerName<'static>, Error> {
    match host {
        Host::Ip(ip) => Ok(ServerName::from(*ip)),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| {
            Error::new(
                ErrorKind::InvalidUrl,
                "Invalid base URL: a certificate cannot have its host name.",
            )
        }),
    }
}

fn client_config(trusted: Roots, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(trusted.store, Arc::clone(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous() // any verifier but rustls's own; ours wraps that one
        .with_custom_certificate_verifier(verifier.ok_or_else(tls_roots::none)?)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The error of rustls inside an `io::Error`.
fn error_within(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// An error of rustls after the handshake.
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

/// Whether the connection can carry another request: no decrypted data is left, and the server has sent no
/// close_notify.
pub(crate) fn is_reusable(connection: &mut ClientConnection) -> bool {
    connection
        .process_new_packets()
        .is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed())
}

/// The connection ended during the handshake. Retryable, unlike a bad certificate.
fn interrupted(error: &io::Error) -> Error {
    tls_error(
        &format!("the connection ended early ({})", cut(&describe(error), 80)),
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
    Error::new(ErrorKind::Tls, format!("The TLS handshake failed: {what}"))
        .with_cure(&format!("{cure}."))
}
