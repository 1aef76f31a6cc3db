//! Exchanges through an HTTP proxy: what it is asked, what its refusals come to, and when none is
//! used. The proxies are the sandbox's, and scripted ones for what no proper proxy would say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::server::{Outcome, Server, config_for, read_request};
use common::timing::{check_cancel, check_close, fails_after};
use common::{APPLICATION_ID, KEY, Sandbox, client, exchange, failure};
use socket2::{Domain, Socket, Type};
use spike_auth::{Client, Config, Error, ErrorKind, TlsRoots};

/// A host that does not exist: no call gets beyond the proxy.
const BASE_URL: &str = "https://api.shop.invalid/v3";

const USER: &str = "canary-proxy-user";
const PASSWORD: &str = "canary-proxy-pass";
/// Base64 of both with a colon between.
const ENCODED: &str = "Y2FuYXJ5LXByb3h5LXVzZXI6Y2FuYXJ5LXByb3h5LXBhc3M=";

/// A proxy that sends `reply` and closes.
fn saying(reply: impl Into<Vec<u8>>) -> Server {
    let reply = reply.into();
    Server::start(move |_| Outcome::ReplyThenClose(reply.clone(), Duration::ZERO))
}

/// A proxy that sends `reply` and stays open.
fn holding(reply: impl Into<Vec<u8>>) -> Server {
    let reply = reply.into();
    Server::start(move |_| Outcome::Reply(reply.clone()))
}

/// A proxy that sends `start`, then `more` again and again.
fn endless(start: &'static str, more: &'static str, pause: Duration) -> Server {
    Server::accepting(move |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(start.as_bytes());
        while stream.write_all(more.as_bytes()).is_ok() {
            std::thread::sleep(pause);
        }
    })
}

/// A proxy that sends `reply` in pieces of `piece` bytes, then leads to `target`.
fn leading_to(target: SocketAddr, reply: &'static str, piece: usize) -> Server {
    Server::accepting(move |mut stream| {
        read_request(&mut stream);
        for part in reply.as_bytes().chunks(piece) {
            stream.write_all(part).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        let server = TcpStream::connect(target).unwrap();
        let pass = |mut from: &TcpStream, mut to: &TcpStream| {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| pass(&server, &stream));
            pass(&stream, &server);
        });
    })
}

fn url_of(proxy: &Server) -> String {
    format!("http://{}", proxy.address)
}

fn url_with_credentials(address: SocketAddr) -> String {
    format!("http://{USER}:{PASSWORD}@{address}")
}

/// An address that is taken, without a listener.
fn dead_address() -> SocketAddr {
    static HELD: OnceLock<Socket> = OnceLock::new();
    let socket = HELD.get_or_init(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket
    });
    socket.local_addr().unwrap().as_socket().unwrap()
}

fn socket_address(url: &str) -> SocketAddr {
    let authority = url.split("://").nth(1).unwrap();
    let authority = authority.trim_end_matches("/v3");
    authority.replace("localhost", "127.0.0.1").parse().unwrap()
}

/// The sandbox's https endpoint through `proxy`, with one attempt.
fn config_through(sandbox: &Sandbox, proxy: &str) -> Config {
    let mut config = sandbox.single_attempt_config_for(sandbox.url("https"));
    config.set_proxy(proxy.as_bytes()).unwrap();
    config
}

/// [`BASE_URL`] through `proxy`, with one attempt.
fn config_for_proxy(proxy: &str) -> Config {
    let mut config = config_for(BASE_URL, None);
    config.set_tls_roots(TlsRoots::Bundled);
    config.set_max_attempts(1).unwrap();
    config.set_proxy(proxy.as_bytes()).unwrap();
    config
}

