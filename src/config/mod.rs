//! The settings of a client, their checks and their defaults.

mod algorithms;
mod application_id;
mod base_url;
mod client_key;
mod environment;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod pem;
mod privileges;
mod proxy;
mod sources;
mod store_url;
mod tls_roots;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use algorithms::{USABLE_KEYS, name_of, value_of};
pub(crate) use application_id::ApplicationId;
pub(crate) use base_url::{BaseUrl, DEFAULT_BASE_URL, Host, host_and_port};
pub(crate) use client_key::{ClientKey, KeyShape};
pub(crate) use files::read_small;
pub(crate) use privileges::are_raised as privileges_are_raised;
use proxy::ProxyChoice;
pub(crate) use proxy::ProxyUrl;
use sources::Sources;
pub(crate) use sources::{Setting, WITH_LOGIN};
pub(crate) use store_url::{StoreAddress, StoreUrl};
pub(crate) use tls_roots::CaCertificates;
pub use tls_roots::TlsRoots;

use crate::error::{Error, ErrorKind};

/// The timeout of one call.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Just above three seconds, when TCP repeats a lost first packet for the second time.
pub(crate) const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

pub(crate) const DEFAULT_ATTEMPTS: u32 = 3;
const ATTEMPTS_MAX: u32 = 10;

/// How many exchanges run at once.
pub(crate) const DEFAULT_CONCURRENCY: u32 = 32;
const CONCURRENCY_MAX: u32 = 1024;

pub(crate) const DEFAULT_CACHE_ENTRIES: u32 = 100_000;
pub(crate) const DEFAULT_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// A token without an expiry must not live long after it was revoked.
pub(crate) const DEFAULT_CACHE_TTL: Duration = Duration::from_secs(3600);

/// One operation of the store. A token by an exchange takes not much longer.
pub(crate) const DEFAULT_STORE_TIMEOUT: Duration = Duration::from_millis(250);
const STORE_TIMEOUT_MAX_MS: u32 = 10_000;

/// Ten minutes.
const TIMEOUT_MAX_MS: u32 = 600_000;

const USER_AGENT_SUFFIX_MAX: usize = 256;

#[derive(Clone, Copy)]
pub(crate) struct CacheLimits {
    /// 0: no cache; concurrent calls for the same user still share an exchange.
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// The age at which an entry is renewed.
    pub(crate) ttl: Option<Duration>,
}

/// The settings for a client.
///
/// Each setter checks its value at once and changes nothing if it fails. Only the application id has no
/// default. A client without a key can only exchange signatures that were made elsewhere.
#[derive(Clone)]
pub struct Config {
    pub(crate) application_id: Option<ApplicationId>,
    /// Shared with the clients: a copy would be another page of secrets.
    pub(crate) key: Option<Arc<ClientKey>>,
    /// Where the environment said that the key is.
    pub(crate) hmac_key_file: Option<PathBuf>,
    pub(crate) base_url: BaseUrl,
    pub(crate) timeout: Duration,
    /// `None`: the default.
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) max_attempts: u32,
    pub(crate) max_concurrency: u32,
    /// Requests per second; 0 for no limit.
    pub(crate) max_rate: u32,
    pub(crate) proxy: ProxyChoice,
    pub(crate) ca_certificates: CaCertificates,
    pub(crate) tls_roots: TlsRoots,
    pub(crate) user_agent: String,
    pub(crate) cache: CacheLimits,
    pub(crate) store: Option<StoreUrl>,
    pub(crate) store_timeout: Duration,
    sources: Sources,
}

