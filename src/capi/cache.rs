//! The token cache of a client: its settings, and the functions that use it.

use std::ffi::c_char;

use super::boundary::run;
use super::buffer::{TextOut, handle, text};
use super::call::{optional, spike_auth_call};
use super::client::spike_auth_client;
use super::config::{set, spike_auth_config};
use super::error::{Failure, Work, spike_auth_error};
use super::status::spike_auth_status_t;
use super::version::{SPIKE_AUTH_AUTHORIZATION_SIZE, SPIKE_AUTH_TOKEN_SIZE};
use crate::call::Call;
use crate::client::{Client, not_cached};

/// The prefix of a token in the value of an Authorization header (RFC 6750, 2.1).
pub(super) const SCHEME: &[u8] = b"Bearer ";

/// Sets the maximum number of tokens in the cache. If it is full, a token that was not used lately is
/// evicted. The default is 100 000.
///
/// @param entries  0 for no cache; concurrent calls for the same user still share one exchange
/// @param err      receives the error detail; may be NULL
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_cache_capacity(
    config: *mut spike_auth_config,
    entries: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        set(config, err, |config| {
            config.set_cache_capacity(entries);
            Ok(())
        })
    }
}

/// Sets the maximum memory of the cached tokens; the limit of spike_auth_config_set_cache_capacity() holds
/// too. The default is 64 MiB.
///
/// @param bytes  bytes; 0 for the default. A token takes about 200 bytes more than its length and that of the
///               user id. A token that could never fit is returned but not cached.
/// @param err    receives the error detail; may be NULL
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_cache_max_bytes(
    config: *mut spike_auth_config,
    bytes: u64,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        set(config, err, |config| {
            config.set_cache_max_bytes(bytes);
            Ok(())
        })
    }
}

/// Sets the age at which a cached token is renewed. The default is one hour, because a token without an
/// expiry must not live long after it was revoked. A token with an expiry is also renewed before it expires:
/// by 60 seconds, or by a tenth of its lifetime if that is less.
///
/// The first call that asks for a token due for renewal makes an exchange, while the others receive the old
/// token. If the exchange fails and the failure may be temporary, the old token is returned until it expires;
/// one without an expiry, until twice this age. Both end 49 days after the time of renewal at the latest.
/// Time during which the machine is suspended does not count.
///
/// @param ms   milliseconds; 0 for no limit
/// @param err  receives the error detail; may be NULL
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_cache_ttl_ms(
    config: *mut spike_auth_config,
    ms: u64,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        set(config, err, |config| {
            config.set_cache_ttl_ms(ms);
            Ok(())
        })
    }
}

/// Returns the access token of a user: from the client's cache, or by an exchange whose token is then cached.
/// Concurrent calls for the same user share one exchange and its result, also if it fails; each waits no longer
/// than its own deadline. If the call that makes the exchange is cancelled or times out, another call takes
/// over, and sends an interrupted request again. Retries and rate limits are those of
/// spike_auth_client_exchange().
///
/// A cache hit takes no lock and no system call; only a thread's first hit allocates.
///
/// The first call that asks for a token due for renewal (see spike_auth_config_set_cache_ttl_ms()) renews it and
/// waits for the exchange; the others receive the old token at once. If the renewal fails and the failure may
/// be temporary, that call receives the old token too, and no renewal starts for 5 to 10 seconds. After a 401 or
/// 403 the old token is dropped.
///
/// @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
/// @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param call         a call handle with its own deadline and cancellation, or NULL for the client's deadline
/// @param token        receives the token and a NUL: 1 to 8192 characters that are valid in an HTTP header
/// @param token_cap    size of token in bytes. SPIKE_AUTH_TOKEN_SIZE is always enough. For a cached token, its
///                     length + 1 is enough. If an exchange is needed, a size below SPIKE_AUTH_TOKEN_SIZE fails
///                     with BUFFER_TOO_SMALL before anything is sent.
/// @param token_len    receives the token's length without the NUL
/// @param err          receives the error detail; may be NULL. `attempts` is 0 for a cached token; a call that
///                     shared an exchange receives the number of requests of that exchange.
///
/// Fails with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED, and any status from 40 on.
///
/// TOKEN_REJECTED: see spike_auth_client_invalidate(). UNAUTHORIZED with `attempts` 0: the service has refused
/// the signatures of five different users in a row, so the key is probably wrong. Until a signature is accepted,
/// one request is sent every five seconds, and all other calls fail at once; retry_after_ms is the time until
/// the next request.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_get_token(
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
            write_token(client, user_id, optional(call), &out, b"", SPIKE_AUTH_TOKEN_SIZE)
        })
    }
}

