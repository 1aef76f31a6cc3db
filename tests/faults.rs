//! Every fault of the sandbox, and what a call makes of it: the result, the requests it sent, the wait
//! it was told, and the time it took. With one attempt: the table that all languages share. With three:
//! the tables below.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::timing::GRACE;
use common::{Sandbox, client, on_threads, subject, vectors};
use serde_json::Value;
use spike_auth::ErrorKind;

/// The deadline of every call with one attempt.
const TIMEOUT: Duration = Duration::from_millis(1000);
/// The deadline of every call with three attempts.
const RETRY_TIMEOUT: Duration = Duration::from_millis(2000);
/// How long a call may take that waits for nothing.
const AT_ONCE: u64 = 500;
/// The longest back-off of three attempts (100 and 200 ms), unless the service says that it is
/// overloaded.
const BACKOFF: u64 = 300;
/// A busy machine may be late by itself. A late library is late every time.
const TRIES: usize = 3;

/// What a call must come to.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// This user's token.
    Token,
    /// A token that does not name its user.
    Opaque,
    /// This kind, with this HTTP status (0: none).
    Fails(ErrorKind, u16),
    /// Connect or ConnectionLost: the reset may come before or after the connection stands.
    Reset,
}

use ErrorKind::*;
use Want::{Fails, Opaque, Reset, Token};

/// What a call must come to, and how. The columns are the fault or the sandbox's address, the result,
/// and the fewest and the most requests. Unless a row says otherwise, no Retry-After is told and the
/// deadline is kept.
#[derive(Clone, Copy)]
struct Expected {
    what: &'static str,
    want: Want,
    requests: (u32, u32),
    retryable: Option<bool>,
    /// The fewest and the most seconds of `Retry-After` that the error has.
    told: Option<(u64, u64)>,
    at_least_ms: u64,
    at_most_ms: u64,
    connect_timeout_ms: u32,
}

const fn row(what: &'static str, want: Want, requests: u32) -> Expected {
    rows(what, want, requests, requests)
}

const fn rows(what: &'static str, want: Want, fewest: u32, most: u32) -> Expected {
    Expected {
        what,
        want,
        requests: (fewest, most),
        retryable: None,
        told: None,
        at_least_ms: 0,
        at_most_ms: (RETRY_TIMEOUT.as_millis() + GRACE.as_millis()) as u64,
        connect_timeout_ms: 0,
    }
}

impl Expected {
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

    /// Waits for the `Retry-After` of a second, or for the back-off of an overloaded service.
    const fn within_a_second(self) -> Self {
        self.at_most(1000 + AT_ONCE)
    }

    /// Waits for the deadline.
    const fn until_the_deadline(self) -> Self {
        self.at_least(RETRY_TIMEOUT.as_millis() as u64)
    }
}

/// The longest wait that is handed on.
const YEAR: u64 = 365 * 24 * 3600;

