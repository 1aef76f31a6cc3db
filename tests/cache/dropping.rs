//! Dropping cached tokens.

use super::*;

#[test]
fn forget_drops_one_user_and_clear_drops_all() {
    let server = Server::start(|incoming| Outcome::Reply(token_reply(&incoming.user())));
    let client = client_of(&server);
    let users: Vec<_> = (0..500).map(|number| format!("user-{number}")).collect();
    let get_all = || {
        users.iter().for_each(|user| assert_eq!(get(&client, user).unwrap(), *user));
    };
    get_all();
    client.forget(b"user-7").unwrap();
    client.forget(b"nobody").unwrap();
    assert_eq!(cached(&client, "user-7"), None);
    assert_eq!(stats(&client).entries, 499);
    get_all();
    assert_eq!(server.requests(), 501);
    client.clear().unwrap();
    let cleared = stats(&client);
    assert_eq!((cleared.entries, cleared.bytes), (0, 0));
    assert_eq!((cleared.invalidations, cleared.evictions), (0, 0));
    assert!(users.iter().all(|user| cached(&client, user).is_none()));
    // The same tokens again: none was reported as rejected.
    get_all();
    assert_eq!(server.requests(), 1001);
}

#[test]
fn a_token_dropped_during_its_exchange_reaches_only_the_waiting_callers() {
    for drop_it in [(|client: &Client| client.forget(b"alice").unwrap()) as fn(&Client), |client| {
        client.clear().unwrap()
    }] {
        let (server, gate) = holding(1, numbered);
        let client = client_of(&server);
        let all = flight(&client, &[20_000; 3], |_| {
            drop_it(&client);
            gate.open();
        });
        assert_eq!(shared(&all), "token-0");
        assert_eq!(cached(&client, "alice"), None);
        assert_eq!(server.requests(), 1);
        assert_eq!(get(&client, "alice").unwrap(), "token-1");
        assert_eq!(cached(&client, "alice").unwrap(), "token-1");
    }
}

#[test]
fn invalid_user_ids_and_tokens_are_errors() {
    let server = counting(numbered);
    let client = client_of(&server);
    get(&client, "alice").unwrap();
    let before = stats(&client);
    let too_long = "a".repeat(spike_auth::TOKEN_MAX + 1);
    for bad in ["", "a b", "a\r\nb", "t\u{f6}ken", &too_long] {
        let error = client.invalidate(b"alice", bad.as_bytes()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
    }
    for error in [
        get(&client, "a b").err(),
        client.peek_token(b"a b").err(),
        client.invalidate(b"a b", b"token-0").err(),
        client.forget(b"a b").err(),
    ] {
        assert_eq!(error.unwrap().kind(), ErrorKind::InvalidUserId);
    }
    assert_eq!((server.requests(), stats(&client)), (1, before));
}
