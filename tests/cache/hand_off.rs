//! Leaders that leave a flight, and waiters that take it over.

use super::*;

#[test]
fn a_waiter_takes_over_from_a_leader_that_times_out() {
    seen_once("a waiter that took over", || {
        let server = counting(|number| {
            std::thread::sleep(FLIGHT);
            numbered(number)
        });
        let client = client_of(&server);
        let [short, long] = [50, 1000].map(call_with_timeout);
        let waiter = std::thread::scope(|scope| {
            let leader = ask(scope, &client, "alice", Some(&short), None);
            wait_until("the leader has begun", || stats(&client).exchanges == 1);
            let waiter = ask(scope, &client, "alice", Some(&long), None);
            assert_eq!(leader.join().unwrap().kind(), ErrorKind::Timeout);
            waiter.join().unwrap()
        });
        assert!(server.requests() <= 2);
        let stats = stats(&client);
        if stats.coalesced == 0 || waiter.took() >= Duration::from_secs(1) {
            return false; // a busy machine: the waiter came too late, or timed out
        }
        assert_eq!(waiter.token(), "token-1");
        assert_eq!((stats.exchanges, stats.failures), (1, 0));
        true
    });
}

#[test]
fn a_cancelled_leader_leaves_and_the_waiters_receive_the_token() {
    in_time("a cancelled leader", CANCEL_MAX, || {
        let (server, _gate) = holding(1, numbered);
        let client = client_of(&server);
        let mut cancelled_at = None;
        let all = flight(&client, &[20_000; 10], |calls| {
            wait_until("the request is out", || server.requests() == 1);
            cancelled_at = Some(Instant::now());
            calls[0].cancel();
        });
        assert_eq!(all[0].kind(), ErrorKind::Cancelled);
        assert_eq!(shared(&all[1..]), "token-1");
        assert_eq!(server.requests(), 2);
        let stats = stats(&client);
        assert_eq!((stats.exchanges, stats.failures), (1, 0));
        all[0].at.saturating_duration_since(cancelled_at.unwrap())
    });
}

#[test]
fn waiters_leave_in_time_and_the_flight_continues() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    in_time("waiters that leave", CANCEL_MAX, || {
        let (server, gate) = holding(1, numbered);
        let client = client_of(&server);
        let mut cancelled_at = None;
        let timeouts = [20_000, 300, 20_000, 300, 20_000];
        let all = flight(&client, &timeouts, |calls| {
            cancelled_at = Some(Instant::now());
            calls[2].cancel();
            std::thread::sleep(TIMEOUT + GRACE);
            gate.open();
        });
        let kinds = [1, 2, 3].map(|number| all[number].kind());
        let (timeout, cancelled) = (ErrorKind::Timeout, ErrorKind::Cancelled);
        assert_eq!(kinds, [timeout, cancelled, timeout]);
        assert_eq!((all[0].token(), all[4].token()), ("token-0", "token-0"));
        assert_eq!(server.requests(), 1);
        let message = all[1].answer.as_ref().err().unwrap().message();
        assert!(message.contains("300 ms"), "{message}");
        let overrun = [1, 3].map(|number| {
            assert!(all[number].took() >= TIMEOUT);
            all[number].took() - TIMEOUT
        });
        let cancel = all[2].at.saturating_duration_since(cancelled_at.unwrap());
        cancel.max(overrun[0]).max(overrun[1])
    });
}

#[test]
fn after_all_others_left_the_last_waiter_receives_the_token() {
    const CALLERS: usize = 6;
    let (server, _gate) = holding(CALLERS as u64 - 1, numbered);
    let client = client_of(&server);
    // The waiter with the most time takes over, so the order is known.
    let timeouts = [60_000, 50_000, 40_000, 30_000, 20_000, 10_000];
    let all = flight(&client, &timeouts, |calls| {
        for (number, call) in calls[..CALLERS - 1].iter().enumerate() {
            wait_until("the next one leads", || server.requests() == number as u64 + 1);
            call.cancel();
        }
    });
    let (last, left) = all.split_last().unwrap();
    assert!(left.iter().all(|returned| returned.kind() == ErrorKind::Cancelled));
    assert_eq!(last.token(), "token-5");
    assert_eq!(cached(&client, "alice").unwrap(), "token-5");
    let stats = stats(&client);
    assert_eq!((stats.exchanges, stats.failures), (1, 0));
    assert_eq!((stats.requests, stats.retries), (6, 5));
}

