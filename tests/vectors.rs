//! The vectors of all languages, through the Rust API.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{client, failure, vectors};
use spike_auth::{ErrorKind, HmacKey, Signature, UserId};

#[test]
fn a_thousand_ids_are_signed_as_the_documented_forms_sign_them() {
    let vectors = vectors("signatures.json");
    let key = HmacKey::new(vectors["key"].as_str().unwrap().as_bytes()).unwrap();
    let rows = vectors["signatures"].as_object().unwrap();
    assert!(rows.len() >= 1000);
    for (id, expected) in rows {
        let expected = expected.as_str().unwrap().as_bytes();
        let user = UserId::new(id.as_bytes()).unwrap();
        let mut signature = [0; 64];
        key.sign(user, &mut signature);
        assert_eq!(signature, expected, "{id}");
        assert!(key.verify(user, &Signature::parse(expected).unwrap()));
        let mut other = signature;
        other[63] = if other[63] == b'0' { b'1' } else { b'0' };
        assert!(!key.verify(user, &Signature::parse(&other).unwrap()));
    }
}

#[test]
fn user_ids_are_accepted_and_refused_by_the_rule() {
    let vectors = vectors("user_ids.json");
    for id in vectors["valid"].as_array().unwrap() {
        assert!(UserId::new(id.as_str().unwrap().as_bytes()).is_ok(), "{id}");
    }
    for row in vectors["invalid"].as_array().unwrap() {
        let error = UserId::new(row["id"].as_str().unwrap().as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUserId);
        assert!(error.message().contains(row["reason"].as_str().unwrap()), "{row}: {error}");
    }
}

#[test]
fn each_http_status_comes_to_its_kind() {
    let sandbox = common::Sandbox::start();
    let client = client(&sandbox.single_attempt_config_for(sandbox.url("http")));
    for row in vectors("statuses.json")["replies"].as_array().unwrap() {
        let status = row["http_status"].as_u64().unwrap();
        let error = failure(&client, &format!("fault.status.{status}"));
        assert_eq!(error.http_status().map(u64::from), Some(status));
        assert_eq!(Some(error.retryable()), row["retryable"].as_bool(), "{row}");
        let number = spike_auth::capi::spike_auth_status::from(error.kind()) as i64;
        assert_eq!(Some(number), row["status"].as_i64(), "{row}");
        assert_eq!(error.attempts(), 1);
    }
}
