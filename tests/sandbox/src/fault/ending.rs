//! Faults that end the connection: too early, without notice, or while the client keeps it.

use bytes::Bytes;

use super::{
    Entry,
    delivery::{CHUNKED, CLOSE, Delivery, complete, cut, half, half_head, join, script},
    number,
};
use crate::{
    answer::Answer,
    script::{Ending, Step},
};

pub const TABLE: &[Entry] = faults! { Delivery:
    "close-before": "closes after the request, without a byte" => |_, _| cut([]);
    "close-mid-head": "closes in the middle of the headers" => |a, _| cut([half_head(a)]);
    "close-mid-body": "closes in the middle of a body whose length was given" =>
        |a, _| cut([half(&a.bytes(), a.body.len())]);
    "close-mid-chunk": "closes in the middle of a chunk" => |a, _| cut([half_chunk(a)]);
    "close-delimited": "a complete reply without a length, ended by the close (HTTP/1.0 style)" =>
        |a, _| complete(vec![Step::Send(delimited(a))], Ending::Close);
    "close-delimited-cut": "the same, but the body is cut in half" =>
        |a, _| script(vec![Step::Send(half(&delimited(a), a.body.len()))], Ending::Close);
    "close-delimited-abrupt": "close-delimited, but TLS's close_notify is missing" =>
        |a, _| cut([delimited(a)]);
    "reset-before": "resets after the request, without a byte" =>
        |_, _| script(vec![], Ending::Reset);
    "reset-mid": "resets in the middle of the body" =>
        |a, _| script(vec![Step::Send(half(&a.bytes(), a.body.len()))], Ending::Reset);
    "close-idle" [number(0, 0, 120_000)]:
        "a good kept-alive reply, then closes after N ms, reading no other request" =>
        |a, n| complete(vec![Step::Send(a.bytes()), Step::Pause(n.millis())], Ending::Close);
    "close-next":
        "a good kept-alive reply; the next request on the connection is answered with a close" =>
        |_, _| Delivery::CloseNext;
};

/// A reply whose body ends with the connection.
fn delimited(answer: &Answer) -> Bytes {
    join(answer.head(CLOSE), &answer.body)
}

fn half_chunk(answer: &Answer) -> Bytes {
    let mut reply = answer.head(CHUNKED);
    reply.extend_from_slice(format!("{:x}\r\n", answer.body.len()).as_bytes());
    join(reply, &answer.body[..answer.body.len() / 2])
}
