//! A TCP connection that waits through its call's [`Control`].

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::control::{Control, Phase, Ready};

/// Reads and writes like a blocking socket, until the call's time is up.
pub(crate) struct Socket {
    stream: TcpStream,
    control: Arc<Control>,
    phase: Phase,
}

impl Socket {
    /// `stream` must not block.
    pub(crate) fn new(stream: TcpStream, control: Arc<Control>) -> Self {
        Self {
            stream,
            control,
            phase: Phase::Exchange,
        }
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Whether it can carry another request: nothing to read, and not at its end. A byte that
    /// nobody asked for would be taken for the beginning of the next reply.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn wait(&self, ready: Ready) -> io::Result<()> {
        self.control
            .wait(self.stream.as_fd(), ready, self.phase)
            .map_err(|error| self.control.fail_io(error))
    }
}

impl Read for Socket {
    /// Waits first: a reply is never there yet when it is first asked for.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(Ready::Read)?;
            match self.stream.read(buf) {
                Err(error) if is_passing(&error) => {}
                result => return result,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(buf) {
                Err(error) if is_passing(&error) => self.wait(Ready::Write)?,
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
