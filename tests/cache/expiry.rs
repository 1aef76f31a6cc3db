//! How long a token is cached.

use super::*;

fn jwt_of(claims: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

/// A token with an `exp`.
fn jwt(exp: u64) -> String {
    jwt_of(&format!(r#"{{"exp":{exp}}}"#))
}

/// The `Date` of a server whose clock is off by so many seconds.
fn date(off: i64) -> (u64, String) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let date = now.as_secs().checked_add_signed(off).unwrap();
    let shown = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(date));
    (date, format!("Date: {shown}\r\n"))
}

/// A response whose token is live for `lifetime` seconds by a clock that is off.
fn dated(off: i64, lifetime: i64) -> Vec<u8> {
    let (date, header) = date(off);
    let token = jwt(date.checked_add_signed(lifetime).unwrap());
    reply_with(200, &header, &format!(r#"{{"access_token":"{token}"}}"#))
}

/// Checks that a token becomes due after `expected`. Neither bound depends on how busy the machine is: the
/// token enters the cache between the start and the end of the call.
fn check_due_after(what: &str, bytes: &[u8], ttl_ms: Option<u64>, expected: Duration) {
    let bytes = bytes.to_vec();
    let server = Server::start(move |_| Outcome::Reply(bytes.clone()));
    let mut config = config_for(&server.url(), None);
    if let Some(ms) = ttl_ms {
        config.set_cache_ttl_ms(ms);
    }
    let client = client(&config);
    let began = Instant::now();
    let token = get(&client, "alice").unwrap();
    let received = Instant::now();
    loop {
        let asked = Instant::now();
        let Some(found) = cached(&client, "alice") else {
            break;
        };
        assert_eq!(found, token, "{what}");
        assert!(asked <= received + expected, "{what}: cached for too long");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(began.elapsed() >= expected, "{what}: not cached long enough");
    assert_eq!(server.requests(), 1, "{what}");
    assert_eq!(get(&client, "alice").unwrap(), token, "{what}");
    assert_eq!(server.requests(), 2, "{what}");
}

#[test]
fn a_token_is_cached_until_it_is_due() {
    let ms = Duration::from_millis;
    let saying = |members: &str| reply(200, &format!("{{{members}}}"));
    let (now, header) = date(0);
    let both = format!(r#"{{"expires_in":1,"access_token":"{}"}}"#, jwt(now + 3600));
    // The server's clock is one hour ahead of the issuer's.
    let (ahead, header_ahead) = date(3600);
    let issued = jwt_of(&format!(r#"{{"iat":{},"exp":{}}}"#, ahead - 3600, ahead - 3599));
    let issued = format!(r#"{{"access_token":"{issued}"}}"#);
    let plain = saying(r#""access_token":"abc""#);
    let garbled = |value: &str| saying(&format!(r#""expires_in":{value},"access_token":"abc""#));
    let rows = [
        ("exp", dated(0, 2), None, ms(1800)),
        ("a clock that is ahead", dated(600, 2), None, ms(1800)),
        ("a clock that is behind", dated(-600, 2), None, ms(1800)),
        ("a clock one day ahead", dated(86_400, 1), None, ms(900)),
        (
            "iat and exp before a date that is ahead",
            reply_with(200, &header_ahead, &issued),
            None,
            ms(900),
        ),
        ("expires_in", saying(r#""expires_in":2,"access_token":"abc""#), None, ms(1800)),
        ("expires_in before exp", reply_with(200, &header, &both), None, ms(900)),
        ("the ttl alone", plain, Some(50), ms(50)),
        ("the ttl before exp", dated(0, 3600), Some(300), ms(300)),
        ("exp before the ttl", dated(0, 1), Some(3_600_000), ms(900)),
        ("exp without a ttl", dated(0, 1), Some(0), ms(900)),
        ("an expires_in that is no number", garbled(r#""soon""#), Some(70), ms(70)),
    ];
    std::thread::scope(|scope| {
        for (what, bytes, ttl_ms, expected) in rows {
            scope.spawn(move || check_due_after(what, &bytes, ttl_ms, expected));
        }
    });
}

#[test]
fn an_expired_token_reaches_all_waiting_callers_and_is_not_cached() {
    let ended = |members: &str| reply(200, &format!(r#"{{{members},"access_token":"abc"}}"#));
    let rows = [
        ("exp", dated(0, -30)),
        ("exp is now", dated(0, 0)),
        ("exp by a clock that is behind", dated(-600, -1)),
        ("exp by a clock that is ahead", dated(600, -1)),
        ("expires_in", ended(r#""expires_in":0"#)),
        ("a negative expires_in", ended(r#""expires_in":-1"#)),
    ];
    for (what, bytes) in rows {
        let (server, gate) = holding(1, move |_| bytes.clone());
        let client = client_of(&server);
        let all = flight(&client, &[20_000; 5], |_| gate.open());
        let token = shared(&all);
        assert!(all[0].answer.is_ok(), "{what}: {token}");
        assert_eq!(cached(&client, "alice"), None, "{what}");
        assert_eq!(server.requests(), 1, "{what}");
        assert_eq!(get(&client, "alice").unwrap(), token, "{what}");
        assert_eq!(server.requests(), 2, "{what}");
        let stats = stats(&client);
        let size = (stats.entries, stats.bytes);
        assert_eq!((size, stats.failures), ((0, 0), 0), "{what}");
    }
}

#[test]
fn live_tokens_of_the_sandbox_are_cached() {
    let sandbox = Sandbox::start();
    let client = client(&sandbox.config_for(sandbox.url("https")));
    for (user, is_cached) in [
        ("alice", true),
        ("fault.exp.3600", true),
        ("fault.exp.-30", false),
        ("fault.expires-in.3600", true),
        ("fault.expires-in.0", false),
        ("fault.expires-in-garbage", true),
        ("fault.exp.3600.and.date-skew.7200", true),
        ("fault.exp.-30.and.date-skew.-600", true),
        ("fault.exp.3600.and.no-date", true),
        ("fault.exp.3600.and.date-garbage", true),
        ("fault.max-token", true),
        ("fault.crlf-token", false),
        ("fault.status.403", false),
    ] {
        let before = sandbox.count("requests");
        let answers = [0; 3].map(|_| get(&client, user).map_err(|error| error.kind()));
        let requests = sandbox.count("requests") - before;
        assert_eq!(requests, if is_cached { 1 } else { 3 }, "{user}");
        assert_eq!(answers[0], answers[1], "{user}");
        assert_eq!(cached(&client, user).is_some(), is_cached, "{user}");
    }
}
