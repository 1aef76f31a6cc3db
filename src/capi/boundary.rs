//! The boundary of every function: it catches panics and fills the error struct.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{Failure, Work, spike_auth_error, write_error};
use super::status::{spike_auth_status, spike_auth_status_t};

/// Runs the body of a function that returns a status, and always writes `err`.
///
/// # Safety
/// `err` is NULL or points to memory for one `spike_auth_error`, which may be uninitialised.
#[inline]
pub(super) unsafe fn run<T: Into<Work>>(
    err: *mut spike_auth_error,
    body: impl FnOnce() -> Result<T, Failure>,
) -> spike_auth_status_t {
    let outcome = guard(body).unwrap_or_else(|| Err(panicked())).map(Into::into);
    // SAFETY: the caller promises the same about `err`.
    unsafe { write_error(err, &outcome) };
    match outcome {
        Ok(_) => spike_auth_status::Ok as spike_auth_status_t,
        Err(failure) => failure.status() as spike_auth_status_t,
    }
}

/// Runs the body of a function that cannot fail. A panic ends it early.
pub(super) fn run_quietly(body: impl FnOnce()) {
    let _ = guard(body);
}

fn guard<T>(body: impl FnOnce() -> T) -> Option<T> {
    // Unwind safe: shared state is atomic or behind locks whose poisoning is handled.
    catch_unwind(AssertUnwindSafe(body)).map_err(std::mem::forget).ok() // a payload's drop may panic
}

#[cold]
pub(super) fn panicked() -> Failure {
    Failure::new(
        spike_auth_status::Panic,
        "A bug in libspike_auth: it panicked, and the panic was caught. Report it with the output on stderr.",
    )
}
