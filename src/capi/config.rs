//! The configuration: a handle with setters, so that it can grow without breaking anyone.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use super::boundary::{run, run_quietly};
use super::buffer::{HandleOut, bytes, free, handle, text};
use super::error::{Failure, spike_auth_error};
use super::status::{spike_auth_status, spike_auth_status_t};
use crate::config::{Config, TlsRoots};
use crate::error::Error;

/// The platform's trusted roots; on Linux SSL_CERT_FILE and SSL_CERT_DIR name another store (empty, and in
/// a program with raised privileges, they count as not set). A section of SSL_CERT_FILE that is not valid PEM
/// is an error; a certificate in it that cannot be used is passed over. The bundled set takes the store's place
/// only where the system has none at all and neither variable is set. The default.
pub const SPIKE_AUTH_TLS_ROOTS_PLATFORM: i32 = 0;

/// Mozilla's trusted roots, as they were when the library was built.
pub const SPIKE_AUTH_TLS_ROOTS_BUNDLED: i32 = 1;

/// No trusted roots but those given with spike_auth_config_set_ca_pem().
pub const SPIKE_AUTH_TLS_ROOTS_NONE: i32 = 2;

/// The settings of a client to be. Make one, set what you need, make a client of it, free it. Each setter
/// checks its value at once, says what is wrong with it, and changes nothing if it fails.
pub struct spike_auth_config {
    // A lock, so that two threads that set at once are merely pointless.
    config: Mutex<Config>,
}

impl spike_auth_config {
    fn with<T>(&self, use_it: impl FnOnce(&mut Config) -> T) -> T {
        use_it(&mut self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn copy(&self) -> Config {
        self.with(|config| config.clone())
    }
}

/// The shape of every setter.
///
/// # Safety
/// `config` is NULL or a live handle, `err` NULL or memory for one error.
unsafe fn set(
    config: *mut spike_auth_config,
    err: *mut spike_auth_error,
    change: impl FnOnce(&mut Config) -> Result<(), Failure>,
) -> spike_auth_status_t {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe { run(err, || handle(config, "config")?.with(change)) }
}

/// The shape of every setter of a text.
///
/// # Safety
/// As [`set`]; `ptr` and `len` are a text that the header allows.
unsafe fn set_text(
    config: *mut spike_auth_config,
    ptr: *const c_char,
    len: usize,
    what: &str,
    err: *mut spike_auth_error,
    change: impl FnOnce(&mut Config, &[u8]) -> Result<(), Error>,
) -> spike_auth_status_t {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe { set(config, err, |config| Ok(change(config, text(ptr, len, what)?)?)) }
}

/// Makes a configuration in which every setting has its default.
///
/// @param config  gets the handle; NULL if the function fails. Free it with spike_auth_config_free().
/// @param err     NULL or where the details go
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_new(
    config: *mut *mut spike_auth_config,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let out = HandleOut::new(config, "config")?;
            out.put(spike_auth_config { config: Mutex::new(Config::new()?) });
            Ok(())
        })
    }
}

/// Frees a configuration and wipes its key. NULL is fine. Clients made of it are not touched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_config_free(config: *mut spike_auth_config) {
    // SAFETY: the header asks of the caller what this needs.
    run_quietly(|| unsafe { free(config) });
}

/// Reads the settings from the environment:
///
/// SPIKE_APPLICATION_ID; SPIKE_HMAC_KEY, or SPIKE_HMAC_KEY_FILE (one trailing newline is dropped; a file
/// that its group or others can write is refused); SPIKE_API_BASE_URL; SPIKE_TIMEOUT_MS; SPIKE_CA_FILE; and
/// for an https base URL the proxy from the first of https_proxy, HTTPS_PROXY, all_proxy and ALL_PROXY that is
/// not empty, but for the hosts in no_proxy or NO_PROXY.
///
/// A variable that is not set leaves its setting as it was. One with a bad value, an empty one too, is an
/// error that names it, and then no setting at all is changed. Variables for proxies differ: an empty one
/// counts as not set, and a proxy that cannot be used (SOCKS, for example) is an error of
/// spike_auth_client_new(), and only where it would be used. In no_proxy, entries are names (which cover their
/// subdomains), addresses, either with a port, or a lone *; no patterns and no ranges of addresses. Do not call
/// it while another thread changes the environment (setenv).
///
/// In a program with raised privileges (setuid, setgid, file capabilities; where getauxval(AT_SECURE) is not 0)
/// it refuses with INVALID_ENVIRONMENT and reads nothing: set each setting with its own function.
///
/// Fails with INVALID_ENVIRONMENT; FILE.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_load_env(
    config: *mut spike_auth_config,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set(config, err, |config| Ok(config.load_env()?)) }
}

