//! The C ABI: pointers to slices, buffers, handles, status numbers, and the panic boundary.
//!
//! It contains no domain logic. The doc comments are written for C developers: cbindgen copies them into
//! `include/spike_auth.h`, the reference of these functions. The conventions at its top are in
//! `include/cbindgen.toml`.
//!
//! A caller may pass any pointer that the header allows, and any number.

#![allow(unsafe_code)] // pointers from C
#![allow(non_camel_case_types)] // the names of the header
#![allow(clippy::missing_safety_doc)] // the header's conventions are the safety contract

mod boundary;
mod buffer;
mod cache;
mod call;
mod client;
mod column;
mod config;
mod diagnose;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod queue;
mod sign;
mod stats;
mod status;
mod store;
#[cfg(feature = "test-panic")]
mod test_panic;
mod version;

pub use cache::*;
pub use call::*;
pub use client::*;
pub use config::*;
pub use diagnose::*;
pub use error::*;
pub use queue::*;
pub use sign::*;
pub use stats::*;
pub use status::*;
pub use store::*;
#[cfg(feature = "test-panic")]
pub use test_panic::*;
pub use version::*;
