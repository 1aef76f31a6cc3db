//! A sandbox of a test's own, and clients that talk to it.

#![allow(dead_code, unreachable_pub)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod server;
pub mod timing;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use spike_auth::{Client, Config, TlsRoots};

pub const KEY: &str = "HMAC_KEY_FROM_ADMIN_CONSOLE";
pub const APPLICATION_ID: &str = "9999";
/// What the second credential in a good reply begins with.
pub const SECOND_CREDENTIAL: &str = "compat-canary-";

/// A running sandbox; it ends when this is dropped.
pub struct Sandbox {
    child: Child,
    pub addresses: Value,
}

impl Sandbox {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(args: &[&str]) -> Self {
        let path = binary();
        let mut child =
            Command::new(&path).args(args).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
                panic!("{}: {error}. Build it with `cargo build --workspace`.", path.display())
            });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, addresses: serde_json::from_str(&line).unwrap() }
    }

    /// One of the addresses of the ready line, such as "http" or "tls_faults/expired".
    pub fn url(&self, name: &str) -> &str {
        self.addresses.pointer(&format!("/{name}")).and_then(Value::as_str).unwrap()
    }

    pub fn ca_pem(&self) -> Vec<u8> {
        std::fs::read(self.url("ca_file")).unwrap()
    }

    /// A configuration for the sandbox at `url`, complete.
    pub fn config_for(&self, url: &str) -> Config {
        let mut config = Config::new().unwrap();
        config.set_application_id(APPLICATION_ID.as_bytes()).unwrap();
        config.set_hmac_key(KEY.as_bytes()).unwrap();
        config.set_base_url(url.as_bytes()).unwrap();
        config.set_ca_pem(&self.ca_pem()).unwrap();
        config.set_tls_roots(TlsRoots::None);
        config
    }

    pub fn config(&self) -> Config {
        self.config_for(self.url("http"))
    }

    /// One attempt per call, so that every request can be accounted for.
    pub fn single_attempt_config_for(&self, url: &str) -> Config {
        let mut config = self.config_for(url);
        config.set_max_attempts(1).unwrap();
        config
    }

    pub fn client(&self) -> Client {
        Client::new(&self.config()).unwrap()
    }

    pub fn counters(&self) -> Value {
        self.control("GET", "counters")
    }

    pub fn count(&self, name: &str) -> u64 {
        self.counters()[name].as_u64().unwrap()
    }

    /// The last exchange as it was on the wire.
    pub fn last(&self) -> Value {
        self.control("GET", "last")
    }

    /// The last request to a proxy.
    pub fn last_connect(&self) -> Value {
        self.control("GET", "last-connect")
    }

    fn control(&self, method: &str, path: &str) -> Value {
        let base = self.url("control").strip_prefix("http://").unwrap();
        let (host, prefix) = base.split_once('/').unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "{method} /{prefix}/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let body = reply.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or(Value::Null)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Not a SIGKILL: it has a temporary directory to remove.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// Cargo leaves the binaries of the workspace beside the folder of the test binaries.
fn binary() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("spike-auth-sandbox")
}

/// The user of a token, as its claims name it: base64url of {"iss":…,"sub":…}.
pub fn subject(token: &[u8]) -> String {
    let token = std::str::from_utf8(token).unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let json: Value = serde_json::from_slice(&decode_base64url(claims)).unwrap();
    json["sub"].as_str().unwrap().to_owned()
}

fn decode_base64url(text: &str) -> Vec<u8> {
    let value = |byte| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.bytes() {
        bits = bits << 6 | u32::from(value(byte));
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
