//! Single flight: concurrent calls for one user share an exchange.

use super::*;

const CROWD: usize = 1000;
/// How soon after the last response all callers must have returned.
const CROWD_RETURNED: Duration = Duration::from_millis(500);

#[test]
fn a_thousand_threads_and_one_cold_user_make_one_request() {
    in_time("a thousand callers after one flight", CROWD_RETURNED, || {
        let replied = LastReply::new();
        let reply_goes = replied.clone();
        let server = counting(move |number| {
            std::thread::sleep(FLIGHT);
            reply_goes.now();
            numbered(number)
        });
        let client = client_of(&server);
        let all = crowd(&client, CROWD, || {});
        assert_eq!((all.len(), shared(&all).as_str()), (CROWD, "token-0"));
        // Late callers found the token in the cache.
        assert_eq!((server.requests(), stats(&client).exchanges), (1, 1));
        replied.until(last(&all))
    });
}

#[test]
fn a_thousand_threads_share_a_failure_with_all_its_details() {
    let rows = [
        (busy(0), ErrorKind::ServerError, 503, 3),
        (reply(422, ""), ErrorKind::Refused, 422, 1),
        (reply(401, ""), ErrorKind::Unauthorized, 401, 1),
        (reply(200, "<html>"), ErrorKind::InvalidResponse, 200, 1),
    ];
    for (bytes, kind, status, requests) in rows {
        in_time("a thousand callers after a failure", CROWD_RETURNED, || {
            let replied = LastReply::new();
            let (bytes, reply_goes) = (bytes.clone(), replied.clone());
            let (server, gate) = holding(1, move |_| {
                reply_goes.now();
                bytes.clone()
            });
            let client = client_of(&server);
            // A failure is not cached: a late caller would start another exchange.
            let all = crowd(&client, CROWD, || {
                wait_until("all of them wait", || stats(&client).coalesced == CROWD as u64 - 1);
                gate.open();
            });
            shared(&all);
            let error = all[0].answer.as_ref().err().unwrap();
            assert_eq!(
                (error.kind(), error.http_status(), error.attempts()),
                (kind, Some(status), requests)
            );
            assert_eq!(server.requests(), u64::from(requests));
            let stats = stats(&client);
            assert_eq!((stats.exchanges, stats.failures, stats.hits), (1, 1, 0));
            replied.until(last(&all))
        });
    }
}

#[test]
fn a_failure_is_not_cached() {
    let server = counting(|number| match number {
        0 => reply(422, ""),
        _ => numbered(number),
    });
    let client = client_of(&server);
    assert_eq!(failure(&client, "alice").kind(), ErrorKind::Refused);
    assert_eq!(get(&client, "alice").unwrap(), "token-1");
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_silent_service_receives_at_most_two_requests_of_many_callers() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    in_time("callers of a silent service", TIMEOUT + GRACE, || {
        let (server, _gate) = holding(u64::MAX, numbered);
        let mut config = config_for(&server.url(), None);
        config.set_timeout_ms(TIMEOUT.as_millis() as u32).unwrap();
        let client = client(&config);
        let all = crowd(&client, 200, || {});
        assert!(all.iter().all(|returned| returned.kind() == ErrorKind::Timeout));
        assert!(all.iter().all(|returned| returned.took() >= TIMEOUT));
        // The waiter with the most time takes over from the first leader, and then all have timed out.
        assert!(server.requests() <= 2, "{}", server.requests());
        all.iter().map(Returned::took).max().unwrap()
    });
}

#[test]
fn a_flight_is_shared_without_a_cache() {
    let (server, gate) = holding(1, numbered);
    let mut config = config_for(&server.url(), None);
    config.set_cache_capacity(0);
    let client = client(&config);
    let all = flight(&client, &[20_000; 5], |_| gate.open());
    assert_eq!(shared(&all), "token-0");
    assert_eq!((cached(&client, "alice"), server.requests()), (None, 1));
    assert_eq!(get(&client, "alice").unwrap(), "token-1");
    let stats = stats(&client);
    assert_eq!((stats.entries, stats.bytes, stats.evictions), (0, 0, 0));
}

/// No call may find neither the flight nor its cached token.
#[test]
fn there_is_no_gap_between_a_flight_and_its_cached_token() {
    const THREADS: usize = 8;
    const USERS: u64 = 2500;
    let server = Server::start(|incoming| Outcome::Reply(token_reply(&incoming.user())));
    let client = client_of(&server);
    on_threads(THREADS, |_| {
        for number in 0..USERS {
            let user = format!("user-{number}");
            for _ in 0..3 {
                assert_eq!(get(&client, &user).unwrap(), user);
            }
            assert_eq!(cached(&client, &user), Some(user));
        }
    });
    assert_eq!(server.requests(), USERS);
    let stats = stats(&client);
    assert_eq!((stats.exchanges, stats.entries), (USERS, USERS));
}
