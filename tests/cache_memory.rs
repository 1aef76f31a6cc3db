//! How much the token cache keeps: its bounds, and what the allocator says of the figures that it
//! counts by. What it does with a token is in `cache.rs`.

#![allow(unsafe_code)] // an allocator that counts
#![cfg(all(target_os = "linux", target_env = "gnu"))] // it asks glibc for the sizes of its pieces
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::server::{Outcome, Server, config_for, reply};
use spike_auth::{Client, ErrorKind, Stats, TOKEN_MAX};

/// The length of the token that the service's documents show.
const USUAL: usize = 143;
/// Buffers of the connection, and maps that are not of the same size every time.
const SLACK: isize = 16 * 1024;

// ---- what is counted from outside

/// Counts for each thread what it holds: so tests do not disturb each other, nor does the server. A
/// call works in its caller's thread alone, and so does an eviction.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// What a piece costs: the room in it, and the word that glibc keeps before it.
fn count(piece: *mut u8, sign: isize) {
    if piece.is_null() {
        return;
    }
    // SAFETY: the piece is the allocator's, and was not given back yet.
    let size = unsafe { libc::malloc_usable_size(piece.cast()) } + size_of::<usize>();
    // A thread that is about to end counts no more.
    let _ = HELD.try_with(|held| held.set(held.get() + sign * size as isize));
}

// SAFETY: all memory is the system allocator's; this only counts it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one asked for.
        let piece = unsafe { System.alloc(layout) };
        count(piece, 1);
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        count(piece, -1);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.dealloc(piece, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> isize {
    HELD.get()
}

// ---- a server and its clients

/// A user whose token is so long.
fn user(number: usize, len: usize) -> String {
    format!("user-{number:07}-of-{len:04}")
}

fn token_of(user: &str) -> String {
    let len: usize = user.rsplit_once('-').unwrap().1.parse().unwrap();
    // Users with the same length of token have different ones, if it is not too short for that.
    format!("{user}.").chars().cycle().take(len).collect()
}

fn server() -> Server {
    Server::start(|incoming| {
        let token = token_of(&incoming.user());
        Outcome::Reply(reply(200, &format!(r#"{{"access_token":"{token}"}}"#)))
    })
}

/// Bounded by so many entries and so many bytes.
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

/// What this thread holds with a client that has a connection and keeps nothing.
fn held_by_an_empty(client: &Client) -> isize {
    get(client, &user(9_999_999, TOKEN_MAX));
    client.clear().unwrap();
    held()
}

/// Any length that a token may have, and every one as likely.
fn some_length(number: usize) -> usize {
    1 + number * 7919 % TOKEN_MAX
}

// ---- the bounds

/// Threads pass users through a cache that is watched all the time.
fn check_bounds(client: &Client, users: usize, entries: u64, bytes: u64, len: fn(usize) -> usize) {
    const THREADS: usize = 4;
    /// Counts those that are done, those that fail among them: the test could not end before the one
    /// who watches.
    struct Done<'a>(&'a AtomicUsize);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let done = Done(&done);
            scope.spawn(move || {
                let _done = done;
                for number in (thread..users).step_by(THREADS) {
                    get(client, &user(number, len(number)));
                    // Of the others some are asked for again, and some are gone.
                    is_kept(client, &user(number / 2, len(number / 2)));
                }
            });
        }
        while done.load(Ordering::Relaxed) < THREADS {
            let now = stats(client);
            assert!(now.entries <= entries && now.bytes <= bytes, "{now:?}");
            std::thread::sleep(Duration::from_micros(50));
        }
    });
}

fn kept_of(client: &Client, users: usize, len: fn(usize) -> usize) -> u64 {
    (0..users).filter(|number| is_kept(client, &user(*number, len(*number)))).count() as u64
}

#[test]
fn no_more_entries_are_kept_than_are_allowed() {
    const USERS: usize = 2500;
    let server = server();
    for entries in [1, 10, 1000] {
        let client = client(&server, entries, u64::MAX);
        check_bounds(&client, USERS, entries.into(), u64::MAX, |_| USUAL);
        let now = stats(&client);
        assert_eq!(now.exchanges, USERS as u64, "each user came once");
        // One that comes when all the room is being filled by others is handed out and not kept.
        assert!(now.entries >= u64::from(entries) * 9 / 10, "{now:?}");
        let all = now.evictions + now.entries;
        assert!(all <= USERS as u64 && all >= USERS as u64 * 9 / 10, "{now:?}");
        assert_eq!(kept_of(&client, USERS, |_| USUAL), now.entries);
    }
}

