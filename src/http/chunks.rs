//! Follows a chunked body (RFC 9112, 7.1) beside the HTTP library, which waits where nothing can come any
//! more: it knows one end of a line, CR and LF, and no limit for a chunk.

use super::errors::too_large;
use super::framing;
use super::limits::BODY_MAX;
use crate::error::Error;

/// Where in the body it is.
enum Place {
    Size,
    /// So much of a chunk is still to come.
    Data(usize),
    AfterData,
    Trailer,
    End,
}

/// What has been seen of a body. Whether a size is a number, and what is in a trailer, is left to the HTTP
/// library: it says so at once.
pub(crate) struct Chunks {
    place: Place,
    /// Of the line that is being read: its length so far, and whether its last byte was a CR.
    line: usize,
    after_cr: bool,
    /// Of the chunk whose size is being read, and whether an extension has begun.
    size: usize,
    extension: bool,
    refusal: Option<fn() -> Error>,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self {
            place: Place::Size,
            line: 0,
            after_cr: false,
            size: 0,
            extension: false,
            refusal: None,
        }
    }

    /// Why nothing more is to be waited for, if so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.refusal.map(|error| error())
    }

    /// The next bytes of the body.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while let ([first, rest @ ..], None) = (bytes, self.refusal) {
            if let Place::Data(left) = &mut self.place {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    self.place = Place::AfterData;
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
        self.place = match self.place {
            Place::Size if self.size > BODY_MAX => {
                self.refusal = Some(too_large);
                Place::End
            }
            Place::Size if self.size > 0 => Place::Data(self.size),
            Place::Trailer if self.line == 0 => Place::End,
            Place::Size | Place::Trailer => Place::Trailer,
            Place::AfterData | Place::Data(_) => Place::Size,
            Place::End => Place::End,
        };
        (self.line, self.after_cr, self.size, self.extension) = (0, false, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// What is refused of `body`, however it is cut.
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
    fn a_body_that_is_right_or_may_still_become_so_is_waited_for() {
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
    fn a_line_feed_or_a_carriage_return_alone_ends_no_line() {
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
    fn a_chunk_that_is_larger_than_any_body_is_not_waited_for() {
        for size in ["10001", "ffffffffffffffff", "fffffffffffffffffffff"] {
            let body = format!("{size}\r\n");
            assert_eq!(refused(body.as_bytes()), Some(ErrorKind::ResponseTooLarge), "{size}");
        }
    }
}