/// Sets the application id, the only setting without a default.
///
/// @param id      1 to 64 printable ASCII characters without spaces. Plain digits (no leading zero, at most
///                2^63-1) go out as a JSON number, which is what the service takes; anything else goes out
///                as a JSON string.
/// @param id_len  its length, or SPIKE_AUTH_NUL_TERMINATED
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
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set_text(config, id, id_len, "id", err, Config::set_application_id) }
}

/// Sets the HMAC key. Without one, a client exchanges signatures that were made elsewhere.
///
/// @param key      the raw bytes as the Spike console shows them, never hex- or base64-decoded. Not a text:
///                 SPIKE_AUTH_NUL_TERMINATED is refused. Not kept: only what signing needs of it is.
/// @param key_len  1 to 4096
///
/// Fails with INVALID_KEY.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_hmac_key(
    config: *mut spike_auth_config,
    key: *const u8,
    key_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe { set(config, err, |config| Ok(config.set_hmac_key(bytes(key, key_len, "key")?)?)) }
}

/// Sets the base URL, up to and without "/auth/hmac". The default is https://app-api.spikeapi.com/v3.
///
/// @param url      https, or http for this machine alone (localhost, 127.0.0.0/8, [::1]); no user info,
///                 query or fragment. One trailing slash is dropped.
/// @param url_len  its length, or SPIKE_AUTH_NUL_TERMINATED
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
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set_text(config, url, url_len, "url", err, Config::set_base_url) }
}

/// Sets the deadline of one call, counted from its beginning and holding for all that it does. The default
/// is 10 000 ms.
///
/// @param total  milliseconds, 1 to 600 000; 0 for the default. There is no "infinite".
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_timeout_ms(
    config: *mut spike_auth_config,
    total: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set(config, err, |config| Ok(config.set_timeout_ms(total)?)) }
}

/// Sets the time within which a new connection must stand: name lookup, TCP and TLS handshake together.
/// The default is 3 100 ms, or the deadline of the call if that is shorter.
///
/// @param ms  milliseconds, 1 to 600 000; 0 for the default. spike_auth_client_new() refuses one that is
///        longer than the deadline of the call.
///
/// When it passes, the attempt fails, with CONNECT, with RESOLVE if it was still looking up the name, or with
/// PROXY if it was waiting for one, and is tried again like any other. TIMEOUT is for the deadline of the
/// whole call.
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_connect_timeout_ms(
    config: *mut spike_auth_config,
    ms: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set(config, err, |config| Ok(config.set_connect_timeout_ms(ms)?)) }
}

/// Sets how often an exchange is tried, the first time included. The default is 3. A client that only fails
/// stops trying again after 100 retries (50 if they are timeouts), until successes have earned more. A request
/// that meets a kept connection which ends without a byte of reply goes once more on a new one, and that
/// costs no attempt.
///
/// @param n  1 to 10; 0 for the default
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_max_attempts(
    config: *mut spike_auth_config,
    n: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set(config, err, |config| Ok(config.set_max_attempts(n)?)) }
}

