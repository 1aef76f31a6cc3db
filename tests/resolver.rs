//! Name lookup, with a system resolver of the test's own: this binary defines `getaddrinfo`, its
//! companions and `connect` in place of the C library's.

#![allow(unsafe_code)] // getaddrinfo is a C function
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use common::server::{Outcome, Server, config_for, tls_for, token};
use common::timing::{cancelled_when, check_cancel, check_close, fails_after, in_time};
use common::{client, failure};
use socket2::{Domain, Socket, Type};
use spike_auth::{Config, Error, ErrorKind};

// ---- the resolver

/// How long a hanging lookup takes: longer than any test waits for it.
const HANG_MS: u64 = 2500;

/// How long a tardy lookup takes: longer than the 3 seconds after which a second one is begun.
const TARDY_MS: u64 = 4000;

/// An address that needs its zone, and a zone that no machine has.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x5a);
const ZONE: u32 = 0x5a5a_5a5a;

static LOOKUPS: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

/// How often `name` was looked up.
fn lookups(name: &str) -> usize {
    let lookups = LOOKUPS.lock().unwrap();
    lookups.as_ref().and_then(|all| all.get(name)).copied().unwrap_or(0)
}

/// Counts this lookup too.
fn note_lookup(name: &str) -> usize {
    let mut lookups = LOOKUPS.lock().unwrap();
    let count = lookups.get_or_insert_default().entry(name.to_owned()).or_default();
    *count += 1;
    *count
}

/// What a name resolves to at its `count`th lookup. The part before `.test` decides; a part before that
/// keeps the counts of the tests apart.
fn answer(name: &str, count: usize) -> Result<Vec<SocketAddr>, c_int> {
    let kind =
        name.strip_suffix(".test").and_then(|rest| rest.rsplit('.').next()).unwrap_or("gone");
    let live = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let after = |ms| std::thread::sleep(Duration::from_millis(ms));
    match (kind, count) {
        ("slow", _) => after(400),
        ("hang", _) => after(HANG_MS),
        // The first lookup outlasts the wait, so that a second one is begun.
        ("fails-first", 2..) => after(TARDY_MS - 2500),
        ("tardy" | "gone-first", _) | ("fails-first" | "fails-last" | "all-fail", 1) => {
            after(TARDY_MS);
        }
        _ => {}
    }
    match (kind, count) {
        ("refusing", _) | ("all-fail", 1) => Err(libc::EAI_FAIL),
        ("late" | "gone-first", 1) => Err(libc::EAI_NONAME),
        ("hang" | "again", _) | ("passing", 1..=2) | ("fails-first", 1) => Err(libc::EAI_AGAIN),
        ("fails-last" | "all-fail", 2..) => Err(libc::EAI_AGAIN),
        ("live" | "slow" | "passing" | "late" | "tardy", _)
        | ("fails-first" | "fails-last" | "gone-first", _) => Ok(vec![live]),
        ("dead", _) => Ok(vec![(Ipv6Addr::LOCALHOST, 0).into(), live]),
        ("zone", _) => Ok(vec![SocketAddrV6::new(LINK_LOCAL, 0, 0, ZONE).into(), live]),
        ("empty", _) => Ok(vec![]),
        ("nodata", _) => Err(libc::EAI_NODATA),
        ("memory", _) => Err(libc::EAI_MEMORY),
        ("system", _) => Err(system_error(libc::EACCES)),
        ("odd", _) => Err(libc::EAI_SOCKTYPE),
        // What the C library of Linux says when it cannot open its tables.
        ("full", _) => {
            system_error(libc::EMFILE);
            Err(libc::EAI_NONAME)
        }
        _ => Err(libc::EAI_NONAME),
    }
}

/// Sets `errno` for the caller.
fn system_error(errno: c_int) -> c_int {
    // SAFETY: the place of this thread's `errno`, which lives as long as the thread.
    unsafe { *libc::__errno_location() = errno };
    libc::EAI_SYSTEM
}

/// An address and the list's entry for it, in one block.
#[repr(C)]
struct Entry {
    info: libc::addrinfo,
    address: libc::sockaddr_storage,
}

