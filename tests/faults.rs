//! One table of everything that a server or a network can do, and what each call makes of it: the
//! result, the requests it sent, the wait that it was told, and the time it took.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Sandbox, subject};
use spike_auth::{Client, ErrorKind};

/// The deadline of every call with a single attempt, and by how much it may be overrun.
const TIMEOUT: Duration = Duration::from_millis(1000);
const GRACE: Duration = Duration::from_millis(100);
/// The deadline of every call that may try again.
const RETRY_TIMEOUT: Duration = Duration::from_millis(2000);
/// How long a call may take that waits for nothing.
const AT_ONCE: u64 = 500;
/// The most that the back-off adds in three attempts, where the service does not say that it is
/// overloaded: 100 and 200 ms.
const BACKOFF: u64 = 300;
/// A busy machine may be late by itself; a library that overruns is late every time.
const TRIES: usize = 3;

/// What a call must come to.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// This user's token.
    Token,
    /// Any token at all: one that does not name its user.
    Opaque,
    /// This kind, with this HTTP status (0: none).
    Fails(ErrorKind, u16),
    /// Either of these, as the reset comes before or after the connection stands.
    Reset,
}

use ErrorKind::*;
use Want::{Fails, Opaque, Reset, Token};

/// (fault as a part of the user id, what it comes to). One attempt; over HTTP and over HTTPS alike.
const REPLIES: &[(&str, Want)] = &[
    // Statuses.
    ("status.400", Fails(Refused, 400)),
    ("status.401", Fails(Unauthorized, 401)),
    ("status.403", Fails(Forbidden, 403)),
    ("status.404", Fails(Refused, 404)),
    ("status.405", Fails(Refused, 405)),
    ("status.408", Fails(ServerError, 408)),
    ("status.409", Fails(UnexpectedStatus, 409)),
    ("status.413", Fails(Refused, 413)),
    ("status.415", Fails(Refused, 415)),
    ("status.418", Fails(UnexpectedStatus, 418)),
    ("status.422", Fails(Refused, 422)),
    ("status.425", Fails(ServerError, 425)),
    ("status.429", Fails(RateLimited, 429)),
    ("status.500", Fails(ServerError, 500)),
    ("status.501", Fails(ServerError, 501)),
    ("status.502", Fails(ServerError, 502)),
    ("status.503", Fails(ServerError, 503)),
    ("status.504", Fails(ServerError, 504)),
    ("status.599", Fails(ServerError, 599)),
    ("status.201", Fails(UnexpectedStatus, 201)),
    ("status.202", Fails(UnexpectedStatus, 202)),
    ("status.204", Fails(UnexpectedStatus, 204)),
    ("status.302", Fails(UnexpectedStatus, 302)),
    ("status.304", Fails(UnexpectedStatus, 304)),
    ("status.307", Fails(UnexpectedStatus, 307)),
    ("html", Fails(InvalidResponse, 200)),
    ("html-error", Fails(ServerError, 502)),
    ("empty", Fails(InvalidResponse, 200)),
    ("empty-error", Fails(ServerError, 502)),
    ("echo", Fails(Unauthorized, 401)),
    ("problem-huge", Fails(Refused, 422)),
    ("problem-wrong-types", Fails(Refused, 422)),
    ("problem-garbage", Fails(Refused, 422)),
    ("problem-deep", Fails(Refused, 422)),
    // A 200 that holds no token.
    ("bad-json", Fails(InvalidResponse, 200)),
    ("truncated-json", Fails(InvalidResponse, 200)),
    ("trailing-garbage", Fails(InvalidResponse, 200)),
    ("not-object", Fails(InvalidResponse, 200)),
    ("invalid-utf8", Fails(InvalidResponse, 200)),
    ("bom", Fails(InvalidResponse, 200)),
    ("no-token", Fails(InvalidResponse, 200)),
    ("null-token", Fails(InvalidResponse, 200)),
    ("number-token", Fails(InvalidResponse, 200)),
    ("bool-token", Fails(InvalidResponse, 200)),
    ("array-token", Fails(InvalidResponse, 200)),
    ("object-token", Fails(InvalidResponse, 200)),
    ("empty-token", Fails(InvalidResponse, 200)),
    ("space-token", Fails(InvalidResponse, 200)),
    ("crlf-token", Fails(InvalidResponse, 200)),
    ("nul-token", Fails(InvalidResponse, 200)),
    ("unicode-token", Fails(InvalidResponse, 200)),
    ("nested-token", Fails(InvalidResponse, 200)),
    ("case-token", Fails(InvalidResponse, 200)),
    ("duplicate-token", Fails(InvalidResponse, 200)),
    ("huge-token", Fails(InvalidResponse, 200)),
    ("echo-ok", Fails(InvalidResponse, 200)),
    // Unusual, and good all the same.
    ("delay.100", Token),
    ("deep-json", Token),
    ("escaped-token", Token),
    ("late-token", Token),
    ("expires-in", Token),
    ("expires-in-garbage", Token),
    ("exp", Token),
    ("no-date", Token),
    ("date-garbage", Token),
    ("content-type.none", Token),
    ("content-type.text", Token),
    ("gzip", Token), // it only says so
    ("split", Token),
    ("big-body", Token), // exactly as much as is allowed
    ("max-token", Opaque),
    ("early-hints", Token),
    ("length-and-chunked", Token),
    ("bad-header.bare-lf", Token),
    ("response-twice", Token),
    ("chunked", Token),
    ("chunk-extension", Token),
    ("trailers", Token),
    ("line-ends.head", Token),
    ("transfer-encoding.identity", Token),
    ("transfer-encoding.twice", Token),
    ("bad-chunk.plus", Token), // the HTTP library takes the sign
    ("continue", Token),
    ("http10", Token),
    ("close-delimited", Token),
    ("close-idle", Token),
    // Cut.
    ("close-before", Fails(ConnectionLost, 0)),
    ("close-mid-head", Fails(ConnectionLost, 0)),
    ("close-mid-body", Fails(ConnectionLost, 200)),
    ("close-mid-chunk", Fails(ConnectionLost, 200)),
    ("close-delimited-cut", Fails(ConnectionLost, 200)),
    ("reset-before", Fails(ConnectionLost, 0)),
    ("reset-mid", Fails(ConnectionLost, 200)),
    // Stalled and slow.
    ("stall", Fails(Timeout, 0)),
    ("stall-mid-head", Fails(Timeout, 0)),
    ("stall-mid-body", Fails(Timeout, 200)),
    ("drip", Fails(Timeout, 0)),
    ("drip-body", Fails(Timeout, 200)),
    // Swollen.
    ("endless-headers", Fails(ResponseTooLarge, 0)),
    ("endless-header-line", Fails(ResponseTooLarge, 0)),
    ("many-headers", Fails(ResponseTooLarge, 0)),
    ("big-header", Fails(ResponseTooLarge, 0)),
    ("endless-body", Fails(ResponseTooLarge, 200)),
    ("endless-body.close", Fails(ResponseTooLarge, 200)),
    ("big-body.65537", Fails(ResponseTooLarge, 200)),
    ("huge-content-length", Fails(ResponseTooLarge, 200)),
    ("bad-chunk.huge", Fails(ResponseTooLarge, 200)),
    ("endless-continue", Fails(ResponseTooLarge, 0)),
    ("endless-trailers", Fails(ResponseTooLarge, 200)),
    // All there, in a form that is not read: refused, and not waited for until the deadline.
    ("gzip.real", Fails(InvalidResponse, 200)),
    ("line-ends", Fails(InvalidResponse, 200)),
    ("line-ends.size", Fails(InvalidResponse, 200)),
    ("line-ends.data", Fails(InvalidResponse, 200)),
    ("line-ends.last", Fails(InvalidResponse, 200)),
    ("line-ends.end", Fails(InvalidResponse, 200)),
    ("line-ends.trailer", Fails(InvalidResponse, 200)),
    ("line-ends.cr", Fails(InvalidResponse, 200)),
    ("http10-chunked", Fails(InvalidResponse, 200)),
    ("http10-chunked.length", Fails(InvalidResponse, 200)),
    ("status.503.and.http10-chunked", Fails(ServerError, 503)),
    ("transfer-encoding", Fails(InvalidResponse, 200)),
    ("transfer-encoding.gzip-chunked", Fails(InvalidResponse, 200)),
    ("transfer-encoding.chunked-gzip", Fails(InvalidResponse, 200)),
    ("transfer-encoding.unknown", Fails(InvalidResponse, 200)),
    ("transfer-encoding.parameter", Fails(InvalidResponse, 200)),
    ("chunk-extension.100", Fails(InvalidResponse, 200)),
    ("continue-headers", Fails(InvalidResponse, 0)),
    ("bodiless.204", Fails(UnexpectedStatus, 204)),
    ("bodiless.304", Fails(UnexpectedStatus, 304)),
    // Garbled.
    ("garbage", Fails(InvalidResponse, 0)),
    ("bad-status-line", Fails(InvalidResponse, 0)),
    ("bad-status-line.version", Fails(InvalidResponse, 0)),
    ("bad-header.no-colon", Fails(InvalidResponse, 0)),
    ("bad-header.nul", Fails(InvalidResponse, 0)),
    ("bad-content-length", Fails(InvalidResponse, 0)),
    ("bad-content-length.overflow", Fails(InvalidResponse, 0)),
    ("bad-content-length.twice", Fails(InvalidResponse, 0)),
    ("bad-header.folded", Fails(InvalidResponse, 0)),
    ("bad-header.space", Fails(InvalidResponse, 0)),
    ("upgrade", Fails(UnexpectedStatus, 101)),
    ("status.100", Fails(InvalidResponse, 0)),
    ("status.103", Fails(InvalidResponse, 0)),
    ("bad-chunk", Fails(InvalidResponse, 200)),
    ("bad-chunk.overflow", Fails(InvalidResponse, 200)),
    ("bad-chunk.negative", Fails(InvalidResponse, 200)),
    ("bad-chunk.prefix", Fails(InvalidResponse, 200)),
    ("bad-chunk.long", Fails(InvalidResponse, 200)),
    ("bad-chunk.empty", Fails(InvalidResponse, 200)),
];

