//! The breaker: signatures that the service refuses.

use super::*;

fn refused_user(client: &Client, user: &str) {
    let error = failure(client, user);
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!((error.http_status(), error.attempts()), (Some(401), 1));
}

/// The `retry_after` of a call that the breaker stopped.
fn stopped(client: &Client, user: &str) -> Duration {
    let error = failure(client, user);
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    assert_eq!((error.http_status(), error.attempts()), (None, 0));
    error.retry_after().unwrap()
}

#[test]
fn after_five_refused_users_one_request_is_sent_every_five_seconds() {
    let (server, refuses) = refusing();
    let client = client_of(&server);
    refuses.store(false, Ordering::SeqCst);
    get(&client, "known").unwrap();
    refuses.store(true, Ordering::SeqCst);
    (0..5).for_each(|number| refused_user(&client, &format!("user-{number}")));
    let opened = Instant::now();
    let wait = stopped(&client, "alice");
    assert!(wait > Duration::ZERO && wait <= WINDOW, "{wait:?}");
    on_threads(20, |number| {
        stopped(&client, &format!("user-{number}"));
    });
    assert_eq!(server.requests(), 6);

    // Cached tokens are returned. Uncached exchanges neither obey nor close the breaker.
    assert_eq!(get(&client, "known").unwrap(), "known");
    let error = client.exchange(b"alice", None).err().unwrap();
    assert_eq!(error.http_status(), Some(401));
    refuses.store(false, Ordering::SeqCst);
    client.exchange(b"alice", None).unwrap();
    refuses.store(true, Ordering::SeqCst);
    assert_eq!(server.requests(), 8);
    stopped(&client, "alice");

    // One of many calls probes.
    std::thread::sleep(stopped(&client, "alice"));
    assert!(opened.elapsed() >= WINDOW - GRACE);
    on_threads(50, |number| {
        let error = failure(&client, &format!("prober-{number}"));
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
    });
    assert_eq!(server.requests(), 9);

    // After a successful probe all calls are sent.
    refuses.store(false, Ordering::SeqCst);
    std::thread::sleep(stopped(&client, "alice"));
    get(&client, "alice").unwrap();
    on_threads(20, |number| {
        get(&client, &format!("user-{number}")).unwrap();
    });
    assert_eq!(server.requests(), 9 + 1 + 20);
    assert_eq!(stats(&client).requests, 30 - 2);
}

#[test]
fn five_different_users_in_a_row_open_the_breaker() {
    let (server, refuses) = refusing();
    let client = client_of(&server);
    for round in 0..3 {
        // Many callers for one user count once.
        on_threads(20, |_| {
            let error = failure(&client, "user-0");
            assert_eq!(error.kind(), ErrorKind::Unauthorized);
        });
        (0..4).for_each(|number| refused_user(&client, &format!("user-{number}")));
        (0..4).for_each(|number| refused_user(&client, &format!("user-{number}")));
        refuses.store(false, Ordering::SeqCst);
        get(&client, &format!("good-{round}")).unwrap();
        refuses.store(true, Ordering::SeqCst);
    }
    // Uncached exchanges, also with other signatures, do not count.
    for number in 0..10 {
        let user = format!("past-{number}");
        let error = client.exchange(user.as_bytes(), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        let error = client.exchange_signature(user.as_bytes(), &[b'a'; 64], None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
    }
    (0..5).for_each(|number| refused_user(&client, &format!("user-{number}")));
    stopped(&client, "alice");
}

#[test]
fn only_a_401_opens_the_breaker() {
    let statuses = [400, 403, 404, 422, 302];
    let server = counting(move |number| reply(statuses[number as usize % statuses.len()], ""));
    let client = client_of(&server);
    for number in 0..50 {
        assert_eq!(failure(&client, &format!("user-{number}")).attempts(), 1);
    }
    assert_eq!(server.requests(), 50);
}

/// A wrong key must not cost one request for each call that already waits.
#[test]
fn the_breaker_also_stops_calls_that_wait_for_their_turn() {
    const CONNECTIONS: u32 = 2;
    const CALLERS: usize = 60;
    let (server, gate) = holding(CONNECTIONS.into(), |_| reply(401, ""));
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(CONNECTIONS).unwrap();
    let client = client(&config);
    let users: Vec<_> = (0..CALLERS).map(|number| format!("user-{number}")).collect();
    std::thread::scope(|scope| {
        let callers = users.iter().map(|user| ask(scope, &client, user, None, None)).collect();
        wait_until("all of them wait for a connection", || {
            stats(&client).exchanges == CALLERS as u64
        });
        gate.open();
        let all = join_all(callers);
        assert!(all.iter().all(|back| back.kind() == ErrorKind::Unauthorized));
    });
    // Five that open the breaker, those in flight at that moment, and those that took a connection just
    // before the breaker saw its last response.
    let requests = server.requests();
    assert!(requests <= 5 + 2 * u64::from(CONNECTIONS), "{requests} requests");
}