fn entry(address: SocketAddr, next: *mut libc::addrinfo) -> *mut libc::addrinfo {
    let address = socket2::SockAddr::from(address);
    let entry = Box::into_raw(Box::new(Entry {
        info: libc::addrinfo {
            ai_flags: 0,
            ai_family: address.family().into(),
            ai_socktype: libc::SOCK_STREAM,
            ai_protocol: libc::IPPROTO_TCP,
            ai_addrlen: address.len(),
            ai_addr: std::ptr::null_mut(),
            ai_canonname: std::ptr::null_mut(),
            ai_next: next,
        },
        // SAFETY: an address of any family is at the beginning of a `sockaddr_storage`.
        address: unsafe { address.as_ptr().cast::<libc::sockaddr_storage>().read() },
    }));
    // SAFETY: the entry was just made and is not shared.
    unsafe {
        (*entry).info.ai_addr = (&raw mut (*entry).address).cast();
    }
    entry.cast()
}

/// # Safety
/// As for the C library's function of this name.
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    node: *const c_char,
    _: *const c_char,
    _: *const libc::addrinfo,
    result: *mut *mut libc::addrinfo,
) -> c_int {
    // SAFETY: the caller gives a text that ends with a NUL, and a place for the result.
    let name = unsafe { CStr::from_ptr(node) }.to_str().unwrap().to_owned();
    let count = note_lookup(&name);
    match answer(&name, count) {
        Err(code) => code,
        Ok(addresses) => {
            let list =
                addresses.into_iter().rev().fold(std::ptr::null_mut(), |next, ip| entry(ip, next));
            // SAFETY: as above.
            unsafe { *result = list };
            0
        }
    }
}

/// # Safety
/// As for the C library's function of this name.
#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(mut list: *mut libc::addrinfo) {
    while !list.is_null() {
        // SAFETY: each entry was made by `entry` and is freed once.
        let entry = unsafe { Box::from_raw(list.cast::<Entry>()) };
        list = entry.info.ai_next;
    }
}

/// The text of an error in an encoding that is not UTF-8, as in a locale of that kind.
///
/// # Safety
/// As for the C library's function of this name.
#[unsafe(no_mangle)]
extern "C" fn gai_strerror(_: c_int) -> *const c_char {
    c"Nom ou service inconnu \xe0 cet h\xf4te".as_ptr()
}

/// The link-local addresses that were to be connected to.
static LINK_LOCAL_CONNECTS: Mutex<Vec<SocketAddrV6>> = Mutex::new(Vec::new());

/// # Safety
/// As for the C library's function of this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(
    socket: c_int,
    address: *const libc::sockaddr,
    len: libc::socklen_t,
) -> c_int {
    // SAFETY: the caller gives an address of this length; one of IPv6 is a `sockaddr_in6`.
    unsafe {
        if c_int::from((*address).sa_family) == libc::AF_INET6 {
            let v6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
            if v6.sin6_addr.s6_addr == LINK_LOCAL.octets() {
                let port = u16::from_be(v6.sin6_port);
                let to = SocketAddrV6::new(LINK_LOCAL, port, v6.sin6_flowinfo, v6.sin6_scope_id);
                LINK_LOCAL_CONNECTS.lock().unwrap().push(to);
                *libc::__errno_location() = libc::ENETUNREACH;
                return -1;
            }
        }
        libc::syscall(libc::SYS_connect, socket, address, len) as c_int
    }
}

// ---- how often a name is looked up

/// A server with this name, and a configuration that knows it by the name.
fn server_named(name: &str, answer: fn() -> Outcome) -> (Server, Config) {
    let (tls, pem) = tls_for(&[name]);
    let server = Server::start_with(Some(tls), move |_| answer());
    let config = config_for(&format!("https://{name}:{}/v3", server.port()), Some(pem.as_str()));
    (server, config)
}

fn kept() -> Outcome {
    Outcome::Reply(token())
}

/// A configuration for a name without a server.
fn config_named(name: &str) -> Config {
    server_named(name, kept).1
}

#[test]
fn one_lookup_serves_many_connections() {
    let (server, config) =
        server_named("many.live.test", || Outcome::ReplyThenClose(token(), Duration::ZERO));
    let client = client(&config);
    for _ in 0..20 {
        client.exchange(b"alice", None).unwrap();
    }
    assert!(server.connections() >= 20);
    assert_eq!(lookups("many.live.test"), 1);
}

