//! How the threads of a flight reach each other: std's means, named in one place, so that
//! `tests/loom` can compile `flights.rs` with loom's instead and try the orders of what threads do.
//!
//! `Arc` is not among them: what is shared by it does not depend on when it is counted.

pub(super) use std::sync::OnceLock;
pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::thread::{Thread, current};
