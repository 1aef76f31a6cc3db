//! A service that asks to be left alone.

use super::*;

fn limited(status: u16, seconds: u64) -> Vec<u8> {
    reply_with(status, &format!("Retry-After: {seconds}\r\n"), "")
}

/// Asks for each of so many users at once, and gives what each was told.
fn ask_for_all(client: &Client, count: usize) -> Vec<Answer> {
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
fn one_request_is_enough_to_hear_it() {
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
        for answer in ask_for_all(&client, 50) {
            check_not_sent(&answer.err().unwrap(), kind, Duration::from_secs(60));
        }
        // What goes past the cache keeps to it as well.
        let error = client.exchange(b"alice", None).err().unwrap();
        check_not_sent(&error, kind, Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(5), "they fail at once");
        assert_eq!(server.requests(), 1);
        check_sums_at_rest(&stats(&client));
    }
}

#[test]
fn it_is_ten_minutes_at_the_longest() {
    let server = counting(|_| limited(429, 86_400));
    let client = client_of(&server);
    failure(&client, "first");
    check_not_sent(&failure(&client, "second"), ErrorKind::RateLimited, Duration::from_secs(600));
}

#[test]
fn without_a_time_the_others_go_on() {
    let server = counting(|number| if number == 0 { reply(429, "") } else { numbered(number) });
    let mut config = config_for(&server.url(), None);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    assert_eq!(failure(&client, "first").kind(), ErrorKind::RateLimited);
    get(&client, "second").unwrap();
}

/// Those that have time enough wait. Then one request goes out alone, and the others follow its answer.
#[test]
fn when_it_is_over_one_goes_first() {
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
    let held = Instant::now();
    std::thread::scope(|scope| {
        let all = scope.spawn(|| ask_for_all(&client, USERS));
        wait_until("the first request after it is out", || server.requests() == 2);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.requests(), 2, "the others wait for its answer");
        let hurried = call_with_timeout(50);
        let error = get_by(&client, "in a hurry".replace(' ', "-").as_str(), Some(&hurried));
        assert_eq!(error.err().unwrap().kind(), ErrorKind::Timeout);
        gate.open();
        assert!(all.join().unwrap().iter().all(Result::is_ok));
    });
    assert_eq!(server.requests(), 1 + USERS as u64);
    let second = seen.lock().unwrap()[1];
    assert!(second - held >= Duration::from_secs(1) - GRACE, "not before its time");
}

/// A call that waits for its turn when the service asks to wait is not sent either.
#[test]
fn a_call_that_waited_for_its_turn_keeps_to_it() {
    let (server, gate) = holding(1, |_| limited(429, 60));
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(1).unwrap();
    let client = client(&config);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| failure(&client, "first"));
        wait_until("it is under way", || server.requests() == 1);
        let others = scope.spawn(|| ask_for_all(&client, 10));
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
fn tokens_that_are_there_are_handed_out_meanwhile_and_not_renewed() {
    let server = counting(|number| match number {
        0 => numbered(0),
        _ => limited(429, 60),
    });
    let mut config = config_for(&server.url(), None);
    config.set_cache_ttl_ms(1500);
    let client = client(&config);
    get(&client, "kept").unwrap();
    failure(&client, "another");
    std::thread::sleep(Duration::from_millis(1600)); // it is due now
    assert_eq!(get(&client, "kept").unwrap(), "token-0");
    assert_eq!(server.requests(), 2);
}

/// The first call may be the one that renews: a client whose users are all there has no other.
#[test]
fn what_is_due_is_renewed_when_it_is_over() {
    let server = counting(|number| match number {
        0 => numbered(0),
        1 => limited(429, 1),
        _ => numbered(number),
    });
    let mut config = config_for(&server.url(), None);
    config.set_cache_ttl_ms(1500);
    config.set_max_attempts(1).unwrap();
    let client = client(&config);
    get(&client, "kept").unwrap();
    failure(&client, "another");
    std::thread::sleep(Duration::from_millis(1600));
    assert_eq!(get(&client, "kept").unwrap(), "token-2");
}

/// A first call that gets no answer shows nothing: another goes first, alone.
#[test]
fn without_an_answer_the_others_do_not_follow() {
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
        let all = scope.spawn(|| ask_for_all(&client, 8));
        wait_until("the next one is out", || server.requests() == 3);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.requests(), 3);
        gate.open();
        assert!(all.join().unwrap().iter().all(Result::is_ok));
    });
}
