//! A scripted server: it does to each request what the test says, to the byte and the millisecond.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

/// One request as it came.
pub struct Incoming {
    /// The number of its connection, from 0.
    pub connection: u64,
    /// Its number on that connection, from 0.
    pub number: u64,
    pub body: String,
}

impl Incoming {
    pub fn user(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["application_user_id"].as_str().unwrap().to_owned()
    }
}

/// What becomes of a request.
pub enum Outcome {
    /// These bytes; the connection is kept.
    Reply(Vec<u8>),
    /// These bytes, then an end of the connection after this time.
    ReplyThenClose(Vec<u8>, Duration),
    /// An end of the connection.
    Close,
    /// A reset of the connection.
    Reset,
}

/// A whole reply.
pub fn reply(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The reply with a token.
pub fn token() -> Vec<u8> {
    reply(200, r#"{"access_token":"a-token"}"#)
}

/// Accepts until it is dropped. Connections end with their clients.
pub struct Server {
    pub address: SocketAddr,
    is_tls: bool,
    over: Arc<AtomicBool>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    connections: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    last_head: Mutex<String>,
}

impl Server {
    pub fn start(answer: impl Fn(&Incoming) -> Outcome + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer)
    }

    pub fn start_with(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Incoming) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self::listen(tls.is_some(), move |stream, connection, counts| {
            let socket = stream.try_clone().unwrap();
            match &tls {
                None => serve(stream, &socket, connection, counts, &answer),
                Some(config) => {
                    let tls = ServerConnection::new(Arc::clone(config)).unwrap();
                    serve(StreamOwned::new(tls, stream), &socket, connection, counts, &answer);
                }
            }
        })
    }

    /// Gives each connection to `handle`, for what is no answer to a request.
    pub fn accepting(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::listen(false, move |stream, _, _| handle(stream))
    }

    fn listen(
        is_tls: bool,
        serve: impl Fn(TcpStream, u64, &Counts) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, is_tls, over: Arc::default(), counts: Arc::default() };
        let (over, counts) = (Arc::clone(&server.over), Arc::clone(&server.counts));
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                stream.set_nodelay(true).unwrap();
                let connection = counts.connections.fetch_add(1, Ordering::SeqCst);
                let (serve, counts) = (Arc::clone(&serve), Arc::clone(&counts));
                std::thread::spawn(move || serve(stream, connection, &counts));
            }
        });
        server
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}/v3", self.address)
    }

    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// The most requests that were being answered at the same time.
    pub fn max_in_flight(&self) -> u64 {
        self.counts.max_in_flight.load(Ordering::SeqCst)
    }

    /// The last request up to its body.
    pub fn last_head(&self) -> String {
        self.counts.last_head.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes the thread that accepts
    }
}

fn serve<S: Read + Write>(
    mut stream: S,
    socket: &TcpStream,
    connection: u64,
    counts: &Counts,
    answer: &impl Fn(&Incoming) -> Outcome,
) {
    let mut number = 0;
    while let Some((head, body)) = read_request(&mut stream) {
        *counts.last_head.lock().unwrap() = head;
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let in_flight = counts.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        counts.max_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let outcome = answer(&Incoming { connection, number, body });
        number += 1;
        // Before the reply goes out: the client may send the next request at once.
        counts.in_flight.fetch_sub(1, Ordering::SeqCst);
        match outcome {
            Outcome::Reply(bytes) => {
                if stream.write_all(&bytes).and_then(|()| stream.flush()).is_err() {
                    break;
                }
            }
            Outcome::ReplyThenClose(bytes, after) => {
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
                std::thread::sleep(after);
                break;
            }
            Outcome::Close => break,
            Outcome::Reset => {
                // Closing it now sends a reset.
                SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
                break;
            }
        }
    }
}

/// Head and body of the next request; `None` at the end of the connection.
pub fn read_request(stream: &mut impl Read) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_ascii_lowercase()
                .split_once("content-length: ")
                .and_then(|(_, rest)| rest.lines().next().map(str::to_owned))
                .map_or(0, |value| value.trim().parse().unwrap());
            if body.len() >= length {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&part[..count]),
            _ => return None,
        }
    }
}

/// A certificate for these names that is its own authority, and its key, both as PEM.
pub fn certificate_for(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A certificate for these names that is its own authority, and its PEM.
pub fn tls_for(names: &[&str]) -> (Arc<ServerConfig>, String) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), cert.pem())
}

/// A configuration for the server at `url`, complete.
pub fn config_for(url: &str, ca_pem: Option<&str>) -> spike_auth::Config {
    let mut config = spike_auth::Config::new().unwrap();
    config.set_application_id(super::APPLICATION_ID.as_bytes()).unwrap();
    config.set_hmac_key(super::KEY.as_bytes()).unwrap();
    config.set_base_url(url.as_bytes()).unwrap();
    if let Some(pem) = ca_pem {
        config.set_ca_pem(pem.as_bytes()).unwrap();
        config.set_tls_roots(spike_auth::TlsRoots::None);
    }
    config
}
