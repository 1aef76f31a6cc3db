//! Numbers that spread what many clients do at the same time.

use std::time::Duration;

/// A number from 0 up to and without 1. From the kernel each time, and so never the same in a process
/// and its child: a system call, for what is rare.
pub(crate) fn fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness it is in the middle: nothing that a call should fail for.
    if getrandom::getrandom(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// A time from `least` up to and without `most`.
pub(crate) fn between(least: Duration, most: Duration) -> Duration {
    least + (most - least).mul_f64(fraction())
}