/// Three attempts, over HTTP and over HTTPS. Whether a failure may be tried again is a column of the
/// shared table; here one row for each kind shows that the call does so.
const RETRIES: &[Expected] = &[
    // Lasting failures: one request.
    row("status.401", Fails(Unauthorized, 401), 1).at_once(),
    row("status.403", Fails(Forbidden, 403), 1).at_once(),
    row("status.422", Fails(Refused, 422), 1).at_once(),
    row("status.501", Fails(ServerError, 501), 1).at_once(),
    row("status.301", Fails(UnexpectedStatus, 301), 1).at_once(),
    row("status.302", Fails(UnexpectedStatus, 302), 1).at_once(),
    row("status.303", Fails(UnexpectedStatus, 303), 1).at_once(),
    row("status.307", Fails(UnexpectedStatus, 307), 1).at_once(),
    row("status.308", Fails(UnexpectedStatus, 308), 1).at_once(),
    row("html", Fails(InvalidResponse, 200), 1).at_once(),
    row("truncated-json", Fails(InvalidResponse, 200), 1).at_once(), // whole by its Content-Length
    row("no-token", Fails(InvalidResponse, 200), 1).at_once(),
    row("garbage", Fails(InvalidResponse, 0), 1).at_once(),
    row("bad-chunk", Fails(InvalidResponse, 200), 1).at_once(),
    row("upgrade", Fails(UnexpectedStatus, 101), 1).at_once(),
    row("big-header", Fails(ResponseTooLarge, 0), 1).at_once(),
    row("big-body.65537", Fails(ResponseTooLarge, 200), 1).at_once(),
    // Good at once.
    row("max-token", Opaque, 1).at_once(),
    row("close-idle", Token, 1).at_once(),
    row("close-next", Token, 1).at_once(),
    row("close-delimited", Token, 1).at_once(),
    row("close-delimited-abrupt", Token, 1).at_once(),
    row("delay.200", Token, 1).at_least(200).at_most(200 + AT_ONCE),
    // Passing failures: three requests, and the last reply counts.
    row("status.500", Fails(ServerError, 500), 3).quickly(),
    row("close-before", Fails(ConnectionLost, 0), 3).quickly(),
    row("close-mid-body", Fails(ConnectionLost, 200), 3).quickly(),
    // An overloaded service is given up to one second, then up to two, which may not fit.
    rows("status.429", Fails(RateLimited, 429), 2, 3),
    rows("status.503", Fails(ServerError, 503), 2, 3),
    // The third or the second attempt succeeds.
    row("status.500.x2", Token, 3).quickly(),
    row("close-before.x2", Token, 3).quickly(),
    row("close-mid-head.x2", Token, 3).quickly(),
    row("close-mid-body.x2", Token, 3).quickly(),
    row("close-mid-chunk.x2", Token, 3).quickly(),
    row("close-delimited-cut.x2", Token, 3).quickly(),
    row("reset-before.x2", Token, 3).quickly(),
    row("reset-mid.x2", Token, 3).quickly(),
    row("status.500.and.close-mid-body.x2", Token, 3).quickly(),
    row("status.500.x1", Token, 2).quickly(),
    row("status.429.x1", Token, 2).within_a_second(),
    row("status.503.x1", Token, 2).within_a_second(),
    row("status.500.x3", Fails(ServerError, 500), 3).quickly(),
    row("status.401.x1", Fails(Unauthorized, 401), 1).at_once(),
    row("no-token.x1", Fails(InvalidResponse, 200), 1).at_once(),
    row("delay.200.and.status.500.x2", Token, 3).at_least(400), // the third is not delayed
    // Retry-After in seconds is a floor. A wait that does not fit is not begun.
    row("retry-after.0", Fails(ServerError, 503), 3).told(0, 0).quickly(),
    row("retry-after.0.x2", Token, 3).quickly(),
    row("retry-after.1.x1", Token, 2).at_least(1000).within_a_second(),
    row("status.429.and.retry-after.1.x1", Token, 2).at_least(1000).within_a_second(),
    row("status.500.and.retry-after.1.x1", Token, 2).at_least(1000).within_a_second(),
    // There is time for it once, and not twice.
    row("retry-after.1", Fails(ServerError, 503), 2).told(1, 1).at_least(1000).within_a_second(),
    row("retry-after.2", Fails(ServerError, 503), 1).told(2, 2).at_once(),
    row("status.401.and.retry-after.0", Fails(Unauthorized, 401), 1).at_once().told(0, 0),
    // Neither seconds nor a date: the back-off of an overloaded service.
    row("retry-after-garbage.words.x1", Token, 2).within_a_second(),
    rows("retry-after-garbage.words", Fails(ServerError, 503), 2, 3),
    row("retry-after-garbage.overflow", Fails(ServerError, 503), 1).told(YEAR, YEAR).at_once(),
    // The first of two that differ; the second would not have fitted.
    row("retry-after-garbage.twice.x1", Token, 2).at_least(1000).within_a_second(),
    // A date counts from the reply's own: both have whole seconds, and one may pass in between.
    row("retry-after-date.-30.x2", Token, 3).quickly(),
    row("retry-after-date.1.x1", Token, 2).within_a_second(),
    row("retry-after-date.30", Fails(ServerError, 503), 1).told(29, 31).at_once(),
    row("retry-after-date.1000000000", Fails(ServerError, 503), 1).told(YEAR, YEAR).at_once(),
    row("retry-after-date.3600.and.date-skew.3600.x2", Token, 3),
    // From our own clock where the reply has no date.
    row("retry-after-date.30.and.no-date", Fails(ServerError, 503), 1).told(28, 30).at_once(),
    // One deadline for all attempts together.
    row("stall", Fails(Timeout, 0), 1).until_the_deadline(),
    row("stall.x1", Fails(Timeout, 0), 1).until_the_deadline(),
    row("drip", Fails(Timeout, 0), 1).until_the_deadline(),
    // The status was told, and counts for more than the explanation that never came.
    row("status.503.and.stall-mid-body", Fails(ServerError, 503), 1).until_the_deadline(),
    row("delay.1200.and.status.500", Fails(Timeout, 0), 2).until_the_deadline(),
];

