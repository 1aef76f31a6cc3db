//! One flight and its waiters on real threads, and the list of flights against a plain model.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex};

use proptest::prelude::*;

use super::super::flights::{Flight, FlightResult, Flights, Follower, HandOff};
use super::*;

/// A call in a thread of its own.
struct Caller {
    cancel: CancelToken,
    context: Context,
}

impl Caller {
    fn new(seconds: u64) -> Self {
        let cancel = CancelToken::new();
        let timeout = Duration::from_secs(seconds);
        Self { context: Context::new(timeout, Some(&cancel), &CancelToken::new()), cancel }
    }
}

/// Exchanges that wait until the test sets their outcomes.
#[derive(Default)]
struct Gate {
    outcomes: Mutex<VecDeque<Outcome>>,
    filled: Condvar,
    begun: AtomicU64,
}

impl Gate {
    /// Ends one exchange.
    fn end_one(&self, outcome: Outcome) {
        self.outcomes.lock().unwrap().push_back(outcome);
        self.filled.notify_one();
    }

    fn exchange(&self) -> Outcome {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let outcomes = self.outcomes.lock().unwrap();
        let mut outcomes =
            self.filled.wait_while(outcomes, |outcomes| outcomes.is_empty()).unwrap();
        let outcome = outcomes.pop_front().unwrap();
        drop(outcomes);
        if matches!(&outcome, Outcome::Failed(error) if error.kind() == ErrorKind::Internal) {
            panic!("provoked by a test")
        }
        outcome
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(20), "never happened");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs one leader and `count` waiters for one user, and `then` once all of them wait.
fn with_waiters(
    count: u64,
    then: impl FnOnce(&Gate, &[Caller]),
) -> (Vec<Result<String, ErrorKind>>, Stats) {
    let (cache, gate) = (cache(10), Gate::default());
    let callers: Vec<_> = (0..=count).map(|seconds| Caller::new(100 + seconds)).collect();
    let results = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (index, caller) in callers.iter().enumerate() {
            let (cache, gate) = (&cache, &gate);
            let call = move || {
                assert!(matches!(cache.get(user("a")), Lookup::Missing));
                fetch(cache, "a", None, &Exchanges(|| gate.exchange()), &caller.context)
            };
            running.push(scope.spawn(move || catch_unwind(AssertUnwindSafe(call))));
            // The first one leads, the others join.
            until(|| gate.begun() == 1 && cache.stats().coalesced == index as u64);
        }
        then(&gate, &callers);
        let joined = running.into_iter().map(|thread| thread.join().unwrap());
        joined.map(|result| result.unwrap_or(Err(ErrorKind::Internal))).collect()
    });
    let is_empty = cache.shards[0].lock(&cache.bounds).state.flights.is_empty();
    assert!(is_empty, "no flight is left behind");
    (results, cache.stats())
}

fn cancelled() -> Outcome {
    Outcome::Interrupted(Error::cancelled())
}

#[test]
fn all_receive_the_token_of_one_exchange() {
    let (results, stats) = with_waiters(20, |gate, _| gate.end_one(response("t", None)));
    assert!(results.iter().all(|result| result.as_deref() == Ok("t")));
    assert_eq!((stats.misses, stats.coalesced, stats.exchanges), (21, 20, 1));
    assert_eq!((stats.failures, stats.entries), (0, 1));
}

#[test]
fn all_share_a_failure() {
    let (results, stats) = with_waiters(20, |gate, _| {
        gate.end_one(Outcome::Failed(Error::new(ErrorKind::Refused, "")));
    });
    assert!(results.iter().all(|result| *result == Err(ErrorKind::Refused)));
    assert_eq!((stats.exchanges, stats.failures, stats.entries), (1, 1, 0));
}

#[test]
fn an_expired_token_is_shared_and_not_cached() {
    let (results, stats) = with_waiters(5, |gate, _| gate.end_one(response("t", Some(0))));
    assert!(results.iter().all(|result| result.as_deref() == Ok("t")));
    assert_eq!((stats.exchanges, stats.entries), (1, 0));
}

