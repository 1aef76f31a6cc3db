//! The handle that carries the deadline and the cancellation of one call.

use super::boundary::{run, run_quietly};
use super::buffer::{HandleOut, free, handle};
use super::error::spike_auth_error;
use super::status::spike_auth_status_t;
use crate::call::Call;

/// The deadline and the cancellation of one call. Make a handle, pass it to a call, and cancel that call from
/// any thread. Only one call at a time may use a handle. When the call has returned, the next call may use it,
/// unless it was cancelled.
pub struct spike_auth_call {
    call: Call,
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
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            HandleOut::new(call, "call")?.put(spike_auth_call { call: Call::new() });
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
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe { run(err, || Ok(handle(call, "call")?.call.set_timeout_ms(ms)?)) }
}

/// Cancels a handle: the call that uses it returns CANCELLED at once, and so does every later call. A call that
/// has returned is not affected. A cancelled handle stays cancelled. May be called from any thread, any number
/// of times; NULL is ignored. In a forked child, it cancels the child's calls only, not the parent's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_call_cancel(call: *mut spike_auth_call) {
    run_quietly(|| {
        // SAFETY: the header asks of the caller what this needs.
        if let Ok(call) = unsafe { handle(call, "call") } {
            call.call.cancel();
        }
    });
}

/// Frees a call handle. NULL is ignored. Free it only after the call that uses it has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_call_free(call: *mut spike_auth_call) {
    // SAFETY: the header asks of the caller what this needs.
    run_quietly(|| unsafe { free(call) });
}

/// The call of a handle, or `None` for NULL.
///
/// # Safety
/// `ptr` is NULL or a live handle of this library.
pub(super) unsafe fn optional<'a>(ptr: *const spike_auth_call) -> Option<&'a Call> {
    // SAFETY: NULL is `None`; any other pointer is live, as the caller promises.
    unsafe { ptr.as_ref() }.map(|handle| &handle.call)
}