/// (the sandbox's address, what a call there comes to). One attempt.
const PLACES: &[(&str, Want)] = &[
    ("refused", Fails(Connect, 0)),
    ("reset", Reset),
    ("silent", Fails(Timeout, 0)),
    ("silent_tls", Fails(Timeout, 0)),
    ("full", Fails(Timeout, 0)),
    ("cut_handshake", Fails(Tls, 0)),
    ("tls_faults/expired", Fails(Tls, 0)),
    ("tls_faults/not_yet_valid", Fails(Tls, 0)),
    ("tls_faults/wrong_host", Fails(Tls, 0)),
    ("tls_faults/self_signed", Fails(Tls, 0)),
    ("tls_faults/untrusted", Fails(Tls, 0)),
];

/// What is to come of a call with three attempts. The columns are the fault or the sandbox's
/// address, what it comes to, and the fewest and the most requests; the rest is set by what follows
/// a row, and is else that nothing is told, and that the deadline is kept.
#[derive(Clone, Copy)]
struct Retry {
    what: &'static str,
    want: Want,
    requests: (u32, u32),
    /// The fewest and the most seconds of `Retry-After` that the error has.
    told: Option<(u64, u64)>,
    at_least_ms: u64,
    at_most_ms: u64,
    connect_timeout_ms: u32,
}

