//! Faults of HTTP's own syntax, and replies whose syntax is unusual but right.

use bytes::{Bytes, BytesMut};

use super::{
    Argument,
    Effect::Delivery as Act,
    Entry, Takes,
    delivery::{Delivery, cut, join, length, resume, stall},
    entry, framing, number,
};
use crate::{
    answer::Answer,
    script::{Ending, Script, Step},
};

const GARBAGE: &[u8] = b"\x00\x01\x02\xff\xfenot HTTP at all\r\n\r\n";
const UPGRADE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: sandbox\r\n\r\n";

pub const TABLE: &[Entry] = &[
    entry(
        "bad-content-length",
        Takes::Word(&["text", "negative", "plus", "overflow", "empty", "twice"]),
        "a Content-Length that is none (twice: two that differ)",
        Act(bad_content_length),
    ),
    entry(
        "garbage",
        Takes::Nothing,
        "bytes that are not HTTP",
        Act(|_, _| cut([Bytes::from_static(GARBAGE)])),
    ),
    entry(
        "bad-status-line",
        Takes::Word(&["text", "version", "short", "long"]),
        "a status line that is none",
        Act(bad_status_line),
    ),
    entry(
        "bad-header",
        Takes::Word(&["no-colon", "space", "nul", "folded", "bare-lf"]),
        "a header that is malformed, or folded as HTTP once allowed",
        Act(bad_header),
    ),
    entry(
        "continue",
        number(1, 1, 1000),
        "N times 100 Continue before a good reply",
        Act(|a, argument| interim(a, "100 Continue\r\n", argument)),
    ),
    entry(
        "continue-headers",
        Takes::Nothing,
        "100 Continue with headers before a good reply",
        Act(|a, _| interim(a, "100 Continue\r\nx-header: 1\r\n", Argument::Number(1))),
    ),
    entry(
        "early-hints",
        number(1, 1, 1000),
        "N times 103 Early Hints before a good reply",
        Act(|a, argument| {
            interim(a, "103 Early Hints\r\nlink: </style.css>; rel=preload\r\n", argument)
        }),
    ),
    entry(
        "upgrade",
        Takes::Nothing,
        "101 Switching Protocols, then silence",
        Act(|_, _| stall([Bytes::from_static(UPGRADE)])),
    ),
    entry("http10", Takes::Nothing, "a good reply by HTTP/1.0, then closes", Act(http10)),
    entry(
        "response-twice",
        Takes::Nothing,
        "two replies at once to one request",
        Act(response_twice),
    ),
];

fn bad_content_length(answer: &Answer, argument: Argument) -> Delivery {
    let length = answer.body.len();
    let framing = match argument.word() {
        "negative" => format!("content-length: -{length}\r\n"),
        "plus" => format!("content-length: +{length}\r\n"),
        "overflow" => "content-length: 99999999999999999999999999\r\n".to_owned(),
        "empty" => "content-length: \r\n".to_owned(),
        "twice" => {
            format!("content-length: {length}\r\ncontent-length: {}\r\n", length - length.min(1))
        }
        _ => "content-length: banana\r\n".to_owned(),
    };
    cut([join(answer.head(&framing), &answer.body)])
}

fn bad_status_line(answer: &Answer, argument: Argument) -> Delivery {
    let line = match argument.word() {
        "version" => "HTTP/9.9 200 OK\r\n".to_owned(),
        "short" => "HTTP/1.1 20\r\n".to_owned(),
        "long" => format!("HTTP/1.1 200 {}\r\n", "O".repeat(70_000)),
        _ => "HTTP/1.1 two hundred OK\r\n".to_owned(),
    };
    cut([replace_status_line(&answer.bytes(), &line)])
}

pub fn replace_status_line(reply: &Bytes, line: &str) -> Bytes {
    let end = reply.windows(2).position(|pair| pair == b"\r\n").map_or(0, |position| position + 2);
    join(BytesMut::from(line), &reply[end..])
}

fn bad_header(answer: &Answer, argument: Argument) -> Delivery {
    let line = match argument.word() {
        "space" => "x-space : before the colon\r\n",
        "nul" => "x-nul: a\0b\r\n",
        "folded" => "x-folded: first\r\n second\r\n",
        "bare-lf" => "x-bare: line feed\n",
        _ => "a line without a colon\r\n",
    };
    cut([join(answer.head(&format!("{line}{}", length(answer))), &answer.body)])
}

fn interim(answer: &Answer, head: &str, argument: Argument) -> Delivery {
    let interim = format!("HTTP/1.1 {head}\r\n").repeat(argument.size());
    resume(vec![Step::Send(interim.into()), Step::Send(answer.bytes())])
}

fn http10(answer: &Answer, _: Argument) -> Delivery {
    let reply = framing::http10(&answer.bytes());
    Delivery::Script(Script::complete(vec![Step::Send(reply)], Ending::Close))
}

/// A client that leaves the second reply in its buffer hands it to the next user.
fn response_twice(answer: &Answer, _: Argument) -> Delivery {
    let mut second = answer.clone();
    second.body = Bytes::from_static(br#"{"access_token":"the-second-reply-to-one-request"}"#);
    resume(vec![Step::Send([answer.bytes(), second.bytes()].concat().into())])
}
