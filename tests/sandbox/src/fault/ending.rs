//! Faults that end the connection: too early, without notice, or when the client thinks that it is kept.

use bytes::Bytes;

use super::{
    Effect::Delivery as Act,
    Entry, Takes,
    delivery::{CHUNKED, CLOSE, Delivery, cut, half, half_head, join, script},
    entry, number,
};
use crate::{
    answer::Answer,
    script::{Ending, Script, Step},
};

pub const TABLE: &[Entry] = &[
    entry(
        "close-before",
        Takes::Nothing,
        "closes after the request, without a byte",
        Act(|_, _| cut([])),
    ),
    entry(
        "close-mid-head",
        Takes::Nothing,
        "closes in the middle of the headers",
        Act(|a, _| cut([half_head(a)])),
    ),
    entry(
        "close-mid-body",
        Takes::Nothing,
        "closes in the middle of a body whose length was given",
        Act(|a, _| cut([half(&a.bytes(), a.body.len())])),
    ),
    entry(
        "close-mid-chunk",
        Takes::Nothing,
        "closes in the middle of a chunk",
        Act(|a, _| cut([half_chunk(a)])),
    ),
    entry(
        "close-delimited",
        Takes::Nothing,
        "a complete reply without a length, ended by the close (HTTP/1.0 style)",
        Act(|a, _| {
            Delivery::Script(Script::complete(
                vec![Step::Send(join(a.head(CLOSE), &a.body))],
                Ending::Close,
            ))
        }),
    ),
    entry(
        "close-delimited-cut",
        Takes::Nothing,
        "the same, but the body is cut in half",
        Act(|a, _| {
            script(
                vec![Step::Send(join(a.head(CLOSE), &a.body[..a.body.len() / 2]))],
                Ending::Close,
            )
        }),
    ),
    entry(
        "close-delimited-abrupt",
        Takes::Nothing,
        "close-delimited, but TLS's close_notify is missing",
        Act(|a, _| cut([join(a.head(CLOSE), &a.body)])),
    ),
    entry(
        "reset-before",
        Takes::Nothing,
        "resets after the request, without a byte",
        Act(|_, _| script(vec![], Ending::Reset)),
    ),
    entry(
        "reset-mid",
        Takes::Nothing,
        "resets in the middle of the body",
        Act(|a, _| script(vec![Step::Send(half(&a.bytes(), a.body.len()))], Ending::Reset)),
    ),
    entry(
        "close-idle",
        number(0, 0, 120_000),
        "a good kept-alive reply, then closes after N ms, reading no other request",
        Act(|a, argument| {
            let steps = vec![Step::Send(a.bytes()), Step::Pause(argument.millis())];
            Delivery::Script(Script::complete(steps, Ending::Close))
        }),
    ),
    entry(
        "close-next",
        Takes::Nothing,
        "a good kept-alive reply; the next request on the connection is read and met with a close",
        Act(|_, _| Delivery::CloseNext),
    ),
];

fn half_chunk(answer: &Answer) -> Bytes {
    let mut reply = answer.head(CHUNKED);
    reply.extend_from_slice(format!("{:x}\r\n", answer.body.len()).as_bytes());
    join(reply, &answer.body[..answer.body.len() / 2])
}
