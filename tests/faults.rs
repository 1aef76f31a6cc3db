//! One table of everything that a server or a network can do, and what each call makes of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Sandbox, subject};
use spike_auth::{Client, ErrorKind};

/// The deadline of every call of the table, and by how much it may be overrun.
const TIMEOUT: Duration = Duration::from_millis(1000);
const GRACE: Duration = Duration::from_millis(100);

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

/// (fault as a part of the user id, what it comes to). Over HTTP and over HTTPS alike.
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
];

/// (the sandbox's address, what a call there comes to).
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

struct Row {
    url: String,
    user: String,
    want: Want,
}

/// What is wrong with a row's result, if anything.
fn check(sandbox: &Sandbox, row: &Row) -> Option<String> {
    let mut config = sandbox.config_for(&row.url);
    config.set_timeout_ms(TIMEOUT.as_millis() as u32).unwrap();
    config.set_max_attempts(1).unwrap();
    let client = Client::new(&config).unwrap();
    let start = Instant::now();
    let result = client.exchange(row.user.as_bytes(), None);
    let took = start.elapsed();
    let complaint = match (&result, row.want) {
        (Ok(token), Token) => {
            (subject(token.as_bytes()) != row.user).then(|| "another user's token".to_owned())
        }
        (Ok(_), Opaque) => None,
        (Ok(_), Fails(..) | Reset) => Some("a token".to_owned()),
        (Err(error), Fails(kind, status))
            if error.kind() == kind && error.http_status().unwrap_or(0) == status =>
        {
            (error.attempts() > 1).then(|| format!("{} attempts", error.attempts()))
        }
        (Err(error), Reset) if matches!(error.kind(), Connect | ConnectionLost) => None,
        (Err(error), _) => Some(format!("{error:?}")),
    };
    let late = (took > TIMEOUT + GRACE).then(|| format!("took {took:?}"));
    complaint.or(late).map(|what| {
        format!(
            "{} {}: wanted {:?}, got {what}",
            row.url, row.user, row.want
        )
    })
}

#[test]
fn every_row_of_the_table() {
    let sandbox = Sandbox::start();
    let mut rows = Vec::new();
    for scheme in ["http", "https"] {
        rows.extend(REPLIES.iter().map(|&(fault, want)| Row {
            url: sandbox.url(scheme).to_owned(),
            user: format!("fault.{fault}"),
            want,
        }));
    }
    rows.extend(PLACES.iter().map(|&(name, want)| Row {
        url: sandbox.url(name).to_owned(),
        user: "alice".to_owned(),
        want,
    }));
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Checked before the lock is taken, or the rows would go one by one.
                    let complaint = check(&sandbox, row);
                    complaints.lock().unwrap().extend(complaint);
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(
        complaints.is_empty(),
        "{} of {} rows:\n{}",
        complaints.len(),
        rows.len(),
        complaints.join("\n")
    );
    // One attempt each, whatever it came to.
    let users = sandbox.counters()["users"].as_object().unwrap().clone();
    for (user, count) in users.iter().filter(|(user, _)| user.starts_with("fault.")) {
        assert_eq!(
            count.as_u64(),
            Some(2),
            "{user}: once over HTTP and once over HTTPS"
        );
    }
}
