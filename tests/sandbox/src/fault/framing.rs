//! Faults of how a body is framed and encoded. Unless the help says otherwise the connection stays open,
//! so that a client that waits for more waits in vain.

use bytes::{Bytes, BytesMut};

use super::{
    Argument, Entry,
    Takes::Word,
    delivery::{CHUNKED, Delivery, cut, join, length, resume, stall},
    number,
};
use crate::{answer::Answer, gzip::gzip, script::Step};

pub const TABLE: &[Entry] = faults! { Delivery:
    "line-ends" [Word(&["chunks", "size", "data", "last", "end", "trailer", "cr", "head"])]:
        "chunks with lines that end in LF alone: all, or those named; cr: in CR alone; head: a good reply" =>
        line_ends;
    "bad-chunk"
        [Word(&["text", "overflow", "negative", "prefix", "long", "empty", "huge", "plus"])]:
        "an invalid chunk size (huge: exabytes; plus: a sign, and otherwise good)" =>
        bad_chunk;
    "chunked" [number(16, 1, 65_536)]: "a good reply in chunks of N bytes" => chunked;
    "chunk-extension" [number(8, 1, 4096)]:
        "a good reply in chunks that have an extension of N bytes" => chunk_extension;
    "trailers" [number(2, 1, 10_000)]: "a good reply in chunks with N trailers" => trailers;
    "length-and-chunked": "Content-Length and chunks at once, then closes" => length_and_chunked;
    "http10-chunked" [Word(&["open", "length"])]:
        "chunks over HTTP/1.0, which has none (length: and a Content-Length)" =>
        http10_chunked;
    "transfer-encoding"
        [Word(&["gzip", "gzip-chunked", "chunked-gzip", "unknown", "parameter", "twice", "identity"])]:
        "a Transfer-Encoding other than chunked (twice: chunked twice; identity: with a length; both good)" =>
        transfer_encoding;
    "bodiless" [Word(&["204", "304"])]: "a status that has no body, with one" => bodiless;
};

/// How each kind of line of a chunked body ends.
struct LineEnds {
    size: &'static str,
    data: &'static str,
    last: &'static str,
    trailer: &'static str,
    end: &'static str,
}

const RIGHT: LineEnds =
    LineEnds { size: "\r\n", data: "\r\n", last: "\r\n", trailer: "\r\n", end: "\r\n" };

