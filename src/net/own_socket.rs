//! A socket of this library: its descriptor is above 2, reads and writes never block, and it does not touch
//! a descriptor number that the program has closed or reused.

#![allow(unsafe_code)] // recv(2), and a conditional close(2)

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use socket2::SockRef;

use crate::descriptor::{Inode, above_stdio, inode};

/// If the program closes its descriptor, the number may later belong to something else.
pub(crate) struct OwnSocket {
    /// A file, because the standard library tells the inode of a file.
    file: ManuallyDrop<File>,
    inode: Inode,
}

impl OwnSocket {
    pub(crate) fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let file = File::from(above_stdio(socket.into())?);
        let inode = inode(&file);
        Ok(Self { file: ManuallyDrop::new(file), inode })
    }

    /// Two connected sockets.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self::new(one)?, Self::new(other)?))
    }

    /// Whether the descriptor still belongs to this socket. One system call.
    pub(crate) fn is_ours(&self) -> bool {
        self.inode == inode(&self.file)
    }

    /// Reads without blocking.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive_with(buf, 0)
    }

    /// Whether it is open and there is nothing to read.
    pub(crate) fn is_silent(&self) -> bool {
        let seen = self.receive_with(&mut [0], libc::MSG_PEEK);
        matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes without blocking, and without SIGPIPE if the other side has closed.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    }

    /// Ends the connection; closing alone does not while a forked child holds a copy.
    pub(crate) fn shutdown(&self) {
        if self.is_ours() {
            let _ = SockRef::from(self).shutdown(Shutdown::Both);
        }
    }

    fn receive_with(&self, buf: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
        let flags = flags | libc::MSG_DONTWAIT;
        // SAFETY: `buf` outlives the call, and recv(2) does not write beyond its length.
        let count =
            unsafe { libc::recv(self.file.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

/// Whether a call failed because the descriptor is closed or is not a socket.
pub(crate) fn is_not_a_socket(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK))
}

impl AsFd for OwnSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        let ours = self.is_ours();
        // SAFETY: it is taken only here, and not used after the drop.
        let file = unsafe { ManuallyDrop::take(&mut self.file) };
        if !ours {
            let _ = file.into_raw_fd(); // the number belongs to the program now
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;
    use std::time::{Duration, Instant};

    #[test]
    fn reading_and_writing_never_block() {
        let (one, other) = OwnSocket::pair().unwrap();
        // A blocking call would end after two seconds.
        let long = Some(Duration::from_secs(2));
        SockRef::from(&one).set_read_timeout(long).unwrap();
        SockRef::from(&other).set_write_timeout(long).unwrap();
        let start = Instant::now();
        assert!(one.is_silent());
        let would_block = |result: io::Result<usize>| {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        };
        would_block(one.receive(&mut [0; 4]));
        assert_eq!(other.send(b"abc").unwrap(), 3);
        assert!(!one.is_silent());
        let mut got = [0; 4];
        assert_eq!(one.receive(&mut got).unwrap(), 3);
        assert_eq!(&got, b"abc\0");
        while other.send(&[0; 4096]).is_ok() {}
        would_block(other.send(&[0]));
        one.shutdown();
        assert!(!one.is_silent());
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    /// The test builds a socket with a wrong number; closing a real one would disturb other tests.
    #[test]
    fn a_descriptor_that_was_reused_is_neither_shut_down_nor_closed() {
        let (one, other) = OwnSocket::pair().unwrap();
        let (unrelated, peer) = UnixStream::pair().unwrap();
        let mistaken = OwnSocket {
            // SAFETY: closed only once, by `unrelated`; the test checks that.
            file: ManuallyDrop::new(unsafe { File::from_raw_fd(unrelated.as_raw_fd()) }),
            inode: one.inode,
        };
        assert!(one.is_ours() && other.is_ours() && !mistaken.is_ours());
        mistaken.shutdown();
        drop(mistaken);
        let peer = OwnSocket::new(peer).unwrap();
        assert!(peer.is_silent());
        drop(unrelated);
        assert!(!peer.is_silent());
    }
}
