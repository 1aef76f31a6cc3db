//! The statistics.

use super::*;

fn fields(stats: &Stats) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("coalesced", stats.coalesced),
        ("exchanges", stats.exchanges),
        ("requests", stats.requests),
        ("retries", stats.retries),
        ("failures", stats.failures),
        ("invalidations", stats.invalidations),
        ("evictions", stats.evictions),
        ("entries", stats.entries),
        ("forks", stats.forks),
    ])
}

/// A client and what it has counted, step by step.
struct Script {
    client: Client,
    /// The next responses of the server; afterwards it sends tokens.
    answers: Arc<Mutex<VecDeque<Vec<u8>>>>,
    seen: BTreeMap<&'static str, u64>,
    _server: Server,
}

impl Script {
    fn new() -> Self {
        let answers = Arc::new(Mutex::new(VecDeque::<Vec<u8>>::new()));
        let server = {
            let answers = Arc::clone(&answers);
            Server::start(move |_| {
                let next = answers.lock().unwrap().pop_front();
                Outcome::Reply(next.unwrap_or_else(token))
            })
        };
        let mut config = config_for(&server.url(), None);
        config.set_cache_capacity(3);
        let client = client(&config);
        let seen = fields(&stats(&client));
        assert!(seen.values().all(|count| *count == 0));
        Self { client, answers, seen, _server: server }
    }

    fn will_answer(&self, answers: &[Vec<u8>]) {
        self.answers.lock().unwrap().extend(answers.iter().cloned());
    }

    /// Exactly the named counts have changed since the last check.
    fn check(&mut self, what: &str, changes: &[(&'static str, i64)]) {
        for (name, change) in changes {
            let count = self.seen.get_mut(name).unwrap();
            *count = count.checked_add_signed(*change).unwrap();
        }
        let now = stats(&self.client);
        assert_eq!(fields(&now), self.seen, "{what}");
        check_sums_at_rest(&now);
    }
}

#[test]
fn each_step_changes_only_its_own_counts() {
    let mut script = Script::new();
    let fetched = [("misses", 1), ("exchanges", 1), ("requests", 1)];
    let and = |more: &[(&'static str, i64)]| [&fetched, more].concat();

    get(&script.client, "alice").unwrap();
    script.check("a miss", &and(&[("entries", 1)]));
    let bytes_of_one = stats(&script.client).bytes;
    get(&script.client, "alice").unwrap();
    script.check("a hit", &[("hits", 1)]);
    cached(&script.client, "alice").unwrap();
    script.check("a peek that finds a token", &[("hits", 1)]);
    assert_eq!(cached(&script.client, "bobby"), None);
    script.check("a peek that finds nothing", &[]);
    script.client.exchange(b"alice", None).unwrap();
    script.check("an uncached exchange", &[]);
    failure(&script.client, "a b");
    script.check("an invalid user id", &[]);

    script.will_answer(&[reply(422, "")]);
    failure(&script.client, "bobby");
    script.check("a refusal", &and(&[("failures", 1)]));
    script.will_answer(&[busy(0), busy(0)]);
    get(&script.client, "bobby").unwrap();
    script.check("two retries", &and(&[("requests", 2), ("retries", 2), ("entries", 1)]));
    script.will_answer(&[busy(0), busy(0), busy(0)]);
    failure(&script.client, "carol");
    script
        .check("three failed attempts", &and(&[("requests", 2), ("retries", 2), ("failures", 1)]));

    invalidate(&script.client, "alice", "another");
    script.check("a report of another token", &[]);
    invalidate(&script.client, "alice", "a-token");
    script.check("a report", &[("invalidations", 1), ("entries", -1)]);
    invalidate(&script.client, "alice", "a-token");
    script.check("a second report", &[]);
    failure(&script.client, "alice");
    script.check("the same token again", &and(&[("failures", 1)]));
    failure(&script.client, "alice");
    script.check("no request", &[("misses", 1)]);

    get(&script.client, "carol").unwrap();
    get(&script.client, "david").unwrap();
    script.check("two more users", &[and(&[("entries", 2)]), fetched.to_vec()].concat());
    assert_eq!(stats(&script.client).bytes, 3 * bytes_of_one);
    get(&script.client, "ellen").unwrap();
    script.check("an eviction", &and(&[("evictions", 1)]));
    assert_eq!(stats(&script.client).bytes, 3 * bytes_of_one);
    script.client.forget(b"ellen").unwrap();
    script.client.forget(b"ellen").unwrap();
    script.check("a user that is forgotten twice", &[("entries", -1)]);
    assert_eq!(stats(&script.client).bytes, 2 * bytes_of_one);
    script.client.clear().unwrap();
    script.client.clear().unwrap();
    script.check("a cleared cache", &[("entries", -2)]);
    assert_eq!(stats(&script.client).bytes, 0);
}

#[test]
fn a_flight_counts_once_across_its_leaders() {
    let (server, gate) = holding(2, numbered);
    let client = client_of(&server);
    flight(&client, &[20_000, 20_000, 20_000, 20_000], |calls| {
        wait_until("the request is out", || server.requests() == 1);
        // A request under way is not counted yet.
        let under_way = stats(&client);
        assert_eq!((under_way.exchanges, under_way.requests), (1, 0));
        calls[0].cancel();
        wait_until("the second is out", || server.requests() == 2);
        gate.open();
    });
    let now = stats(&client);
    assert_eq!((now.misses, now.coalesced, now.exchanges), (4, 3, 1));
    assert_eq!((now.requests, now.retries, now.failures), (2, 1, 0));
    assert_eq!((now.hits, now.entries), (0, 1));
}

#[test]
fn a_flight_that_all_callers_left_is_a_failure() {
    let (server, _gate) = holding(u64::MAX, numbered);
    let client = client_of(&server);
    let all = flight(&client, &[20_000], |calls| {
        wait_until("the request is out", || server.requests() == 1);
        calls[0].cancel();
    });
    assert_eq!(all[0].kind(), ErrorKind::Cancelled);
    let now = stats(&client);
    assert_eq!((now.misses, now.exchanges, now.coalesced), (1, 1, 0));
    assert_eq!((now.requests, now.retries, now.failures), (1, 0, 1));
}

/// What the threads did, for comparison with the statistics.
#[derive(Default)]
struct Done {
    /// Calls that count as a hit or a miss.
    asked: AtomicU64,
}

const MIX_CAPACITY: u64 = 12;

/// A server whose response depends on the user's number and on the order of requests.
fn random_server() -> Server {
    let count = AtomicU64::new(0);
    Server::start(move |incoming: &Incoming| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(number * 37 % 800));
        // The connection turns out to be closed, which costs a retry.
        if incoming.number % 4 == 3 {
            return Outcome::Close;
        }
        Outcome::Reply(match number_of(&incoming.user()) % 20 {
            0 => reply(422, ""),
            1 if !number.is_multiple_of(3) => busy(0),
            2 => token(),
            _ => numbered(number),
        })
    })
}

fn number_of(user: &str) -> u64 {
    user.split_once('-').unwrap().1.parse().unwrap()
}

fn mix(client: &Client, user: &str, dice: &mut Dice, may_leave: bool, done: &Done) {
    let id = user.as_bytes();
    match dice.roll(24) {
        0 => client.forget(id).unwrap(),
        1 if dice.roll(10) == 0 => client.clear().unwrap(),
        2..=4 => {
            let found = u64::from(cached(client, user).is_some());
            done.asked.fetch_add(found, Ordering::Relaxed);
        }
        5 => {
            if let Some(token) = cached(client, user) {
                done.asked.fetch_add(1, Ordering::Relaxed);
                invalidate(client, user, &token);
            }
        }
        6 => invalidate(client, user, &format!("token-{}", dice.roll(1000))),
        7 if may_leave => {
            let call = call_with_timeout(1 + dice.roll(3) as u32);
            let _ = get_by(client, user, Some(&call));
            done.asked.fetch_add(1, Ordering::Relaxed);
        }
        _ => {
            let _ = get(client, user);
            done.asked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Repeats `look` on a second thread until `work` is done.
fn watched(mut look: impl FnMut() + Send, work: impl FnOnce()) {
    /// Stops the second thread also when `work` panics: the test could not end otherwise.
    struct Stop<'a>(&'a AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                look();
            }
        });
        let _stop = Stop(&is_over);
        work();
    });
}

