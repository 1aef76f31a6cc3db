//! The configuration handle; new settings are new setters, which keeps the ABI.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use super::boundary::{run, run_quietly};
use super::buffer::{HandleOut, bytes, free, handle, text};
use super::error::{Failure, spike_auth_error};
use super::status::{spike_auth_status, spike_auth_status_t};
use crate::config::{Config, TlsRoots};
use crate::error::Error;

/// The trusted roots of the platform; the default. On Linux, SSL_CERT_FILE and SSL_CERT_DIR name another
/// store; they are ignored if empty, and in a program with raised privileges. A section of SSL_CERT_FILE that
/// is not valid PEM is an error; a certificate that cannot be used is skipped. The bundled roots are used
/// only if the system has no store at all and neither variable is set.
pub const SPIKE_AUTH_TLS_ROOTS_PLATFORM: i32 = 0;

/// Mozilla's trusted roots as of the build of the library.
pub const SPIKE_AUTH_TLS_ROOTS_BUNDLED: i32 = 1;

/// Only the certificates of spike_auth_config_set_ca_pem().
pub const SPIKE_AUTH_TLS_ROOTS_NONE: i32 = 2;

/// The settings for a client. Make a configuration, set what you need, make a client from it, free it. Each
/// setter checks its value at once, describes what is wrong, and changes nothing if it fails.
pub struct spike_auth_config {
    // Makes concurrent setters harmless.
    config: Mutex<Config>,
}

impl spike_auth_config {
    fn with<T>(&self, body: impl FnOnce(&mut Config) -> T) -> T {
        body(&mut self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn copy(&self) -> Config {
        self.with(|config| config.clone())
    }
}

/// The common part of all setters.
///
/// # Safety
/// `config` is NULL or a live handle; `err` is NULL or points to memory for one error.
pub(super) unsafe fn set(
    config: *mut spike_auth_config,
    err: *mut spike_auth_error,
    change: impl FnOnce(&mut Config) -> Result<(), Failure>,
) -> spike_auth_status_t {
    // SAFETY: the caller promises the same.
    unsafe { run(err, || handle(config, "config")?.with(change)) }
}

/// The common part of the setters of a text.
///
/// # Safety
/// As [`set`]; `ptr` and `len` are a text that the header allows.
pub(super) unsafe fn set_text(
    config: *mut spike_auth_config,
    ptr: *const c_char,
    len: usize,
    what: &str,
    err: *mut spike_auth_error,
    change: impl FnOnce(&mut Config, &[u8]) -> Result<(), Error>,
) -> spike_auth_status_t {
    // SAFETY: the caller promises the same.
    unsafe { set(config, err, |config| Ok(change(config, text(ptr, len, what)?)?)) }
}

/// Makes a configuration with the default of every setting.
///
/// @param config  receives the handle, NULL on failure. Free it with spike_auth_config_free().
/// @param err     receives the error detail; may be NULL
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_new(
    config: *mut *mut spike_auth_config,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = HandleOut::new(config, "config")?;
            out.put(spike_auth_config { config: Mutex::new(Config::new()?) });
            Ok(())
        })
    }
}

/// Frees a configuration and wipes its key. NULL is ignored. Clients made from it are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_config_free(config: *mut spike_auth_config) {
    // SAFETY: the caller keeps the header's contract.
    run_quietly(|| unsafe { free(config) });
}

/// Reads settings from the environment:
///
/// SPIKE_APPLICATION_ID; SPIKE_HMAC_KEY, or SPIKE_HMAC_KEY_FILE (one trailing newline is dropped; a file that
/// its group or others can write to is refused; it is read again after a 401, see spike_auth_client_set_hmac_key()); SPIKE_API_BASE_URL; SPIKE_TIMEOUT_MS; SPIKE_CA_FILE;
/// SPIKE_STORE_URL, or SPIKE_STORE_URL_FILE (like the key's file); SPIKE_STORE_TIMEOUT_MS; SPIKE_MAX_RATE. The
/// proxy for an https base URL is the first non-empty one of https_proxy, HTTPS_PROXY, all_proxy and
/// ALL_PROXY, except for the hosts in no_proxy or NO_PROXY.
///
/// A variable that is not set leaves its setting unchanged. An invalid or empty value is an error that names
/// the variable, and then no setting is changed. The proxy variables differ: an empty one counts as not set,
/// and an unusable proxy (SOCKS, for example) is an error of spike_auth_client_new(), and only if it would be
/// used. Entries of no_proxy are names (which include their subdomains) and addresses, both with an optional
/// port, or a single *; patterns and address ranges are not supported. No other thread may change the
/// environment (setenv) during this call.
///
/// In a program with raised privileges (setuid, setgid, file capabilities; getauxval(AT_SECURE) is not 0) the
/// function reads nothing and fails with INVALID_ENVIRONMENT: use the setters instead.
///
/// @param err  receives the error detail; may be NULL
///
/// Fails with INVALID_ENVIRONMENT, FILE.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_load_env(
    config: *mut spike_auth_config,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set(config, err, |config| Ok(config.load_env()?)) }
}

