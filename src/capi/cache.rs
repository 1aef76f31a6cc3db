//! Tokens from the client's cache.

use std::ffi::c_char;

use super::boundary::run;
use super::buffer::{TextOut, handle, text};
use super::call::{optional, spike_auth_call};
use super::client::spike_auth_client;
use super::error::{Attempts, Failure, spike_auth_error};
use super::status::spike_auth_status_t;
use super::version::{SPIKE_AUTH_AUTHORIZATION_SIZE, SPIKE_AUTH_TOKEN_SIZE};
use crate::call::Call;
use crate::client::{Client, not_cached};

/// What stands before a token in the value of an Authorization header (RFC 6750, 2.1).
const SCHEME: &[u8] = b"Bearer ";

/// The access token of a user: from the client's cache, else by an exchange that is then kept. However
/// many calls ask for the same user at the same time, one exchange serves them all, its failure too; each
/// waits as long as its own deadline allows. If the call that makes the exchange is cancelled or out of time,
/// another goes on with it, and sends again what was broken off. What spike_auth_client_exchange() says of an
/// exchange holds for this one.
///
/// A token that is in the cache costs no lock and no system call; only a thread's first hit allocates.
///
/// A token that will end soon is renewed by the first call that asks for it, which waits for the exchange; the
/// others get the old one at once. If the renewal fails in a way that may pass, that call gets the old token
/// too, and none is begun for 5 to 10 seconds. 401 and 403 end the old token. See
/// spike_auth_config_set_cache_ttl_ms().
///
/// @param user_id      1 to 128 of A-Z a-z 0-9 . _ -
/// @param user_id_len  its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param call         NULL for the client's deadline, or a handle that sets another one or cancels
/// @param token        gets the token and a NUL: 1 to 8192 characters that may stand in a header
/// @param token_cap    SPIKE_AUTH_TOKEN_SIZE is always enough. For a token that is in the cache its own size
///                     is; where an exchange is needed, less than SPIKE_AUTH_TOKEN_SIZE is BUFFER_TOO_SMALL
///                     before anything is sent.
/// @param token_len    gets the token's length without the NUL
/// @param err          NULL or where the details go. `attempts` is 0 for a token from the cache; a call that
///                     waited for another's exchange to its end gets that exchange's number.
///
/// Fails with any status from 40 on, and with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED.
///
/// TOKEN_REJECTED: see spike_auth_client_invalidate(). UNAUTHORIZED with attempts 0: the service has refused
/// the signatures of five different users in a row, so the key must be wrong. Until a signature is accepted,
/// one request in five seconds is sent to see, and all other calls fail at once; retry_after_ms says when the
/// next is due.
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
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let out = TextOut::new(token, token_cap, token_len, "token")?;
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            write_token(client, user_id, optional(call), &out, b"", SPIKE_AUTH_TOKEN_SIZE)
        })
    }
}

/// The value of an Authorization header for a user: "Bearer ", and the token as
/// spike_auth_client_get_token() gives it.
///
/// @param user_id      as there
/// @param user_id_len  as there
/// @param call         as there
/// @param out          gets the value and a NUL
/// @param out_cap      SPIKE_AUTH_AUTHORIZATION_SIZE is always enough; otherwise as there, with seven more
/// @param out_len      gets the length without the NUL
/// @param err          NULL or where the details go
///
/// Fails as spike_auth_client_get_token() does.
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
    // SAFETY: the header asks of the caller what each of these needs.
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

/// The access token of a user if it is in the cache. Never waits and sends nothing. A token that is due for
/// renewal is not given until a call of spike_auth_client_get_token() has begun to renew it: so a program that
/// looks here first goes on to that call when it is time.
///
/// @param user_id      1 to 128 of A-Z a-z 0-9 . _ -
/// @param user_id_len  its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param token        gets the token and a NUL
/// @param token_cap    the token's own size or more; SPIKE_AUTH_TOKEN_SIZE is always enough
/// @param token_len    gets the token's length without the NUL
/// @param err          NULL or where the details go
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
    // SAFETY: the header asks of the caller what each of these needs.
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

/// Reports that the service refused a token (a 401 to a call with it). Drops it from the cache, if it is
/// still the one that is there: so a hundred workers that report the same token make one new exchange. Call
/// spike_auth_client_get_token() afterwards, and try once more with what it gives.
///
/// In the five seconds after a report, one exchange gets another token. If that is the rejected one again, or
/// is reported as well, spike_auth_client_get_token() fails with TOKEN_REJECTED until they are over, without a
/// request; retry_after_ms says for how long.
///
/// @param user_id       whose token it was
/// @param user_id_len   its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param rejected      the token, without "Bearer "
/// @param rejected_len  its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param err           NULL or where the details go
///
/// Fails with INVALID_USER_ID, INVALID_ARGUMENT (what can be no token, such as an empty text), CLOSED. That the
/// token is not in the cache is no failure.
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
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            let rejected = text(rejected, rejected_len, "rejected")?;
            Ok(client.invalidate(user_id, rejected)?)
        })
    }
}

/// Drops what the cache holds for a user, whatever it is. No other effect: an exchange that is under way goes
/// on for those who wait for it, and its token is not kept. After a 401 use spike_auth_client_invalidate()
/// instead.
///
/// @param user_id      1 to 128 of A-Z a-z 0-9 . _ -
/// @param user_id_len  its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param err          NULL or where the details go
///
/// Fails with INVALID_USER_ID, CLOSED. That there is nothing to drop is no failure.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_forget(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            Ok(client.forget(user_id)?)
        })
    }
}

/// Drops all that the cache holds, and wipes it; for exchanges under way see spike_auth_client_forget().
///
/// Fails with CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_clear(
    client: *const spike_auth_client,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what each of these needs.
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
) -> Result<Attempts, Failure> {
    let (key, user) = client.signer(user_id)?;
    let found = client.look_up(user, call)?;
    if let Some(token) = found.live_token() {
        out.write_both(prefix, token.as_bytes())?;
        return Ok(Attempts(0));
    }
    let fetched = match out.require(size_max) {
        Ok(()) => client.fetch(key, user, found, call)?,
        // The token that is there may fit.
        Err(too_small) => client.without_fetch(found).ok_or(too_small)?,
    };
    out.write_both(prefix, fetched.entry.token().as_bytes())?;
    Ok(Attempts(fetched.attempts))
}
