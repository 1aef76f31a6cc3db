//! Name lookup, with a system resolver of the test's own: this binary defines `getaddrinfo` and its
//! like, which the library's calls reach in place of the C library's.

#![allow(unsafe_code)] // getaddrinfo is a C function
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::server::{Outcome, Server, config_for, tls_for, token};
use common::timing::{cancelled_when, check_cancel, in_time};
use socket2::{Domain, Socket, Type};
use spike_auth::{Client, Config, Error, ErrorKind};

// ---- the resolver

/// How long a lookup hangs that never answers: longer than any test waits for it.
const FOR_EVER: Duration = Duration::from_millis(2500);

/// How long a lookup takes that outlasts the 3 seconds for which it is waited for alone.
const TARDY_MS: u64 = 4000;

/// An address that means nothing without its zone, and a zone that no machine has.
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

/// What a name resolves to. It is the part before `.test` that decides; what stands before that
/// keeps the counts of the tests apart.
fn answer(name: &str, count: usize) -> Result<Vec<SocketAddr>, c_int> {
    let kind =
        name.strip_suffix(".test").and_then(|rest| rest.rsplit('.').next()).unwrap_or("gone");
    let live = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let after = |ms| std::thread::sleep(Duration::from_millis(ms));
    match (kind, count) {
        ("live", _) => Ok(vec![live]),
        ("slow", _) => {
            after(400);
            Ok(vec![live])
        }
        ("hang", _) => {
            std::thread::sleep(FOR_EVER);
            Err(libc::EAI_AGAIN)
        }
        ("again", _) => Err(libc::EAI_AGAIN),
        ("passing", ..=2) => Err(libc::EAI_AGAIN),
        ("late", ..=1) => Err(libc::EAI_NONAME),
        ("passing" | "late", _) => Ok(vec![live]),
        ("dead", _) => Ok(vec![(Ipv6Addr::LOCALHOST, 0).into(), live]),
        ("zone", _) => Ok(vec![SocketAddrV6::new(LINK_LOCAL, 0, 0, ZONE).into(), live]),
        ("empty", _) => Ok(vec![]),
        ("refusing", _) => Err(libc::EAI_FAIL),
        ("nodata", _) => Err(libc::EAI_NODATA),
        ("memory", _) => Err(libc::EAI_MEMORY),
        ("system", _) => Err(system_error(libc::EACCES)),
        ("odd", _) => Err(libc::EAI_SOCKTYPE),
        // As the C library of Linux says it where it cannot open its tables.
        ("full", _) => {
            system_error(libc::EMFILE);
            Err(libc::EAI_NONAME)
        }
        // The first lookup of these takes longer than a call waits before it begins a second one.
        ("tardy", _) => {
            after(TARDY_MS);
            Ok(vec![live])
        }
        ("fails-first", 1) => {
            after(TARDY_MS);
            Err(libc::EAI_AGAIN)
        }
        ("fails-first", _) => {
            after(TARDY_MS - 2500);
            Ok(vec![live])
        }
        ("fails-last", 1) => {
            after(TARDY_MS);
            Ok(vec![live])
        }
        ("gone-first", 1) => {
            after(TARDY_MS);
            Err(libc::EAI_NONAME)
        }
        ("gone-first", _) => {
            after(TARDY_MS);
            Ok(vec![live])
        }
        ("all-fail", 1) => {
            after(TARDY_MS);
            Err(libc::EAI_FAIL)
        }
        ("fails-last" | "all-fail", _) => Err(libc::EAI_AGAIN),
        _ => Err(libc::EAI_NONAME),
    }
}

/// Leaves `errno` for the one who asks.
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
    // SAFETY: the entry was just made, and nobody else has it.
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

/// What was to be connected to at a link-local address.
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

// ---- what it is asked for

/// A server that bears this name, and a configuration that knows it by that.
fn server_named(name: &str, answer: fn() -> Outcome) -> (Server, Config) {
    let (tls, pem) = tls_for(&[name]);
    let server = Server::start_with(Some(tls), move |_| answer());
    let config = config_for(&format!("https://{name}:{}/v3", server.port()), Some(pem.as_str()));
    (server, config)
}

fn kept() -> Outcome {
    Outcome::Reply(token())
}

/// A configuration for a name behind which nobody is.
fn config_named(name: &str) -> Config {
    server_named(name, kept).1
}

