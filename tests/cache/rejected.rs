//! Tokens that the service rejected.

use super::*;

#[test]
fn a_hundred_workers_with_the_same_401_make_one_exchange() {
    const WORKERS: usize = 100;
    let server = counting(numbered);
    let client = client_of(&server);
    for round in 0..10 {
        let user = format!("user-{round}");
        let all_received_it = Barrier::new(WORKERS);
        let tokens = Mutex::new(HashSet::new());
        let before = server.requests();
        on_threads(WORKERS, |_| {
            let rejected = get(&client, &user).unwrap();
            all_received_it.wait();
            invalidate(&client, &user, &rejected);
            let next = get(&client, &user).unwrap();
            assert_ne!(next, rejected);
            tokens.lock().unwrap().extend([rejected, next]);
        });
        assert_eq!(server.requests() - before, 2);
        assert_eq!(tokens.into_inner().unwrap().len(), 2);
    }
    assert_eq!(stats(&client).invalidations, 10);
}

#[test]
fn a_report_of_another_token_drops_nothing() {
    let server = counting(numbered);
    let client = client_of(&server);
    get(&client, "alice").unwrap();
    for other in ["token", "token-", "token-1", "token-00", "Token-0", "x"] {
        invalidate(&client, "alice", other);
        invalidate(&client, "bob", "token-0");
    }
    assert_eq!(cached(&client, "alice").unwrap(), "token-0");
    assert_eq!(stats(&client).invalidations, 0);
    invalidate(&client, "alice", "token-0");
    assert_eq!(cached(&client, "alice"), None);
    assert_eq!(stats(&client).invalidations, 1);
}

#[test]
fn the_same_token_again_is_rejected_for_all_without_a_third_request() {
    let server = Server::start(|_| Outcome::Reply(token()));
    let client = client_of(&server);
    get(&client, "alice").unwrap();
    let first_report = Instant::now();
    let retry_after = Mutex::new(Vec::new());
    on_threads(50, |_| {
        for _ in 0..3 {
            invalidate(&client, "alice", "a-token");
            let error = failure(&client, "alice");
            assert_eq!(error.kind(), ErrorKind::TokenRejected, "{error:?}");
            assert!(error.retryable() && error.attempts() <= 1, "{error:?}");
            assert!(!error.message().contains("a-token"), "{error:?}");
            let wait = error.retry_after().unwrap();
            retry_after.lock().unwrap().push((wait, Instant::now()));
        }
    });
    assert_eq!(server.requests(), 2);
    assert_eq!(cached(&client, "alice"), None);
    // Other users are not affected.
    get(&client, "bob").unwrap();
    // Neither are uncached exchanges.
    client.exchange(b"alice", None).unwrap();
    assert_eq!(server.requests(), 4);
    let retry_after = retry_after.into_inner().unwrap();
    for &(wait, at) in &retry_after {
        assert!(wait <= WINDOW && at + wait >= first_report + WINDOW);
    }
    let error = failure(&client, "alice");
    assert_eq!((error.attempts(), error.http_status()), (0, None));
    std::thread::sleep(error.retry_after().unwrap());
    assert_eq!(get(&client, "alice").unwrap(), "a-token");
    assert_eq!(server.requests(), 5);
}

#[test]
fn after_a_second_rejected_token_there_is_none_for_five_seconds() {
    let server = counting(numbered);
    let client = client_of(&server);
    let first = get(&client, "alice").unwrap();
    let before = Instant::now();
    invalidate(&client, "alice", &first);
    let reported = Instant::now();
    let second = get(&client, "alice").unwrap();
    std::thread::sleep(GRACE); // so that the two reports can be told apart
    // Late reports of the first token do not count for the second.
    (0..10).for_each(|_| invalidate(&client, "alice", &first));
    assert_eq!(get(&client, "alice").unwrap(), second);
    invalidate(&client, "alice", &second);
    assert_eq!(server.requests(), 2);
    // The five seconds count from the first report; the second does not extend them.
    let asked = Instant::now();
    let error = failure(&client, "alice");
    let told = Instant::now();
    assert_eq!(error.kind(), ErrorKind::TokenRejected);
    assert_eq!((error.attempts(), error.http_status()), (0, None));
    assert_eq!(server.requests(), 2);
    let wait = error.retry_after().unwrap();
    let a_millisecond = Duration::from_millis(1); // it is rounded up to a whole one
    assert!(asked + wait <= reported + WINDOW + a_millisecond);
    assert!(told + wait >= before + WINDOW);
    std::thread::sleep(wait);
    assert_eq!(get(&client, "alice").unwrap(), "token-2");
    assert_eq!(server.requests(), 3);
    let stats = stats(&client);
    assert_eq!((stats.invalidations, stats.failures), (2, 0));
}

#[test]
fn a_token_reported_during_its_exchange_is_not_returned() {
    let (server, gate) = holding(1, numbered);
    let client = client_of(&server);
    // Another process may have it already.
    let all = flight(&client, &[20_000; 5], |_| {
        invalidate(&client, "alice", "token-0");
        gate.open();
    });
    shared(&all);
    let error = all[0].answer.as_ref().err().unwrap();
    assert_eq!(
        (error.kind(), error.http_status(), error.attempts()),
        (ErrorKind::TokenRejected, Some(200), 1)
    );
    let stats = stats(&client);
    assert_eq!((stats.entries, stats.bytes), (0, 0));
    assert_eq!((stats.failures, stats.invalidations), (1, 0));
}

#[test]
fn rejected_tokens_are_remembered_without_a_cache() {
    let server = Server::start(|_| Outcome::Reply(token()));
    let mut config = config_for(&server.url(), None);
    config.set_cache_capacity(0);
    let client = client(&config);
    let token = get(&client, "alice").unwrap();
    invalidate(&client, "alice", &token);
    for _ in 0..3 {
        assert_eq!(failure(&client, "alice").kind(), ErrorKind::TokenRejected);
    }
    assert_eq!(server.requests(), 2);
}
