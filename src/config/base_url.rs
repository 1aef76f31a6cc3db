//! The base URL: parsed by one strict rule, so that no two parts of a program read it differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::DnsName;

use crate::error::{Error, ErrorKind};

/// Where the service lives.
pub(crate) const DEFAULT_BASE_URL: &str = "https://app-api.spikeapi.com/v3";

const URL_MAX: usize = 2048;
const HOST_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// A base URL that may be used: `https`, or `http` for this machine alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    pub(crate) https: bool,
    pub(crate) host: Host,
    /// `None`: the scheme's own.
    pub(crate) port: Option<u16>,
    /// Empty, or begins with a slash and does not end with the one that was dropped.
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
        let text = printable(text)?;
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme such as https://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is neither https nor http".into()),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (host, port) = Self::parse_authority(authority)?;
        let url = Self { https, host, port, path: without_last_slash(path) };
        if !https && !url.host.is_loopback() {
            return Err("plain http would send a credential in the clear to another machine".into());
        }
        Ok(url)
    }

    /// `host` or `host:port`.
    pub(super) fn parse_authority(authority: &str) -> Result<(Host, Option<u16>), String> {
        let (host, port) = split_port(authority)?;
        Ok((Host::parse(host)?, port))
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

impl Host {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or("the IPv6 address has no closing bracket")?;
            if inner.contains('%') {
                return Err("its IPv6 address has a zone (a %), which is not supported; \
                            use a host name that leads there"
                    .into());
            }
            let ip: Ipv6Addr =
                inner.parse().map_err(|_| "the text in brackets is no IPv6 address")?;
            return Ok(Self::Ip(ip.into()));
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
            // An IPv4 address inside an IPv6 one does not count, as `Ipv6Addr::is_loopback` says.
            Self::Ip(ip) => ip.is_loopback(),
        }
    }
}

fn printable(text: &[u8]) -> Result<&str, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.len() > URL_MAX {
        return Err(format!("it is longer than {URL_MAX} bytes"));
    }
    for (position, &byte) in text.iter().enumerate() {
        match byte {
            b'@' => return Err("it holds user info (an @)".into()),
            b'?' => return Err("it has a query (a ?)".into()),
            b'#' => return Err("it has a fragment (a #)".into()),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                return Err(format!(
                    "the character at position {position} (counted from 0) is not allowed"
                ));
            }
            b'!'..=b'~' => {}
            _ => {
                return Err(format!(
                    "the byte at position {position} (counted from 0) is a space or not printable ASCII"
                ));
            }
        }
    }
    std::str::from_utf8(text).map_err(|_| "it is not ASCII".into())
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let after_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority.get(after_host..).and_then(|rest| rest.find(':')) else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(after_host + colon);
    let digits = port.trim_start_matches(':');
    let number = digits.parse::<u16>().ok().filter(|&number| number > 0);
    match number {
        Some(number)
            if port.len() == digits.len() + 1 && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Ok((host, Some(number)))
        }
        _ => Err("its port is not a number from 1 to 65535".into()),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it has no host".into());
    }
    if name.len() > HOST_MAX {
        return Err(format!("its host is longer than {HOST_MAX} characters"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    {
        return Err("its host has a character that no host name has".into());
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > LABEL_MAX) {
        return Err("its host has a label that is empty or longer than 63 characters".into());
    }
    if DnsName::try_from(name).is_err() {
        return Err("no certificate can bear its host name".into());
    }
    // 127.1, 2130706433 and 0x7f000001 are addresses to some programs and names to others.
    let last = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err("its host looks like an address but is not written as four numbers".into());
    }
    Ok(())
}

fn without_last_slash(path: &str) -> String {
    path.strip_suffix('/').unwrap_or(path).to_owned()
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
    fn what_no_url_may_hold() {
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
