//! The oracles for a response of the service: what becomes of it, and what is shown of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "an oracle panics")]

use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::classify::classify;
use super::problem::explain;
use super::scrub::scrub;
use super::{Error, ErrorKind, SignedUser};
use crate::http::{Response, connection_lost};
use crate::signing::Signature;
use crate::token::TOKEN_MAX;
use crate::user_id::UserId;

const USER: &str = "my_application_user_123";
const SIGNATURE: &str = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";
const KEY: &str = "HMAC_KEY_FROM_ADMIN_CONSOLE";
const TOKEN: &str = "canary4f6a2c8e0b1d.canary3f5a7c9e2d4b";
/// What a message may have, so that C gets all of it.
const MESSAGE_MAX: usize = 423;
/// The same of what is shown of a problem.
const SHOWN_MAX: usize = 180;
const LOCATION: &str = "body.application_user_id";

/// `data`: a status, headers and an empty line; then the body, in which `%` and a letter stand for a secret.
pub fn response(data: &[u8]) {
    let (head, body) = halves(data, b"\n\n");
    let head = String::from_utf8_lossy(head);
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let status = head.lines().next().and_then(|line| line.parse().ok()).unwrap_or(200);
    let body = expanded(body, USER);
    let lost = header("Lost: ").map(|why| match why {
        "cancelled" => Error::cancelled(),
        _ => connection_lost("reset"),
    });
    let response = Response {
        status,
        requests: 1,
        retry_after: header("Retry-After: ").map(str::to_owned),
        date: header("Date: ").map(str::to_owned),
        content_encoding: header("Content-Encoding: ").map(|_| "gzip"),
        ends_with_connection: header("Connection: ").is_some(),
        body: lost.clone().map_or_else(|| Ok(Zeroizing::new(body.bytes.clone())), Err),
    };
    let is_unsure = response.content_encoding.is_some() || response.ends_with_connection;
    match classify(response, &signed(USER, &signature())) {
        Ok(granted) => {
            assert!(status == 200 && lost.is_none());
            let token = granted.token.as_bytes();
            assert!(is_token(token));
            if let Some(said) = token_in(&body.bytes) {
                assert_eq!(said.as_deref(), Some(token));
            }
        }
        Err(error) => {
            check_error(&error);
            let kind = error.kind();
            assert_eq!(error.http_status(), Some(status));
            match (status, lost) {
                (200, None) => {
                    let cut = is_unsure && kind == ErrorKind::ConnectionLost;
                    assert!(kind == ErrorKind::InvalidResponse || cut, "{error}");
                    assert!(!holds_one_token(&body.bytes), "{error}");
                }
                (200, Some(lost)) => assert_eq!(kind, lost.kind()),
                (_, Some(lost)) if lost.kind() == ErrorKind::Cancelled => {
                    assert_eq!(kind, ErrorKind::Cancelled);
                }
                _ => {
                    let may_pass = matches!(status, 408 | 425 | 429 | 500 | 502..=504);
                    assert_eq!(error.retryable(), may_pass, "{error}");
                    assert!(error.message().starts_with(&status.to_string()), "{error}");
                }
            }
        }
    }
}

fn check_error(error: &Error) {
    let message = error.message();
    assert!(!message.is_empty() && message.len() <= MESSAGE_MAX, "{message}");
    assert!(message.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{message:?}");
    check_no_secret(message, USER);
    for secret in [KEY, TOKEN, &TOKEN[..12]] {
        assert!(!message.contains(secret), "{message}");
    }
    let wait = error.retry_after().unwrap_or_default();
    assert!(wait <= Duration::from_secs(365 * 24 * 3600), "{wait:?}");
}

/// What another reading finds: `Some(None)` for no token. `None`: it refuses what may be accepted by a
/// reading that skips members.
fn token_in(body: &[u8]) -> Option<Option<Vec<u8>>> {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => Some(value["access_token"].as_str().map(|text| text.as_bytes().to_vec())),
        Err(error) => {
            let why = error.to_string();
            let skips =
                ["recursion limit", "number out of range", "surrogate", "hex escape", "code point"];
            (!skips.iter().any(|reason| why.contains(reason))).then_some(None)
        }
    }
}

/// Whether every reading finds the same token in it.
fn holds_one_token(body: &[u8]) -> bool {
    const NAME: &[u8] = b"access_token";
    let is_plain = !body.contains(&b'\\') && find(body, NAME) == rfind(body, NAME);
    is_plain
        && token_in(body).flatten().is_some_and(|token| {
            let is_member =
                serde_json::from_slice::<Value>(body).is_ok_and(|value| value.is_object());
            is_member && is_token(&token)
        })
}

fn is_token(text: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    (1..=TOKEN_MAX).contains(&text.len()) && text.iter().all(is_allowed)
}

