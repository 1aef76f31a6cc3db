//! The URL of the store that processes share.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::base_url::{Host, host_and_port};
use crate::error::{Error, ErrorKind};

const DEFAULT_PORT: u16 = 6379;
const URL_MAX: usize = 2048;
/// `sun_path` without its NUL.
const PATH_MAX: usize = 107;

/// A Redis or Valkey, and how to log in there.
#[derive(Clone)]
pub(crate) struct StoreUrl {
    pub(crate) address: StoreAddress,
    pub(crate) login: Option<Arc<Login>>,
    /// The number of the database.
    pub(crate) database: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreAddress {
    Tcp { host: Host, port: u16, tls: bool },
    Unix(PathBuf),
}

/// The arguments of `AUTH`. Wiped on drop.
pub(crate) struct Login {
    /// Empty: the default user.
    pub(crate) user: Zeroizing<Vec<u8>>,
    pub(crate) password: Zeroizing<Vec<u8>>,
}

impl StoreUrl {
    /// `redis://[user:password@]host[:port][/db]`, `rediss://`, `unix://[user:password@]/path[?db=N]`. The
    /// error shows no part of it.
    pub(crate) fn new(text: &[u8]) -> Result<Self, Error> {
        Self::parse(text).map_err(|why| {
            Error::new(
                ErrorKind::InvalidUrl,
                format!(
                    "Invalid store URL: {why}. Pass one like redis://localhost:6379, \
                     rediss://user:password@store.example.com or unix:///run/redis/redis.sock."
                ),
            )
        })
    }

    fn parse(text: &[u8]) -> Result<Self, Cow<'static, str>> {
        if text.len() > URL_MAX {
            return Err("it is longer than 2048 bytes".into());
        }
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err("it holds a space, or a byte that is not printable ASCII".into());
        }
        let text = std::str::from_utf8(text).unwrap_or_default();
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme such as redis://")?;
        let (tls, is_unix) = match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "unix" => (false, true),
            _ => return Err("its scheme is none of redis, rediss, valkey, valkeys, unix".into()),
        };
        if rest.contains('#') {
            return Err("it holds a #, which must be written as %23".into());
        }
        let (login, rest) = split_login(rest)?;
        if is_unix {
            let (address, database) = unix(rest)?;
            return Ok(Self { address, login, database });
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains('?') {
            return Err("it has a query (a ?)".into());
        }
        let (host, port) = host_and_port(authority)?;
        let address = StoreAddress::Tcp { host, port: port.unwrap_or(DEFAULT_PORT), tls };
        Ok(Self { address, login, database: number(database)? })
    }
}

/// The user info, and what follows it. The last @ ends it: a password may hold one that is not encoded.
fn split_login(text: &str) -> Result<(Option<Arc<Login>>, &str), Cow<'static, str>> {
    let Some((info, rest)) = text.rsplit_once('@') else {
        return Ok((None, text));
    };
    // Unencoded, these end the authority of a URL: another parser would find another host.
    if info.contains(['/', '?']) {
        return Err(
            "its user name or password holds a / or ?, which must be percent-encoded".into()
        );
    }
    let (user, password) = info.split_once(':').ok_or("its user info has no password")?;
    let (user, password) = (decoded(user)?, decoded(password)?);
    if password.is_empty() {
        return Err("its password is empty".into());
    }
    Ok((Some(Arc::new(Login { user, password })), rest))
}

fn unix(text: &str) -> Result<(StoreAddress, u16), Cow<'static, str>> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let database = match query {
        "" => "",
        query => query.strip_prefix("db=").ok_or("its query is not db= and a number")?,
    };
    let path = decoded(path)?;
    let path = std::str::from_utf8(&path).map_err(|_| "its path is not UTF-8")?;
    if !path.starts_with('/') || path.len() > PATH_MAX || path.contains('\0') {
        return Err("its path is not absolute, or is longer than 107 bytes".into());
    }
    Ok((StoreAddress::Unix(Path::new(path).to_owned()), number(database)?))
}

