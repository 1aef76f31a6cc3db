//! Signatures that the service refuses.

use super::*;

fn refused_user(client: &Client, user: &str) {
    let error = failure(client, user);
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!((error.http_status(), error.attempts()), (Some(401), 1));
}

/// How long a call that was not sent is told to wait.
fn stopped(client: &Client, user: &str) -> Duration {
    let error = failure(client, user);
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    assert_eq!((error.http_status(), error.attempts()), (None, 0));
    error.retry_after().unwrap()
}

#[test]
fn after_five_refused_users_one_request_goes_out_every_five_seconds() {
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

    // What is kept is handed out, and what goes past the cache neither feels it nor mends it.
    assert_eq!(get(&client, "known").unwrap(), "known");
    let error = client.exchange(b"alice", None).err().unwrap();
    assert_eq!(error.http_status(), Some(401));
    refuses.store(false, Ordering::SeqCst);
    client.exchange(b"alice", None).unwrap();
    refuses.store(true, Ordering::SeqCst);
    assert_eq!(server.requests(), 8);
    stopped(&client, "alice");

    // One of many goes to see.
    std::thread::sleep(stopped(&client, "alice"));
    assert!(opened.elapsed() >= WINDOW - GRACE);
    on_threads(50, |number| {
        let error = failure(&client, &format!("prober-{number}"));
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
    });
    assert_eq!(server.requests(), 9);

    // And when it is well again, all may.
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
fn it_takes_five_different_users_in_a_row() {
    let (server, refuses) = refusing();
    let client = client_of(&server);
    for round in 0..3 {
        // One user with many callers is one.
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
    // Past the cache, and with signatures of whoever, it says nothing of our key.
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
fn no_other_failure_than_a_401_stops_the_requests() {
    let statuses = [400, 403, 404, 422, 302];
    let server = counting(move |number| reply(statuses[number as usize % statuses.len()], ""));
    let client = client_of(&server);
    for number in 0..50 {
        assert_eq!(failure(&client, &format!("user-{number}")).attempts(), 1);
    }
    assert_eq!(server.requests(), 50);
}

/// A wrong key must not send a million requests, however many threads came before it was noticed.
#[test]
fn calls_that_wait_for_their_turn_are_stopped_with_the_others() {
    const SLOTS: u32 = 2;
    const CALLERS: usize = 60;
    let (server, gate) = holding(SLOTS.into(), |_| reply(401, ""));
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(SLOTS).unwrap();
    let client = client(&config);
    let users: Vec<_> = (0..CALLERS).map(|number| format!("user-{number}")).collect();
    std::thread::scope(|scope| {
        let callers = users.iter().map(|user| ask(scope, &client, user, None, None)).collect();
        wait_until("all of them wait for a slot", || stats(&client).exchanges == CALLERS as u64);
        gate.open();
        let all = join_all(callers);
        assert!(all.iter().all(|back| back.kind() == ErrorKind::Unauthorized));
    });
    // Five that tell; what else was under way by then; and the calls whose answer was there, and whose slot
    // was free again, a moment before they told it.
    let requests = server.requests();
    assert!(requests <= 5 + 2 * u64::from(SLOTS), "{requests} requests");
}
