//! What one client fetched, another receives.

use super::*;

pub(crate) fn one_exchange_serves_two_clients(store: &str) {
    let service = service(Duration::ZERO);
    let (one, other) = (client(&service, store), client(&service, store));
    assert_eq!((get(&one), get(&other)), ("token-0".into(), "token-0".into()));
    assert_eq!((get(&one), get(&other)), ("token-0".into(), "token-0".into()));
    assert_eq!(service.requests(), 1);
    let counted = |stats: Stats| {
        let of_the_store = (stats.store_hits, stats.store_misses, stats.store_errors);
        (stats.hits, stats.misses, stats.exchanges, of_the_store)
    };
    assert_eq!(counted(stats(&one)), (1, 1, 1, (0, 1, 0)));
    assert_eq!(counted(stats(&other)), (1, 1, 0, (1, 0, 0)));
    one.check_store(None).unwrap();
}

#[test]
fn one_exchange_serves_two_clients_of_a_store_in_memory() {
    one_exchange_serves_two_clients(&url_of(&Memory::default().start()));
}

#[test]
fn one_exchange_serves_two_clients_of_redis() {
    let Some(redis) = Redis::start(&[]) else { return };
    one_exchange_serves_two_clients(&redis.url());
    let key = only_key(&redis);
    assert!(redis.run(&[b"GET", key.as_bytes()]).starts_with("$36\r\nT"), "sealed");
    assert!(!redis.run(&[b"GET", key.as_bytes()]).contains("token-0"));
    redis.run(&[b"FLUSHALL"]);
    one_exchange_serves_two_clients(&format!("{}?db=3", redis.url()));
}

#[test]
fn redis_is_reached_over_tcp() {
    let Some((_redis, port, _)) = Redis::start_on_a_port(false) else { return };
    one_exchange_serves_two_clients(&format!("redis://localhost:{port}/1"));
}

#[test]
fn redis_is_reached_over_tls_and_its_certificate_is_checked() {
    let Some((redis, port, certificate)) = Redis::start_on_a_port(true) else { return };
    let service = service(Duration::ZERO);
    let make = |host: &str, trusts: bool| {
        let ca = trusts.then_some(certificate.as_str());
        let mut config = config_for(&service.url(), ca);
        config.set_store(format!("rediss://{host}:{port}").as_bytes()).unwrap();
        Client::new(&config).unwrap()
    };
    let (one, other) = (make("localhost", true), make("localhost", true));
    assert_eq!(
        (get(&one), get(&other), service.requests()),
        ("token-0".into(), "token-0".into(), 1)
    );
    one.check_store(None).unwrap();
    let connections = || {
        let info = redis.run(&[b"INFO", b"stats"]);
        let count = info.split_once("total_connections_received:").unwrap().1;
        count.lines().next().unwrap().parse::<u64>().unwrap()
    };
    let before = connections();
    (0..10).for_each(|user| drop(one.get_token(format!("u-{user}").as_bytes(), None).unwrap()));
    assert_eq!(connections() - before, 1, "the look at the count itself");
    for (host, trusts) in [("127.0.0.1", true), ("localhost", false)] {
        let client = make(host, trusts);
        get(&client);
        let error = client.check_store(None).unwrap_err();
        assert!(error.message().contains("TLS handshake failed"), "{error}");
        assert_eq!(stats(&client).store_hits, 0);
    }
}

#[test]
fn users_applications_and_urls_share_nothing() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (first, second) = (service(Duration::ZERO), service(Duration::ZERO));
    let mut application = config(&first, &redis.url());
    application.set_application_id(b"1").unwrap();
    for (number, config) in
        [config(&first, &redis.url()), application, config(&second, &redis.url())]
            .iter()
            .enumerate()
    {
        get(&Client::new(config).unwrap());
        assert_eq!(first.requests() + second.requests(), number as u64 + 1);
    }
    client(&first, &redis.url()).get_token(b"bob", None).unwrap();
    assert_eq!(first.requests() + second.requests(), 4);
    assert_eq!(redis.run(&[b"DBSIZE"]), ":4\r\n");
}

