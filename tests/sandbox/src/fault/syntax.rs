//! Faults of HTTP's own syntax, and replies whose syntax is unusual but right.

use bytes::{Bytes, BytesMut};

use super::{
    Argument, Entry,
    Takes::Word,
    delivery::{Delivery, complete, cut, join, length, resume, stall},
    framing, number,
};
use crate::{
    answer::Answer,
    script::{Ending, Step},
};

const GARBAGE: &[u8] = b"\x00\x01\x02\xff\xfenot HTTP at all\r\n\r\n";
const UPGRADE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: sandbox\r\n\r\n";

pub const TABLE: &[Entry] = faults! { Delivery:
    "bad-content-length" [Word(&["text", "negative", "plus", "overflow", "empty", "twice"])]:
        "an invalid Content-Length (twice: two that differ)" => bad_content_length;
    "garbage": "bytes that are not HTTP" => |_, _| cut([Bytes::from_static(GARBAGE)]);
    "bad-status-line" [Word(&["text", "version", "short", "long"])]: "an invalid status line" =>
        bad_status_line;
    "bad-header" [Word(&["no-colon", "space", "nul", "folded", "bare-lf"])]:
        "a header that is malformed, or folded as HTTP once allowed" => bad_header;
    "continue" [number(1, 1, 1000)]: "N times 100 Continue before a good reply" =>
        |a, argument| interim(a, "100 Continue\r\n", argument);
    "continue-headers": "100 Continue with headers before a good reply" =>
        |a, _| interim(a, "100 Continue\r\nx-header: 1\r\n", Argument::Number(1));
    "early-hints" [number(1, 1, 1000)]: "N times 103 Early Hints before a good reply" =>
        |a, argument| {
            interim(a, "103 Early Hints\r\nlink: </style.css>; rel=preload\r\n", argument)
        };
    "upgrade": "101 Switching Protocols, then silence" =>
        |_, _| stall([Bytes::from_static(UPGRADE)]);
    "http10": "a good reply over HTTP/1.0, then closes" => http10;
    "response-twice": "two replies at once to one request" => response_twice;
};

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
    complete(vec![Step::Send(reply)], Ending::Close)
}

/// A client that keeps the second reply in its buffer gives it to the next user.
fn response_twice(answer: &Answer, _: Argument) -> Delivery {
    let mut second = answer.clone();
    second.body = Bytes::from_static(br#"{"access_token":"the-second-reply-to-one-request"}"#);
    resume(vec![Step::Send([answer.bytes(), second.bytes()].concat().into())])
}