/// Returns the value of an Authorization header for a user: "Bearer " and the token that
/// spike_auth_client_get_token() returns.
///
/// @param user_id      see spike_auth_client_get_token()
/// @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param call         see spike_auth_client_get_token()
/// @param out          receives the value and a NUL
/// @param out_cap      size of out in bytes. SPIKE_AUTH_AUTHORIZATION_SIZE is always enough. For a cached token,
///                     its length + 8 is enough. If an exchange is needed, a size below
///                     SPIKE_AUTH_AUTHORIZATION_SIZE fails with BUFFER_TOO_SMALL before anything is sent.
/// @param out_len      receives the length of the value without the NUL
/// @param err          receives the error detail; may be NULL
///
/// Fails with the statuses of spike_auth_client_get_token().
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_get_authorization(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    call: *const spike_auth_call,
    out: *mut c_char,
    out_cap: usize,
    out_len: *mut usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = TextOut::new(out, out_cap, out_len, "out")?;
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            write_token(
                client,
                user_id,
                optional(call),
                &out,
                SCHEME,
                SPIKE_AUTH_AUTHORIZATION_SIZE,
            )
        })
    }
}

/// Returns the access token of a user if it is cached. Never waits and sends nothing. A token that is due for
/// renewal counts as not cached until a call of spike_auth_client_get_token() has started to renew it. A program
/// that peeks first, and calls spike_auth_client_get_token() on NOT_CACHED, therefore renews its tokens in time.
///
/// @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
/// @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param token        receives the token and a NUL
/// @param token_cap    size of token in bytes: the token's length + 1 or more. SPIKE_AUTH_TOKEN_SIZE is always
///                     enough.
/// @param token_len    receives the token's length without the NUL
/// @param err          receives the error detail; may be NULL
///
/// Fails with NOT_CACHED, INVALID_USER_ID, BUFFER_TOO_SMALL, CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_peek_token(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
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
            let found = client.peek(user_id)?;
            let token = found.token().ok_or_else(not_cached)?;
            out.write(token.as_bytes())
        })
    }
}

/// Reports that the service rejected a token: it answered 401 to a request with it. Drops the token from the
/// cache if it is still the cached one, so any number of threads that report the same token cause one new
/// exchange. Then call spike_auth_client_get_token() and repeat the request once with the new token.
///
/// In the five seconds after a report, only one exchange fetches a new token. If the service returns the
/// rejected token again, or the new one is reported too, spike_auth_client_get_token() fails with
/// TOKEN_REJECTED, without a request, until the five seconds are over; retry_after_ms is the time that remains.
///
/// @param user_id       the user of the token
/// @param user_id_len   length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param rejected      the rejected token, without "Bearer "
/// @param rejected_len  length of rejected in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param err           receives the error detail; may be NULL
///
/// Succeeds if the token is not cached. Fails with INVALID_USER_ID, INVALID_ARGUMENT (rejected cannot be a
/// token; an empty text, for example), CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_invalidate(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    rejected: *const c_char,
    rejected_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            let rejected = text(rejected, rejected_len, "rejected")?;
            Ok(client.invalidate(user_id, rejected)?)
        })
    }
}

/// Drops the cached token of a user. An exchange in progress continues for the calls that wait for it, but its
/// token is not cached. After a 401, use spike_auth_client_invalidate() instead.
///
/// @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
/// @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param err          receives the error detail; may be NULL
///
/// Succeeds if nothing is cached. Fails with INVALID_USER_ID, CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_forget(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            Ok(client.forget(user_id)?)
        })
    }
}

/// Drops and wipes all cached tokens. Exchanges in progress are treated as by spike_auth_client_forget().
///
/// @param err  receives the error detail; may be NULL
///
/// Fails with CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_clear(
    client: *const spike_auth_client,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { run(err, || Ok(handle(client, "client")?.client.clear()?)) }
}

/// Writes `prefix` and the token of a user. Before an exchange, `out` must hold `size_max`.
#[inline(always)] // a hit saves a tenth of its instructions
fn write_token(
    client: &Client,
    user_id: &[u8],
    call: Option<&Call>,
    out: &TextOut,
    prefix: &[u8],
    size_max: usize,
) -> Result<Work, Failure> {
    let user = client.signable(user_id)?;
    let found = client.look_up(user, call)?;
    if let Some(token) = found.live_token() {
        out.write_both(prefix, token.as_bytes())?;
        return Ok(Work::NONE);
    }
    let fetched = match out.require(size_max) {
        Ok(()) => client.fetch(user, found, call)?,
        // The token that is there may fit.
        Err(too_small) => client.without_fetch(found).ok_or(too_small)?,
    };
    out.write_both(prefix, fetched.entry.token().as_bytes())?;
    Ok(Work::from(&fetched))
}
