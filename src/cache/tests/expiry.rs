//! When an entry is due for renewal, and when it expires.

use super::*;

/// After how many whole seconds a token with this lifetime is due, and after how many it has expired.
fn seconds(lifetime: Option<u64>, ttl: Option<u64>) -> (Option<u64>, Option<u64>) {
    const LOOK_FOR: u64 = 20_000;
    let ttl = ttl.map(Duration::from_secs);
    let cache = Cache::new(limits(10, u64::MAX, ttl), Manual::new());
    assert_eq!(
        ask(&cache, "a", response("token", lifetime)).as_deref(),
        Ok("token"),
        "it is always returned"
    );
    let (mut due, mut gone) = (None, None);
    for second in 0..LOOK_FOR {
        match cache.get(user("a")) {
            Lookup::Live(_) => assert!(due.is_none()),
            Lookup::Due(_) => due = due.or(Some(second)),
            Lookup::Missing => gone = gone.or(Some(second)),
        }
        assert_eq!(peek(&cache, "a").is_none(), due.or(gone).is_some());
        cache.clock.advance(Duration::from_secs(1));
    }
    (due, gone)
}

#[test]
fn a_token_is_due_by_its_margin_or_age_before_it_expires() {
    assert_eq!(seconds(Some(3600), None), (Some(3540), Some(3600)));
    assert_eq!(seconds(Some(600), None), (Some(540), Some(600)));
    assert_eq!(seconds(Some(100), None), (Some(90), Some(100)));
    assert_eq!(seconds(Some(1), None), (None, Some(1)), "due after 0.9 s");
    assert_eq!(seconds(None, None), (None, None));
    assert_eq!(seconds(None, Some(100)), (Some(100), Some(200)));
    assert_eq!(seconds(Some(3600), Some(100)), (Some(100), Some(3600)));
    assert_eq!(seconds(Some(100), Some(3600)), (Some(90), Some(100)));
}

#[test]
fn an_expired_token_is_not_cached() {
    assert_eq!(seconds(Some(0), None), (None, Some(0)));
}

#[test]
fn a_lifetime_beyond_the_clock_counts_as_unlimited() {
    assert_eq!(seconds(Some(u64::MAX), None), (None, None));
    assert_eq!(seconds(Some(u64::MAX), Some(5)), (Some(5), None));
    assert_eq!(seconds(None, Some(u64::MAX)), (None, None));
}

#[test]
fn an_expired_entry_is_dropped_on_access() {
    let cache = cache(10);
    ask(&cache, "a", response("old", Some(10))).unwrap();
    cache.clock.advance(Duration::from_secs(10));
    assert_eq!(cache.stats().entries, 1);
    assert_eq!(peek(&cache, "a"), None);
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    assert_eq!(ask(&cache, "a", response("new", None)).as_deref(), Ok("new"));
    assert_eq!(cache.stats().evictions, 0, "expiry is no eviction");
}