#[test]
fn a_record_that_does_not_open_is_a_miss_and_replaced() {
    let (memory, service) = (Memory::default(), service(Duration::ZERO));
    let store = memory.start();
    get(&client(&service, &url_of(&store)));
    let good = memory.record().unwrap();
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    let cases = [
        b"".to_vec(),
        b"T".to_vec(),
        b"L".to_vec(),
        flipped,
        good[..30].to_vec(),
        vec![b'x'; 9000],
    ];
    for (number, bad) in cases.iter().enumerate() {
        memory.set_record(bad);
        let reader = client(&service, &url_of(&store));
        assert_eq!(get(&reader), format!("token-{}", number + 1));
        assert_eq!((stats(&reader).store_misses, stats(&reader).store_errors), (1, 0), "{number}");
        assert_eq!(get(&client(&service, &url_of(&store))), format!("token-{}", number + 1));
    }
    assert_eq!(service.requests(), 1 + cases.len() as u64);
}

#[test]
fn a_rejected_token_is_not_handed_back() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::ZERO);
    let clients: Vec<_> = (0..4).map(|_| client(&service, &redis.url())).collect();
    for client in &clients {
        assert_eq!(get(client), "token-0");
    }
    for client in &clients {
        client.invalidate(USER.as_bytes(), b"token-0").unwrap();
        assert_eq!(get(client), "token-1", "the first fetches it, the others find it");
    }
    assert_eq!(service.requests(), 2);
}

#[test]
fn a_token_that_ended_while_the_reply_was_on_its_way_is_not_handed_out() {
    let (memory, service) = (Memory::default(), service(Duration::ZERO));
    let store = memory.start();
    assert_eq!(get(&client(&service, &url_of(&store))), "token-0");
    let slow = scripted(move |command, _| match &command[0][..] {
        b"GET" => {
            std::thread::sleep(Duration::from_millis(300));
            Some(memory.answer(command))
        }
        b"PTTL" => Some(b":200\r\n".to_vec()),
        _ => Some(memory.answer(command)),
    });
    let mut config = config(&service, &url_of(&slow));
    config.set_store_timeout_ms(2000).unwrap();
    let client = Client::new(&config).unwrap();
    assert_eq!(get(&client), "token-1");
    assert_eq!((stats(&client).store_hits, stats(&client).store_errors), (0, 0));
}

#[test]
fn a_renewal_is_not_answered_with_the_token_that_it_renews() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::ZERO);
    let mut config = config(&service, &redis.url());
    config.set_cache_ttl_ms(2000);
    let make = || Client::new(&config).unwrap();
    let (writer, reader) = (make(), make());
    let start = Instant::now();
    assert_eq!((get(&writer), get(&reader)), ("token-0".into(), "token-0".into()));
    // The reader's ends with the record, and is due a tenth of its time before.
    wait_until("the reader renews", || get(&reader) == "token-1");
    let renewed = start.elapsed();
    assert!(renewed >= Duration::from_millis(1750), "{renewed:?}");
    // The writer's is due at two seconds, and finds the new one.
    wait_until("the writer renews", || get(&writer) == "token-1");
    assert_eq!(service.requests(), 2);
    assert_eq!((stats(&writer).store_hits, stats(&reader).store_hits), (1, 1));
}

#[test]
fn connections_are_bounded_as_exchanges_are() {
    const CONCURRENCY: u32 = 4;
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::from_millis(5));
    let mut config = config(&service, &redis.url());
    config.set_max_concurrency(CONCURRENCY).unwrap();
    let client = Client::new(&config).unwrap();
    let number = AtomicU64::new(0);
    common::on_threads(48, || {
        for _ in 0..4 {
            let user = format!("user-{}", number.fetch_add(1, Ordering::Relaxed));
            client.get_token(user.as_bytes(), None).unwrap();
        }
    });
    let info = redis.run(&[b"INFO", b"clients"]);
    let connected = info.split_once("connected_clients:").unwrap().1.lines().next().unwrap();
    let connected: u32 = connected.parse().unwrap();
    // And this one. Those of tokens that were put while the next exchanges ran are closed.
    assert!(connected <= CONCURRENCY + 1, "{connected}");
    assert_eq!(stats(&client).store_errors, 0);
}

