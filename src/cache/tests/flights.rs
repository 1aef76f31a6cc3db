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
    // `pause`: how many seconds after the start the next attempt is due, if the last one failed.
    HandOff { user: u8, pause: Option<u64> },
    Lead { nth: usize },
    Complete { user: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 0..1000u64, any::<bool>())
            .prop_map(|(user, seconds, is_started)| Step::Ask { user, seconds, is_started }),
        2 => (0..20usize).prop_map(|nth| Step::Leave { nth }),
        2 => (0..3u8, proptest::option::of(0..1000u64))
            .prop_map(|(user, pause)| Step::HandOff { user, pause }),
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

impl Waiting {
    fn has_result(&self) -> bool {
        self.flight.as_ref().is_none_or(|flight| flight.result().is_some())
    }
}

/// A started call. The model hands it the lead.
struct Call;

impl Follower for Call {
    fn complete(self: Arc<Self>, _: FlightResult) {}

    fn lead(self: Arc<Self>, _: Progress) -> Option<Progress> {
        None
    }
}

#[derive(Default)]
struct Model {
    waiting: Vec<Waiting>,
    /// By user: whether the flight has a leader, and the pause that the one before left.
    in_flight: HashMap<u8, (bool, Option<u64>)>,
}

impl Model {
    fn has_leader(&self, user: u8) -> bool {
        self.in_flight.get(&user).is_some_and(|(has_leader, _)| *has_leader)
    }

    /// Ends a flight. Returns its waiters.
    fn end(&mut self, user: u8) -> Vec<Waiting> {
        self.in_flight.remove(&user);
        self.waiting.extract_if(.., |waiter| waiter.user == user).collect()
    }

    /// Checks a hand-off: the waiter with the most time decides.
    fn hand_off(
        &mut self,
        user: u8,
        start: Instant,
        pause: Option<u64>,
        handed: &HandOff,
    ) -> Result<(), TestCaseError> {
        let of_user = self.waiting.iter().enumerate().filter(|(_, waiter)| waiter.user == user);
        let next = of_user.max_by_key(|(_, waiter)| waiter.id).map(|(at, waiter)| (at, waiter.id));
        let due = pause.map(|pause| start + Duration::from_secs(pause));
        let has_time = next.is_some_and(|(_, id)| due.is_none_or(|due| due < id.deadline()));
        prop_assert_eq!(matches!(handed, HandOff::Over(_)), next.is_none());
        prop_assert_eq!(
            matches!(handed, HandOff::Thread(_) | HandOff::Call(..)),
            next.is_some() && has_time
        );
        match handed {
            HandOff::Thread(_) => {
                prop_assert!(self.waiting[next.unwrap().0].flight.is_some());
                self.in_flight.insert(user, (false, pause));
            }
            HandOff::Call(..) => {
                prop_assert!(self.waiting.remove(next.unwrap().0).flight.is_none());
                self.in_flight.insert(user, (true, None));
            }
            HandOff::Failed(_, woken, _) => {
                let ended = self.end(user);
                prop_assert_eq!(woken.len(), ended.len());
                prop_assert!(ended.iter().all(Waiting::has_result));
            }
            HandOff::Over(_) => drop(self.end(user)),
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn flights_behave_like_the_model(steps in proptest::collection::vec(step(), 0..200)) {
        let start = Instant::now();
        let (mut flights, mut model) = (Flights::default(), Model::default());
        for step in steps {
            match step {
                Step::Ask { user, seconds, is_started } => {
                    let id = WaiterId::new(start + Duration::from_secs(seconds));
                    let joined = match is_started {
                        true => flights.follow(&[user], id, Arc::new(Call)).map(|()| None),
                        false => flights.join(&[user], id).map(Some),
                    };
                    prop_assert_eq!(joined.is_some(), model.in_flight.contains_key(&user));
                    match joined {
                        Some(flight) => model.waiting.push(Waiting { user, flight, id }),
                        None => {
                            model.in_flight.insert(user, (true, None));
                            flights.begin(&[user]);
                        }
                    }
                }
                Step::Leave { nth } if nth < model.waiting.len() => {
                    let Waiting { user, id, .. } = model.waiting.remove(nth);
                    let (has_leader, pause) = model.in_flight[&user];
                    let handed = flights.leave(&[user], id);
                    prop_assert_eq!(handed.is_none(), has_leader);
                    if let Some(handed) = handed {
                        model.hand_off(user, start, pause, &handed)?;
                    }
                    prop_assert!(flights.leave(&[user], id).is_none(), "it has left");
                }
                Step::HandOff { user, pause } if model.has_leader(user) => {
                    let progress = pause.map_or_else(Progress::default, |pause| {
                        Progress::paused(start + Duration::from_secs(pause), Error::closed())
                    });
                    let handed = flights.hand_off(&[user], progress);
                    model.hand_off(user, start, pause, &handed)?;
                }
                Step::Lead { nth }
                    if model.waiting.get(nth).is_some_and(|waiter| waiter.flight.is_some()) =>
                {
                    let Waiting { user, id, .. } = model.waiting[nth];
                    let leads = flights.lead(&[user], id).is_some();
                    prop_assert_eq!(leads, !model.has_leader(user));
                    if leads {
                        model.waiting.remove(nth);
                        model.in_flight.insert(user, (true, None));
                    }
                }
                Step::Complete { user } if model.has_leader(user) => {
                    let woken = flights.complete(&[user], Err(Error::cancelled()));
                    let ended = model.end(user);
                    prop_assert_eq!(woken.len(), ended.len());
                    prop_assert!(ended.iter().all(Waiting::has_result));
                }
                _ => {}
            }
            for waiter in &model.waiting {
                let Some(flight) = &waiter.flight else { continue };
                prop_assert!(flight.result().is_none());
                prop_assert_eq!(flight.is_leaderless(), !model.has_leader(waiter.user));
            }
            prop_assert_eq!(flights.is_empty(), model.in_flight.is_empty());
        }
    }
}