const fn row(what: &'static str, want: Want, requests: u32) -> Retry {
    rows(what, want, requests, requests)
}

const fn rows(what: &'static str, want: Want, fewest: u32, most: u32) -> Retry {
    Retry {
        what,
        want,
        requests: (fewest, most),
        told: None,
        at_least_ms: 0,
        at_most_ms: (RETRY_TIMEOUT.as_millis() + GRACE.as_millis()) as u64,
        connect_timeout_ms: 0,
    }
}

impl Retry {
    const fn told(mut self, fewest: u64, most: u64) -> Self {
        self.told = Some((fewest, most));
        self
    }

    const fn at_least(mut self, ms: u64) -> Self {
        self.at_least_ms = ms;
        self
    }

    const fn at_most(mut self, ms: u64) -> Self {
        self.at_most_ms = ms;
        self
    }

    const fn connect_timeout(mut self, ms: u32) -> Self {
        self.connect_timeout_ms = ms;
        self
    }

    /// Ends long before the deadline, since there is nothing to wait for.
    const fn at_once(self) -> Self {
        self.at_most(AT_ONCE)
    }

    /// Waits for the back-off alone.
    const fn quickly(self) -> Self {
        self.at_most(AT_ONCE + BACKOFF)
    }

    /// Waits for the deadline.
    const fn until_the_deadline(self) -> Self {
        self.at_least(RETRY_TIMEOUT.as_millis() as u64)
    }
}

