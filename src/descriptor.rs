//! Descriptors above those of the standard streams, and one to wait for.

#![allow(unsafe_code)] // eventfd(2)

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

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
    readable: File,
    /// `None` where it is the same.
    writable: Option<File>,
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
        Ok(Self { readable: above_stdio(owned)?.into(), writable: None })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    pub(crate) fn new() -> io::Result<Self> {
        let (readable, writable) = std::os::unix::net::UnixStream::pair()?;
        for end in [&readable, &writable] {
            end.set_nonblocking(true)?;
        }
        let [readable, writable] = [readable, writable].map(|end| above_stdio(OwnedFd::from(end)));
        Ok(Self { readable: readable?.into(), writable: Some(writable?.into()) })
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.readable.as_raw_fd()
    }

    /// Not twice without a [`Event::clear`] between.
    pub(crate) fn set(&self) {
        let _ = self.writable.as_ref().unwrap_or(&self.readable).write(&1u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        let _ = (&self.readable).read(&mut [0; 8]);
    }
}