#[test]
fn leaders_leave_one_by_one_and_the_last_receives_the_token() {
    let (results, stats) = with_waiters(3, |gate, _| {
        for begun in 2..=4 {
            gate.end_one(cancelled());
            until(|| gate.begun() == begun);
        }
        gate.end_one(response("t", None));
    });
    let (got, left): (Vec<_>, Vec<_>) = results.iter().partition(|result| result.is_ok());
    assert_eq!((got.len(), left.len()), (1, 3));
    assert_eq!((stats.exchanges, stats.failures), (1, 0));
}

#[test]
fn the_waiter_with_the_most_time_leads_next() {
    let (results, _) = with_waiters(3, |gate, _| {
        gate.end_one(cancelled());
        until(|| gate.begun() == 2);
        gate.end_one(cancelled());
        until(|| gate.begun() == 3);
        gate.end_one(response("t", None));
    });
    // The deadlines rise with the index: the last caller led second and was cancelled.
    assert_eq!(results[0], Err(ErrorKind::Cancelled));
    assert_eq!(results[3], Err(ErrorKind::Cancelled));
    assert_eq!(results[1].as_deref(), Ok("t"));
    assert_eq!(results[2].as_deref(), Ok("t"));
}

#[test]
fn a_panicking_leader_harms_no_waiter() {
    let (results, stats) = with_waiters(5, |gate, _| {
        gate.end_one(Outcome::Failed(Error::new(ErrorKind::Internal, "")));
        until(|| gate.begun() == 2);
        gate.end_one(response("t", None));
    });
    assert_eq!(results[0], Err(ErrorKind::Internal));
    assert!(results[1..].iter().all(|result| result.as_deref() == Ok("t")));
    assert_eq!(stats.exchanges, 1);
}

#[test]
fn a_cancelled_waiter_does_not_affect_the_others() {
    let (results, stats) = with_waiters(5, |gate, callers| {
        callers[2].cancel.cancel();
        std::thread::sleep(Duration::from_millis(20));
        gate.end_one(response("t", None));
    });
    let got = results.iter().filter(|result| result.as_deref() == Ok("t")).count();
    // It may have been late and received the token too.
    assert!(got >= 5, "{results:?}");
    assert_eq!(stats.exchanges, 1);
}

#[test]
fn the_last_caller_to_leave_ends_the_flight() {
    let (results, stats) = with_waiters(1, |gate, _| {
        gate.end_one(cancelled());
        until(|| gate.begun() == 2);
        gate.end_one(cancelled());
    });
    assert!(results.iter().all(|result| *result == Err(ErrorKind::Cancelled)));
    assert_eq!((stats.exchanges, stats.failures, stats.entries), (1, 1, 0));
}

/// A waiter that is woken to lead while it gives up wakes the next.
#[test]
fn no_flight_is_lost_when_the_next_leader_gives_up() {
    for _ in 0..200 {
        let (results, _) = with_waiters(2, |gate, callers| {
            std::thread::scope(|scope| {
                scope.spawn(|| callers[2].cancel.cancel());
                gate.end_one(cancelled());
            });
            until(|| gate.begun() == 2);
            gate.end_one(response("t", None));
            gate.end_one(response("t", None));
        });
        assert_eq!(results[1].as_deref(), Ok("t"));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { user: u8, seconds: u64, is_started: bool },
    Leave { nth: usize },
    HandOff { user: u8 },
    Lead { nth: usize },
    Complete { user: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 0..1000u64, any::<bool>())
            .prop_map(|(user, seconds, is_started)| Step::Ask { user, seconds, is_started }),
        2 => (0..20usize).prop_map(|nth| Step::Leave { nth }),
        2 => (0..3u8).prop_map(|user| Step::HandOff { user }),
        2 => (0..20usize).prop_map(|nth| Step::Lead { nth }),
        1 => (0..3u8).prop_map(|user| Step::Complete { user }),
    ]
}

/// A waiter in the model.
struct Waiting {
    user: u8,
    /// `None` for a started call.
    flight: Option<Arc<Flight>>,
    id: WaiterId,
}

/// A started call, which the test hands the lead itself.
struct Call;