/// The longest wait that is handed on.
const YEAR: u64 = 365 * 24 * 3600;

/// Three attempts, over HTTP and over HTTPS alike.
const RETRIES: &[Retry] = &[
    // Refused for good: asked once.
    row("status.400", Fails(Refused, 400), 1).at_once(),
    row("status.401", Fails(Unauthorized, 401), 1).at_once(),
    row("status.403", Fails(Forbidden, 403), 1).at_once(),
    row("status.404", Fails(Refused, 404), 1).at_once(),
    row("status.405", Fails(Refused, 405), 1).at_once(),
    row("status.409", Fails(UnexpectedStatus, 409), 1).at_once(),
    row("status.413", Fails(Refused, 413), 1).at_once(),
    row("status.415", Fails(Refused, 415), 1).at_once(),
    row("status.418", Fails(UnexpectedStatus, 418), 1).at_once(),
    row("status.422", Fails(Refused, 422), 1).at_once(),
    row("status.501", Fails(ServerError, 501), 1).at_once(),
    row("status.505", Fails(ServerError, 505), 1).at_once(),
    row("status.599", Fails(ServerError, 599), 1).at_once(),
    row("status.201", Fails(UnexpectedStatus, 201), 1).at_once(),
    row("status.204", Fails(UnexpectedStatus, 204), 1).at_once(),
    row("status.301", Fails(UnexpectedStatus, 301), 1).at_once(),
    row("status.302", Fails(UnexpectedStatus, 302), 1).at_once(),
    row("status.307", Fails(UnexpectedStatus, 307), 1).at_once(),
    row("echo", Fails(Unauthorized, 401), 1).at_once(),
    row("problem-huge", Fails(Refused, 422), 1).at_once(),
    // A 200 that is whole and holds no token would be so again.
    row("html", Fails(InvalidResponse, 200), 1).at_once(),
    row("empty", Fails(InvalidResponse, 200), 1).at_once(),
    row("bad-json", Fails(InvalidResponse, 200), 1).at_once(),
    row("truncated-json", Fails(InvalidResponse, 200), 1).at_once(),
    row("no-token", Fails(InvalidResponse, 200), 1).at_once(),
    row("crlf-token", Fails(InvalidResponse, 200), 1).at_once(),
    row("huge-token", Fails(InvalidResponse, 200), 1).at_once(),
    row("duplicate-token", Fails(InvalidResponse, 200), 1).at_once(),
    // And so would one that is too large or no HTTP.
    row("endless-headers", Fails(ResponseTooLarge, 0), 1),
    row("many-headers", Fails(ResponseTooLarge, 0), 1).at_once(),
    row("big-header", Fails(ResponseTooLarge, 0), 1).at_once(),
    row("endless-body", Fails(ResponseTooLarge, 200), 1),
    row("big-body.65537", Fails(ResponseTooLarge, 200), 1).at_once(),
    row("huge-content-length", Fails(ResponseTooLarge, 200), 1).at_once(),
    row("garbage", Fails(InvalidResponse, 0), 1).at_once(),
    row("bad-status-line", Fails(InvalidResponse, 0), 1).at_once(),
    row("bad-content-length", Fails(InvalidResponse, 0), 1).at_once(),
    row("bad-header.nul", Fails(InvalidResponse, 0), 1).at_once(),
    row("bad-chunk", Fails(InvalidResponse, 200), 1).at_once(),
    row("upgrade", Fails(UnexpectedStatus, 101), 1).at_once(),
    // Good at once.
    row("max-token", Opaque, 1).at_once(),
    row("close-idle", Token, 1).at_once(),
    row("close-next", Token, 1).at_once(),
    row("close-delimited", Token, 1).at_once(),
    row("delay.200", Token, 1).at_least(200).at_most(200 + AT_ONCE),
    // What may pass is asked for three times, and the last answer counts.
    row("status.408", Fails(ServerError, 408), 3).quickly(),
    row("status.425", Fails(ServerError, 425), 3).quickly(),
    row("status.500", Fails(ServerError, 500), 3).quickly(),
    row("status.502", Fails(ServerError, 502), 3).quickly(),
    row("status.504", Fails(ServerError, 504), 3).quickly(),
    row("html-error", Fails(ServerError, 502), 3).quickly(),
    row("empty-error", Fails(ServerError, 502), 3).quickly(),
    row("close-before", Fails(ConnectionLost, 0), 3).quickly(),
    row("close-mid-head", Fails(ConnectionLost, 0), 3).quickly(),
    row("close-mid-body", Fails(ConnectionLost, 200), 3).quickly(),
    row("close-mid-chunk", Fails(ConnectionLost, 200), 3).quickly(),
    row("close-delimited-cut", Fails(ConnectionLost, 200), 3).quickly(),
    row("reset-before", Fails(ConnectionLost, 0), 3).quickly(),
    row("reset-mid", Fails(ConnectionLost, 200), 3).quickly(),
    // One that is overloaded is given up to a second, then up to two, which may not fit.
    rows("status.429", Fails(RateLimited, 429), 2, 3),
    rows("status.503", Fails(ServerError, 503), 2, 3),
    // Passing: the third or the second attempt succeeds.
    row("status.408.x2", Token, 3).quickly(),
    row("status.425.x2", Token, 3).quickly(),
    row("status.500.x2", Token, 3).quickly(),
    row("status.502.x2", Token, 3).quickly(),
    row("status.504.x2", Token, 3).quickly(),
    row("html-error.x2", Token, 3).quickly(),
    row("empty-error.x2", Token, 3).quickly(),
    row("close-before.x2", Token, 3).quickly(),
    row("close-mid-head.x2", Token, 3).quickly(),
    row("close-mid-body.x2", Token, 3).quickly(),
    row("close-mid-chunk.x2", Token, 3).quickly(),
    row("close-delimited-cut.x2", Token, 3).quickly(),
    row("reset-before.x2", Token, 3).quickly(),
    row("reset-mid.x2", Token, 3).quickly(),
    row("status.500.and.close-mid-body.x2", Token, 3).quickly(),
    row("status.500.x1", Token, 2).quickly(),
    row("close-before.x1", Token, 2).quickly(),
    row("status.429.x1", Token, 2).at_most(1000 + AT_ONCE),
    row("status.503.x1", Token, 2).at_most(1000 + AT_ONCE),
    row("status.500.x3", Fails(ServerError, 500), 3).quickly(),
    row("status.401.x1", Fails(Unauthorized, 401), 1).at_once(),
    row("no-token.x1", Fails(InvalidResponse, 200), 1).at_once(),
    row("delay.200.and.status.500.x2", Token, 3).at_least(400), // the third is not delayed
    // Retry-After in seconds is a floor, and one that does not fit is not waited for.
    row("retry-after.0", Fails(ServerError, 503), 3).told(0, 0).quickly(),
    row("retry-after.0.x2", Token, 3).quickly(),
    row("status.429.and.retry-after.0", Fails(RateLimited, 429), 3).told(0, 0).quickly(),
    row("retry-after.1.x1", Token, 2).at_least(1000).at_most(1000 + AT_ONCE),
    row("status.429.and.retry-after.1.x1", Token, 2).at_least(1000).at_most(1000 + AT_ONCE),
    row("status.500.and.retry-after.1.x1", Token, 2).at_least(1000).at_most(1000 + AT_ONCE),
    // Once there is time for it, and not twice.
    row("retry-after.1", Fails(ServerError, 503), 2)
        .told(1, 1)
        .at_least(1000)
        .at_most(1000 + AT_ONCE),
    row("retry-after.2", Fails(ServerError, 503), 1).told(2, 2).at_once(),
    row("retry-after.60", Fails(ServerError, 503), 1).told(60, 60).at_once(),
    row("status.429.and.retry-after.3600", Fails(RateLimited, 429), 1).told(3600, 3600).at_once(),
    row("status.500.and.retry-after.60", Fails(ServerError, 500), 1).told(60, 60).at_once(),
    row("status.401.and.retry-after.0", Fails(Unauthorized, 401), 1).at_once().told(0, 0),
    row("status.302.and.retry-after.0", Fails(UnexpectedStatus, 302), 1).at_once().told(0, 0),
    // What is neither seconds nor a date is no wish: the back-off of an overloaded service.
    row("retry-after.-5.x1", Token, 2).at_most(1000 + AT_ONCE),
    row("retry-after-garbage.words.x1", Token, 2).at_most(1000 + AT_ONCE),
    row("retry-after-garbage.float.x1", Token, 2).at_most(1000 + AT_ONCE),
    row("retry-after-garbage.empty.x1", Token, 2).at_most(1000 + AT_ONCE),
    row("retry-after-garbage.date.x1", Token, 2).at_most(1000 + AT_ONCE),
    row("retry-after-garbage.plus.x1", Token, 2).at_most(1000 + AT_ONCE),
    rows("retry-after.-5", Fails(ServerError, 503), 2, 3),
    rows("retry-after-garbage.words", Fails(ServerError, 503), 2, 3),
    rows("retry-after-garbage.plus", Fails(ServerError, 503), 2, 3),
    row("retry-after-garbage.overflow", Fails(ServerError, 503), 1).told(YEAR, YEAR).at_once(),
    // The first of two that differ; the second would not have fitted.
    row("retry-after-garbage.twice.x1", Token, 2).at_least(1000).at_most(1000 + AT_ONCE),
    // As a date, against the reply's own: both have whole seconds, and one may pass in between.
    row("retry-after-date.-30", Fails(ServerError, 503), 3).told(0, 0).quickly(),
    row("retry-after-date.-30.x2", Token, 3).quickly(),
    row("retry-after-date.1.x1", Token, 2).at_most(1000 + AT_ONCE),
    row("retry-after-date.30", Fails(ServerError, 503), 1).told(29, 31).at_once(),
    row("status.429.and.retry-after-date.30", Fails(RateLimited, 429), 1).told(29, 31).at_once(),
    row("retry-after-date.1000000000", Fails(ServerError, 503), 1).told(YEAR, YEAR).at_once(),
    row("retry-after-date.3600.and.date-skew.3600.x2", Token, 3),
    row("retry-after-date.1.and.date-skew.-3600", Fails(ServerError, 503), 1)
        .told(3600, 3602)
        .at_once(),
    // Without a date that can be read it is our own clock's.
    row("retry-after-date.30.and.no-date", Fails(ServerError, 503), 1).told(28, 30).at_once(),
    row("retry-after-date.30.and.date-garbage", Fails(ServerError, 503), 1).told(28, 30).at_once(),
    row("retry-after-date.-30.and.no-date.x2", Token, 3).quickly(),
    // One deadline for all attempts together: what uses it up is not tried again.
    row("stall", Fails(Timeout, 0), 1).until_the_deadline(),
    row("stall.x1", Fails(Timeout, 0), 1).until_the_deadline(),
    row("stall-mid-head", Fails(Timeout, 0), 1).until_the_deadline(),
    row("stall-mid-body", Fails(Timeout, 200), 1).until_the_deadline(),
    row("drip", Fails(Timeout, 0), 1).until_the_deadline(),
    row("drip.50", Fails(Timeout, 0), 1).until_the_deadline(),
    row("drip-body", Fails(Timeout, 200), 1).until_the_deadline(),
    row("delay.5000", Fails(Timeout, 0), 1).until_the_deadline(),
    // The status was told, and counts for more than the explanation that never came.
    row("status.503.and.stall-mid-body", Fails(ServerError, 503), 1).until_the_deadline(),
    row("delay.1200.and.status.500", Fails(Timeout, 0), 2).until_the_deadline(),
];

