//! Threads that meet at a flight. Each model lists every possible result, and loom must find exactly these
//! over all orders with at most five preemptions. Loom reports a lost wake-up as a deadlock.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use loom::model::Builder;

use crate::cache::Cache;
use crate::context::{Context, Deadline};
use crate::error::Error::{self, Refused, Stopped};
use crate::exchange::{Fetcher, Later, Outcome, Progress, SignedUser};
use crate::started::Started;
use crate::token::{Token, TokenResponse};

/// The result of each caller, in the order of the model (an error, or the number of the request that returned
/// its token); the number of flights; the number of calls that joined one.
type End = (Vec<Result<u32, Error>>, u64, u64);

/// How much more time the next leader has.
const MORE: Duration = Duration::from_secs(1);

/// One call of a model.
#[derive(Clone, Copy)]
struct Call {
    context: Context,
    attempt: Attempt,
    /// It forgets the user before it asks.
    forgets: bool,
    /// It is started, and waits without a thread.
    is_started: bool,
}

/// The outcome of a request that the call sends.
#[derive(Clone, Copy)]
enum Attempt {
    Grants,
    Fails,
    /// The caller is cancelled.
    Stops,
    /// The next attempt must not start before this time, and the caller has no time for it.
    Pauses(Instant),
}

use Attempt::{Fails, Grants, Pauses, Stops};

/// A call that never gives up.
fn call(at: Instant, attempt: Attempt) -> Call {
    let deadline = Deadline { at, timeout: MORE };
    Call {
        context: Context { deadline, gives_up: false },
        attempt,
        forgets: false,
        is_started: false,
    }
}

/// A call that is started.
fn started(at: Instant, attempt: Attempt) -> Call {
    Call { is_started: true, ..call(at, attempt) }
}

fn giving_up(call: Call) -> Call {
    Call { context: Context { gives_up: true, ..call.context }, ..call }
}

/// Makes the exchange of one call.
struct Requests<'a> {
    attempt: Attempt,
    /// Counts the requests of all calls of a model. It is std's, so loom does not see it.
    sent: &'a AtomicU32,
    /// Run in the first request.
    meanwhile: RefCell<Option<Box<dyn FnOnce() + 'a>>>,
}

impl Fetcher for Requests<'_> {
    type Turn<'a>
        = ()
    where
        Self: 'a;

    fn wait_for_turn(&self, context: &Context, progress: &mut Progress) -> Result<(), Outcome> {
        match progress.pause {
            Some(until) if context.deadline.at <= until => Err(Outcome::Interrupted(Refused)),
            _ => Ok(()),
        }
    }

    fn poll_turn(
        &self,
        context: &Context,
        progress: &mut Progress,
        _: &Waker,
    ) -> Result<(), Later<Instant>> {
        self.wait_for_turn(context, progress).map_err(Later::Over)?;
        progress.pause.take().map_or(Ok(()), |until| Err(Later::At(until)))
    }

    fn attempt(
        &self,
        (): (),
        _: &SignedUser<'_>,
        _: &Context,
        progress: &mut Progress,
    ) -> Option<Outcome> {
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile();
        }
        progress.requests += 1;
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        Some(match self.attempt {
            Grants => Outcome::Granted(TokenResponse { token: Token(number) }),
            Fails => Outcome::Failed(Refused),
            Stops => Outcome::Interrupted(Stopped),
            Pauses(until) => {
                progress.pause = Some(until);
                Outcome::Interrupted(Stopped)
            }
        })
    }
}

fn fetch<'a>(
    cache: &Cache,
    call: &Call,
    sent: &'a AtomicU32,
    meanwhile: Option<Box<dyn FnOnce() + 'a>>,
) -> Result<u32, Error> {
    let user = SignedUser { user: b"user" };
    if call.forgets {
        cache.forget(user.user);
    }
    let requests = Requests { attempt: call.attempt, sent, meanwhile: RefCell::new(meanwhile) };
    let fetch = if call.is_started { Started::run } else { Cache::fetch };
    fetch(cache, &user, &requests, &call.context).map(|fetched| fetched.entry.0.0)
}

