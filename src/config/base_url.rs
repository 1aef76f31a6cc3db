//! The base URL, parsed by one strict rule so that no two parts of a program read it differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ::http::uri::{Authority, Uri};
use rustls::pki_types::DnsName;

use crate::error::{Error, ErrorKind};

/// The service's own.
pub(crate) const DEFAULT_BASE_URL: &str = "https://app-api.spikeapi.com/v3";

const URL_MAX: usize = 2048;
const NO_NAME: &str = "its host is not a host name: letters, digits, - and _, in parts of at most 63 \
                       characters between dots, 253 characters in all";

/// A base URL that may be used: `https`, or `http` to this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    pub(crate) https: bool,
    pub(crate) host: Host,
    /// `None`: the scheme's default.
    pub(crate) port: Option<u16>,
    /// Empty, or begins with a slash. One trailing slash was dropped.
    pub(crate) path: String,
}

/// The host of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Ip(IpAddr),
}

impl BaseUrl {
    pub(crate) fn new(text: &[u8]) -> Result<Self, Error> {
        Self::parse(text).map_err(|why| {
            Error::new(
                ErrorKind::InvalidUrl,
                format!(
                    "Invalid base URL: {why}. Pass one like {DEFAULT_BASE_URL} (http only for \
                     localhost, 127.0.0.0/8 and [::1])."
                ),
            )
        })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        check_characters(text)?;
        // http::Uri is what requests are made with.
        let uri = Uri::try_from(text).map_err(
            |_| "it is not of the form https://host:port/path, with an IPv6 address in brackets",
        )?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err("its scheme is neither https nor http".into()),
            None => return Err("it has no scheme such as https://".into()),
        };
        let (host, port) = host_and_port(uri.authority().map_or("", Authority::as_str))?;
        if !https && !host.is_loopback() {
            return Err("plain http would send a credential in the clear to another machine".into());
        }
        let path = uri.path();
        Ok(Self { https, host, port, path: path.strip_suffix('/').unwrap_or(path).to_owned() })
    }

    pub(crate) fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// The URL of `path` below this one.
    pub(crate) fn join(&self, path: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ip(IpAddr::V4(ip)) => ip.to_string(),
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{host}{port}{}{path}", self.path)
    }
}

/// Reads `host` or `host:port`.
pub(crate) fn host_and_port(text: &str) -> Result<(Host, Option<u16>), String> {
    let authority: Authority = match text {
        "" => return Err("it has no host".into()),
        _ => text.parse().map_err(|_| NO_NAME)?,
    };
    let host = authority.host();
    let port = match text.strip_prefix(host).ok_or(NO_NAME)? {
        "" => None,
        // `Authority::port` accepts a sign, and "host:" as a host without a port.
        port => Some(port_number(port).ok_or("its port is not a number from 1 to 65535")?),
    };
    Ok((Host::parse(host)?, port))
}

fn port_number(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':').filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|&number| number > 0)
}

