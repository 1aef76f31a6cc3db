//! One reply, before a delivery is chosen.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Serialize;

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// How many seconds the `Date` header is off; `None` omits it.
    pub date_skew: Option<i64>,
    pub delay: Duration,
    /// Whether the body holds a token that the client can use.
    pub has_token: bool,
}

impl Answer {
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut answer = Self {
            status,
            headers: HeaderMap::with_capacity(4),
            body: Bytes::new(),
            date_skew: Some(0),
            delay: Duration::ZERO,
            has_token: false,
        };
        answer.replace(status, content_type, body);
        answer
    }

    pub fn json(value: &impl Serialize) -> Self {
        // Only maps with keys other than strings fail; there are none here.
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self::new(StatusCode::OK, "application/json", body)
    }

    /// Another status and body; the other headers, the date and the delay stay.
    pub fn replace(
        &mut self,
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) {
        self.status = status;
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = body.into();
        self.has_token = false;
    }

    pub fn set_header(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }

    /// Adds the `Date` header, just before the reply is sent.
    pub fn stamp(&mut self) {
        if let Some(skew) = self.date_skew {
            self.set_header(DATE, &http_date(skew));
        }
    }

    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// The head as bytes. `framing` holds the header lines about the length of the body.
    pub fn head(&self, framing: &str) -> BytesMut {
        let mut head = BytesMut::from("HTTP/1.1 ");
        head.extend_from_slice(self.status_text().as_bytes());
        head.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(framing.as_bytes());
        head.extend_from_slice(b"\r\n");
        head
    }

    /// The whole reply as an HTTP server would send it.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = self.head(&format!("content-length: {}\r\n", self.body.len()));
        bytes.extend_from_slice(&self.body);
        bytes.freeze()
    }

    fn status_text(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or("Unknown");
        format!("{} {reason}", self.status.as_u16())
    }
}

/// The time in `offset` seconds, as HTTP writes it. The callers bound `offset`.
pub fn http_date(offset: i64) -> String {
    let distance = Duration::from_secs(offset.unsigned_abs());
    let now = SystemTime::now();
    let time = if offset < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
    httpdate::fmt_http_date(time.unwrap_or(now))
}
