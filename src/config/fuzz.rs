//! The oracles for settings: URLs, the rules for proxies, PEM.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "an oracle panics")]

use ::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::pem::certificates;
use super::proxy::{NoProxy, ProxyChoice};
use super::{BaseUrl, CaCertificates, ProxyUrl, StoreAddress, StoreUrl};
use super::{Host, host_and_port};
use crate::error::{Error, ErrorKind};

/// Stands for a password in the inputs.
const SECRET: &str = "hunter2";
/// What a message may have, so that C gets all of it.
const MESSAGE_MAX: usize = 423;
const URL_MAX: usize = 2048;

/// A URL that was accepted: what any other reading must find in it too.
pub struct Seen {
    /// The URL as it is used.
    pub url: String,
    /// Its host, in lower case and without brackets.
    pub host: String,
    /// Its port, or the default.
    pub port: u16,
}

impl Seen {
    fn new(url: String, host: &Host, port: u16) -> Self {
        Self { url, host: text_of(host), port }
    }
}

fn text_of(host: &Host) -> String {
    match host {
        Host::Name(name) => name.clone(),
        Host::Ip(ip) => ip.to_string(),
    }
}

fn bracketed(host: &Host) -> String {
    match host {
        Host::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
        host => text_of(host),
    }
}

/// A node of a store names an IPv6 address without brackets.
pub(crate) fn spellings(host: &Host) -> [String; 2] {
    [bracketed(host), text_of(host)]
}

