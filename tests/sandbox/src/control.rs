//! `/_sandbox/...`: what tests ask and change while the sandbox runs.

use hyper::{Method, Request, StatusCode, body::Incoming};
use serde::Deserialize;

use crate::{answer::Answer, endpoint, problem::Problem, sandbox::Sandbox};

pub const PREFIX: &str = "/_sandbox/";

const BODY_LIMIT: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFaults {
    /// Missing or null is everyone.
    user: Option<String>,
    spec: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetKey {
    hmac_key: String,
    #[serde(default)]
    keep_old: bool,
}

pub async fn answer(sandbox: &Sandbox, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let Some(body) = endpoint::read(body, BODY_LIMIT).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    };
    let name = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    match (name, &parts.method) {
        ("counters", &Method::GET) => {
            Answer::new(StatusCode::OK, "application/json", sandbox.counters.report())
        }
        ("last", &Method::GET) => Answer::json(&sandbox.counters.last()),
        ("last-connect", &Method::GET) => Answer::json(&sandbox.counters.last_connect()),
        ("reset", &Method::POST) => {
            sandbox.counters.reset();
            sandbox.book.forget_counts();
            Answer::new(StatusCode::OK, "application/json", sandbox.counters.report())
        }
        ("faults", &Method::GET) => faults(sandbox),
        ("faults", &Method::POST) => set_faults(sandbox, &body),
        ("faults", &Method::DELETE) => {
            sandbox.book.clear();
            faults(sandbox)
        }
        ("key", &Method::POST) => set_key(sandbox, &body),
        ("counters" | "last" | "last-connect" | "reset" | "faults" | "key", _) => problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "see --help for the methods of the control endpoints",
        ),
        _ => problem(StatusCode::NOT_FOUND, "see --help for the control endpoints"),
    }
}

fn faults(sandbox: &Sandbox) -> Answer {
    Answer::json(&sandbox.book.describe())
}

fn set_faults(sandbox: &Sandbox, body: &[u8]) -> Answer {
    let request: SetFaults = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match sandbox.book.set(request.user.as_deref(), &request.spec) {
        Ok(()) => faults(sandbox),
        Err(message) => problem(StatusCode::UNPROCESSABLE_ENTITY, &message),
    }
}

fn set_key(sandbox: &Sandbox, body: &[u8]) -> Answer {
    match serde_json::from_slice::<SetKey>(body) {
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        Ok(request) if sandbox.set_key(&request.hmac_key, request.keep_old) => {
            Answer::json(&serde_json::json!({}))
        }
        Ok(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "the HMAC key cannot be used"),
    }
}

fn problem(status: StatusCode, detail: &str) -> Answer {
    Problem::new(status, detail).answer()
}