#[test]
fn thirty_two_cold_threads_share_a_lookup_and_none_fails() {
    const THREADS: usize = 32; // twice the helpers that look names up
    let (server, mut config) = server_named("cold.slow.test", kept);
    config.set_max_concurrency(THREADS as u32).unwrap();
    config.set_max_attempts(1).unwrap(); // a lookup that is refused must not hide in a retry
    let client = client(&config);
    let barrier = Barrier::new(THREADS);
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                let error = client.exchange(b"alice", None).err();
                errors.lock().unwrap().extend(error);
            });
        }
    });
    let errors = errors.into_inner().unwrap();
    assert!(errors.is_empty(), "{} of {THREADS} failed, one with {:?}", errors.len(), errors[0]);
    assert_eq!(server.requests(), THREADS as u64);
    assert_eq!(lookups("cold.slow.test"), 1);
}

/// The texts of the C library come in any language and encoding. The library goes by the code alone.
#[test]
fn a_failed_lookup_has_our_own_words_and_is_tried_again_only_if_it_may_pass() {
    use ErrorKind::{Internal, Resolve};
    for (name, kind, retryable, looked_up, text) in [
        ("gone", Resolve, false, 1, "there is no such host"),
        ("nodata", Resolve, false, 1, "the host has no address"),
        ("empty", Resolve, false, 1, "the host has no address"),
        ("again", Resolve, true, 3, "no name server answers"),
        ("refusing", Resolve, true, 3, "the name server refused"),
        ("system", Resolve, true, 3, "(os error 13)"),
        ("odd", Resolve, true, 3, "failed with code -7"),
        ("memory", Internal, true, 1, "(os error 12)"),
        ("full", Internal, true, 1, "RLIMIT_NOFILE"),
    ] {
        let name = format!("failed.{name}.test");
        let error = failure(&client(&config_named(&name)), "alice");
        let facts = (error.kind(), error.attempts(), error.retryable(), lookups(&name));
        assert_eq!(facts, (kind, 0, retryable, looked_up), "{name}: {error}");
        assert!(error.message().contains(text), "{name}: {error}");
    }
}

#[test]
fn a_failed_lookup_is_not_remembered() {
    let (server, config) = server_named("passing.test", kept);
    client(&config).exchange(b"alice", None).unwrap();
    assert_eq!((lookups("passing.test"), server.requests()), (3, 1));

    let (_server, config) = server_named("late.test", kept);
    let client = client(&config);
    assert_eq!(failure(&client, "alice").kind(), ErrorKind::Resolve);
    client.exchange(b"alice", None).unwrap();
    assert_eq!(lookups("late.test"), 2);
}

#[test]
fn localhost_and_addresses_are_never_looked_up() {
    let server = Server::start(|_| kept());
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("http://{host}:{}/v3", server.port());
        client(&config_for(&url, None)).exchange(b"alice", None).unwrap();
        assert_eq!(lookups(host), 0);
    }
}

// ---- lookups that hang

#[test]
fn the_deadline_holds_while_a_lookup_hangs() {
    let mut config = config_named("deadline.hang.test");
    config.set_timeout_ms(300).unwrap();
    let fails = || failure(&client(&config), "alice");
    let error = fails_after("the deadline", Duration::from_millis(300), fails);
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
}

#[test]
fn the_connect_timeout_holds_while_a_lookup_hangs() {
    let mut config = config_named("connect.hang.test");
    config.set_connect_timeout_ms(150).unwrap();
    config.set_max_attempts(1).unwrap();
    let fails = || failure(&client(&config), "alice");
    let error = fails_after("the connect timeout", Duration::from_millis(150), fails);
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Resolve, true));
}

#[test]
fn cancel_and_close_end_a_call_at_once_while_a_lookup_hangs() {
    let pause = Duration::from_millis(100);
    let config = config_named("stopped.hang.test");
    check_cancel("a hanging lookup", &client(&config), "alice", pause);
    check_close("a hanging lookup", &config, "alice", pause);
}

/// The call that began the lookup goes; those that wait for the same lookup receive its answer.
#[test]
fn a_cancelled_call_does_not_end_the_lookup_that_others_wait_for() {
    let (server, config) = server_named("leader.slow.test", kept);
    let client = Arc::new(client(&config));
    let mut others = Vec::new();
    let (result, _) = cancelled_when(&client, "leader", 5000, || {
        std::thread::sleep(Duration::from_millis(50));
        for _ in 0..8 {
            let client = Arc::clone(&client);
            others.push(std::thread::spawn(move || client.exchange(b"alice", None).map(drop)));
        }
        std::thread::sleep(Duration::from_millis(100));
    });
    assert_eq!(result.err().unwrap().kind(), ErrorKind::Cancelled);
    others.into_iter().for_each(|other| other.join().unwrap().unwrap());
    assert_eq!(server.requests(), 8);
}

