//! A tunnel through an HTTP proxy: CONNECT (RFC 9110, 9.3.6).

use std::io::{Read, Write};

use zeroize::Zeroizing;

use super::control::Control;
use super::errors::Phase;
use super::socket::Socket;
use crate::config::{Host, ProxyUrl};
use crate::error::{Error, ErrorKind};

/// The largest reply to a CONNECT.
const HEAD_MAX: usize = 8 * 1024;
/// The most headers in it.
const HEADERS_MAX: usize = 64;

/// Where it is, and what it is told about us.
pub(crate) struct Proxy {
    pub(crate) url: ProxyUrl,
    pub(crate) user_agent: String,
}

/// Asks the proxy at the other end of `socket` for a tunnel to `host`.
pub(crate) fn tunnel(
    mut socket: Socket,
    proxy: &Proxy,
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

fn request(proxy: &Proxy, host: &Host, port: u16) -> Zeroizing<String> {
    let authority = match host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::Ip(ip) => std::net::SocketAddr::new(*ip, port).to_string(),
    };
    let first = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {}\r\n",
        proxy.user_agent
    );
    let (name, value) = match &proxy.url.authorization {
        Some(value) => ("Proxy-Authorization: ", value.as_str()),
        None => ("", ""),
    };
    let parts = [first.as_str(), name, value, if value.is_empty() { "" } else { "\r\n" }, "\r\n"];
    // Room for all of it from the start: a text that grows leaves a copy of the credentials behind.
    let mut request =
        Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| request.push_str(part));
    request
}

/// The status of the reply, read to the end of its head and not a byte further: what follows
/// belongs to the tunnel.
fn read_status(socket: &mut Socket, lost: impl Fn(std::io::Error) -> Error) -> Result<u16, Error> {
    loop {
        let status = read_one_status(socket, &lost)?;
        // Any number of interim replies may come before the one that counts (RFC 9110, 15.2).
        if !(100..200).contains(&status) || status == 101 {
            return Ok(status);
        }
    }
}

fn read_one_status(
    socket: &mut Socket,
    lost: &impl Fn(std::io::Error) -> Error,
) -> Result<u16, Error> {
    const START: &[u8] = b"HTTP/1.";
    // It may echo the credentials, and must not grow: that would leave a copy behind.
    let mut head = Zeroizing::new(Vec::with_capacity(HEAD_MAX));
    // A bare line feed is a line end too (RFC 9112, 2.2).
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() == HEAD_MAX {
            return Err(garbled());
        }
        let mut byte = [0];
        if socket.read(&mut byte).map_err(lost)? == 0 {
            return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
        // Something else than an HTTP proxy may say a line and then wait for ever.
        if START.get(head.len()).is_some_and(|&expected| expected != byte[0]) {
            return Err(garbled());
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
        // Some say 401 where they mean 407.
        401 | 407 => (
            "it asks for other credentials. Check the user name and the password in the proxy's URL",
            false,
        ),
        403 => (
            "Check that it allows CONNECT to the service's host and port. Some proxies refuse by the \
             User-Agent: set_user_agent adds to it",
            false,
        ),
        502..=504 => ("it could not reach the service. Try again later", true),
        _ => ("Check that it allows CONNECT to the service's host and port", false),
    };
    Error::new(ErrorKind::Proxy, format!("The proxy refused with {status}: {what}."))
        .with_retryable(may_pass)
}

/// A connection to the proxy that could not be made.
pub(crate) fn unreachable(error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Resolve | ErrorKind::Connect) {
        return error;
    }
    let proxy = Error::new(
        ErrorKind::Proxy,
        format!(
            "The proxy could not be reached. {}. Check the proxy's URL, and that it is up.",
            error.message().split(". Check ").next().unwrap_or_default()
        ),
    )
    .with_retryable(error.retryable());
    if error.timed_out() { proxy.with_timed_out() } else { proxy }
}
