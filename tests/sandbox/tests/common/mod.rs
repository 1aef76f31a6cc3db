//! Starts a sandbox and talks to it in bytes, so that the tests see the wire.
#![allow(dead_code)] // each test file uses a part of it

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::Sha256;

pub const KEY: &str = "HMAC_KEY_FROM_ADMIN_CONSOLE";
const PROGRAM: &str = env!("CARGO_BIN_EXE_spike-auth-sandbox");

pub struct Sandbox {
    pub child: Child,
    pub ready: Value,
}

impl Sandbox {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = program(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let ready = ready_line(&mut child);
        Self { child, ready }
    }

    pub fn text(&self, member: &str) -> &str {
        self.ready[member].as_str().unwrap()
    }

    pub fn address(&self, member: &str) -> SocketAddr {
        address(self.text(member))
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address("http"))
    }

    /// One good request on a connection of its own, and all that comes back.
    pub fn ask(&self, user: &str) -> Reply {
        let mut client = self.connect();
        client.send(&good_request(user));
        client.read_all(Duration::from_millis(400))
    }

    pub fn control(&self, method: &str, name: &str, body: &str) -> (u16, Value) {
        let mut client = self.connect();
        client.send(&request(method, &format!("/_sandbox/{name}"), "", body));
        let reply = client.read_one();
        (reply.status(), serde_json::from_str(reply.body()).unwrap())
    }

    pub fn counters(&self) -> Value {
        self.control("GET", "counters", "").1
    }

    pub fn last(&self) -> Value {
        self.control("GET", "last", "").1
    }

    pub fn set_faults(&self, user: Option<&str>, spec: &str) {
        let body = json!({"user": user, "spec": spec}).to_string();
        assert_eq!(self.control("POST", "faults", &body).0, 200);
    }
}

impl Drop for Sandbox {
    /// No SIGKILL: the sandbox removes its directory.
    fn drop(&mut self) {
        // A test may have ended it, and its id may belong to another process by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null());
    command
}

pub fn ready_line(child: &mut Child) -> Value {
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// The socket behind a URL of the ready line.
pub fn address(url: &str) -> SocketAddr {
    let authority = url.split('/').nth(2).unwrap();
    authority.replace("localhost", "127.0.0.1").parse().unwrap()
}

pub fn sign(user: &str) -> String {
    let hash = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    hex::encode(hash.chain_update(user).finalize().into_bytes())
}

pub fn good_body(user: &str) -> String {
    json!({"application_id": 9999, "application_user_id": user, "signature": sign(user)})
        .to_string()
}

pub fn good_request(user: &str) -> String {
    post(&good_body(user))
}

pub fn post(body: &str) -> String {
    request("POST", "/v3/auth/hmac", "Content-Type: application/json\r\n", body)
}

pub fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: sandbox\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// How the connection was when the client stopped reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Open,
    Closed,
    Reset,
}

#[derive(Debug)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub text: String,
    pub end: End,
    pub took: Duration,
}

impl Reply {
    pub fn status(&self) -> u16 {
        let code = self.text.split(' ').nth(1).unwrap_or_default();
        code.parse().unwrap_or_else(|_| panic!("no status in {:?}", self.text))
    }

    pub fn head(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or(&self.text, |(head, _)| head)
    }

    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head().lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers(name)
            .first()
            .copied()
            .unwrap_or_else(|| panic!("no {name} in {}", self.head()))
    }

    pub fn token(&self) -> String {
        self.json()["access_token"].as_str().unwrap_or_default().to_owned()
    }
}

/// A client that knows of HTTP only where a reply with a length ends.
pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until the end, until nothing comes for `patience`, or until a megabyte.
    pub fn read_all(&mut self, patience: Duration) -> Reply {
        self.read_while(patience, |bytes| bytes.len() < 1_000_000)
    }

    /// Reads one reply that has a Content-Length.
    pub fn read_one(&mut self) -> Reply {
        self.read_while(Duration::from_secs(10), |bytes| !is_whole(bytes))
    }

    pub fn exchange(&mut self, user: &str) -> Reply {
        self.send(&good_request(user));
        self.read_one()
    }

    fn read_while(&mut self, patience: Duration, wants_more: impl Fn(&[u8]) -> bool) -> Reply {
        let began = Instant::now();
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = Vec::new();
        let mut end = End::Open;
        let mut buffer = [0; 65_536];
        while end == End::Open && wants_more(&bytes) {
            match self.0.read(&mut buffer) {
                Ok(0) => end = End::Closed,
                Ok(length) => bytes.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => end = End::Reset,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Reply { bytes, text, end, took: began.elapsed() }
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.is_some_and(|length| body.len() >= length.trim().parse().unwrap_or(0))
}