// ---- lookups that answer late

/// Makes a call, and a second one when the first one's lookup is so old that another is begun. Both
/// calls wait for both lookups: the first answer ends both waits, a failure that may pass only if it
/// is the last.
#[test]
fn an_answer_ends_every_wait_whichever_lookup_it_comes_from() {
    // (name, whether the calls have one attempt, whether the call fails and may be tried again)
    let rows = [
        ("answer.tardy.test", false, None),
        ("once.tardy.test", true, None),
        ("fails-first.test", true, None),
        ("fails-last.test", true, None),
        ("all-fail.test", true, Some(true)),
        ("gone-first.test", true, Some(false)), // "no such host" is an answer
    ];
    // Two at once: a process has only so many lookups.
    for rows in rows.chunks(2) {
        std::thread::scope(|scope| {
            for row in rows {
                scope.spawn(move || check_early_and_late(*row));
            }
        });
    }
}

fn check_early_and_late((name, once, fails): (&str, bool, Option<bool>)) {
    let (_server, mut config) = server_named(name, kept);
    if once {
        config.set_connect_timeout_ms(9000).unwrap(); // time enough for any lookup
        config.set_max_attempts(1).unwrap();
    }
    let client = client(&config);
    let start = Instant::now();
    let call = |pause_ms| {
        std::thread::sleep(Duration::from_millis(pause_ms));
        let result: Result<(), Error> = client.exchange(b"alice", None).map(drop);
        (result.err(), start.elapsed())
    };
    let both = std::thread::scope(|scope| {
        let late = scope.spawn(|| call(3300));
        [call(0), late.join().unwrap()]
    });
    for (error, at) in both {
        let retryable = error.as_ref().map(Error::retryable);
        assert_eq!(retryable, fails, "{name}: {error:?}");
        assert!(error.is_none_or(|error| error.kind() == ErrorKind::Resolve), "{name}");
        // The second lookup ends more than 1.5 s after the first one.
        let most = if name.starts_with("fails-") { TARDY_MS + 2500 } else { TARDY_MS + 1500 };
        assert!((TARDY_MS..most).contains(&(at.as_millis() as u64)), "{name}: {at:?}");
    }
    assert_eq!(lookups(name), 2);
}

// ---- addresses

#[test]
fn a_link_local_address_keeps_its_zone() {
    let (server, config) = server_named("zone.test", kept);
    client(&config).exchange(b"alice", None).unwrap();
    assert_eq!(
        *LINK_LOCAL_CONNECTS.lock().unwrap(),
        [SocketAddrV6::new(LINK_LOCAL, server.port(), 0, ZONE)]
    );
}

/// Fills the backlog of a listener at `address`, so that no further connection is answered. `None` where
/// the machine has no such address: then it is dead too.
fn full_backlog(address: SocketAddr) -> Option<Vec<Socket>> {
    let socket = |domain| Socket::new(domain, Type::STREAM, None).ok();
    let listener = socket(Domain::for_address(address))?;
    listener.bind(&address.into()).ok()?;
    listener.listen(0).ok()?;
    let mut held = vec![listener];
    for _ in 0..8 {
        let client = socket(Domain::for_address(address))?;
        client.set_nonblocking(true).ok()?;
        let _ = client.connect(&address.into()); // never completes
        held.push(client);
    }
    std::thread::sleep(Duration::from_millis(50));
    Some(held)
}

#[test]
fn a_dead_address_family_costs_a_quarter_of_a_second() {
    let (server, config) = server_named("dead.test", kept);
    let held = full_backlog(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), server.port()));
    in_time("the other family", Duration::from_millis(700), || {
        let client = client(&config);
        let start = Instant::now();
        client.exchange(b"alice", None).unwrap();
        let took = start.elapsed();
        // Less, and the dead one was not tried.
        assert!(held.is_none() || took >= Duration::from_millis(200), "{took:?}");
        took
    });
}
