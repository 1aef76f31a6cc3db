//! HTTPS, certificates that must be refused, listeners that never answer, and proxies.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use common::{Client, End, Sandbox, address, good_request};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn tls(sandbox: &Sandbox, name: &'static str, stream: TcpStream) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(sandbox.text("ca_file")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap());
    StreamOwned::new(connection.unwrap(), stream)
}

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(address(url)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn ask(stream: &mut Tls, user: &str) -> (String, std::io::Result<usize>) {
    stream.write_all(good_request(user).as_bytes()).unwrap();
    let mut text = Vec::new();
    let end = stream.read_to_end(&mut text);
    (String::from_utf8(text).unwrap(), end)
}

#[test]
fn https_serves_under_each_of_its_names() {
    let sandbox = Sandbox::start(&[]);
    for name in ["localhost", "127.0.0.1", "::1"] {
        let mut stream = tls(&sandbox, name, connect(sandbox.text("https")));
        let (text, end) = ask(&mut stream, "fault.close-delimited");
        assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("access_token"), "{text}");
        end.unwrap();
    }
    assert_eq!(sandbox.last()["https"], true);
}

#[test]
fn one_port_speaks_tls_1_2_only() {
    let sandbox = Sandbox::start(&[]);
    let mut stream = tls(&sandbox, "localhost", connect(sandbox.text("tls12")));
    ask(&mut stream, "fault.close-delimited").1.unwrap();
    assert_eq!(stream.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
}

#[test]
fn an_abrupt_end_has_no_close_notify() {
    let sandbox = Sandbox::start(&[]);
    for fault in ["close-delimited-abrupt", "close-mid-body", "close-before"] {
        let mut stream = tls(&sandbox, "localhost", connect(sandbox.text("https")));
        let (_, end) = ask(&mut stream, &format!("fault.{fault}"));
        assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof, "{fault}");
    }
    let mut stream = tls(&sandbox, "localhost", connect(sandbox.text("https")));
    assert_eq!(
        ask(&mut stream, "fault.reset-mid").1.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn each_bad_certificate_is_refused_for_its_own_reason() {
    let sandbox = Sandbox::start(&[]);
    let refusal = |kind: &str| {
        let url = sandbox.ready["tls_faults"][kind].as_str().unwrap();
        let mut stream = tls(&sandbox, "localhost", connect(url));
        stream.write_all(b"x").unwrap_err().to_string()
    };
    for (kind, reason) in [
        ("expired", "expired"),
        ("not_yet_valid", "not valid yet"),
        ("wrong_host", "not valid for name"),
        ("self_signed", "UnknownIssuer"),
        ("untrusted", "UnknownIssuer"),
    ] {
        let message = refusal(kind);
        assert!(message.contains(reason), "{kind}: {message}");
    }
    assert_eq!(sandbox.counters()["connections"], 0);
}

#[test]
fn the_listeners_without_an_answer_stay_silent_or_end_the_connection() {
    let sandbox = Sandbox::start(&[]);
    let end = |member| {
        let mut client = Client::connect(sandbox.address(member));
        let _ = client.0.write_all(b"hello");
        let reply = client.read_all(Duration::from_millis(200));
        assert!(reply.bytes.is_empty());
        reply.end
    };
    for member in ["silent", "silent_tls", "proxy_silent"] {
        assert_eq!(end(member), End::Open, "{member}");
    }
    assert_eq!(end("cut_handshake"), End::Closed);
    assert_eq!(reset(&sandbox), ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(sandbox.address("refused"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn reset(sandbox: &Sandbox) -> ErrorKind {
    let mut stream = connect(sandbox.text("reset"));
    stream.read(&mut [0]).unwrap_err().kind()
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_queue_neither_accepts_nor_refuses() {
    let sandbox = Sandbox::start(&[]);
    let outcome = TcpStream::connect_timeout(&sandbox.address("full"), Duration::from_millis(300));
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_thousand_connections_are_served_at_once() {
    let connections = (allowed_files() - 64).min(1000);
    let sandbox = Sandbox::start(&[]);
    let mut clients: Vec<_> = (0..connections).map(|_| sandbox.connect()).collect();
    for client in &mut clients {
        client.send(&good_request("alice"));
    }
    assert!(clients.iter_mut().all(|client| client.read_one().status() == 200));
    assert_eq!(sandbox.counters()["connections"], connections);
}

/// The sandbox raises its limit in the same way.
fn allowed_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

fn connect_request(target: &str, headers: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{headers}\r\n")
}

/// The status of a CONNECT.
fn proxy_status(sandbox: &Sandbox, member: &str, target: &str, headers: &str) -> (Client, u16) {
    let mut client = Client::connect(sandbox.address(member));
    client.send(&connect_request(target, headers));
    let status = client.read_all(Duration::from_millis(200)).status();
    (client, status)
}

#[test]
fn the_proxy_leads_to_the_endpoint() {
    let sandbox = Sandbox::start(&[]);
    let target = sandbox.address("https").to_string();
    let (client, status) = proxy_status(&sandbox, "proxy", &target, "X-Seen: yes\r\n");
    assert_eq!(status, 200);
    let (text, _) = ask(&mut tls(&sandbox, "localhost", client.0), "fault.close-delimited");
    assert!(text.contains("access_token"), "{text}");
    let counters = sandbox.counters();
    assert_eq!(
        [&counters["tunnels"], &counters["proxy_requests"], &counters["requests"]],
        [1, 1, 1]
    );
    let (_, connect) = sandbox.control("GET", "last-connect", "");
    assert_eq!(connect["target"], target);
    assert!(connect["headers"].to_string().contains("x-seen"));
}

#[test]
fn the_proxies_refuse_what_they_should() {
    let sandbox = Sandbox::start(&[]);
    let target = sandbox.address("https").to_string();
    let status = |member, target: &str, headers| proxy_status(&sandbox, member, target, headers).1;
    assert_eq!(status("proxy", "example.com:443", ""), 403);
    assert_eq!(status("proxy_refusing", &target, ""), 403);
    assert_eq!(status("proxy_auth", &target, ""), 407);
    assert_eq!(status("proxy_auth", &target, "Proxy-Authorization: Basic bm9wZTpub3Bl\r\n"), 407);
    let refused = sandbox.address("refused").to_string();
    assert_eq!(status("proxy", &refused, ""), 502);
    assert_eq!(sandbox.counters()["tunnels"], 0);
    let right = "Proxy-Authorization: Basic cHJveHktdXNlcjpwcm94eS1wYXNz\r\n";
    assert_eq!(status("proxy_auth", &target, right), 200);
    assert_eq!(sandbox.counters()["tunnels"], 1);
}