#[test]
fn a_leader_without_time_for_the_pause_hands_off() {
    let (server, gate) = holding(1, |number| match number {
        0 => busy(2),
        _ => numbered(number),
    });
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(2).unwrap();
    let client = client(&config);
    let mut opened_at = None;
    let all = flight(&client, &[1900, 15_000], |_| {
        opened_at = Some(Instant::now());
        gate.open();
    });
    let error = all[0].answer.as_ref().err().unwrap();
    assert_eq!(
        (error.kind(), error.http_status(), error.attempts()),
        (ErrorKind::ServerError, Some(503), 1),
        "{error:?}"
    );
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    assert_eq!(all[1].token(), "token-1");
    assert!(all[1].at - opened_at.unwrap() >= Duration::from_secs(2));
    assert_eq!(server.requests(), 2);
    let stats = stats(&client);
    assert_eq!((stats.exchanges, stats.failures, stats.retries), (1, 0, 1));
}

#[test]
fn attempts_count_on_across_leaders() {
    let (server, gate) = holding(1, |_| busy(1));
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(2).unwrap();
    let client = client(&config);
    let all = flight(&client, &[950, 15_000, 15_000], |_| gate.open());
    let waiters = [1, 2].map(|number| {
        let error = all[number].answer.as_ref().err().unwrap();
        (error.http_status(), error.attempts())
    });
    assert_eq!(waiters, [(Some(503), 2); 2], "the next leader made the last attempt");
    assert_eq!(server.requests(), 2);
}

#[test]
fn if_no_caller_has_time_for_the_pause_all_fail_at_once() {
    in_time("a pause that no caller has time for", GRACE, || {
        let (server, gate) = holding(1, |_| busy(30));
        let client = client_of(&server);
        let mut opened_at = None;
        let all = flight(&client, &[20_000, 15_000, 25_000, 10_000], |_| {
            opened_at = Some(Instant::now());
            gate.open();
        });
        shared(&all);
        let error = all[0].answer.as_ref().err().unwrap();
        assert_eq!(
            (error.kind(), error.http_status(), error.attempts()),
            (ErrorKind::ServerError, Some(503), 1)
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
        assert!(error.retryable());
        assert_eq!((server.requests(), stats(&client).failures), (1, 1));
        last(&all) - opened_at.unwrap()
    });
}

#[test]
fn the_next_leader_has_an_attempt_even_if_one_is_the_maximum() {
    let (server, _gate) = holding(1, numbered);
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    let all = flight(&client, &[1000, 15_000, 15_000], |_| {});
    assert_eq!(all[0].kind(), ErrorKind::Timeout);
    assert_eq!(shared(&all[1..]), "token-1");
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_leader_that_times_out_before_its_turn_hands_off_without_an_attempt() {
    let (server, gate) = holding(1, |number| match number {
        1 => busy(0),
        _ => numbered(number),
    });
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(1).unwrap();
    config.set_max_attempts(2).unwrap();
    let client = client(&config);
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| client.exchange(b"holder", None).unwrap());
        wait_until("the only connection is in use", || server.requests() == 1);
        let all = flight(&client, &[1000, 15_000, 15_000], |_| {
            std::thread::sleep(Duration::from_secs(1) + GRACE);
            gate.open();
        });
        let error = all[0].answer.as_ref().err().unwrap();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, 0));
        assert_eq!(shared(&all[1..]), "token-2");
        holder.join().unwrap();
    });
    assert_eq!(server.requests(), 3);
    let stats = stats(&client);
    assert_eq!((stats.exchanges, stats.requests, stats.retries), (1, 2, 1));
}