impl Config {
    /// The default of every setting. Fails only if the default URL is invalid, which it is not.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            application_id: None,
            key: None,
            hmac_key_file: None,
            base_url: BaseUrl::new(DEFAULT_BASE_URL.as_bytes())?,
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: None,
            max_attempts: DEFAULT_ATTEMPTS,
            max_concurrency: DEFAULT_CONCURRENCY,
            max_rate: 0,
            proxy: ProxyChoice::default(),
            ca_certificates: CaCertificates::default(),
            tls_roots: TlsRoots::default(),
            user_agent: user_agent(""),
            cache: CacheLimits {
                entries: DEFAULT_CACHE_ENTRIES.into(),
                bytes: DEFAULT_CACHE_BYTES,
                ttl: Some(DEFAULT_CACHE_TTL),
            },
            store: None,
            store_timeout: DEFAULT_STORE_TIMEOUT,
            sources: Sources::default(),
        })
    }

    /// Sets the application id. Digits are sent as a JSON number, anything else as a JSON string.
    pub fn set_application_id(&mut self, id: &[u8]) -> Result<(), Error> {
        self.application_id = Some(ApplicationId::new(id)?);
        self.sources.program("application_id");
        Ok(())
    }

    /// Sets the HMAC key: 1 to 4096 raw bytes.
    pub fn set_hmac_key(&mut self, key: &[u8]) -> Result<(), Error> {
        self.key = Some(Arc::new(ClientKey::new(key)?));
        self.hmac_key_file = None;
        self.sources.program("hmac_key");
        Ok(())
    }

    /// Sets the base URL, without `/auth/hmac`.
    pub fn set_base_url(&mut self, url: &[u8]) -> Result<(), Error> {
        self.base_url = BaseUrl::new(url)?;
        self.sources.program("base_url");
        Ok(())
    }

    /// Sets the timeout of one call in milliseconds, 0 for the default.
    pub fn set_timeout_ms(&mut self, total: u32) -> Result<(), Error> {
        self.timeout = checked_timeout("timeout", total)?.unwrap_or(DEFAULT_TIMEOUT);
        self.sources.program("timeout_ms");
        Ok(())
    }

    /// Sets the timeout of a new connection (name lookup, TCP and TLS handshake) in milliseconds, 0 for the
    /// default. [`crate::Client::new`] refuses one above the timeout of a call.
    pub fn set_connect_timeout_ms(&mut self, ms: u32) -> Result<(), Error> {
        self.connect_timeout = checked_timeout("connect timeout", ms)?;
        self.sources.program("connect_timeout_ms");
        Ok(())
    }

    /// Sets the maximum number of attempts of an exchange: 1 to 10, 0 for the default.
    pub fn set_max_attempts(&mut self, count: u32) -> Result<(), Error> {
        self.max_attempts =
            checked_count("number of attempts", count, ATTEMPTS_MAX)?.unwrap_or(DEFAULT_ATTEMPTS);
        self.sources.program("max_attempts");
        Ok(())
    }

    /// Sets how many exchanges may run at once: 1 to 1024, 0 for the default. Further ones wait, within their
    /// deadlines.
    pub fn set_max_concurrency(&mut self, count: u32) -> Result<(), Error> {
        self.max_concurrency =
            checked_count("number of exchanges in flight", count, CONCURRENCY_MAX)?
                .unwrap_or(DEFAULT_CONCURRENCY);
        self.sources.program("max_concurrency");
        Ok(())
    }

    /// Sets how many requests the client may send per second, retries included; 0, the default, for no limit.
    /// A call waits within its deadline.
    pub fn set_max_rate(&mut self, per_second: u32) {
        self.max_rate = per_second;
        self.sources.program("max_rate");
    }

    /// Sets the HTTP proxy for `https` URLs, `http://[user:password@]host[:port]`; empty for none. Takes
    /// precedence over the environment. Plain http is never proxied.
    pub fn set_proxy(&mut self, url: &[u8]) -> Result<(), Error> {
        self.proxy.set(url)?;
        self.sources.program("proxy");
        Ok(())
    }

    /// Sets the PEM certificates of a private CA, trusted in addition to the roots. Fails if there is none,
    /// if one cannot be read, or if the key of one cannot verify other certificates.
    pub fn set_ca_pem(&mut self, pem: &[u8]) -> Result<(), Error> {
        self.ca_certificates = CaCertificates::from_pem(pem)?;
        self.sources.program("ca_certificates");
        Ok(())
    }

    /// Sets where the trusted roots come from.
    pub fn set_tls_roots(&mut self, roots: TlsRoots) {
        self.tls_roots = roots;
        self.sources.program("tls_roots");
    }

    /// Sets what follows the library's name in the `User-Agent`: at most 256 printable ASCII characters,
    /// empty for none.
    pub fn set_user_agent(&mut self, suffix: &[u8]) -> Result<(), Error> {
        let printable = suffix.iter().all(|byte| matches!(byte, b' '..=b'~'));
        if !printable || suffix.len() > USER_AGENT_SUFFIX_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "Invalid user agent suffix: pass at most {USER_AGENT_SUFFIX_MAX} printable ASCII characters."
                ),
            ));
        }
        self.user_agent = user_agent(&String::from_utf8_lossy(suffix));
        self.sources.program("user_agent");
        Ok(())
    }

    /// Sets the maximum number of tokens in the cache. 0: no cache; concurrent calls for the same user still
    /// share an exchange.
    pub fn set_cache_capacity(&mut self, entries: u32) {
        self.cache.entries = entries.into();
        self.sources.program("cache_capacity");
    }

    /// Sets the maximum memory of the cached tokens in bytes, 0 for the default. A token takes about 200
    /// bytes more than its length and that of the user id.
    pub fn set_cache_max_bytes(&mut self, bytes: u64) {
        self.cache.bytes = match bytes {
            0 => DEFAULT_CACHE_BYTES,
            bytes => bytes,
        };
        self.sources.program("cache_max_bytes");
    }

    /// Sets the age in milliseconds at which a cached token is renewed. A token without an expiry is kept for
    /// at most twice this age. 0: no limit, a token is kept until it expires.
    pub fn set_cache_ttl_ms(&mut self, ms: u64) {
        self.cache.ttl = (ms > 0).then(|| Duration::from_millis(ms));
        self.sources.program("cache_ttl_ms");
    }

    /// Sets the Redis or Valkey in which processes share their tokens: `redis://[user:password@]host[:port][/db]`,
    /// `rediss://` for TLS, `unix://[user:password@]/path[?db=N]`; empty for none. Used by a client with a key.
    pub fn set_store(&mut self, url: &[u8]) -> Result<(), Error> {
        self.store = if url.is_empty() { None } else { Some(StoreUrl::new(url)?) };
        self.sources.program("store");
        Ok(())
    }

    /// Sets the timeout of one operation of the store in milliseconds, connecting included: 1 to 10 000, 0 for the
    /// default. An operation never takes more than a quarter of the time that its call has left.
    pub fn set_store_timeout_ms(&mut self, ms: u32) -> Result<(), Error> {
        self.store_timeout = checked_ms("store timeout", ms, STORE_TIMEOUT_MAX_MS, "ten seconds")?
            .unwrap_or(DEFAULT_STORE_TIMEOUT);
        self.sources.program("store_timeout_ms");
        Ok(())
    }

    /// Reads `SPIKE_APPLICATION_ID`, `SPIKE_HMAC_KEY` or `SPIKE_HMAC_KEY_FILE`,
    /// `SPIKE_API_BASE_URL`, `SPIKE_TIMEOUT_MS`, `SPIKE_CA_FILE`, `SPIKE_STORE_URL` or
    /// `SPIKE_STORE_URL_FILE`, and `SPIKE_STORE_TIMEOUT_MS`. The proxy is the first non-empty one of
    /// `https_proxy`, `HTTPS_PROXY`, `all_proxy` and `ALL_PROXY`, with the exceptions of `no_proxy` or
    /// `NO_PROXY`.
    ///
    /// An unset variable leaves its setting unchanged. An invalid one is an error that names it, and then no
    /// setting is changed; an invalid proxy, however, is an error of [`crate::Client::new`], and only if it
    /// would be used.
    ///
    /// Fails in a program with raised privileges (setuid, setgid, file capabilities).
    pub fn load_env(&mut self) -> Result<(), Error> {
        *self = environment::load(
            self.clone(),
            |name| std::env::var_os(name),
            privileges::are_raised(),
        )?;
        Ok(())
    }

    /// The connect timeout. Fails if the one that was set is longer than the timeout of a call.
    pub(crate) fn checked_connect_timeout(&self) -> Result<Duration, Error> {
        match self.connect_timeout {
            Some(connect) if connect > self.timeout => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "The connect timeout ({} ms) is longer than the timeout of the whole call ({} ms). \
                     Shorten the first or lengthen the second.",
                    connect.as_millis(),
                    self.timeout.as_millis()
                ),
            )),
            Some(connect) => Ok(connect),
            // A shorter deadline takes precedence anyway.
            None => Ok(DEFAULT_CONNECT_TIMEOUT),
        }
    }
}

/// A timeout of 1 ms to ten minutes; `None` for 0, the default.
pub(crate) fn checked_timeout(what: &str, ms: u32) -> Result<Option<Duration>, Error> {
    checked_ms(what, ms, TIMEOUT_MAX_MS, "ten minutes")
}

fn checked_ms(what: &str, ms: u32, max: u32, is: &str) -> Result<Option<Duration>, Error> {
    match ms {
        0 => Ok(None),
        ms if ms <= max => Ok(Some(Duration::from_millis(ms.into()))),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("Invalid {what}: {ms} ms. Pass 1 to {max} ({is}), or 0 for the default."),
        )),
    }
}

fn checked_count(what: &str, count: u32, max: u32) -> Result<Option<u32>, Error> {
    match count {
        0 => Ok(None),
        count if count <= max => Ok(Some(count)),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("Invalid {what}: {count}. Pass 1 to {max}, or 0 for the default."),
        )),
    }
}

fn user_agent(suffix: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("spike_auth/{version} ({os}; {arch}) {suffix}").trim_end().to_owned()
}

#[cfg(test)]
mod tests;
