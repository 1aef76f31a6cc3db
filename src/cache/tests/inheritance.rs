//! What a child of a fork inherits of its parent's cache. Here both are in one process: to the cache, a fork
//! means only that the parent's is no longer used, and that a held lock stays held.

use std::sync::Weak;

use super::*;

fn child(parent: &Cache<Manual>) -> Cache<Manual> {
    parent.inherit(Manual::new(), parent.forks + 1)
}

fn warm(count: usize) -> Cache<Manual> {
    let cache = cache(100_000);
    for number in 0..count {
        ask(&cache, &format!("u{number}"), response(&format!("t{number}"), None)).unwrap();
    }
    cache
}

#[test]
fn a_child_finds_all_tokens_and_starts_its_own_counts() {
    let parent = warm(5000);
    let child = child(&parent);
    for number in 0..5000 {
        assert_eq!(peek(&child, &format!("u{number}")), Some(format!("t{number}")));
    }
    let stats = child.stats();
    assert_eq!((stats.hits, stats.misses, stats.forks), (5000, 0, 1));
    assert_eq!((stats.entries, stats.bytes), (parent.stats().entries, parent.stats().bytes));
    assert_eq!(parent.stats().forks, 0);
}

#[test]
fn stats_count_inherited_entries_before_any_access() {
    let parent = warm(300);
    assert_eq!(child(&parent).stats().entries, 300);
}

#[test]
fn tokens_dropped_by_a_child_do_not_come_back() {
    let parent = warm(100);
    let child = child(&parent);
    child.forget(user("u1"));
    child.invalidate(user("u2"), b"t2");
    child.invalidate(user("u3"), b"another");
    let grandchild = self::child(&child);
    for cache in [&child, &grandchild] {
        assert_eq!(peek(cache, "u1"), None);
        assert_eq!(peek(cache, "u2"), None);
        assert_eq!(peek(cache, "u3").as_deref(), Some("t3"));
        assert_eq!(cache.stats().entries, 98);
    }
    grandchild.clear();
    assert_eq!((grandchild.stats().entries, grandchild.stats().bytes), (0, 0));
    assert!((0..100).all(|number| peek(&grandchild, &format!("u{number}")).is_none()));
}

/// A thread of the parent may hold the lock of a shard at the fork.
#[test]
fn a_locked_shard_is_copied() {
    let parent = warm(5000);
    for locked in 0..parent.shards.len() {
        let held = parent.shards[locked].lock(&parent.bounds);
        assert!(parent.bounds.reserve(1000), "for an entry that never comes");
        let child = child(&parent);
        for number in 0..5000 {
            let id = format!("u{number}");
            assert_eq!(peek(&child, &id), Some(format!("t{number}")));
        }
        drop(held);
        parent.bounds.release(1000);
        assert_eq!(child.stats().entries, 5000);
        assert_eq!(child.stats().bytes, parent.stats().bytes);
        child.shards[locked].lock(&child.bounds).evict();
        assert_eq!((child.stats().entries, parent.stats().entries), (4999, 5000));
    }
}

/// While an entry is moved, it is in two places of the table.
#[test]
fn an_entry_in_two_places_is_copied_once() {
    let parent = cache(100);
    for number in 0..50 {
        ask(&parent, &format!("u{number}"), response("t", None)).unwrap();
    }
    let held = parent.shards[0].lock(&parent.bounds);
    let entry = held.find(parent.key(user("u7"))).unwrap();
    held.put_again(entry);
    let child = child(&parent);
    assert_eq!(child.stats().entries, 50);
    child.forget(user("u7"));
    assert_eq!(peek(&child, "u7"), None);
    assert_eq!(child.stats().entries, 49);
}

/// A child that frees the client frees its tokens, except those of a shard that was locked at the fork.
#[test]
fn an_abandoned_cache_is_freed_except_locked_shards() {
    let parent = warm(1000);
    let shards: Vec<_> = parent.shards.iter().map(Arc::downgrade).collect();
    let _taken_over = Arc::clone(&parent.shards[1]);
    for locked in &parent.shards[..2] {
        std::mem::forget(locked.lock(&parent.bounds)); // by a thread that the child does not have
    }
    parent.abandon();
    let left: Vec<_> = shards.iter().map(Weak::strong_count).collect();
    assert_eq!(left[..2], [1, 1]);
    assert!(left[2..].iter().all(|&count| count == 0));
}

#[test]
fn a_grandchild_inherits_entries_that_its_parent_never_used() {
    let grandparent = warm(1000);
    let parent = child(&grandparent);
    parent.forget(user("u5"));
    ask(&parent, "u6", response("ignored", None)).unwrap();
    ask(&parent, "of-the-parent", response("p", None)).unwrap();
    let child = child(&parent);
    assert_eq!(peek(&child, "u5"), None);
    assert_eq!(peek(&child, "u6").as_deref(), Some("t6"));
    assert_eq!(peek(&child, "of-the-parent").as_deref(), Some("p"));
    let found = (0..1000).filter(|number| peek(&child, &format!("u{number}")).is_some()).count();
    assert_eq!(found, 999);
    assert_eq!(child.stats().forks, 2);
}

#[test]
fn an_inherited_entry_expires_on_time() {
    let parent = cache(10);
    ask(&parent, "a", response("t", Some(100))).unwrap();
    let child = child(&parent);
    assert!(peek(&child, "a").is_some());
    child.clock.advance(Duration::from_secs(101));
    assert!(peek(&child, "a").is_none());
}

#[test]
fn flights_and_the_breaker_are_not_inherited() {
    let parent = cache(10);
    let refusal = || Outcome::Failed(Error::new(ErrorKind::Unauthorized, "").with_http_status(401));
    for number in 0..5 {
        ask(&parent, &format!("u{number}"), refusal()).unwrap_err();
    }
    assert_eq!(ask(&parent, "x", response("t", None)), Err(ErrorKind::Unauthorized));
    parent.shards[0].lock(&parent.bounds).state.flights.begin(b"y");
    let child = child(&parent);
    assert_eq!(ask(&child, "x", response("t", None)).as_deref(), Ok("t"));
    assert_eq!(ask(&child, "y", response("t", None)).as_deref(), Ok("t"));
}