/// The same for the sandbox's other addresses. Where no connection comes to stand no request is
/// sent; how often one was tried shows in the time that it takes.
const RETRY_PLACES: &[Retry] = &[
    row("refused", Fails(Connect, 0), 0).quickly(),
    rows("reset", Reset, 0, 3).quickly(),
    row("cut_handshake", Fails(Tls, 0), 0).quickly(),
    row("tls_faults/expired", Fails(Tls, 0), 0).at_once(),
    row("tls_faults/not_yet_valid", Fails(Tls, 0), 0).at_once(),
    row("tls_faults/wrong_host", Fails(Tls, 0), 0).at_once(),
    row("tls_faults/self_signed", Fails(Tls, 0), 0).at_once(),
    row("tls_faults/untrusted", Fails(Tls, 0), 0).at_once(),
    row("silent", Fails(Timeout, 0), 1).until_the_deadline(),
    row("silent_tls", Fails(Timeout, 0), 0).until_the_deadline(),
    row("full", Fails(Timeout, 0), 0).until_the_deadline(),
    // The connect timeout ends an attempt, and the next one has the same again.
    row("full", Fails(Connect, 0), 0)
        .connect_timeout(200)
        .at_least(600)
        .at_most(600 + BACKOFF + AT_ONCE),
    row("silent_tls", Fails(Connect, 0), 0)
        .connect_timeout(200)
        .at_least(600)
        .at_most(600 + BACKOFF + AT_ONCE),
    row("full", Fails(Timeout, 0), 0).connect_timeout(1200).until_the_deadline(),
];

