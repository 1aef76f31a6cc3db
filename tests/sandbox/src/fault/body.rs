//! Faults of the success document and of the token in it.

use super::{Argument, Effect::Answer as Act, Entry, Takes, entry, nest, number};
use crate::{answer::Answer, success::Case};

/// A token that would inject a header, written as JSON.
const INJECTION: &str = r#""token\r\nX-Injected: yes""#;
/// The longest token that the library accepts.
const TOKEN_LIMIT: i64 = 8192;
/// Bodies are allocated whole; more than this is the business of `endless-body`.
const BODY_LIMIT: i64 = 256 * 1024 * 1024;

pub const TABLE: &[Entry] = &[
    entry(
        "bad-json",
        Takes::Nothing,
        "a body that is not JSON",
        Act(|a, _, _| ok(a, "{'access_token': nope}")),
    ),
    entry(
        "truncated-json",
        Takes::Nothing,
        "the JSON is cut, the length fits",
        Act(truncated_json),
    ),
    entry(
        "trailing-garbage",
        Takes::Nothing,
        "garbage after the JSON",
        Act(|a, case, _| ok(a, format!("{}}} garbage", case.document()))),
    ),
    entry(
        "not-object",
        Takes::Nothing,
        "the document in an array",
        Act(|a, case, _| ok(a, format!("[{}]", case.document()))),
    ),
    entry(
        "deep-json",
        number(10_000, 1, 10_000_000),
        "nested N deep before the token",
        Act(deep_json),
    ),
    entry(
        "invalid-utf8",
        Takes::Nothing,
        "the token has bytes that are not UTF-8",
        Act(invalid_utf8),
    ),
    entry(
        "bom",
        Takes::Nothing,
        "a byte order mark before the JSON",
        Act(|a, case, _| ok(a, format!("\u{feff}{}", case.document()))),
    ),
    entry(
        "no-token",
        Takes::Nothing,
        "no access_token",
        Act(|a, case, _| ok(a, case.document_with(""))),
    ),
    entry(
        "null-token",
        Takes::Nothing,
        "access_token is null",
        Act(|a, case, _| with_token(a, case, "null")),
    ),
    entry(
        "number-token",
        Takes::Nothing,
        "access_token is a number",
        Act(|a, case, _| with_token(a, case, "123456789")),
    ),
    entry(
        "bool-token",
        Takes::Nothing,
        "access_token is true",
        Act(|a, case, _| with_token(a, case, "true")),
    ),
    entry("array-token", Takes::Nothing, "access_token is an array", Act(array_token)),
    entry("object-token", Takes::Nothing, "access_token is an object", Act(object_token)),
    entry(
        "empty-token",
        Takes::Nothing,
        "access_token is empty",
        Act(|a, case, _| with_token(a, case, r#""""#)),
    ),
    entry(
        "space-token",
        Takes::Nothing,
        "a token with a space",
        Act(|a, case, _| with_token(a, case, r#""to ken""#)),
    ),
    entry(
        "crlf-token",
        Takes::Nothing,
        "a token with CR LF that would inject a header",
        Act(|a, case, _| with_token(a, case, INJECTION)),
    ),
    entry(
        "nul-token",
        Takes::Nothing,
        "a token with a NUL",
        Act(|a, case, _| with_token(a, case, r#""to\u0000ken""#)),
    ),
    entry(
        "unicode-token",
        Takes::Nothing,
        "a token beyond ASCII",
        Act(|a, case, _| with_token(a, case, r#""tökén""#)),
    ),
    entry(
        "nested-token",
        Takes::Nothing,
        "access_token only inside another object",
        Act(nested_token),
    ),
    entry(
        "case-token",
        Takes::Nothing,
        "Access_Token in place of access_token",
        Act(|a, case, _| ok(a, case.document_with(&format!(r#""Access_Token":"{}""#, case.token)))),
    ),
    entry(
        "duplicate-token",
        Takes::Nothing,
        "access_token twice, with two values",
        Act(duplicate_token),
    ),
    entry(
        "huge-token",
        number(TOKEN_LIMIT + 1, 1, BODY_LIMIT),
        "a token of N times 'a'",
        Act(long_token),
    ),
    entry("max-token", Takes::Nothing, "a good token of exactly 8192 bytes", Act(max_token)),
    entry(
        "escaped-token",
        Takes::Nothing,
        "a good reply, its name and token written with \\u escapes",
        Act(escaped_token),
    ),
    entry(
        "late-token",
        Takes::Nothing,
        "a good reply, the token after all other members",
        Act(late_token),
    ),
    entry(
        "big-body",
        number(65_536, 1, BODY_LIMIT),
        "a good reply padded to N bytes",
        Act(big_body),
    ),
];

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
