//! A function that panics inside the boundary, built only with the feature `test-panic`.

use std::ffi::c_char;

use super::boundary::run;
use super::buffer::TextOut;
use super::error::spike_auth_error;
use super::status::spike_auth_status_t;

/// Panics after it has emptied the caller's buffer, like a bug in the middle of a function.
#[unsafe(no_mangle)]
#[must_use]
#[allow(clippy::panic)] // its only purpose
pub unsafe extern "C" fn spike_auth_test_panic(
    out: *mut c_char,
    out_cap: usize,
    out_len: *mut usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run::<()>(err, || {
            let _out = TextOut::new(out, out_cap, out_len, "out")?;
            panic!("provoked by a test")
        })
    }
}
