//! TCP connections to a host, and connections to a socket in the file system.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::call_io::CallIo;
use super::errors::{Phase, internal};
use super::getaddrinfo::is_lack;
use super::own_socket::{OwnSocket, is_not_a_socket};
use super::poll::Ready;
use super::resolve::NameCache;
use super::socket::Socket as WaitingSocket;
use crate::config::Host;
use crate::error::{Error, ErrorKind};

/// The most addresses of a host that are tried.
pub(super) const ADDRESSES_MAX: usize = 8;

/// The delay before the next address is tried in parallel (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to one host, and keeps its addresses.
pub(crate) struct Dialer {
    pub(crate) host: Host,
    pub(crate) port: u16,
    names: NameCache,
}

impl Dialer {
    pub(crate) fn new(host: Host, port: u16) -> Self {
        Self { host, port, names: NameCache::new() }
    }

    /// A copy that shares no lock with another process.
    pub(crate) fn of_this_process(&self) -> Self {
        Self::new(self.host.clone(), self.port)
    }

    /// The addresses of the host, at least one.
    pub(crate) fn addresses(&self, call: &CallIo) -> Result<Vec<SocketAddr>, Error> {
        self.names.resolve(&self.host, self.port, call)
    }

    pub(crate) fn dial(&self, call: &Arc<CallIo>) -> Result<WaitingSocket, Error> {
        let addresses = self.addresses(call)?;
        let race = Race { call, started: Vec::new(), last_error: None };
        let stream = race.run(&interleaved(&addresses)).inspect_err(|error| {
            if error.kind() == ErrorKind::Connect {
                self.names.forget();
            }
        })?;
        Ok(WaitingSocket::new(stream, Arc::clone(call)))
    }
}

/// Connects to a socket in the file system, which accepts at once or not at all.
pub(crate) fn dial_path(path: &Path, call: &Arc<CallIo>) -> Result<WaitingSocket, Error> {
    let connect = || {
        let socket = non_blocking(Domain::UNIX, None)?;
        SockRef::from(&socket).connect(&SockAddr::unix(path)?)?;
        Ok(socket)
    };
    let stream = connect().map_err(|error| refused(Some(error)))?;
    Ok(WaitingSocket::new(stream, Arc::clone(call)))
}

/// A stream socket. On Apple's systems that takes one system call more.
fn non_blocking(domain: Domain, protocol: Option<Protocol>) -> io::Result<OwnSocket> {
    #[cfg(not(target_vendor = "apple"))]
    let kind = Type::from(libc::SOCK_STREAM | libc::SOCK_NONBLOCK);
    #[cfg(target_vendor = "apple")]
    let kind = Type::STREAM;
    let socket = OwnSocket::new(Socket::new(domain, kind, protocol)?)?;
    #[cfg(target_vendor = "apple")]
    SockRef::from(&socket).set_nonblocking(true)?;
    Ok(socket)
}

/// Alternates IPv6 and IPv4, starting with the family that the system put first, so that a dead family
/// costs one delay (RFC 8305, 4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let longest = first.len().max(second.len());
    (0..longest)
        .flat_map(|i| [first.get(i), second.get(i)])
        .flatten()
        .copied()
        .take(ADDRESSES_MAX)
        .collect()
}

/// Parallel connection attempts; the first that succeeds wins.
struct Race<'a> {
    call: &'a CallIo,
    started: Vec<OwnSocket>,
    last_error: Option<io::Error>,
}

impl Race<'_> {
    fn run(mut self, addresses: &[SocketAddr]) -> Result<OwnSocket, Error> {
        for (index, address) in addresses.iter().enumerate() {
            if let Err(error) = self.start(*address) {
                self.note(error);
                continue;
            }
            let is_last = index + 1 == addresses.len();
            let pause = (!is_last).then(|| Instant::now() + STAGGER);
            if let Some(stream) = self.wait(pause)? {
                return Ok(stream);
            }
        }
        let found = self.wait(None)?;
        found.ok_or_else(|| match self.last_error {
            Some(error) if is_not_a_socket(&error) => self.call.descriptor_closed(),
            error => refused(error),
        })
    }

    fn start(&mut self, address: SocketAddr) -> io::Result<()> {
        let socket = non_blocking(Domain::for_address(address), Some(Protocol::TCP))?;
        match SockRef::from(&socket).connect(&address.into()) {
            Ok(()) => {}
            Err(error) if in_progress(&error) => {}
            Err(error) => return Err(error),
        }
        self.started.push(socket);
        Ok(())
    }

    /// Waits until one succeeds; `None` if all have failed or the pause is over.
    fn wait(&mut self, pause: Option<Instant>) -> Result<Option<OwnSocket>, Error> {
        while !self.started.is_empty() {
            let fds: Vec<_> = self.started.iter().map(AsFd::as_fd).collect();
            let ready = self.call.wait_any(&fds, Ready::Write, Phase::Connect, pause)?;
            let Some(index) = ready.filter(|&index| index < self.started.len()) else {
                return Ok(None);
            };
            let socket = self.started.swap_remove(index);
            match outcome(socket) {
                Ok(stream) => return Ok(Some(stream)),
                Err(error) => self.note(error),
            }
        }
        Ok(None)
    }

    /// A lack of resources takes precedence: the address was not even tried, and might have answered.
    fn note(&mut self, error: io::Error) {
        if !self.last_error.as_ref().is_some_and(is_lack) {
            self.last_error = Some(error);
        }
    }
}

fn in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}

fn outcome(socket: OwnSocket) -> io::Result<OwnSocket> {
    let options = SockRef::from(&socket);
    if let Some(error) = options.take_error()? {
        return Err(error);
    }
    // A request is one small write: Nagle's algorithm could only delay it.
    options.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn refused(error: Option<io::Error>) -> Error {
    let Some(error) = error else {
        return Error::new(ErrorKind::Resolve, "The host name has no address")
            .with_cure("Check the base URL.");
    };
    if is_lack(&error) {
        return internal("a socket", &error);
    }
    Error::new(ErrorKind::Connect, format!("No connection could be established: {error}"))
        .with_cure("Check the base URL, the network, and that the service is up.")
        .with_retryable(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_alternate() {
        let parse = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|a| a.parse().unwrap()).collect()
        };
        let mixed = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(
            interleaved(&mixed),
            parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"])
        );
        let one = parse(&["1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(interleaved(&one), one);
        assert_eq!(interleaved(&[]), []);
    }
}
