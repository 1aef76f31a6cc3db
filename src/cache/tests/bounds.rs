//! A million users in a cache of a hundred thousand: bounds and eviction.

use super::*;

const USERS: u64 = 1_000_000;
const CAPACITY: u64 = 100_000;

fn fill<C: Clock>(cache: &Cache<C>, users: impl IntoIterator<Item = u64>) {
    for number in users {
        let id = format!("user-{number}");
        ask(cache, &id, response(&format!("token-{number}"), None)).unwrap();
    }
}

fn contains<C: Clock>(cache: &Cache<C>, number: u64) -> bool {
    match peek(cache, &format!("user-{number}")) {
        Some(token) => {
            assert_eq!(token, format!("token-{number}"));
            true
        }
        None => false,
    }
}

#[test]
fn a_million_users_pass_through() {
    let cache = cache(CAPACITY);
    fill(&cache, 0..CAPACITY);
    assert_eq!(cache.stats().entries, CAPACITY);
    assert_eq!(cache.stats().evictions, 0, "no eviction below the bound");
    for start in (CAPACITY..USERS).step_by(50_000) {
        fill(&cache, start..start + 50_000);
        assert_eq!(cache.stats().entries, CAPACITY);
    }
    let cached: u64 = (0..USERS).map(|number| u64::from(contains(&cache, number))).sum();
    assert_eq!(cached, CAPACITY);
    let stats = cache.stats();
    assert_eq!(stats.evictions, USERS - CAPACITY);
    assert_eq!((stats.misses, stats.exchanges), (USERS, USERS));
    cache.clear();
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    assert!((0..USERS).step_by(997).all(|number| !contains(&cache, number)));
}

/// Ten times as many cold users as the capacity come once each. For every ten of them, one hot user is
/// requested; the hot users are a tenth of the capacity.
#[test]
fn a_scan_of_cold_users_does_not_evict_hot_users() {
    const HOT: u64 = CAPACITY / 10;
    let cache = cache(CAPACITY);
    fill(&cache, 0..HOT);
    fill(&cache, 0..HOT); // a second request for each
    let (mut asked, mut hits) = (0, 0);
    for (step, cold) in (HOT..HOT + 10 * CAPACITY).enumerate() {
        fill(&cache, [cold]);
        if step % 10 == 0 {
            asked += 1;
            let hot = (step as u64 / 10) % HOT;
            hits += u64::from(contains(&cache, hot));
            fill(&cache, [hot]);
        }
    }
    assert!(hits * 100 >= asked * 95, "{hits} hits of {asked}");
}

/// The same without requests for the hot users before the scan.
#[test]
fn users_that_become_hot_during_a_scan_stay() {
    const HOT: u64 = CAPACITY / 10;
    let cache = cache(CAPACITY);
    let mut hits_of_last_round = 0;
    for round in 0..10u64 {
        hits_of_last_round = 0;
        for hot in 0..HOT {
            hits_of_last_round += u64::from(contains(&cache, hot));
            fill(&cache, [hot]);
            let cold = USERS + (round * HOT + hot) * 5;
            fill(&cache, cold..cold + 5);
        }
    }
    assert!(hits_of_last_round * 100 >= HOT * 95, "{hits_of_last_round} of {HOT}");
}

#[test]
fn bounds_by_bytes_hold_for_tokens_of_every_size() {
    const BYTES: u64 = 1 << 20;
    let cache = Cache::new(limits(u64::from(u32::MAX), BYTES, None), Manual::new());
    for number in 0..5000usize {
        let size = 1 + (number * 7919) % 8192;
        let token = "t".repeat(size);
        ask(&cache, &format!("u{number}"), response(&token, None)).unwrap();
        assert!(cache.stats().bytes <= BYTES);
    }
    let stats = cache.stats();
    assert!(stats.bytes > BYTES - 64 * 1024, "{} bytes", stats.bytes);
    assert_eq!(stats.entries + stats.evictions, 5000);
}

#[test]
fn a_token_larger_than_the_cache_is_returned_and_evicts_nothing() {
    let cache = Cache::new(limits(10, 2000, None), Manual::new());
    ask(&cache, "a", response("small", None)).unwrap();
    let large = "t".repeat(3000);
    assert_eq!(ask(&cache, "b", response(&large, None)), Ok(large));
    assert_eq!(peek(&cache, "b"), None);
    assert_eq!(peek(&cache, "a").as_deref(), Some("small"));
}

#[test]
fn small_caches_are_exact_and_keep_the_right_users() {
    for capacity in 1..=300 {
        let cache = cache(capacity);
        fill(&cache, 0..2 * capacity);
        assert_eq!(cache.stats().entries, capacity);
        assert!(contains(&cache, 2 * capacity - 1), "the latest, of {capacity}");
    }
    let cache = cache(3);
    fill(&cache, 0..3);
    assert!(contains(&cache, 0));
    fill(&cache, 3..4);
    assert!(contains(&cache, 0) && !contains(&cache, 1) && contains(&cache, 3));
}

#[test]
fn with_capacity_0_nothing_is_cached() {
    let cache = cache(0);
    for _ in 0..3 {
        fill(&cache, 0..10);
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.exchanges), (0, 30, 30));
    assert_eq!((stats.entries, stats.bytes, stats.evictions), (0, 0, 0));
}

#[test]
fn one_user_a_million_times_takes_the_space_of_one_entry() {
    let cache = cache(CAPACITY);
    let mut bytes = None;
    for round in 0..USERS {
        ask(&cache, "a", response("token", None)).unwrap();
        cache.forget(user("a"));
        ask(&cache, "a", response("token", None)).unwrap();
        if round % 2 == 0 {
            cache.invalidate(user("a"), b"token");
            cache.clock.advance(Duration::from_secs(5));
        }
        if round % 50_000 == 1 {
            assert_eq!(*bytes.get_or_insert(cache.stats().bytes), cache.stats().bytes);
            assert_eq!(cache.stats().entries, 1);
        }
    }
}

#[test]
fn bounds_hold_while_threads_fill() {
    let cache = Cache::new(limits(500, u64::MAX, None), Monotonic);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let cache = &cache;
            scope.spawn(move || {
                for number in 0..5000 {
                    fill(cache, [thread * 1_000_000 + number]);
                    assert!(cache.bounds.entries() <= 500);
                }
            });
        }
    });
    assert_eq!(cache.stats().entries, 500);
    let cached: usize = (0..8u64)
        .flat_map(|thread| (0..5000).map(move |number| thread * 1_000_000 + number))
        .filter(|number| contains(&cache, *number))
        .count();
    assert_eq!(cached, 500);
}
