//! The choice of the proxy, and the hosts that are excepted.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::base_url::{BaseUrl, Host, host_and_port};
use crate::error::{Error, ErrorKind};

const DEFAULT_PORT: u16 = 80;
const NOT_ENCODED: &str =
    "its user name or password contains a character that must be percent-encoded";

/// An HTTP proxy that supports CONNECT.
#[derive(Clone)]
pub(crate) struct ProxyUrl {
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// The value of the `Proxy-Authorization` header.
    pub(crate) authorization: Option<Arc<Zeroizing<String>>>,
}

impl ProxyUrl {
    /// `http://[user:password@]host[:port]`. The error shows no part of it.
    pub(crate) fn new(text: &[u8]) -> Result<Self, Error> {
        Self::parse(text).map_err(|why| {
            Error::new(
                ErrorKind::InvalidUrl,
                format!("Invalid proxy URL: {why}. Pass one like http://proxy.example.com:3128."),
            )
        })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not ASCII")?;
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            scheme if scheme.starts_with("socks") => {
                return Err("SOCKS proxies are not supported, only HTTP proxies are".into());
            }
            "https" => {
                return Err(
                    "TLS to the proxy is not supported; the tunnel is encrypted in any case".into(),
                );
            }
            _ => return Err("its scheme is not http".into()),
        }
        // The last @: a password may contain one that is not encoded.
        let (user_info, authority) = match rest.rsplit_once('@') {
            Some((user_info, authority)) => (Some(user_info), authority),
            None => (None, rest),
        };
        // Unencoded, these end the authority of a URL: another parser would find another host.
        if user_info.is_some_and(|text| text.contains(['/', '\\', '?', '#'])) {
            return Err(NOT_ENCODED.into());
        }
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('/') {
            return Err("it has a path".into());
        }
        let (host, port) = host_and_port(authority)?;
        Ok(Self {
            host,
            port: port.unwrap_or(DEFAULT_PORT),
            authorization: user_info
                .filter(|text| !text.is_empty())
                .map(basic)
                .transpose()?
                .map(Arc::new),
        })
    }
}

fn basic(user_info: &str) -> Result<Zeroizing<String>, String> {
    if !user_info.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(NOT_ENCODED.into());
    }
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let mut plain = Zeroizing::new(Vec::with_capacity(user_info.len() + 1));
    plain.extend(percent_encoding::percent_decode_str(user));
    plain.push(b':');
    plain.extend(percent_encoding::percent_decode_str(password));
    let encoded = Zeroizing::new(STANDARD.encode(plain.as_slice()));
    Ok(Zeroizing::new(format!("Basic {}", encoded.as_str())))
}

/// The proxy settings.
#[derive(Clone, Default)]
pub(crate) struct ProxyChoice {
    /// Set by the caller; `Some(None)` means no proxy.
    explicit: Option<Option<ProxyUrl>>,
    /// From the environment. An invalid one is an error only if it would be used: the variable is shared by
    /// all programs, and others may support it.
    environment: Option<Result<ProxyUrl, Error>>,
    no_proxy: NoProxy,
}

impl ProxyChoice {
    pub(crate) fn set(&mut self, url: &[u8]) -> Result<(), Error> {
        self.explicit = Some(if url.is_empty() { None } else { Some(ProxyUrl::new(url)?) });
        Ok(())
    }

    /// Sets what the environment contains; `None` leaves a value unchanged.
    pub(crate) fn set_environment(
        &mut self,
        url: Option<Result<ProxyUrl, Error>>,
        no_proxy: Option<NoProxy>,
    ) {
        self.environment = url.or_else(|| self.environment.take());
        if let Some(no_proxy) = no_proxy {
            self.no_proxy = no_proxy;
        }
    }

    /// The proxy for `url`. Fails if the one of the environment cannot be used. Plain http goes only to this
    /// machine, and never through a proxy.
    pub(crate) fn for_url(&self, url: &BaseUrl) -> Result<Option<ProxyUrl>, Error> {
        if !url.https {
            return Ok(None);
        }
        match &self.explicit {
            Some(explicit) => Ok(explicit.clone()),
            None if self.no_proxy.covers(&url.host, url.port_or_default()) => Ok(None),
            None => self.environment.clone().transpose(),
        }
    }
}

impl ProxyChoice {
    /// Whether the program has set none, nor a proxy.
    pub(super) fn is_left_to_the_environment(&self) -> bool {
        self.explicit.is_none()
    }

