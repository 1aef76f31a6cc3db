//! A TCP connection that waits through the [`CallIo`] of its call.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::SockRef;

use super::call_io::{CallIo, is_passing};
use super::errors::Phase;
use super::own_socket::{OwnSocket, is_not_a_socket};
use super::poll::Ready;
use crate::fork::generation;

/// Reads and writes like a blocking socket, until the deadline of the call.
pub(crate) struct Socket {
    stream: OwnSocket,
    call: Arc<CallIo>,
    phase: Phase,
    /// For TLS: the position in the records that were read.
    records: Option<RecordBoundary>,
    /// The generation of the process that made the connection.
    made_in: u64,
}

impl Socket {
    pub(crate) fn new(stream: OwnSocket, call: Arc<CallIo>) -> Self {
        Self { stream, call, phase: Phase::Exchange, records: None, made_in: generation() }
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// The address at the other end.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        SockRef::from(&self.stream).peer_addr().ok()?.as_socket()
    }

    /// From now on the connection carries TLS.
    pub(crate) fn watch_records(&mut self) {
        self.records = Some(RecordBoundary::default());
    }

    /// Whether its descriptors were not closed by the program.
    pub(crate) fn is_intact(&self) -> bool {
        self.call.is_intact(&self.stream)
    }

    /// Whether it can carry another request: it is open, and nothing is to read or half read. An unexpected
    /// byte would be taken for the start of the next response.
    pub(crate) fn is_reusable(&self) -> bool {
        if self.records.as_ref().is_some_and(|records| !records.is_at_boundary()) {
            return false;
        }
        self.stream.is_silent()
    }

    fn wait(&self, ready: Ready) -> io::Result<()> {
        self.call
            .wait(self.stream.as_fd(), ready, self.phase)
            .map_err(|error| self.call.fail_io(error))
    }

    /// The error of a read or a write. If the program closed the descriptor, that is recorded as the cause.
    fn lost(&self, error: io::Error) -> io::Error {
        if is_not_a_socket(&error) {
            return self.call.fail_io(self.call.descriptor_closed());
        }
        error
    }
}

/// Shuts the connection down: closing alone does not end it while a forked child holds a copy. A child closes
/// only its copy of its parent's connection.
impl Drop for Socket {
    fn drop(&mut self) {
        if self.made_in == generation() {
            self.stream.shutdown();
        }
    }
}

impl Read for Socket {
    /// Waits first: at the first read, the response has not arrived yet.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(Ready::Read)?;
            match self.stream.receive(buf) {
                Err(error) if is_passing(&error) => {}
                Ok(count) => {
                    if let Some(records) = &mut self.records {
                        records.pass(buf.get(..count).unwrap_or_default());
                    }
                    return Ok(count);
                }
                Err(error) => return Err(self.lost(error)),
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.send(buf) {
                Err(error) if is_passing(&error) => self.wait(Ready::Write)?,
                result => return result.map_err(|error| self.lost(error)),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a connection ended, in words.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "the other side reset it".into(),
        io::ErrorKind::BrokenPipe => "the other side had closed it".into(),
        io::ErrorKind::UnexpectedEof => "the other side closed it".into(),
        _ => error.to_string(),
    }
}

/// Follows TLS records by their lengths (RFC 8446, 5.1), because rustls does not tell whether it holds an
/// incomplete one.
#[derive(Default)]
struct RecordBoundary {
    header: [u8; 5],
    header_len: usize,
    left: usize,
}

impl RecordBoundary {
    fn is_at_boundary(&self) -> bool {
        self.header_len == 0 && self.left == 0
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = if self.left > 0 { self.pass_body(bytes) } else { self.pass_header(bytes) };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    fn pass_body(&mut self, bytes: &[u8]) -> usize {
        let taken = self.left.min(bytes.len());
        self.left -= taken;
        taken
    }

    fn pass_header(&mut self, bytes: &[u8]) -> usize {
        let missing = self.header.get_mut(self.header_len..).unwrap_or_default();
        let taken = missing.len().min(bytes.len());
        for (place, byte) in missing.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.header_len += taken;
        if self.header_len == self.header.len() {
            self.header_len = 0;
            let [_, _, _, high, low] = self.header;
            self.left = usize::from(u16::from_be_bytes([high, low]));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_boundaries_are_found_in_pieces_of_any_size() {
        let records =
            [&[23, 3, 3, 0, 2, 9, 9][..], &[23, 3, 3, 0, 0], &[22, 3, 3, 1, 0], &[7; 256]].concat();
        let boundaries = [0, 7, 12, 12 + 5 + 256];
        for piece in [1, 2, 3, 5, 7, 100, 1000] {
            let (mut boundary, mut passed) = (RecordBoundary::default(), 0);
            for part in records.chunks(piece) {
                boundary.pass(part);
                passed += part.len();
                assert_eq!(
                    boundary.is_at_boundary(),
                    boundaries.contains(&passed),
                    "{passed} bytes in pieces of {piece}"
                );
            }
        }
    }
}
