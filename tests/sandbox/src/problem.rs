//! Problem documents (RFC 9457), in the shape that Huma gives them.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::answer::Answer;

pub const CONTENT_TYPE: &str = "application/problem+json";

#[derive(Debug, Serialize)]
pub struct Problem {
    pub title: String,
    pub status: u16,
    pub detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Flaw>,
}

/// One thing that is wrong with the request.
#[derive(Debug, Serialize, PartialEq)]
pub struct Flaw {
    pub message: String,
    pub location: String,
    /// Huma echoes its input, including a signature or the whole body.
    pub value: Value,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Unknown").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    pub fn invalid(errors: Vec<Flaw>) -> Self {
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation failed") }
    }

    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn answer(&self) -> Answer {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Answer::new(status, CONTENT_TYPE, self.body())
    }
}
