//! Renewal and its outcomes.

use super::*;

/// The shortest and the longest pause after a failed renewal, in seconds.
const PAUSE: (u64, u64) = (5, 10);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A cache with a due token that expires in 10 seconds.
fn due() -> Cache<Manual> {
    let cache = cache(10);
    ask(&cache, "a", response("old", Some(100))).unwrap();
    cache.clock.advance(seconds(90));
    cache
}

/// The result for `a`, and the number of exchanges.
fn renew(cache: &Cache<Manual>, outcome: Outcome) -> (Result<String, ErrorKind>, u64) {
    let before = cache.stats().exchanges;
    (ask(cache, "a", outcome), cache.stats().exchanges - before)
}

fn failure(kind: ErrorKind, status: Option<u16>) -> Error {
    let failure = Error::new(kind, "");
    match status {
        Some(status) => failure.with_http_status(status),
        None => failure,
    }
}

fn old() -> Result<String, ErrorKind> {
    Ok("old".into())
}

#[test]
fn the_new_token_replaces_the_old() {
    let cache = due();
    assert_eq!(peek(&cache, "a"), None, "a peek finds no due token");
    assert_eq!(renew(&cache, response("new", Some(100))), (Ok("new".into()), 1));
    assert_eq!(peek(&cache, "a").as_deref(), Some("new"));
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.hits, stats.misses, stats.exchanges), (1, 1, 2, 2));
    cache.clock.advance(seconds(89));
    assert_eq!(renew(&cache, response("newer", None)), (Ok("new".into()), 0), "not due yet");
}

#[test]
fn a_failure_other_than_a_refusal_keeps_the_old_token() {
    for (kind, status, stopped) in [
        (ErrorKind::Connect, None, false),
        (ErrorKind::Tls, None, false),
        (ErrorKind::ServerError, Some(503), false),
        (ErrorKind::RateLimited, Some(429), false),
        (ErrorKind::InvalidResponse, Some(200), false),
        (ErrorKind::Timeout, None, true),
    ] {
        let cache = due();
        let error = failure(kind, status);
        let outcome = if stopped { Outcome::Interrupted(error) } else { Outcome::Failed(error) };
        assert_eq!(renew(&cache, outcome), (old(), 1), "{kind:?}");
        let stats = cache.stats();
        assert_eq!((stats.failures, stats.misses, stats.exchanges), (1, 2, 2), "{kind:?}");
        // The next renewal starts after a pause.
        cache.clock.advance(seconds(PAUSE.0) - Duration::from_millis(1));
        assert_eq!(renew(&cache, response("new", None)), (old(), 0), "{kind:?}");
        cache.clock.advance(seconds(PAUSE.1 - PAUSE.0));
        assert_eq!(renew(&cache, response("new", None)), (Ok("new".into()), 1), "{kind:?}");
    }
}

#[test]
fn a_refusal_drops_the_old_token() {
    for (kind, status) in [(ErrorKind::Unauthorized, 401), (ErrorKind::Forbidden, 403)] {
        let cache = due();
        let refusal = Outcome::Failed(failure(kind, Some(status)));
        assert_eq!(renew(&cache, refusal), (Err(kind), 1));
        assert_eq!(peek(&cache, "a"), None);
        assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    }
}

#[test]
fn a_cancelled_caller_receives_its_own_error_and_the_token_stays() {
    let cache = due();
    let stopped = Outcome::Interrupted(Error::cancelled());
    assert_eq!(renew(&cache, stopped), (Err(ErrorKind::Cancelled), 1));
    assert_eq!(cache.stats().entries, 1);
}

#[test]
fn an_expired_token_does_not_hide_a_failure() {
    let cache = due();
    let lost = || Outcome::Failed(failure(ErrorKind::ConnectionLost, None));
    assert_eq!(renew(&cache, lost()), (old(), 1));
    cache.clock.advance(seconds(10));
    assert_eq!(renew(&cache, lost()), (Err(ErrorKind::ConnectionLost), 1));
}

/// Runs `action` on the cache during an exchange that then fails.
fn renew_while(cache: &Cache<Manual>, action: &dyn Fn()) -> Result<String, ErrorKind> {
    let due = cache.get(user("a")).into_due();
    assert!(due.is_some());
    let exchange = Exchanges(|| {
        action();
        Outcome::Failed(Error::new(ErrorKind::Connect, ""))
    });
    fetch(cache, "a", due, &exchange, &context())
}

#[test]
fn other_callers_use_the_old_token_during_a_long_renewal() {
    let cache = due();
    let renewed = renew_while(&cache, &|| {
        assert_eq!(renew(&cache, response("other", None)), (old(), 0));
        cache.clock.advance(seconds(9));
        assert_eq!(renew(&cache, response("other", None)), (old(), 0));
    });
    assert_eq!(renewed, old());
}

#[test]
fn a_token_dropped_during_its_renewal_does_not_come_back() {
    let actions: [fn(&Cache<Manual>); 3] = [
        |cache| cache.invalidate(user("a"), b"old"),
        |cache| cache.forget(user("a")),
        Cache::clear,
    ];
    for action in actions {
        let cache = due();
        assert_eq!(renew_while(&cache, &|| action(&cache)), Err(ErrorKind::Connect));
        assert_eq!(peek(&cache, "a"), None);
    }
    let cache = due();
    assert_eq!(renew_while(&cache, &|| cache.clock.advance(seconds(10))), Err(ErrorKind::Connect));
}

#[test]
fn a_token_evicted_during_its_renewal_is_still_used() {
    let cache = cache(1);
    ask(&cache, "a", response("old", Some(100))).unwrap();
    cache.clock.advance(seconds(90));
    let renewed = renew_while(&cache, &|| {
        ask(&cache, "b", response("other", None)).unwrap();
        assert_eq!(peek(&cache, "a"), None);
    });
    assert_eq!(renewed, old());
}

#[test]
fn a_renewal_in_a_full_cache_evicts_nothing() {
    let cache = cache(2);
    for id in ["a", "b"] {
        ask(&cache, id, response("old", Some(100))).unwrap();
    }
    cache.clock.advance(seconds(90));
    assert_eq!(renew(&cache, response("new", None)), (Ok("new".into()), 1));
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evictions), (2, 0));
    assert_eq!(ask(&cache, "b", response("newer", None)).as_deref(), Ok("newer"));
}

#[test]
fn after_a_cancelled_renewal_the_next_starts_at_once() {
    let cache = due();
    renew(&cache, Outcome::Interrupted(Error::cancelled())).0.unwrap_err();
    assert_eq!(renew(&cache, response("new", None)), (Ok("new".into()), 1));
}

#[test]
fn nothing_is_renewed_while_the_breaker_is_open() {
    let cache = due();
    for number in 0..5 {
        let refusal = Outcome::Failed(failure(ErrorKind::Unauthorized, Some(401)));
        ask(&cache, &format!("u{number}"), refusal).unwrap_err();
    }
    assert_eq!(renew(&cache, response("new", None)), (old(), 0));
}

#[test]
fn one_of_many_threads_renews() {
    let cache = due();
    let exchanges = AtomicU64::new(0);
    let one = Exchanges(|| {
        exchanges.fetch_add(1, Ordering::Relaxed);
        response("new", None)
    });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                if let Some(due) = cache.get(user("a")).into_due() {
                    fetch(&cache, "a", Some(due), &one, &context()).unwrap();
                }
            });
        }
    });
    assert_eq!(exchanges.load(Ordering::Relaxed), 1);
    assert_eq!(peek(&cache, "a").as_deref(), Some("new"));
}