#[test]
fn the_sums_hold_under_concurrent_calls() {
    for may_leave in [false, true] {
        let server = random_server();
        let mut config = config_for(&server.url(), None);
        config.set_cache_capacity(MIX_CAPACITY as u32);
        let client = client(&config);
        let done = Done::default();
        let mut seen = fields(&stats(&client));
        let look = || {
            let now = stats(&client);
            check_sums(&now);
            assert!(now.entries <= MIX_CAPACITY, "{now:?}");
            let now = fields(&now);
            for (name, count) in &now {
                assert!(*name == "entries" || *count >= seen[name], "{name}");
            }
            seen = now;
            std::thread::sleep(Duration::from_micros(50));
        };
        watched(look, || {
            on_threads(8, |thread| {
                let mut dice = Dice::new(thread);
                for round in 0..600 {
                    // The users change over time: most tokens of a fixed set would soon be rejected.
                    let user = format!("user-{}", round / 30 * 20 + dice.roll(20));
                    mix(&client, &user, &mut dice, may_leave, &done);
                }
            });
        });
        let now = stats(&client);
        println!("{now:?}");
        check_sums_at_rest(&now);
        assert_eq!(now.hits + now.misses, done.asked.into_inner());
        if may_leave {
            // A request whose caller left may not have reached the server.
            assert!(now.requests >= server.requests(), "{now:?}");
        } else {
            assert_eq!(now.requests, server.requests());
            assert_eq!(now.requests, now.exchanges + now.retries);
        }
        let fields = fields(&now);
        let never = |name: &str| name != "forks" && fields[name] == 0;
        assert!(!fields.keys().any(|name| never(name)), "{now:?}");
    }
}

/// With one working thread, the other one reads the statistics between any two counts.
#[test]
fn no_snapshot_shows_a_request_without_its_exchange() {
    const USERS: u64 = 3000;
    // Each connection serves one request: the next one finds it closed and is retried.
    let server = Server::start(|incoming| match incoming.number {
        0 => Outcome::Reply(token()),
        _ => Outcome::Close,
    });
    let mut config = config_for(&server.url(), None);
    config.set_cache_capacity(1); // one lock, so snapshots are frequent
    let client = client(&config);
    let look = || check_sums(&stats(&client));
    watched(look, || {
        for number in 0..USERS {
            get(&client, &format!("user-{number}")).unwrap();
        }
    });
    assert_eq!(server.requests(), 2 * USERS - 1);
    check_sums_at_rest(&stats(&client));
}
