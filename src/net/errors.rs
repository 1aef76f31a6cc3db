//! Errors that more than one file reports.

use std::io;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// What a call is doing: decides which timeout holds, and is named in the error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Permit,
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

    /// For [`Deadline::missed`](crate::context::Deadline::missed).
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Self::Permit => "waiting until another exchange of this client had ended",
            Self::Start => "before the request was sent",
            Self::Resolve => "looking up the host name",
            Self::Connect => "connecting",
            Self::Tunnel => "waiting for the proxy",
            Self::Handshake => "in the TLS handshake",
            Self::Exchange => "waiting for the response",
        }
    }
}

pub(crate) fn connect_timed_out(timeout: Duration, phase: Phase) -> Error {
    let ms = timeout.as_millis();
    let network = "the network, a firewall, and the base URL";
    let (kind, what, check) = match phase {
        Phase::Resolve => (ErrorKind::Resolve, "The host name could not be resolved", network),
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
        format!("The connection ended before the response was complete: {why}. Try again."),
    )
    .with_retryable(true)
}
