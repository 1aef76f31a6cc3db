//! Follows a chunked body (RFC 9112, 7.1) in parallel to ureq, which waits for more even if the body is
//! already invalid: it recognises only CR LF as a line end, and has no limit for a chunk.

use super::errors::too_large;
use super::framing;
use super::limits::BODY_MAX;
use crate::error::Error;

enum State {
    Size,
    /// The number of bytes of the chunk that are missing.
    Data(usize),
    AfterData,
    Trailer,
    End,
}

/// The position in a body. Invalid sizes and trailers are left to ureq, which reports them at once.
pub(crate) struct Chunks {
    state: State,
    /// The length of the current line so far.
    line: usize,
    after_cr: bool,
    /// The size of the current chunk so far.
    size: usize,
    /// Whether the current line has a chunk extension.
    extension: bool,
    refusal: Option<fn() -> Error>,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size,
            line: 0,
            after_cr: false,
            size: 0,
            extension: false,
            refusal: None,
        }
    }

    /// Why the body is invalid, if it is.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.refusal.map(|error| error())
    }

    /// Follows the next bytes of the body.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while let ([first, rest @ ..], None) = (bytes, self.refusal) {
            if let State::Data(left) = &mut self.state {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    self.state = State::AfterData;
                }
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            match (self.after_cr, *first) {
                (true, b'\n') => self.end_line(),
                (false, b'\r') => self.after_cr = true,
                (true, _) | (false, b'\n') => self.refusal = Some(framing::bare_line_end),
                (false, byte) => self.pass_in_line(byte),
            }
            bytes = rest;
        }
    }

    fn pass_in_line(&mut self, byte: u8) {
        self.line += 1;
        self.extension |= byte == b';';
        let digit = char::from(byte).to_digit(16).filter(|_| !self.extension);
        if let Some(digit) = digit {
            self.size = self.size.saturating_mul(16).saturating_add(digit as usize);
        }
    }

    fn end_line(&mut self) {
        self.state = match self.state {
            State::Size if self.size > BODY_MAX => {
                self.refusal = Some(too_large);
                State::End
            }
            State::Size if self.size > 0 => State::Data(self.size),
            State::Trailer if self.line == 0 => State::End,
            State::Size | State::Trailer => State::Trailer,
            State::AfterData | State::Data(_) => State::Size,
            State::End => State::End,
        };
        (self.line, self.after_cr, self.size, self.extension) = (0, false, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// The refusal of `body`, the same in pieces of any size.
    fn refused(body: &[u8]) -> Option<ErrorKind> {
        let mut found = Vec::new();
        for piece in [1, 2, 3, 7, body.len().max(1)] {
            let mut chunks = Chunks::new();
            body.chunks(piece).for_each(|part| chunks.pass(part));
            found.push(chunks.refusal().map(|error| error.kind()));
        }
        assert!(found.iter().all(|kind| *kind == found[0]), "{found:?}");
        found[0]
    }

    #[test]
    fn a_body_that_is_valid_or_may_become_so_is_accepted() {
        for body in [
            &b""[..],
            b"5",
            b"5\r",
            b"5;a=\"b\"\r\nhe",
            b"6\r\n\n\r\n\r\n\n\r\n0\r\n\r\n",
            b"005\r\nhello\r\n1\r\n\n\r\n0;x\r\nA: 1\r\nB: 2\r\n\r\n",
            b"10000\r\nhello",
            b"5;ffffff\r\nhello\r\n0\r\n\r\n",
            b"0\r\n\r\nHTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(refused(body), None, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_line_feed_or_a_carriage_return_alone_is_refused() {
        for body in [
            &b"5\nhello\n0\n\n"[..],
            b"5\rhello",
            b"5\r\nhello\n",
            b"5\r\nhello\r\r",
            b"5\r\nhello\r\n0\n",
            b"0\r\n\n",
            b"0\r\nA: 1\n\r\n",
        ] {
            let kind = refused(body);
            assert_eq!(kind, Some(ErrorKind::InvalidResponse), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_chunk_larger_than_any_body_is_refused() {
        for size in ["10001", "ffffffffffffffff", "fffffffffffffffffffff"] {
            let body = format!("{size}\r\n");
            assert_eq!(refused(body.as_bytes()), Some(ErrorKind::ResponseTooLarge), "{size}");
        }
    }
}
