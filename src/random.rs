//! Random numbers of the system.
//!
//! The system may refuse them at any time; a seccomp filter that is loaded after a client was made does so.
//! Then std's maps panic, because each thread asks for its own keys; [`Keyed`] asks once per process.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::error::{Error, ErrorKind};

/// Fails if there are no random numbers. Checked when a client is made; later, only TLS connections need
/// some.
pub(crate) fn check() -> Result<(), Error> {
    fill(&mut [0; 16]).map_err(|error| refused(&error))?;
    keys();
    Ok(())
}

/// The error for a failure for lack of random numbers that does not name its reason.
pub(crate) fn missing() -> Error {
    check().err().unwrap_or_else(|| refused(&io::Error::other("a moment ago")))
}

/// A number in 0..1, without 1. Always from the kernel, so that a forked child does not repeat its parent's;
/// it is needed only after a failure.
pub(crate) fn fraction() -> f64 {
    let mut bytes = [0; 4];
    // A call should not fail for the lack of jitter.
    if fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// A random time from `least` to below `most`.
pub(crate) fn between(least: Duration, most: Duration) -> Duration {
    least + (most - least).mul_f64(fraction())
}

/// Hashes with secret keys of this process, so that an attacker cannot choose colliding keys.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keyed;

impl BuildHasher for Keyed {
    type Hasher = <RandomState as BuildHasher>::Hasher;

    fn build_hasher(&self) -> Self::Hasher {
        keys().build_hasher()
    }
}

/// A forked child has its parent's keys.
fn keys() -> &'static RandomState {
    static KEYS: OnceBox<RandomState> = OnceBox::new();
    KEYS.get_or_init(|| Box::new(RandomState::new()))
}

pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::getrandom(bytes).map_err(|error| match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    })
}

fn refused(error: &io::Error) -> Error {
    // Without getrandom(2), /dev/urandom needs a descriptor.
    let is_temporary = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    Error::new(
        ErrorKind::Internal,
        format!(
            "The operating system refuses random numbers to this process: {error}. Allow getrandom(2), \
             which a seccomp filter may block, or /dev/urandom before the first client is made."
        ),
    )
    .with_retryable(is_temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_in_range_and_differ() {
        let drawn: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(drawn.iter().any(|&number| number < 0.5));
        assert!(drawn.iter().any(|&number| number > 0.5));
    }

    #[test]
    fn all_maps_of_a_process_share_secret_keys() {
        let (a, b) = (Keyed.hash_one("alice"), Keyed.hash_one("alice"));
        assert_eq!(a, b);
        assert_ne!(
            a,
            std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one("alice")
        );
    }
}