/// `data`: a base URL.
pub fn base_url(data: &[u8]) -> Option<Seen> {
    let url = check_refusal(BaseUrl::new(data), ErrorKind::InvalidUrl)?;
    let joined = url.join("/auth/hmac");
    let host = &url.host;
    check_host(host);
    let name = text_of(host);
    let is_local = ["localhost", "::1"].contains(&&*name) || name.starts_with("127.");
    assert!(url.https || is_local, "{joined}");
    check_whole(std::str::from_utf8(data).unwrap(), &url);
    // It cannot end a request's line or its head.
    assert!(joined.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{joined}");
    let uri: Uri = joined.parse().unwrap();
    assert_eq!(uri.scheme_str(), Some(if url.https { "https" } else { "http" }));
    assert_eq!(uri.host(), Some(&*bracketed(host)));
    assert_eq!(uri.port_u16(), url.port);
    assert!(uri.path().ends_with("/auth/hmac") && uri.query().is_none(), "{joined}");
    let again = url.join("/");
    if again.len() <= URL_MAX {
        assert_eq!(BaseUrl::new(again.as_bytes()).unwrap(), url, "{again}");
    }
    Some(Seen::new(joined, host, url.port_or_default()))
}

/// No part of the text was left out.
fn check_whole(text: &str, url: &BaseUrl) {
    let (_, rest) = text.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    assert_eq!(url.path, path.strip_suffix('/').unwrap_or(path), "{text}");
    let is_expected = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:[]".contains(&byte);
    assert!(authority.bytes().all(is_expected), "{text}");
}

/// `data`: a proxy's URL, a line with exceptions, and a base URL.
pub fn proxy(data: &[u8]) -> Option<Seen> {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (text, list, base) = (next(), next(), next());
    let url = ProxyUrl::new(text);
    if let Ok(base) = BaseUrl::new(base) {
        let list = String::from_utf8_lossy(list);
        check_choice(&url, &list, &base);
        check_exceptions(&list, &base);
    }
    let proxy = check_refusal(url, ErrorKind::InvalidUrl)?;
    check_host(&proxy.host);
    let text = std::str::from_utf8(text).unwrap();
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let user_info = rest.rsplit_once('@').map_or("", |(user_info, _)| user_info);
    let value = proxy.authorization.as_ref().map(|value| value.as_str());
    match value {
        None => assert!(user_info.is_empty(), "{text}"),
        Some(value) => {
            // It cannot end its header.
            assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{value:?}");
            let plain = STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
            let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
            assert_eq!(plain, [&decoded(user), &b":"[..], &decoded(password)].concat(), "{text}");
        }
    }
    Some(Seen::new(format!("http://{rest}"), &proxy.host, proxy.port))
}

/// The order of precedence.
fn check_choice(url: &Result<ProxyUrl, Error>, list: &str, base: &BaseUrl) {
    let mut choice = ProxyChoice::default();
    choice.set_environment(Some(url.clone()), Some(NoProxy::new(list)));
    let is_direct = !base.https || covers(list, &base.host, base.port_or_default());
    let port =
        |choice: &ProxyChoice| choice.for_url(base).map(|proxy| proxy.map(|proxy| proxy.port));
    match (is_direct, url) {
        (true, _) => assert_eq!(port(&choice).unwrap(), None),
        (false, Ok(proxy)) => assert_eq!(port(&choice).unwrap(), Some(proxy.port)),
        (false, Err(_)) => assert!(port(&choice).is_err()),
    }
    choice.set(b"http://explicit:4").unwrap();
    assert_eq!(port(&choice).unwrap(), base.https.then_some(4));
    choice.set(b"").unwrap();
    assert_eq!(port(&choice).unwrap(), None);
}

fn covers(list: &str, host: &Host, port: u16) -> bool {
    NoProxy::new(list).covers(host, port)
}

/// The rules of exceptions, as changes of a list that change the answer in a known way.
fn check_exceptions(list: &str, base: &BaseUrl) {
    let (host, port) = (&base.host, base.port_or_default());
    let (before, name) = (covers(list, host, port), bracketed(host));
    let is_name = matches!(host, Host::Name(_));
    let with = |entry: String| covers(&format!("{list},{entry}"), host, port);
    let each = list.split(',').any(|entry| covers(entry, host, port));
    assert_eq!(before, each, "one entry decides: {list:?} {name}");
    assert_eq!(before, covers(&list.to_ascii_uppercase(), host, port), "{list:?} {name}");
    assert_eq!(before, covers(&list.replace(',', " ,\t"), host, port), "{list:?} {name}");
    for entry in [name.clone(), format!(" {name}:{port}"), "*".to_owned()] {
        assert!(with(entry), "{list:?} {name}");
    }
    for entry in [
        format!("x{name}"),
        format!("{name}x"),
        format!("{name}:{}", port ^ 1),
        format!("a.{name}"),
    ] {
        assert_eq!(with(entry), before, "{list:?} {name}");
    }
    assert_eq!(with(format!(".{name}")), before || is_name, "{list:?} {name}");
    if is_name && name.as_bytes().get(1) != Some(&b'.') {
        assert_eq!(with(name[1..].to_owned()), before, "a part of a label: {list:?} {name}");
    }
    if let Host::Name(name) = host
        && before
    {
        let below = Host::Name(format!("a.{name}"));
        assert!(
            covers(list, &below, port),
            "what covers a name covers all below it: {list:?} {name}"
        );
    }
}

/// `data`: a store's URL.
pub fn store_url(data: &[u8]) -> Option<Seen> {
    let store = check_refusal(StoreUrl::new(data), ErrorKind::InvalidUrl)?;
    let text = std::str::from_utf8(data).unwrap();
    let (scheme, rest) = text.split_once("://").unwrap();
    let (user_info, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    match &store.login {
        None => assert!(!rest.contains('@'), "{text}"),
        Some(login) => {
            let (user, password) = user_info.split_once(':').unwrap();
            assert_eq!((&*login.user, &*login.password), (&decoded(user), &decoded(password)));
            assert!(!login.password.is_empty());
        }
    }
    match &store.address {
        StoreAddress::Tcp { host, port, tls } => {
            check_host(host);
            let scheme = scheme.to_ascii_lowercase();
            assert_eq!(*tls, ["rediss", "valkeys"].contains(&&*scheme), "{text}");
            let database = place.split_once('/').map_or("", |(_, database)| database);
            assert_eq!(database.parse().unwrap_or(0), store.database, "{text}");
            Some(Seen::new(text.to_owned(), host, *port))
        }
        StoreAddress::Unix(path) => {
            let path = path.to_str().unwrap();
            assert!(path.starts_with('/') && path.len() <= 107 && !path.contains('\0'), "{text}");
            assert_eq!(path.as_bytes(), decoded(place.split('?').next().unwrap()));
            None
        }
    }
}

/// A host is one by its own text, and has no other meaning there.
fn check_host(host: &Host) {
    let text = bracketed(host);
    assert_eq!(text, text.to_ascii_lowercase());
    assert!(
        text.len() <= 253
            && !text.bytes().any(|byte| b"@/?#\\%: ".contains(&byte) && !text.starts_with('[')),
        "{text}"
    );
    assert_eq!(host_and_port(&format!("{text}:7")).unwrap(), (host.clone(), Some(7)));
}

/// What a refusal says is for a person, and shows nothing that was refused.
fn check_refusal<T>(result: Result<T, Error>, kind: ErrorKind) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let message = error.message();
    assert_eq!(error.kind(), kind);
    assert!(message.len() <= MESSAGE_MAX && message.ends_with('.'), "{message}");
    assert!(message.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{message:?}");
    assert!(!message.contains(SECRET), "{message}");
    None
}

/// Percent-decoding (RFC 3986, 2.1).
fn decoded(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).filter(|_| *first == b'%').and_then(|pair| hex::decode(pair).ok());
        out.push(pair.as_ref().map_or(*first, |pair| pair[0]));
        rest = &tail[if pair.is_some() { 2 } else { 0 }..];
    }
    out
}

