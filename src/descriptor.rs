//! Descriptors above those of the standard streams.

use std::io;
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
