//! Stores: a real server, one in memory, and one that answers as a test says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::server::Server;

type Arguments = Vec<Vec<u8>>;

/// A redis-server of its own on a Unix socket, stopped when this is dropped.
pub struct Redis {
    child: Child,
    folder: PathBuf,
}

impl Redis {
    /// `None`, with a message, where there is no redis-server. With the variable CI that is a failure.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("spike_auth-redis-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let started = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "r.sock"])
            .args(arguments)
            .current_dir(&folder)
            .stdout(Stdio::null())
            .spawn();
        let child = match started {
            Ok(child) => child,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&folder);
                assert!(std::env::var_os("CI").is_none(), "redis-server: {error}");
                eprintln!(
                    "SKIPPED: redis-server: {error}. Install it (apt-get install redis-server)."
                );
                return None;
            }
        };
        let this = Self { child, folder };
        let start = Instant::now();
        while UnixStream::connect(this.socket()).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(this)
    }

    /// One that also listens on a port, with TLS or without. Returns the port, and for TLS the certificate.
    pub fn start_on_a_port(tls: bool) -> Option<(Self, u16, String)> {
        let (certificate, key) = super::server::certificate_for(&["localhost"]);
        let folder = std::env::temp_dir().join(format!("spike_auth-tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        std::fs::write(path("cert"), &certificate).unwrap();
        std::fs::write(path("key"), &key).unwrap();
        // The port may be taken meanwhile: then the server ends, and the test fails.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = free.local_addr().unwrap().port();
        drop(free);
        let port = number.to_string();
        let this = if tls {
            let (certificate, key) = (path("cert"), path("key"));
            let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
            let more = ["--tls-port", &port, "--tls-auth-clients", "no"];
            Self::start(&[&files[..], &more].concat())
        } else {
            Self::start(&["--port", &port])
        };
        let _ = std::fs::remove_dir_all(&folder);
        this.map(|this| (this, number, certificate))
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("r.sock")
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// One command, without a login. Returns the reply as it came.
    pub fn run(&self, arguments: &[&[u8]]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(&packed(arguments)).unwrap();
        let mut reply = vec![0; 65536];
        let count = stream.read(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[..count]).into_owned()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn packed(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The next command on a connection.
pub fn read_command(stream: &mut impl BufRead) -> Option<Arguments> {
    let mut number = |kind: char| {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        line.trim_end().strip_prefix(kind)?.parse::<usize>().ok()
    };
    let count = number('*')?;
    let mut arguments = Vec::new();
    for _ in 0..count {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let length: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut argument = vec![0; length + 2];
        stream.read_exact(&mut argument).ok()?;
        argument.truncate(length);
        arguments.push(argument);
    }
    Some(arguments)
}

/// Answers each command with the bytes that `answer` returns, and ends the connection at `None`.
pub fn scripted(
    answer: impl Fn(&[Vec<u8>], &mut TcpStream) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Server {
    Server::accepting(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(command) = read_command(&mut reader) {
            let Some(reply) = answer(&command, &mut stream) else { return };
            if stream.write_all(&reply).is_err() {
                return;
            }
        }
    })
}

pub fn url_of(server: &Server) -> String {
    format!("redis://{}", server.address)
}

/// A store in memory that knows the commands of this library. Nothing in it expires by itself.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>);

impl Memory {
    pub fn start(&self) -> Server {
        let this = self.clone();
        scripted(move |command, _| Some(this.answer(command)))
    }

    pub fn answer(&self, command: &[Vec<u8>]) -> Vec<u8> {
        let mut records = self.0.lock().unwrap();
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let done = |is_done: bool| format!(":{}\r\n", u8::from(is_done)).into_bytes();
        match words[..] {
            [b"GET", key] => match records.get(key) {
                None => b"$-1\r\n".to_vec(),
                Some(value) => {
                    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
                }
            },
            [b"PTTL", key] if records.contains_key(key) => b":60000\r\n".to_vec(),
            [b"PTTL", _] => b":-2\r\n".to_vec(),
            [b"SET", key, value, b"NX", b"PX", b"5000"] => match records.contains_key(key) {
                true => b"$-1\r\n".to_vec(),
                false => {
                    records.insert(key.to_vec(), value.to_vec());
                    b"+OK\r\n".to_vec()
                }
            },
            [b"EVAL", _, b"1", key, expected, new, _] => {
                let found = records.get(key);
                let swaps = found.map_or(!new.is_empty(), |found| found == expected);
                match (swaps, new) {
                    (true, []) => drop(records.remove(key)),
                    (true, new) => drop(records.insert(key.to_vec(), new.to_vec())),
                    (false, _) => {}
                }
                done(swaps)
            }
            [b"DEL", key] => done(records.remove(key).is_some()),
            _ => b"-ERR unknown command\r\n".to_vec(),
        }
    }

    /// The one record.
    pub fn record(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap().values().next().cloned()
    }

    /// Replaces the one record.
    pub fn set_record(&self, value: &[u8]) {
        self.0.lock().unwrap().values_mut().for_each(|record| *record = value.to_vec());
    }
}
