//! What every function passes through on its way out: no panic, and always a whole error struct.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{Attempts, Failure, spike_auth_error, write_error};
use super::status::{spike_auth_status, spike_auth_status_t};

/// Runs the body of a function that returns a status, and writes `err` whatever comes of it.
///
/// # Safety
/// `err` is NULL or points to memory for one `spike_auth_error`, which may be uninitialised.
#[inline]
pub(super) unsafe fn run<T: Into<Attempts>>(
    err: *mut spike_auth_error,
    body: impl FnOnce() -> Result<T, Failure>,
) -> spike_auth_status_t {
    let outcome = guard(body).unwrap_or_else(|| Err(panicked())).map(Into::into);
    // SAFETY: the caller's promise about `err` is the one asked for.
    unsafe { write_error(err, &outcome) };
    match outcome {
        Ok(_) => spike_auth_status::Ok as spike_auth_status_t,
        Err(failure) => failure.status() as spike_auth_status_t,
    }
}

/// Runs the body of a function that cannot fail; a panic ends it early and goes no further.
pub(super) fn run_quietly(body: impl FnOnce()) {
    let _ = guard(body);
}

fn guard<T>(body: impl FnOnce() -> T) -> Option<T> {
    // Unwind safe: what the body shares with later calls is behind locks whose poison is handled,
    // or atomic.
    catch_unwind(AssertUnwindSafe(body)).map_err(std::mem::forget).ok() // a payload's drop may panic
}

#[cold]
fn panicked() -> Failure {
    Failure::new(
        spike_auth_status::Panic,
        "A bug in libspike_auth: it panicked, and the panic was caught. Report it with what stderr says.",
    )
}
