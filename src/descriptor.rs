//! Descriptors above those of the standard streams, and one to wait for.

#![allow(unsafe_code)] // eventfd(2)

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

const STANDARD_ERROR: i32 = 2;

/// `owned` with a descriptor above 2, and close-on-exec.
///
/// If a program runs with closed standard streams, the next descriptors take their numbers, and what the
/// program prints would go there.
pub(crate) fn above_stdio<T: AsFd + From<OwnedFd>>(owned: T) -> io::Result<T> {
    if owned.as_fd().as_raw_fd() > STANDARD_ERROR {
        return Ok(owned);
    }
    // The copies of the standard library start at 3.
    owned.as_fd().try_clone_to_owned().map(T::from)
}

/// A descriptor that a program can wait for: readable from [`Event::set`] until [`Event::clear`].
///
/// An eventfd, which costs one descriptor and no buffer, or a socket pair where there is none.
pub(crate) struct Event {
    readable: OwnFile,
    /// `None` where it is the same.
    writable: Option<OwnFile>,
}

impl Event {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    pub(crate) fn new() -> io::Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: eventfd(2) takes two numbers; the descriptor that it returns has no other owner.
        let owned = unsafe {
            let descriptor = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(descriptor)
        };
        Ok(Self { readable: OwnFile::new(owned)?, writable: None })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    pub(crate) fn new() -> io::Result<Self> {
        let (readable, writable) = std::os::unix::net::UnixStream::pair()?;
        for end in [&readable, &writable] {
            end.set_nonblocking(true)?;
        }
        let [readable, writable] = [readable, writable].map(|end| OwnFile::new(OwnedFd::from(end)));
        Ok(Self { readable: readable?, writable: Some(writable?) })
    }

    /// `None` if the program has closed it. One system call.
    pub(crate) fn descriptor(&self) -> Option<i32> {
        self.readable.get().map(AsRawFd::as_raw_fd)
    }

    /// Not twice without a [`Event::clear`] between. Two system calls.
    pub(crate) fn set(&self) {
        let file = self.writable.as_ref().unwrap_or(&self.readable).get();
        let _ = file.map(|mut file| file.write(&1u64.to_ne_bytes()));
    }

    /// Two system calls.
    pub(crate) fn clear(&self) {
        let _ = self.readable.get().map(|mut file| file.read(&mut [0; 8]));
    }
}

/// A file that does not touch a number which the program has closed, and has given to another kind of file. All
/// anonymous files of Linux have one inode: another eventfd, an epoll or a timerfd is taken for ours.
struct OwnFile {
    /// Always there until the drop.
    file: Option<File>,
    inode: Inode,
}

impl OwnFile {
    fn new(owned: OwnedFd) -> io::Result<Self> {
        let file = File::from(above_stdio(owned)?);
        Ok(Self { inode: inode(&file), file: Some(file) })
    }

    fn get(&self) -> Option<&File> {
        self.file.as_ref().filter(|file| self.inode.is_some() && self.inode == inode(file))
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if self.get().is_none() {
            let _ = self.file.take().map(IntoRawFd::into_raw_fd); // the number belongs to the program now
        }
    }
}

/// Device and inode number: unique while the file exists, and not reused soon after.
pub(crate) type Inode = Option<(u64, u64)>;

/// `None` if the descriptor is closed. One system call.
pub(crate) fn inode(file: &File) -> Inode {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}
