//! One call's own deadline and cancellation: a handle.

use super::boundary::{run, run_quietly};
use super::buffer::{HandleOut, free, handle};
use super::error::spike_auth_error;
use super::status::spike_auth_status_t;
use crate::call::Call;

/// One call's own deadline and cancellation. Make one, hand it to a call, and cancel it from any other
/// thread. One call at a time uses it; after that it may be used for the next, unless it was cancelled.
pub struct spike_auth_call {
    call: Call,
}

/// Makes a handle with the client's deadline, not cancelled.
///
/// @param call  gets the handle; NULL if the function fails. Free it with spike_auth_call_free().
/// @param err   NULL or where the details go
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

/// Sets the deadline of the next call that uses the handle; it may be shorter or longer than the client's.
///
/// @param ms  milliseconds, 1 to 600 000; 0 for the client's
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

/// Cancels: the call that uses the handle returns CANCELLED at once, wherever it is; one that has not begun
/// yet will; one that has returned is not touched. From any thread, as often as you like; NULL is fine. A
/// cancelled handle stays cancelled. In a child of fork it reaches the child's calls and not the parent's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_call_cancel(call: *mut spike_auth_call) {
    run_quietly(|| {
        // SAFETY: the header asks of the caller what this needs.
        if let Ok(call) = unsafe { handle(call, "call") } {
            call.call.cancel();
        }
    });
}

/// Frees a handle. NULL is fine. After the call that used it has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_call_free(call: *mut spike_auth_call) {
    // SAFETY: the header asks of the caller what this needs.
    run_quietly(|| unsafe { free(call) });
}

/// The call of a handle that may be NULL.
///
/// # Safety
/// `ptr` is NULL or a handle that this library made and has not freed.
pub(super) unsafe fn optional<'a>(ptr: *const spike_auth_call) -> Option<&'a Call> {
    // SAFETY: NULL is `None`; any other one is live as the caller promises.
    unsafe { ptr.as_ref() }.map(|handle| &handle.call)
}