/// Three attempts at the sandbox's other addresses. Without a connection no request is sent; how often
/// one was tried shows in the time.
const RETRY_PLACES: &[Expected] = &[
    row("refused", Fails(Connect, 0), 0).quickly(),
    rows("reset", Reset, 0, 3).quickly(),
    row("cut_handshake", Fails(Tls, 0), 0).quickly(),
    row("tls_faults/expired", Fails(Tls, 0), 0).at_once(),
    row("silent", Fails(Timeout, 0), 1).until_the_deadline(),
    row("full", Fails(Timeout, 0), 0).until_the_deadline(),
    // The connect timeout ends an attempt, and the next attempt has the same again.
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
    /// The beginning of the user id, which makes the fault.
    user: String,
    max_attempts: u32,
    timeout: Duration,
    expected: Expected,
}

impl Row {
    /// A row of `tests/vectors/faults.json`: one attempt.
    fn shared(url: &str, user: String, row: &Value) -> Self {
        // Without a connection there may be no request.
        let fewest = u32::from(user.starts_with("fault."));
        let mut expected = rows("", shared_want(row), fewest, 1);
        expected.retryable = row["retryable"].as_bool();
        expected.told = row["retry_after_ms"].as_u64().map(|told| (told / 1000, told / 1000));
        expected.at_most_ms = (TIMEOUT + GRACE).as_millis() as u64;
        if matches!(expected.want, Fails(Timeout, _)) {
            expected.at_least_ms = TIMEOUT.as_millis() as u64;
        }
        Self { url: url.to_owned(), user, max_attempts: 1, timeout: TIMEOUT, expected }
    }

    fn retried(url: &str, user: String, expected: Expected) -> Self {
        Self { url: url.to_owned(), user, max_attempts: 3, timeout: RETRY_TIMEOUT, expected }
    }
}

fn shared_want(row: &Value) -> Want {
    let Some(name) = row["status"].as_str() else {
        return if row["names_the_user"] == true { Token } else { Opaque };
    };
    let kinds = [
        Connect,
        ConnectionLost,
        Forbidden,
        InvalidResponse,
        RateLimited,
        Refused,
        ResponseTooLarge,
        ServerError,
        Timeout,
        Tls,
        Unauthorized,
        UnexpectedStatus,
    ];
    let is_named =
        |kind: &ErrorKind| format!("{kind:?}").eq_ignore_ascii_case(&name.replace('_', ""));
    let kind = kinds.into_iter().find(is_named).unwrap_or_else(|| panic!("{name}"));
    Fails(kind, row["http_status"].as_u64().unwrap() as u16)
}

/// A call that was made, to compare with what the sandbox counted.
struct Made {
    user: String,
    /// The fewest and the most requests.
    requests: (u32, u32),
}

