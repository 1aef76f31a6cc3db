//! What is counted and recorded for tests.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hyper::{HeaderMap, Method, Uri};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub connections: AtomicU64,
    pub tunnels: AtomicU64,
    pub proxy_requests: AtomicU64,
    pub followed_redirects: AtomicU64,
    pub tokens: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    users: Mutex<BTreeMap<String, u64>>,
    last: Mutex<Option<Seen>>,
    last_connect: Mutex<Option<Value>>,
}

/// The last exchange request as received. Parsed only on demand.
#[derive(Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The bytes of the connection since the request before.
    pub raw: Vec<u8>,
    pub https: bool,
    pub connection: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    requests: u64,
    connections: u64,
    tunnels: u64,
    proxy_requests: u64,
    followed_redirects: u64,
    in_flight: u64,
    max_in_flight: u64,
    tokens: u64,
    users: &'a BTreeMap<String, u64>,
}

/// Counts one request as in flight until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Counters>);

impl InFlight {
    pub fn begin(counters: &Arc<Counters>) -> Self {
        let now = counters.in_flight.fetch_add(1, Relaxed) + 1;
        counters.max_in_flight.fetch_max(now, Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Counters {
    pub fn count_user(&self, user: &str) {
        let mut users = lock(&self.users);
        match users.get_mut(user) {
            Some(count) => *count += 1,
            None => {
                users.insert(user.to_owned(), 1);
            }
        }
    }

    pub fn record(&self, seen: Seen) {
        *lock(&self.last) = Some(seen);
    }

    pub fn record_connect(&self, target: String, headers: &HeaderMap) {
        *lock(&self.last_connect) =
            Some(json!({"target": target, "headers": header_pairs(headers)}));
    }

    pub fn report(&self) -> Vec<u8> {
        let users = lock(&self.users);
        let report = Report {
            requests: self.requests.load(Relaxed),
            connections: self.connections.load(Relaxed),
            tunnels: self.tunnels.load(Relaxed),
            proxy_requests: self.proxy_requests.load(Relaxed),
            followed_redirects: self.followed_redirects.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            max_in_flight: self.max_in_flight.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            users: &users,
        };
        serde_json::to_vec(&report).unwrap_or_default()
    }

    pub fn last(&self) -> Value {
        lock(&self.last).as_ref().map_or(Value::Null, Seen::describe)
    }

    pub fn last_connect(&self) -> Value {
        lock(&self.last_connect).clone().unwrap_or(Value::Null)
    }

    /// Sets everything to zero except what is in flight now.
    pub fn reset(&self) {
        let sums = [
            &self.requests,
            &self.connections,
            &self.tunnels,
            &self.proxy_requests,
            &self.followed_redirects,
            &self.tokens,
        ];
        for sum in sums {
            sum.store(0, Relaxed);
        }
        self.max_in_flight.store(self.in_flight.load(Relaxed), Relaxed);
        lock(&self.users).clear();
        *lock(&self.last) = None;
        *lock(&self.last_connect) = None;
    }
}

impl Seen {
    fn describe(&self) -> Value {
        json!({
            "method": self.method.as_str(),
            "path": self.uri.path_and_query().map_or("", |path| path.as_str()),
            "headers": raw_headers(&self.raw).unwrap_or_else(|| header_pairs(&self.headers)),
            "body": String::from_utf8_lossy(&self.body),
            "https": self.https,
            "connection": self.connection,
        })
    }
}

/// The headers with their spelling and order; `None` if a pipelined request hid them.
fn raw_headers(raw: &[u8]) -> Option<Vec<[String; 2]>> {
    let text = String::from_utf8_lossy(raw);
    let (head, _) = text.split_once("\r\n\r\n")?;
    head.split("\r\n").skip(1).map(raw_header).collect()
}

fn raw_header(line: &str) -> Option<[String; 2]> {
    let (name, value) = line.split_once(':')?;
    Some([name.to_owned(), value.trim().to_owned()])
}

fn header_pairs(headers: &HeaderMap) -> Vec<[String; 2]> {
    let pair = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()]
    };
    headers.iter().map(pair).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
