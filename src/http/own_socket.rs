//! A socket of ours: its descriptor is above 2, reading and writing never block, and a descriptor that
//! the program has closed is left alone.

#![allow(unsafe_code)] // recv(2), and close(2) on condition

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use socket2::SockRef;

use crate::descriptor::above_stdio;

/// Once the program has closed it, its number may stand for something else, which may block.
pub(crate) struct OwnSocket {
    /// A file, because the standard library tells the inode of one.
    file: ManuallyDrop<File>,
    inode: Inode,
}

/// Device and number: no other socket has the same while this one is there, nor for long after.
type Inode = Option<(u64, u64)>;

impl OwnSocket {
    pub(crate) fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let file = File::from(above_stdio(socket.into())?);
        let inode = inode(&file);
        Ok(Self { file: ManuallyDrop::new(file), inode })
    }

    /// Two that are connected to each other.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self::new(one)?, Self::new(other)?))
    }

    /// Whether the descriptor still stands for it. A system call: not for every exchange.
    pub(crate) fn is_ours(&self) -> bool {
        self.inode == inode(&self.file)
    }

    /// Reads what is there.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive_with(buf, 0)
    }

    /// Whether it stands open and there is nothing to read.
    pub(crate) fn is_silent(&self) -> bool {
        let seen = self.receive_with(&mut [0], libc::MSG_PEEK);
        matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes what there is room for. No SIGPIPE, if the other side has gone.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    }

    /// Says goodbye to the other side, which closing alone does not while a forked child holds a copy.
    pub(crate) fn shutdown(&self) {
        if self.is_ours() {
            let _ = SockRef::from(self).shutdown(Shutdown::Both);
        }
    }

    fn receive_with(&self, buf: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
        let flags = flags | libc::MSG_DONTWAIT;
        // SAFETY: `buf` lives throughout the call, and recv(2) writes to nothing beyond its length.
        let count =
            unsafe { libc::recv(self.file.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

fn inode(file: &File) -> Inode {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether a call failed because the descriptor is closed, or stands for something that is no socket.
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
        // SAFETY: it is taken here and nowhere else, and nothing can follow on a drop.
        let file = unsafe { ManuallyDrop::take(&mut self.file) };
        if !ours {
            let _ = file.into_raw_fd(); // what it stands for now is the program's
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;
    use std::time::{Duration, Instant};

    #[test]
    fn nothing_to_read_and_no_room_to_write_are_told_and_not_waited_for() {
        let (one, other) = OwnSocket::pair().unwrap();
        // One that waits does so for two seconds, and not for ever.
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

    /// Only one that is not ours can be put under a number here: this process has other tests too.
    #[test]
    fn what_another_has_put_in_its_place_is_neither_shut_down_nor_closed() {
        let (one, other) = OwnSocket::pair().unwrap();
        let (stranger, peer) = UnixStream::pair().unwrap();
        let mistaken = OwnSocket {
            // SAFETY: closed once only, by `stranger`, which is what is tested.
            file: ManuallyDrop::new(unsafe { File::from_raw_fd(stranger.as_raw_fd()) }),
            inode: one.inode,
        };
        assert!(one.is_ours() && other.is_ours() && !mistaken.is_ours());
        mistaken.shutdown();
        drop(mistaken);
        let peer = OwnSocket::new(peer).unwrap();
        assert!(peer.is_silent());
        drop(stranger);
        assert!(!peer.is_silent());
    }
}
