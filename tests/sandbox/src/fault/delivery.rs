//! How a reply is sent or not sent: what the faults on the wire share.

use bytes::{Bytes, BytesMut};

use super::{Effect, Spec};
use crate::{
    answer::Answer,
    script::{Ending, Script, Step},
};

pub enum Delivery {
    Script(Script),
    /// Sent properly. The next request on the connection is answered with a close.
    CloseNext,
}

pub const CHUNKED: &str = "transfer-encoding: chunked\r\n";
pub const CLOSE: &str = "connection: close\r\n";

impl Spec {
    /// Whether it changes how a reply is sent. Bad requests meet such faults too.
    pub fn is_raw(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.entry.effect, Effect::Delivery(_)))
    }

    /// How the reply is sent, if not plainly. The last such fault decides.
    pub fn delivery(&self, answer: &Answer) -> Option<Delivery> {
        self.faults.iter().rev().find_map(|fault| match fault.entry.effect {
            Effect::Delivery(deliver) => Some(deliver(answer, fault.argument)),
            _ => None,
        })
    }
}

/// A reply that the HTTP server would not send, such as an interim status on its own.
pub fn scripted(answer: &Answer) -> Script {
    Script::new(vec![Step::Send(answer.bytes())], Ending::Cut)
}

pub fn script(steps: Vec<Step>, ending: Ending) -> Delivery {
    Delivery::Script(Script::new(steps, ending))
}

pub fn cut<const N: usize>(bytes: [Bytes; N]) -> Delivery {
    script(bytes.map(Step::Send).into(), Ending::Cut)
}

pub fn stall<const N: usize>(bytes: [Bytes; N]) -> Delivery {
    let steps = bytes.into_iter().map(Step::Send).chain([Step::Stall]);
    script(steps.collect(), Ending::Close)
}

/// A whole reply.
pub fn complete(steps: Vec<Step>, ending: Ending) -> Delivery {
    Delivery::Script(Script::complete(steps, ending))
}

/// A whole reply, after which the connection goes on.
pub fn resume(steps: Vec<Step>) -> Delivery {
    complete(steps, Ending::Resume)
}

pub fn join(mut head: BytesMut, body: &[u8]) -> Bytes {
    head.extend_from_slice(body);
    head.freeze()
}

/// Everything up to the middle of the body.
pub fn half(reply: &Bytes, body: usize) -> Bytes {
    reply.slice(..reply.len() - body.div_ceil(2))
}

/// Ends well before the empty line, so that no client takes the head as complete.
pub fn half_head(answer: &Answer) -> Bytes {
    let head = answer.head(&length(answer)).freeze();
    head.slice(..head.len() * 2 / 3)
}

pub fn length(answer: &Answer) -> String {
    format!("content-length: {}\r\n", answer.body.len())
}
