//! When an entry is renewed, and when it ends.

use super::*;

/// After how many whole seconds a token that was granted for `lifetime` is due, and after how many it is
/// found no more.
fn seconds(lifetime: Option<u64>, ttl: Option<u64>) -> (Option<u64>, Option<u64>) {
    const LOOK_FOR: u64 = 20_000;
    let ttl = ttl.map(Duration::from_secs);
    let cache = Cache::new(limits(10, u64::MAX, ttl), Manual::new());
    assert_eq!(
        ask(&cache, "a", grant("token", lifetime)).as_deref(),
        Ok("token"),
        "it is handed out in any case"
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
fn it_is_due_by_the_margin_or_its_age_and_ends_by_itself() {
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
fn what_had_ended_before_it_came_is_not_kept() {
    assert_eq!(seconds(Some(0), None), (None, Some(0)));
}

#[test]
fn a_lifetime_beyond_every_clock_is_none() {
    assert_eq!(seconds(Some(u64::MAX), None), (None, None));
    assert_eq!(seconds(Some(u64::MAX), Some(5)), (Some(5), None));
    assert_eq!(seconds(None, Some(u64::MAX)), (None, None));
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
