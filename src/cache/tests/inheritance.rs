//! What a child of a fork has of its parent's cache. Here both live in one process, which the cache
//! does not notice: all that a fork does is that nobody changes the parent's any more.

use super::*;

fn child(parent: &Cache<Manual>) -> Cache<Manual> {
    parent.inherit(Manual::new(), parent.forks + 1)
}

fn warm(count: usize) -> Cache<Manual> {
    let cache = cache(100_000);
    for number in 0..count {
        ask(
            &cache,
            &format!("u{number}"),
            grant(&format!("t{number}"), None),
        )
        .unwrap();
    }
    cache
}

#[test]
fn a_child_finds_all_and_counts_anew() {
    let parent = warm(5000);
    let child = child(&parent);
    for number in 0..5000 {
        assert_eq!(
            peek(&child, &format!("u{number}")),
            Some(format!("t{number}"))
        );
    }
    let stats = child.stats();
    assert_eq!((stats.hits, stats.misses, stats.forks), (5000, 0, 1));
    assert_eq!(
        (stats.entries, stats.bytes),
        (parent.stats().entries, parent.stats().bytes)
    );
    assert_eq!(parent.stats().forks, 0);
}

#[test]
fn stats_alone_show_what_was_inherited() {
    let parent = warm(300);
    assert_eq!(child(&parent).stats().entries, 300);
}

#[test]
fn what_a_child_drops_does_not_come_back_and_stays_with_the_parent() {
    let parent = warm(100);
    let child = child(&parent);
    child.forget(user("u1"));
    child.invalidate(user("u2"), b"t2");
    child.invalidate(user("u3"), b"another");
    assert_eq!(peek(&child, "u1"), None);
    assert_eq!(peek(&child, "u2"), None);
    assert_eq!(peek(&child, "u3").as_deref(), Some("t3"));
    child.clear();
    assert_eq!(child.stats().entries, 0);
    assert!((0..100).all(|number| peek(&child, &format!("u{number}")).is_none()));
    assert!((0..100).all(|number| peek(&parent, &format!("u{number}")).is_some()));
}

#[test]
fn a_grandchild_has_what_its_parent_had_not_touched_yet() {
    let grandparent = warm(1000);
    let parent = child(&grandparent);
    parent.forget(user("u5"));
    ask(&parent, "u6", grant("ignored", None)).unwrap();
    ask(&parent, "of-the-parent", grant("p", None)).unwrap();
    let child = child(&parent);
    assert_eq!(peek(&child, "u5"), None);
    assert_eq!(peek(&child, "u6").as_deref(), Some("t6"));
    assert_eq!(peek(&child, "of-the-parent").as_deref(), Some("p"));
    let found = (0..1000)
        .filter(|number| peek(&child, &format!("u{number}")).is_some())
        .count();
    assert_eq!(found, 999);
    assert_eq!(child.stats().forks, 2);
}

#[test]
fn an_inherited_entry_ends_when_it_would_have() {
    let parent = cache(10);
    ask(&parent, "a", grant("t", Some(100))).unwrap();
    let child = child(&parent);
    assert!(peek(&child, "a").is_some());
    child.clock.advance(Duration::from_secs(91));
    assert!(peek(&child, "a").is_none());
}

#[test]
fn flights_and_the_breaker_are_not_inherited() {
    let parent = cache(10);
    let refusal = || Outcome::Failed(Error::new(ErrorKind::Unauthorized, "").with_http_status(401));
    for number in 0..5 {
        ask(&parent, &format!("u{number}"), refusal()).unwrap_err();
    }
    assert_eq!(
        ask(&parent, "x", grant("t", None)),
        Err(ErrorKind::Unauthorized)
    );
    parent.shards[0]
        .lock(&parent.bounds)
        .room
        .flights
        .begin(b"y");
    let child = child(&parent);
    assert_eq!(ask(&child, "x", grant("t", None)).as_deref(), Ok("t"));
    assert_eq!(ask(&child, "y", grant("t", None)).as_deref(), Ok("t"));
}
