//! A store that is gone, stopped, wrong or full: every call succeeds.

use super::*;
use std::io::Write;
use std::net::TcpListener;

/// The timeout of one operation.
const TIMEOUT_MS: u32 = 100;
const TIMEOUT: Duration = Duration::from_millis(TIMEOUT_MS as u64);

pub(crate) fn impatient(service: &Server, store: &str) -> Client {
    let mut config = config(service, store);
    config.set_store_timeout_ms(TIMEOUT_MS).unwrap();
    config.set_cache_capacity(0);
    Client::new(&config).unwrap()
}

/// Calls ten times, each of which succeeds within the timeout of an operation, and not much slower than without a
/// store once it is skipped.
pub(crate) fn costs_three_timeouts_at_most(what: &str, store: &str) {
    let service = service(Duration::ZERO);
    let client = impatient(&service, store);
    for number in 0..10 {
        let start = Instant::now();
        assert_eq!(get(&client), format!("token-{number}"), "{what}");
        assert!(start.elapsed() < TIMEOUT + GRACE, "{what}: {:?}", start.elapsed());
    }
    let stats = stats(&client);
    assert_eq!((stats.store_errors, stats.store_skipped), (3, 7), "{what}");
    assert_eq!((stats.exchanges, stats.failures), (10, 0), "{what}");
    let error = client.check_store(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{what}: {error}");
}

#[test]
fn a_store_that_is_not_there() {
    // Bound, so that no other test gets its port, and not listening.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let free = deaf.local_addr().unwrap().as_socket().unwrap();
    costs_three_timeouts_at_most("no port", &format!("redis://{free}"));
    costs_three_timeouts_at_most("no path", "unix:///nowhere/at/all.sock");
    costs_three_timeouts_at_most("no TLS", &format!("rediss://{free}"));
}

#[test]
fn a_store_that_accepts_and_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    costs_three_timeouts_at_most("silence", &format!("redis://{address}"));
    costs_three_timeouts_at_most("silence", &format!("redis://u:p@{address}/3"));
    costs_three_timeouts_at_most("silence", &format!("rediss://{address}"));
}

type Stop = fn(&Client, &Call);
type Answer = fn(&[Vec<u8>], &mut std::net::TcpStream) -> Option<Vec<u8>>;

fn drips(_: &[Vec<u8>], stream: &mut std::net::TcpStream) -> Option<Vec<u8>> {
    for byte in b"$5\r\nhello\r\n" {
        stream.write_all(&[*byte]).ok()?;
        std::thread::sleep(Duration::from_millis(500));
    }
    None
}

