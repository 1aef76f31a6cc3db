//! A token that will end soon, as callers see it. What comes of a renewal is in `src/cache/tests`.

use super::*;

/// A token without an end of its own is due at this age, and ends at twice of it.
const TTL: Duration = Duration::from_secs(2);

fn renewing(server: &Server) -> Client {
    let mut config = config_for(&server.url(), None);
    config.set_cache_ttl_ms(TTL.as_millis() as u64);
    config.set_max_attempts(1).unwrap();
    client(&config)
}

/// The first token is there, and due.
fn due(server: &Server) -> Client {
    let client = renewing(server);
    assert_eq!(get(&client, "alice").unwrap(), "token-0");
    std::thread::sleep(TTL + Duration::from_millis(20));
    client
}

/// All requests but the first end when the gate is open.
fn holding_renewals() -> (Server, Gate) {
    let gate = Gate::default();
    let entrance = gate.clone();
    let server = counting(move |number| {
        if number > 0 {
            entrance.pass();
        }
        numbered(number)
    });
    (server, gate)
}

#[test]
fn one_caller_renews_and_the_others_do_not_wait() {
    let (server, gate) = holding_renewals();
    let client = due(&server);
    std::thread::scope(|scope| {
        let renews = ask(scope, &client, "alice", None, None);
        wait_until("the renewal is under way", || server.requests() == 2);
        for _ in 0..100 {
            assert_eq!(get(&client, "alice").unwrap(), "token-0");
        }
        assert_eq!(kept(&client, "alice").as_deref(), Some("token-0"));
        gate.open();
        assert_eq!(renews.join().unwrap().token(), "token-1");
    });
    assert_eq!(get(&client, "alice").unwrap(), "token-1");
    assert_eq!(server.requests(), 2);
    let stats = stats(&client);
    assert_eq!((stats.misses, stats.exchanges, stats.coalesced), (2, 2, 0));
}

#[test]
fn a_service_that_fails_costs_nobody_a_token_that_is_good() {
    let server = counting(|number| match number {
        0 => numbered(0),
        _ => reply(500, ""),
    });
    let client = due(&server);
    on_threads(20, |_| assert_eq!(get(&client, "alice").unwrap(), "token-0"));
    assert_eq!(server.requests(), 2, "one of them has tried");
    std::thread::sleep(TTL);
    assert_eq!(failure(&client, "alice").kind(), ErrorKind::ServerError, "now it has ended");
}

#[test]
fn a_caller_whose_time_is_up_gets_the_token_that_is_there() {
    let (server, gate) = holding_renewals();
    let client = due(&server);
    let began = Instant::now();
    let answer = get_by(&client, "alice", Some(&call_with_timeout(100)));
    assert_eq!(answer.unwrap(), "token-0");
    assert!(began.elapsed() >= Duration::from_millis(100), "it has tried");
    gate.open();
}

#[test]
fn a_refusal_ends_it() {
    for (status, kind) in [(401, ErrorKind::Unauthorized), (403, ErrorKind::Forbidden)] {
        let server = counting(move |number| match number {
            0 => numbered(0),
            1 => reply(status, ""),
            _ => numbered(number),
        });
        let client = due(&server);
        assert_eq!(failure(&client, "alice").kind(), kind);
        assert_eq!(kept(&client, "alice"), None);
        assert_eq!(get(&client, "alice").unwrap(), "token-2");
    }
}
