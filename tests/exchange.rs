//! Exchanges with the sandbox: what goes out, what comes back, and what is kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{APPLICATION_ID, KEY, SECOND_CREDENTIAL, Sandbox, subject};
use spike_auth::{Client, Config, ErrorKind, HmacKey, TlsRoots, UserId};

fn signature_of(user: &str) -> String {
    let mut out = [0; 64];
    HmacKey::new(KEY.as_bytes()).unwrap().sign(UserId::new(user.as_bytes()).unwrap(), &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn the_request_is_exactly_the_documented_one() {
    let sandbox = Sandbox::start();
    let mut config = sandbox.config();
    config.set_user_agent(b"shop/1.2").unwrap();
    Client::new(&config).unwrap().exchange(b"my_application_user_123", None).unwrap();

    let last = sandbox.last();
    assert_eq!(
        (last["method"].as_str(), last["path"].as_str()),
        (Some("POST"), Some("/v3/auth/hmac"))
    );
    let body = r#"{"application_id":9999,"application_user_id":"my_application_user_123","signature":"e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199"}"#;
    assert_eq!(last["body"].as_str().unwrap(), body);
    let mut headers: Vec<(String, String)> =
        serde_json::from_value(last["headers"].clone()).unwrap();
    headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    headers.sort();
    let agent = format!(
        "spike_auth/{} ({}; {}) shop/1.2",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    let host = sandbox.url("http").trim_start_matches("http://").trim_end_matches("/v3").to_owned();
    let expected = [
        ("accept", "application/json"),
        ("content-length", &body.len().to_string()),
        ("content-type", "application/json"),
        ("host", &host),
        ("user-agent", &agent),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn an_application_id_that_is_no_number_goes_out_as_a_string() {
    let sandbox = Sandbox::start_with(&["--application-id", "shop-eu"]);
    let mut config = sandbox.config();
    config.set_application_id(b"shop-eu").unwrap();
    Client::new(&config).unwrap().exchange(b"alice", None).unwrap();
    assert!(
        sandbox.last()["body"].as_str().unwrap().starts_with(r#"{"application_id":"shop-eu","#)
    );
}

#[test]
fn every_user_gets_the_token_of_that_user_over_http_and_https() {
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https"), sandbox.url("tls12")] {
        let client = Client::new(&sandbox.config_for(url)).unwrap();
        for user in ["alice", "User1", "user1", "a", &"A".repeat(128)] {
            let token = client.exchange(user.as_bytes(), None).unwrap();
            assert_eq!(subject(token.as_bytes()), user, "{url}");
        }
    }
}

#[test]
fn a_signature_made_elsewhere_is_exchanged_without_a_key() {
    let sandbox = Sandbox::start();
    let mut config = Config::new().unwrap();
    config.set_application_id(APPLICATION_ID.as_bytes()).unwrap();
    config.set_base_url(sandbox.url("http").as_bytes()).unwrap();
    let client = Client::new(&config).unwrap();
    for signature in [signature_of("alice"), signature_of("alice").to_uppercase()] {
        let token = client.exchange_signature(b"alice", signature.as_bytes(), None).unwrap();
        assert_eq!(subject(token.as_bytes()), "alice");
    }
    assert_eq!(client.exchange(b"alice", None).err().unwrap().kind(), ErrorKind::KeyRequired);
    let wrong =
        client.exchange_signature(b"alice", signature_of("bob").as_bytes(), None).err().unwrap();
    assert_eq!((wrong.kind(), wrong.attempts()), (ErrorKind::Unauthorized, 1));
}

#[test]
fn bad_input_is_refused_before_a_byte_is_sent() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    for user in ["", " alice", "alice\n", "al/ice", "\u{e9}", &"a".repeat(129)] {
        let error = client.exchange(user.as_bytes(), None).err().unwrap();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidUserId, 0), "{user:?}");
    }
    for signature in ["", "00", &"g".repeat(64), &"0".repeat(65)] {
        let error = client.exchange_signature(b"alice", signature.as_bytes(), None).err().unwrap();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidSignature, 0));
    }
    let mut config = sandbox.config();
    assert!(config.set_application_id(b"").is_err());
    assert!(config.set_hmac_key(b"").is_err());
    assert!(config.set_base_url(b"http://example.com").is_err());
    assert!(config.set_ca_pem(b"nothing").is_err());
    assert_eq!(sandbox.count("requests"), 0);
    assert_eq!(sandbox.count("connections"), 0);
}