/// Runs one model in every order with at most five preemptions.
fn check<const N: usize>(
    expected: [End; N],
    model: impl Fn(Instant) -> End + Send + Sync + 'static,
) {
    let mut builder = Builder::new();
    // No limits from the environment.
    builder.max_branches = 1000;
    // Switches away from a thread that could go on. Without a bound the same results are found, in minutes.
    builder.preemption_bound = Some(5);
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

/// The others come when the flight of `first` has begun.
fn meet<const N: usize>(first: Call, others: [Call; N]) -> End {
    let (cache, sent) = (Arc::new(Cache::default()), Arc::new(AtomicU32::new(0)));
    let mut threads = Vec::new();
    let spawn = || {
        threads.extend(others.map(|other| {
            let (cache, sent) = (Arc::clone(&cache), Arc::clone(&sent));
            loom::thread::spawn(move || fetch(&cache, &other, &sent, None))
        }));
    };
    let mut results = vec![fetch(&cache, &first, &sent, Some(Box::new(spawn)))];
    results.extend(threads.into_iter().map(|thread| thread.join().unwrap()));

    assert!(!cache.has_flights(), "no flight is left behind");
    let counters = &cache.counters;
    let exchanges = counters.exchanges.sum();
    assert_eq!(counters.failures.times(), exchanges, "each flight ends once");
    let sent = u64::from(sent.load(Ordering::Relaxed));
    assert_eq!(counters.requests.sum(), sent, "a leader knows what the one before has done");
    (results, exchanges, counters.coalesced.sum())
}

#[test]
fn a_call_during_a_failure_shares_it_or_begins_a_flight() {
    let expected = [(vec![Err(Refused), Err(Refused)], 1, 1), (vec![Err(Refused), Ok(2)], 2, 0)];
    check(expected, |now| meet(call(now, Fails), [call(now, Grants)]));
}

#[test]
fn a_call_during_a_success_finds_the_flight_or_its_token() {
    let expected = [0, 1, 2].map(|joined| (vec![Ok(1), Ok(1), Ok(1)], 1, joined));
    check(expected, |now| meet(call(now, Grants), [0, 0].map(|_| call(now, Grants))));
}

#[test]
fn a_flight_goes_on_or_ends_if_its_leader_leaves_while_its_waiter_gives_up() {
    let expected = [
        (vec![Err(Stopped), Ok(2)], 1, 1),
        (vec![Err(Stopped), Err(Stopped)], 1, 1),
        (vec![Err(Stopped), Ok(2)], 2, 0),
    ];
    check(expected, |now| meet(call(now, Stops), [giving_up(call(now, Grants))]));
}

#[test]
fn the_last_waiter_leads_if_the_woken_one_gives_up() {
    let expected = [
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 1),
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 2),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 0),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 1),
        (vec![Err(Stopped), Err(Stopped), Ok(2)], 1, 2),
        (vec![Err(Stopped), Err(Stopped), Ok(2)], 2, 1),
    ];
    check(expected, |now| {
        meet(call(now, Stops), [giving_up(call(now + MORE, Grants)), call(now, Grants)])
    });
}

#[test]
fn the_next_leaders_token_is_for_all() {
    let expected = [(1, 1), (1, 2), (2, 0), (2, 1)]
        .map(|(flights, joined)| (vec![Err(Stopped), Ok(2), Ok(2)], flights, joined));
    check(expected, |now| {
        meet(call(now, Stops), [now + MORE, now].map(|deadline| call(deadline, Grants)))
    });
}

#[test]
fn the_next_leader_may_leave_too() {
    let expected = [
        // The one with more time leads second, and the last one gets the token.
        (vec![Err(Stopped), Err(Stopped), Ok(3)], 1, 2),
        (vec![Err(Stopped), Err(Stopped), Ok(3)], 2, 1),
        (vec![Err(Stopped), Err(Stopped), Ok(3)], 3, 0),
        // It comes after the other.
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 1),
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 2),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 0),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 1),
    ];
    check(expected, |now| meet(call(now, Stops), [call(now + MORE, Stops), call(now, Grants)]));
}

