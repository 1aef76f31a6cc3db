//! `Retry-After` pauses all calls of a client.

use super::*;

fn limited(status: u16, seconds: u64) -> Vec<u8> {
    reply_with(status, &format!("Retry-After: {seconds}\r\n"), "")
}

/// The results of concurrent calls for `count` users.
fn get_all(client: &Client, count: usize) -> Vec<Answer> {
    let answers = Mutex::new(Vec::new());
    on_threads(count, |number| {
        let answer = get(client, &format!("user-{number}"));
        answers.lock().unwrap().push(answer);
    });
    answers.into_inner().unwrap()
}

fn check_not_sent(error: &Error, kind: ErrorKind, at_most: Duration) {
    assert_eq!((error.kind(), error.attempts()), (kind, 0), "{error:?}");
    assert_eq!(error.http_status(), None);
    assert!(error.retryable());
    let wait = error.retry_after().unwrap();
    assert!(wait > Duration::ZERO && wait <= at_most, "{wait:?}");
}

#[test]
fn one_response_pauses_all_calls() {
    for (status, kind) in [(429, ErrorKind::RateLimited), (503, ErrorKind::ServerError)] {
        let server = counting(move |_| limited(status, 60));
        let client = client_of(&server);
        let first = failure(&client, "first");
        assert_eq!((first.kind(), first.attempts()), (kind, 1));
        assert_eq!(
            (first.http_status(), first.retry_after()),
            (Some(status), Some(Duration::from_secs(60)))
        );
        let began = Instant::now();
        for answer in get_all(&client, 50) {
            check_not_sent(&answer.err().unwrap(), kind, Duration::from_secs(60));
        }
        // An uncached exchange is paused too.
        let error = client.exchange(b"alice", None).err().unwrap();
        check_not_sent(&error, kind, Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(5), "they fail at once");
        assert_eq!(server.requests(), 1);
        check_sums_at_rest(&stats(&client));
    }
}

#[test]
fn a_pause_lasts_at_most_ten_minutes() {
    let server = counting(|_| limited(429, 86_400));
    let client = client_of(&server);
    failure(&client, "first");
    check_not_sent(&failure(&client, "second"), ErrorKind::RateLimited, Duration::from_secs(600));
}

#[test]
fn a_429_without_retry_after_pauses_no_other_call() {
    let server = counting(|number| if number == 0 { reply(429, "") } else { numbered(number) });
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    assert_eq!(failure(&client, "first").kind(), ErrorKind::RateLimited);
    get(&client, "second").unwrap();
}

/// Calls with enough time wait. Then one request is sent alone, and the others after its response.
#[test]
fn after_a_pause_one_request_goes_first() {
    const USERS: usize = 12;
    let gate = Gate::default();
    let entrance = gate.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&seen);
    let server = counting(move |number| {
        times.lock().unwrap().push(Instant::now());
        match number {
            0 => limited(429, 1),
            1 => {
                entrance.pass();
                numbered(number)
            }
            _ => numbered(number),
        }
    });
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    failure(&client, "first");
    let paused = Instant::now();
    std::thread::scope(|scope| {
        let all = scope.spawn(|| get_all(&client, USERS));
        wait_until("the first request after the pause is sent", || server.requests() == 2);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.requests(), 2, "the others wait for its response");
        let hurried = call_with_timeout(50);
        let error = get_by(&client, "in a hurry".replace(' ', "-").as_str(), Some(&hurried));
        assert_eq!(error.err().unwrap().kind(), ErrorKind::Timeout);
        gate.open();
        assert!(all.join().unwrap().iter().all(Result::is_ok));
    });
    assert_eq!(server.requests(), 1 + USERS as u64);
    let second = seen.lock().unwrap()[1];
    assert!(second - paused >= Duration::from_secs(1) - GRACE, "not before the pause ends");
}

#[test]
fn a_pause_also_stops_calls_that_wait_for_their_turn() {
    let (server, gate) = holding(1, |_| limited(429, 60));
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(1).unwrap();
    let client = client(&config);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| failure(&client, "first"));
        wait_until("it is under way", || server.requests() == 1);
        let others = scope.spawn(|| get_all(&client, 10));
        wait_until("the others wait", || stats(&client).exchanges == 11);
        gate.open();
        assert_eq!(first.join().unwrap().attempts(), 1);
        for answer in others.join().unwrap() {
            check_not_sent(&answer.err().unwrap(), ErrorKind::RateLimited, Duration::from_secs(60));
        }
    });
    assert_eq!(server.requests(), 1);
}

#[test]
fn during_a_pause_due_tokens_are_returned_and_not_renewed() {
    let server = counting(|number| match number {
        0 => numbered(0),
        _ => limited(429, 60),
    });
    let mut config = config_for(&server.url(), None);
    config.set_cache_ttl_ms(1500);
    let client = client(&config);
    get(&client, "alice").unwrap();
    failure(&client, "another");
    std::thread::sleep(Duration::from_millis(1600)); // it is due now
    assert_eq!(get(&client, "alice").unwrap(), "token-0");
    assert_eq!(server.requests(), 2);
}

/// The renewal may be the first request after the pause: a client with all its users cached has no other.
#[test]
fn after_a_pause_a_due_token_is_renewed() {
    let server = counting(|number| match number {
        0 => numbered(0),
        1 => limited(429, 1),
        _ => numbered(number),
    });
    let mut config = config_for(&server.url(), None);
    config.set_cache_ttl_ms(1500);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    get(&client, "alice").unwrap();
    failure(&client, "another");
    std::thread::sleep(Duration::from_millis(1600));
    assert_eq!(get(&client, "alice").unwrap(), "token-2");
}

#[test]
fn if_the_first_request_has_no_response_the_next_goes_alone() {
    let gate = Gate::default();
    let entrance = gate.clone();
    let server = counting(move |number| {
        if number == 0 {
            return limited(429, 1);
        }
        entrance.pass();
        numbered(number)
    });
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    failure(&client, "first");
    std::thread::sleep(Duration::from_millis(1100));
    std::thread::scope(|scope| {
        let hurried = call_with_timeout(300);
        let answer = get_by(&client, "hurried", Some(&hurried));
        assert_eq!(answer.err().unwrap().kind(), ErrorKind::Timeout);
        let all = scope.spawn(|| get_all(&client, 8));
        wait_until("the next one is out", || server.requests() == 3);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.requests(), 3);
        gate.open();
        assert!(all.join().unwrap().iter().all(Result::is_ok));
    });
}