#[test]
fn connections_are_kept_and_used_again() {
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https")] {
        let before = sandbox.count("connections");
        let client = Client::new(&sandbox.config_for(url)).unwrap();
        for _ in 0..50 {
            client.exchange(b"alice", None).unwrap();
        }
        // A refusal is a whole reply too: its connection is as good as any.
        client.exchange(b"fault.status.401", None).err().unwrap();
        client.exchange(b"alice", None).unwrap();
        assert_eq!(sandbox.count("connections") - before, 1, "{url}");
    }
}

#[test]
fn many_threads_share_a_client_and_each_gets_its_own_users_token() {
    const THREADS: usize = 32;
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https")] {
        let before = sandbox.count("connections");
        let client = Arc::new(Client::new(&sandbox.config_for(url)).unwrap());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let client = Arc::clone(&client);
                scope.spawn(move || {
                    for round in 0..40 {
                        let user = format!("user-{thread}-{round}");
                        let token = client.exchange(user.as_bytes(), None).unwrap();
                        assert_eq!(subject(token.as_bytes()), user);
                    }
                });
            }
        });
        assert!(sandbox.count("connections") - before <= THREADS as u64);
    }
}

#[test]
fn a_second_reply_to_one_request_is_never_taken_for_the_next_users() {
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https")] {
        let client = Client::new(&sandbox.config_for(url)).unwrap();
        for _ in 0..5 {
            client.exchange(b"fault.response-twice", None).unwrap();
            let token = client.exchange(b"alice", None).unwrap();
            assert_eq!(subject(token.as_bytes()), "alice");
        }
    }
}

#[test]
fn a_reply_that_is_not_read_leaves_nothing_to_the_next_user() {
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https")] {
        let client = Client::new(&sandbox.single_attempt_config_for(url)).unwrap();
        for fault in [
            "bodiless.204",
            "bodiless.304",
            "line-ends",
            "line-ends.end",
            "http10-chunked",
            "transfer-encoding",
            "transfer-encoding.identity",
            "transfer-encoding.twice",
            "gzip.real",
            "bad-chunk",
            "bad-chunk.plus",
        ] {
            let _ = client.exchange(format!("fault.{fault}").as_bytes(), None);
            let token = client.exchange(b"alice", None).unwrap();
            assert_eq!(subject(token.as_bytes()), "alice", "{fault}");
        }
    }
}

#[test]
fn a_reply_that_cannot_be_read_says_why() {
    let sandbox = Sandbox::start();
    let client = Client::new(&sandbox.single_attempt_config_for(sandbox.url("http"))).unwrap();
    for (fault, words) in [
        ("gzip.real", "Content-Encoding, which was not asked for: gzip"),
        ("line-ends", "line feed"),
        ("line-ends.cr", "carriage return"),
        ("http10-chunked", "HTTP/1.0"),
        ("transfer-encoding", "Transfer-Encoding"),
        ("bad-chunk", "chunks are malformed"),
        ("chunk-extension.100", "long extensions"),
        ("bad-content-length", "Content-Length is not a number"),
        ("bad-content-length.twice", "two different ones"),
        ("continue-headers", "100 Continue with headers"),
        ("garbage", "not valid HTTP"),
    ] {
        let error = client.exchange(format!("fault.{fault}").as_bytes(), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{fault}: {error}");
        assert!(error.message().contains(words), "{fault}: {error}");
    }
}

#[test]
fn a_redirect_is_never_followed() {
    let sandbox = Sandbox::start();
    for status in [301, 302, 303, 307, 308] {
        let error = sandbox
            .client()
            .exchange(format!("fault.status.{status}").as_bytes(), None)
            .err()
            .unwrap();
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::UnexpectedStatus, Some(status))
        );
    }
    assert_eq!(sandbox.count("followed_redirects"), 0);
}

