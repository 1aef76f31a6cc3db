//! When an entry ends.

use super::*;

/// For how many whole seconds a token is found that was granted for `lifetime`.
fn found_for(lifetime: Option<u64>, ttl: Option<u64>) -> Option<u64> {
    const LOOK_FOR: u64 = 20_000;
    let cache = Cache::new(
        limits(10, u64::MAX, ttl.map(Duration::from_secs)),
        Manual::new(),
    );
    assert_eq!(
        ask(&cache, "a", grant("token", lifetime)).as_deref(),
        Ok("token"),
        "it is handed out in any case"
    );
    let found = (0..LOOK_FOR).position(|_| {
        let found = peek(&cache, "a").is_some();
        cache.clock.advance(Duration::from_secs(1));
        !found
    });
    found.map(|seconds| seconds as u64)
}

#[test]
fn the_margin_is_a_minute_or_a_tenth_and_the_age_has_none() {
    assert_eq!(found_for(Some(3600), None), Some(3540));
    assert_eq!(found_for(Some(600), None), Some(540));
    assert_eq!(found_for(Some(100), None), Some(90));
    assert_eq!(found_for(Some(1), None), Some(1), "0.9 s");
    assert_eq!(found_for(None, None), None);
    assert_eq!(found_for(None, Some(100)), Some(100));
    assert_eq!(found_for(Some(3600), Some(100)), Some(100));
    assert_eq!(found_for(Some(100), Some(3600)), Some(90));
}

#[test]
fn what_had_ended_before_it_came_is_not_kept() {
    assert_eq!(found_for(Some(0), None), Some(0));
}

#[test]
fn a_lifetime_beyond_every_clock_is_none() {
    assert_eq!(found_for(Some(u64::MAX), None), None);
    assert_eq!(found_for(Some(u64::MAX), Some(5)), Some(5));
    assert_eq!(found_for(None, Some(u64::MAX)), None);
}

#[test]
fn an_entry_that_ended_is_dropped_when_it_is_asked_for() {
    let cache = cache(10);
    ask(&cache, "a", grant("old", Some(10))).unwrap();
    cache.clock.advance(Duration::from_secs(10));
    assert_eq!(cache.stats().entries, 1);
    assert_eq!(peek(&cache, "a"), None);
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    assert_eq!(ask(&cache, "a", grant("new", None)).as_deref(), Ok("new"));
    assert_eq!(cache.stats().evictions, 0, "that was none");
}
