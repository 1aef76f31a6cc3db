//! ureq's transport: how a connection is made, and how bytes pass over it.

use std::fmt;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::buffers::WipedBuffers;
use super::chunks::Chunks;
use super::errors::too_large;
use super::limits::RESPONSE_MAX;
use super::target::Target;
use crate::net::{CallIo, Stream, lost};

/// Makes a pooled connection.
pub(crate) struct UreqConnector {
    pub(crate) target: Arc<Target>,
    pub(crate) call: Arc<CallIo>,
}

impl Connector for UreqConnector {
    type Out = UreqTransport;

    fn connect(
        &self,
        _: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        self.open().map(Some).map_err(|error| {
            self.call.fail(error);
            ureq::Error::ConnectionFailed
        })
    }
}

impl UreqConnector {
    fn open(&self) -> Result<UreqTransport, crate::error::Error> {
        if self.call.is_broken() {
            return Err(self.call.descriptor_closed());
        }
        self.call.note_connect();
        let stream = self.target.open(&self.call)?;
        Ok(UreqTransport {
            stream,
            buffers: WipedBuffers::new(),
            call: Arc::clone(&self.call),
            received: 0,
            chunks: None,
            just_used: false,
        })
    }
}

impl fmt::Debug for UreqConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UreqConnector")
    }
}

/// An open connection.
pub(crate) struct UreqTransport {
    stream: Stream,
    buffers: WipedBuffers,
    call: Arc<CallIo>,
    /// Bytes since the request was sent.
    received: usize,
    /// Follows a chunked body.
    chunks: Option<Chunks>,
    /// Whether it was read from since the last [`Transport::is_open`].
    just_used: bool,
}

impl UreqTransport {
    fn send_pending(&mut self) -> io::Result<()> {
        if self.buffers.pending().is_empty() {
            return Ok(());
        }
        self.call.note_request();
        (self.received, self.chunks) = (0, None);
        let sent = self.stream.send(self.buffers.pending());
        self.buffers.wipe_pending();
        sent
    }

    fn receive(&mut self) -> io::Result<usize> {
        if let Some(refusal) = self.chunks.as_ref().and_then(Chunks::refusal) {
            return Err(self.call.fail_io(refusal));
        }
        let room = self.buffers.input_append_buf();
        if room.is_empty() || self.received > RESPONSE_MAX {
            return Err(self.call.fail_io(too_large()));
        }
        self.stream.read(room)
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
        self.call.fail(lost(error));
        ureq::Error::ConnectionFailed
    }
}

impl Transport for UreqTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        if self.chunks.is_none() && self.call.reads_chunks() {
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
                    self.call.note_answer();
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
        if !self.stream.is_intact() {
            self.call.descriptor_closed(); // fails the attempt when it would connect
            return false;
        }
        self.stream.is_reusable()
    }

    fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }
}

impl fmt::Debug for UreqTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UreqTransport")
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
