//! Calls for different users do not wait for each other.

use super::*;

#[test]
fn ten_thousand_users_are_served_concurrently() {
    const USERS: usize = 10_000;
    const CONNECTIONS: u32 = 40; // each takes four descriptors here, and a process may have only 256
    const WORKERS: usize = 128;
    const EACH: Duration = Duration::from_millis(20);
    let server = Server::start(|incoming| {
        std::thread::sleep(EACH);
        Outcome::Reply(token_reply(&incoming.user()))
    });
    let mut config = config_for(&server.url(), None);
    config.set_max_concurrency(CONNECTIONS).unwrap();
    config.set_timeout_ms(60_000).unwrap();
    let client = client(&config);
    let start = Instant::now();
    on_threads(WORKERS, |worker| {
        for number in (worker..USERS).step_by(WORKERS) {
            let user = format!("user-{number}");
            assert_eq!(get(&client, &user).unwrap(), user);
        }
    });
    let took = start.elapsed();
    let in_flight = server.max_in_flight();
    println!("{took:?}, {in_flight} in flight");
    assert_eq!(server.requests(), USERS as u64);
    assert!(in_flight <= CONNECTIONS.into() && in_flight >= 37, "{in_flight} in flight");
    // A fortieth of the sequential time at best; less than a tenth is enough.
    assert!(took < USERS as u32 * EACH / 10, "{took:?}");
    assert_eq!(stats(&client).entries, USERS as u64);
}

#[test]
fn a_hanging_exchange_blocks_no_other_user() {
    let gate = Gate::default();
    let entrance = gate.clone();
    let server = Server::start(move |incoming| {
        let user = incoming.user();
        if user == "stuck" {
            entrance.pass();
        }
        Outcome::Reply(token_reply(&user))
    });
    let mut config = config_for(&server.url(), None);
    config.set_cache_capacity(100); // so small that all users share one lock
    let client = client(&config);
    std::thread::scope(|scope| {
        let stuck: Vec<_> = (0..10).map(|_| ask(scope, &client, "stuck", None, None)).collect();
        wait_until("ten wait for one", || stats(&client).coalesced == 9);
        // Each of these calls would time out if it waited for the stuck user.
        for number in 0..200 {
            let user = format!("user-{}", number % 50);
            assert_eq!(get(&client, &user).unwrap(), user);
            if number % 4 == 0 {
                invalidate(&client, &user, "another");
                client.forget(user.as_bytes()).unwrap();
                assert_eq!(cached(&client, "stuck"), None);
            }
        }
        assert_eq!(stats(&client).coalesced, 9);
        assert!(stuck.iter().all(|caller| !caller.is_finished()));
        gate.open();
        assert_eq!(shared(&join_all(stuck)), "stuck");
    });
}