/// Sets the certificates of a private CA, trusted beside the roots that spike_auth_config_set_tls_roots()
/// chooses. Replaces those set before.
///
/// @param pem      one or more "-----BEGIN CERTIFICATE-----" sections; text around them, other kinds of
///                 sections and byte-order marks of UTF-8 are passed over. SPIKE_AUTH_NUL_TERMINATED is refused.
/// @param pem_len  its length
///
/// Fails with TLS_ROOTS if there is none, one that cannot be read, or one whose key cannot be used to check
/// others: it must be RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519. The message says which, by its position
/// among all sections.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_ca_pem(
    config: *mut spike_auth_config,
    pem: *const c_char,
    pem_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe { set(config, err, |config| Ok(config.set_ca_pem(bytes(pem.cast(), pem_len, "pem")?)?)) }
}

/// Sets which roots are trusted.
///
/// @param roots  SPIKE_AUTH_TLS_ROOTS_PLATFORM (the default), _BUNDLED or _NONE
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_tls_roots(
    config: *mut spike_auth_config,
    roots: i32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
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
                "{number} is no set of TLS roots. Pass one of the constants SPIKE_AUTH_TLS_ROOTS_*."
            ),
        )),
    }
}

/// Sets what follows the library's own name in the User-Agent header, such as "shop/1.2". The service
/// gets it, and a proxy, with CONNECT: some refuse by it.
///
/// @param suffix      at most 256 printable ASCII characters; empty for none, which is the default
/// @param suffix_len  its length, or SPIKE_AUTH_NUL_TERMINATED
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
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set_text(config, suffix, suffix_len, "suffix", err, Config::set_user_agent) }
}

/// Sets the HTTP proxy through which an https base URL is reached, by CONNECT. An http base URL, which is
/// on this machine, is never reached through one.
///
/// @param url      http://[user:password@]host[:port], user name and password percent-encoded, port 80 if
///                 none is given; empty for no proxy, whatever spike_auth_config_load_env() found. Goes
///                 before the environment's proxy, whichever was read first.
/// @param url_len  its length, or SPIKE_AUTH_NUL_TERMINATED
///
/// Fails with INVALID_URL, for SOCKS and https proxies too.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_proxy(
    config: *mut spike_auth_config,
    url: *const c_char,
    url_len: usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set_text(config, url, url_len, "url", err, Config::set_proxy) }
}

/// Sets how many exchanges of a client may be in flight at once. More wait for their turn, first come first
/// served, inside their own deadlines. The default is 32.
///
/// @param n  1 to 1024; 0 for the default
///
/// Fails with INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_max_concurrency(
    config: *mut spike_auth_config,
    n: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe { set(config, err, |config| Ok(config.set_max_concurrency(n)?)) }
}

/// Sets how many tokens a client keeps at the most; where there is no room, one that has not been asked for
/// lately goes. The default is 100 000.
///
/// @param entries  0: none. Calls that ask for the same user at the same time share an exchange all the same.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_cache_capacity(
    config: *mut spike_auth_config,
    entries: u32,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe {
        set(config, err, |config| {
            config.set_cache_capacity(entries);
            Ok(())
        })
    }
}

/// Sets how much memory the tokens that a client keeps may take, whichever bound is met first. The default is
/// 64 MiB.
///
/// @param bytes  0 for the default. A token takes about 200 bytes more than its length and the user id's. One
///               that could never fit is handed out and not kept.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_cache_max_bytes(
    config: *mut spike_auth_config,
    bytes: u64,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe {
        set(config, err, |config| {
            config.set_cache_max_bytes(bytes);
            Ok(())
        })
    }
}

/// Sets the age at which a kept token is renewed. One that has an end of its own is renewed before that as well:
/// by 60 seconds, or by a tenth of its lifetime if that is less. The first call that asks for the token then makes
/// an exchange, and the others go on with the old one. If that fails in a way that may pass, the old token is
/// handed out until its own end; one without an end, until twice this age; 49 days after the time of renewal at
/// most. The default is one hour: a token that does not say when it ends must not live long after it was revoked.
/// Time while the machine is suspended does not count.
///
/// @param ms  milliseconds; 0 for no limit
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_config_set_cache_ttl_ms(
    config: *mut spike_auth_config,
    ms: u64,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what this needs.
    unsafe {
        set(config, err, |config| {
            config.set_cache_ttl_ms(ms);
            Ok(())
        })
    }
}