fn failure_with(config: &Config) -> Error {
    failure(&client(config), "alice")
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
    let client = client(&config_through(&sandbox, sandbox.url("proxy")));
    ["alice", "bob", "carol"].iter().cycle().take(30).for_each(|user| exchange(&client, user));
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
    let client = client(&config_through(&sandbox, sandbox.url("proxy")));
    exchange(&client, "fault.close-next");
    exchange(&client, "alice");
    assert_eq!(sandbox.count("tunnels"), 2);
}

#[test]
fn credentials_open_the_proxy_that_wants_them_and_go_no_further() {
    let sandbox = Sandbox::start();
    let guarded = sandbox.url("proxy_auth").replace("http://", "");
    let right = format!("http://proxy%2Duser:proxy-pa%73s@{guarded}");
    exchange(&client(&config_through(&sandbox, &right)), "alice");
    assert_eq!(sandbox.count("tunnels"), 1);
    let last = sandbox.last()["headers"].to_string().to_ascii_lowercase();
    assert!(!last.contains("proxy-"), "{last}");

    for wrong in ["", "proxy-user:wrong@", "proxy-user@", "other:proxy-pass@"] {
        let error = failure_with(&config_through(&sandbox, &format!("http://{wrong}{guarded}")));
        assert_eq!(
            (error.kind(), error.retryable()),
            (ErrorKind::Proxy, false),
            "{wrong}: {error}"
        );
        assert!(error.message().contains("407") && error.message().contains("password"), "{error}");
    }
    assert_eq!(sandbox.count("tunnels"), 1);
}

#[test]
fn the_request_to_the_proxy_is_exactly_this() {
    let refusing = saying("HTTP/1.1 403 No\r\n\r\n");
    let (plain, with) = (url_of(&refusing), url_with_credentials(refusing.address));
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let agent = format!("spike_auth/{} ({os}; {arch})", env!("CARGO_PKG_VERSION"));
    let authorization = format!("\r\nProxy-Authorization: Basic {ENCODED}");
    for (base_url, authority) in [
        ("https://api.shop.invalid/v3", "api.shop.invalid:443"),
        ("https://API.shop.invalid:8443", "api.shop.invalid:8443"),
        ("https://localhost/v3", "localhost:443"),
        ("https://192.0.2.1:1/v3", "192.0.2.1:1"),
        ("https://[2001:db8::1]/v3", "[2001:db8::1]:443"),
    ] {
        for (proxy, suffix, credentials) in
            [(&plain, "", ""), (&with, "", &*authorization), (&plain, " shop/1.2", "")]
        {
            let mut config = config_for_proxy(proxy);
            config.set_base_url(base_url.as_bytes()).unwrap();
            config.set_user_agent(suffix.trim().as_bytes()).unwrap();
            assert_eq!(failure_with(&config).kind(), ErrorKind::Proxy);
            assert_eq!(
                refusing.last_head(),
                format!(
                    "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {agent}{suffix}{credentials}"
                )
            );
        }
    }
}

/// (what the proxy sends before it closes, whether it may pass, a part of the message).
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
fn every_refusal_says_what_it_was_and_is_tried_again_only_if_it_may_pass() {
    for &(reply, may_pass, words) in REPLIES {
        let proxy = saying(reply);
        let mut config = config_for_proxy(&url_with_credentials(proxy.address));
        config.set_max_attempts(3).unwrap();
        let error = failure_with(&config);
        assert_eq!(
            (error.kind(), error.retryable(), error.http_status(), error.attempts()),
            (ErrorKind::Proxy, may_pass, None, 0), // the service was never asked
            "{reply:?}: {error}"
        );
        assert_eq!(proxy.requests(), if may_pass { 3 } else { 1 }, "{reply:?}");
        assert!(error.message().contains(words), "{reply:?}: {error}");
        // Only a 403 may be due to the User-Agent.
        assert_eq!(error.message().contains("set_user_agent"), reply.contains("403"), "{error}");
        assert_no_credentials(&error);
    }
}

