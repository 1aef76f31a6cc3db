//! One flight.

use super::*;

const CROWD: usize = 1000;
/// How soon after the last reply all of them must be back.
const CROWD_BACK: Duration = Duration::from_millis(500);

#[test]
fn a_thousand_threads_and_one_cold_user_make_one_request() {
    in_time("a thousand callers after one flight", CROWD_BACK, || {
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
        // Whether they came before it was there or after.
        assert_eq!((server.requests(), stats(&client).exchanges), (1, 1));
        replied.until(last(&all))
    });
}

#[test]
fn a_thousand_threads_share_a_failure_with_all_its_facts() {
    let rows = [
        (busy(0), ErrorKind::ServerError, 503, 3),
        (reply(422, ""), ErrorKind::Refused, 422, 1),
        (reply(401, ""), ErrorKind::Unauthorized, 401, 1),
        (reply(200, "<html>"), ErrorKind::InvalidResponse, 200, 1),
    ];
    for (bytes, kind, status, requests) in rows {
        in_time("a thousand callers after a failure", CROWD_BACK, || {
            let replied = LastReply::new();
            let (bytes, reply_goes) = (bytes.clone(), replied.clone());
            let (server, gate) = holding(1, move |_| {
                reply_goes.now();
                bytes.clone()
            });
            let client = client_of(&server);
            // A failure is not kept: one who came later would begin anew.
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
fn a_failure_is_not_kept() {
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
fn a_service_that_says_nothing_is_asked_by_two_of_many_at_the_most() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    in_time("callers of the silent", TIMEOUT + GRACE, || {
        let (server, _gate) = holding(u64::MAX, numbered);
        let mut config = config_for(&server.url(), None);
        config.set_timeout_ms(TIMEOUT.as_millis() as u32).unwrap();
        let client = client(&config);
        let all = crowd(&client, 200, || {});
        assert!(all.iter().all(|back| back.kind() == ErrorKind::Timeout));
        assert!(all.iter().all(|back| back.took() >= TIMEOUT));
        // The one that has the most time goes on where the first had none, and then nobody has any.
        assert!(server.requests() <= 2, "{}", server.requests());
        all.iter().map(Back::took).max().unwrap()
    });
}

#[test]
fn a_flight_is_shared_where_nothing_is_kept() {
    let (server, gate) = holding(1, numbered);
    let mut config = config_for(&server.url(), None);
    config.set_cache_capacity(0);
    let client = client(&config);
    let all = flight(&client, &[20_000; 5], |_| gate.open());
    assert_eq!(shared(&all), "token-0");
    assert_eq!((kept(&client, "alice"), server.requests()), (None, 1));
    assert_eq!(get(&client, "alice").unwrap(), "token-1");
    let stats = stats(&client);
    assert_eq!((stats.entries, stats.bytes, stats.evictions), (0, 0, 0));
}

/// Between "fetched" and "stored" nobody may come and find neither the flight nor the token.
#[test]
fn between_fetched_and_stored_there_is_nothing() {
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
            assert_eq!(kept(&client, &user), Some(user));
        }
    });
    assert_eq!(server.requests(), USERS);
    let stats = stats(&client);
    assert_eq!((stats.exchanges, stats.entries), (USERS, USERS));
}
