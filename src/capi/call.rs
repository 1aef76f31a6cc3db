//! The handle that carries the deadline and the cancellation of one call.

use std::ffi::c_char;

use super::boundary::{panicked, run, run_quietly};
use super::buffer::{HandleOut, TextOut, free_shared, handle};
use super::cache::SCHEME;
use super::error::{Failure, Work, spike_auth_error};
use super::status::{spike_auth_status, spike_auth_status_t};
use crate::call::Call;
use crate::error::Error;
use crate::requests::{Ending, Peeked};

/// The deadline and the cancellation of one call. Make a handle, pass it to a call, and cancel that call from
/// any thread. Only one call at a time may use a handle, waiting or started. When it has ended, the next call
/// may use the handle, unless it was cancelled.
pub struct spike_auth_call {
    pub(super) call: Call,
}

/// Makes a call handle that uses the client's deadline and is not cancelled.
///
/// @param call  receives the handle, NULL on failure. Free it with spike_auth_call_free().
/// @param err   receives the error detail; may be NULL
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_call_new(
    call: *mut *mut spike_auth_call,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            HandleOut::new(call, "call")?.put_shared(spike_auth_call { call: Call::new() });
            Ok(())
        })
    }
}

/// Sets the deadline of the next call that uses the handle. It may be shorter or longer than the client's.
///
/// @param ms   milliseconds, 1 to 600 000; 0 for the client's deadline
/// @param err  receives the error detail; may be NULL
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_call_set_timeout_ms(
    call: *mut spike_auth_call,
    ms: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { run(err, || Ok(handle(call, "call")?.call.set_timeout_ms(ms)?)) }
}

/// Cancels a handle: the call that uses it returns CANCELLED at once, and so does every later call. A started
/// call is handed out at once. A call that has ended is not affected. A cancelled handle stays cancelled. May
/// be called from any thread, any number of times; NULL is ignored. In a forked child, it cancels the child's
/// calls only, not the parent's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_call_cancel(call: *mut spike_auth_call) {
    run_quietly(|| {
        // SAFETY: the caller keeps the header's contract.
        if let Ok(call) = unsafe { handle(call, "call") } {
            call.call.cancel();
        }
    });
}

/// Frees a call handle. NULL is ignored. A waiting call must have returned. A started call is ended by it, and
/// is handed out no more; one that was handed out may be freed before the function that started it returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_call_free(call: *mut spike_auth_call) {
    run_quietly(|| {
        // SAFETY: the caller keeps the header's contract.
        unsafe {
            if let Ok(handle) = handle(call, "call") {
                handle.call.withdraw();
                free_shared(call);
            }
        }
    });
}

/// The access token of a call that was started, once it has ended: status, details and token as the waiting
/// function would have given them, as often as asked, until the handle is started again or freed. Never
/// waits.
///
/// @param call       a handle that was passed to a start function
/// @param token      receives the token and a NUL
/// @param token_cap  its size in bytes; SPIKE_AUTH_TOKEN_SIZE is always enough
/// @param token_len  receives the token's length without the NUL
/// @param err        receives the error detail; may be NULL
///
/// Fails with PENDING (the call is under way), INVALID_ARGUMENT (the handle was never started),
/// BUFFER_TOO_SMALL (nothing is lost: call again), CANCELLED (also in a forked child of the process that
/// started it), and with each status of the waiting function.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_call_get_token(
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
            write_result(&handle(call, "call")?.call, &out, b"")
        })
    }
}

/// The value of an Authorization header of a call that was started: "Bearer ", and the token as
/// spike_auth_call_get_token() gives it.
///
/// @param call     as there
/// @param out      receives the value and a NUL
/// @param out_cap  its size in bytes; SPIKE_AUTH_AUTHORIZATION_SIZE is always enough
/// @param out_len  receives the length without the NUL
/// @param err      receives the error detail; may be NULL
///
/// Fails as spike_auth_call_get_token() does.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_call_get_authorization(
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
            write_result(&handle(call, "call")?.call, &out, SCHEME)
        })
    }
}

fn write_result(call: &Call, out: &TextOut, prefix: &[u8]) -> Result<Work, Failure> {
    let ending = match call.peek() {
        Some(Peeked::Ended(ending)) => ending,
        Some(Peeked::Inherited) => return Err(Error::cancelled().into()),
        Some(Peeked::Pending) => {
            return Err(Failure::new(
                spike_auth_status::Pending,
                "The call has not ended. Wait until its queue hands it out.",
            ));
        }
        None => {
            return Err(Failure::new(
                spike_auth_status::InvalidArgument,
                "Nothing was started with this call handle. Pass it to a start function first.",
            ));
        }
    };
    let (token, work) = match &ending {
        Ending::Cached(fetched) => (fetched.entry.token(), Work::from(fetched)),
        Ending::Exchanged(token, attempts) => (&**token, Work::of(*attempts)),
        Ending::Failed(error) => return Err(error.clone().into()),
        Ending::Panicked => return Err(panicked()),
    };
    out.write_both(prefix, token.as_bytes())?;
    Ok(work)
}

/// The call of a handle, or `None` for NULL.
///
/// # Safety
/// `ptr` is NULL or a live handle of this library.
pub(super) unsafe fn optional<'a>(ptr: *const spike_auth_call) -> Option<&'a Call> {
    // SAFETY: NULL is `None`; any other pointer is live, as the caller promises.
    unsafe { ptr.as_ref() }.map(|handle| &handle.call)
}