#[test]
fn no_message_shows_credentials_that_a_proxy_echoes() {
    for status in [403, 407, 502, 999] {
        let line = format!(
            "HTTP/1.1 {status} {USER}:{PASSWORD} Basic {ENCODED}\r\nX: {PASSWORD}\r\n\r\n{ENCODED}"
        );
        let error = failure_with(&config_for_proxy(&url_with_credentials(saying(line).address)));
        assert_eq!(error.kind(), ErrorKind::Proxy);
        assert!(error.message().contains(&status.to_string()), "{error}");
        assert_no_credentials(&error);
    }
}

#[test]
fn a_reply_that_is_no_http_is_refused_at_once() {
    let at_once = Duration::ZERO;
    for proxy in [
        // Heads without end.
        endless("HTTP/1.1 200 OK\r\n", "X-Filler: on and on\r\n", at_once),
        endless("HTTP/1.1 200 OK\r\nX: ", "on and on", at_once),
        // An SSH, mail, TLS or SOCKS server sends something, and stays.
        holding(b"SSH-2.0-OpenSSH_9.9\r\n"),
        holding(b"220 mail.example.com ESMTP\r\n"),
        holding(b"\x15\x03\x01\x00\x02\x02\x16"),
        holding(b"\x05\xff"),
    ] {
        let start = Instant::now();
        let error = failure_with(&config_for_proxy(&url_of(&proxy)));
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Proxy, false), "{error}");
        assert!(error.message().contains("not valid HTTP"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2), "{error}");
    }
}

#[test]
fn every_form_of_success_opens_the_tunnel() {
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
        // Any number of 1xx may come before the reply (RFC 9110, 15.2).
        ("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 1000),
    ] {
        let proxy = leading_to(target, reply, piece);
        exchange(&client(&config_through(&sandbox, &url_of(&proxy))), "alice");
    }
}

#[test]
fn what_follows_the_head_belongs_to_the_tunnel() {
    // It is no TLS record. If it were dropped, or taken for a part of the proxy's reply, the call
    // would wait until its deadline.
    let proxy = holding("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    let error = failure_with(&config_for_proxy(&url_of(&proxy)));
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Tls, false), "{error}");
    assert!(error.message().contains("did not answer with TLS"), "{error}");
}

#[test]
fn the_certificate_is_checked_inside_the_tunnel_too() {
    let sandbox = Sandbox::start();
    for name in ["expired", "wrong_host", "untrusted"] {
        let mut config =
            sandbox.single_attempt_config_for(sandbox.url(&format!("tls_faults/{name}")));
        config.set_proxy(sandbox.url("proxy").as_bytes()).unwrap();
        assert_eq!(failure_with(&config).kind(), ErrorKind::Tls, "{name}");
    }
    assert_eq!((sandbox.count("tunnels"), sandbox.count("requests")), (3, 0));
}

#[test]
fn a_proxy_that_cannot_be_reached_is_the_proxys_failure() {
    let unknown = format!("http://{USER}:{PASSWORD}@proxy.shop.invalid:3128");
    for (proxy, words) in
        [(url_with_credentials(dead_address()), "could not be reached"), (unknown, "proxy")]
    {
        let error = failure_with(&config_for_proxy(&proxy));
        assert_eq!(error.kind(), ErrorKind::Proxy, "{error}");
        // "No such host" lasts. No connection, or no name server at all, may pass.
        assert_eq!(error.retryable(), !error.message().contains("no such host"), "{error}");
        assert!(error.message().contains(words), "{error}");
        assert!(!error.message().contains("base URL"), "it has no part in this: {error}");
        assert_no_credentials(&error);
    }
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
        let error = fails_after(words, Duration::from_millis(200), || failure_with(&config));
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Proxy, true), "{error}");
        assert!(error.message().contains(words) && error.message().contains("200 ms"), "{error}");
    }
}