/// A row at one address of the sandbox.
struct Row {
    url: String,
    /// What the user id begins with; it makes the fault.
    user: String,
    max_attempts: u32,
    timeout: Duration,
    expected: Retry,
}

impl Row {
    fn single(url: &str, user: String, what: &'static str, want: Want) -> Self {
        // At an address where nobody answers it may be that none is sent.
        let fewest = u32::from(user.starts_with("fault."));
        Self {
            url: url.to_owned(),
            user,
            max_attempts: 1,
            timeout: TIMEOUT,
            expected: rows(what, want, fewest, 1).at_most((TIMEOUT + GRACE).as_millis() as u64),
        }
    }

    fn retried(url: &str, user: String, expected: Retry) -> Self {
        Self { url: url.to_owned(), user, max_attempts: 3, timeout: RETRY_TIMEOUT, expected }
    }
}

/// A call that was made, for comparing with what the sandbox has counted.
struct Made {
    user: String,
    /// The fewest and the most requests.
    requests: (u32, u32),
}

/// Calls once. A complaint if anything is wrong but the time, and whether it came too late.
fn call(sandbox: &Sandbox, row: &Row, user: &str) -> (Made, Option<String>, Option<String>) {
    let expected = &row.expected;
    let mut config = sandbox.config_for(&row.url);
    config.set_timeout_ms(row.timeout.as_millis() as u32).unwrap();
    config.set_connect_timeout_ms(expected.connect_timeout_ms).unwrap();
    config.set_max_attempts(row.max_attempts).unwrap();
    let client = Client::new(&config).unwrap();
    let start = Instant::now();
    let result = client.exchange(user.as_bytes(), None);
    let took = start.elapsed();

    let mut wrong = Vec::new();
    // A sandbox that gets no processor time on a busy machine makes a call late as well.
    let mut starved = None;
    let mut requests = expected.requests;
    match (&result, expected.want) {
        (Ok(token), Token) if subject(token.as_bytes()) != user => {
            wrong.push("another user's token".to_owned());
        }
        (Ok(_), Token | Opaque) => {}
        (Ok(_), Fails(..) | Reset) => wrong.push("a token".to_owned()),
        (Err(error), want) => {
            let is_wanted = match want {
                Fails(kind, status) => {
                    error.kind() == kind && error.http_status().unwrap_or(0) == status
                }
                Reset => matches!(error.kind(), Connect | ConnectionLost),
                Token | Opaque => false,
            };
            let attempts = error.attempts();
            // What the error says is exactly what the sandbox must have seen.
            requests = (attempts, attempts);
            if !is_wanted && error.kind() == Timeout {
                // The last request may not have been read when the time was up.
                requests.0 = attempts.saturating_sub(1);
                starved = Some(format!("{error:?}"));
            } else if !is_wanted || attempts < expected.requests.0 || attempts > expected.requests.1
            {
                wrong.push(format!("{error:?}"));
            }
            let told = error.retry_after().map(|wait| wait.as_secs());
            let is_told = match (told, expected.told) {
                (Some(secs), Some((fewest, most))) => (fewest..=most).contains(&secs),
                (told, expected) => told.is_none() && expected.is_none(),
            };
            if is_wanted && !is_told {
                wrong.push(format!("a Retry-After of {told:?} s"));
            }
        }
    }
    if took < Duration::from_millis(expected.at_least_ms) {
        wrong.push(format!("an end after only {took:?}"));
    }
    let late = starved.or((took > Duration::from_millis(expected.at_most_ms))
        .then(|| format!("an end after {took:?}")));
    let made = Made { user: user.to_owned(), requests };
    (made, (!wrong.is_empty()).then(|| wrong.join(", ")), late)
}