/// Allocates once: growing would leave a copy of a password behind.
fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, Cow<'static, str>> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_escape) {
        return Err(
            "it holds a % without two hexadecimal digits, which must be written as %25".into()
        );
    }
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    out.extend(percent_decode_str(text));
    Ok(out)
}

fn number(text: &str) -> Result<u16, Cow<'static, str>> {
    match text {
        "" => Some(0),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| "its database is not a number from 0 to 65535".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> StoreAddress {
        let (host, _) = host_and_port(host).unwrap();
        StoreAddress::Tcp { host, port, tls }
    }

    fn unix(path: &str) -> StoreAddress {
        StoreAddress::Unix(path.into())
    }

    #[test]
    fn urls_that_can_be_used() {
        for (url, address, login, database) in [
            ("redis://localhost", tcp("localhost", 6379, false), None, 0),
            ("REDIS://Example.com:1/", tcp("example.com", 1, false), None, 0),
            ("rediss://127.0.0.1:7000/15", tcp("127.0.0.1", 7000, true), None, 15),
            ("valkey://[::1]:6380/3", tcp("[::1]", 6380, false), None, 3),
            ("valkeys://[2001:db8::1]", tcp("[2001:db8::1]", 6379, true), None, 0),
            ("redis://:pw@h", tcp("h", 6379, false), Some(("", "pw")), 0),
            ("redis://me:p%40s%2Fs%3a@h/1", tcp("h", 6379, false), Some(("me", "p@s/s:")), 1),
            ("redis://a%20b:p:w@x@h", tcp("h", 6379, false), Some(("a b", "p:w@x")), 0),
            ("unix:///run/redis.sock", unix("/run/redis.sock"), None, 0),
            ("unix://u:pw@/run/a%20b.sock?db=4", unix("/run/a b.sock"), Some(("u", "pw")), 4),
        ] {
            let parsed = StoreUrl::new(url.as_bytes()).unwrap();
            assert_eq!((&parsed.address, parsed.database), (&address, database), "{url}");
            let found = parsed.login.as_deref().map(|login| (&login.user[..], &login.password[..]));
            assert_eq!(found, login.map(|(u, p)| (u.as_bytes(), p.as_bytes())), "{url}");
        }
    }

    #[test]
    fn urls_that_are_refused_and_shown_in_no_part() {
        for url in [
            "hunter2",
            "redis:",
            "redis://",
            "redis:///0",
            "http://hunter2",
            "redis+unix:///hunter2",
            "redis://hunter2@host",
            "redis://hunter2:@host",
            "redis://u:hunter2/@host",
            "redis://u:hunter2?@host",
            "redis://u:hunter2#@host",
            "redis://u:hunter2%@host",
            "redis://u:hunter2%zz@host",
            "redis://u:hunter2%4@host",
            "redis://u:hunter2%%41@host",
            "redis://hunter2%4x:p@host",
            "unix:///hunter2%",
            "unix:///hunter2%2",
            "unix:///hunter2%g1",
            "unix:///hunter2%ff",
            "redis://host:0",
            "redis://host:hunter2",
            "redis://host/hunter2",
            "redis://host/-1",
            "redis://host/65536",
            "redis://host/1/2",
            "redis://host?db=1",
            "redis://ho st",
            "redis://[::1",
            "redis://127.1",
            "unix://hunter2.sock",
            "unix://",
            "unix:///a?hunter2=1",
            "unix:///a?db=x",
            "unix:///a%00b",
            &format!("unix:///{}", "a".repeat(PATH_MAX)),
            &format!("redis://{}", "a".repeat(URL_MAX)),
        ] {
            let error = StoreUrl::new(url.as_bytes()).err().unwrap_or_else(|| panic!("{url}"));
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }
}