#[test]
fn one_lookup_serves_many_connections() {
    let (server, config) =
        server_named("many.live.test", || Outcome::ReplyThenClose(token(), Duration::ZERO));
    let client = Client::new(&config).unwrap();
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
    let client = Client::new(&config).unwrap();
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

#[test]
fn a_name_that_does_not_exist_is_asked_for_once() {
    let client = Client::new(&config_named("gone.test")).unwrap();
    let error = client.exchange(b"alice", None).err().unwrap();
    assert_eq!((error.kind(), error.attempts(), error.retryable()), (ErrorKind::Resolve, 0, false));
    assert_eq!(lookups("gone.test"), 1);
}

#[test]
fn a_lookup_that_may_pass_is_tried_again() {
    let client = Client::new(&config_named("again.test")).unwrap();
    let error = client.exchange(b"alice", None).err().unwrap();
    assert_eq!((error.kind(), error.attempts(), error.retryable()), (ErrorKind::Resolve, 0, true));
    assert_eq!(lookups("again.test"), 3);

    let (server, config) = server_named("passing.test", kept);
    let client = Client::new(&config).unwrap();
    client.exchange(b"alice", None).unwrap();
    assert_eq!((lookups("passing.test"), server.requests()), (3, 1));
}

#[test]
fn a_failed_lookup_is_not_remembered() {
    let (_server, config) = server_named("late.test", kept);
    let client = Client::new(&config).unwrap();
    let error = client.exchange(b"alice", None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Resolve);
    client.exchange(b"alice", None).unwrap();
    assert_eq!(lookups("late.test"), 2);
}

/// The texts of the C library are in any language and encoding; what the library says and does goes by
/// the code alone.
#[test]
fn a_failed_lookup_is_told_in_words_of_our_own() {
    use ErrorKind::{Internal, Resolve};
    let cases = [
        ("gone", Resolve, false, "there is no such host"),
        ("nodata", Resolve, false, "the host has no address"),
        ("empty", Resolve, false, "the host has no address"),
        ("again", Resolve, true, "no name server answers"),
        ("refusing", Resolve, true, "the name server refuses"),
        ("system", Resolve, true, "(os error 13)"),
        ("odd", Resolve, true, "failed with code -7"),
        ("memory", Internal, true, "(os error 12)"),
        ("full", Internal, true, "RLIMIT_NOFILE"),
    ];
    for (name, kind, retryable, text) in cases {
        let mut config = config_named(&format!("told.{name}.test"));
        config.set_max_attempts(1).unwrap();
        let client = Client::new(&config).unwrap();
        let error = client.exchange(b"alice", None).err().unwrap();
        let (message, facts) = (error.message(), (error.kind(), error.retryable()));
        assert_eq!(facts, (kind, retryable), "{name}: {message}");
        assert!(message.contains(text), "{name}: {message}");
    }
}

#[test]
fn localhost_and_addresses_are_never_looked_up() {
    let server = Server::start(|_| kept());
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("http://{host}:{}/v3", server.port());
        let client = Client::new(&config_for(&url, None)).unwrap();
        client.exchange(b"alice", None).unwrap();
        assert_eq!(lookups(host), 0);
    }
}

// ---- lookups that hang

#[test]
fn the_deadline_holds_while_a_lookup_hangs() {
    let timeout = Duration::from_millis(300);
    let mut config = config_named("deadline.hang.test");
    config.set_timeout_ms(300).unwrap();
    in_time("the deadline", timeout + Duration::from_millis(100), || {
        let client = Client::new(&config).unwrap();
        let start = Instant::now();
        let error = client.exchange(b"alice", None).err().unwrap();
        let took = start.elapsed();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert!(took >= timeout, "{took:?}");
        took
    });
}

#[test]
fn the_connect_timeout_holds_while_a_lookup_hangs() {
    let mut config = config_named("connect.hang.test");
    config.set_connect_timeout_ms(150).unwrap();
    config.set_max_attempts(2).unwrap();
    in_time("two attempts", Duration::from_millis(600), || {
        let client = Client::new(&config).unwrap();
        let start = Instant::now();
        let error = client.exchange(b"alice", None).err().unwrap();
        let took = start.elapsed();
        assert_eq!(
            (error.kind(), error.attempts(), error.retryable()),
            (ErrorKind::Resolve, 0, true)
        );
        assert!(took >= Duration::from_millis(300), "{took:?}");
        took
    });
}

#[test]
fn a_call_is_cancelled_at_once_while_a_lookup_hangs() {
    let client = Client::new(&config_named("cancel.hang.test")).unwrap();
    check_cancel("a hanging lookup", &client, "alice", Duration::from_millis(100));
}

#[test]
fn closing_ends_a_call_at_once_while_a_lookup_hangs() {
    in_time("closing", Duration::from_millis(100), || {
        let client = Client::new(&config_named("close.hang.test")).unwrap();
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let error = client.exchange(b"alice", None).err().unwrap();
                (error.kind(), Instant::now())
            });
            std::thread::sleep(Duration::from_millis(100));
            let closed_at = Instant::now();
            client.close();
            let (kind, ended_at) = call.join().unwrap();
            assert_eq!(kind, ErrorKind::Closed);
            ended_at - closed_at
        })
    });
}

/// Whoever began the lookup that the others wait for may go; the others get its answer.
#[test]
fn a_call_that_goes_while_others_wait_for_the_same_lookup_fails_none_of_them() {
    let (server, config) = server_named("leader.slow.test", kept);
    let client = Arc::new(Client::new(&config).unwrap());
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
    for other in others {
        other.join().unwrap().unwrap();
    }
    assert_eq!(server.requests(), 8);
}

