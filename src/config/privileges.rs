//! Whether this program has privileges that the one who started it may not have.

#![allow(unsafe_code)] // getauxval(3), issetugid(2)

/// Whether the program is to trust its environment no further than the one who started it: it is
/// setuid or setgid, has capabilities of its file, or a security module says so. What the kernel found
/// when the program began, and so the same for as long as the process runs, whatever it drops.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn are_raised() -> bool {
    // SAFETY: the function takes any number, and reads what the kernel gave the process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The same, as the BSDs and macOS tell it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn are_raised() -> bool {
    // SAFETY: the function takes nothing and cannot fail.
    unsafe { libc::issetugid() != 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test_has_none() {
        assert!(!super::are_raised());
    }
}
