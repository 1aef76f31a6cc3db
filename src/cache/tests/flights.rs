//! One flight and those who wait for it, in real threads; and the list of flights by itself, against
//! a plain model.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Condvar;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::super::flights::{Flight, Flights, Next, Ticket};
use super::*;

/// An asker in a thread of its own, whose exchanges wait until the test lets them.
struct Caller<'a> {
    gate: &'a Gate,
    deadline: Instant,
    stopped: AtomicBool,
}

/// What exchanges wait for, and what comes of them.
#[derive(Default)]
struct Gate {
    outcomes: Mutex<VecDeque<Outcome>>,
    filled: Condvar,
    begun: AtomicU64,
}

impl Gate {
    /// Lets one exchange end.
    fn let_go(&self, outcome: Outcome) {
        self.outcomes.lock().unwrap().push_back(outcome);
        self.filled.notify_one();
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

impl<'a> Caller<'a> {
    fn new(gate: &'a Gate, seconds: u64) -> Self {
        Self {
            gate,
            deadline: Instant::now() + Duration::from_secs(seconds),
            stopped: AtomicBool::new(false),
        }
    }
}

impl Asker for Caller<'_> {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn wait(&self, done: &dyn Fn() -> bool) -> Result<(), Error> {
        while !done() {
            if self.stopped.load(Ordering::SeqCst) {
                return Err(Error::cancelled());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }

    fn time(&self) -> Duration {
        Duration::from_secs(100)
    }

    fn exchange(
        &self,
        _progress: &mut Progress,
        _may_send: &dyn Fn() -> Result<(), Error>,
    ) -> Outcome {
        self.gate.begun.fetch_add(1, Ordering::SeqCst);
        let outcomes = self.gate.outcomes.lock().unwrap();
        let mut outcomes =
            self.gate.filled.wait_while(outcomes, |outcomes| outcomes.is_empty()).unwrap();
        match outcomes.pop_front().unwrap() {
            Outcome::Failed(error) if error.kind() == ErrorKind::Internal => {
                drop(outcomes);
                panic!("provoked by a test")
            }
            outcome => outcome,
        }
    }
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came to be");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn fetch(cache: &Cache<Manual>, caller: &Caller<'_>) -> Result<String, ErrorKind> {
    assert!(matches!(cache.get(user("a")), Lookup::Missing));
    cache
        .fetch(user("a"), caller)
        .map(|fetched| text(fetched.entry.token()))
        .map_err(|error| error.kind())
}

/// Runs one leader and `count` waiters for one user, and `then` once all of them wait.
fn with_waiters(
    count: u64,
    then: impl FnOnce(&Gate, &[Caller<'_>]),
) -> (Vec<Result<String, ErrorKind>>, Stats) {
    let (cache, gate) = (cache(10), Gate::default());
    let callers: Vec<_> = (0..=count).map(|seconds| Caller::new(&gate, 100 + seconds)).collect();
    let results = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (index, caller) in callers.iter().enumerate() {
            running.push(scope.spawn(|| catch_unwind(AssertUnwindSafe(|| fetch(&cache, caller)))));
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
    Outcome::Unfinished(Error::cancelled())
}

#[test]
fn all_get_the_token_of_one_exchange() {
    let (results, stats) = with_waiters(20, |gate, _| gate.let_go(grant("t", None)));
    assert!(results.iter().all(|result| result.as_deref() == Ok("t")));
    assert_eq!((stats.misses, stats.coalesced, stats.exchanges), (21, 20, 1));
    assert_eq!((stats.failures, stats.entries), (0, 1));
}

#[test]
fn all_share_a_failure() {
    let (results, stats) = with_waiters(20, |gate, _| {
        gate.let_go(Outcome::Failed(Error::new(ErrorKind::Refused, "")));
    });
    assert!(results.iter().all(|result| *result == Err(ErrorKind::Refused)));
    assert_eq!((stats.exchanges, stats.failures, stats.entries), (1, 1, 0));
}

#[test]
fn a_token_that_had_ended_is_shared_and_not_kept() {
    let (results, stats) = with_waiters(5, |gate, _| gate.let_go(grant("t", Some(0))));
    assert!(results.iter().all(|result| result.as_deref() == Ok("t")));
    assert_eq!((stats.exchanges, stats.entries), (1, 0));
}

#[test]
fn leaders_leave_one_after_the_other_and_the_last_gets_the_token() {
    let (results, stats) = with_waiters(3, |gate, _| {
        for begun in 2..=4 {
            gate.let_go(cancelled());
            until(|| gate.begun() == begun);
        }
        gate.let_go(grant("t", None));
    });
    let (got, left): (Vec<_>, Vec<_>) = results.iter().partition(|result| result.is_ok());
    assert_eq!((got.len(), left.len()), (1, 3));
    assert_eq!((stats.exchanges, stats.failures), (1, 0));
}

#[test]
fn the_one_with_the_most_time_inherits() {
    let (results, _) = with_waiters(3, |gate, _| {
        gate.let_go(cancelled());
        until(|| gate.begun() == 2);
        gate.let_go(cancelled());
        until(|| gate.begun() == 3);
        gate.let_go(grant("t", None));
    });
    // The deadlines rise with the index: the last one led second, and left.
    assert_eq!(results[0], Err(ErrorKind::Cancelled));
    assert_eq!(results[3], Err(ErrorKind::Cancelled));
    assert_eq!(results[1].as_deref(), Ok("t"));
    assert_eq!(results[2].as_deref(), Ok("t"));
}

#[test]
fn a_leader_that_panics_harms_nobody_else() {
    let (results, stats) = with_waiters(5, |gate, _| {
        gate.let_go(Outcome::Failed(Error::new(ErrorKind::Internal, "")));
        until(|| gate.begun() == 2);
        gate.let_go(grant("t", None));
    });
    assert_eq!(results[0], Err(ErrorKind::Internal));
    assert!(results[1..].iter().all(|result| result.as_deref() == Ok("t")));
    assert_eq!(stats.exchanges, 1);
}

#[test]
fn a_waiter_that_is_stopped_leaves_the_others_alone() {
    let (results, stats) = with_waiters(5, |gate, callers| {
        callers[2].stopped.store(true, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        gate.let_go(grant("t", None));
    });
    let got = results.iter().filter(|result| result.as_deref() == Ok("t")).count();
    // It may have been late, and found the token there.
    assert!(got >= 5, "{results:?}");
    assert_eq!(stats.exchanges, 1);
}

#[test]
fn the_last_one_out_ends_the_flight() {
    let (results, stats) = with_waiters(1, |gate, _| {
        gate.let_go(cancelled());
        until(|| gate.begun() == 2);
        gate.let_go(cancelled());
    });
    assert!(results.iter().all(|result| *result == Err(ErrorKind::Cancelled)));
    assert_eq!((stats.exchanges, stats.failures, stats.entries), (1, 1, 0));
}

/// Whoever is called at the very moment when it gives up passes the flight on.
#[test]
fn no_flight_is_lost_between_giving_up_and_being_called() {
    for _ in 0..200 {
        let (results, _) = with_waiters(2, |gate, callers| {
            std::thread::scope(|scope| {
                scope.spawn(|| callers[2].stopped.store(true, Ordering::SeqCst));
                gate.let_go(cancelled());
            });
            until(|| gate.begun() == 2);
            gate.let_go(grant("t", None));
            gate.let_go(grant("t", None));
        });
        assert_eq!(results[1].as_deref(), Ok("t"));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { user: u8, seconds: u64 },
    Leave { nth: usize },
    PassOn { user: u8 },
    Land { user: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 0..1000u64).prop_map(|(user, seconds)| Step::Ask { user, seconds }),
        2 => (0..20usize).prop_map(|nth| Step::Leave { nth }),
        2 => (0..3u8).prop_map(|user| Step::PassOn { user }),
        1 => (0..3u8).prop_map(|user| Step::Land { user }),
    ]
}

/// One who waits, in the model.
struct Waiter {
    user: u8,
    deadline: Instant,
    flight: Arc<Flight>,
    ticket: Arc<Ticket>,
}

proptest! {
    #[test]
    fn flights_do_as_the_model_does(steps in proptest::collection::vec(step(), 0..200)) {
        let start = Instant::now();
        let mut flights = Flights::default();
        let mut waiting: Vec<Waiter> = Vec::new();
        let mut in_flight: HashMap<u8, ()> = HashMap::new();
        for step in steps {
            match step {
                Step::Ask { user, seconds } => {
                    let deadline = start + Duration::from_secs(seconds);
                    match flights.join(&[user], deadline) {
                        Some((flight, ticket)) => {
                            prop_assert!(in_flight.contains_key(&user));
                            waiting.push(Waiter { user, deadline, flight, ticket });
                        }
                        None => {
                            prop_assert!(in_flight.insert(user, ()).is_none());
                            flights.begin(&[user]);
                        }
                    }
                }
                Step::Leave { nth } => {
                    if nth < waiting.len() {
                        let waiter = waiting.remove(nth);
                        flights.leave(&[waiter.user], &waiter.ticket);
                    }
                }
                Step::PassOn { user } => {
                    let latest = waiting
                        .iter()
                        .filter(|waiter| waiter.user == user)
                        .map(|waiter| waiter.deadline)
                        .max();
                    match flights.pass_on(&[user], Progress::default()) {
                        Next::Called(_) => {
                            let at = waiting.iter().position(|waiter| waiter.ticket.is_called());
                            let heir = waiting.remove(at.unwrap());
                            prop_assert_eq!(heir.user, user);
                            prop_assert_eq!(Some(heir.deadline), latest);
                            prop_assert_eq!(flights.take_baton(&[user]).requests(), 0);
                        }
                        Next::Over(_) => {
                            prop_assert!(latest.is_none());
                            in_flight.remove(&user);
                        }
                        Next::Landed(..) => prop_assert!(false, "nothing had failed"),
                    }
                }
                Step::Land { user } => {
                    let of_user = |waiter: &Waiter| waiter.user == user;
                    let expected = waiting.iter().filter(|waiter| of_user(waiter)).count();
                    let landed = flights.land(&[user], Err(Error::cancelled()));
                    prop_assert_eq!(landed.len(), expected);
                    prop_assert!(waiting.iter().filter(|waiter| of_user(waiter)).all(|waiter| waiter.flight.landed().is_some()));
                    waiting.retain(|waiter| !of_user(waiter));
                    in_flight.remove(&user);
                }
            }
            prop_assert!(waiting.iter().all(|waiter| waiter.flight.landed().is_none()));
            prop_assert!(waiting.iter().all(|waiter| !waiter.ticket.is_called()));
            prop_assert_eq!(flights.is_empty(), in_flight.is_empty());
        }
    }
}
