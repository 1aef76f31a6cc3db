//! One POST over HTTP/1.1, on connections that are kept.
//!
//! ureq speaks HTTP; connecting, TLS, waiting and giving up are ours, so that a deadline and a
//! closing client are felt in every phase, and no call costs a thread. It knows URLs and bytes,
//! and nothing of users, tokens, or JSON.
//!
//! | file | holds |
//! |---|---|
//! | `control.rs`, `errors.rs` | how a call waits, what wakes it, and why it ended |
//! | `connect.rs`, `resolve.rs`, `getaddrinfo.rs`, `proxy.rs` | from a host to a TCP connection |
//! | `tls.rs`, `sessions.rs` | the TLS configuration; sessions to take up again |
//! | `tls_roots.rs`, `trust_store.rs` | which roots are trusted; what of the platform's can be read |
//! | `verifier.rs`, `tls_errors.rs` | a server's certificates; what is wrong with them, and with its TLS |
//! | `socket.rs`, `transport.rs`, `buffers.rs` | bytes to and from a connection, for ureq |
//! | `limits.rs` | how much is read, kept or tried |
//! | `framing.rs`, `chunks.rs` | which bodies are read, and which are refused at once |
//! | `own_socket.rs`, `poll.rs` | the system calls beneath |
//! | `slots.rs` | the pool: a slot is one connection and whoever uses it now |

mod buffers;
mod chunks;
mod connect;
mod control;
mod errors;
mod framing;
mod getaddrinfo;
mod limits;
mod own_socket;
mod poll;
mod proxy;
mod resolve;
mod sessions;
mod slots;
mod socket;
mod tls;
mod tls_errors;
mod tls_roots;
mod transport;
mod trust_store;
mod verifier;

use std::io::Read;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use ureq::http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use ureq::http::{HeaderValue, Request, Uri};
use zeroize::Zeroizing;

use crate::config::{BaseUrl, CaCertificates, ProxyUrl, TlsRoots};
use crate::context::{Context, Deadline};
use crate::error::{Error, ErrorKind};
use crate::fork::{self, PerProcess};
use connect::Target;
pub(crate) use errors::connection_lost;
use errors::too_large;
use limits::{BODY_FIRST, BODY_MAX, HEAD_MAX, IDLE_MAX};
use proxy::Proxy;
pub(crate) use slots::Permit;
use slots::{Slot, Slots};

/// What a client needs to know to reach its one endpoint.
pub(crate) struct Settings<'a> {
    pub(crate) base_url: &'a BaseUrl,
    pub(crate) path: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) connect_timeout: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) roots: TlsRoots,
    pub(crate) ca: &'a CaCertificates,
    pub(crate) proxy: Option<ProxyUrl>,
}

/// POSTs JSON to one URL; shared by all threads, and by the processes that are forked off.
pub(crate) struct HttpClient {
    uri: Uri,
    connect_timeout: Duration,
    in_flight_max: usize,
    agent_config: ureq::config::Config,
    target: Target,
    slots: PerProcess<Slots>,
}

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

impl HttpClient {
    /// Loads the roots if the URL is an `https` one; connects to nothing yet.
    pub(crate) fn new(settings: Settings<'_>) -> Result<Self, Error> {
        fork::watch()?;
        let url = settings.base_url.join(settings.path);
        let uri = url.parse().map_err(|_| {
            Error::new(
                ErrorKind::InvalidUrl,
                "Invalid base URL: its path cannot stand in a request.",
            )
        })?;
        let tls = if settings.base_url.https {
            Some(tls::client_config(settings.roots, settings.ca)?)
        } else {
            None
        };
        let proxy =
            settings.proxy.map(|url| Proxy { url, user_agent: settings.user_agent.to_owned() });
        let target = Target::new(settings.base_url, tls, proxy)?;
        let agent_config = agent_config(settings.user_agent);
        let slots = Slots::new(
            Arc::new(target.of_this_process()),
            agent_config.clone(),
            settings.in_flight_max,
        );
        Ok(Self {
            uri,
            connect_timeout: settings.connect_timeout,
            in_flight_max: settings.in_flight_max,
            agent_config,
            target,
            slots: PerProcess::new(slots),
        })
    }

