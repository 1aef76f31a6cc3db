//! Exchanges with the sandbox: what is sent, what is received, and what a message may show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use common::timing::check_close;
use common::{APPLICATION_ID, KEY, SECOND_CREDENTIAL, Sandbox, client, exchange, failure, subject};
use spike_auth::{Config, ErrorKind, HmacKey, TlsRoots, UserId};

fn signature_of(user: &str) -> String {
    let mut out = [0; 64];
    HmacKey::new(KEY.as_bytes()).unwrap().sign(UserId::new(user.as_bytes()).unwrap(), &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn the_request_is_the_documented_one() {
    let sandbox = Sandbox::start();
    let mut config = sandbox.config();
    config.set_user_agent(b"shop/1.2").unwrap();
    exchange(&client(&config), "my_application_user_123");

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
fn an_application_id_that_is_no_number_is_sent_as_a_string() {
    let sandbox = Sandbox::start_with(&["--application-id", "shop-eu"]);
    let mut config = sandbox.config();
    config.set_application_id(b"shop-eu").unwrap();
    exchange(&client(&config), "alice");
    let body = sandbox.last()["body"].as_str().unwrap().to_owned();
    assert!(body.starts_with(r#"{"application_id":"shop-eu","#), "{body}");
}

#[test]
fn every_user_receives_their_own_token_over_http_and_https() {
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https"), sandbox.url("tls12")] {
        let client = client(&sandbox.config_for(url));
        for user in ["alice", "User1", "user1", "a", &"A".repeat(128)] {
            exchange(&client, user);
        }
    }
}

#[test]
fn a_signature_made_elsewhere_is_exchanged_without_a_key() {
    let sandbox = Sandbox::start();
    let mut config = Config::new().unwrap();
    config.set_application_id(APPLICATION_ID.as_bytes()).unwrap();
    config.set_base_url(sandbox.url("http").as_bytes()).unwrap();
    let client = client(&config);
    for signature in [signature_of("alice"), signature_of("alice").to_uppercase()] {
        let token = client.exchange_signature(b"alice", signature.as_bytes(), None).unwrap();
        assert_eq!(subject(token.as_bytes()), "alice");
    }
    assert_eq!(failure(&client, "alice").kind(), ErrorKind::KeyRequired);
    let wrong =
        client.exchange_signature(b"alice", signature_of("bob").as_bytes(), None).err().unwrap();
    assert_eq!((wrong.kind(), wrong.attempts()), (ErrorKind::Unauthorized, 1));
}

#[test]
fn bad_input_is_refused_before_a_byte_is_sent() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let error = failure(&client, "al/ice");
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidUserId, 0));
    let error = client.exchange_signature(b"alice", b"00", None).err().unwrap();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidSignature, 0));
    assert_eq!(sandbox.count("connections"), 0);
}

#[test]
fn connections_are_kept_and_used_again() {
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https")] {
        let before = sandbox.count("connections");
        let client = client(&sandbox.config_for(url));
        (0..50).for_each(|_| exchange(&client, "alice"));
        // A refusal is a whole reply too.
        failure(&client, "fault.status.401");
        exchange(&client, "alice");
        assert_eq!(sandbox.count("connections") - before, 1, "{url}");
    }
}

#[test]
fn threads_share_a_client_and_each_receives_its_own_users_token() {
    const THREADS: usize = 32;
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https")] {
        let before = sandbox.count("connections");
        let client = client(&sandbox.config_for(url));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let client = &client;
                scope.spawn(move || {
                    (0..40).for_each(|round| exchange(client, &format!("user-{thread}-{round}")));
                });
            }
        });
        assert!(sandbox.count("connections") - before <= THREADS as u64);
    }
}

/// Bytes that stay on a connection, or a connection that ends, must not reach the next user.
#[test]
fn an_unusual_reply_leaves_nothing_to_the_next_user() {
    let sandbox = Sandbox::start();
    for url in [sandbox.url("http"), sandbox.url("https")] {
        let client = client(&sandbox.single_attempt_config_for(url));
        for fault in [
            "response-twice",
            "close-next",
            "close-idle",
            "close-delimited-abrupt",
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
            let token = client.exchange(b"alice", None);
            let token = token.unwrap_or_else(|error| panic!("after {fault}: {error:?}"));
            assert_eq!(subject(token.as_bytes()), "alice", "after {fault}");
        }
    }
}

#[test]
fn a_reply_that_cannot_be_read_says_why() {
    let sandbox = Sandbox::start();
    let client = client(&sandbox.single_attempt_config_for(sandbox.url("http")));
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
        let error = failure(&client, &format!("fault.{fault}"));
        assert!(error.message().contains(words), "{fault}: {error}");
    }
}

#[test]
fn no_message_shows_a_secret_whatever_the_server_sends() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let token = client.exchange(b"alice", None).unwrap();
    assert!(!String::from_utf8_lossy(token.as_bytes()).contains(SECOND_CREDENTIAL));
    for fault in [
        "echo.400",
        "echo.401",
        "echo.403",
        "echo.422",
        "echo.500",
        "echo-ok",
        "no-token",
        "null-token",
        "duplicate-token",
        "space-token",
        "nested-token",
        "trailing-garbage",
    ] {
        let user = format!("fault.{fault}.my_application_user_123");
        let error = failure(&client, &user);
        let shown = format!("{error} {error:?}");
        for secret in [user.as_str(), KEY, &signature_of(&user), SECOND_CREDENTIAL, "eyJ"] {
            assert!(!shown.contains(secret), "{fault}: {shown}");
        }
    }
    // An id that is a common word drops the server's text whole.
    let error = client.exchange_signature(b"a", signature_of("b").as_bytes(), None).err().unwrap();
    assert!(
        error.message().starts_with("401 Unauthorized: the service refused the signature. Check"),
        "{error}"
    );
}

#[test]
fn a_problem_document_explains_the_refusal() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let wrong = signature_of("bob");
    let error = client.exchange_signature(b"alice-1234", wrong.as_bytes(), None).err().unwrap();
    assert!(error.message().contains("(invalid signature)"), "{error}");
    let error = failure(&client, "fault.problem-control");
    assert!(!error.message().chars().any(char::is_control), "{error:?}");
}

#[test]
fn closing_ends_calls_wherever_they_are() {
    let sandbox = Sandbox::start();
    for (place, user) in [
        ("full", "alice"),
        ("silent_tls", "alice"),
        ("silent", "alice"),
        ("http", "fault.stall-mid-body"),
        ("https", "fault.drip.100"),
    ] {
        let config = sandbox.config_for(sandbox.url(place));
        check_close(place, &config, user, Duration::from_millis(150));
    }
}

#[test]
fn a_closed_client_does_nothing() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    client.close();
    client.close();
    assert_eq!(failure(&client, "alice").kind(), ErrorKind::Closed);
    let signed = client.sign_user(b"alice", &mut [0; 64]);
    assert_eq!(signed.err().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(sandbox.count("connections"), 0);
}

#[test]
fn an_incomplete_or_contradictory_configuration_makes_no_client() {
    let kind = |config: &Config| spike_auth::Client::new(config).err().unwrap().kind();
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