#[test]
fn no_more_bytes_are_kept_than_are_allowed() {
    const USERS: usize = 2500;
    let server = server();
    for bytes in [10_000, 300_000] {
        let client = client(&server, 1_000_000, bytes);
        check_bounds(&client, USERS, 1_000_000, bytes, some_length);
        let now = stats(&client);
        assert!(now.bytes > bytes / 4, "{now:?}");
        assert!(now.evictions > 0, "{now:?}");
        assert_eq!(kept_of(&client, USERS, some_length), now.entries);
    }
}

#[test]
fn a_token_that_never_fits_is_handed_out_and_disturbs_nobody() {
    const BYTES: u64 = 4096;
    let server = server();
    let client = client(&server, 100, BYTES);
    let small: Vec<_> = (0..8).map(|number| user(number, USUAL)).collect();
    small.iter().for_each(|user| get(&client, user));
    let before = stats(&client);
    assert_eq!((before.entries, before.evictions), (8, 0));
    let large = user(8, BYTES as usize);
    for requests in 9..12 {
        get(&client, &large);
        assert_eq!(server.requests(), requests);
        assert!(!is_kept(&client, &large));
    }
    let after = stats(&client);
    assert_eq!(
        (after.entries, after.bytes, after.evictions),
        (before.entries, before.bytes, before.evictions)
    );
    assert_eq!((after.exchanges, after.failures), (11, 0));
    assert!(small.iter().all(|user| is_kept(&client, user)));
}

/// The bound itself is the weight of the one that just fits.
#[test]
fn a_token_that_just_fits_is_kept() {
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

// ---- what the allocator says

fn check_against_allocator(what: &str, client: &Client, empty: isize) {
    let counted = stats(client).bytes as f64;
    let allocated = (held() - empty) as f64;
    let part = allocated / counted;
    let entries = stats(client).entries;
    println!("{what}: {entries} entries, {counted} bytes, {allocated} allocated: {part:.3}");
    assert!((0.8..=1.2).contains(&part), "{what}: {part:.3}");
}

#[test]
fn the_bytes_are_those_of_the_allocator() {
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
fn they_are_so_when_many_more_have_passed() {
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
fn what_is_dropped_is_given_back() {
    let server = server();
    let config = config_for(&server.url(), None);
    drop(Client::new(&config)); // what is made once, is made here
    let before = held();
    let client = Client::new(&config).unwrap();
    let empty = held_by_an_empty(&client);
    (0..1000).for_each(|number| get(&client, &user(number, 1000)));
    let tokens = held() - empty;
    assert!(tokens > 1_000_000, "{tokens}");
    client.clear().unwrap();
    // What finds them stays as large as it was: a few bytes for each.
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

// ---- memory that stays flat

/// Repeats `round` until everything has its size, and then many times more.
fn check_flat(what: &str, warm_up: usize, rounds: usize, mut round: impl FnMut(usize)) {
    (0..warm_up).for_each(&mut round);
    let before = held();
    (warm_up..warm_up + rounds).for_each(&mut round);
    let grown = held() - before;
    println!("{what}: {grown} bytes more");
    assert!(grown <= SLACK, "{what}: {grown} bytes more");
}

#[test]
fn one_user_whose_token_is_replaced_all_the_time_takes_no_more_memory() {
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
fn nor_does_one_whose_token_ends_all_the_time() {
    let server = server();
    let mut config = config_for(&server.url(), None);
    config.set_cache_ttl_ms(1);
    let client = Client::new(&config).unwrap();
    let user = user(1, USUAL);
    check_flat("a ttl of a millisecond", 100, 1500, |_| {
        get(&client, &user);
        let start = Instant::now();
        while is_kept(&client, &user) {
            assert!(start.elapsed() < Duration::from_secs(20), "it never ends");
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    let now = stats(&client);
    assert!(now.entries <= 1 && now.evictions == 0, "{now:?}");
}

#[test]
fn nor_do_users_that_pass_through_a_full_cache() {
    let server = server();
    let client = client(&server, 200, u64::MAX);
    check_flat("users that pass", 1000, 3000, |round| {
        get(&client, &user(round, USUAL));
    });
    assert_eq!(stats(&client).entries, 200);
}

/// What is remembered of them has its bound beside that of the tokens.
#[test]
fn reports_of_a_hundred_thousand_users_take_a_mebibyte_at_the_most() {
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
fn nor_do_users_that_are_refused() {
    let server = Server::start(|_| Outcome::Reply(reply(422, "")));
    let client = client(&server, 100_000, u64::MAX);
    check_flat("refusals", 500, 2500, |round| {
        let error = client.get_token(user(round, USUAL).as_bytes(), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Refused);
    });
    assert_eq!(stats(&client).failures, 3000);
}
