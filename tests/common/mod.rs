//! What the integration tests share: a sandbox per test, a scripted server, clients, and time limits.

#![allow(dead_code, unreachable_pub)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod allocator;
pub mod server;
pub mod store;
pub mod timing;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use spike_auth::{Call, Client, Config, Error};

pub const KEY: &str = "HMAC_KEY_FROM_ADMIN_CONSOLE";
pub const APPLICATION_ID: &str = "9999";
/// How the second credential in a good reply begins.
pub const SECOND_CREDENTIAL: &str = "compat-canary-";

/// A running sandbox. It ends when this is dropped.
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

    /// A configuration for the sandbox at `url`, complete.
    pub fn config_for(&self, url: &str) -> Config {
        server::config_for(url, Some(&std::fs::read_to_string(self.url("ca_file")).unwrap()))
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
        client(&self.config())
    }

    pub fn counters(&self) -> Value {
        self.control("counters")
    }

    pub fn count(&self, name: &str) -> u64 {
        self.counters()[name].as_u64().unwrap()
    }

    /// The last exchange as it was on the wire.
    pub fn last(&self) -> Value {
        self.control("last")
    }

    fn control(&self, path: &str) -> Value {
        let base = self.url("control").strip_prefix("http://").unwrap();
        let (host, prefix) = base.split_once('/').unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "GET /{prefix}/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let body = reply.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or(Value::Null)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // No SIGKILL: the sandbox removes its temporary directory.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// Cargo puts the workspace's binaries in the parent of the test binaries' folder.
fn binary() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("spike-auth-sandbox")
}

/// The user of a token, from its claims: base64url of {"iss":…,"sub":…}.
pub fn subject(token: &[u8]) -> String {
    let token = std::str::from_utf8(token).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

/// A file of `tests/vectors`.
pub fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn client(config: &Config) -> Client {
    Client::new(config).unwrap()
}

/// Exchanges for `user`, and must receive that user's own token.
pub fn exchange(client: &Client, user: &str) {
    let token =
        client.exchange(user.as_bytes(), None).unwrap_or_else(|error| panic!("{user}: {error:?}"));
    assert_eq!(subject(token.as_bytes()), user);
}

/// Exchanges for `user`, and must fail.
pub fn failure(client: &Client, user: &str) -> Error {
    client.exchange(user.as_bytes(), None).err().unwrap_or_else(|| panic!("{user}: a token"))
}

pub fn call_with_timeout(ms: u32) -> Call {
    let call = Call::new();
    call.set_timeout_ms(ms).unwrap();
    call
}

/// Runs `work` on `count` threads at once.
pub fn on_threads(count: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(&work);
        }
    });
}

/// xorshift64: good enough, and repeatable.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: usize) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ (seed as u64 + 1))
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
