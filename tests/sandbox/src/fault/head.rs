//! Faults of headers and time.

use std::fmt::Write;

use hyper::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};

use super::{Argument, Entry, Takes::Word, number};
use crate::{
    answer::{Answer, http_date},
    gzip::gzip,
    problem::{CONTENT_TYPE as PROBLEM, Problem},
    success::Case,
};

/// Keeps every date within the years that HTTP can write.
const DATE_RANGE: i64 = 1_000_000_000;

pub const TABLE: &[Entry] = faults! { Answer:
    "delay" [number(100, 0, 120_000)]: "N ms pass before the reply" =>
        |answer, _, argument| answer.delay = argument.millis();
    "retry-after" [number(1, i64::MIN, i64::MAX)]:
        "Retry-After: N seconds, which may be negative; a 503 unless joined with a status" =>
        |answer, _, argument| retry_after(answer, &argument.number().to_string());
    "retry-after-date" [number(1, -DATE_RANGE, DATE_RANGE)]:
        "Retry-After: the HTTP date N seconds from now; a 503 unless joined with a status" =>
        |answer, _, argument| retry_after(answer, &http_date(argument.number()));
    "retry-after-garbage" [Word(&["words", "float", "overflow", "empty", "date", "plus", "twice"])]:
        "an invalid Retry-After (twice: two valid ones that differ)" =>
        retry_after_garbage;
    "date-skew" [number(3600, -DATE_RANGE, DATE_RANGE)]: "the Date header is N seconds off" =>
        |answer, _, argument| answer.date_skew = Some(argument.number());
    "no-date": "no Date header" => |answer, _, _| answer.date_skew = None;
    "date-garbage": "an invalid Date header" =>
        |answer, _, _| {
            answer.date_skew = None;
            answer.set_header(hyper::header::DATE, "Someday, 99 Foo 20xx 25:61:61 GMT");
        };
    "many-headers" [number(200, 1, 1000)]: "N more headers" =>
        |answer, _, argument| many_headers(answer, argument.size());
    "big-header" [number(20_480, 1, 300_000)]: "one header with N bytes" =>
        |answer, _, argument| answer.set_header(X_PADDING, &"a".repeat(argument.size()));
    "gzip" [Word(&["claimed", "real"])]: "Content-Encoding: gzip, claimed only, or real" => gzipped;
    "content-type" [Word(&["none", "text", "html", "charset", "garbage"])]:
        "the same body under another Content-Type, or under none" => content_type;
};

const X_PADDING: HeaderName = HeaderName::from_static("x-padding");

/// A plain success with the header becomes a 503. A status that was asked for stays.
fn retry_after(answer: &mut Answer, value: &str) {
    if answer.status == StatusCode::OK {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "try again later");
        answer.replace(StatusCode::SERVICE_UNAVAILABLE, PROBLEM, problem.body());
    }
    answer.set_header(RETRY_AFTER, value);
}

fn retry_after_garbage(answer: &mut Answer, _: &Case<'_>, argument: Argument) {
    let value = match argument.word() {
        "float" => "1.5",
        "overflow" => "99999999999999999999999999",
        "empty" => "",
        "date" => "Foo, 32 Bar 2026 25:61:61 GMT",
        "plus" => "+1",
        "twice" => "1",
        _ => "in a while",
    };
    retry_after(answer, value);
    if argument.word() == "twice" {
        answer.headers.append(RETRY_AFTER, HeaderValue::from_static("3600"));
    }
}

fn many_headers(answer: &mut Answer, count: usize) {
    let mut name = String::new();
    for index in 0..count {
        name.clear();
        let _ = write!(name, "x-padding-{index}");
        if let Ok(name) = HeaderName::try_from(&name) {
            answer.headers.insert(name, HeaderValue::from_static("padding"));
        }
    }
}

fn gzipped(answer: &mut Answer, _: &Case<'_>, argument: Argument) {
    answer.set_header(CONTENT_ENCODING, "gzip");
    if argument.word() == "real" {
        answer.body = gzip(&answer.body).into();
        answer.has_token = false;
    }
}

fn content_type(answer: &mut Answer, _: &Case<'_>, argument: Argument) {
    let value = match argument.word() {
        "text" => "text/plain",
        "html" => "text/html",
        "charset" => "application/json; charset=utf-16",
        "garbage" => "json json json",
        _ => {
            answer.headers.remove(CONTENT_TYPE);
            return;
        }
    };
    answer.set_header(CONTENT_TYPE, value);
}