#[test]
fn deadline_cancel_and_close_hold_in_every_phase_of_the_tunnel() {
    let sandbox = Sandbox::start();
    let dripping = endless("HTTP/1.1 200 OK\r\nX: ", "x", Duration::from_millis(20));
    let full = sandbox.url("full").replace("/v3", "");
    let mut behind = sandbox.single_attempt_config_for(sandbox.url("silent_tls"));
    behind.set_proxy(sandbox.url("proxy").as_bytes()).unwrap();
    for (place, mut config) in [
        ("a silent proxy", config_through(&sandbox, sandbox.url("proxy_silent"))),
        ("a full proxy", config_through(&sandbox, &full)),
        ("a dripping proxy", config_through(&sandbox, &url_of(&dripping))),
        ("a silent server behind the proxy", behind),
    ] {
        let pause = Duration::from_millis(150);
        check_cancel(place, &client(&config), "alice", pause);
        check_close(place, &config, "alice", pause);
        config.set_timeout_ms(300).unwrap();
        let error = fails_after(place, Duration::from_millis(300), || failure_with(&config));
        assert_eq!(
            (error.kind(), error.retryable()),
            (ErrorKind::Timeout, true),
            "{place}: {error}"
        );
    }
}

#[test]
fn plain_http_is_never_proxied() {
    let sandbox = Sandbox::start();
    let proxy = saying("HTTP/1.1 403 No\r\n\r\n");
    let mut config = sandbox.config();
    config.set_proxy(url_of(&proxy).as_bytes()).unwrap();
    exchange(&client(&config), "alice");
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::start();
    let mut config = config_through(&sandbox, sandbox.url("proxy"));
    for url in [
        "socks5://canary-proxy-user:canary-proxy-pass@127.0.0.1",
        "SOCKS://127.0.0.1",
        "http://canary-proxy-user:canary-proxy-pass@127.0.0.1:x",
        "http://:3128",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:3128#fragment",
        "http://proxy\r\nX-Injected: 1",
        "http://proxy\u{e9}.example.com",
        // By the rule the / ends the host: read like that, this would be another machine.
        "http://127.0.0.1:3128/@127.0.0.2:3128",
        "http://127.0.0.1:3128?@127.0.0.2:3128",
        "http://127.0.0.1:3128#@127.0.0.2:3128",
    ] {
        let error =
            config.set_proxy(url.as_bytes()).err().unwrap_or_else(|| panic!("{url}: accepted"));
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
        assert!(!error.message().contains("canary"), "{error}");
    }
    exchange(&client(&config), "alice");
    assert_eq!(sandbox.count("tunnels"), 1);
}

// ---- The environment: each case runs in a process of its own.

/// Set in the processes that [`outcome`] starts, and nowhere else.
const CHILD: &str = "SPIKE_AUTH_TEST_PROXY_CHILD";

/// The program of those processes: this test alone, which prints what an exchange comes to. The value
/// of [`CHILD`] is given to `set_proxy` before (`b`) or after (`a`) the environment is read.
#[test]
fn a_process_of_its_own_reads_the_environment() {
    let Ok(explicit) = std::env::var(CHILD) else {
        return;
    };
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
    let (place, error) = match Client::new(&config) {
        Ok(client) => ("", failure(&client, "alice")),
        Err(error) => ("no client, ", error),
    };
    println!("\noutcome: {place}{:?} {error}", error.kind());
}

/// What an exchange with `base_url` comes to where the environment holds these variables and nothing
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
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("outcome: "));
    line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

/// A proxy that its refusal identifies.
fn marked(status: u16) -> Server {
    saying(format!("HTTP/1.1 {status} Marked\r\n\r\n"))
}

#[test]
fn the_first_of_the_four_variables_that_is_not_empty_names_the_proxy() {
    let names =
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY"];
    let proxies: Vec<_> = (441..=446).map(marked).collect();
    let urls: Vec<_> = proxies.iter().map(url_of).collect();
    for first in 0..4 {
        let value = |index: usize| if index < first { "" } else { &*urls[index] };
        let variables: Vec<_> = (0..6).map(|index| (names[index], value(index))).collect();
        // Those before it are empty, or not there.
        for variables in [&variables[..], &variables[first..]] {
            let result = outcome(BASE_URL, "", variables);
            let expected = format!("Proxy The proxy refused with {}", 441 + first);
            assert!(result.starts_with(&expected), "{variables:?}: {result}");
        }
    }
}

