//! Versions and sizes, as constants and as functions.

use std::ffi::{CStr, c_char};

use crate::signing::SIGNATURE_LEN;
use crate::token::TOKEN_MAX;
use crate::user_id::USER_ID_MAX;

/// The ABI version, which is also the number in the soname. It changes only with an incompatible change;
/// an added function is compatible.
pub const SPIKE_AUTH_ABI_VERSION: u32 = 1;

/// The version of this header, 0x00MMmmpp.
pub const SPIKE_AUTH_VERSION_NUMBER: u32 = 0x0000_0100;

/// The maximum length of a user id in bytes, without a NUL.
pub const SPIKE_AUTH_USER_ID_MAX: usize = 128;

/// The size in bytes of a buffer for a signature: 64 hex characters and the NUL.
pub const SPIKE_AUTH_SIGNATURE_SIZE: usize = 65;

/// The size in bytes of a buffer for any access token: at most 8192 characters and the NUL.
pub const SPIKE_AUTH_TOKEN_SIZE: usize = 8193;

/// The size in bytes of a buffer for any Authorization value: "Bearer ", an access token and the NUL.
pub const SPIKE_AUTH_AUTHORIZATION_SIZE: usize = 8200;

// cbindgen copies literals only.
const _: () = assert!(SPIKE_AUTH_USER_ID_MAX == USER_ID_MAX);
const _: () = assert!(SPIKE_AUTH_SIGNATURE_SIZE == SIGNATURE_LEN + 1);
const _: () = assert!(SPIKE_AUTH_TOKEN_SIZE == TOKEN_MAX + 1);
const _: () = assert!(SPIKE_AUTH_AUTHORIZATION_SIZE == "Bearer ".len() + SPIKE_AUTH_TOKEN_SIZE);

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };

/// Returns the ABI version of the loaded library. A program that loads it at run time compares it with
/// SPIKE_AUTH_ABI_VERSION.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_abi_version() -> u32 {
    SPIKE_AUTH_ABI_VERSION
}

/// Returns the version of the loaded library, such as "0.1.0". The string is static: do not free it.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_version() -> *const c_char {
    VERSION.as_ptr()
}

/// Returns the version of the loaded library, 0x00MMmmpp.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_version_number() -> u32 {
    SPIKE_AUTH_VERSION_NUMBER
}

/// Returns SPIKE_AUTH_SIGNATURE_SIZE, for languages that cannot use macros.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_signature_size() -> usize {
    SPIKE_AUTH_SIGNATURE_SIZE
}

/// Returns SPIKE_AUTH_TOKEN_SIZE, for languages that cannot use macros.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_token_size() -> usize {
    SPIKE_AUTH_TOKEN_SIZE
}

/// Returns SPIKE_AUTH_AUTHORIZATION_SIZE, for languages that cannot use macros.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_authorization_size() -> usize {
    SPIKE_AUTH_AUTHORIZATION_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_packages_version() {
        let part = |text: &str| text.parse::<u32>().unwrap();
        let number = part(env!("CARGO_PKG_VERSION_MAJOR")) << 16
            | part(env!("CARGO_PKG_VERSION_MINOR")) << 8
            | part(env!("CARGO_PKG_VERSION_PATCH"));
        assert_eq!(SPIKE_AUTH_VERSION_NUMBER, number);
        assert_eq!(VERSION.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
    }
}
