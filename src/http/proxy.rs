//! A tunnel through an HTTP proxy: CONNECT (RFC 9110, 9.3.6).

use std::io::{Read, Write};

use zeroize::Zeroizing;

use super::control::{Control, Phase};
use super::socket::Socket;
use crate::config::{Host, ProxyUrl};
use crate::error::{Error, ErrorKind};

/// The largest reply to a CONNECT.
const HEAD_MAX: usize = 8 * 1024;
/// The most headers in it.
const HEADERS_MAX: usize = 64;

/// Asks the proxy at the other end of `socket` for a tunnel to `host`.
pub(crate) fn tunnel(
    mut socket: Socket,
    proxy: &ProxyUrl,
    host: &Host,
    port: u16,
    control: &Control,
) -> Result<Socket, Error> {
    socket.set_phase(Phase::Tunnel);
    let request = request(proxy, host, port);
    let lost = |error: std::io::Error| {
        let why = Error::new(
            ErrorKind::Proxy,
            format!("The proxy ended the connection ({error}). Try again, or use another proxy."),
        )
        .with_retryable(true);
        // What stopped the call, if it was stopped, says more.
        control.cause_of(control.fail(why))
    };
    socket.write_all(request.as_bytes()).map_err(lost)?;
    let status = read_status(&mut socket, lost)?;
    if (200..300).contains(&status) {
        return Ok(socket);
    }
    Err(refused(status))
}

fn request(proxy: &ProxyUrl, host: &Host, port: u16) -> Zeroizing<String> {
    let authority = match host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::Ip(ip) => std::net::SocketAddr::new(*ip, port).to_string(),
    };
    let credentials = match &proxy.authorization {
        Some(value) => Zeroizing::new(format!("Proxy-Authorization: {}\r\n", value.as_str())),
        None => Zeroizing::default(),
    };
    Zeroizing::new(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n",
        credentials.as_str()
    ))
}

/// The status of the reply, read to the end of its head and not a byte further: what follows
/// belongs to the tunnel.
fn read_status(socket: &mut Socket, lost: impl Fn(std::io::Error) -> Error) -> Result<u16, Error> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_MAX {
            return Err(garbled());
        }
        let mut byte = [0];
        if socket.read(&mut byte).map_err(&lost)? == 0 {
            return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
        head.extend_from_slice(&byte);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut reply = httparse::Response::new(&mut headers);
    reply.parse(&head).map_err(|_| garbled())?;
    reply.code.ok_or_else(garbled)
}

fn garbled() -> Error {
    Error::new(
        ErrorKind::Proxy,
        "The proxy's reply is not valid HTTP. Check the proxy's URL and port, and that it is an HTTP proxy.",
    )
}

fn refused(status: u16) -> Error {
    let (what, may_pass) = match status {
        407 => (
            "it asks for other credentials. Check the user name and the password in the proxy's URL",
            false,
        ),
        502..=504 => ("it could not reach the service. Try again later", true),
        _ => (
            "Check that it allows CONNECT to the service's host and port",
            false,
        ),
    };
    Error::new(
        ErrorKind::Proxy,
        format!("The proxy refused with {status}: {what}."),
    )
    .with_retryable(may_pass)
}

/// A connection to the proxy that could not be made.
pub(crate) fn unreachable(error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Resolve | ErrorKind::Connect) {
        return error;
    }
    let proxy = Error::new(
        ErrorKind::Proxy,
        format!("The proxy could not be reached. {}", error.message()),
    )
    .with_retryable(error.retryable());
    if error.timed_out() {
        proxy.with_timed_out()
    } else {
        proxy
    }
}
