//! Signing without a client: no network, no handle.

use std::ffi::c_char;

use super::boundary::run;
use super::buffer::{TextOut, bytes, text};
use super::error::{Failure, spike_auth_error};
use super::status::{spike_auth_status, spike_auth_status_t};
use crate::signing::{Key, Signature};
use crate::user_id::UserId;

/// Signs one user id with a key: HMAC-SHA256 as 64 lowercase hex characters.
///
/// A client does the same faster (spike_auth_client_sign_user()): it prepares the key once.
///
/// @param key            the raw bytes of the key as the Spike console shows it, never hex- or
///                       base64-decoded. Not a text: SPIKE_AUTH_NUL_TERMINATED is refused.
/// @param key_len        1 to 4096
/// @param user_id        1 to 128 of A-Z a-z 0-9 . _ - ; signed byte for byte, never trimmed
/// @param user_id_len    its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param signature      receives the signature and a NUL
/// @param signature_cap  SPIKE_AUTH_SIGNATURE_SIZE or more
/// @param signature_len  receives 64
/// @param err            NULL or where the details go
///
/// Fails with INVALID_KEY, INVALID_USER_ID, BUFFER_TOO_SMALL.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_sign_user(
    key: *const u8,
    key_len: usize,
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
            let key = bytes(key, key_len, "key")?;
            let user = UserId::new(text(user_id, user_id_len, "user_id")?)?;
            let key = Key::new(key)?;
            out.write_exact(|place| key.sign(user, place))
        })
    }
}

/// Checks a signature against a key and a user id, in constant time.
///
/// @param key            as in spike_auth_sign_user()
/// @param key_len        1 to 4096
/// @param user_id        as in spike_auth_sign_user()
/// @param user_id_len    its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param signature      64 hex characters in either case
/// @param signature_len  its length, or SPIKE_AUTH_NUL_TERMINATED
/// @param err            NULL or where the details go
///
/// OK if it matches, else SIGNATURE_MISMATCH. Fails with INVALID_SIGNATURE if it is not 64 hex characters,
/// INVALID_KEY, INVALID_USER_ID.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_verify_user(
    key: *const u8,
    key_len: usize,
    user_id: *const c_char,
    user_id_len: usize,
    signature: *const c_char,
    signature_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let key = Key::new(bytes(key, key_len, "key")?)?;
            let user = UserId::new(text(user_id, user_id_len, "user_id")?)?;
            let signature = Signature::parse(text(signature, signature_len, "signature")?)?;
            if key.verify(user, &signature) {
                return Ok(());
            }
            Err(Failure::new(
                spike_auth_status::SignatureMismatch,
                "The signature does not match this user id and key. Check that both sides use the same key and sign the same bytes.",
            ))
        })
    }
}
