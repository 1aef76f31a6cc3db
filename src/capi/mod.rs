//! The C ABI: pointers to slices, buffers, handles, status numbers, and the panic boundary.
//!
//! No rule of the domain stands here. The doc comments are written for C readers: cbindgen copies
//! them into `include/spike_auth.h`, which is the documentation of these functions; its
//! conventions stand at its top, in `include/cbindgen.toml`.
//!
//! Every function may be called with any pointer that the header allows and any number at all.

#![allow(unsafe_code)] // pointers come in here
#![allow(non_camel_case_types)] // the names are those of the header
#![allow(clippy::missing_safety_doc)] // the header's conventions are the safety contract of all

mod boundary;
mod buffer;
mod cache;
mod call;
mod client;
mod config;
mod error;
mod sign;
mod stats;
mod status;
#[cfg(feature = "test-panic")]
mod test_panic;
mod version;

pub use cache::*;
pub use call::*;
pub use client::*;
pub use config::*;
pub use error::*;
pub use sign::*;
pub use stats::*;
pub use status::*;
#[cfg(feature = "test-panic")]
pub use test_panic::*;
pub use version::*;
