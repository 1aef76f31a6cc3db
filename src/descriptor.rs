//! Which descriptors may be ours.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The last one of the standard streams.
const STANDARD_ERROR: i32 = 2;

/// `owned` with a descriptor above 2, and close-on-exec.
///
/// Where a program runs with standard streams closed, whatever is opened next takes their numbers, and
/// what the program prints would go there.
pub(crate) fn above_stdio<T: AsFd + From<OwnedFd>>(owned: T) -> io::Result<T> {
    if owned.as_fd().as_raw_fd() > STANDARD_ERROR {
        return Ok(owned);
    }
    // The standard library has the same care: its copies begin at 3.
    owned.as_fd().try_clone_to_owned().map(T::from)
}
