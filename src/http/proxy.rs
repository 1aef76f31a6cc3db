//! A tunnel through an HTTP proxy: CONNECT (RFC 9110, 9.3.6).

use std::io::{Read, Write};

use zeroize::Zeroizing;

use crate::config::{Host, ProxyUrl};
use crate::error::{Error, ErrorKind};
use crate::net::{CallIo, Phase, Socket};

/// The largest reply to a CONNECT.
const HEAD_MAX: usize = 8 * 1024;
/// The largest number of headers in it.
const HEADERS_MAX: usize = 64;

/// The proxy, and the user agent for it.
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
    call: &CallIo,
) -> Result<Socket, Error> {
    socket.set_phase(Phase::Tunnel);
    let request = request(proxy, host, port);
    let lost = |error: std::io::Error| {
        let why = Error::new(ErrorKind::Proxy, format!("The proxy ended the connection ({error})"))
            .with_cure("Try again, or use another proxy.")
            .with_retryable(true);
        // If the call was stopped, the reason for that says more.
        call.failure_or(|| why)
    };
    socket.write_all(request.as_bytes()).map_err(lost)?;
    let status = read_status(&mut socket, lost)?;
    if (200..300).contains(&status) {
        return Ok(socket);
    }
    Err(refused(status))
}

fn request(proxy: &Proxy, host: &Host, port: u16) -> Zeroizing<String> {
    let authority = host.with_port(port);
    let first = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {}\r\n",
        proxy.user_agent
    );
    let (name, value) = match &proxy.url.authorization {
        Some(value) => ("Proxy-Authorization: ", value.as_str()),
        None => ("", ""),
    };
    let parts = [first.as_str(), name, value, if value.is_empty() { "" } else { "\r\n" }, "\r\n"];
    // Allocated once: growing would leave a copy of the credentials behind.
    let mut request =
        Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| request.push_str(part));
    request
}

/// Reads the status. It reads no byte past the head: the rest belongs to the tunnel.
fn read_status(socket: &mut Socket, lost: impl Fn(std::io::Error) -> Error) -> Result<u16, Error> {
    loop {
        let status = read_one_status(socket, &lost)?;
        // Any number of interim replies may precede the final one (RFC 9110, 15.2).
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
    // It may echo the credentials; growing would leave a copy behind.
    let mut head = Zeroizing::new(Vec::with_capacity(HEAD_MAX));
    // A bare line feed also ends a line (RFC 9112, 2.2).
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() == HEAD_MAX {
            return Err(garbled());
        }
        let mut byte = [0];
        if socket.read(&mut byte).map_err(lost)? == 0 {
            return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
        // Not an HTTP proxy: it may send one line and then wait without end.
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
    Error::new(ErrorKind::Proxy, "The proxy's reply is not valid HTTP")
        .with_cure("Check the proxy's URL and port, and that it is an HTTP proxy.")
}

fn refused(status: u16) -> Error {
    let (why, cure, may_pass) = match status {
        // Some proxies send 401 instead of 407.
        401 | 407 => (
            ": it asks for other credentials",
            "Check the user name and the password in the proxy's URL.",
            false,
        ),
        403 => (
            "",
            "Check that the proxy allows CONNECT to the service's host and port. Some proxies refuse by the \
             User-Agent: set_user_agent adds to it.",
            false,
        ),
        502..=504 => (": it could not reach the service", "Try again later.", true),
        _ => ("", "Check that the proxy allows CONNECT to the service's host and port.", false),
    };
    Error::new(ErrorKind::Proxy, format!("The proxy refused with {status}{why}"))
        .with_cure(cure)
        .with_retryable(may_pass)
}

/// The proxy's own error for a failure to connect to it: the base URL has no part in that.
pub(crate) fn unreachable(error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Resolve | ErrorKind::Connect) {
        return error;
    }
    let what = format!("The proxy could not be reached. {}", error.what());
    let proxy = Error::new(ErrorKind::Proxy, what)
        .with_cure("Check the proxy's URL, and that it is up.")
        .with_retryable(error.retryable());
    if error.timed_out() { proxy.with_timed_out() } else { proxy }
}
