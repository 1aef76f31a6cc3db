//! RESP2, the protocol of Redis and Valkey: commands, and the replies that this library knows.

use std::ops::Range;

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;

/// Replies that are read at most, in bytes: the largest record, with room for errors in words.
pub(super) const INPUT_MAX: usize = 16 * 1024;

/// Commands that are written at once.
#[derive(Default)]
pub(super) struct Commands {
    pub(super) bytes: Vec<u8>,
    /// Each command comes after an `ASKING`, which counts for one command.
    pub(super) asks: bool,
}

/// Appends a command.
pub(super) fn command(out: &mut Commands, arguments: &[&[u8]]) {
    if out.asks {
        append(&mut out.bytes, &[b"ASKING"]);
    }
    append(&mut out.bytes, arguments);
}

fn append(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    let line = |out: &mut Vec<u8>, kind: u8, number: usize| {
        out.push(kind);
        out.extend_from_slice(number.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    line(out, b'*', arguments.len());
    for argument in arguments {
        line(out, b'$', argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// One reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    Nil,
    Status(&'a [u8]),
    /// What the server says of a command that it refused.
    Error(&'a [u8]),
    Integer(i64),
    Bulk(&'a [u8]),
}

/// The replies to one write.
pub(super) struct Replies<'a> {
    input: &'a [u8],
    frames: Vec<(RangeFrame, usize)>,
    asked: bool,
}

impl<'a> Replies<'a> {
    pub(super) fn new(input: &'a [u8], frames: Vec<(RangeFrame, usize)>) -> Self {
        Self { input, frames, asked: false }
    }

    /// Takes every second reply as one to an `ASKING`. Fails with the first of these that is not OK.
    pub(super) fn after_asking(mut self) -> Result<Self, Reply<'a>> {
        let asked = (0..self.frames.len()).step_by(2).map(|index| self.frame(index));
        match asked.into_iter().find(|reply| *reply != Reply::Status(b"OK")) {
            Some(reply) => Err(reply),
            None => {
                self.asked = true;
                Ok(self)
            }
        }
    }

    /// The reply to the command with this index.
    pub(super) fn get(&self, index: usize) -> Reply<'a> {
        self.frame(if self.asked { 2 * index + 1 } else { index })
    }

    fn frame(&self, index: usize) -> Reply<'a> {
        let Some((frame, start)) = self.frames.get(index) else {
            return Reply::Nil;
        };
        let text = |range: &(usize, usize)| {
            self.input.get(start + range.0..start + range.1).unwrap_or_default()
        };
        match frame {
            RangeFrame::SimpleString(range) => Reply::Status(text(range)),
            RangeFrame::Error(range) => Reply::Error(text(range)),
            RangeFrame::BulkString(range) => Reply::Bulk(text(range)),
            RangeFrame::Integer(number) => Reply::Integer(*number),
            RangeFrame::Null | RangeFrame::Array(_) => Reply::Nil, // an array is not decoded at all
        }
    }
}

/// It is no RESP2, or no reply to a command of this library.
#[derive(Debug)]
pub(super) struct Malformed;

/// Decodes the replies in `input` from `at` on, which is moved past them.
pub(super) fn decode(
    input: &[u8],
    at: &mut usize,
    frames: &mut Vec<(RangeFrame, usize)>,
    count: usize,
) -> Result<(), Malformed> {
    while frames.len() < count {
        let rest = input.get(*at..).unwrap_or_default();
        if !is_expected(rest) {
            return Err(Malformed);
        }
        let Some((frame, used)) = decode_range(rest).map_err(|_| Malformed)? else {
            return Ok(());
        };
        if let RangeFrame::BulkString((_, end)) = frame
            && rest.get(end..used) != Some(b"\r\n")
        {
            return Err(Malformed); // the decoder takes any two bytes
        }
        frames.push((frame, *at));
        *at += used;
    }
    // One byte more, and no later reply could be told from an earlier one.
    if *at < input.len() { Err(Malformed) } else { Ok(()) }
}

/// Whether it can become a reply to a command of this library. An array could make the decoder allocate or
/// recurse; a bulk that is too long would be waited for.
fn is_expected(input: &[u8]) -> bool {
    const LENGTH: Range<usize> = 1..7; // five digits, and a CR
    match input.first() {
        None | Some(b'+' | b'-' | b':') => true,
        Some(b'$') => {
            let digits = input.get(LENGTH.start..LENGTH.end.min(input.len())).unwrap_or_default();
            let end = digits.iter().position(|&byte| byte == b'\r');
            match end.and_then(|end| digits.get(..end)) {
                Some(b"-1") => true,
                Some(length) => !length.is_empty() && length.iter().all(u8::is_ascii_digit),
                None => digits.len() < LENGTH.len(),
            }
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8], count: usize) -> Result<Option<String>, ()> {
        let (mut at, mut frames) = (0, Vec::new());
        decode(input, &mut at, &mut frames, count).map_err(|Malformed| ())?;
        if frames.len() < count {
            return Ok(None);
        }
        let replies = Replies::new(input, frames);
        Ok(Some(format!("{:?}", (0..count).map(|i| replies.get(i)).collect::<Vec<_>>())))
    }

    #[test]
    fn a_command_is_an_array_of_bulks() {
        let mut out = Commands::default();
        command(&mut out, &[b"GET", b"a\r\nb", b""]);
        assert_eq!(out.bytes, b"*3\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
    }

    #[test]
    fn asking_stands_before_each_command_and_its_replies_are_not_counted() {
        let mut out = Commands { asks: true, ..Commands::default() };
        command(&mut out, &[b"A"]);
        command(&mut out, &[b"B"]);
        let asking = "*1\r\n$6\r\nASKING\r\n";
        let expected = format!("{asking}*1\r\n$1\r\nA\r\n{asking}*1\r\n$1\r\nB\r\n");
        assert_eq!(out.bytes, expected.as_bytes());

        let replies = |input: &'static [u8]| {
            let (mut at, mut frames) = (0, Vec::new());
            decode(input, &mut at, &mut frames, 4).unwrap();
            Replies::new(input, frames).after_asking()
        };
        let found = replies(b"+OK\r\n:1\r\n+OK\r\n-MOVED 1 h:1\r\n").unwrap_or_else(|_| panic!());
        assert_eq!(found.get(0), Reply::Integer(1));
        assert_eq!(found.get(1), Reply::Error(b"MOVED 1 h:1"));
        let refused = replies(b"+OK\r\n:1\r\n-NOPERM no\r\n:2\r\n").err();
        assert_eq!(refused, Some(Reply::Error(b"NOPERM no")));
    }

    #[test]
    fn replies_in_pieces_of_any_size() {
        let input = b"$5\r\nT\r\nxy\r\n:-2\r\n+OK\r\n$-1\r\n-NOPERM no\r\n$0\r\n\r\n";
        let expected = format!(
            "{:?}",
            [
                Reply::Bulk(b"T\r\nxy"),
                Reply::Integer(-2),
                Reply::Status(b"OK"),
                Reply::Nil,
                Reply::Error(b"NOPERM no"),
                Reply::Bulk(b""),
            ]
        );
        assert_eq!(decoded(input, 6), Ok(Some(expected.clone())));
        for piece in 1..input.len() {
            let (mut at, mut frames, mut have) = (0, Vec::new(), 0);
            while frames.len() < 6 {
                assert!(have < input.len());
                have = (have + piece).min(input.len());
                decode(&input[..have], &mut at, &mut frames, 6).unwrap();
            }
            let replies = Replies::new(input, frames);
            let all: Vec<_> = (0..6).map(|i| replies.get(i)).collect();
            assert_eq!(format!("{all:?}"), expected, "{piece}");
        }
        for cut in 0..input.len() {
            assert_eq!(decoded(&input[..cut], 6), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_at_once() {
        for input in [
            &b"*1\r\n"[..],
            b"*",
            b"%1\r\n",
            b"HTTP/1.1 400",
            b"\r\n",
            b"$536870912\r\n",
            b"$536870912",
            b"$100000",
            b"$-2\r\n",
            b"$+5\r\nhello\r\n",
            b"$\r\n",
            b"$5x\r\n",
            b"$5\r\nhelloXX",
            b"$5\r\nhello\n\n",
            b":12x\r\n",
            b":\r\n",
            b"+OK\r\n+OK\r\n",
            b"+OK\r\nx",
            b"$-1\r\n\r\n",
        ] {
            assert_eq!(decoded(input, 1), Err(()), "{}", input.escape_ascii());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            input in proptest::collection::vec(proptest::num::u8::ANY, 0..200), kind in 0..6usize,
        ) {
            let kinds: [&[u8]; 6] = [b"", b"+", b"-", b":", b"$", b"$9\r\n"];
            let _ = decoded(&[kinds[kind], &input].concat(), 3);
        }
    }
}