// ---- lookups that answer late

/// A call by itself, and one that comes when the first one's lookup is so old that another is begun
/// beside it. Tells of each what came of it, and how long after the first had begun.
fn early_and_late(config: &Config) -> [(Result<(), Error>, Duration); 2] {
    // Two tests at once: a process has only so many lookups.
    static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let turn = &TURNS[NEXT.fetch_add(1, Ordering::Relaxed) % TURNS.len()];
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    let client = Client::new(config).unwrap();
    let start = Instant::now();
    let call = |pause| {
        std::thread::sleep(pause);
        let result = client.exchange(b"alice", None).map(drop);
        (result, start.elapsed())
    };
    std::thread::scope(|scope| {
        let late = scope.spawn(|| call(Duration::from_millis(3300)));
        [call(Duration::ZERO), late.join().unwrap()]
    })
}

/// One attempt, which has time enough for any lookup of these tests.
fn patient(config: &mut Config) {
    config.set_connect_timeout_ms(9000).unwrap();
    config.set_max_attempts(1).unwrap();
}

fn tardy() -> Duration {
    Duration::from_millis(TARDY_MS)
}

/// Far less than the second lookup would take from its own beginning.
const SLACK: Duration = Duration::from_millis(1500);

#[test]
fn an_answer_ends_every_wait_whichever_lookup_it_comes_from() {
    let (_server, config) = server_named("answer.tardy.test", kept);
    for (result, at) in early_and_late(&config) {
        result.unwrap();
        assert!(at >= tardy() && at < tardy() + SLACK, "{at:?}");
    }
    assert_eq!(lookups("answer.tardy.test"), 2);
}

#[test]
fn a_call_with_one_attempt_hears_the_answer_too() {
    let (_server, mut config) = server_named("once.tardy.test", kept);
    patient(&mut config);
    for (result, at) in early_and_late(&config) {
        result.unwrap();
        assert!(at >= tardy() && at < tardy() + SLACK, "{at:?}");
    }
    assert_eq!(lookups("once.tardy.test"), 2);
}

#[test]
fn a_failure_that_may_pass_ends_no_wait_while_another_lookup_is_under_way() {
    for name in ["fails-first.test", "fails-last.test"] {
        let (_server, mut config) = server_named(name, kept);
        patient(&mut config);
        for (result, at) in early_and_late(&config) {
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(at >= tardy(), "{name}: {at:?}");
        }
        assert_eq!(lookups(name), 2);
    }
}

#[test]
fn the_last_failure_ends_every_wait() {
    let mut config = config_named("all-fail.test");
    patient(&mut config);
    for (result, at) in early_and_late(&config) {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Resolve, true));
        assert!(at >= tardy() && at < tardy() + SLACK, "{at:?}");
    }
    assert_eq!(lookups("all-fail.test"), 2);
}

#[test]
fn that_there_is_no_such_host_is_an_answer_and_ends_every_wait() {
    let mut config = config_named("gone-first.test");
    patient(&mut config);
    for (result, at) in early_and_late(&config) {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Resolve, false));
        assert!(at >= tardy() && at < tardy() + SLACK, "{at:?}");
    }
    assert_eq!(lookups("gone-first.test"), 2);
}

// ---- addresses

#[test]
fn a_link_local_address_keeps_its_zone() {
    let (server, config) = server_named("zone.test", kept);
    Client::new(&config).unwrap().exchange(b"alice", None).unwrap();
    assert_eq!(
        *LINK_LOCAL_CONNECTS.lock().unwrap(),
        [SocketAddrV6::new(LINK_LOCAL, server.port(), 0, ZONE)]
    );
}

/// Takes connections at `address` into a backlog that is full, so that no further one is answered.
/// `None` where the machine has no such address: then it is dead too.
fn full_backlog(address: SocketAddr) -> Option<Vec<Socket>> {
    let socket = |domain| Socket::new(domain, Type::STREAM, None).ok();
    let listener = socket(Domain::for_address(address))?;
    listener.bind(&address.into()).ok()?;
    listener.listen(0).ok()?;
    let mut held = vec![listener];
    for _ in 0..8 {
        let client = socket(Domain::for_address(address))?;
        client.set_nonblocking(true).ok()?;
        let _ = client.connect(&address.into()); // under way, and stays so
        held.push(client);
    }
    std::thread::sleep(Duration::from_millis(50));
    Some(held)
}

#[test]
fn a_dead_address_family_costs_a_quarter_of_a_second_and_not_the_call() {
    let (server, config) = server_named("dead.test", kept);
    let held = full_backlog(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), server.port()));
    in_time("the other family", Duration::from_millis(700), || {
        let client = Client::new(&config).unwrap();
        let start = Instant::now();
        client.exchange(b"alice", None).unwrap();
        let took = start.elapsed();
        // Or the dead one was not tried, and this test would show nothing.
        assert!(held.is_none() || took >= Duration::from_millis(200), "{took:?}");
        took
    });
}
