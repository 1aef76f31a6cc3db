//! Tokens in a store that processes share. Two clients of one process share nothing but the store, as two
//! processes do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod cluster;
mod failing;
mod leases;
mod sharing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::server::{Outcome, Server, config_for, reply};
use common::store::{Memory, Redis, scripted, url_of};
use spike_auth::{Call, Client, Config, Error, ErrorKind, Stats};

const USER: &str = "alice";
/// How far a call may be late on a busy machine.
const GRACE: Duration = Duration::from_millis(400);
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A service with another token for each request, after `delay`.
fn service(delay: Duration) -> Server {
    let count = AtomicU64::new(0);
    Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(delay);
        Outcome::Reply(reply(200, &format!(r#"{{"access_token":"token-{number}"}}"#)))
    })
}

fn config(service: &Server, store: &str) -> Config {
    let mut config = config_for(&service.url(), None);
    config.set_store(store.as_bytes()).unwrap();
    config
}

fn client(service: &Server, store: &str) -> Client {
    Client::new(&config(service, store)).unwrap()
}

fn get(client: &Client) -> String {
    get_by(client, None).unwrap()
}

fn get_by(client: &Client, call: Option<&Call>) -> Result<String, Error> {
    let token = client.get_token(USER.as_bytes(), call)?;
    Ok(String::from_utf8(token.as_bytes().to_vec()).unwrap())
}

fn stats(client: &Client) -> Stats {
    client.stats().unwrap()
}

fn call_with_timeout(ms: u32) -> Call {
    let call = Call::new();
    call.set_timeout_ms(ms).unwrap();
    call
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The name of the one record in a server.
fn only_key(redis: &Redis) -> String {
    let reply = redis.run(&[b"KEYS", b"*"]);
    let lines: Vec<_> = reply.lines().collect();
    assert_eq!(lines.len(), 3, "{reply}");
    assert!(lines[2].starts_with("spike_auth:1:"), "{reply}");
    lines[2].to_owned()
}
