//! Renewal as callers see it. Its rules are tested in `src/cache/tests/renewal.rs`.

use super::*;

/// A token without an expiry time is due at this age, and expires at twice this age.
const TTL: Duration = Duration::from_secs(2);

fn renewing(server: &Server) -> Client {
    let mut config = config_for(&server.url(), None);
    config.set_cache_ttl_ms(TTL.as_millis() as u64);
    config.set_max_attempts(1).unwrap();
    client(&config)
}

/// A client whose token is due.
fn due(server: &Server) -> Client {
    let client = renewing(server);
    assert_eq!(get(&client, "alice").unwrap(), "token-0");
    std::thread::sleep(TTL + Duration::from_millis(20));
    client
}

/// Every request after the first waits for the gate.
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
        assert_eq!(cached(&client, "alice").as_deref(), Some("token-0"));
        gate.open();
        assert_eq!(renews.join().unwrap().token(), "token-1");
    });
    assert_eq!(get(&client, "alice").unwrap(), "token-1");
    assert_eq!(server.requests(), 2);
    let stats = stats(&client);
    assert_eq!((stats.misses, stats.exchanges, stats.coalesced), (2, 2, 0));
}

#[test]
fn a_live_token_survives_failed_renewals() {
    let server = counting(|number| match number {
        0 => numbered(0),
        _ => reply(500, ""),
    });
    let client = due(&server);
    on_threads(20, |_| assert_eq!(get(&client, "alice").unwrap(), "token-0"));
    assert_eq!(server.requests(), 2, "one of them tried");
    std::thread::sleep(TTL);
    assert_eq!(failure(&client, "alice").kind(), ErrorKind::ServerError, "now it has expired");
}

#[test]
fn a_caller_that_times_out_receives_the_live_token() {
    let (server, gate) = holding_renewals();
    let client = due(&server);
    let began = Instant::now();
    let answer = get_by(&client, "alice", Some(&call_with_timeout(100)));
    assert_eq!(answer.unwrap(), "token-0");
    assert!(began.elapsed() >= Duration::from_millis(100), "it tried");
    gate.open();
}

#[test]
fn a_refusal_drops_the_token() {
    for (status, kind) in [(401, ErrorKind::Unauthorized), (403, ErrorKind::Forbidden)] {
        let server = counting(move |number| match number {
            0 => numbered(0),
            1 => reply(status, ""),
            _ => numbered(number),
        });
        let client = due(&server);
        assert_eq!(failure(&client, "alice").kind(), kind);
        assert_eq!(cached(&client, "alice"), None);
        assert_eq!(get(&client, "alice").unwrap(), "token-2");
    }
}