#[test]
fn the_next_leader_waits_for_the_rest_of_the_pause() {
    seen_once("a leader that left during the pause", || {
        let replied = LastReply::new();
        let reply_goes = replied.clone();
        let server = counting(move |number| match number {
            0 => {
                reply_goes.now();
                busy(1)
            }
            _ => numbered(number),
        });
        let client = client_of(&server);
        let all = flight(&client, &[20_000; 3], |calls| {
            wait_until("the request is out", || server.requests() == 1);
            std::thread::sleep(FLIGHT); // until the leader has read the response
            calls[0].cancel();
        });
        let error = all[0].answer.as_ref().err().unwrap();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Cancelled, 1));
        assert_eq!(shared(&all[1..]), "token-1");
        assert_eq!((server.requests(), stats(&client).exchanges), (2, 1));
        let waited = replied.until(last(&all));
        // Less: the leader left before it had the response.
        waited >= Duration::from_secs(1) && waited < Duration::from_secs(2)
    });
}

/// Other callers leave at random moments.
#[test]
fn a_patient_caller_always_receives_its_token() {
    const ROUNDS: usize = 150;
    let server = Server::start(|incoming| {
        std::thread::sleep(Duration::from_millis(3));
        Outcome::Reply(token_reply(&incoming.user()))
    });
    let client = client_of(&server);
    let (tokens, left) = (AtomicU64::new(0), AtomicU64::new(0));
    on_threads(4, |thread| {
        let mut dice = Dice::new(thread);
        for round in 0..ROUNDS {
            let user = format!("user-{thread}-{round}");
            // The calls that will be cancelled have the most time, so they take over.
            let doomed = [30_000; 4].map(call_with_timeout);
            let hasty = [0; 3].map(|_| call_with_timeout(1 + dice.roll(8) as u32));
            let first = Duration::from_micros(dice.roll(5000));
            let next = Duration::from_micros(dice.roll(100));
            let impatient = std::thread::scope(|scope| {
                let impatient: Vec<_> = doomed
                    .iter()
                    .chain(&hasty)
                    .map(|call| ask(scope, &client, &user, Some(call), None))
                    .collect();
                let patient = ask(scope, &client, &user, None, None);
                std::thread::sleep(first);
                for call in &doomed {
                    call.cancel();
                    let start = Instant::now();
                    while start.elapsed() < next {} // a sleep would be too long
                }
                assert_eq!(patient.join().unwrap().token(), user);
                join_all(impatient)
            });
            for returned in impatient {
                match returned.answer {
                    Ok(token) => {
                        assert_eq!(token, user);
                        tokens.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        let kind = error.kind();
                        let expected = [ErrorKind::Cancelled, ErrorKind::Timeout];
                        assert!(expected.contains(&kind), "{error:?}");
                        left.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            assert_eq!(cached(&client, &user), Some(user));
        }
    });
    let (tokens, left) = (tokens.into_inner(), left.into_inner());
    println!("{tokens} tokens, {left} left, {:?}", stats(&client));
    assert!(tokens > 0 && left > 0, "{tokens} tokens, {left} left");
    check_sums_at_rest(&stats(&client));
}

#[test]
fn closing_ends_a_flight_for_all_at_once() {
    in_time("callers of a client that was closed", CANCEL_MAX, || {
        let (server, _gate) = holding(1, numbered);
        let client = client_of(&server);
        let mut closed_at = None;
        let all = flight(&client, &[20_000; 50], |_| {
            wait_until("the request is out", || server.requests() == 1);
            closed_at = Some(Instant::now());
            client.close();
        });
        assert!(all.iter().all(|returned| returned.kind() == ErrorKind::Closed));
        assert_eq!(server.requests(), 1);
        last(&all).saturating_duration_since(closed_at.unwrap())
    });
}

#[test]
fn a_closed_client_returns_no_cached_token() {
    let server = counting(numbered);
    let client = client_of(&server);
    get(&client, "alice").unwrap();
    client.close();
    let errors = [
        get(&client, "alice").err(),
        client.peek_token(b"alice").err(),
        client.invalidate(b"alice", b"token-0").err(),
        client.forget(b"alice").err(),
        client.clear().err(),
        client.stats().err(),
    ];
    for error in errors {
        assert_eq!(error.unwrap().kind(), ErrorKind::Closed);
    }
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_cancelled_call_receives_no_cached_token() {
    let server = counting(numbered);
    let client = client_of(&server);
    get(&client, "alice").unwrap();
    let call = Call::new();
    call.cancel();
    let before = stats(&client);
    for user in ["alice", "bob"] {
        let error = get_by(&client, user, Some(&call)).err().unwrap();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Cancelled, 0));
    }
    assert_eq!((server.requests(), stats(&client)), (1, before));
}