    /// Waits for a call's turn, if as many as are allowed are in flight.
    pub(crate) fn permit(&self, context: &Context) -> Result<Permit<'_>, Error> {
        self.slots().permit(context)
    }

    /// One POST, which must be over by the deadline; blocks until then at most.
    ///
    /// A kept connection costs one write, one poll, one read, and one look at whether it is still
    /// open. The `attempts` of an error are 0 if nothing was sent.
    pub(crate) fn post_json(
        &self,
        permit: &Permit<'_>,
        body: &[u8],
        context: &Context,
    ) -> Result<Response, Error> {
        let slots = permit.slots();
        let slot = slots.take(context)?;
        let result = self.attempt(&slot, body, context);
        if !matches!(&result, Err(error) if slot.control.was_stale(error)) {
            return keep(slots, slot, context, result);
        }
        // The service never saw it, or closed before it did: once more, on a connection that is
        // new for certain, because the slot is.
        let before = slot.control.requests();
        drop(slot);
        let slot = slots.make(context).map_err(|error| error.with_attempts(before))?;
        let result = match self.attempt(&slot, body, context) {
            Ok(response) => Ok(Response { requests: before + response.requests, ..response }),
            Err(error) => {
                let requests = before + error.attempts();
                Err(error.with_attempts(requests))
            }
        };
        keep(slots, slot, context, result)
    }

    /// Closes the connections that are idle. The calls of a closed client close theirs.
    pub(crate) fn close_idle(&self) {
        if let Some(slots) = self.slots.existing() {
            slots.drop_idle();
        }
    }

    /// Those of this process. A child begins with none.
    fn slots(&self) -> &Slots {
        self.slots.get(|parent| {
            if let Some(parent) = parent {
                parent.drop_inherited_connections();
            }
            let target = Arc::new(self.target.of_this_process());
            Slots::new(target, self.agent_config.clone(), self.in_flight_max)
        })
    }

    fn attempt(&self, slot: &Slot, body: &[u8], context: &Context) -> Result<Response, Error> {
        slot.control.begin(context, Deadline::after(self.connect_timeout));
        let waker = Waker::from(Arc::clone(&slot.control));
        let _wake = context.wake_on_stop(&waker);
        // The request goes out without a wait, and so without a look at any of these.
        slot.control.may_go_on()?;
        self.run(slot, body).map_err(|error| error.with_attempts(slot.control.requests()))
    }

    fn run(&self, slot: &Slot, body: &[u8]) -> Result<Response, Error> {
        let mut request = Request::post(self.uri.clone()).body(body).map_err(ureq::Error::from);
        if let Ok(request) = &mut request {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let response = request
            .and_then(|request| slot.agent.run(request))
            .map_err(|error| slot.control.cause_of(error))?;
        let (status, headers) = (response.status().as_u16(), response.headers());
        let chunked = framing::is_chunked(&response);
        Ok(Response {
            status,
            requests: slot.control.requests(),
            retry_after: text(headers, RETRY_AFTER),
            date: text(headers, DATE),
            content_encoding: framing::content_encoding(headers),
            ends_with_connection: response.body().content_length().is_none()
                && matches!(chunked, Ok(false)),
            body: chunked.and_then(|chunked| read_body(slot, response, chunked)),
        })
    }
}

/// Puts the slot back if a connection may be left in it: a whole reply came, or nothing was done at
/// all. A slot without one would only hold descriptors.
fn keep(
    slots: &Slots,
    slot: Slot,
    context: &Context,
    result: Result<Response, Error>,
) -> Result<Response, Error> {
    let whole = matches!(&result, Ok(Response { body: Ok(_), .. }));
    if slot.control.is_broken() {
        // What closed a descriptor of this slot has most likely closed theirs too.
        slots.drop_idle();
    } else if whole || slot.control.did_nothing() {
        slots.put_back(slot, context);
    }
    result
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn read_body(
    slot: &Slot,
    response: ureq::http::Response<ureq::Body>,
    chunked: bool,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    if chunked {
        slot.control.note_chunks();
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
        match reader.read(room).map_err(|error| slot.control.cause_of(error.into()))? {
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

/// ureq without what it must not do for us: no redirect, no proxy of the environment's choice, no
/// compression, no timeout of its own (each would cost a thread per call).
fn agent_config(user_agent: &str) -> ureq::config::Config {
    ureq::config::Config::builder()
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
        .build()
}