/// Sets the application id, the only setting without a default.
///
/// @param id      1 to 64 printable ASCII characters without spaces. Plain digits (no leading zero, at most
///                2^63-1) are sent as a JSON number, as the service expects; anything else as a JSON string.
/// @param id_len  length of id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param err     receives the error detail; may be NULL
///
/// Fails with INVALID_APPLICATION_ID.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_application_id(
    config: *mut spike_auth_config,
    id: *const c_char,
    id_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set_text(config, id, id_len, "id", err, Config::set_application_id) }
}

/// Sets the HMAC key. A client without a key can only exchange signatures that were made elsewhere.
///
/// @param key      the raw bytes as the Spike console shows them, not hex- or base64-decoded. Not a text:
///                 SPIKE_AUTH_NUL_TERMINATED is refused. The library keeps only a state derived from it.
/// @param key_len  length of key in bytes, 1 to 4096
/// @param err      receives the error detail; may be NULL
///
/// Fails with INVALID_KEY, INTERNAL (the system gives no memory for it).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_hmac_key(
    config: *mut spike_auth_config,
    key: *const u8,
    key_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set(config, err, |config| Ok(config.set_hmac_key(bytes(key, key_len, "key")?)?)) }
}

/// Sets the base URL, without "/auth/hmac". The default is https://app-api.spikeapi.com/v3.
///
/// @param url      https, or http for this machine only (localhost, 127.0.0.0/8, [::1]); no user info, query
///                 or fragment. One trailing slash is dropped.
/// @param url_len  length of url in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param err      receives the error detail; may be NULL
///
/// Fails with INVALID_URL.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_base_url(
    config: *mut spike_auth_config,
    url: *const c_char,
    url_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set_text(config, url, url_len, "url", err, Config::set_base_url) }
}

/// Sets the timeout of one call, from its start, including all attempts and waits. The default is 10 000 ms.
///
/// @param total  milliseconds, 1 to 600 000; 0 for the default. There is no "infinite".
/// @param err    receives the error detail; may be NULL
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_timeout_ms(
    config: *mut spike_auth_config,
    total: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set(config, err, |config| Ok(config.set_timeout_ms(total)?)) }
}

/// Sets the timeout of a new connection: name lookup, TCP and TLS handshake together. The default is 3 100
/// ms, or the timeout of the call if that is shorter.
///
/// @param ms   milliseconds, 1 to 600 000; 0 for the default. spike_auth_client_new() refuses a value above
///             the timeout of the call.
/// @param err  receives the error detail; may be NULL
///
/// When it passes, the attempt fails with RESOLVE (during the name lookup), PROXY (while waiting for the
/// proxy) or CONNECT, and is retried like any other. TIMEOUT means the timeout of the whole call.
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_connect_timeout_ms(
    config: *mut spike_auth_config,
    ms: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set(config, err, |config| Ok(config.set_connect_timeout_ms(ms)?)) }
}

/// Sets the maximum number of attempts of one exchange, including the first. The default is 3. A client whose
/// exchanges only fail stops retrying after 100 retries (50 if they are timeouts); successes allow new ones.
/// If a kept connection turns out to be closed before a byte of the response, the request is sent once more
/// on a new one, which does not count as an attempt.
///
/// @param n    1 to 10; 0 for the default
/// @param err  receives the error detail; may be NULL
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_max_attempts(
    config: *mut spike_auth_config,
    n: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set(config, err, |config| Ok(config.set_max_attempts(n)?)) }
}