impl Host {
    /// As in a URL, with the port.
    pub(crate) fn with_port(&self, port: u16) -> String {
        match self {
            Self::Name(name) => format!("{name}:{port}"),
            Self::Ip(ip) => SocketAddr::new(*ip, port).to_string(),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('[') {
            if inner.contains('%') {
                return Err("its IPv6 address has a zone (a %), which is not supported; \
                            use a host name that leads there"
                    .into());
            }
            let ip = inner.trim_end_matches(']').parse::<Ipv6Addr>();
            return Ok(Self::Ip(ip.map_err(|_| "the text in brackets is no IPv6 address")?.into()));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        check_name(text)?;
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            // `Ipv6Addr::is_loopback` refuses an IPv4 address inside an IPv6 one.
            Self::Ip(ip) => ip.is_loopback(),
        }
    }
}

/// Refuses what `Uri` would accept or drop.
fn check_characters(text: &[u8]) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.len() > URL_MAX {
        return Err(format!("it is longer than {URL_MAX} bytes"));
    }
    for (position, &byte) in text.iter().enumerate() {
        let what = match byte {
            b'@' => return Err("it holds user info (an @)".into()),
            b'?' => return Err("it has a query (a ?)".into()),
            b'#' => return Err("it has a fragment (a #)".into()),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => "not allowed",
            b'!'..=b'~' => continue,
            _ => "a space or not printable ASCII",
        };
        return Err(format!("the byte at position {position} (counted from 0) is {what}"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it has no host".into());
    }
    // 127.1, 2130706433 and 0x7f000001 are addresses to some programs and names to others.
    let last = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    if last.starts_with("0x") || !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("its host looks like an address but is not written as four numbers".into());
    }
    // `DnsName` is the rule for names in certificates, and accepts a dot at the end.
    if name.ends_with('.') || DnsName::try_from(name).is_err() {
        return Err(NO_NAME.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(url: &str) -> String {
        BaseUrl::new(url.as_bytes()).unwrap().join("/auth/hmac")
    }

    #[test]
    fn one_trailing_slash_is_dropped_and_nothing_else_changes() {
        let cases = [
            ("https://app-api.spikeapi.com/v3", "https://app-api.spikeapi.com/v3/auth/hmac"),
            ("https://app-api.spikeapi.com/v3/", "https://app-api.spikeapi.com/v3/auth/hmac"),
            ("https://app-api.spikeapi.com", "https://app-api.spikeapi.com/auth/hmac"),
            (
                "HTTPS://App-API.spikeapi.com:8443/V3",
                "https://app-api.spikeapi.com:8443/V3/auth/hmac",
            ),
            ("http://[::1]:80/a%20b", "http://[::1]:80/a%20b/auth/hmac"),
            ("http://127.200.1.2/v3//", "http://127.200.1.2/v3//auth/hmac"),
        ];
        for (url, expected) in cases {
            assert_eq!(joined(url), expected);
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in [
            "http://127.0.0.1",
            "http://127.255.255.254:1",
            "http://[::1]",
            "http://localhost",
            "http://LOCALHOST:65535/x",
        ] {
            assert!(BaseUrl::new(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "http://app-api.spikeapi.com/v3",
            "http://127.0.0.1.evil.com",
            "http://[::ffff:127.0.0.1]",
            "http://0x7f000001",
            "http://2130706433",
            "http://127.1",
            "http://0177.0.0.1",
            "http://localhost.evil.com",
            "http://localhost.",
            "http://[::]",
            "http://0.0.0.0",
            "http://128.0.0.1",
            "http://evil.com/127.0.0.1",
        ] {
            let error = BaseUrl::new(bad.as_bytes()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{bad}");
        }
    }

    #[test]
    fn urls_that_are_refused() {
        for bad in [
            "",
            "https://",
            "https:///v3",
            "app-api.spikeapi.com/v3",
            "//host",
            "ftp://host",
            "https:/host",
            "https://user@host",
            "https://user:password@host",
            "https://host?x",
            "https://host#x",
            "https://ho st",
            "https://host:0",
            "https://host:65536",
            "https://host:",
            "https://host:+1",
            "https://host::1",
            "https://host:1:2",
            "https://[::1",
            "https://[::1]x",
            "https://[fe80::1%eth0]",
            "https://[fe80::1%25eth0]",
            "https://[host]",
            "https://h\u{f6}st",
            "https://host\\x",
            "https://host\n",
            " https://host",
            "https://host ",
            "https://a..b",
            "https://.a",
            "https://host/\u{0}",
            "https://127.1",
            "https://1.2.3.256",
            "https://x.0x1",
            "https://-a.com",
            "https://a-.com",
            "https://a.b-",
            &format!("https://{}", "a".repeat(64)),
        ] {
            assert!(BaseUrl::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_message_shows_no_password() {
        let error = BaseUrl::new(b"https://user:hunter2@host").err().unwrap();
        assert!(!error.message().contains("hunter2") && error.message().contains("user info"));
    }

    #[test]
    fn the_message_names_a_zone() {
        for url in ["https://[fe80::1%25eth0]", "https://[fe80::1%eth0]:8443/v3"] {
            let error = BaseUrl::new(url.as_bytes()).err().unwrap();
            assert!(error.message().contains("has a zone"), "{error}");
        }
    }

    #[test]
    fn default_ports() {
        assert_eq!(BaseUrl::new(b"https://host").unwrap().port_or_default(), 443);
        assert_eq!(BaseUrl::new(b"http://localhost").unwrap().port_or_default(), 80);
    }
}
