//! Randomness: whether the system gives any, and what is made of it.
//!
//! It may be refused at any time, as by a seccomp filter that is loaded after a client was made. Std's
//! maps panic then, because each thread asks for keys of its own; [`Keyed`] asks once per process.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::error::{Error, ErrorKind};

/// Fails where there is none. A client asks before it is made: from then on, only connections over
/// TLS need any.
pub(crate) fn check() -> Result<(), Error> {
    fill(&mut [0; 16]).map_err(|error| refused(&error))?;
    keys();
    Ok(())
}

/// For what failed for want of it, and does not say why.
pub(crate) fn missing() -> Error {
    check().err().unwrap_or_else(|| refused(&io::Error::other("just now")))
}

/// A number from 0 up to and without 1. From the kernel each time, and so never the same in a
/// process and its child; it is asked for only after a failure.
pub(crate) fn fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the wait is in the middle: nothing that a call should fail for.
    if fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// A time from `least` up to and without `most`.
pub(crate) fn between(least: Duration, most: Duration) -> Duration {
    least + (most - least).mul_f64(fraction())
}

/// How a map hashes: by the keys of this process, so that nobody can choose what collides.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keyed;

impl BuildHasher for Keyed {
    type Hasher = <RandomState as BuildHasher>::Hasher;

    fn build_hasher(&self) -> Self::Hasher {
        keys().build_hasher()
    }
}

/// A child of a fork has its parent's.
fn keys() -> &'static RandomState {
    static KEYS: OnceBox<RandomState> = OnceBox::new();
    KEYS.get_or_init(|| Box::new(RandomState::new()))
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::getrandom(bytes).map_err(|error| match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    })
}

fn refused(error: &io::Error) -> Error {
    // Without getrandom(2), /dev/urandom costs a descriptor.
    let may_pass = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    Error::new(
        ErrorKind::Internal,
        format!(
            "The operating system gives this process no randomness: {error}. Allow it getrandom(2), \
             which a seccomp filter may refuse, or /dev/urandom from before the first client is made."
        ),
    )
    .with_retryable(may_pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_from_0_up_to_1_and_differ() {
        let drawn: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(drawn.iter().any(|&number| number < 0.5));
        assert!(drawn.iter().any(|&number| number > 0.5));
    }

    #[test]
    fn all_maps_of_a_process_hash_alike_and_by_secret_keys() {
        let (a, b) = (Keyed.hash_one("alice"), Keyed.hash_one("alice"));
        assert_eq!(a, b);
        assert_ne!(
            a,
            std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one("alice")
        );
    }
}