/// Sets the certificates of a private CA. They are trusted in addition to the roots of
/// spike_auth_config_set_tls_roots(), and replace those of an earlier call.
///
/// @param pem      one or more "-----BEGIN CERTIFICATE-----" sections; text around them, other sections and
///                 UTF-8 byte order marks are skipped. SPIKE_AUTH_NUL_TERMINATED is refused.
/// @param pem_len  length of pem in bytes
/// @param err      receives the error detail; may be NULL
///
/// Fails with TLS_ROOTS if there is no certificate, if one cannot be read, or if the key of one cannot verify
/// other certificates: it must be RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519. The message names the
/// certificate by its position among all sections.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_ca_pem(
    config: *mut spike_auth_config,
    pem: *const c_char,
    pem_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set(config, err, |config| Ok(config.set_ca_pem(bytes(pem.cast(), pem_len, "pem")?)?)) }
}

/// Sets which roots are trusted.
///
/// @param roots  SPIKE_AUTH_TLS_ROOTS_PLATFORM (the default), _BUNDLED or _NONE
/// @param err    receives the error detail; may be NULL
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_tls_roots(
    config: *mut spike_auth_config,
    roots: i32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        set(config, err, |config| {
            config.set_tls_roots(tls_roots(roots)?);
            Ok(())
        })
    }
}

fn tls_roots(number: i32) -> Result<TlsRoots, Failure> {
    match number {
        SPIKE_AUTH_TLS_ROOTS_PLATFORM => Ok(TlsRoots::Platform),
        SPIKE_AUTH_TLS_ROOTS_BUNDLED => Ok(TlsRoots::Bundled),
        SPIKE_AUTH_TLS_ROOTS_NONE => Ok(TlsRoots::None),
        _ => Err(Failure::new(
            spike_auth_status::InvalidArgument,
            format!(
                "{number} is not a set of TLS roots. Pass one of the constants SPIKE_AUTH_TLS_ROOTS_*."
            ),
        )),
    }
}

/// Sets what follows the library's name in the User-Agent header, such as "shop/1.2". The service receives
/// it, and so does a proxy, in the CONNECT request: some proxies filter by it.
///
/// @param suffix      at most 256 printable ASCII characters; empty (the default) for none
/// @param suffix_len  length of suffix in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param err         receives the error detail; may be NULL
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_user_agent(
    config: *mut spike_auth_config,
    suffix: *const c_char,
    suffix_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set_text(config, suffix, suffix_len, "suffix", err, Config::set_user_agent) }
}

/// Sets the HTTP proxy for an https base URL, used with CONNECT. An http base URL is on this machine and
/// never uses a proxy.
///
/// @param url      http://[user:password@]host[:port], user name and password percent-encoded, default port
///                 80; empty for no proxy. Takes precedence over the environment, whichever was set first.
/// @param url_len  length of url in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param err      receives the error detail; may be NULL
///
/// Fails with INVALID_URL, also for SOCKS and https proxies.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_proxy(
    config: *mut spike_auth_config,
    url: *const c_char,
    url_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set_text(config, url, url_len, "url", err, Config::set_proxy) }
}

/// Sets how many exchanges of a client may run at once. Further ones wait in the order of their arrival,
/// within their deadlines. The default is 32.
///
/// @param n    1 to 1024; 0 for the default
/// @param err  receives the error detail; may be NULL
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_max_concurrency(
    config: *mut spike_auth_config,
    n: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe { set(config, err, |config| Ok(config.set_max_concurrency(n)?)) }
}

/// Sets how many requests a client may send per second, retries included. The default is no limit.
///
/// A call waits for its turn within its deadline, and a started call waits without a thread. If the turn is too late
/// for the deadline, the call fails at once with RATE_LIMITED, http_status 0, and the wait in retry_after_ms. The
/// limit is that of one client in one process: for a fleet, divide its total by the number of processes. Tokens
/// that come from the cache or the store are not counted.
///
/// @param per_second  0, the default, for no limit
/// @param err         receives the error detail; may be NULL
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_max_rate(
    config: *mut spike_auth_config,
    per_second: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        set(config, err, |config| {
            config.set_max_rate(per_second);
            Ok(())
        })
    }
}