/// `data`: a user id, a line end; then the texts of a problem, one a line, or the problem itself. In both,
/// `%` and a letter stand for a secret.
pub fn problem(data: &[u8]) {
    let (id, body) = halves(data, b"\n");
    let id = std::str::from_utf8(id).ok().filter(|id| UserId::new(id.as_bytes()).is_ok());
    let id = id.unwrap_or(USER);
    let signature = signature();
    let user = signed(id, &signature);
    let body = expanded(body, id);
    let text = String::from_utf8_lossy(&body.bytes);
    if let Some(shown) = scrub(&text, &user) {
        assert!(!body.has_secret, "{text}: {shown}");
        check_shown(&shown, id);
    }
    let mut texts = text.split('\n');
    let mut next = || texts.next();
    let errors = json!([
        { "location": next(), "message": next(), "value": text },
        { "location": next(), "message": next() },
        { "message": next() },
    ]);
    let problem = json!({ "detail": next(), "title": next(), "errors": errors }).to_string();
    for problem in [problem.as_bytes(), &body.bytes] {
        if let Some(shown) = explain(problem, &user) {
            assert!(shown.len() <= SHOWN_MAX, "{shown}");
            check_shown(&shown, id);
        }
    }
}

/// Looks at what is shown alone: whatever the server sent, this must be harmless.
fn check_shown(shown: &str, id: &str) {
    assert!(shown.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{shown:?}");
    assert!(!shown.is_empty() && shown == shown.trim(), "{shown:?}");
    check_no_secret(shown, id);
    for word in shown.split(' ') {
        let word = word.trim_matches(|c: char| c.is_ascii_punctuation());
        assert!(word.len() < LOCATION.len() || word == LOCATION, "{shown}");
    }
    for word in shown.split(|c: char| !c.is_ascii_alphanumeric()) {
        let is_mixed = word.contains(|c: char| c.is_ascii_digit())
            && word.contains(|c: char| c.is_ascii_alphabetic());
        assert!(word.len() < 8 || !is_mixed, "{shown}");
    }
}

fn check_no_secret(text: &str, id: &str) {
    let dense = |text: &str| {
        let mut text = text.to_ascii_lowercase();
        text.retain(|c| c.is_ascii_alphanumeric());
        text
    };
    let (found, id_dense) = (dense(text), dense(id));
    assert!(!text.to_ascii_lowercase().contains(&id.to_ascii_lowercase()), "{text}");
    assert!(id_dense.len() < 8 || !found.contains(&id_dense), "{text}");
    for start in 0..=SIGNATURE.len() - 16 {
        assert!(!found.contains(&SIGNATURE[start..start + 16]), "{text}");
    }
}

struct Expanded {
    bytes: Vec<u8>,
    /// One that is promised to be found.
    has_secret: bool,
}

/// `text` with a secret for each `%` and letter.
fn expanded(text: &[u8], id: &str) -> Expanded {
    let letters = id.bytes().filter(u8::is_ascii_alphanumeric).count();
    let mut out = Expanded { bytes: Vec::with_capacity(text.len()), has_secret: false };
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        let name = rest.as_slice().first().copied().unwrap_or_default();
        let (secret, is_found) = match (byte, name) {
            (b'%', b'S') => (SIGNATURE.to_owned(), true),
            (b'%', b's') => (SIGNATURE.to_uppercase(), true),
            (b'%', b'D') => (between(SIGNATURE, "."), true),
            (b'%', b'J') => (escaped(SIGNATURE), true),
            (b'%', b'U') => (id.to_owned(), true),
            (b'%', b'u') => (id.to_uppercase(), true),
            (b'%', b'V') => (between(id, " "), letters >= 8),
            (b'%', b'W') => (escaped(id), id.len() >= 4),
            (b'%', b'P') => (id.bytes().map(|b| format!("%{b:02x}")).collect(), id.len() >= 8),
            (b'%', b'H') => (hex::encode(id), id.len() >= 12),
            (b'%', b'K') => (KEY.to_owned(), true),
            (b'%', b'T') => (TOKEN.to_owned(), true),
            (b'%', b'L') => ("a".repeat(4000), true),
            _ => {
                out.bytes.push(byte);
                continue;
            }
        };
        rest.next();
        out.bytes.extend_from_slice(secret.as_bytes());
        out.has_secret |= is_found;
    }
    out
}

fn between(text: &str, separator: &str) -> String {
    text.split("").collect::<Vec<_>>().join(separator)
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("\\u{byte:04x}")).collect()
}

fn signature() -> Signature {
    Signature::parse(SIGNATURE.as_bytes()).unwrap()
}

fn signed<'a>(id: &'a str, signature: &'a Signature) -> SignedUser<'a> {
    SignedUser { user: UserId::new(id.as_bytes()).unwrap(), signature }
}

fn halves<'a>(data: &'a [u8], separator: &[u8]) -> (&'a [u8], &'a [u8]) {
    match find(data, separator) {
        Some(at) => (&data[..at], &data[at + separator.len()..]),
        None => (data, &[]),
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn rfind(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}
