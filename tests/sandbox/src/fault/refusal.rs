//! Faults of the problem documents that go with a refusal.

use hyper::{
    StatusCode,
    header::{HeaderName, WWW_AUTHENTICATE},
};
use serde_json::json;

use super::{Argument, Entry, Takes::Word, nest, number};
use crate::{
    answer::Answer,
    problem::{CONTENT_TYPE as PROBLEM, Flaw, Problem},
    success::Case,
};

/// Documents are allocated whole.
const DETAIL_LIMIT: i64 = 256 * 1024 * 1024;

pub const TABLE: &[Entry] = faults! { Answer:
    "echo" [Word(&["401", "422", "400", "403", "500"])]:
        "a problem that echoes every secret in every field and in headers" => echo;
    "echo-ok": "200 without a token that echoes every secret" => echo_ok;
    "problem-huge" [number(61_440, 1, DETAIL_LIMIT)]: "422 with a detail of N bytes" =>
        problem_huge;
    "problem-control": "422 with control characters, ANSI escapes, bidi marks and NUL" =>
        problem_control;
    "problem-wrong-types": "422 whose members have wrong JSON types" => problem_wrong_types;
    "problem-garbage": "422 whose problem document is not JSON" => problem_garbage;
    "problem-deep" [number(10_000, 1, 10_000_000)]: "422 nested N deep before its detail" =>
        problem_deep;
};

fn echo(answer: &mut Answer, case: &Case<'_>, argument: Argument) {
    let secrets = case.secrets();
    let code = argument.word().parse().unwrap_or(401);
    let problem = Problem {
        title: secrets.clone(),
        status: code,
        detail: secrets.clone(),
        errors: vec![
            Flaw {
                message: secrets.clone(),
                location: format!("body.{secrets}"),
                value: json!(secrets),
            },
            Flaw {
                message: case.signature.to_owned(),
                location: case.user.to_owned(),
                value: json!(String::from_utf8_lossy(case.body)),
            },
        ],
    };
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::UNAUTHORIZED);
    answer.replace(status, PROBLEM, problem.body());
    echo_headers(answer, case, &secrets);
}

fn echo_headers(answer: &mut Answer, case: &Case<'_>, secrets: &str) {
    answer.set_header(
        WWW_AUTHENTICATE,
        &format!("Bearer realm=\"{}\", error=\"{}\"", case.key, case.signature),
    );
    for name in ["x-request-id", "x-error", "server", "via"] {
        answer.set_header(HeaderName::from_static(name), secrets);
    }
}

fn echo_ok(answer: &mut Answer, case: &Case<'_>, _: Argument) {
    let secrets = case.secrets();
    answer.replace(
        StatusCode::OK,
        "application/json",
        json!({"error": secrets, "message": secrets, "request": secrets}).to_string(),
    );
    echo_headers(answer, case, &secrets);
}

fn problem_huge(answer: &mut Answer, _: &Case<'_>, argument: Argument) {
    unprocessable(answer, &"d".repeat(argument.size()));
}

fn problem_control(answer: &mut Answer, _: &Case<'_>, _: Argument) {
    let detail = "\u{1b}[31mred\u{1b}[0m \r\nX-Injected: yes\r\n \u{0}\u{7}\u{8}\u{7f}\u{85}\u{9b}2J \u{202e}desrever\u{202c} \u{2066}\u{2028}\u{2029}\u{200b}\u{feff} end";
    unprocessable(answer, detail);
}

fn unprocessable(answer: &mut Answer, detail: &str) {
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    answer.replace(StatusCode::UNPROCESSABLE_ENTITY, PROBLEM, problem.body());
}

fn problem_wrong_types(answer: &mut Answer, _: &Case<'_>, _: Argument) {
    let body = json!({"title": 42, "status": "four hundred", "detail": ["a", {"b": null}], "errors": {"location": 1}});
    answer.replace(StatusCode::UNPROCESSABLE_ENTITY, PROBLEM, body.to_string());
}

fn problem_garbage(answer: &mut Answer, _: &Case<'_>, _: Argument) {
    answer.replace(StatusCode::UNPROCESSABLE_ENTITY, PROBLEM, "{\"title\": \"cut of");
}

fn problem_deep(answer: &mut Answer, _: &Case<'_>, argument: Argument) {
    let body = format!(
        r#"{{"deep":{},"title":"Unprocessable Entity","detail":"deep"}}"#,
        nest(argument.size())
    );
    answer.replace(StatusCode::UNPROCESSABLE_ENTITY, PROBLEM, body);
}
