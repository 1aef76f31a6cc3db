//! Faults of pace and length: too slow, silent, or without end.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{
    Argument, Entry,
    Takes::Word,
    delivery::{CHUNKED, CLOSE, Delivery, half, half_head, join, length, resume, script, stall},
    number,
};
use crate::{
    answer::Answer,
    script::{Ending, Step},
};

pub const TABLE: &[Entry] = faults! { Delivery:
    "drip" [number(1000, 0, 120_000)]: "one byte of the reply each N ms" =>
        |a, argument| resume(vec![Step::Drip(a.bytes(), argument.millis())]);
    "drip-body" [number(1000, 0, 120_000)]: "the headers at once, one byte of the body each N ms" =>
        drip_body;
    "split": "a good reply, each byte in its own write" =>
        |a, _| resume(vec![Step::Drip(a.bytes(), Duration::ZERO)]);
    "stall": "never answers, the connection stays open" => |_, _| stall([]);
    "stall-mid-head": "falls silent in the middle of the headers" => |a, _| stall([half_head(a)]);
    "stall-mid-body": "falls silent in the middle of the body" =>
        |a, _| stall([half(&a.bytes(), a.body.len())]);
    "endless-headers": "headers without end" => endless_headers;
    "endless-header-line": "one header line without end" => endless_header_line;
    "endless-body" [Word(&["chunked", "close"])]:
        "a body without end: in chunks, or without a length" => endless_body;
    "endless-continue": "100 Continue without end" =>
        |_, _| endless(Bytes::new(), b"HTTP/1.1 100 Continue\r\n\r\n");
    "endless-trailers": "a good body in one chunk, then trailers without end" => endless_trailers;
    "huge-content-length": "Content-Length: 9007199254740993, then falls silent" =>
        huge_content_length;
};

fn drip_body(answer: &Answer, argument: Argument) -> Delivery {
    let head = answer.head(&length(answer)).freeze();
    resume(vec![Step::Send(head), Step::Drip(answer.body.clone(), argument.millis())])
}

fn endless_headers(answer: &Answer, _: Argument) -> Delivery {
    let lines = "x-endless: and another one\r\n".repeat(64);
    script(vec![Step::Send(open_head(answer)), Step::Repeat(lines.into())], Ending::Cut)
}

fn endless_header_line(answer: &Answer, _: Argument) -> Delivery {
    let start = join(BytesMut::from(&open_head(answer)[..]), b"x-endless: ");
    script(vec![Step::Send(start), Step::Repeat("a".repeat(2048).into())], Ending::Cut)
}

/// The head without the empty line that ends it.
fn open_head(answer: &Answer) -> Bytes {
    let head = answer.head(&length(answer)).freeze();
    head.slice(..head.len() - 2)
}

fn endless_body(answer: &Answer, argument: Argument) -> Delivery {
    let padding = "p".repeat(4096);
    let (framing, start, more) = match argument.word() {
        "close" => (CLOSE, "{\"padding\":\"".to_owned(), padding),
        _ => (CHUNKED, "c\r\n{\"padding\":\"\r\n".to_owned(), format!("1000\r\n{padding}\r\n")),
    };
    let start = join(answer.head(framing), start.as_bytes());
    script(vec![Step::Send(start), Step::Repeat(more.into())], Ending::Cut)
}

fn endless_trailers(answer: &Answer, _: Argument) -> Delivery {
    let size = format!("{:x}\r\n", answer.body.len());
    let body = [size.as_bytes(), &answer.body, b"\r\n0\r\n"].concat();
    endless(join(answer.head(CHUNKED), &body), b"x-endless: 1\r\n")
}

fn endless(start: Bytes, line: &[u8]) -> Delivery {
    script(vec![Step::Send(start), Step::Repeat(line.repeat(64).into())], Ending::Cut)
}

fn huge_content_length(answer: &Answer, _: Argument) -> Delivery {
    stall([join(answer.head("content-length: 9007199254740993\r\n"), &answer.body)])
}