    /// Why `url`, an https one, is reached through a proxy or not. `from`: the variable of the environment.
    pub(super) fn why(&self, url: &BaseUrl, from: &str) -> String {
        match (&self.explicit, &self.environment) {
            (Some(Some(_)), _) => "The program set it.".into(),
            (Some(None), _) => "The program set none.".into(),
            (None, None) => "The environment names none.".into(),
            (None, Some(_)) if self.no_proxy.covers(&url.host, url.port_or_default()) => {
                format!("no_proxy or NO_PROXY excepts the host from {from}.")
            }
            (None, Some(_)) => format!("{from} names it."),
        }
    }
}

/// The hosts that are reached without the environment's proxy.
#[derive(Clone, Default)]
pub(crate) struct NoProxy(Vec<String>);

impl NoProxy {
    /// Parses a comma-separated list; blanks around an entry are ignored.
    pub(crate) fn new(list: &str) -> Self {
        Self(
            list.split(',')
                .map(|entry| entry.trim().to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        )
    }

    pub(super) fn covers(&self, host: &Host, port: u16) -> bool {
        self.0.iter().any(|entry| entry == "*" || matches(entry, host, port))
    }
}

fn matches(entry: &str, host: &Host, port: u16) -> bool {
    if let Some(ip) = ip_address(entry) {
        return *host == Host::Ip(ip);
    }
    let (name, entry_port) = match entry.rsplit_once(':') {
        Some((name, digits)) => match digits.parse::<u16>() {
            Ok(entry_port) => (name, Some(entry_port)),
            Err(_) => return false,
        },
        None => (entry, None),
    };
    if entry_port.is_some_and(|entry_port| entry_port != port) {
        return false;
    }
    match host {
        Host::Ip(ip) => ip_address(name) == Some(*ip),
        Host::Name(host) => {
            let name = name.trim_start_matches('.');
            !name.is_empty()
                && (host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
        }
    }
}

fn ip_address(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(url: &str) -> Option<String> {
        ProxyUrl::new(url.as_bytes()).unwrap().authorization.map(|value| value.as_str().to_owned())
    }

    #[test]
    fn valid_proxy_urls() {
        for (url, host, port) in [
            ("http://proxy.example.com:3128", "proxy.example.com", 3128),
            ("http://proxy.example.com:3128/", "proxy.example.com", 3128),
            ("HTTP://Proxy", "proxy", 80),
            ("proxy:8080", "proxy", 8080),
            ("http://user:pa%3Ass@proxy:1", "proxy", 1),
        ] {
            let proxy = ProxyUrl::new(url.as_bytes()).unwrap();
            assert_eq!((proxy.host, proxy.port), (Host::Name(host.into()), port), "{url}");
        }
        assert_eq!(
            ProxyUrl::new(b"http://[::1]:1").unwrap().host,
            Host::Ip("::1".parse().unwrap())
        );
    }

    #[test]
    fn an_error_shows_no_password() {
        for (url, reason) in [
            ("socks5://user:hunter2@proxy:1", "SOCKS"),
            ("socks4a://proxy", "SOCKS"),
            ("https://user:hunter2@proxy", "TLS to the proxy"),
            ("ftp://user:hunter2@proxy", "scheme"),
            ("http://user:hunter2@", "no host"),
            ("http://user:hunter2@proxy:0", "port"),
            ("http://user:hunter2@proxy/path", "path"),
            ("http://user:hunter2@pro xy", "character"),
            ("", "no host"),
            ("http://user:hun ter2@proxy", "percent-encoded"),
            ("http://user:hunter2@proxy?x", "character"),
        ] {
            let error = ProxyUrl::new(url.as_bytes()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
            assert!(error.message().contains(reason), "{url}: {error}");
            assert!(
                !error.message().contains("hunter2") && !error.message().contains("user:"),
                "{error}"
            );
        }
    }

    /// Parsers by the URL Standard take a backslash for a slash.
    #[test]
    fn what_ends_an_authority_must_be_encoded_in_a_login() {
        for byte in ['/', '\\', '?', '#'] {
            for url in [format!("http://us{byte}er:pass@proxy"), format!("other{byte}@proxy:1")] {
                let error = ProxyUrl::new(url.as_bytes()).err().unwrap();
                assert!(error.message().contains("percent-encoded"), "{url}: {error}");
            }
        }
        assert_eq!(
            authorization("http://DOMAIN%5Cuser:p@proxy").unwrap(),
            "Basic RE9NQUlOXHVzZXI6cA=="
        );
    }

    #[test]
    fn credentials_are_decoded_and_sent_as_basic() {
        assert_eq!(authorization("http://proxy"), None);
        assert_eq!(authorization("http://user:pass@proxy").unwrap(), "Basic dXNlcjpwYXNz");
        assert_eq!(authorization("http://user:p%40ss%3A@proxy").unwrap(), "Basic dXNlcjpwQHNzOg==");
        assert_eq!(authorization("http://user@proxy").unwrap(), "Basic dXNlcjo=");
        assert_eq!(authorization("http://user:p@ss@proxy").unwrap(), "Basic dXNlcjpwQHNz");
    }

    #[test]
    fn no_proxy_entries() {
        let url = |text: &str| BaseUrl::new(text.as_bytes()).unwrap();
        let covered = |list: &str, text: &str| {
            let url = url(text);
            NoProxy::new(list).covers(&url.host, url.port_or_default())
        };
        for (list, host, expected) in [
            ("example.com", "https://example.com", true),
            ("example.com", "https://api.example.com", true),
            (".example.com", "https://example.com", true),
            (".example.com", "https://api.example.com", true),
            ("example.com", "https://badexample.com", false),
            ("example.com", "https://example.com.evil.org", false),
            (" other , Example.COM ", "https://example.com", true),
            ("", "https://example.com", false),
            (",,", "https://example.com", false),
            ("*", "https://example.com", true),
            ("*.example.com", "https://api.example.com", false),
            ("example.com:443", "https://example.com", true),
            ("example.com:8443", "https://example.com", false),
            ("example.com:8443", "https://example.com:8443", true),
            ("example.com:x", "https://example.com", false),
            ("10.0.0.1", "https://10.0.0.1", true),
            ("10.0.0.1", "https://10.0.0.10", false),
            ("10.0.0.1:443", "https://10.0.0.1", true),
            ("::1", "https://[::1]", true),
            ("[::1]", "https://[::1]", true),
            ("[::1]:443", "https://[::1]", true),
            ("[::1]:1", "https://[::1]", false),
            (".", "https://example.com", false),
            ("com", "https://example.com", true),
        ] {
            assert_eq!(covered(list, host), expected, "{list:?} {host}");
        }
    }

    #[test]
    fn the_callers_proxy_takes_precedence_over_the_environment() {
        let https = BaseUrl::new(b"https://example.com").unwrap();
        let http = BaseUrl::new(b"http://localhost").unwrap();
        let mut choice = ProxyChoice::default();
        let port = |choice: &ProxyChoice, url: &BaseUrl| {
            choice.for_url(url).unwrap().map(|proxy| proxy.port)
        };
        assert_eq!(port(&choice, &https), None);
        choice.set_environment(Some(ProxyUrl::new(b"http://env:1")), None);
        assert_eq!((port(&choice, &https), port(&choice, &http)), (Some(1), None));
        choice.set_environment(None, Some(NoProxy::new("other.example.com")));
        assert_eq!(port(&choice, &https), Some(1), "an unset value stays");
        choice.set(b"http://set:2").unwrap();
        assert_eq!((port(&choice, &https), port(&choice, &http)), (Some(2), None));
        choice.set(b"").unwrap();
        assert_eq!(port(&choice, &https), None);
    }

    #[test]
    fn an_invalid_proxy_of_the_environment_is_an_error_only_if_it_would_be_used() {
        let https = BaseUrl::new(b"https://example.com").unwrap();
        let http = BaseUrl::new(b"http://localhost").unwrap();
        let direct = |choice: &ProxyChoice, url| matches!(choice.for_url(url), Ok(None));
        let mut bad = ProxyChoice::default();
        bad.set_environment(Some(ProxyUrl::new(b"socks5h://env:1")), None);
        assert!(bad.for_url(&https).is_err());
        assert!(direct(&bad, &http));

        let mut excepted = bad.clone();
        excepted.set_environment(None, Some(NoProxy::new("example.com")));
        assert!(direct(&excepted, &https));
        excepted.set_environment(None, Some(NoProxy::new("other.example.com")));
        assert!(excepted.for_url(&https).is_err(), "an unset value stays");

        let mut without = bad.clone();
        without.set(b"").unwrap();
        assert!(direct(&without, &https));
        let mut replaced = bad;
        replaced.set_environment(Some(ProxyUrl::new(b"http://env:2")), None);
        assert_eq!(replaced.for_url(&https).unwrap().unwrap().port, 2);
    }
}
