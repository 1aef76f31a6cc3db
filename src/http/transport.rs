//! ureq's transport: how a connection is made, and how bytes pass over it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::buffers::WipedBuffers;
use super::chunks::Chunks;
use super::connect::Target;
use super::control::Control;
use super::errors::{Phase, connection_lost, too_large};
use super::limits::RESPONSE_MAX;
use super::socket::{Socket, describe};
use super::tls::{self, TlsStream};

/// Makes a pooled connection.
pub(crate) struct SlotConnector {
    pub(crate) target: Arc<Target>,
    pub(crate) control: Arc<Control>,
}

impl Connector for SlotConnector {
    type Out = SlotTransport;

    fn connect(
        &self,
        _: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        self.open().map(Some).map_err(|error| self.control.fail(error))
    }
}

impl SlotConnector {
    fn open(&self) -> Result<SlotTransport, crate::error::Error> {
        if self.control.is_broken() {
            return Err(self.control.descriptor_closed());
        }
        self.control.note_connect();
        let mut socket = self.target.connect(&self.control)?;
        let stream = match &self.target.tls {
            None => Stream::Plain(socket),
            Some((config, name)) => {
                socket.set_phase(Phase::Handshake);
                socket.watch_records();
                let mut tls = tls::handshake(socket, config, name, &self.control)?;
                tls.sock.set_phase(Phase::Exchange);
                Stream::Tls(Box::new(tls))
            }
        };
        Ok(SlotTransport {
            stream,
            buffers: WipedBuffers::new(),
            control: Arc::clone(&self.control),
            received: 0,
            chunks: None,
            just_used: false,
        })
    }
}

impl fmt::Debug for SlotConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlotConnector")
    }
}

/// An open connection.
pub(crate) struct SlotTransport {
    stream: Stream,
    buffers: WipedBuffers,
    control: Arc<Control>,
    /// Bytes since the request was sent.
    received: usize,
    /// Follows a chunked body.
    chunks: Option<Chunks>,
    /// Whether it was read from since the last [`Transport::is_open`].
    just_used: bool,
}

enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl SlotTransport {
    fn send_pending(&mut self) -> io::Result<()> {
        if self.buffers.pending().is_empty() {
            return Ok(());
        }
        self.control.note_request();
        (self.received, self.chunks) = (0, None);
        let sent = match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(self.buffers.pending()),
            Stream::Tls(tls) => tls.write_all(self.buffers.pending()).and_then(|()| tls.flush()),
        };
        self.buffers.wipe_pending();
        sent
    }

    fn receive(&mut self) -> io::Result<usize> {
        if let Some(refusal) = self.chunks.as_ref().and_then(Chunks::refusal) {
            return Err(self.control.fail_io(refusal));
        }
        let room = self.buffers.input_append_buf();
        if room.is_empty() || self.received > RESPONSE_MAX {
            return Err(self.control.fail_io(too_large()));
        }
        match &mut self.stream {
            Stream::Plain(socket) => socket.read(room),
            Stream::Tls(tls) => tls.read(room),
        }
    }

    fn note_received(&mut self, amount: usize) {
        self.received += amount;
        if let Some(chunks) = &mut self.chunks {
            chunks.pass(self.buffers.appendix(amount));
        }
        self.buffers.input_appended(amount);
    }

    /// Records the error, unless a more precise one was recorded.
    fn lost(&self, error: &io::Error) -> ureq::Error {
        self.control.fail(tls::broken(error).unwrap_or_else(|| connection_lost(&describe(error))))
    }
}

impl Transport for SlotTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        if self.chunks.is_none() && self.control.reads_chunks() {
            // The head was consumed, and nothing of the body yet.
            let mut chunks = Chunks::new();
            chunks.pass(self.buffers.input());
            self.chunks = Some(chunks);
        }
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        self.buffers.hold_back(amount);
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        if let Err(error) = self.send_pending() {
            return Err(self.lost(&error));
        }
        self.just_used = true;
        match self.receive() {
            Ok(amount) => {
                self.note_received(amount);
                // Decrypted bytes only: a close_notify is not an answer.
                if amount > 0 {
                    self.control.note_answer();
                }
                Ok(amount > 0)
            }
            // The server closed without a close_notify: the end of a body without a length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// ureq calls this when it puts a connection into its pool, and again when it takes it out. Only the
    /// second answer matters, since anything may happen in between; the first makes no system call.
    fn is_open(&mut self) -> bool {
        if std::mem::take(&mut self.just_used) {
            return true;
        }
        let socket = match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &tls.sock,
        };
        if !socket.is_intact() {
            self.control.descriptor_closed(); // fails the attempt when it would connect
            return false;
        }
        match &mut self.stream {
            Stream::Plain(socket) => socket.is_reusable(),
            Stream::Tls(tls) => tls.sock.is_reusable() && tls::is_reusable(&mut tls.conn),
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

impl fmt::Debug for SlotTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlotTransport")
    }
}

/// ureq resolves the host before it looks for a kept connection. It receives a placeholder, and the connector
/// looks up the real addresses.
#[derive(Debug)]
pub(crate) struct ResolvedLater;

impl Resolver for ResolvedLater {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut placeholder = self.empty();
        placeholder.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(placeholder)
    }
}
