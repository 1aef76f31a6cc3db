//! Faults of the status, and bodies that are no JSON at all.

use hyper::{StatusCode, header::LOCATION};

use super::{Argument, Entry, number};
use crate::{
    answer::Answer,
    problem::{CONTENT_TYPE as PROBLEM, Problem},
    success::Case,
};

/// The target of redirects. Requests to it are counted.
pub const REDIRECT_TARGET: &str = "/v3/redirected";

const HTML: &str = "text/html; charset=utf-8";
const PAGE: &str = "<!DOCTYPE html><html><body><h1>A page of HTML</h1></body></html>";

pub const TABLE: &[Entry] = faults! { Answer:
    "status" [number(503, 100, 999)]: "status N with a problem document; 3xx with a Location" =>
        status;
    "html": "200 with a page of HTML" => |a, _, _| a.replace(StatusCode::OK, HTML, PAGE);
    "html-error": "502 with a page of HTML" =>
        |a, _, _| a.replace(StatusCode::BAD_GATEWAY, HTML, PAGE);
    "empty": "200 without a body" => |a, _, _| a.replace(StatusCode::OK, "application/json", "");
    "empty-error": "502 without a body" => |a, _, _| a.replace(StatusCode::BAD_GATEWAY, HTML, "");
};

fn status(answer: &mut Answer, _: &Case<'_>, argument: Argument) {
    let status =
        u16::try_from(argument.number()).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let detail = format!("the sandbox was asked for {}", status.as_u16());
    let bodiless = matches!(status.as_u16(), 204 | 205 | 304);
    let body = if bodiless { Vec::new() } else { Problem::new(status, detail).body() };
    answer.replace(status, PROBLEM, body);
    if status.is_redirection() {
        answer.set_header(LOCATION, REDIRECT_TARGET);
    }
}
