//! What goes wrong in more than one place, in words.

use std::io;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// What a call is doing, for its deadline and its error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Slot,
    Shared,
    Hold,
    Start,
    Resolve,
    Connect,
    Tunnel,
    Handshake,
    Exchange,
}

impl Phase {
    /// Whether the connect timeout holds beside the deadline.
    pub(super) fn makes_connection(self) -> bool {
        matches!(self, Self::Resolve | Self::Connect | Self::Tunnel | Self::Handshake)
    }
}

pub(crate) fn timed_out(timeout: Duration, phase: Phase) -> Error {
    let doing = match phase {
        Phase::Slot => "waiting until another exchange of this client had ended",
        Phase::Shared => "waiting for the same user's exchange, which another call had begun",
        Phase::Hold => "waiting for a first request, after the service had asked to wait",
        Phase::Start => "before the request was sent",
        Phase::Resolve => "looking up the host's name",
        Phase::Connect => "connecting",
        Phase::Tunnel => "waiting for the proxy",
        Phase::Handshake => "in the TLS handshake",
        Phase::Exchange => "waiting for the reply",
    };
    Error::new(
        ErrorKind::Timeout,
        format!(
            "The call did not finish within its timeout of {} ms; it ended {doing}. Try again, or \
             set a longer timeout.",
            timeout.as_millis()
        ),
    )
    .with_retryable(true)
}

pub(crate) fn connect_timed_out(timeout: Duration, phase: Phase) -> Error {
    let ms = timeout.as_millis();
    let network = "the network between, a firewall, and the base URL";
    let (kind, what, check) = match phase {
        Phase::Resolve => (ErrorKind::Resolve, "The host's name was not found", network),
        Phase::Tunnel => {
            (ErrorKind::Proxy, "The proxy did not answer", "the proxy's URL, and that it is up")
        }
        Phase::Handshake => (ErrorKind::Connect, "The TLS handshake did not finish", network),
        _ => (ErrorKind::Connect, "The host did not answer", network),
    };
    Error::new(kind, format!("{what} within the connect timeout of {ms} ms"))
        .with_cure(&format!("Check {check}."))
        .with_retryable(true)
        .with_timed_out()
}

pub(crate) fn internal(what: &str, error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("The operating system refused {what}: {error}. Check the limits of the process, on open files (RLIMIT_NOFILE) first."),
    )
    .with_retryable(true)
}

pub(crate) fn connection_lost(why: &str) -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        format!("The connection ended before the whole reply was there: {why}. Try again."),
    )
    .with_retryable(true)
}

/// In a child, when a signal handler has forked inside a call: both would read one reply.
pub(crate) fn left_to_the_parent() -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "A signal handler forked in the middle of this call: the parent goes on with it, and the child cannot. \
         Make the call again.",
    )
}

pub(crate) fn too_large() -> Error {
    Error::new(
        ErrorKind::ResponseTooLarge,
        "The reply is too large: more than 64 KiB of body, 16 KiB of headers, 128 headers, or 1 MiB in \
         all. Check that the base URL is the service's, and that nothing between answers in its place.",
    )
}
