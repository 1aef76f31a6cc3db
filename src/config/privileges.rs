//! Whether this program has privileges that the user who started it lacks.

#![allow(unsafe_code)] // getauxval(3), issetugid(2)

/// Whether the program must not trust its environment: it is setuid or setgid, has file capabilities, or a
/// security module demands it. The kernel decides that at the start of the program; dropping privileges later
/// changes nothing.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn are_raised() -> bool {
    // SAFETY: the function accepts any number, and only reads values of the kernel.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The same on the BSDs and macOS.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn are_raised() -> bool {
    // SAFETY: the function has no arguments and cannot fail.
    unsafe { libc::issetugid() != 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test_has_none() {
        assert!(!super::are_raised());
    }
}
