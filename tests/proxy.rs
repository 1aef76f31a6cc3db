//! Exchanges through an HTTP proxy: what it is asked, what its refusals come to, and when none is
//! used. The proxies are the sandbox's, and raw sockets for what no proper proxy would say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::timing::in_time;
use common::{APPLICATION_ID, KEY, Sandbox, subject};
use spike_auth::{Call, Client, Config, Error, ErrorKind, TlsRoots};

/// By how much a deadline may be overrun.
const GRACE: Duration = Duration::from_millis(100);

/// What a proxy is told about the client, where nothing is added.
fn user_agent() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("spike_auth/{} ({os}; {arch})", env!("CARGO_PKG_VERSION"))
}

const USER: &str = "canary-proxy-user";
const PASSWORD: &str = "canary-proxy-pass";
/// Base64 of both with a colon between.
const ENCODED: &str = "Y2FuYXJ5LXByb3h5LXVzZXI6Y2FuYXJ5LXByb3h5LXBhc3M=";

/// A proxy that does whatever a test wants, once it has read the head of a request.
struct RawProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl RawProxy {
    fn start(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&heads));
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    if let Some(head) = read_head(&mut stream) {
                        seen.lock().unwrap().push(head);
                        answer(stream);
                    }
                });
            }
        });
        Self { address, heads }
    }

    /// Says `reply`, then closes in an orderly way.
    fn saying(reply: impl Into<Vec<u8>>) -> Self {
        let reply = reply.into();
        Self::start(move |mut stream| {
            let _ = stream.write_all(&reply);
            close(stream);
        })
    }

    /// Says `reply` and stays open.
    fn holding(reply: impl Into<Vec<u8>>) -> Self {
        let reply = reply.into();
        Self::start(move |mut stream| {
            let _ = stream.write_all(&reply);
            let _ = stream.read_to_end(&mut Vec::new());
        })
    }

    /// Writes the `reply` in pieces of `piece` bytes, then leads to `target`.
    fn leading_to(target: SocketAddr, reply: &'static str, piece: usize) -> Self {
        Self::start(move |mut stream| {
            stream.set_nodelay(true).unwrap();
            for part in reply.as_bytes().chunks(piece) {
                stream.write_all(part).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            let server = TcpStream::connect(target).unwrap();
            let (mut from_server, mut to_client) =
                (server.try_clone().unwrap(), stream.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            let (mut from_client, mut to_server) = (stream, server);
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Both);
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn url_with_credentials(&self) -> String {
        format!("http://{USER}:{PASSWORD}@{}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// Reads what is still coming first: a close with bytes unread would be a reset.
fn close(mut stream: TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = stream.read_to_end(&mut Vec::new());
}

fn socket_address(url: &str) -> SocketAddr {
    let authority = url.split("://").nth(1).unwrap();
    let authority = authority.trim_end_matches("/v3");
    authority.replace("localhost", "127.0.0.1").parse().unwrap()
}

/// A client of the sandbox's https endpoint through `proxy`, with one attempt.
fn config_through(sandbox: &Sandbox, proxy: &str) -> Config {
    let mut config = sandbox.single_attempt_config_for(sandbox.url("https"));
    config.set_proxy(proxy.as_bytes()).unwrap();
    config
}

fn exchange(config: &Config) -> Result<String, Error> {
    let token = Client::new(config).unwrap().exchange(b"alice", None)?;
    Ok(subject(token.as_bytes()))
}

fn failure(config: &Config) -> Error {
    exchange(config).err().unwrap()
}

/// One that needs no server: nothing behind the proxy is ever reached.
fn config_without_sandbox(base_url: &str) -> Config {
    let mut config = Config::new().unwrap();
    config.set_application_id(APPLICATION_ID.as_bytes()).unwrap();
    config.set_hmac_key(KEY.as_bytes()).unwrap();
    config.set_base_url(base_url.as_bytes()).unwrap();
    config.set_tls_roots(TlsRoots::Bundled);
    config.set_max_attempts(1).unwrap();
    config
}

fn assert_no_credentials(error: &Error) {
    let shown = format!("{error} {error:?}").to_ascii_lowercase();
    for secret in [USER, PASSWORD, ENCODED] {
        assert!(!shown.contains(&secret.to_ascii_lowercase()), "{shown}");
    }
}

#[test]
fn a_tunnel_is_made_once_and_used_again() {
    let sandbox = Sandbox::start();
    let client = Client::new(&config_through(&sandbox, sandbox.url("proxy"))).unwrap();
    for user in ["alice", "bob", "carol"].iter().cycle().take(30) {
        let token = client.exchange(user.as_bytes(), None).unwrap();
        assert_eq!(subject(token.as_bytes()), *user);
    }
    let counters = sandbox.counters();
    assert_eq!(
        ["tunnels", "proxy_requests", "connections", "requests"]
            .map(|name| counters[name].as_u64().unwrap()),
        [1, 1, 1, 30]
    );
}

#[test]
fn a_tunnel_that_died_is_made_anew_within_the_same_attempt() {
    let sandbox = Sandbox::start();
    let client = Client::new(&config_through(&sandbox, sandbox.url("proxy"))).unwrap();
    client.exchange(b"fault.close-next", None).unwrap();
    client.exchange(b"alice", None).unwrap();
    assert_eq!(sandbox.count("tunnels"), 2);
}

#[test]
fn credentials_open_the_proxy_that_wants_them_and_go_no_further() {
    let sandbox = Sandbox::start();
    let guarded = sandbox.url("proxy_auth").replace("http://", "");
    let config = config_through(&sandbox, &format!("http://proxy-user:proxy-pass@{guarded}"));
    assert_eq!(exchange(&config).unwrap(), "alice");
    assert_eq!(sandbox.count("tunnels"), 1);
    let last = sandbox.last()["headers"].to_string().to_ascii_lowercase();
    assert!(!last.contains("proxy-"), "{last}");

    for wrong in ["", "proxy-user:wrong@", "proxy-user@", "other:proxy-pass@"] {
        let before = sandbox.count("proxy_requests");
        let mut config = config_through(&sandbox, &format!("http://{wrong}{guarded}"));
        config.set_max_attempts(3).unwrap();
        let error = failure(&config);
        assert_eq!(
            (error.kind(), error.retryable(), error.attempts()),
            (ErrorKind::Proxy, false, 0),
            "{wrong}: {error}"
        );
        assert_eq!(sandbox.count("proxy_requests") - before, 1, "{wrong}");
        assert!(error.message().contains("407") && error.message().contains("password"), "{error}");
    }
    assert_eq!(sandbox.count("tunnels"), 1);
}

#[test]
fn percent_encoded_credentials_are_decoded() {
    let sandbox = Sandbox::start();
    let guarded = sandbox.url("proxy_auth").replace("http://", "");
    let config = config_through(&sandbox, &format!("http://proxy%2Duser:proxy-pa%73s@{guarded}"));
    assert_eq!(exchange(&config).unwrap(), "alice");
}

#[test]
fn the_request_to_the_proxy_is_exactly_this() {
    let refusing = RawProxy::saying("HTTP/1.1 403 No\r\n\r\n");
    for (base_url, authority) in [
        ("https://api.shop.invalid/v3", "api.shop.invalid:443"),
        ("https://API.shop.invalid:8443", "api.shop.invalid:8443"),
        ("https://localhost/v3", "localhost:443"),
        ("https://192.0.2.1:1/v3", "192.0.2.1:1"),
        ("https://[2001:db8::1]/v3", "[2001:db8::1]:443"),
    ] {
        let mut config = config_without_sandbox(base_url);
        for (proxy, credentials, suffix) in [
            (refusing.url(), String::new(), ""),
            (
                refusing.url_with_credentials(),
                format!("Proxy-Authorization: Basic {ENCODED}\r\n"),
                "",
            ),
            (refusing.url(), String::new(), " shop/1.2"),
        ] {
            config.set_proxy(proxy.as_bytes()).unwrap();
            config.set_user_agent(suffix.trim().as_bytes()).unwrap();
            assert_eq!(failure(&config).kind(), ErrorKind::Proxy);
            let agent = user_agent() + suffix;
            assert_eq!(
                refusing.heads().pop().unwrap(),
                format!(
                    "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {agent}\r\n\
                     {credentials}\r\n"
                )
            );
        }
    }
}

#[test]
fn the_sandbox_sees_the_target_the_host_and_the_client() {
    let sandbox = Sandbox::start();
    exchange(&config_through(&sandbox, sandbox.url("proxy"))).unwrap();
    let target = sandbox.url("https").replace("https://", "").replace("/v3", "");
    let last = sandbox.last_connect();
    assert_eq!(last["target"].as_str().unwrap(), target);
    let headers: Vec<(String, String)> = serde_json::from_value(last["headers"].clone()).unwrap();
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    assert_eq!(headers, [("host".to_owned(), target), ("user-agent".to_owned(), user_agent())]);
}

#[test]
fn a_403_hints_at_the_user_agent_and_nothing_else_does() {
    for (status, hints) in [(403, true), (404, false), (407, false), (502, false)] {
        let proxy = RawProxy::saying(format!("HTTP/1.1 {status} No\r\n\r\n"));
        let mut config = config_without_sandbox("https://api.shop.invalid");
        config.set_proxy(proxy.url().as_bytes()).unwrap();
        let error = failure(&config);
        for words in ["User-Agent", "set_user_agent"] {
            assert_eq!(error.message().contains(words), hints, "{error}");
        }
    }
}

/// (what the proxy says before it closes, whether it may pass, a piece of the message).
const REPLIES: &[(&str, bool, &str)] = &[
    ("HTTP/1.1 403 Forbidden\r\n\r\n", false, "refused with 403"),
    ("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", false, "refused with 407"),
    ("HTTP/1.1 404 Not Found\r\n\r\n", false, "refused with 404"),
    ("HTTP/1.1 405 Method Not Allowed\r\n\r\n", false, "refused with 405"),
    ("HTTP/1.1 302 Elsewhere\r\n\r\n", false, "refused with 302"),
    ("HTTP/1.1 500 Oops\r\n\r\n", false, "refused with 500"),
    ("HTTP/1.1 502 Bad Gateway\r\n\r\n", true, "refused with 502"),
    ("HTTP/1.0 503 Unavailable\r\n\r\nlater", true, "refused with 503"),
    ("HTTP/1.1 504 Late\r\n\r\n", true, "refused with 504"),
    ("SSH-2.0-Example\r\n\r\n", false, "not valid HTTP"),
    ("\u{5}\u{0}\r\n\r\n", false, "not valid HTTP"),
    ("HTTP/1.1 2000 OK\r\n\r\n", false, "not valid HTTP"),
    ("HTTP/1.1 abc OK\r\n\r\n", false, "not valid HTTP"),
    ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", false, "not valid HTTP"),
    ("", true, "ended the connection"),
    ("HTTP/1.1 200 OK\r\nVia: p", true, "ended the connection"),
    ("HTTP/1.1 200 OK\r\n", true, "ended the connection"),
];

#[test]
fn every_refusal_says_what_it_was_and_whether_it_may_pass() {
    for &(reply, may_pass, words) in REPLIES {
        let proxy = RawProxy::saying(reply);
        let mut config = config_without_sandbox("https://api.shop.invalid");
        config.set_proxy(proxy.url_with_credentials().as_bytes()).unwrap();
        let error = failure(&config);
        assert_eq!(
            (error.kind(), error.retryable(), error.http_status(), error.attempts()),
            (ErrorKind::Proxy, may_pass, None, 0),
            "{reply:?}: {error}"
        );
        assert!(error.message().contains(words), "{reply:?}: {error}");
        assert_no_credentials(&error);
    }
}

#[test]
fn what_may_pass_is_tried_again_and_nothing_else() {
    for (reply, times) in [
        ("HTTP/1.1 503 Unavailable\r\n\r\n", 3),
        ("", 3),
        ("HTTP/1.1 407 Who\r\n\r\n", 1),
        ("HTTP/1.1 403 No\r\n\r\n", 1),
        ("garbage\r\n\r\n", 1),
    ] {
        let proxy = RawProxy::saying(reply);
        let mut config = config_without_sandbox("https://api.shop.invalid");
        config.set_proxy(proxy.url().as_bytes()).unwrap();
        config.set_max_attempts(3).unwrap();
        let error = failure(&config);
        assert_eq!(error.kind(), ErrorKind::Proxy, "{reply:?}");
        // It was the proxy that was asked, and never the service.
        assert_eq!(error.attempts(), 0, "{reply:?}");
        assert_eq!(proxy.heads().len(), times, "{reply:?}");
    }
}

#[test]
fn a_proxy_that_echoes_the_credentials_gets_them_into_no_message() {
    for status in [403, 407, 502, 999] {
        let line = format!(
            "HTTP/1.1 {status} {USER}:{PASSWORD} Basic {ENCODED}\r\nX: {PASSWORD}\r\n\r\n{ENCODED}"
        );
        let proxy = RawProxy::saying(line);
        let mut config = config_without_sandbox("https://api.shop.invalid");
        config.set_proxy(proxy.url_with_credentials().as_bytes()).unwrap();
        let error = failure(&config);
        assert_eq!(error.kind(), ErrorKind::Proxy);
        assert_no_credentials(&error);
    }
}

#[test]
fn a_head_without_end_is_given_up() {
    for (first, rest) in [
        ("HTTP/1.1 200 OK\r\n", "X-Filler: on and on\r\n"),
        ("HTTP/1.1 200 OK\r\nX: ", "on and on"),
    ] {
        let proxy = RawProxy::start(move |mut stream| {
            let _ = stream.write_all(first.as_bytes());
            while stream.write_all(rest.as_bytes()).is_ok() {}
        });
        let mut config = config_without_sandbox("https://api.shop.invalid");
        config.set_proxy(proxy.url().as_bytes()).unwrap();
        let start = Instant::now();
        let error = failure(&config);
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Proxy, false), "{error}");
        assert!(error.message().contains("not valid HTTP"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn a_greeting_that_is_no_http_is_told_at_once_and_not_waited_out() {
    // An SSH, mail or TLS server speaks, or answers in its own way, and stays.
    for greeting in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"220 mail.example.com ESMTP\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"\x05\xff",
    ] {
        let proxy = RawProxy::holding(greeting);
        let mut config = config_without_sandbox("https://api.shop.invalid");
        config.set_proxy(proxy.url().as_bytes()).unwrap();
        config.set_timeout_ms(1500).unwrap();
        let start = Instant::now();
        let error = failure(&config);
        assert_eq!(
            (error.kind(), error.retryable()),
            (ErrorKind::Proxy, false),
            "{greeting:?}: {error}"
        );
        assert!(start.elapsed() < Duration::from_secs(1), "{greeting:?}");
    }
}

#[test]
fn every_form_of_yes_opens_the_tunnel() {
    let sandbox = Sandbox::start();
    let target = socket_address(sandbox.url("https"));
    for (reply, piece) in [
        ("HTTP/1.1 200 Connection established\r\n\r\n", 1000),
        ("HTTP/1.0 200 OK\r\n\r\n", 1000),
        ("HTTP/1.1 200\r\n\r\n", 1000),
        ("HTTP/1.1 204 Fine\r\nVia: p\r\n\r\n", 1000),
        // In a 2xx to CONNECT these mean nothing (RFC 9110, 9.3.6).
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 1000),
        ("HTTP/1.1 200 OK\r\nVia: p\r\n\r\n", 1),
    ] {
        let proxy = RawProxy::leading_to(target, reply, piece);
        let result = exchange(&config_through(&sandbox, &proxy.url()));
        assert_eq!(result.ok().as_deref(), Some("alice"), "{reply:?}");
    }
}

#[test]
fn an_interim_reply_is_passed_over() {
    // RFC 9110, 15.2: any number of 1xx may come before the reply.
    let sandbox = Sandbox::start();
    let target = socket_address(sandbox.url("https"));
    let reply =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let proxy = RawProxy::leading_to(target, reply, 1000);
    let result = exchange(&config_through(&sandbox, &proxy.url()));
    assert_eq!(result.unwrap(), "alice");
}

#[test]
fn what_follows_the_head_belongs_to_the_tunnel() {
    // Not a TLS record: were it dropped, or taken for a part of the proxy's reply, the call would
    // wait for the server until its deadline.
    let proxy = RawProxy::holding("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    let mut config = config_without_sandbox("https://api.shop.invalid");
    config.set_proxy(proxy.url().as_bytes()).unwrap();
    let error = failure(&config);
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Tls, false), "{error}");
    assert!(error.message().contains("is not TLS"), "{error}");
}

#[test]
fn the_certificate_is_checked_inside_the_tunnel_too() {
    let sandbox = Sandbox::start();
    for name in ["expired", "wrong_host", "untrusted"] {
        let mut config =
            sandbox.single_attempt_config_for(sandbox.url(&format!("tls_faults/{name}")));
        config.set_proxy(sandbox.url("proxy").as_bytes()).unwrap();
        assert_eq!(failure(&config).kind(), ErrorKind::Tls, "{name}");
    }
    assert_eq!((sandbox.count("tunnels"), sandbox.count("requests")), (3, 0));
}

#[test]
fn a_proxy_that_cannot_be_reached_is_the_proxys_failure() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut config = config_without_sandbox("https://api.shop.invalid");
    config.set_proxy(format!("http://{USER}:{PASSWORD}@{nobody}").as_bytes()).unwrap();
    let error = failure(&config);
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Proxy, true), "{error}");
    assert!(error.message().contains("could not be reached"), "{error}");
    // The base URL has no part in it, and to check it would lead astray.
    assert!(!error.message().contains("base URL"), "{error}");
    assert_no_credentials(&error);
}

#[test]
fn a_proxy_whose_name_is_unknown_is_the_proxys_failure() {
    let mut config = config_without_sandbox("https://127.0.0.1");
    config
        .set_proxy(format!("http://{USER}:{PASSWORD}@proxy.shop.invalid:3128").as_bytes())
        .unwrap();
    let error = failure(&config);
    assert_eq!(error.kind(), ErrorKind::Proxy, "{error}");
    // A name server that says no has the last word; none at all may be there later.
    assert_eq!(error.retryable(), !error.message().contains("no such host"), "{error}");
    assert!(!error.message().contains("base URL"), "{error}");
    assert_no_credentials(&error);
}

#[test]
fn the_connect_timeout_holds_for_a_proxy_that_says_nothing() {
    let sandbox = Sandbox::start();
    let full = sandbox.url("full").replace("/v3", "");
    for (proxy, words) in [
        (sandbox.url("proxy_silent"), "The proxy did not answer"),
        (&*full, "could not be reached"),
    ] {
        let mut config = config_through(&sandbox, proxy);
        config.set_timeout_ms(5000).unwrap();
        config.set_connect_timeout_ms(200).unwrap();
        let timeout = Duration::from_millis(200);
        in_time(words, timeout + GRACE, || {
            let start = Instant::now();
            let error = failure(&config);
            let took = start.elapsed();
            assert_eq!((error.kind(), error.retryable()), (ErrorKind::Proxy, true), "{error}");
            assert!(
                error.message().contains(words) && error.message().contains("200 ms"),
                "{error}"
            );
            assert!(took >= timeout, "{took:?}");
            took
        });
    }
}

/// Proxies, and the place that a call does not get beyond: the proxy's silence, its slow reply,
/// and a silent server behind it.
fn places_to_hang(sandbox: &Sandbox) -> Vec<(&'static str, Config)> {
    let dripping = RawProxy::start(|mut stream| {
        stream.set_nodelay(true).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let full = sandbox.url("full").replace("/v3", "");
    let mut behind = sandbox.single_attempt_config_for(sandbox.url("silent_tls"));
    behind.set_proxy(sandbox.url("proxy").as_bytes()).unwrap();
    vec![
        ("silent", config_through(sandbox, sandbox.url("proxy_silent"))),
        ("full", config_through(sandbox, &full)),
        ("dripping", config_through(sandbox, &dripping.url())),
        ("silent server behind it", behind),
    ]
}

#[test]
fn the_deadline_holds_in_every_phase_of_the_tunnel() {
    let sandbox = Sandbox::start();
    for (place, mut config) in places_to_hang(&sandbox) {
        config.set_timeout_ms(300).unwrap();
        let timeout = Duration::from_millis(300);
        in_time(place, timeout + GRACE, || {
            let start = Instant::now();
            let error = failure(&config);
            let took = start.elapsed();
            assert_eq!(
                (error.kind(), error.retryable()),
                (ErrorKind::Timeout, true),
                "{place}: {error}"
            );
            assert!(took >= timeout, "{place}: {took:?}");
            took
        });
    }
}

#[test]
fn cancel_and_close_hold_in_every_phase_of_the_tunnel() {
    let sandbox = Sandbox::start();
    for (place, config) in places_to_hang(&sandbox) {
        for closes in [false, true] {
            let (client, call) = (Client::new(&config).unwrap(), Call::new());
            std::thread::scope(|scope| {
                let running = scope.spawn(|| {
                    let error = client.exchange(b"alice", Some(&call)).err().unwrap();
                    (error.kind(), Instant::now())
                });
                std::thread::sleep(Duration::from_millis(150));
                let stopped_at = Instant::now();
                let expected = if closes {
                    client.close();
                    ErrorKind::Closed
                } else {
                    call.cancel();
                    ErrorKind::Cancelled
                };
                let (kind, ended_at) = running.join().unwrap();
                assert_eq!(kind, expected, "{place}");
                assert!(ended_at - stopped_at < GRACE, "{place}");
            });
        }
    }
}

#[test]
fn plain_http_is_never_proxied() {
    let sandbox = Sandbox::start();
    let proxy = RawProxy::saying("HTTP/1.1 403 No\r\n\r\n");
    let mut config = sandbox.config();
    config.set_proxy(proxy.url().as_bytes()).unwrap();
    assert_eq!(exchange(&config).unwrap(), "alice");
    assert!(proxy.heads().is_empty());
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::start();
    let mut config = config_through(&sandbox, sandbox.url("proxy"));
    for url in [
        "socks5://127.0.0.1:1080",
        "socks5h://127.0.0.1:1080",
        "socks4://127.0.0.1:1080",
        "SOCKS://127.0.0.1",
        "https://127.0.0.1:3129",
        "ftp://127.0.0.1:21",
        "http://",
        "http://:3128",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:3128/path",
        "http://127.0.0.1:3128?query",
        "http://127.0.0.1:3128#fragment",
        "http://proxy example.com",
        "http://proxy\r\nX-Injected: 1",
        "http://proxy\u{e9}.example.com",
        "http://canary-proxy-user:canary-proxy pass@127.0.0.1",
        "http://canary-proxy-user:canary-proxy-pass@",
        "socks5://canary-proxy-user:canary-proxy-pass@127.0.0.1",
        "https://canary-proxy-user:canary-proxy-pass@127.0.0.1",
        "http://canary-proxy-user:canary-proxy-pass@127.0.0.1:x",
        // A / ends the host of a URL: whoever reads this by the rule talks to another machine.
        "http://127.0.0.1:3128/@127.0.0.2:3128",
        "http://127.0.0.1:3128?@127.0.0.2:3128",
        "http://127.0.0.1:3128#@127.0.0.2:3128",
    ] {
        let error =
            config.set_proxy(url.as_bytes()).err().unwrap_or_else(|| panic!("{url}: accepted"));
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
        assert!(!error.message().contains("canary"), "{error}");
    }
    exchange(&config).unwrap();
    assert_eq!(sandbox.count("tunnels"), 1);
}

// ---- The environment. The tests of this file share one process, so each case runs in its own.

/// Set in the processes that [`outcome`] starts, and nowhere else.
const CHILD: &str = "SPIKE_AUTH_TEST_PROXY_CHILD";

/// What the cases of the environment are run by: this same program, started anew with this test
/// alone. It prints what an exchange came to. `explicit` is what it gives to `set_proxy` before
/// (`b`) or after (`a`) it reads the environment.
#[test]
fn a_process_of_its_own_reads_the_environment() {
    let Some(explicit) = std::env::var_os(CHILD) else {
        return;
    };
    let explicit = explicit.into_string().unwrap();
    let (when, explicit) = explicit.split_at(explicit.len().min(1));
    let set = |config: &mut Config| config.set_proxy(explicit.as_bytes()).unwrap();
    let mut config = Config::new().unwrap();
    config.set_max_attempts(1).unwrap();
    config.set_tls_roots(TlsRoots::Bundled);
    if when == "b" {
        set(&mut config);
    }
    config.load_env().unwrap();
    if when == "a" {
        set(&mut config);
    }
    let result = match Client::new(&config) {
        Ok(client) => client.exchange(b"alice", None),
        Err(error) => {
            println!("\noutcome: {:?} no client: {error}", error.kind());
            return;
        }
    };
    match result {
        Ok(token) => println!("\noutcome: token of {}", subject(token.as_bytes())),
        Err(error) => println!("\noutcome: {:?} {error}", error.kind()),
    }
}

/// What an exchange with `base_url` comes to where the environment holds `variables` and nothing
/// else that matters.
fn outcome(base_url: &str, explicit: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_of_its_own_reads_the_environment", "--nocapture"])
        .env_clear()
        .env(CHILD, explicit)
        .env("SPIKE_APPLICATION_ID", APPLICATION_ID)
        .env("SPIKE_HMAC_KEY", KEY)
        .env("SPIKE_API_BASE_URL", base_url)
        .env("SPIKE_TIMEOUT_MS", "5000")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("outcome: "))
        .unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    line.to_owned()
}

/// A proxy whose refusal tells which one it is.
fn marked(status: u16) -> RawProxy {
    RawProxy::saying(format!("HTTP/1.1 {status} Marked\r\n\r\n"))
}

#[test]
fn the_first_of_the_four_variables_that_is_not_empty_names_the_proxy() {
    let proxies: Vec<RawProxy> = (441..=446).map(marked).collect();
    let names =
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY"];
    let urls: Vec<String> = proxies.iter().map(RawProxy::url).collect();
    let base_url = "https://api.shop.invalid/v3";
    for first in 0..4 {
        // Those before it are empty, or not there.
        for before in [Some(""), None] {
            let mut variables: Vec<(&str, &str)> =
                (first..6).map(|index| (names[index], urls[index].as_str())).collect();
            variables.extend(
                before
                    .into_iter()
                    .flat_map(|empty| (0..first).map(move |index| (names[index], empty))),
            );
            let said = outcome(base_url, "", &variables);
            assert!(
                said.starts_with("Proxy") && said.contains(&format!("with {}", 441 + first)),
                "{first} {before:?}: {said}"
            );
        }
    }
}

#[test]
fn the_proxy_of_plain_http_is_never_used() {
    let proxy = marked(441);
    let url = proxy.url();
    let nobody =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let variables = [("HTTP_PROXY", url.as_str()), ("http_proxy", &url), ("REQUEST_METHOD", "GET")];
    let said = outcome(&format!("https://{nobody}"), "", &variables);
    assert!(said.starts_with("Connect"), "{said}");
    // Nor is any proxy for plain http.
    let said =
        outcome(&format!("http://{nobody}"), "", &[("https_proxy", &url), ("all_proxy", &url)]);
    assert!(said.starts_with("Connect"), "{said}");
    assert!(proxy.heads().is_empty());
}

#[test]
fn what_is_set_goes_before_the_environment_whichever_came_first() {
    let (found, set) = (marked(441), marked(442));
    let (found_url, set_url) = (found.url(), set.url());
    let nobody =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let base_url = format!("https://{nobody}");
    for when in ["a", "b"] {
        let variables = [("https_proxy", found_url.as_str())];
        let said = outcome(&base_url, when, &variables);
        assert!(said.starts_with("Connect"), "{when}: {said}");
        let said = outcome(&base_url, &format!("{when}{set_url}"), &variables);
        assert!(said.contains("refused with 442"), "{when}: {said}");
        // An exception is one from the environment's proxy, and not from the caller's own.
        let variables = [("https_proxy", found_url.as_str()), ("no_proxy", "*")];
        let said = outcome(&base_url, &format!("{when}{set_url}"), &variables);
        assert!(said.contains("refused with 442"), "{when}: {said}");
    }
    assert!(found.heads().is_empty());
}

#[test]
fn the_exceptions_of_no_proxy() {
    let proxy = marked(441);
    let url = proxy.url();
    let nobody =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let (ip, port) = (format!("https://{nobody}"), nobody.port());
    let (name, nested) = ("https://shop.invalid:8443", "https://a.b.shop.invalid");
    let this = format!("127.0.0.1:{port}");
    let other = format!("127.0.0.1:{}", port ^ 1);
    let cases = [
        ("*", ip.as_str(), true),
        (" * ", &ip, true),
        ("127.0.0.1", &ip, true),
        ("x.invalid, 127.0.0.1 ,y.invalid", &ip, true),
        (&this, &ip, true),
        (&other, &ip, false),
        ("127.0.0.2", &ip, false),
        ("localhost", &ip, false),
        ("", &ip, false),
        (" , ,", &ip, false),
        ("[::1]", "https://[::1]:1", true),
        ("::1", "https://[::1]:1", true),
        ("shop.invalid", name, true),
        (".shop.invalid", name, true),
        ("SHOP.Invalid", name, true),
        ("shop.invalid:8443", name, true),
        ("shop.invalid:443", name, false),
        ("other.invalid", name, false),
        ("hop.invalid", name, false),
        ("shop.invalid", nested, true),
        (".shop.invalid", nested, true),
        ("b.shop.invalid", nested, true),
        ("c.shop.invalid", nested, false),
        ("a.b.shop.invalid.com", nested, false),
    ];
    for variable in ["no_proxy", "NO_PROXY"] {
        for (list, base_url, excepted) in cases {
            let said = outcome(base_url, "", &[("https_proxy", &url), (variable, list)]);
            let proxied = said.starts_with("Proxy The proxy refused with 441");
            assert_eq!(!proxied, excepted, "{variable}={list:?} {base_url}: {said}");
        }
    }
    // The lower case goes first here too.
    for (lower, upper, excepted) in [
        ("127.0.0.1", "x.invalid", true),
        ("x.invalid", "127.0.0.1", false),
        ("", "127.0.0.1", true),
    ] {
        let variables = [("https_proxy", url.as_str()), ("no_proxy", lower), ("NO_PROXY", upper)];
        let said = outcome(&ip, "", &variables);
        assert_eq!(said.starts_with("Connect"), excepted, "{lower:?} {said}");
    }
}

#[test]
fn a_bad_value_names_its_variable_and_shows_nothing_of_it() {
    for variable in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        for value in [
            "socks5://canary-proxy-user:canary-proxy-pass@127.0.0.1:1080",
            "https://canary-proxy-user:canary-proxy-pass@127.0.0.1:1080",
            "http://canary-proxy-user:canary-proxy-pass@127.0.0.1:x",
            "canary proxy",
        ] {
            let said = outcome("https://127.0.0.1:1", "", &[(variable, value)]);
            assert!(
                said.starts_with("InvalidEnvironment") && said.contains(variable),
                "{variable}={value}: {said}"
            );
            assert!(said.contains("no client"), "{said}");
            assert!(!said.contains("canary"), "{said}");
        }
    }
}

#[test]
fn a_bad_value_does_no_harm_where_that_proxy_would_not_be_used() {
    let nobody =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let (https, http) = (format!("https://{nobody}"), format!("http://{nobody}"));
    let (other, good) = (marked(441), marked(442));
    let (other_url, good_url) = (other.url(), good.url());
    let bad = ("all_proxy", "socks5h://127.0.0.1:1080");
    for (base_url, explicit, more, expected) in [
        (&http, "", None, "Connect"),
        (&https, "", Some(("no_proxy", "*")), "Connect"),
        (&https, "", Some(("NO_PROXY", "127.0.0.1")), "Connect"),
        (&https, "", Some(("no_proxy", "other.invalid")), "InvalidEnvironment"),
        (&https, "b", None, "Connect"),
        (&https, "a", None, "Connect"),
        (&https, "", Some(("https_proxy", &*other_url)), "Proxy"),
        // One that is used no matter how good the one behind it is.
        (&https, "", Some(("HTTPS_PROXY", "ftp://127.0.0.1")), "InvalidEnvironment"),
    ] {
        let variables: Vec<_> = [Some(bad), more].into_iter().flatten().collect();
        let said = outcome(base_url, explicit, &variables);
        assert!(said.starts_with(expected), "{base_url} {explicit:?} {more:?}: {said}");
    }
    for when in ["a", "b"] {
        let said = outcome(&https, &format!("{when}{good_url}"), &[bad]);
        assert!(said.contains("refused with 442"), "{when}: {said}");
    }
}