#[test]
fn replies_that_are_none_cost_no_call_its_token() {
    let cases: [(&str, Answer); 11] = [
        ("an end", |_, _| None),
        ("half a reply, then silence", |_, stream| {
            let _ = stream.write_all(b"$30\r\nT");
            std::thread::sleep(Duration::from_secs(2));
            None
        }),
        ("one byte after the other", drips),
        ("HTTP", |_, _| Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("arrays", |_, _| Some(b"*1\r\n$1\r\na\r\n".to_vec())),
        ("a bulk of 512 MB", |_, _| Some(b"$536870912\r\n".to_vec())),
        ("surplus bytes", |_, _| Some(b"$-1\r\n:-2\r\n+OK\r\n+OK\r\n".to_vec())),
        ("statuses", |_, _| Some(b"+OK\r\n".to_vec())),
        ("no line end", |_, _| Some(b"$1\r\nabc".to_vec())),
        ("an error without an end", |_, _| Some([b"-".to_vec(), vec![b'x'; 20_000]].concat())),
        ("refusals", |_, _| Some(b"-LOADING Redis is loading the dataset in memory\r\n".to_vec())),
    ];
    for (what, answer) in cases {
        let store = scripted(answer);
        costs_three_timeouts_at_most(what, &url_of(&store));
    }
}

#[test]
fn the_reply_for_another_key_is_a_miss() {
    let (memory, service) = (Memory::default(), service(Duration::ZERO));
    let store = memory.start();
    let client = client(&service, &url_of(&store));
    let fetch = |user: &[u8]| client.get_token(user, None).unwrap().as_bytes().to_vec();
    assert_eq!(fetch(b"alice"), b"token-0");
    // Bob's key answers with alice's record.
    let record = memory.record().unwrap();
    let mixed = scripted(move |command, _| {
        Some(match &command[0][..] {
            b"GET" => [format!("${}\r\n", record.len()).as_bytes(), &record, b"\r\n"].concat(),
            b"PTTL" => b":60000\r\n".to_vec(),
            b"SET" => b"$-1\r\n".to_vec(),
            _ => b":1\r\n".to_vec(),
        })
    });
    let client = self::client(&service, &url_of(&mixed));
    let fetch = |user: &[u8]| client.get_token(user, None).unwrap().as_bytes().to_vec();
    assert_eq!((fetch(b"bob"), fetch(b"alice")), (b"token-1".to_vec(), b"token-0".to_vec()));
    assert_eq!((stats(&client).store_misses, stats(&client).store_hits), (1, 1));
}

#[test]
fn a_client_without_a_store_or_a_key_says_so() {
    let service = service(Duration::ZERO);
    let without = Client::new(&config_for(&service.url(), None)).unwrap();
    let error = without.check_store(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.message().contains("none is set"), "{error}");
    without.forget_shared(USER.as_bytes(), None).unwrap();

    let mut config = Config::new().unwrap();
    config.set_application_id(b"1").unwrap();
    config.set_store(b"redis://localhost").unwrap();
    let keyless = Client::new(&config).unwrap();
    assert_eq!(keyless.check_store(None).unwrap_err().kind(), ErrorKind::KeyRequired);
}

#[test]
fn a_check_ends_when_it_is_cancelled_or_closed() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = service(Duration::ZERO);
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let mut config = config(&service, &url);
    config.set_store_timeout_ms(10_000).unwrap();
    config.set_timeout_ms(60_000).unwrap();
    let stops: [(Stop, ErrorKind); 2] = [
        (|_, call| call.cancel(), ErrorKind::Cancelled),
        (|client, _| client.close(), ErrorKind::Closed),
    ];
    for (stop, kind) in stops {
        let (client, call) = (Client::new(&config).unwrap(), Call::new());
        std::thread::scope(|scope| {
            let running = scope.spawn(|| client.check_store(Some(&call)).unwrap_err().kind());
            std::thread::sleep(Duration::from_millis(50));
            let start = Instant::now();
            stop(&client, &call);
            assert_eq!(running.join().unwrap(), kind);
            assert!(start.elapsed() < GRACE, "{:?}", start.elapsed());
        });
    }
}

#[test]
fn calls_with_hardly_any_time_get_no_wrong_token_and_do_not_open_the_breaker() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = Server::start(|incoming| {
        let body = format!(r#"{{"access_token":"{}"}}"#, incoming.user());
        Outcome::Reply(reply(200, &body))
    });
    let client = Arc::new(impatient(&service, &redis.url()));
    common::on_threads(16, || {
        for number in 0..100_000 / 16 {
            let user = format!("user-{}", number % 7);
            let call = call_with_timeout(if number % 3 == 0 { 1 } else { 10_000 });
            match client.get_token(user.as_bytes(), Some(&call)) {
                Ok(token) => assert_eq!(token.as_bytes(), user.as_bytes()),
                Err(error) => {
                    assert!(number % 3 == 0 && error.kind() == ErrorKind::Timeout, "{error}")
                }
            }
        }
    });
    let stats = stats(&client);
    assert_eq!(stats.store_skipped, 0);
    assert!(stats.store_hits > 1000, "{}", stats.store_hits);
}