#[test]
fn a_proxy_for_http_is_never_used_and_no_proxy_serves_http() {
    let proxy = marked(441);
    let url = url_of(&proxy);
    for (scheme, names) in
        [("https", ["HTTP_PROXY", "http_proxy"]), ("http", ["https_proxy", "all_proxy"])]
    {
        let variables = names.map(|name| (name, &*url));
        let result = outcome(&format!("{scheme}://{}", dead_address()), "", &variables);
        assert!(result.starts_with("Connect"), "{scheme}: {result}");
    }
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn set_proxy_goes_before_the_environment_whichever_came_first() {
    let (found, set) = (marked(441), marked(442));
    let (found_url, set_url) = (url_of(&found), url_of(&set));
    let base_url = format!("https://{}", dead_address());
    for when in ["a", "b"] {
        for found_url in [&*found_url, "socks5h://127.0.0.1:1080"] {
            let variables = [("https_proxy", found_url), ("no_proxy", "")];
            let result = outcome(&base_url, when, &variables);
            assert!(result.starts_with("Connect"), "{when}: {result}");
            // no_proxy makes exceptions from the environment's proxy alone.
            for no_proxy in ["", "*"] {
                let variables = [("https_proxy", found_url), ("no_proxy", no_proxy)];
                let result = outcome(&base_url, &format!("{when}{set_url}"), &variables);
                assert!(result.contains("refused with 442"), "{when}: {result}");
            }
        }
    }
    assert_eq!(found.connections(), 0);
}

#[test]
fn no_proxy_makes_exceptions_and_its_lower_case_goes_first() {
    let proxy = marked(441);
    let url = url_of(&proxy);
    let dead = dead_address();
    let ip = format!("https://{dead}");
    let nested = "https://a.b.shop.invalid";
    for (lower, upper, base_url, excepted) in [
        ("*", "", &*ip, true),
        ("", " * ", &ip, true),
        ("x.invalid, 127.0.0.1 ,y.invalid", "", &ip, true),
        ("", "127.0.0.1", &ip, true),
        ("127.0.0.1", "x.invalid", &ip, true),
        ("x.invalid", "127.0.0.1", &ip, false),
        ("localhost", "", &ip, false),
        (&dead.to_string(), "", &ip, true),
        (" , ,", "", &ip, false),
        ("b.shop.invalid", "", nested, true),
        ("a.b.shop.invalid.com", "", nested, false),
    ] {
        let variables = [("https_proxy", &*url), ("no_proxy", lower), ("NO_PROXY", upper)];
        let result = outcome(base_url, "", &variables);
        let proxied = result.starts_with("Proxy The proxy refused with 441");
        assert_eq!(!proxied, excepted, "{variables:?} {base_url}: {result}");
    }
}

#[test]
fn a_bad_proxy_in_the_environment_makes_no_client_only_where_it_would_be_used() {
    let ip = format!("https://{}", dead_address());
    let other = marked(441);
    let other_url = url_of(&other);
    let bad = ("all_proxy", "socks5h://canary-user:canary-pass@127.0.0.1:1080");
    for (more, expected) in [
        (("no_proxy", ""), "no client, InvalidEnvironment"),
        (("no_proxy", "other.invalid"), "no client, InvalidEnvironment"),
        (("HTTPS_PROXY", "ftp://127.0.0.1"), "no client, InvalidEnvironment"),
        (("no_proxy", "*"), "Connect"),
        (("https_proxy", &*other_url), "Proxy The proxy refused with 441"),
    ] {
        let result = outcome(&ip, "", &[bad, more]);
        assert!(result.starts_with(expected) && !result.contains("canary"), "{more:?}: {result}");
    }
}
