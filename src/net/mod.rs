//! Connections: name lookup, connect, TLS, and waits that a deadline or a stopped call ends.
//!
//! It knows hosts and bytes, and nothing of what is said on a connection.
//!
//! | file | holds |
//! |---|---|
//! | `call_io.rs`, `errors.rs` | how a call waits, what wakes it, and why it ended |
//! | `connect.rs`, `resolve.rs`, `getaddrinfo.rs` | from a host or a path to a connection |
//! | `tls.rs`, `sessions.rs` | TLS: its configuration and handshake; sessions to resume |
//! | `tls_roots.rs`, `trust_store.rs` | the trusted roots; the platform's trust store |
//! | `verifier.rs`, `tls_errors.rs` | checks of a server's certificates; messages of TLS failures |
//! | `certificate.rs` | what a report says of a certificate |
//! | `stream.rs`, `socket.rs` | bytes to and from a connection, with TLS or without |
//! | `own_socket.rs`, `poll.rs` | system calls |

mod call_io;
mod certificate;
mod connect;
mod errors;
mod getaddrinfo;
mod own_socket;
mod poll;
mod resolve;
mod sessions;
mod socket;
mod stream;
mod tls;
mod tls_errors;
mod tls_roots;
mod trust_store;
mod verifier;

pub(crate) use call_io::CallIo;
#[cfg(test)]
pub(crate) use certificate::Certificate;
pub(crate) use connect::{Dialer, dial_path};
pub(crate) use errors::{Phase, connection_lost, internal};
pub(crate) use socket::Socket;
pub(crate) use stream::{Stream, lost};
pub(crate) use tls::{Tls, TlsFacts};