/// `data`: a file with certificates.
pub fn pem(data: &[u8]) {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const LAST: &str = "-----BEGIN CERTIFICATE-----\nbGFzdA==\n-----END CERTIFICATE-----\n";
    let found: Vec<_> = certificates(data).collect();
    let is_utf16 =
        found.first().is_some_and(|first| matches!(first, Err(why) if why.contains("UTF-16")));
    let is_whole = found.iter().all(Result::is_ok);
    let contents = |found: &[Result<super::pem::Found, String>]| -> Vec<Vec<u8>> {
        found.iter().flatten().map(|found| found.certificate.to_vec()).collect()
    };
    for why in found.iter().filter_map(|found| found.as_ref().err()) {
        assert!(why.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{why:?}");
    }
    let all = contents(&found);
    if is_whole {
        check_none_is_missed(data, &all);
        // Written anew, they are read again.
        let written: String = all.iter().map(|der| section(der)).collect();
        let again: Vec<_> = certificates(written.as_bytes()).collect();
        assert!(again.iter().all(Result::is_ok) && contents(&again) == all);
        check_spellings(data, &all);
    }
    // No section is skipped.
    let begins = data.split(|byte| b"\r\n".contains(byte)).filter(|line| *line == BEGIN.as_bytes());
    assert!(is_utf16 || begins.count() <= found.len());
    // Nothing hides what follows it.
    let found: Vec<_> = certificates(&[data, b"\n", LAST.as_bytes()].concat()).collect();
    assert!(is_utf16 || contents(&found).last().unwrap() == b"last");
    let usable = CaCertificates::from_pem(data);
    if let Some(usable) = check_refusal(usable, ErrorKind::TlsRoots) {
        assert!(is_whole && usable.iter().count() == all.len());
    }
}

/// The same file as other systems write it.
fn check_spellings(text: &[u8], all: &[Vec<u8>]) {
    const MARK: &[u8] = b"\xEF\xBB\xBF";
    let check = |text: Vec<u8>| {
        let found: Result<Vec<_>, _> = certificates(&text).collect();
        let found = found.unwrap().into_iter().map(|found| found.certificate.to_vec());
        assert_eq!(found.collect::<Vec<_>>(), all, "{}", text.escape_ascii());
    };
    if !text.starts_with(MARK) {
        check([MARK, text].concat());
    }
    if !text.contains(&b'\r') {
        let lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
        check(lines.join(&b"\r\n"[..]));
        check(lines.join(&b"\r"[..]));
    }
}

fn section(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

/// What the reader of a TLS library finds is found here too, in the same order.
fn check_none_is_missed(text: &[u8], found: &[Vec<u8>]) {
    let mut found = found.iter();
    for other in CertificateDer::pem_slice_iter(text).map_while(Result::ok) {
        assert!(found.any(|der| der[..] == other[..]), "missed: {other:?}");
    }
}
