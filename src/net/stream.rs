//! A connection that carries bytes, with TLS or without.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::call_io::CallIo;
use super::errors::{Phase, connection_lost};
use super::socket::{Socket, describe};
use super::tls::{self, Tls, TlsFacts, TlsStream};
use crate::error::Error;

/// Reads and writes like a blocking connection, until the deadline of the call.
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Makes the TLS handshake over `socket`, if there is TLS.
    pub(crate) fn new(
        mut socket: Socket,
        tls: Option<&Tls>,
        call: &Arc<CallIo>,
    ) -> Result<Self, Error> {
        let Some(tls) = tls else {
            return Ok(Self::Plain(socket));
        };
        socket.set_phase(Phase::Handshake);
        socket.watch_records();
        let mut stream = tls.handshake(socket, call)?;
        stream.sock.set_phase(Phase::Exchange);
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Writes `bytes`: with TLS or without, in one system call where the connection takes them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Whether its descriptors were not closed by the program.
    pub(crate) fn is_intact(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_intact(),
            Self::Tls(tls) => tls.sock.is_intact(),
        }
    }

    /// Whether it can be used again: it is open, and there is nothing to read.
    pub(crate) fn is_reusable(&mut self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_reusable(),
            Self::Tls(tls) => tls.sock.is_reusable() && tls::is_reusable(&mut tls.conn),
        }
    }

    /// What the handshake with `tls` has agreed on.
    pub(crate) fn tls_facts(&self, tls: &Tls) -> Option<TlsFacts> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(tls.facts(&stream.conn)),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(tls) => tls.read(buf),
        }
    }
}

/// The error of a read or a write, in words.
pub(crate) fn lost(error: &io::Error) -> Error {
    tls::broken(error).unwrap_or_else(|| connection_lost(&describe(error)))
}
