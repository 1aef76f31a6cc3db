//! Signs a user id and exchanges the signature for that user's Spike access token.
//!
//! The core is safe Rust and can be used as such; the C ABI in [`capi`] is its main surface, with
//! the header `include/spike_auth.h`. Data takes one way through the modules:
//! user id, signature, request body, connection, reply, access token, cache.
//!
//! A Rust program that installs a logger for the `log` crate sees what ureq logs, at the levels debug
//! and trace: whole replies, tokens included. Filter out the targets `ureq` and `ureq_proto`. The C
//! libraries have no logger and log nothing.
//!
//! ```no_run
//! use spike_auth::{Client, Config};
//!
//! let mut config = Config::new()?;
//! config.set_application_id(b"9999")?;
//! config.set_hmac_key(b"HMAC_KEY_FROM_ADMIN_CONSOLE")?;
//! let client = Client::new(&config)?;
//! let token = client.get_token(b"my_application_user_123", None)?;
//! # Ok::<(), spike_auth::Error>(())
//! ```

#[cfg(panic = "abort")]
compile_error!("spike_auth catches panics at its C boundary: build it with panic = \"unwind\"");

mod cache;
mod call;
pub mod capi;
mod client;
mod config;
mod context;
mod core;
mod descriptor;
mod diagnose;
mod error;
mod exchange;
mod fork;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod keyring;
mod net;
mod random;
mod requests;
mod signing;
mod store;
mod threads;
mod token;
mod undumped;
mod user_id;

pub use cache::Stats;
pub use call::Call;
pub use client::Client;
pub use config::{Config, TlsRoots};
pub use error::{Error, ErrorKind};
pub use signing::{HmacKey, KEY_MAX, SIGNATURE_LEN, Signature};
pub use token::{AccessToken, TOKEN_MAX};
pub use user_id::{USER_ID_MAX, UserId};