/// Calls once. Returns what was wrong apart from the time, and whether the end came too late.
fn call(sandbox: &Sandbox, row: &Row, user: &str) -> (Made, Option<String>, Option<String>) {
    let expected = &row.expected;
    let mut config = sandbox.config_for(&row.url);
    config.set_timeout_ms(row.timeout.as_millis() as u32).unwrap();
    config.set_connect_timeout_ms(expected.connect_timeout_ms).unwrap();
    config.set_max_attempts(row.max_attempts).unwrap();
    let client = client(&config);
    let start = Instant::now();
    let result = client.exchange(user.as_bytes(), None);
    let took = start.elapsed();

    let mut wrong = Vec::new();
    // A sandbox without processor time on a busy machine makes a call late as well.
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
            // The sandbox must have seen exactly what the error says.
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
            if is_wanted
                && expected.retryable.is_some_and(|retryable| retryable != error.retryable())
            {
                wrong.push(format!("{error:?}"));
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

/// Returns what is wrong with a row's result, if anything, and the calls made to see it.
fn check(sandbox: &Sandbox, index: usize, row: &Row) -> (Vec<Made>, Option<String>) {
    let mut made = Vec::new();
    let mut complaint = None;
    for attempt in 0..TRIES {
        // Its own user, so that each call is counted apart.
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
        let Expected { want, requests, told, at_least_ms, at_most_ms, .. } = row.expected;
        format!(
            "{} {}, {} attempts: wanted {want:?}, {requests:?} requests, told {told:?}, {at_least_ms} to \
             {at_most_ms} ms; got {what}",
            row.url, row.user, row.max_attempts
        )
    });
    (made, complaint)
}

fn all_rows(sandbox: &Sandbox) -> Vec<Row> {
    let shared = vectors("faults.json");
    let of = |name: &str| shared[name].as_array().unwrap();
    let mut table = Vec::new();
    for scheme in ["http", "https"] {
        let url = sandbox.url(scheme);
        let user = |fault: &str| format!("fault.{fault}");
        for row in of("replies").iter().chain(of("good")) {
            table.push(Row::shared(url, user(row["fault"].as_str().unwrap()), row));
        }
        table.extend(RETRIES.iter().map(|row| Row::retried(url, user(row.what), *row)));
    }
    for row in of("places") {
        let url = sandbox.url(&row["place"].as_str().unwrap().replace('.', "/"));
        table.push(Row::shared(url, "place".to_owned(), row));
    }
    for row in RETRY_PLACES {
        table.push(Row::retried(sandbox.url(row.what), "place".to_owned(), *row));
    }
    // The longest first, or the others would wait for them at the end.
    table.sort_by_key(|row| std::cmp::Reverse(row.expected.at_least_ms));
    table
}

#[test]
fn every_fault_comes_to_what_its_row_says() {
    let sandbox = Sandbox::start();
    let table = all_rows(&sandbox);
    assert!(table.len() >= 400, "{}", table.len());
    let (next, results) = (AtomicUsize::new(0), Mutex::new((Vec::new(), Vec::new())));
    on_threads(12, || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(row) = table.get(index) else { break };
            // Before the lock is taken, or the rows would go one by one.
            let (made, complaint) = check(&sandbox, index, row);
            let mut results = results.lock().unwrap();
            results.0.extend(made);
            results.1.extend(complaint);
        }
    });
    let (made, mut complaints) = results.into_inner().unwrap();

    // The sandbox's own count, whatever the client says.
    let users = sandbox.counters()["users"].as_object().unwrap().clone();
    for call in &made {
        let seen = users.get(&call.user).and_then(Value::as_u64).unwrap_or(0);
        let (fewest, most) = match call.user.starts_with("fault.") {
            true => call.requests,
            false => (0, 0), // no request where a connection cannot be trusted
        };
        if !(u64::from(fewest)..=u64::from(most)).contains(&seen) {
            complaints.push(format!("{}: {seen} requests, not {fewest} to {most}", call.user));
        }
    }
    assert_eq!(sandbox.count("followed_redirects"), 0);
    let (wrong, all) = (complaints.len(), table.len());
    assert!(complaints.is_empty(), "{wrong} of {all} rows:\n{}", complaints.join("\n"));
}
