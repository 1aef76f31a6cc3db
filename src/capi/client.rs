//! The client: a handle that any number of threads share.

use std::ffi::c_char;

use super::boundary::{run, run_quietly};
use super::buffer::{HandleOut, TextOut, bytes, free, handle, null, text, too_long};
use super::call::{optional, spike_auth_call};
use super::config::spike_auth_config;
use super::error::{Attempts, Failure, spike_auth_error};
use super::status::{spike_auth_status, spike_auth_status_t};
use super::version::SPIKE_AUTH_TOKEN_SIZE;
use crate::client::Client;
use crate::signing::SIGNATURE_LEN;
use crate::user_id::InvalidUserId;

/// Signs user ids, exchanges signatures for access tokens and keeps these, for one application. Make one per
/// process and keep it: it keeps connections and tokens. All its functions may be called from any number of
/// threads at once, but for spike_auth_client_free().
pub struct spike_auth_client {
    pub(super) client: Client,
}

/// Makes a client of a configuration, which is copied: free it or change it afterwards. Reads the trusted
/// roots if the base URL is an https one; connects to nothing yet.
///
/// @param config  a configuration with an application id
/// @param client  gets the handle; NULL if the function fails. Free it with spike_auth_client_free().
/// @param err     NULL or where the details go
///
/// Fails with INCOMPLETE_CONFIG, INVALID_ARGUMENT (a connect timeout that is longer than the deadline of
/// the call), INVALID_ENVIRONMENT (the base URL would be reached through a proxy that
/// spike_auth_config_load_env() found in a variable and that cannot be used), TLS_ROOTS, INTERNAL (the system
/// gives the process no randomness).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_new(
    config: *const spike_auth_config,
    client: *mut *mut spike_auth_client,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let out = HandleOut::new(client, "client")?;
            let config = handle(config, "config")?.copy();
            out.put(spike_auth_client { client: Client::new(&config)? });
            Ok(())
        })
    }
}

/// Closes a client: calls in flight return CLOSED at once, later ones too. From any thread, as often as you
/// like; NULL is fine. The handle stays valid until it is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_client_close(client: *const spike_auth_client) {
    run_quietly(|| {
        // SAFETY: the header asks of the caller what this needs.
        if let Ok(client) = unsafe { handle(client, "client") } {
            client.client.close();
        }
    });
}

/// Closes a client, frees it and wipes its key and its tokens. NULL is fine. Not while another thread is
/// inside a call on it: close it first, wait until those calls have returned, then free it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_client_free(client: *mut spike_auth_client) {
    // SAFETY: the header asks of the caller what this needs.
    run_quietly(|| unsafe { free(client) });
}

/// Signs one user id with the client's key: HMAC-SHA256 as 64 lowercase hex characters. Takes no lock,
/// allocates nothing, makes no system call, sends nothing.
///
/// @param user_id        1 to 128 of A-Z a-z 0-9 . _ - ; signed byte for byte, never trimmed
/// @param user_id_len    its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param signature      gets the signature and a NUL. It never expires: keep it as secret as a password.
/// @param signature_cap  SPIKE_AUTH_SIGNATURE_SIZE or more
/// @param signature_len  gets 64
/// @param err            NULL or where the details go
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
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let out = TextOut::new(signature, signature_cap, signature_len, "signature")?;
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            let (key, user) = client.signer(user_id)?;
            out.write_exact(|place| key.sign(user, place))
        })
    }
}

/// Signs many user ids in one call. The layout is that of an Arrow column of large strings, so that one can
/// be handed over as it is. Allocates nothing, sends nothing; about a third faster per id than one by one.
///
/// @param ids             all ids in one run of bytes, without separators or NULs
/// @param ids_len         its length; SPIKE_AUTH_NUL_TERMINATED is refused
/// @param offsets         count + 1 offsets into ids: id i is from offsets[i] to offsets[i + 1]. They must
///                        not be negative, fall, or go beyond ids_len. NULL is allowed if count is 0.
/// @param count           the number of ids
/// @param signatures      gets 64 hex characters per id, without NULs: id i at signatures + 64 * i
/// @param signatures_cap  64 * count or more
/// @param statuses        NULL, or gets one status per id: OK or INVALID_USER_ID
/// @param err             NULL or where the details go
///
/// A bad id gets 64 NUL bytes for its signature; all others are signed, and the function returns
/// INVALID_USER_ID with the index of the first bad one in the message. It is the one function that can
/// succeed in part. If it fails with INVALID_ARGUMENT, BUFFER_TOO_SMALL, KEY_REQUIRED, NULL_POINTER or
/// CLOSED, nothing was written.
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
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let ids = bytes(ids.cast(), ids_len, "ids")?;
            let column = Column::new(ids, offsets, count)?;
            let key = client.key()?;
            let rows = rows(signatures, signatures_cap, count)?;
            let mut bad = BadIds::default();
            key.sign_column(column.iter(), rows, |index, checked| {
                bad.see(index, checked);
                if !statuses.is_null() {
                    let status = checked
                        .map_or(spike_auth_status::InvalidUserId, |()| spike_auth_status::Ok);
                    statuses.add(index).write_unaligned(status as i32);
                }
            });
            bad.into_result(count)
        })
    }
}

/// Ids in Arrow's layout, whose offsets were checked once. They are read again afterwards, and so
/// looked up safely: another thread may have changed them.
struct Column<'a> {
    ids: &'a [u8],
    offsets: *const i64,
    count: usize,
}

