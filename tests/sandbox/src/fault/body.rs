//! Faults of the success document and of the token in it.

use super::{Argument, Entry, nest, number};
use crate::{answer::Answer, success::Case};

/// A token that would inject a header, written as JSON.
const INJECTION: &str = r#""token\r\nX-Injected: yes""#;
/// The longest token that the library accepts.
const TOKEN_LIMIT: i64 = 8192;
/// Bodies are allocated whole. For more there is `endless-body`.
const BODY_LIMIT: i64 = 256 * 1024 * 1024;

pub const TABLE: &[Entry] = faults! { Answer:
    "bad-json": "a body that is not JSON" => |a, _, _| ok(a, "{'access_token': nope}");
    "truncated-json": "the JSON is cut, the length fits" => truncated_json;
    "trailing-garbage": "garbage after the JSON" =>
        |a, case, _| ok(a, format!("{}}} garbage", case.document()));
    "not-object": "the document in an array" =>
        |a, case, _| ok(a, format!("[{}]", case.document()));
    "deep-json" [number(10_000, 1, 10_000_000)]: "nested N deep before the token" => deep_json;
    "invalid-utf8": "the token has bytes that are not UTF-8" => invalid_utf8;
    "bom": "a byte order mark before the JSON" =>
        |a, case, _| ok(a, format!("\u{feff}{}", case.document()));
    "no-token": "no access_token" => |a, case, _| ok(a, case.document_with(""));
    "null-token": "access_token is null" => |a, case, _| with_token(a, case, "null");
    "number-token": "access_token is a number" => |a, case, _| with_token(a, case, "123456789");
    "bool-token": "access_token is true" => |a, case, _| with_token(a, case, "true");
    "array-token": "access_token is an array" => array_token;
    "object-token": "access_token is an object" => object_token;
    "empty-token": "access_token is empty" => |a, case, _| with_token(a, case, r#""""#);
    "space-token": "a token with a space" => |a, case, _| with_token(a, case, r#""to ken""#);
    "crlf-token": "a token with CR LF that would inject a header" =>
        |a, case, _| with_token(a, case, INJECTION);
    "nul-token": "a token with a NUL" => |a, case, _| with_token(a, case, r#""to\u0000ken""#);
    "unicode-token": "a token beyond ASCII" => |a, case, _| with_token(a, case, r#""tökén""#);
    "nested-token": "access_token only inside another object" => nested_token;
    "case-token": "Access_Token in place of access_token" =>
        |a, case, _| ok(a, case.document_with(&format!(r#""Access_Token":"{}""#, case.token)));
    "duplicate-token": "access_token twice, with two values" => duplicate_token;
    "huge-token" [number(TOKEN_LIMIT + 1, 1, BODY_LIMIT)]: "a token of N times 'a'" => long_token;
    "max-token": "a good token of exactly 8192 bytes" => max_token;
    "escaped-token": "a good reply, its name and token written with \\u escapes" => escaped_token;
    "late-token": "a good reply, the token after all other members" => late_token;
    "big-body" [number(65_536, 1, BODY_LIMIT)]: "a good reply padded to N bytes" => big_body;
};

fn ok(answer: &mut Answer, body: impl Into<bytes::Bytes>) {
    answer.replace(hyper::StatusCode::OK, "application/json", body);
}

/// A success whose token is this JSON.
fn with_token(answer: &mut Answer, case: &Case<'_>, token: &str) {
    ok(answer, case.document_with(&format!(r#""access_token":{token}"#)));
}

fn truncated_json(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    let document = case.document();
    ok(answer, document.as_bytes()[..document.len() / 2].to_vec());
}

fn deep_json(answer: &mut Answer, case: &Case<'_>, argument: Argument) {
    let nest = nest(argument.size());
    ok(answer, case.document_with(&format!(r#""deep":{nest},"access_token":"{}""#, case.token)));
}

fn invalid_utf8(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    let mut body = br#"{"access_token":"to"#.to_vec();
    body.extend_from_slice(&[0xff, 0xfe, 0xc0, 0x80]);
    body.extend_from_slice(format!(r#"ken","user_info":{}}}"#, case.user_info()).as_bytes());
    ok(answer, body);
}

fn array_token(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    with_token(answer, case, &format!(r#"["{}"]"#, case.token));
}

fn object_token(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    with_token(answer, case, &format!(r#"{{"access_token":"{}"}}"#, case.token));
}

fn nested_token(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    ok(answer, case.document_with(&format!(r#""data":{{"access_token":"{}"}}"#, case.token)));
}

fn duplicate_token(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    let members = format!(r#""access_token":"{}","access_token":"another""#, case.token);
    ok(answer, case.document_with(&members));
}

fn long_token(answer: &mut Answer, case: &Case<'_>, argument: Argument) {
    with_token(answer, case, &format!(r#""{}""#, "a".repeat(argument.size())));
}

fn max_token(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    long_token(answer, case, Argument::Number(TOKEN_LIMIT));
    answer.has_token = true;
}

fn escaped_token(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    let token: String = case.token.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    ok(answer, case.document_with(&format!(r#""access\u005ftoken":"{token}""#)));
    answer.has_token = true;
}

fn late_token(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    ok(answer, format!(r#"{{"user_info":{},"access_token":"{}"}}"#, case.user_info(), case.token));
    answer.has_token = true;
}

fn big_body(answer: &mut Answer, case: &Case<'_>, argument: Argument) {
    let padded = |padding: &str| {
        case.document_with(&format!(r#""padding":"{padding}","access_token":"{}""#, case.token))
    };
    let padding = "p".repeat(argument.size().saturating_sub(padded("").len()));
    ok(answer, padded(&padding));
    answer.has_token = true;
}
