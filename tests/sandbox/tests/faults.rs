//! Each fault as it is on the wire. Every fault of `--help` is checked.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{collections::BTreeSet, thread, time::Duration};

use common::{
    End::{self, Closed, Open, Reset},
    Reply, Sandbox, good_body, program, sign,
};

/// The beginning of a gzip file.
const GZIP: &[u8] = b"\x1f\x8b\x08";

type Check = fn(&Reply) -> bool;

/// A fault as in a user id, the state of the connection afterwards, and a check of the reply.
const CASES: &[(&str, End, Check)] = &[
    // The lifetime of the token.
    ("exp.-30", Open, |r| lifetime(r) == Some(-30)),
    ("exp.90", Open, |r| lifetime(r) == Some(90)),
    ("expires-in.77", Open, |r| r.json()["expires_in"] == 77 && is_good(r)),
    ("expires-in-garbage", Open, |r| r.json()["expires_in"] == "an hour"),
    ("expires-in-garbage.overflow", Open, |r| r.text.contains(r#""expires_in":1e400"#)),
    // Headers and time.
    ("delay.150", Open, |r| is_good(r) && r.took >= Duration::from_millis(150)),
    ("retry-after.7", Open, |r| r.status() == 503 && r.header("retry-after") == "7"),
    ("retry-after.-5", Open, |r| r.header("retry-after") == "-5"),
    ("status.429.and.retry-after.2", Open, |r| r.status() == 429 && r.header("retry-after") == "2"),
    ("retry-after.2.and.status.429", Open, |r| r.status() == 429 && r.header("retry-after") == "2"),
    ("retry-after-date.60", Open, |r| {
        (59..=61).contains(&seconds_between(r, "date", "retry-after"))
    }),
    ("retry-after-garbage", Open, |r| r.header("retry-after") == "in a while"),
    ("retry-after-garbage.overflow", Open, |r| r.header("retry-after").len() > 20),
    ("retry-after-garbage.twice", Open, |r| r.headers("retry-after") == ["1", "3600"]),
    ("date-skew.-86400", Open, |r| (-86_402..-86_398).contains(&seconds_off(r)) && is_good(r)),
    ("no-date", Open, |r| r.headers("date").is_empty() && is_good(r)),
    ("date-garbage", Open, |r| r.header("date").starts_with("Someday")),
    ("many-headers", Open, |r| r.head().lines().count() > 200 && is_good(r)),
    ("big-header", Open, |r| r.header("x-padding").len() == 20_480),
    ("gzip", Open, |r| r.header("content-encoding") == "gzip" && is_good(r)),
    ("gzip.real", Open, |r| {
        r.header("content-encoding") == "gzip" && body_bytes(r).starts_with(GZIP)
    }),
    ("content-type", Open, |r| r.headers("content-type").is_empty() && is_good(r)),
    ("content-type.html", Open, |r| r.header("content-type") == "text/html"),
    // Status.
    ("status.503", Open, |r| r.status() == 503 && r.json()["status"] == 503),
    ("status.204", Open, |r| r.status() == 204 && r.body().is_empty()),
    ("status.307", Open, |r| r.status() == 307 && r.header("location") == "/v3/redirected"),
    ("status.599", Open, |r| r.status() == 599),
    ("status.102", Closed, |r| r.status() == 102),
    ("html", Open, |r| r.status() == 200 && r.body().starts_with("<!DOCTYPE")),
    ("html-error", Open, |r| {
        r.status() == 502 && r.header("content-type").starts_with("text/html")
    }),
    ("empty", Open, |r| r.status() == 200 && r.header("content-length") == "0"),
    ("empty-error", Open, |r| r.status() == 502 && r.header("content-length") == "0"),
    // The success document.
    ("bad-json", Open, is_no_json),
    ("truncated-json", Open, |r| is_no_json(r) && declared(r) == r.body().len()),
    ("trailing-garbage", Open, |r| is_no_json(r) && r.body().ends_with("garbage")),
    ("not-object", Open, |r| r.json()[0]["access_token"].is_string()),
    ("deep-json", Open, |r| {
        r.body().starts_with(r#"{"deep":[[[["#) && r.body().matches('[').count() == 10_000
    }),
    ("invalid-utf8", Open, |r| std::str::from_utf8(&r.bytes).is_err()),
    ("bom", Open, |r| r.body().starts_with("\u{feff}{")),
    ("no-token", Open, |r| r.json().get("access_token").is_none()),
    ("null-token", Open, |r| r.json()["access_token"].is_null()),
    ("number-token", Open, |r| r.json()["access_token"].is_number()),
    ("bool-token", Open, |r| r.json()["access_token"].is_boolean()),
    ("array-token", Open, |r| r.json()["access_token"].is_array()),
    ("object-token", Open, |r| r.json()["access_token"].is_object()),
    ("empty-token", Open, |r| r.json()["access_token"] == ""),
    ("space-token", Open, |r| r.token() == "to ken"),
    ("crlf-token", Open, |r| r.token() == "token\r\nX-Injected: yes" && r.body().contains(r"\r\n")),
    ("nul-token", Open, |r| r.token() == "to\0ken"),
    ("unicode-token", Open, |r| r.token() == "tökén"),
    ("nested-token", Open, |r| r.json()["data"]["access_token"].is_string()),
    ("case-token", Open, |r| r.json()["Access_Token"].is_string()),
    ("duplicate-token", Open, |r| r.body().matches("\"access_token\"").count() == 2),
    ("huge-token", Open, |r| r.token() == "a".repeat(8193)),
    ("max-token", Open, |r| r.token() == "a".repeat(8192)),
    ("escaped-token", Open, |r| is_good(r) && !r.body().contains("access_token")),
    ("late-token", Open, |r| is_good(r) && r.body().starts_with(r#"{"user_info""#)),
    ("big-body", Open, |r| is_good(r) && r.body().len() == 65_536),
    ("big-body.70000", Open, |r| is_good(r) && r.body().len() == 70_000),
    // Problem documents.
    ("echo", Open, |r| r.status() == 401 && echoes(r)),
    ("echo.422", Open, |r| r.status() == 422 && echoes(r)),
    ("echo-ok", Open, |r| r.status() == 200 && r.body().contains(common::KEY)),
    ("problem-huge", Open, |r| {
        r.status() == 422 && r.json()["detail"].as_str().unwrap().len() == 61_440
    }),
    ("problem-control", Open, |r| r.json()["detail"].as_str().unwrap().contains("\u{1b}[31m")),
    ("problem-wrong-types", Open, |r| r.json()["title"] == 42),
    ("problem-garbage", Open, |r| r.status() == 422 && is_no_json(r)),
    ("problem-deep", Open, |r| r.status() == 422 && r.body().contains(&"[".repeat(10_000))),
    // The end of the connection.
    ("close-before", Closed, |r| r.bytes.is_empty()),
    ("close-mid-head", Closed, |r| {
        r.text.starts_with("HTTP/1.1 200 OK") && !r.text.contains("\r\n\r\n")
    }),
    ("close-mid-body", Closed, is_short),
    ("close-mid-chunk", Closed, |r| {
        is_chunked(r) && r.body().contains("access_token") && !r.body().contains('}')
    }),
    ("close-delimited", Closed, |r| r.headers("content-length").is_empty() && is_good(r)),
    ("close-delimited-cut", Closed, |r| r.headers("content-length").is_empty() && is_no_json(r)),
    ("close-delimited-abrupt", Closed, |r| r.headers("content-length").is_empty() && is_good(r)),
    ("reset-before", Reset, |r| r.bytes.is_empty()),
    ("reset-mid", Reset, is_short),
    ("close-idle", Closed, |r| is_good(r) && r.headers("connection").is_empty()),
    ("close-idle.150", Closed, |r| is_good(r) && r.took >= Duration::from_millis(150)),
    ("close-next", Open, is_good),
    // Pace and length.
    ("drip.1", Open, |r| is_good(r) && r.took >= Duration::from_millis(300)),
    ("drip-body.1", Open, |r| is_good(r) && r.took >= Duration::from_millis(200)),
    ("split", Open, is_good),
    ("stall", Open, |r| r.bytes.is_empty()),
    ("stall-mid-head", Open, |r| !r.bytes.is_empty() && !r.text.contains("\r\n\r\n")),
    ("stall-mid-body", Open, is_short),
    ("endless-headers", Open, |r| r.bytes.len() >= 1_000_000 && !r.text.contains("\r\n\r\n")),
    ("endless-header-line", Open, |r| r.bytes.len() >= 1_000_000 && r.text.lines().count() < 10),
    ("endless-body", Open, |r| is_chunked(r) && r.body().len() > 900_000),
    ("endless-body.close", Open, |r| {
        r.headers("content-length").is_empty() && r.body().len() > 900_000
    }),
    ("huge-content-length", Open, |r| r.header("content-length") == "9007199254740993"),
    ("endless-continue", Open, |r| {
        r.text.starts_with(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000))
    }),
    ("endless-trailers", Open, |r| {
        is_chunked(r) && r.body().matches("\r\nx-endless: 1").count() > 1000
    }),
    // Framing.
    ("line-ends", Open, |r| {
        is_chunked(r) && !r.body().contains('\r') && r.body().ends_with("0\nx-trailer: 1\n\n")
    }),
    ("line-ends.size", Open, |r| {
        r.body().contains("\n{\"access_token") && !r.body().contains("\r\n{\"access_token")
    }),
    ("line-ends.cr", Open, |r| r.body().contains("\r{\"access_token")),
    ("line-ends.data", Open, |r| r.body().contains("}\n0\r\n") && r.body().ends_with("\r\n\r\n")),
    ("line-ends.last", Open, |r| r.body().ends_with("\r\n0\nx-trailer: 1\r\n\r\n")),
    ("line-ends.end", Open, |r| r.body().ends_with("\r\nx-trailer: 1\r\n\n")),
    ("line-ends.trailer", Open, |r| r.body().ends_with("\r\nx-trailer: 1\n\r\n")),
    ("line-ends.head", Open, |r| !r.text.contains('\r') && r.text.contains("\n\n{\"access_token")),
    ("bad-chunk", Open, |r| is_chunked(r) && r.body().starts_with("banana\r\n")),
    ("bad-chunk.prefix", Open, |r| r.body().starts_with("0x")),
    ("bad-chunk.long", Open, |r| r.body().starts_with("0000000000")),
    ("bad-chunk.empty", Open, |r| r.body().starts_with("\r\n{")),
    ("bad-chunk.huge", Open, |r| r.body().starts_with("7fffffff")),
    ("bad-chunk.plus", Open, |r| r.body().starts_with('+')),
    ("chunked.10", Open, |r| {
        is_chunked(r)
            && r.body().starts_with("a\r\n{\"access_t\r\n")
            && r.body().ends_with("0\r\n\r\n")
    }),
    ("chunk-extension.5", Open, |r| is_chunked(r) && r.body().starts_with("40;eeee\r\n{")),
    ("trailers.3", Open, |r| {
        r.body().ends_with(&format!("0\r\n{}\r\n", "x-trailer: 1\r\n".repeat(3)))
    }),
    ("length-and-chunked", Closed, |r| {
        is_chunked(r) && declared(r) > 0 && r.body().ends_with("\r\n0\r\n\r\n")
    }),
    ("http10-chunked", Open, |r| {
        r.text.starts_with("HTTP/1.0 200 OK\r\n")
            && is_chunked(r)
            && r.headers("content-length").is_empty()
    }),
    ("http10-chunked.length", Open, |r| is_chunked(r) && declared(r) == r.body().len()),
    ("transfer-encoding", Open, |r| {
        r.header("transfer-encoding") == "gzip" && body_bytes(r).starts_with(GZIP)
    }),
    ("transfer-encoding.gzip-chunked", Open, |r| {
        r.header("transfer-encoding") == "gzip, chunked" && r.bytes.ends_with(b"\r\n0\r\n\r\n")
    }),
    ("transfer-encoding.chunked-gzip", Open, |r| {
        r.header("transfer-encoding") == "chunked, gzip" && body_bytes(r).starts_with(GZIP)
    }),
    ("transfer-encoding.unknown", Open, |r| r.header("transfer-encoding") == "x-sandbox"),
    ("transfer-encoding.parameter", Open, |r| r.header("transfer-encoding") == "chunked;q=1"),
    ("transfer-encoding.twice", Open, |r| r.headers("transfer-encoding") == ["chunked", "Chunked"]),
    ("transfer-encoding.identity", Open, |r| {
        r.header("transfer-encoding") == "identity" && is_good(r)
    }),
    ("bodiless", Open, |r| r.status() == 204 && !r.body().is_empty()),
    ("bodiless.304", Open, |r| r.status() == 304 && !r.body().is_empty()),
    // Syntax.
    ("bad-content-length", Closed, |r| r.header("content-length") == "banana"),
    ("bad-content-length.negative", Closed, |r| r.header("content-length").starts_with('-')),
    ("bad-content-length.twice", Closed, |r| r.headers("content-length").len() == 2),
    ("garbage", Closed, |r| r.bytes.starts_with(b"\0\x01\x02\xff")),
    ("bad-status-line", Closed, |r| r.text.starts_with("HTTP/1.1 two hundred")),
    ("bad-status-line.long", Closed, |r| {
        r.text.lines().next().unwrap().len() > 70_000 && is_good(r)
    }),
    ("bad-header", Closed, |r| r.head().contains("a line without a colon")),
    ("bad-header.folded", Closed, |r| r.head().contains("x-folded: first\r\n second\r\n")),
    ("bad-header.nul", Closed, |r| r.bytes.contains(&0)),
    ("continue.2", Open, |r| {
        r.text.starts_with(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(2)) && r.text.contains("200 OK")
    }),
    ("continue-headers", Open, |r| {
        r.text.starts_with("HTTP/1.1 100 Continue\r\nx-header: 1\r\n\r\nHTTP/1.1 200 OK\r\n")
    }),
    ("early-hints", Open, |r| r.status() == 103 && r.text.contains("HTTP/1.1 200 OK")),
    ("upgrade", Open, |r| r.status() == 101 && r.body().is_empty()),
    ("http10", Closed, |r| r.text.starts_with("HTTP/1.0 200 OK\r\n") && is_good(r)),
    ("response-twice", Open, |r| r.text.matches("HTTP/1.1 200 OK").count() == 2),
];

#[test]
fn each_fault_is_on_the_wire() {
    let sandbox = Sandbox::start(&[]);
    // Many are waits: together they take hardly longer than one.
    thread::scope(|scope| {
        for (fault, end, check) in CASES {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let reply = sandbox.ask(&format!("fault.{fault}"));
                let start = reply.text.get(..600).unwrap_or(&reply.text);
                assert_eq!(reply.end, *end, "{fault}: {start:?}");
                assert!(check(&reply), "{fault}: {start:?}");
            });
        }
    });
}

#[test]
fn every_fault_of_the_help_is_checked() {
    let help = String::from_utf8(program(&["--help"]).output().unwrap().stdout).unwrap();
    let (_, list) = help.split_once("No reply lasts").unwrap();
    let entries = list.lines().filter_map(|line| line.strip_prefix("    "));
    let listed = entries
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split([' ', '[']).next().unwrap());
    let checked: BTreeSet<_> =
        CASES.iter().map(|(fault, ..)| fault.split('.').next().unwrap()).collect();
    assert_eq!(listed.collect::<BTreeSet<_>>(), checked);
}

#[test]
fn a_connection_goes_on_after_a_scripted_reply() {
    let sandbox = Sandbox::start(&[]);
    for fault in [
        "chunked",
        "chunk-extension",
        "trailers",
        "line-ends.head",
        "continue",
        "continue-headers",
        "early-hints",
        "split",
        "drip.0",
        "response-twice",
        "drip-body.0",
    ] {
        let mut client = sandbox.connect();
        client.send(&common::good_request(&format!("fault.{fault}")));
        client.read_all(Duration::from_millis(300));
        assert!(is_good(&client.exchange("alice")), "{fault}");
    }
}

#[test]
fn the_request_after_close_next_is_read_and_answered_with_a_close() {
    let sandbox = Sandbox::start(&[]);
    let mut client = sandbox.connect();
    assert!(is_good(&client.exchange("fault.close-next")));
    let reply = client.exchange("alice");
    assert_eq!((reply.bytes.len(), reply.end), (0, Closed));
    let counters = sandbox.counters();
    assert_eq!([&counters["requests"], &counters["connections"], &counters["tokens"]], [2, 1, 1]);
}

#[test]
fn only_the_first_requests_of_each_user_meet_a_counted_fault() {
    let sandbox = Sandbox::start(&["--fault", "close-before*1"]);
    for user in ["alice", "bob"] {
        assert_eq!(sandbox.ask(user).end, Closed);
        assert!(is_good(&sandbox.ask(user)));
    }
}

#[test]
fn a_followed_redirect_is_counted() {
    let sandbox = Sandbox::start(&[]);
    let target = sandbox.connect().exchange("fault.status.302").header("location").to_owned();
    assert_eq!(sandbox.counters()["followed_redirects"], 0);
    let mut client = sandbox.connect();
    client.send(&common::request("GET", &target, "", ""));
    assert_eq!(client.read_one().status(), 200);
    assert_eq!(sandbox.counters()["followed_redirects"], 1);
}

fn is_good(reply: &Reply) -> bool {
    let token = reply.token();
    reply.text.starts_with("HTTP/1.") && token.starts_with("eyJ") && token.split('.').count() == 3
}

fn is_no_json(reply: &Reply) -> bool {
    serde_json::from_str::<serde_json::Value>(reply.body()).is_err()
}

fn declared(reply: &Reply) -> usize {
    reply.header("content-length").parse().unwrap()
}

/// The body, which may be no text.
fn body_bytes(reply: &Reply) -> &[u8] {
    let end = reply.bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    &reply.bytes[end + 4..]
}

/// The body began, and is shorter than declared.
fn is_short(reply: &Reply) -> bool {
    !reply.body().is_empty() && reply.body().len() < declared(reply)
}

fn is_chunked(reply: &Reply) -> bool {
    reply.header("transfer-encoding") == "chunked"
}

fn echoes(reply: &Reply) -> bool {
    let problem = reply.json();
    let flaw = &problem["errors"][0];
    let fields = [
        &problem["title"],
        &problem["detail"],
        &flaw["message"],
        &flaw["location"],
        &flaw["value"],
    ];
    let texts = fields.map(|field| field.as_str().unwrap_or_default());
    let user = format!("fault.echo{}", if reply.status() == 422 { ".422" } else { "" });
    let secrets =
        [sign(&user), common::KEY.to_owned(), good_body(&user), "compat-canary-".to_owned(), user];
    let headers = [reply.header("www-authenticate"), reply.header("x-error")];
    texts.iter().all(|text| secrets.iter().all(|secret| text.contains(secret)))
        && headers.iter().all(|header| header.contains(&secrets[0]))
}

/// `exp` minus `iat` of the token.
fn lifetime(reply: &Reply) -> Option<i64> {
    use base64::Engine;
    let token = reply.token();
    let claims =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["exp"].as_i64()? - claims["iat"].as_i64()?)
}

fn seconds_between(reply: &Reply, from: &str, until: &str) -> i64 {
    unix_time(reply.header(until)) - unix_time(reply.header(from))
}

fn seconds_off(reply: &Reply) -> i64 {
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    unix_time(reply.header("date")) - unix_time(&now)
}

fn unix_time(date: &str) -> i64 {
    let since = httpdate::parse_http_date(date).unwrap().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}
