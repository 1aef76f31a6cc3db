//! The client handle.

use std::ffi::c_char;

use super::boundary::{run, run_quietly};
use super::buffer::{HandleOut, TextOut, bytes, free, handle, text};
use super::call::{optional, spike_auth_call};
use super::column::{BadIds, Column, rows};
use super::config::spike_auth_config;
use super::error::{Work, spike_auth_error};
use super::status::{spike_auth_status, spike_auth_status_t};
use super::version::SPIKE_AUTH_TOKEN_SIZE;
use crate::client::Client;
use crate::user_id::InvalidUserId;

/// Signs user ids, exchanges signatures for access tokens, and caches the tokens, for one application. Make
/// one per process and keep it: it holds connections and tokens. Any number of threads may use a client at
/// once; only spike_auth_client_free() must not run while another thread is inside a call on it.
pub struct spike_auth_client {
    pub(super) client: Client,
}

/// Makes a client from a configuration. The configuration is copied: it may be changed or freed afterwards.
/// Loads the trusted roots if the base URL is https, or the store is reached by TLS. Does not connect.
///
/// @param config  a configuration with an application id
/// @param client  receives the handle, NULL on failure. Free it with spike_auth_client_free().
/// @param err     receives the error detail; may be NULL
///
/// Fails with INCOMPLETE_CONFIG, INVALID_ARGUMENT (the connect timeout is longer than the timeout of a call),
/// INVALID_ENVIRONMENT (the base URL would be reached through a proxy that spike_auth_config_load_env() found
/// and that cannot be used), TLS_ROOTS, INTERNAL (the system provides no random numbers, or the self-test of
/// signing failed).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_new(
    config: *const spike_auth_config,
    client: *mut *mut spike_auth_client,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = HandleOut::new(client, "client")?;
            let config = handle(config, "config")?.copy();
            out.put(spike_auth_client { client: Client::new(&config)? });
            Ok(())
        })
    }
}

/// Closes a client: calls in progress return CLOSED at once, and so does every later call. Calls that were
/// started are handed out at once, with CLOSED. May be called from any thread, any number of times; NULL is
/// ignored. The handle stays valid until it is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_client_close(client: *const spike_auth_client) {
    run_quietly(|| {
        // SAFETY: the caller keeps the header's contract.
        if let Ok(client) = unsafe { handle(client, "client") } {
            client.client.close();
        }
    });
}

/// Closes a client, frees it, and wipes its key and its tokens. NULL is ignored. No other thread may be
/// inside a call on it: close it first, wait until all calls have returned, then free it. Calls that were
/// started need not have been taken: their results stay in their handles. Waits for the client's background
/// threads to end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_client_free(client: *mut spike_auth_client) {
    // SAFETY: the caller keeps the header's contract.
    run_quietly(|| unsafe { free(client) });
}

/// Signs one user id with the client's key: HMAC-SHA256 as 64 lowercase hex characters. Takes no lock,
/// allocates nothing, makes no system call.
///
/// @param user_id        1 to 128 bytes of A-Z a-z 0-9 . _ - ; signed byte for byte, never trimmed
/// @param user_id_len    length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param signature      receives the signature and a NUL. It never expires: protect it like a password.
/// @param signature_cap  size of signature in bytes: SPIKE_AUTH_SIGNATURE_SIZE or more
/// @param signature_len  receives 64
/// @param err            receives the error detail; may be NULL
///
/// Fails with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_sign_user(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    signature: *mut c_char,
    signature_cap: usize,
    signature_len: *mut usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = TextOut::new(signature, signature_cap, signature_len, "signature")?;
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            let user = client.signable(user_id)?;
            client.with_key(|key| out.write_exact(|place| key.sign(user, place)))?
        })
    }
}

/// Changes the key of a client while other threads use it. Later calls sign with the new key. Kept tokens stay, and
/// exchanges under way finish: one whose signature the service refuses is repeated with the new key. With a store, tokens
/// are looked for and kept under the new key. Thread-safe.
///
/// @param key      the key as the console shows it, 1 to 4096 bytes, not decoded; copied
/// @param key_len  its length in bytes; SPIKE_AUTH_NUL_TERMINATED is refused
/// @param err      receives the error detail; may be NULL
///
/// The old key is wiped when the last call that uses it has ended. A client whose key came from SPIKE_HMAC_KEY_FILE needs
/// no call: after a 401 it reads the file again, at most once in five seconds. After this call it does not. A client that
/// was made without a key has one from then on. Fails with INVALID_KEY, CLOSED, INTERNAL (the system gives no memory).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_set_hmac_key(
    client: *const spike_auth_client,
    key: *const u8,
    key_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            Ok(client.set_hmac_key(bytes(key, key_len, "key")?)?)
        })
    }
}