impl Follower for Call {
    fn complete(self: Arc<Self>, _: FlightResult) {}

    fn lead(self: Arc<Self>, _: Progress) -> Option<Progress> {
        None
    }
}

/// Checks a hand-off and takes a call that leads out of the list.
fn check_hand_off(
    handed: &HandOff,
    user: u8,
    waiting: &mut Vec<Waiting>,
    in_flight: &mut HashMap<u8, bool>,
) -> Result<(), TestCaseError> {
    let next = waiting.iter().enumerate().filter(|(_, waiter)| waiter.user == user);
    let next = next.max_by_key(|(_, waiter)| waiter.id).map(|(at, _)| at);
    match handed {
        HandOff::Thread(_) => {
            prop_assert!(waiting[next.unwrap()].flight.is_some());
            in_flight.insert(user, false);
        }
        HandOff::Call(..) => {
            prop_assert!(waiting.remove(next.unwrap()).flight.is_none());
            in_flight.insert(user, true);
        }
        HandOff::Over(_) => {
            prop_assert!(next.is_none());
            in_flight.remove(&user);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn flights_behave_like_the_model(steps in proptest::collection::vec(step(), 0..200)) {
        let start = Instant::now();
        let mut flights = Flights::default();
        let mut waiting: Vec<Waiting> = Vec::new();
        // By user: whether the flight has a leader.
        let mut in_flight: HashMap<u8, bool> = HashMap::new();
        for step in steps {
            match step {
                Step::Ask { user, seconds, is_started } => {
                    let id = WaiterId::new(start + Duration::from_secs(seconds));
                    let joined = match is_started {
                        true => flights.follow(&[user], id, Arc::new(Call)).map(|()| None),
                        false => flights.join(&[user], id).map(Some),
                    };
                    match joined {
                        Some(flight) => {
                            prop_assert!(in_flight.contains_key(&user));
                            waiting.push(Waiting { user, flight, id });
                        }
                        None => {
                            prop_assert!(in_flight.insert(user, true).is_none());
                            flights.begin(&[user]);
                        }
                    }
                }
                Step::Leave { nth } if nth < waiting.len() => {
                    let Waiting { user, id, .. } = waiting.remove(nth);
                    match flights.leave(&[user], id) {
                        None => prop_assert!(in_flight[&user]),
                        Some(handed) => {
                            prop_assert!(!in_flight[&user]);
                            check_hand_off(&handed, user, &mut waiting, &mut in_flight)?;
                        }
                    }
                    prop_assert!(flights.leave(&[user], id).is_none(), "it has left");
                }
                Step::HandOff { user } if in_flight.get(&user) == Some(&true) => {
                    let handed = flights.hand_off(&[user], Progress::default());
                    check_hand_off(&handed, user, &mut waiting, &mut in_flight)?;
                }
                Step::Lead { nth } if nth < waiting.len() && waiting[nth].flight.is_some() => {
                    let Waiting { user, id, .. } = waiting[nth];
                    let leads = flights.lead(&[user], id).is_some();
                    prop_assert_eq!(leads, !in_flight[&user]);
                    if leads {
                        waiting.remove(nth);
                        in_flight.insert(user, true);
                    }
                }
                Step::Complete { user } if in_flight.get(&user) == Some(&true) => {
                    let (of_user, others): (Vec<_>, Vec<_>) =
                        waiting.drain(..).partition(|waiter| waiter.user == user);
                    let woken = flights.complete(&[user], Err(Error::cancelled()));
                    prop_assert_eq!(woken.len(), of_user.len());
                    let flights = of_user.iter().filter_map(|waiter| waiter.flight.as_ref());
                    prop_assert!(flights.clone().all(|flight| flight.result().is_some()));
                    waiting = others;
                    in_flight.remove(&user);
                }
                _ => {}
            }
            for waiter in &waiting {
                let Some(flight) = &waiter.flight else { continue };
                prop_assert!(flight.result().is_none());
                prop_assert_eq!(flight.is_leaderless(), !in_flight[&waiter.user]);
            }
            prop_assert_eq!(flights.is_empty(), in_flight.is_empty());
        }
    }
}
