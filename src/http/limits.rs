//! How much of anything is read, kept or tried.

use std::time::Duration;

/// The largest body that is read.
pub(super) const BODY_MAX: usize = 64 * 1024;
/// The buffer for a body that does not say how long it is. Nearly every token fits.
pub(super) const BODY_FIRST: usize = 2048;
/// The largest head of a reply: its status line and all its headers.
pub(super) const HEAD_MAX: usize = 16 * 1024;
/// All that is received for one reply, whatever it is: head, interim replies, framing, trailers.
pub(super) const REPLY_MAX: usize = 1024 * 1024;
/// How long a connection may rest before it is dropped rather than used.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(15);
/// The most addresses of one host that are tried.
pub(super) const ADDRESSES_MAX: usize = 8;
