//! A function that panics inside the boundary. Built only with the feature `test-panic`.

use std::ffi::c_char;

use super::boundary::run;
use super::buffer::TextOut;
use super::error::spike_auth_error;
use super::status::spike_auth_status_t;

/// Panics after it has taken the caller's buffer, as a bug in the middle of a function would.
#[unsafe(no_mangle)]
#[must_use]
#[allow(clippy::panic)] // its only purpose
pub unsafe extern "C" fn spike_auth_test_panic(
    out: *mut c_char,
    out_cap: usize,
    out_len: *mut usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the arguments are those of any function of the header.
    unsafe {
        run::<()>(err, || {
            let _out = TextOut::new(out, out_cap, out_len, "out")?;
            panic!("provoked by a test")
        })
    }
}