/// What is wrong with a row's result, if anything, and the calls that it took to see.
fn check(sandbox: &Sandbox, index: usize, row: &Row) -> (Vec<Made>, Option<String>) {
    let mut made = Vec::new();
    let mut complaint = None;
    for attempt in 0..TRIES {
        // Users of its own, so that each call is counted apart.
        let user = format!("{}.row-{index}-{attempt}", row.user);
        let (call, wrong, late) = call(sandbox, row, &user);
        made.push(call);
        let is_only_late = wrong.is_none() && late.is_some();
        complaint = wrong.or(late);
        if !is_only_late {
            break;
        }
    }
    let complaint = complaint.map(|what| {
        let Retry {
            want,
            requests,
            told,
            at_least_ms,
            at_most_ms,
            ..
        } = row.expected;
        format!(
            "{} {}, {} attempts: wanted {want:?}, {requests:?} requests, told {told:?}, {at_least_ms} to \
             {at_most_ms} ms; got {what}",
            row.url, row.user, row.max_attempts
        )
    });
    (made, complaint)
}

fn all_rows(sandbox: &Sandbox) -> Vec<Row> {
    let mut table = Vec::new();
    for scheme in ["http", "https"] {
        let url = sandbox.url(scheme);
        let user = |fault: &str| format!("fault.{fault}");
        table.extend(
            RETRIES.iter().map(|&expected| Row::retried(url, user(expected.what), expected)),
        );
        table.extend(
            REPLIES.iter().map(|&(fault, want)| Row::single(url, user(fault), fault, want)),
        );
    }
    table.extend(
        RETRY_PLACES.iter().map(|&expected| {
            Row::retried(sandbox.url(expected.what), "place".to_owned(), expected)
        }),
    );
    table.extend(
        PLACES
            .iter()
            .map(|&(name, want)| Row::single(sandbox.url(name), "place".to_owned(), name, want)),
    );
    // The longest first, or they would be waited for at the end.
    table.sort_by_key(|row| std::cmp::Reverse(row.expected.at_least_ms));
    table
}

