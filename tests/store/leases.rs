//! One process fetches, and the others wait for it.

use super::*;
use common::store::read_command;
use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;

const LEASE: &[u8; 17] = b"Lsomebody else's!";

#[test]
fn sixteen_clients_at_once_make_one_exchange() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::from_millis(100));
    let clients: Vec<_> = (0..16).map(|_| client(&service, &redis.url())).collect();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| assert_eq!(get(client), "token-0"));
        }
    });
    assert_eq!(service.requests(), 1);
    let sum = |of: fn(&Stats) -> u64| clients.iter().map(|client| of(&stats(client))).sum::<u64>();
    assert_eq!((sum(|s| s.exchanges), sum(|s| s.store_hits)), (1, 15));
    assert!(sum(|s| s.store_waits) >= 1);
}

#[test]
fn many_clients_with_many_users_in_any_order_make_one_exchange_for_each() {
    const USERS: usize = 20;
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::from_millis(20));
    let clients: Vec<_> = (0..8).map(|_| client(&service, &redis.url())).collect();
    std::thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            scope.spawn(move || {
                let mut dice = common::Dice::new(number);
                let mut users: Vec<_> = (0..USERS).collect();
                for last in (1..USERS).rev() {
                    users.swap(last, dice.roll(last as u64 + 1) as usize);
                }
                for user in users {
                    client.get_token(format!("user-{user}").as_bytes(), None).unwrap();
                }
            });
        }
    });
    assert_eq!(service.requests(), USERS as u64);
}

#[test]
fn a_token_that_all_report_at_once_is_replaced_by_one_exchange() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::from_millis(50));
    let clients: Vec<_> = (0..8).map(|_| client(&service, &redis.url())).collect();
    clients.iter().for_each(|client| assert_eq!(get(client), "token-0"));
    let barrier = std::sync::Barrier::new(clients.len());
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                barrier.wait();
                client.invalidate(USER.as_bytes(), b"token-0").unwrap();
                assert_eq!(get(client), "token-1");
            });
        }
    });
    assert_eq!(service.requests(), 2);
}

/// A client, the key of its user's record with a lease of another process, and its service.
struct Held {
    redis: Redis,
    service: Server,
    client: Client,
    key: String,
}

impl Held {
    fn new(lease_ms: u32) -> Option<Self> {
        let redis = Redis::start(&[])?;
        let service = service(Duration::ZERO);
        get(&client(&service, &redis.url()));
        let key = only_key(&redis);
        let client = client(&service, &redis.url());
        let time = lease_ms.to_string();
        redis.run(&[b"SET", key.as_bytes(), LEASE, b"PX", time.as_bytes()]);
        Some(Self { redis, service, client, key })
    }

    fn value(&self) -> String {
        self.redis.run(&[b"GET", self.key.as_bytes()])
    }
}

#[test]
fn a_holder_that_is_gone_costs_one_lease_and_no_failure() {
    let Some(held) = Held::new(400) else { return };
    let start = Instant::now();
    assert_eq!(get(&held.client), "token-1");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!((stats(&held.client).store_waits, held.service.requests()), (1, 2));
    assert!(held.value().starts_with("$36\r\nT"), "its token is there for others");
}

#[test]
fn all_that_wait_for_a_holder_that_is_gone_make_one_exchange() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::from_millis(300));
    get(&client(&service, &redis.url()));
    redis.run(&[b"SET", only_key(&redis).as_bytes(), LEASE, b"PX", b"600"]);
    let clients: Vec<_> = (0..8).map(|_| client(&service, &redis.url())).collect();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| assert_eq!(get(client), "token-1"));
        }
    });
    assert_eq!(service.requests(), 2);
}

#[test]
fn a_call_waits_for_half_its_time_and_stores_its_token_over_the_dead_lease() {
    let Some(held) = Held::new(60_000) else { return };
    let start = Instant::now();
    assert_eq!(get_by(&held.client, Some(&call_with_timeout(600))).unwrap(), "token-1");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(590), "{took:?}");
    assert!(held.value().starts_with("$36\r\nT"));
}

/// Each reply is possible, and none leads on: leases that run out at once, and records that another process is always
/// faster to replace.
#[test]
fn a_store_that_never_comes_to_an_end_fails_no_call() {
    let looks = AtomicU64::new(0);
    let store = scripted(move |command, _| {
        let look = looks.load(Ordering::SeqCst);
        Some(match &command[0][..] {
            b"GET" => match looks.fetch_add(1, Ordering::SeqCst) % 3 {
                0 => b"$1\r\nx\r\n".to_vec(),
                _ => format!("$17\r\nL{look:016}\r\n").into_bytes(),
            },
            b"PTTL" if look % 3 == 1 => b":1000\r\n".to_vec(),
            b"SET" => b"$-1\r\n".to_vec(),
            _ => b":0\r\n".to_vec(),
        })
    });
    let service = service(Duration::ZERO);
    for number in 0..3 {
        let client = client(&service, &url_of(&store));
        let start = Instant::now();
        let token = get_by(&client, Some(&call_with_timeout(2000))).unwrap();
        assert_eq!(token, format!("token-{number}"));
        assert!(start.elapsed() < Duration::from_millis(1600), "{:?}", start.elapsed());
    }
}