#[test]
fn the_record_stands_as_long_as_the_token_is_used() {
    let Some(redis) = Redis::start(&[]) else { return };
    let lifetime = |seconds: u64, ttl_ms: u64| {
        let body = format!(r#"{{"access_token":"a","expires_in":{seconds}}}"#);
        let service = Server::start(move |_| Outcome::Reply(reply(200, &body)));
        redis.run(&[b"FLUSHALL"]);
        let mut config = config(&service, &redis.url());
        config.set_cache_ttl_ms(ttl_ms);
        get(&Client::new(&config).unwrap());
        let left = redis.run(&[b"PTTL", only_key(&redis).as_bytes()]);
        left.trim_start_matches(':').trim_end().parse::<u64>().unwrap().div_ceil(1000)
    };
    const HOUR: u64 = 3_600_000;
    assert_eq!(lifetime(100, HOUR), 90, "a tenth is left");
    assert_eq!(lifetime(1000, HOUR), 940, "a minute is left");
    assert_eq!(lifetime(100_000, HOUR), 3600, "the greatest age of the cache");
    assert_eq!(lifetime(1_000_000, 0), 24 * 3600, "the greatest age in the store");
}

#[test]
fn a_record_without_an_end_counts_as_one_of_the_greatest_age() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::ZERO);
    get(&client(&service, &redis.url()));
    assert_eq!(redis.run(&[b"PERSIST", only_key(&redis).as_bytes()]), ":1\r\n");
    let reader = client(&service, &redis.url());
    assert_eq!((get(&reader), get(&reader)), ("token-0".into(), "token-0".into()));
    assert_eq!((stats(&reader).store_hits, stats(&reader).hits), (1, 1));
}

#[test]
fn a_user_is_forgotten_in_the_store_too() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::ZERO);
    let (one, other) = (client(&service, &redis.url()), client(&service, &redis.url()));
    assert_eq!((get(&one), get(&other)), ("token-0".into(), "token-0".into()));
    one.forget(USER.as_bytes()).unwrap();
    assert_eq!(get(&one), "token-0", "forget is local");
    one.forget_shared(USER.as_bytes(), None).unwrap();
    assert_eq!(redis.run(&[b"DBSIZE"]), ":0\r\n");
    assert_eq!((get(&other), get(&one)), ("token-0".into(), "token-1".into()));
    drop(redis);
    let error = one.forget_shared(USER.as_bytes(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert!(one.peek_token(USER.as_bytes()).is_err(), "the cache has forgotten it");
}

#[test]
fn another_key_looks_under_another_name() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::ZERO);
    let (one, other) = (client(&service, &redis.url()), client(&service, &redis.url()));
    assert_eq!(get(&one), "token-0");
    one.set_hmac_key(b"another").unwrap();
    assert_eq!(get(&one), "token-0", "a kept token stays");
    one.clear().unwrap();
    assert_eq!((get(&one), get(&other)), ("token-1".into(), "token-0".into()));
    other.set_hmac_key(b"another").unwrap();
    other.clear().unwrap();
    assert_eq!(get(&other), "token-1");
    one.forget_shared(USER.as_bytes(), None).unwrap();
    assert_eq!(redis.run(&[b"DBSIZE"]), ":1\r\n", "the old key's record stays until it ends");
}

#[test]
fn exchange_and_peek_leave_the_store_alone() {
    let Some(redis) = Redis::start(&[]) else { return };
    let service = service(Duration::ZERO);
    let client = client(&service, &redis.url());
    client.exchange(USER.as_bytes(), None).unwrap();
    assert!(client.peek_token(USER.as_bytes()).is_err());
    assert_eq!(redis.run(&[b"DBSIZE"]), ":0\r\n");
}