#[test]
fn every_row_of_the_table() {
    let sandbox = Sandbox::start();
    let table = all_rows(&sandbox);
    assert!(table.len() >= 60);
    let (next, results) = (AtomicUsize::new(0), Mutex::new((Vec::new(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(row) = table.get(index) else {
                        break;
                    };
                    // Checked before the lock is taken, or the rows would go one by one.
                    let (made, complaint) = check(&sandbox, index, row);
                    let mut results = results.lock().unwrap();
                    results.0.extend(made);
                    results.1.extend(complaint);
                }
            });
        }
    });
    let (made, mut complaints) = results.into_inner().unwrap();

    // The sandbox's own count, whatever the client says.
    let users = sandbox.counters()["users"].as_object().unwrap().clone();
    for call in &made {
        let seen = users.get(&call.user).and_then(|count| count.as_u64());
        let (fewest, most) = match call.user.starts_with("fault.") {
            true => call.requests,
            false => (0, 0), // no request is ever sent where a connection cannot be trusted
        };
        if !(u64::from(fewest)..=u64::from(most)).contains(&seen.unwrap_or(0)) {
            complaints.push(format!(
                "{}: the sandbox saw {seen:?} requests, not {fewest} to {most}",
                call.user
            ));
        }
    }
    assert_eq!(sandbox.count("followed_redirects"), 0);
    assert!(
        complaints.is_empty(),
        "{} of {} rows:\n{}",
        complaints.len(),
        table.len(),
        complaints.join("\n")
    );
}
