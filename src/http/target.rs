//! The endpoint that a client connects to.

use std::net::SocketAddr;
use std::sync::Arc;

use super::proxy::{self, Proxy};
use crate::config::{BaseUrl, Host};
use crate::error::Error;
use crate::net::{CallIo, Dialer, Socket, Stream, Tls};

/// The endpoint, and what a process caches about it.
pub(crate) struct Target {
    host: Host,
    port: u16,
    proxy: Option<Arc<Proxy>>,
    /// For `https`.
    pub(super) tls: Option<Tls>,
    /// To the host, or to its proxy.
    dialer: Dialer,
}

impl Target {
    pub(crate) fn new(url: &BaseUrl, tls: Option<Tls>, proxy: Option<Proxy>) -> Self {
        let (host, port) = (url.host.clone(), url.port_or_default());
        let dialer = match &proxy {
            None => Dialer::new(host.clone(), port),
            Some(proxy) => Dialer::new(proxy.url.host.clone(), proxy.url.port),
        };
        Self { host, port, proxy: proxy.map(Arc::new), tls, dialer }
    }

    /// A copy that shares no lock with another process.
    pub(crate) fn of_this_process(&self) -> Self {
        Self {
            host: self.host.clone(),
            port: self.port,
            proxy: self.proxy.clone(),
            tls: self.tls.as_ref().map(Tls::of_this_process),
            dialer: self.dialer.of_this_process(),
        }
    }

    /// A connection to the host, through the proxy if there is one.
    pub(crate) fn open(&self, call: &Arc<CallIo>) -> Result<Stream, Error> {
        Stream::new(self.connect(call)?, self.tls.as_ref(), call)
    }

    /// The host and port that it connects to: the endpoint's, or the proxy's.
    pub(super) fn first(&self) -> String {
        self.dialer.host.with_port(self.dialer.port)
    }

    /// Their addresses.
    pub(super) fn addresses(&self, call: &Arc<CallIo>) -> Result<Vec<SocketAddr>, Error> {
        let found = self.dialer.addresses(call);
        if self.proxy.is_some() { found.map_err(proxy::unreachable) } else { found }
    }

    pub(super) fn connect(&self, call: &Arc<CallIo>) -> Result<Socket, Error> {
        match &self.proxy {
            None => self.dialer.dial(call),
            Some(proxy) => {
                let socket = self.dialer.dial(call).map_err(proxy::unreachable)?;
                proxy::tunnel(socket, proxy, &self.host, self.port, call)
            }
        }
    }
}
