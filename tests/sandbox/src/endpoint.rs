//! `POST /v3/auth/hmac`: checks the request, then answers it or misbehaves.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE},
    http::request::Parts,
};

use crate::{
    answer::Answer,
    connection::Link,
    counters::{InFlight, Seen},
    fault::{Delivery, Effect, Spec, scripted},
    problem::Problem,
    request::{Exchange, Refusal},
    sandbox::Sandbox,
    script::{Ending, Script},
    success::{Case, Plan},
};

pub const PATH: &str = "/v3/auth/hmac";

/// Huma accepts more. The library's requests are far smaller.
const BODY_LIMIT: usize = 64 * 1024;
/// Read before the refusal: closing with unread bytes would reset the connection.
const OVERFLOW_LIMIT: usize = 4 * 1024 * 1024;

/// What becomes of a request.
pub enum Outcome {
    Answer(Answer),
    Script(Script),
}

pub async fn exchange(sandbox: &Sandbox, link: &Link, request: Request<Incoming>) -> Outcome {
    sandbox.counters.requests.fetch_add(1, Relaxed);
    let in_flight = InFlight::begin(&sandbox.counters);
    let (parts, body) = request.into_parts();
    let body = read(body, BODY_LIMIT).await;
    let checked = check(sandbox, &parts, body.as_deref());
    let body = body.unwrap_or_default();
    record(sandbox, link, parts, &body);
    if link.closes_next() {
        return Outcome::Script(Script::new(Vec::new(), Ending::Close));
    }
    let (mut answer, spec) = match checked {
        Ok(exchange) => accept(sandbox, &exchange, &body),
        Err(refusal) => (*refusal, sandbox.book.for_bad_request()),
    };
    wait(sandbox.delay + answer.delay).await;
    answer.stamp();
    let delivery = spec.and_then(|spec| spec.delivery(&answer));
    deliver(sandbox, link, answer, delivery, in_flight)
}

/// The whole body; `None` if it is larger than `limit` or the client closed.
pub async fn read(mut body: Incoming, limit: usize) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.ok()?.into_data().unwrap_or_default();
        length += data.len();
        if length > OVERFLOW_LIMIT {
            break;
        }
        if length <= limit {
            whole.extend_from_slice(&data);
        }
    }
    (length <= limit).then_some(whole)
}

/// What must be right before a user's faults apply.
fn check(sandbox: &Sandbox, parts: &Parts, body: Option<&[u8]>) -> Result<Exchange, Box<Answer>> {
    check_head(parts)?;
    let body =
        body.ok_or_else(|| refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))?;
    let application = sandbox.application();
    let exchange = application.parse(body).map_err(explain)?;
    sandbox.counters.count_user(&exchange.user);
    if application.accepts(&exchange) {
        Ok(exchange)
    } else {
        Err(refuse(StatusCode::UNAUTHORIZED, "invalid signature"))
    }
}

fn check_head(parts: &Parts) -> Result<(), Box<Answer>> {
    if parts.method != Method::POST {
        let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed here");
        answer.set_header(ALLOW, "POST");
        return Err(answer);
    }
    if !is_json(parts) {
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown content type"));
    }
    Ok(())
}

fn is_json(parts: &Parts) -> bool {
    let value = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

fn explain(refusal: Refusal) -> Box<Answer> {
    match refusal {
        Refusal::Malformed => refuse(StatusCode::BAD_REQUEST, "the body is not JSON"),
        Refusal::Invalid(flaws) => Box::new(Problem::invalid(flaws).answer()),
    }
}

fn refuse(status: StatusCode, detail: &str) -> Box<Answer> {
    Box::new(Problem::new(status, detail).answer())
}

/// The reply to a good request, and the faults of its user.
fn accept(sandbox: &Sandbox, exchange: &Exchange, body: &[u8]) -> (Answer, Option<Arc<Spec>>) {
    match sandbox.book.for_user(&exchange.user) {
        // A status that no client tries again, so that a typo in a test's user id shows at once.
        Err(message) => (*refuse(StatusCode::NOT_IMPLEMENTED, &message), None),
        Ok(spec) => (prepare(sandbox, exchange, body, spec.as_deref()), spec),
    }
}

fn prepare(sandbox: &Sandbox, exchange: &Exchange, body: &[u8], spec: Option<&Spec>) -> Answer {
    let faults = spec.map_or(&[][..], |spec| &spec.faults);
    let mut plan = Plan::default();
    for fault in faults {
        if let Effect::Token(shape) = fault.entry.effect {
            shape(&mut plan, fault.argument);
        }
    }
    let application = sandbox.application();
    let case = Case::new(exchange, body, &application.key, &sandbox.mint, plan);
    let mut answer = case.answer();
    for fault in faults {
        if let Effect::Answer(spoil) = fault.entry.effect {
            spoil(&mut answer, &case, fault.argument);
        }
    }
    answer
}

fn record(sandbox: &Sandbox, link: &Link, parts: Parts, body: &[u8]) {
    sandbox.counters.record(Seen {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body: body.to_vec(),
        raw: link.record.take(),
        https: link.https,
        connection: link.number(),
    });
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn deliver(
    sandbox: &Sandbox,
    link: &Link,
    answer: Answer,
    delivery: Option<Delivery>,
    in_flight: InFlight,
) -> Outcome {
    let mut script = match delivery {
        Some(Delivery::Script(script)) => script,
        None if answer.status.is_informational() => scripted(&answer),
        Some(Delivery::CloseNext) => {
            link.close_next();
            return send(sandbox, answer);
        }
        None => return send(sandbox, answer),
    };
    if script.complete {
        count_token(sandbox, &answer);
    }
    script.in_flight = Some(in_flight);
    Outcome::Script(script)
}

fn send(sandbox: &Sandbox, answer: Answer) -> Outcome {
    count_token(sandbox, &answer);
    Outcome::Answer(answer)
}

fn count_token(sandbox: &Sandbox, answer: &Answer) {
    if answer.has_token {
        sandbox.counters.tokens.fetch_add(1, Relaxed);
    }
}