impl<'a> Column<'a> {
    /// # Safety
    /// `offsets` is NULL or points to `count + 1` readable numbers for as long as this lives.
    unsafe fn new(ids: &'a [u8], offsets: *const i64, count: usize) -> Result<Self, Failure> {
        if count > isize::MAX as usize / SIGNATURE_LEN {
            return Err(Failure::new(
                spike_auth_status::InvalidArgument,
                "The count is larger than memory. Pass the number of ids.",
            ));
        }
        if offsets.is_null() && count > 0 {
            return Err(null("offsets"));
        }
        let this = Self { ids, offsets, count };
        match this.iter_checked().position(|id| id.is_none()) {
            None => Ok(this),
            Some(index) => Err(Failure::new(
                spike_auth_status::InvalidArgument,
                format!(
                    "The offsets of id {index} (counted from 0) are negative, falling, or beyond ids_len. \
                     Pass count + 1 offsets into ids."
                ),
            )),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter_checked().map(Option::unwrap_or_default)
    }

    fn iter_checked(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let Self { ids, offsets, count } = *self;
        let offset = move |index| {
            // SAFETY: `new` was promised `count + 1` offsets; `index` is `count` at most.
            usize::try_from(unsafe { offsets.add(index).read_unaligned() }).ok()
        };
        let mut start = if count > 0 { offset(0) } else { None };
        (1..=count).map(move |index| {
            let end = offset(index);
            let id = start.zip(end).and_then(|(start, end)| ids.get(start..end));
            start = end;
            id
        })
    }
}

/// # Safety
/// `signatures` is NULL or points to `cap` writable bytes.
unsafe fn rows<'a>(
    signatures: *mut c_char,
    cap: usize,
    count: usize,
) -> Result<&'a mut [[u8; SIGNATURE_LEN]], Failure> {
    if count == 0 {
        return Ok(&mut []);
    }
    if signatures.is_null() {
        return Err(null("signatures"));
    }
    if cap > isize::MAX as usize {
        return Err(too_long("signatures"));
    }
    let needed = count * SIGNATURE_LEN; // `Column::new` has bounded it
    if cap < needed {
        return Err(Failure::new(
            spike_auth_status::BufferTooSmall,
            format!(
                "The buffer for the signatures has {cap} bytes and {needed} are needed. Pass a larger one."
            ),
        ));
    }
    let start = signatures.cast::<u8>();
    // SAFETY: not NULL and of `needed` bytes at least, which are set before they are lent as
    // initialised rows.
    unsafe {
        start.write_bytes(0, needed);
        Ok(std::slice::from_raw_parts_mut(start.cast(), count))
    }
}

/// What the result of a bulk call says of the bad ids among the good ones.
#[derive(Default)]
struct BadIds {
    count: usize,
    first: Option<(usize, InvalidUserId)>,
}

impl BadIds {
    fn see(&mut self, index: usize, checked: Result<(), InvalidUserId>) {
        if let Err(flaw) = checked {
            self.count += 1;
            self.first.get_or_insert((index, flaw));
        }
    }

    fn into_result(self, of: usize) -> Result<(), Failure> {
        let Some((index, flaw)) = self.first else {
            return Ok(());
        };
        Err(Failure::new(
            spike_auth_status::InvalidUserId,
            format!(
                "{} of {of} user ids are invalid and were not signed; the first is at index {index} \
                 (counted from 0): {flaw}.",
                self.count
            ),
        ))
    }
}

/// Signs a user id and exchanges the signature for that user's access token. Always asks the service.
/// Blocks until the token is there, the service has refused, or the deadline has passed. What may pass
/// (no connection, a lost one, 408, 425, 429, 500, 502, 503, 504) is tried again within the deadline, up to
/// the number of attempts, after a wait that the service's Retry-After can lengthen.
///
/// A 429, and a 503 with Retry-After, hold all calls of the client until the time that it says, 10 minutes at
/// most. A call whose deadline is before that fails at once with RATE_LIMITED or SERVER_ERROR, attempts 0 and
/// the time left in retry_after_ms; the others wait. Then one request goes first, and the others follow its
/// answer.
///
/// @param user_id      1 to 128 of A-Z a-z 0-9 . _ -
/// @param user_id_len  its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param call         NULL for the client's deadline, or a handle that sets another one or cancels
/// @param token        gets the token and a NUL: 1 to 8192 characters that may stand in a header
/// @param token_cap    SPIKE_AUTH_TOKEN_SIZE or more: less is BUFFER_TOO_SMALL before anything is sent
/// @param token_len    gets the token's length without the NUL
/// @param err          NULL or where the details go
///
/// Fails with any status from 40 on, and with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED.
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
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let out = TextOut::new(token, token_cap, token_len, "token")?;
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            client.check_open()?;
            out.require(SPIKE_AUTH_TOKEN_SIZE)?;
            let (token, attempts) = client.exchange_counted(user_id, optional(call))?;
            out.write(token.as_bytes())?;
            Ok(Attempts(attempts))
        })
    }
}

/// Exchanges a signature that was made elsewhere, on a machine that has the key. Needs no key here.
///
/// @param user_id        the id that was signed, byte for byte
/// @param user_id_len    its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param signature      64 hex characters in either case
/// @param signature_len  its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param call           NULL, or a handle, as in spike_auth_client_exchange()
/// @param token          as in spike_auth_client_exchange()
/// @param token_cap      SPIKE_AUTH_TOKEN_SIZE or more
/// @param token_len      gets the token's length without the NUL
/// @param err            NULL or where the details go
///
/// Fails as spike_auth_client_exchange() does, and with INVALID_SIGNATURE (a NULL or empty one too).
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
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let out = TextOut::new(token, token_cap, token_len, "token")?;
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            // NULL is the signature that was forgotten, and treated like an empty one.
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
            Ok(Attempts(attempts))
        })
    }
}
