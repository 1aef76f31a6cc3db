//! ureq: it speaks HTTP/1.1 over our connections.
//!
//! Its types stay in this file, `transport.rs` and `buffers.rs`. It follows no redirect, uses no proxy
//! of the environment, decodes nothing, and has no timeout of its own, which would cost a thread a call.

use std::io::Read;
use std::sync::Arc;

use ::http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use ::http::{HeaderValue, Request, Uri};
use zeroize::Zeroizing;

use super::errors::too_large;
use super::framing::{self, unreadable};
use super::limits::{BODY_FIRST, BODY_MAX, HEAD_MAX, IDLE_MAX};
use super::target::Target;
use super::transport::{ResolvedLater, UreqConnector};
use crate::error::{Error, ErrorKind, cut};
use crate::net::{CallIo, connection_lost};

/// A response whose body was read, or could not be.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// How many requests were sent for it: one, or two where a kept connection was dead.
    pub(crate) requests: u32,
    pub(crate) retry_after: Option<String>,
    pub(crate) date: Option<String>,
    /// What the body is encoded with, in words that are safe to show.
    pub(crate) content_encoding: Option<&'static str>,
    /// The body, or why it is not complete.
    pub(crate) body: Result<Zeroizing<Vec<u8>>, Error>,
    /// The end of the body is the end of the connection: nothing says whether it is whole.
    pub(crate) ends_with_connection: bool,
}

/// What all agents of a client have in common.
#[derive(Clone)]
pub(crate) struct AgentConfig(ureq::config::Config);

impl AgentConfig {
    pub(crate) fn new(user_agent: &str) -> Self {
        let config = ureq::config::Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(user_agent)
            .accept("application/json")
            .accept_encoding("")
            .max_response_header_size(HEAD_MAX)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(IDLE_MAX)
            .build();
        Self(config)
    }
}

/// Keeps one connection, once it is made.
pub(crate) struct Agent(ureq::Agent);

impl Agent {
    pub(crate) fn new(config: &AgentConfig, target: Arc<Target>, call: Arc<CallIo>) -> Self {
        let connector = UreqConnector { target, call };
        Self(ureq::Agent::with_parts(config.0.clone(), connector, ResolvedLater))
    }

    /// Sends `body` and receives the whole response. `call` waits, and knows why a wait ended.
    pub(crate) fn post_json(
        &self,
        uri: &Uri,
        body: &[u8],
        call: &CallIo,
    ) -> Result<Response, Error> {
        let mut request = Request::post(uri.clone()).body(body).map_err(ureq::Error::from);
        if let Ok(request) = &mut request {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let response = request
            .and_then(|request| self.0.run(request))
            .map_err(|error| call.failure_or(|| translate(&error)))?;
        let (status, headers) = (response.status().as_u16(), response.headers());
        let chunked = framing::is_chunked(&response);
        Ok(Response {
            status,
            requests: call.requests(),
            retry_after: text(headers, RETRY_AFTER),
            date: text(headers, DATE),
            content_encoding: framing::content_encoding(headers),
            ends_with_connection: response.body().content_length().is_none()
                && matches!(chunked, Ok(false)),
            body: chunked.and_then(|chunked| read_body(call, response, chunked)),
        })
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn read_body(
    call: &CallIo,
    response: ureq::http::Response<ureq::Body>,
    chunked: bool,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    if chunked {
        call.note_chunks();
    }
    let announced = response.body().content_length();
    if announced.is_some_and(|length| length > BODY_MAX as u64) {
        return Err(too_large());
    }
    // One byte more than is announced: what fills the buffer is more than was promised.
    let mut body =
        Zeroizing::new(vec![0; announced.map_or(BODY_FIRST, |length| length as usize) + 1]);
    let mut reader = response.into_body().into_reader();
    let mut filled = 0;
    loop {
        if filled == body.len() {
            body = grown(&body)?;
        }
        let room = body.get_mut(filled..).unwrap_or_default();
        match reader.read(room).map_err(|error| call.failure_or(|| translate(&error.into())))? {
            0 => break,
            count => filled += count,
        }
    }
    body.truncate(filled);
    Ok(body)
}

/// Twice the size, by hand: a vector that grows by itself leaves a copy of a token behind.
fn grown(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    if body.len() > BODY_MAX {
        return Err(too_large());
    }
    let mut larger = Zeroizing::new(Vec::with_capacity(2 * body.len()));
    larger.extend_from_slice(body);
    larger.resize((2 * body.len()).min(BODY_MAX + 1), 0);
    Ok(larger)
}

/// An error that ureq itself found in the response or at the end of the connection.
pub(crate) fn translate(error: &ureq::Error) -> Error {
    match error {
        ureq::Error::Io(error) => connection_lost(cut(&error.to_string(), 100)),
        ureq::Error::BodyStalled => connection_lost("the response is incomplete"),
        ureq::Error::LargeResponseHeader(..) => too_large(),
        // The error type of ureq-proto cannot be named here, and some of its texts quote the response.
        ureq::Error::Protocol(error) => of_protocol(&error.to_string()),
        ureq::Error::Http(_) => unreadable("it is not valid HTTP"),
        other => Error::new(
            ErrorKind::Internal,
            format!("The HTTP layer failed: {}.", cut(&other.to_string(), 100)),
        ),
    }
}

fn of_protocol(text: &str) -> Error {
    if text.contains("too many headers") {
        return too_large();
    }
    unreadable(if text.starts_with("chunk") {
        "its chunks are malformed, or have long extensions"
    } else if text.contains("content-length") {
        "its Content-Length is not a number, or there are two different ones"
    } else if text.contains("100-continue") {
        "a 100 Continue with headers precedes it"
    } else {
        "it is not valid HTTP"
    })
}
