//! How much memory the token cache takes: its own figures against the allocator's. The bounds under load
//! are unit tests of `src/cache`; what the cache does with a token is in `tests/cache`.

#![allow(unsafe_code)] // an allocator that counts
#![cfg(all(target_os = "linux", target_env = "gnu"))] // glibc knows the sizes of its pieces
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::cell::Cell;
use std::time::{Duration, Instant};

use common::allocator::Counting;
use common::server::{Outcome, Server, config_for, reply};
use spike_auth::{Client, ErrorKind, Stats, TOKEN_MAX};

/// The length of the token in the service's documents.
const USUAL: usize = 143;
/// Buffers of the connection, and maps whose size varies.
const SLACK: isize = 16 * 1024;

// ---- the allocator

thread_local! {
    /// What this thread holds, so that tests and servers do not count each other's. A call and an
    /// eviction work in the caller's thread alone.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// A piece costs its usable size, and the word that glibc keeps before it.
fn count(piece: *mut u8, _: usize, sign: isize) {
    if piece.is_null() {
        return;
    }
    // SAFETY: the piece is the allocator's, and is not freed yet.
    let size = unsafe { libc::malloc_usable_size(piece.cast()) } + size_of::<usize>();
    // A thread that is about to end counts no more.
    let _ = HELD.try_with(|held| held.set(held.get() + sign * size as isize));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

fn held() -> isize {
    HELD.get()
}

// ---- a server and its clients

/// A user whose token has this length.
fn user(number: usize, len: usize) -> String {
    format!("user-{number:07}-of-{len:04}")
}

fn token_of(user: &str) -> String {
    let len: usize = user.rsplit_once('-').unwrap().1.parse().unwrap();
    format!("{user}.").chars().cycle().take(len).collect()
}

fn server() -> Server {
    Server::start(|incoming| {
        let token = token_of(&incoming.user());
        Outcome::Reply(reply(200, &format!(r#"{{"access_token":"{token}"}}"#)))
    })
}

fn client(server: &Server, entries: u32, bytes: u64) -> Client {
    let mut config = config_for(&server.url(), None);
    config.set_cache_capacity(entries);
    config.set_cache_max_bytes(bytes);
    Client::new(&config).unwrap()
}

fn get(client: &Client, user: &str) {
    let token = client.get_token(user.as_bytes(), None).unwrap();
    assert!(token.as_bytes() == token_of(user).as_bytes(), "{user}");
}

fn is_kept(client: &Client, user: &str) -> bool {
    match client.peek_token(user.as_bytes()) {
        Ok(token) => {
            assert!(token.as_bytes() == token_of(user).as_bytes(), "{user}");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotCached);
            false
        }
    }
}

fn stats(client: &Client) -> Stats {
    client.stats().unwrap()
}

/// What this thread holds when the client has a connection and an empty cache.
fn held_by_an_empty(client: &Client) -> isize {
    get(client, &user(9_999_999, TOKEN_MAX));
    client.clear().unwrap();
    held()
}

/// Every length that a token may have, equally often.
fn some_length(number: usize) -> usize {
    1 + number * 7919 % TOKEN_MAX
}

// ---- the bounds

#[test]
fn a_token_is_kept_if_the_bound_is_its_weight_or_more() {
    let server = server();
    let alone = user(1, 2000);
    let weighed = client(&server, 100, u64::MAX);
    get(&weighed, &alone);
    let weight = stats(&weighed).bytes;
    for (bytes, fits) in [(weight, true), (weight - 1, false)] {
        let client = client(&server, 100, bytes);
        get(&client, &alone);
        assert_eq!(is_kept(&client, &alone), fits);
        assert_eq!(stats(&client).bytes, if fits { weight } else { 0 });
    }
}

// ---- the cache's figures

fn check_against_allocator(what: &str, client: &Client, empty: isize) {
    let counted = stats(client).bytes as f64;
    let allocated = (held() - empty) as f64;
    let part = allocated / counted;
    let entries = stats(client).entries;
    println!("{what}: {entries} entries, {counted} bytes, {allocated} allocated: {part:.3}");
    assert!((0.8..=1.2).contains(&part), "{what}: {part:.3}");
}

#[test]
fn the_bytes_counted_are_those_of_the_allocator() {
    let server = server();
    for len in [20, USUAL, 1000, TOKEN_MAX] {
        let client = client(&server, 1_000_000, u64::MAX);
        let empty = held_by_an_empty(&client);
        let mut count = 0;
        for entries in [1000, 1700, 2500] {
            (count..entries).for_each(|number| get(&client, &user(number, len)));
            count = entries;
            assert_eq!(stats(&client).entries, entries as u64);
            check_against_allocator(&format!("tokens of {len} bytes"), &client, empty);
        }
    }
}

#[test]
fn the_bytes_counted_are_those_of_the_allocator_after_evictions() {
    let server = server();
    for len in [USUAL, 1000] {
        let client = client(&server, 1000, u64::MAX);
        let empty = held_by_an_empty(&client);
        (0..4000).for_each(|number| get(&client, &user(number, len)));
        assert_eq!(stats(&client).entries, 1000);
        check_against_allocator(&format!("the last tokens of {len} bytes"), &client, empty);
    }
    let client = client(&server, 1_000_000, 1_000_000);
    let empty = held_by_an_empty(&client);
    (0..2000).for_each(|number| get(&client, &user(number, some_length(number))));
    check_against_allocator("the last tokens of any length", &client, empty);
}

#[test]
fn dropped_tokens_are_freed() {
    let server = server();
    let config = config_for(&server.url(), None);
    drop(Client::new(&config)); // makes what is made once
    let before = held();
    let client = Client::new(&config).unwrap();
    let empty = held_by_an_empty(&client);
    (0..1000).for_each(|number| get(&client, &user(number, 1000)));
    let tokens = held() - empty;
    assert!(tokens > 1_000_000, "{tokens}");
    client.clear().unwrap();
    // The table stays as large as it was: a few bytes per token.
    let left = held() - empty;
    assert!(left < tokens / 10, "{left} of {tokens} bytes");
    (0..1000).for_each(|number| get(&client, &user(number, 1000)));
    (0..1000).for_each(|number| client.forget(user(number, 1000).as_bytes()).unwrap());
    let left = held() - empty;
    assert!(left < tokens / 10, "{left} of {tokens} bytes");
    drop(client);
    let left = held() - before;
    assert!(left <= SLACK / 4, "{left} bytes were not given back");
}

// ---- memory that does not grow

/// Repeats `round` until everything has its size, then many times more.
fn check_flat(what: &str, warm_up: usize, rounds: usize, mut round: impl FnMut(usize)) {
    (0..warm_up).for_each(&mut round);
    let before = held();
    (warm_up..warm_up + rounds).for_each(&mut round);
    let grown = held() - before;
    println!("{what}: {grown} bytes more");
    assert!(grown <= SLACK, "{what}: {grown} bytes more");
}

#[test]
fn replacing_one_users_token_takes_no_more_memory() {
    let server = server();
    let client = client(&server, 1000, u64::MAX);
    let user = user(1, USUAL);
    check_flat("forget and get", 500, 20_000, |_| {
        client.forget(user.as_bytes()).unwrap();
        get(&client, &user);
    });
    let now = stats(&client);
    assert_eq!((now.entries, now.evictions), (1, 0));
    assert_eq!(now.exchanges, 20_500);
}

#[test]
fn expiry_of_one_users_token_takes_no_more_memory() {
    let server = server();
    let mut config = config_for(&server.url(), None);
    config.set_cache_ttl_ms(1);
    let client = Client::new(&config).unwrap();
    let user = user(1, USUAL);
    check_flat("a ttl of a millisecond", 100, 1500, |_| {
        get(&client, &user);
        let start = Instant::now();
        while is_kept(&client, &user) {
            assert!(start.elapsed() < Duration::from_secs(20), "it never expires");
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    let now = stats(&client);
    assert!(now.entries <= 1 && now.evictions == 0, "{now:?}");
}

#[test]
fn users_that_pass_through_a_full_cache_take_no_more_memory() {
    let server = server();
    let client = client(&server, 200, u64::MAX);
    check_flat("users that pass", 1000, 3000, |round| {
        get(&client, &user(round, USUAL));
    });
    assert_eq!(stats(&client).entries, 200);
}

/// Reports are bounded apart from the tokens.
#[test]
fn reports_of_a_hundred_thousand_users_take_at_most_a_mebibyte() {
    let server = server();
    let client = client(&server, 100_000, u64::MAX);
    let empty = held_by_an_empty(&client);
    for number in 0..100_000 {
        let user = user(number, USUAL);
        client.invalidate(user.as_bytes(), b"a-token").unwrap();
    }
    let grown = held() - empty;
    println!("reports: {grown} bytes");
    assert!(grown > 0 && grown <= 1024 * 1024, "{grown} bytes");
    let now = stats(&client);
    assert_eq!((now.invalidations, now.entries, now.bytes), (0, 0, 0));
}

#[test]
fn refused_users_take_no_more_memory() {
    let server = Server::start(|_| Outcome::Reply(reply(422, "")));
    let client = client(&server, 100_000, u64::MAX);
    check_flat("refusals", 500, 2500, |round| {
        let error = client.get_token(user(round, USUAL).as_bytes(), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Refused);
    });
    assert_eq!(stats(&client).failures, 3000);
}