#[test]
fn a_failure_that_no_waiter_has_time_to_retry_is_for_all() {
    let expected = [
        (vec![Err(Stopped), Err(Refused), Err(Refused)], 1, 2),
        (vec![Err(Stopped), Err(Refused), Ok(2)], 2, 1),
        (vec![Err(Stopped), Ok(2), Err(Refused)], 2, 1),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 0),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 1),
    ];
    check(expected, |now| {
        meet(
            call(now, Pauses(now + 2 * MORE)),
            [now + MORE, now].map(|deadline| call(deadline, Grants)),
        )
    });
}

#[test]
fn a_call_after_forget_does_not_find_an_older_token() {
    let expected = [
        // It still joins a running flight.
        (vec![Ok(1), Ok(1)], 1, 1),
        (vec![Ok(1), Ok(2)], 2, 0),
    ];
    check(expected, |now| {
        let forgetful = Call { forgets: true, ..call(now, Grants) };
        meet(call(now, Grants), [forgetful])
    });
}

#[test]
fn threads_and_started_calls_share_a_success() {
    let expected = || [0, 1, 2].map(|joined| (vec![Ok(1), Ok(1), Ok(1)], 1, joined));
    check(expected(), |now| meet(started(now, Grants), [call(now, Grants), started(now, Grants)]));
    check(expected(), |now| meet(call(now, Grants), [0, 0].map(|_| started(now, Grants))));
}

#[test]
fn a_thread_hands_off_to_a_started_call_and_the_reverse() {
    let expected = || [(vec![Err(Stopped), Ok(2)], 1, 1), (vec![Err(Stopped), Ok(2)], 2, 0)];
    check(expected(), |now| meet(call(now, Stops), [started(now, Grants)]));
    check(expected(), |now| meet(started(now, Stops), [call(now, Grants)]));
    check(expected(), |now| meet(started(now, Stops), [started(now, Grants)]));
}

#[test]
fn a_started_call_is_cancelled_while_it_is_handed_the_lead() {
    let expected =
        || [(vec![Err(Stopped), Err(Stopped)], 1, 1), (vec![Err(Stopped), Err(Stopped)], 2, 0)];
    check(expected(), |now| meet(call(now, Stops), [giving_up(started(now, Grants))]));
    check(expected(), |now| meet(started(now, Stops), [giving_up(started(now, Grants))]));
}

#[test]
fn the_last_waiter_of_either_kind_leads_if_a_started_call_is_cancelled() {
    let expected = || {
        [
            // It comes after the other.
            (vec![Err(Stopped), Ok(2), Ok(2)], 1, 1),
            (vec![Err(Stopped), Ok(2), Ok(2)], 1, 2),
            (vec![Err(Stopped), Ok(2), Ok(2)], 2, 0),
            (vec![Err(Stopped), Ok(2), Ok(2)], 2, 1),
            // It is cancelled, as a follower or as a leader.
            (vec![Err(Stopped), Err(Stopped), Ok(2)], 1, 2),
            (vec![Err(Stopped), Err(Stopped), Ok(2)], 2, 1),
            (vec![Err(Stopped), Err(Stopped), Ok(2)], 3, 0),
        ]
    };
    check(expected(), |now| {
        meet(call(now, Stops), [giving_up(started(now + MORE, Grants)), call(now, Grants)])
    });
    check(expected(), |now| {
        meet(started(now, Stops), [giving_up(started(now + MORE, Grants)), started(now, Grants)])
    });
}

#[test]
fn a_started_call_leads_if_a_thread_that_was_woken_gives_up() {
    let expected = [
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 1),
        (vec![Err(Stopped), Ok(2), Ok(2)], 1, 2),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 0),
        (vec![Err(Stopped), Ok(2), Ok(2)], 2, 1),
        (vec![Err(Stopped), Err(Stopped), Ok(2)], 1, 2),
        (vec![Err(Stopped), Err(Stopped), Ok(2)], 2, 1),
    ];
    check(expected, |now| {
        meet(call(now, Stops), [giving_up(call(now + MORE, Grants)), started(now, Grants)])
    });
}

#[test]
fn a_started_leader_pauses_and_goes_on() {
    let expected = [(vec![Err(Stopped), Ok(2)], 1, 1), (vec![Err(Stopped), Ok(2)], 2, 0)];
    check(expected, |now| meet(call(now, Pauses(now + MORE)), [started(now + 2 * MORE, Grants)]));
}
