//! The store that processes share: its settings, and functions that tell whether it can be used.

use std::ffi::c_char;

use super::boundary::run;
use super::buffer::{handle, text};
use super::call::{optional, spike_auth_call};
use super::client::spike_auth_client;
use super::config::{set, set_text, spike_auth_config};
use super::error::spike_auth_error;
use super::status::spike_auth_status_t;
use crate::config::Config;

/// Sets the Redis or Valkey, or a node of a cluster, in which processes and machines share their tokens. A token that one of them has
/// fetched is handed out by all, and while one fetches a user's token, the others wait for it. The default is
/// none.
///
/// A client with a store and an HMAC key looks there before it makes an exchange; what it holds itself is handed
/// out as without a store. Records are encrypted with a key that is derived from the HMAC key: the operator of
/// the store can delete or delay them, but not read them. The store's own password is not protected by redis:// and
/// valkey://: use rediss:// or valkeys:// (TLS, with the trusted roots of the configuration) across a network.
/// The proxy is never used.
///
/// No call fails because of the store. If it cannot be used, tokens are fetched as without one; after three
/// failures in a row it is skipped for five seconds. spike_auth_client_check_store() tells whether it works.
///
/// @param url      redis://[user:password@]host[:port][/db], rediss:// for TLS, or
///                 unix://[user:password@]/path[?db=N]; valkey:// and valkeys:// mean the same. User and password
///                 are percent-encoded. The default port is 6379. Empty for none.
/// @param url_len  length of url in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param err      receives the error detail; may be NULL
///
/// Fails with INVALID_URL.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_store(
    config: *mut spike_auth_config,
    url: *const c_char,
    url_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set_text(config, url, url_len, "url", err, Config::set_store) }
}

/// Sets the timeout of one operation of the store, connecting included. An operation never takes more than a
/// quarter of the time that its call has left. The default is 250 ms.
///
/// @param ms   milliseconds, 1 to 10 000; 0 for the default
/// @param err  receives the error detail; may be NULL
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_store_timeout_ms(
    config: *mut spike_auth_config,
    ms: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set(config, err, |config| Ok(config.set_store_timeout_ms(ms)?)) }
}

/// Tries every command that the store needs, on a random key, whose record it deletes again. This is the way to see
/// a wrong setting, because no other call fails by one. Call it when the program starts, and log its message.
///
/// @param call  a call handle with its own deadline and cancellation, or NULL for the client's deadline
/// @param err   receives the error detail: which command failed, and what to do; may be NULL
///
/// Fails with STORE (also if no store is set), KEY_REQUIRED, CANCELLED, CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_check_store(
    client: *const spike_auth_client,
    call: *const spike_auth_call,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { run(err, || Ok(handle(client, "client")?.client.check_store(optional(call))?)) }
}

/// Drops the token of a user from the client's cache, as spike_auth_client_forget() does, and from the store. Other
/// processes keep theirs until it expires or is renewed, and an exchange in progress may store its token again.
///
/// @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
/// @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param call         see spike_auth_client_check_store()
/// @param err          receives the error detail; may be NULL
///
/// Succeeds if nothing is there, or if no store is set. Fails with STORE if the store cannot be reached (the cache
/// has forgotten the token then), INVALID_USER_ID, KEY_REQUIRED, CANCELLED, CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_forget_shared(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    call: *const spike_auth_call,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            Ok(client.forget_shared(user_id, optional(call))?)
        })
    }
}