#[test]
fn the_second_credential_is_neither_kept_nor_shown() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let token = client.exchange(b"alice", None).unwrap();
    assert!(!String::from_utf8_lossy(token.as_bytes()).contains(SECOND_CREDENTIAL));
    for fault in [
        "no-token",
        "null-token",
        "duplicate-token",
        "space-token",
        "nested-token",
        "trailing-garbage",
        "echo",
        "echo-ok",
    ] {
        let error = client.exchange(format!("fault.{fault}").as_bytes(), None).err().unwrap();
        assert!(!format!("{error:?}").contains(SECOND_CREDENTIAL), "{fault}");
    }
}

#[test]
fn no_secret_reaches_a_message_whatever_the_server_echoes() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    for status in [400, 401, 403, 422, 500] {
        let user = format!("fault.echo.{status}.my_application_user_123");
        let error = client.exchange(user.as_bytes(), None).err().unwrap();
        assert_eq!(error.http_status(), Some(status));
        let shown = format!("{error} {error:?}");
        for secret in [user.as_str(), KEY, &signature_of(&user), SECOND_CREDENTIAL, "eyJ"] {
            assert!(!shown.contains(secret), "{status}: {shown}");
        }
    }
    // With an id that is a common word nothing of the server's text may be left.
    let error = client.exchange_signature(b"a", signature_of("b").as_bytes(), None).err().unwrap();
    assert!(
        error.message().starts_with("401 Unauthorized: the service refused the signature. Check"),
        "{error}"
    );
}

#[test]
fn a_problem_document_explains_the_refusal() {
    let sandbox = Sandbox::start();
    let error = sandbox
        .client()
        .exchange_signature(b"alice-1234", signature_of("bob").as_bytes(), None)
        .err()
        .unwrap();
    assert!(error.message().contains("(invalid signature)"), "{error}");
    let error = sandbox.client().exchange(b"fault.problem-control", None).err().unwrap();
    assert!(!error.message().chars().any(char::is_control), "{error:?}");
}

#[test]
fn closing_ends_calls_wherever_they_are() {
    let sandbox = Sandbox::start();
    let places = [
        (sandbox.url("full"), "alice"),
        (sandbox.url("silent_tls"), "alice"),
        (sandbox.url("silent"), "alice"),
        (sandbox.url("http"), "fault.stall-mid-body"),
        (sandbox.url("https"), "fault.drip.100"),
    ];
    for (url, user) in places {
        let client = Arc::new(Client::new(&sandbox.config_for(url)).unwrap());
        std::thread::scope(|scope| {
            let call = scope
                .spawn(|| (client.exchange(user.as_bytes(), None).err().unwrap(), Instant::now()));
            std::thread::sleep(Duration::from_millis(150));
            let closed_at = Instant::now();
            client.close();
            let (error, ended_at) = call.join().unwrap();
            assert_eq!(error.kind(), ErrorKind::Closed, "{url} {user}");
            assert!(ended_at - closed_at < Duration::from_millis(100), "{url} {user}");
        });
        client.close();
        assert_eq!(client.exchange(b"alice", None).err().unwrap().kind(), ErrorKind::Closed);
        assert_eq!(
            client.sign_user(b"alice", &mut [0; 64]).err().unwrap().kind(),
            ErrorKind::Closed
        );
    }
}

#[test]
fn a_client_that_was_closed_before_its_first_call_connects_to_nothing() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    client.close();
    assert_eq!(client.exchange(b"alice", None).err().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(sandbox.count("connections"), 0);
}

#[test]
fn an_incomplete_or_contradictory_configuration_makes_no_client() {
    let kind = |config: &Config| Client::new(config).err().unwrap().kind();
    assert_eq!(kind(&Config::new().unwrap()), ErrorKind::IncompleteConfig);
    let mut config = Config::new().unwrap();
    config.set_application_id(b"1").unwrap();
    config.set_tls_roots(TlsRoots::None);
    assert_eq!(kind(&config), ErrorKind::TlsRoots);
    config.set_tls_roots(TlsRoots::Bundled);
    config.set_timeout_ms(100).unwrap();
    config.set_connect_timeout_ms(200).unwrap();
    assert_eq!(kind(&config), ErrorKind::InvalidArgument);
}