#[test]
fn a_call_that_waits_for_a_lease_is_cancelled_at_once() {
    let Some(held) = Held::new(60_000) else { return };
    let call = Call::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| get_by(&held.client, Some(&call)));
        wait_until("it waits", || stats(&held.client).store_waits == 1);
        let start = Instant::now();
        call.cancel();
        assert_eq!(running.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(start.elapsed() < GRACE, "{:?}", start.elapsed());
    });
    let stats = stats(&held.client);
    assert_eq!((stats.misses, stats.exchanges, stats.failures), (1, 0, 0));
    assert_eq!(held.value(), format!("$17\r\n{}\r\n", String::from_utf8_lossy(LEASE)));
}

/// The lease of a leader that is stopped by `stop` in the middle of its exchange.
fn is_released_after(stop: impl Fn(&Client, &Call) + Sync) {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::from_secs(2));
    let client = client(&service, &redis.url());
    let call = Call::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| get_by(&client, Some(&call)));
        wait_until("the request is sent", || service.requests() == 1);
        assert_eq!(redis.run(&[b"DBSIZE"]), ":1\r\n");
        stop(&client, &call);
        assert!(running.join().unwrap().is_err());
        wait_until("the lease is released", || redis.run(&[b"DBSIZE"]) == ":0\r\n");
    });
}

#[test]
fn a_leader_that_is_cancelled_releases_its_lease() {
    is_released_after(|_, call| call.cancel());
}

#[test]
fn a_client_that_is_closed_releases_its_leases() {
    is_released_after(|client, _| client.close());
}

#[test]
fn a_lease_is_released_although_the_connection_that_took_it_is_dead() {
    let (memory, last) = (Memory::default(), Arc::new(Mutex::new(None::<TcpStream>)));
    let used_last = Arc::clone(&last);
    let store = Server::accepting(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(command) = read_command(&mut reader) {
            std::thread::sleep(Duration::from_millis(20)); // two at once take two connections
            *used_last.lock().unwrap() = stream.try_clone().ok();
            if stream.write_all(&memory.answer(&command)).is_err() {
                return;
            }
        }
    });
    let (service, url) = (service(Duration::from_millis(500)), url_of(&store));
    let client = client(&service, &url);
    std::thread::scope(|scope| {
        let fetch = |user: &'static [u8]| client.get_token(user, None).unwrap();
        let _ = [b"bob", b"eve"].map(|user| scope.spawn(move || fetch(user)));
    });
    assert_eq!(store.connections(), 2);
    let call = Call::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| get_by(&client, Some(&call)));
        wait_until("the request is sent", || service.requests() == 3);
        last.lock().unwrap().take().unwrap().shutdown(Shutdown::Both).unwrap();
        call.cancel();
        assert!(running.join().unwrap().is_err());
    });
    let start = Instant::now();
    get(&self::client(&service, &url));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_leader_that_hands_off_hands_the_lease_on() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::from_millis(400));
    let client = client(&service, &redis.url());
    let call = Call::new();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get_by(&client, Some(&call)));
        wait_until("the request is sent", || service.requests() == 1);
        let second = scope.spawn(|| get(&client));
        wait_until("another waits", || stats(&client).coalesced == 1);
        call.cancel();
        assert!(first.join().unwrap().is_err());
        wait_until("the other sends", || service.requests() == 2);
        assert_eq!(redis.run(&[b"DBSIZE"]), ":1\r\n", "the lease is still held");
        assert_eq!(second.join().unwrap(), "token-1");
    });
    assert!(redis.run(&[b"GET", only_key(&redis).as_bytes()]).starts_with("$36\r\nT"));
    assert_eq!((stats(&client).store_misses, stats(&client).exchanges), (1, 1));
}

#[test]
fn a_failure_releases_the_lease_and_is_not_shared() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = Server::start(|_| Outcome::Reply(reply(401, "")));
    let clients: Vec<_> = (0..8).map(|_| client(&service, &redis.url())).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                assert_eq!(get_by(client, None).unwrap_err().kind(), ErrorKind::Unauthorized);
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(service.requests(), 8);
    assert_eq!(redis.run(&[b"DBSIZE"]), ":0\r\n");
}

#[test]
fn a_lease_of_its_own_that_was_left_behind_is_taken_up() {
    let memory = Memory::default();
    let inner = memory.clone();
    // The first look is lost on its way back, after the lease was taken.
    let looks = AtomicU64::new(0);
    let store = scripted(move |command, _| {
        let reply = inner.answer(command);
        let is_first = command[0] == b"SET" && looks.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first { None } else { Some(reply) }
    });
    let service = service(Duration::ZERO);
    let client = client(&service, &url_of(&store));
    assert_eq!(get(&client), "token-0");
    assert_eq!(memory.record().unwrap()[0], b'L', "after a failed look no write is tried");
    client.forget(USER.as_bytes()).unwrap();
    let start = Instant::now();
    assert_eq!(get(&client), "token-1");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(memory.record().unwrap()[0], b'T');
    assert_eq!(stats(&client).store_errors, 1);
}