/// Signs many user ids in one call. The layout is that of an Arrow array of large strings, so such an array
/// can be passed without a copy. Allocates nothing, sends nothing; about a third faster per id than single
/// calls.
///
/// @param ids             all ids in one block of bytes, without separators or NULs
/// @param ids_len         length of ids in bytes; SPIKE_AUTH_NUL_TERMINATED is refused
/// @param offsets         count + 1 offsets into ids: id i is from offsets[i] to offsets[i + 1]. They must
///                        not be negative, decrease, or exceed ids_len. May be NULL if count is 0.
/// @param count           the number of ids
/// @param signatures      receives 64 hex characters per id, without NULs: id i at signatures + 64 * i
/// @param signatures_cap  size of signatures in bytes: 64 * count or more
/// @param statuses        receives count statuses, OK or INVALID_USER_ID; may be NULL
/// @param err             receives the error detail; may be NULL
///
/// This is the one function that can succeed in part: an invalid id receives 64 NUL bytes as its signature,
/// all others are signed, and the function returns INVALID_USER_ID with the index of the first invalid id in
/// the message. If it fails with NULL_POINTER, INVALID_ARGUMENT, BUFFER_TOO_SMALL, KEY_REQUIRED or CLOSED,
/// nothing was written.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_sign_users(
    client: *const spike_auth_client,
    ids: *const c_char,
    ids_len: usize,
    offsets: *const i64,
    count: usize,
    signatures: *mut c_char,
    signatures_cap: usize,
    statuses: *mut i32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let ids = bytes(ids.cast(), ids_len, "ids")?;
            let column = Column::new(ids, offsets, count)?;
            client.check_key()?;
            let rows = rows(signatures, signatures_cap, count)?;
            let mut bad = BadIds::default();
            let report = |index, checked: Result<(), InvalidUserId>| {
                bad.note(index, checked);
                if !statuses.is_null() {
                    let status = checked
                        .map_or(spike_auth_status::InvalidUserId, |()| spike_auth_status::Ok);
                    statuses.add(index).write_unaligned(status as i32);
                }
            };
            client.with_key(|key| key.sign_column(column.iter(), rows, report))?;
            bad.into_result(count)
        })
    }
}

/// Signs a user id and exchanges the signature for that user's access token. Always sends a request; does not
/// use the cache. Blocks until the token arrives, the service refuses, or the deadline passes. Failures that
/// may be temporary (no connection, a lost one, 408, 425, 429, 500, 502, 503, 504) are retried within the
/// deadline, up to the maximum number of attempts, after a delay that the service's Retry-After can lengthen.
///
/// A 429, or a 503 with Retry-After, holds back all requests of the client for the time it names, at most 10
/// minutes. A call whose deadline is earlier fails at once with RATE_LIMITED or SERVER_ERROR, `attempts` 0
/// and the remaining time in retry_after_ms; the others wait. After that time one request is sent first, and
/// the others wait for its result.
///
/// @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
/// @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param call         a call handle with its own deadline and cancellation, or NULL for the client's
///                     deadline
/// @param token        receives the token and a NUL: 1 to 8192 characters that are valid in an HTTP header
/// @param token_cap    size of token in bytes. A size below SPIKE_AUTH_TOKEN_SIZE fails with BUFFER_TOO_SMALL
///                     before anything is sent.
/// @param token_len    receives the token's length without the NUL
/// @param err          receives the error detail; may be NULL
///
/// Fails with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED, and any status from 40 on.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_exchange(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    call: *const spike_auth_call,
    token: *mut c_char,
    token_cap: usize,
    token_len: *mut usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = TextOut::new(token, token_cap, token_len, "token")?;
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            client.check_open()?;
            out.require(SPIKE_AUTH_TOKEN_SIZE)?;
            let (token, attempts) = client.exchange_counted(user_id, optional(call))?;
            out.write(token.as_bytes())?;
            Ok(Work::of(attempts))
        })
    }
}

/// Exchanges a signature that was made elsewhere, by a machine that has the key. The client needs no key.
///
/// @param user_id        the signed id, byte for byte
/// @param user_id_len    length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param signature      64 hex characters in upper or lower case
/// @param signature_len  length of signature in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param call           see spike_auth_client_exchange()
/// @param token          see spike_auth_client_exchange()
/// @param token_cap      see spike_auth_client_exchange()
/// @param token_len      receives the token's length without the NUL
/// @param err            receives the error detail; may be NULL
///
/// Fails with INVALID_SIGNATURE (also if it is NULL or empty), and the statuses of
/// spike_auth_client_exchange() except KEY_REQUIRED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_exchange_signature(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    signature: *const c_char,
    signature_len: usize,
    call: *const spike_auth_call,
    token: *mut c_char,
    token_cap: usize,
    token_len: *mut usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = TextOut::new(token, token_cap, token_len, "token")?;
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            // NULL counts as an empty signature, which is an error of its own.
            let signature = if signature.is_null() {
                &[]
            } else {
                text(signature, signature_len, "signature")?
            };
            client.check_open()?;
            out.require(SPIKE_AUTH_TOKEN_SIZE)?;
            let (token, attempts) =
                client.exchange_signature_counted(user_id, signature, optional(call))?;
            out.write(token.as_bytes())?;
            Ok(Work::of(attempts))
        })
    }
}
