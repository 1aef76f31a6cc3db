//! Faults of HTTP's own syntax, and replies whose syntax is unusual but right.

use bytes::{Bytes, BytesMut};

use super::{
    Argument,
    Effect::Delivery as Act,
    Entry, Takes,
    delivery::{CHUNKED, Delivery, cut, join, length, resume, stall},
    entry, number,
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
        "length-and-chunked",
        Takes::Nothing,
        "Content-Length and chunks at once",
        Act(length_and_chunked),
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
        "bad-chunk",
        Takes::Word(&["text", "overflow", "negative"]),
        "a chunk size that is none",
        Act(bad_chunk),
    ),
    entry(
        "chunked",
        number(16, 1, 65_536),
        "a good reply in chunks of N bytes",
        Act(chunked),
    ),
    entry(
        "continue",
        number(1, 1, 1000),
        "N times 100 Continue before a good reply",
        Act(|a, argument| interim(a, "100 Continue\r\n", argument)),
    ),
    entry(
        "early-hints",
        number(1, 1, 1000),
        "N times 103 Early Hints before a good reply",
        Act(|a, argument| {
            interim(
                a,
                "103 Early Hints\r\nlink: </style.css>; rel=preload\r\n",
                argument,
            )
        }),
    ),
    entry(
        "upgrade",
        Takes::Nothing,
        "101 Switching Protocols, then silence",
        Act(|_, _| stall([Bytes::from_static(UPGRADE)])),
    ),
    entry(
        "http10",
        Takes::Nothing,
        "a good reply by HTTP/1.0, then closes",
        Act(http10),
    ),
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
        "twice" => format!(
            "content-length: {length}\r\ncontent-length: {}\r\n",
            length - length.min(1)
        ),
        _ => "content-length: banana\r\n".to_owned(),
    };
    cut([join(answer.head(&framing), &answer.body)])
}

fn length_and_chunked(answer: &Answer, _: Argument) -> Delivery {
    cut([join(
        answer.head(&format!("{}{CHUNKED}", length(answer))),
        &chunks(&answer.body, 4096),
    )])
}

fn bad_status_line(answer: &Answer, argument: Argument) -> Delivery {
    let line = match argument.word() {
        "version" => "HTTP/9.9 200 OK\r\n".to_owned(),
        "short" => "HTTP/1.1 20\r\n".to_owned(),
        "long" => format!("HTTP/1.1 200 {}\r\n", "O".repeat(70_000)),
        _ => "HTTP/1.1 two hundred OK\r\n".to_owned(),
    };
    cut([replace_status_line(answer, &line)])
}

fn replace_status_line(answer: &Answer, line: &str) -> Bytes {
    let reply = answer.bytes();
    let end = reply
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .map_or(0, |position| position + 2);
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
    cut([join(
        answer.head(&format!("{line}{}", length(answer))),
        &answer.body,
    )])
}

fn bad_chunk(answer: &Answer, argument: Argument) -> Delivery {
    let size = match argument.word() {
        "overflow" => "fffffffffffffffffffffffff",
        "negative" => "-5",
        _ => "banana",
    };
    let body = [size.as_bytes(), b"\r\n", &answer.body, b"\r\n0\r\n\r\n"].concat();
    cut([join(answer.head(CHUNKED), &body)])
}

fn chunked(answer: &Answer, argument: Argument) -> Delivery {
    let body = chunks(&answer.body, argument.size());
    resume(vec![Step::Send(join(answer.head(CHUNKED), &body))])
}

fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut chunks = Vec::new();
    for chunk in body.chunks(size.max(1)) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}

fn interim(answer: &Answer, head: &str, argument: Argument) -> Delivery {
    let interim = format!("HTTP/1.1 {head}\r\n").repeat(argument.size());
    resume(vec![Step::Send(interim.into()), Step::Send(answer.bytes())])
}

fn http10(answer: &Answer, _: Argument) -> Delivery {
    let reply = answer.bytes();
    let reply = join(
        BytesMut::from("HTTP/1.0"),
        reply.get(8..).unwrap_or_default(),
    );
    Delivery::Script(Script::complete(vec![Step::Send(reply)], Ending::Close))
}

/// A client that leaves the second reply in its buffer hands it to the next user.
fn response_twice(answer: &Answer, _: Argument) -> Delivery {
    let mut second = answer.clone();
    second.body = Bytes::from_static(br#"{"access_token":"the-second-reply-to-one-request"}"#);
    resume(vec![Step::Send(
        [answer.bytes(), second.bytes()].concat().into(),
    )])
}