impl LineEnds {
    /// Two chunks and a trailer.
    fn frame(&self, body: &[u8]) -> Vec<u8> {
        let mut framed = Vec::new();
        for chunk in body.chunks(body.len().div_ceil(2).max(1)) {
            framed.extend_from_slice(format!("{:x}{}", chunk.len(), self.size).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(self.data.as_bytes());
        }
        let (last, trailer, end) = (self.last, self.trailer, self.end);
        framed.extend_from_slice(format!("0{last}x-trailer: 1{trailer}{end}").as_bytes());
        framed
    }
}

fn line_ends(answer: &Answer, argument: Argument) -> Delivery {
    let lf = "\n";
    let ends = match argument.word() {
        "head" => return bare_head(answer),
        "size" => LineEnds { size: lf, ..RIGHT },
        "data" => LineEnds { data: lf, ..RIGHT },
        "last" => LineEnds { last: lf, ..RIGHT },
        "end" => LineEnds { end: lf, ..RIGHT },
        "trailer" => LineEnds { trailer: lf, ..RIGHT },
        "cr" => LineEnds { size: "\r", ..RIGHT },
        _ => LineEnds { size: lf, data: lf, last: lf, trailer: lf, end: lf },
    };
    stall([join(answer.head(CHUNKED), &ends.frame(&answer.body))])
}

fn bare_head(answer: &Answer) -> Delivery {
    let head = answer.head(&length(answer));
    let bare = String::from_utf8_lossy(&head).replace("\r\n", "\n");
    resume(vec![Step::Send(join(BytesMut::from(bare.as_bytes()), &answer.body))])
}

fn bad_chunk(answer: &Answer, argument: Argument) -> Delivery {
    let length = format!("{:x}", answer.body.len());
    let size = match argument.word() {
        "overflow" => "fffffffffffffffffffffffff".to_owned(),
        "negative" => "-5".to_owned(),
        "prefix" => format!("0x{length}"),
        "long" => format!("{}{length}", "0".repeat(40)),
        "empty" => String::new(),
        "huge" => "7fffffffffffffff".to_owned(),
        "plus" => format!("+{length}"),
        _ => "banana".to_owned(),
    };
    let body = [size.as_bytes(), b"\r\n", &answer.body, b"\r\n0\r\n\r\n"].concat();
    let reply = join(answer.head(CHUNKED), &body);
    match argument.word() {
        "plus" => resume(vec![Step::Send(reply)]),
        _ => stall([reply]),
    }
}

fn chunked(answer: &Answer, argument: Argument) -> Delivery {
    in_chunks(answer, argument.size(), "", "")
}

fn chunk_extension(answer: &Answer, argument: Argument) -> Delivery {
    let extension = format!(";{}", "e".repeat(argument.size() - 1));
    in_chunks(answer, 64, &extension, "")
}

fn trailers(answer: &Answer, argument: Argument) -> Delivery {
    let trailers = "x-trailer: 1\r\n".repeat(argument.size());
    in_chunks(answer, 64, "", &trailers)
}

fn in_chunks(answer: &Answer, size: usize, extension: &str, trailers: &str) -> Delivery {
    let body = chunks(&answer.body, size, extension, trailers);
    resume(vec![Step::Send(join(answer.head(CHUNKED), &body))])
}

fn chunks(body: &[u8], size: usize, extension: &str, trailers: &str) -> Vec<u8> {
    let mut chunks = Vec::new();
    for chunk in body.chunks(size.max(1)) {
        chunks.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    chunks
}

fn length_and_chunked(answer: &Answer, _: Argument) -> Delivery {
    let framing = format!("{}{CHUNKED}", length(answer));
    cut([join(answer.head(&framing), &chunks(&answer.body, 4096, "", ""))])
}

fn http10_chunked(answer: &Answer, argument: Argument) -> Delivery {
    let body = chunks(&answer.body, 64, "", "");
    let framing = match argument.word() {
        "length" => format!("content-length: {}\r\n{CHUNKED}", body.len()),
        _ => CHUNKED.to_owned(),
    };
    stall([http10(&join(answer.head(&framing), &body))])
}

/// The same reply by HTTP/1.0.
pub fn http10(reply: &Bytes) -> Bytes {
    join(BytesMut::from("HTTP/1.0"), reply.get(8..).unwrap_or_default())
}

fn transfer_encoding(answer: &Answer, argument: Argument) -> Delivery {
    let (value, body) = match argument.word() {
        "gzip-chunked" => ("gzip, chunked", chunks(&gzip(&answer.body), 4096, "", "")),
        "chunked-gzip" => ("chunked, gzip", gzip(&chunks(&answer.body, 4096, "", ""))),
        "unknown" => ("x-sandbox", answer.body.to_vec()),
        "parameter" => ("chunked;q=1", chunks(&answer.body, 4096, "", "")),
        "twice" => ("chunked\r\ntransfer-encoding: Chunked", chunks(&answer.body, 4096, "", "")),
        "identity" => ("identity", answer.body.to_vec()),
        _ => ("gzip", gzip(&answer.body)),
    };
    let length = match argument.word() {
        "identity" => length(answer),
        _ => String::new(),
    };
    let framing = format!("{length}transfer-encoding: {value}\r\n");
    let reply = join(answer.head(&framing), &body);
    match argument.word() {
        "twice" | "identity" => resume(vec![Step::Send(reply)]),
        _ => stall([reply]),
    }
}

fn bodiless(answer: &Answer, argument: Argument) -> Delivery {
    let reply = answer.bytes();
    let line = match argument.word() {
        "304" => "HTTP/1.1 304 Not Modified\r\n",
        _ => "HTTP/1.1 204 No Content\r\n",
    };
    stall([super::syntax::replace_status_line(&reply, line)])
}
