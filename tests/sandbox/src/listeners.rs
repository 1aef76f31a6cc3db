//! Opens every port and reports the addresses.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::{
    certificates::Identities,
    connection,
    options::Options,
    proxy::{self, Kind},
    raw_listeners,
    sandbox::Sandbox,
};

const BACKLOG: u32 = 4096;
/// After a failed accept, most likely because there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The addresses, as the ready line gives them.
#[derive(Debug, Serialize)]
pub struct Addresses {
    pub http: String,
    pub https: String,
    pub control: String,
    pub tls_faults: TlsFaults,
    pub tls12: String,
    pub silent: String,
    pub silent_tls: String,
    pub reset: String,
    pub refused: String,
    pub full: String,
    pub cut_handshake: String,
    pub proxy: String,
    pub proxy_auth: String,
    pub proxy_refusing: String,
    pub proxy_silent: String,
}

#[derive(Debug, Serialize)]
pub struct TlsFaults {
    pub expired: String,
    pub not_yet_valid: String,
    pub wrong_host: String,
    pub self_signed: String,
    pub untrusted: String,
}

/// Keeps ports taken where nobody listens.
pub struct Held {
    _refused: TcpSocket,
    _full: raw_listeners::Full,
}

pub async fn open(
    sandbox: &Arc<Sandbox>,
    options: &Options,
    identities: &Identities,
) -> io::Result<(Addresses, Held)> {
    let main = serve_http(sandbox, options.http_port)?;
    let tls =
        |config: &Arc<ServerConfig>, port| serve_https(sandbox, config, port).map(https_localhost);
    let (refused, refused_address) = raw_listeners::refused()?;
    let full = raw_listeners::Full::open().await?;
    let addresses = Addresses {
        http: http(main),
        https: tls(&identities.proper, options.https_port)?,
        control: format!("http://{main}/_sandbox"),
        tls_faults: TlsFaults {
            expired: tls(&identities.expired, 0)?,
            not_yet_valid: tls(&identities.not_yet_valid, 0)?,
            wrong_host: tls(&identities.wrong_host, 0)?,
            self_signed: tls(&identities.self_signed, 0)?,
            untrusted: tls(&identities.untrusted, 0)?,
        },
        tls12: tls(&identities.tls12, 0)?,
        silent: http(accept(listen(0)?, raw_listeners::silent)?),
        silent_tls: https(accept(listen(0)?, raw_listeners::silent)?),
        reset: http(accept(listen(0)?, raw_listeners::reset)?),
        refused: http(refused_address),
        full: http(full.address),
        cut_handshake: https(accept(listen(0)?, raw_listeners::cut_handshake)?),
        proxy: serve_proxy(sandbox, Kind::Open)?,
        proxy_auth: serve_proxy(sandbox, Kind::Guarded)?,
        proxy_refusing: serve_proxy(sandbox, Kind::Refusing)?,
        proxy_silent: format!("http://{}", accept(listen(0)?, raw_listeners::silent)?),
    };
    let held = Held { _refused: refused, _full: full };
    Ok((addresses, held))
}

fn http(address: SocketAddr) -> String {
    format!("http://{address}/v3")
}

fn https(address: SocketAddr) -> String {
    format!("https://{address}/v3")
}

fn https_localhost(address: SocketAddr) -> String {
    format!("https://localhost:{}/v3", address.port())
}

fn serve_http(sandbox: &Arc<Sandbox>, port: u16) -> io::Result<SocketAddr> {
    let sandbox = Arc::clone(sandbox);
    accept(listen(port)?, move |stream| connection::serve(Arc::clone(&sandbox), stream, false))
}

fn serve_https(
    sandbox: &Arc<Sandbox>,
    config: &Arc<ServerConfig>,
    port: u16,
) -> io::Result<SocketAddr> {
    let sandbox = Arc::clone(sandbox);
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    accept(listen(port)?, move |stream| {
        let (sandbox, acceptor) = (Arc::clone(&sandbox), acceptor.clone());
        async move {
            // Some ports exist so that clients refuse their certificate.
            if let Ok(stream) = acceptor.accept(stream).await {
                connection::serve(sandbox, stream, true).await;
            }
        }
    })
}

fn serve_proxy(sandbox: &Arc<Sandbox>, kind: Kind) -> io::Result<String> {
    let sandbox = Arc::clone(sandbox);
    let address =
        accept(listen(0)?, move |stream| proxy::serve(Arc::clone(&sandbox), stream, kind))?;
    Ok(format!("http://{address}"))
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("port {port} of 127.0.0.1: {error}"))
    };
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).map_err(named)?;
    socket.listen(BACKLOG).map_err(named)
}

/// Gives each connection a task of its own.
fn accept<F, S>(listener: TcpListener, serve: F) -> io::Result<SocketAddr>
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Small replies should not wait for each other. A failure only delays them.
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(serve(stream));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    });
    Ok(address)
}
