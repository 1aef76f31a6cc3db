//! Limits of what is read, kept and tried.

use std::time::Duration;

/// The largest body that is read.
pub(super) const BODY_MAX: usize = 64 * 1024;
/// The first buffer for a body without a length. Nearly every token fits.
pub(super) const BODY_FIRST: usize = 2048;
/// The largest head of a response: its status line and all its headers.
pub(super) const HEAD_MAX: usize = 16 * 1024;
/// The most bytes received for one response, including interim responses, framing and trailers.
pub(super) const RESPONSE_MAX: usize = 1024 * 1024;
/// How long a connection may be idle before it is dropped.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(15);
