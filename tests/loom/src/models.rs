//! Who may meet at a flight. Each model names all that may come of it, and loom must find just that,
//! in all orders that there are. To loom a wake-up that is lost is a deadlock.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loom::model::Builder;

use crate::cache::{Asker, Cache};
use crate::error::Error::{self, Refused, Stopped};
use crate::exchange::Outcome;

/// What each got, in the order of the model: the number of the request that brought its token, or
/// why there is none; how many flights there were; and how many joined one.
type End = (Vec<Result<u64, Error>>, u64, u64);

/// How much more time the one has who inherits.
const MORE: Duration = Duration::from_secs(1);

/// One who waits as long as there is something to wait for.
fn asker(deadline: Instant, outcome: Outcome) -> Asker {
    Asker { deadline, gives_up: false, outcome, forgets: false }
}

fn giving_up(asker: Asker) -> Asker {
    Asker { gives_up: true, ..asker }
}

/// Runs one model in every order.
fn check<const N: usize>(
    expected: [End; N],
    model: impl Fn(Instant) -> End + Send + Sync + 'static,
) {
    let mut builder = Builder::new();
    // All of it, whatever the environment says.
    builder.max_branches = 1000;
    builder.preemption_bound = None;
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    let ends = Arc::new(Mutex::new(BTreeSet::new()));
    let found = Arc::clone(&ends);
    let now = Instant::now();
    builder.check(move || {
        let end = model(now);
        found.lock().unwrap().insert(end);
    });
    assert_eq!(*ends.lock().unwrap(), BTreeSet::from(expected));
}

/// The flight of `first` has begun when the others come.
fn meet<const N: usize>(first: Asker, others: [Asker; N]) -> End {
    let cache = Arc::new(Cache::default());
    let (result, threads) = cache.fetch_first(&first, || {
        others.map(|other| {
            let cache = Arc::clone(&cache);
            loom::thread::spawn(move || {
                if other.forgets {
                    cache.forget();
                }
                cache.fetch(&other)
            })
        })
    });
    let mut results = vec![result];
    results.extend(threads.map(|thread| thread.join().unwrap()));

    assert!(!cache.has_flights(), "no flight is left behind");
    let counters = &cache.counters;
    let [exchanges, coalesced, ends, sent, requests] = [
        &counters.exchanges,
        &counters.coalesced,
        &counters.ends,
        &counters.sent,
        &counters.requests,
    ]
    .map(|counter| counter.load(Ordering::Relaxed));
    assert_eq!(ends, exchanges, "each flight ends once");
    assert_eq!(requests, sent, "whoever leads on knows what was done");
    (results, exchanges, coalesced)
}

#[test]
fn who_comes_while_a_flight_fails_shares_it_or_begins_one() {
    let expected = [(vec![Err(Refused), Err(Refused)], 1, 1), (vec![Err(Refused), Ok(2)], 2, 0)];
    check(expected, |now| meet(asker(now, Outcome::Failed), [asker(now, Outcome::Granted)]));
}

#[test]
fn who_comes_while_a_flight_lands_finds_it_or_its_token() {
    let expected = [0, 1, 2].map(|joined| (vec![Ok(1), Ok(1), Ok(1)], 1, joined));
    check(expected, |now| {
        meet(asker(now, Outcome::Granted), [0, 0].map(|_| asker(now, Outcome::Granted)))
    });
}

#[test]
fn a_flight_goes_on_or_ends_if_its_leader_leaves_while_its_waiter_gives_up() {
    let expected = [
        (vec![Err(Stopped), Ok(2)], 1, 1),
        (vec![Err(Stopped), Err(Stopped)], 1, 1),
        (vec![Err(Stopped), Ok(2)], 2, 0),
    ];
    check(expected, |now| {
        meet(asker(now, Outcome::Unfinished), [giving_up(asker(now, Outcome::Granted))])
    });
}

#[test]
fn who_stays_leads_on_if_the_heir_gives_up_while_it_is_called() {
    let expected = [
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 1),
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 2),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 0),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 1),
        (vec![Err(Stopped), Err(Stopped), Ok(2)], 1, 2),
        (vec![Err(Stopped), Err(Stopped), Ok(2)], 2, 1),
    ];
    check(expected, |now| {
        meet(
            asker(now, Outcome::Unfinished),
            [giving_up(asker(now + MORE, Outcome::Granted)), asker(now, Outcome::Granted)],
        )
    });
}

#[test]
fn what_the_heir_brings_is_for_all() {
    let expected = [(1, 1), (1, 2), (2, 0), (2, 1)]
        .map(|(flights, joined)| (vec![Err(Stopped), Ok(2), Ok(2)], flights, joined));
    check(expected, |now| {
        meet(
            asker(now, Outcome::Unfinished),
            [now + MORE, now].map(|deadline| asker(deadline, Outcome::Granted)),
        )
    });
}

#[test]
fn the_heir_may_leave_too() {
    let expected = [
        // The one who has more time leads second, and the last one lands.
        (vec![Err(Stopped), Err(Stopped), Ok(3)], 1, 2),
        (vec![Err(Stopped), Err(Stopped), Ok(3)], 2, 1),
        (vec![Err(Stopped), Err(Stopped), Ok(3)], 3, 0),
        // It comes later than the other.
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 1),
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 2),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 0),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 1),
    ];
    check(expected, |now| {
        meet(
            asker(now, Outcome::Unfinished),
            [asker(now + MORE, Outcome::Unfinished), asker(now, Outcome::Granted)],
        )
    });
}

#[test]
fn a_failure_that_nobody_has_time_to_mend_is_for_all_who_wait() {
    let expected = [
        (vec![Err(Stopped), Err(Refused), Err(Refused)], 1, 2),
        (vec![Err(Stopped), Err(Refused), Ok(2)], 2, 1),
        (vec![Err(Stopped), Ok(2), Err(Refused)], 2, 1),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 0),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 1),
    ];
    check(expected, |now| {
        meet(
            asker(now, Outcome::Pausing(now + 2 * MORE)),
            [now + MORE, now].map(|deadline| asker(deadline, Outcome::Granted)),
        )
    });
}

#[test]
fn who_had_the_user_forgotten_does_not_find_what_was_under_way() {
    let expected = [
        // It still shares a flight that it meets.
        (vec![Ok(1), Ok(1)], 1, 1),
        (vec![Ok(1), Ok(2)], 2, 0),
    ];
    check(expected, |now| {
        let forgetful = Asker { forgets: true, ..asker(now, Outcome::Granted) };
        meet(asker(now, Outcome::Granted), [forgetful])
    });
}
