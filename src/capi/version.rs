//! Versions and sizes, for programs that see no macros or want to compare.

use std::ffi::{CStr, c_char};

use crate::signing::SIGNATURE_LEN;
use crate::token::TOKEN_MAX;
use crate::user_id::USER_ID_MAX;

/// The number of the ABI, and of the soname. It changes only with an incompatible change; functions
/// that are added are none.
pub const SPIKE_AUTH_ABI_VERSION: u32 = 1;

/// The version of this header, 0x00MMmmpp.
pub const SPIKE_AUTH_VERSION_NUMBER: u32 = 0x0000_0100;

/// The longest user id in bytes, without a NUL.
pub const SPIKE_AUTH_USER_ID_MAX: usize = 128;

/// Size of a buffer for a signature: 64 hex characters and the NUL.
pub const SPIKE_AUTH_SIGNATURE_SIZE: usize = 65;

/// Size of a buffer for any access token: 8192 characters, the longest that is accepted, and the NUL.
pub const SPIKE_AUTH_TOKEN_SIZE: usize = 8193;

/// Size of a buffer for any Authorization header's value: "Bearer ", an access token, and the NUL.
pub const SPIKE_AUTH_AUTHORIZATION_SIZE: usize = 8200;

// cbindgen takes literals only: these hold them to what they stand for.
const _: () = assert!(SPIKE_AUTH_USER_ID_MAX == USER_ID_MAX);
const _: () = assert!(SPIKE_AUTH_SIGNATURE_SIZE == SIGNATURE_LEN + 1);
const _: () = assert!(SPIKE_AUTH_TOKEN_SIZE == TOKEN_MAX + 1);
const _: () = assert!(SPIKE_AUTH_AUTHORIZATION_SIZE == "Bearer ".len() + SPIKE_AUTH_TOKEN_SIZE);

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };

/// The ABI of the library that is loaded. Compare it with SPIKE_AUTH_ABI_VERSION where the library is
/// loaded at run time.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_abi_version() -> u32 {
    SPIKE_AUTH_ABI_VERSION
}

/// The version of the library that is loaded, such as "0.1.0". Static: never free it.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version of the library that is loaded, 0x00MMmmpp.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_version_number() -> u32 {
    SPIKE_AUTH_VERSION_NUMBER
}

/// SPIKE_AUTH_SIGNATURE_SIZE, for languages that see no macros.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_signature_size() -> usize {
    SPIKE_AUTH_SIGNATURE_SIZE
}

/// SPIKE_AUTH_TOKEN_SIZE, for languages that see no macros.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_token_size() -> usize {
    SPIKE_AUTH_TOKEN_SIZE
}

/// SPIKE_AUTH_AUTHORIZATION_SIZE, for languages that see no macros.
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
