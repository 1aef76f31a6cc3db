//! The oracles for what comes from the store: records, and replies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "an oracle panics")]

use std::sync::{Arc, OnceLock};

use super::cluster::Redirect;
use super::record::{Keys, UserKeys, lease_in};
use super::wire::{Commands, Malformed, Replies, Reply, command, decode};
use crate::config::Config;
use crate::config::fuzz::spellings;
use crate::keyring::Keyring;
use crate::token::{AccessToken, TOKEN_MAX};
use crate::user_id::UserId;

/// The keys of three users. Nothing is sealed for the last one: the search learns every record that it sees.
fn keys() -> &'static [UserKeys; 3] {
    static KEYS: OnceLock<[UserKeys; 3]> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut config = Config::new().unwrap();
        config.set_application_id(b"9999").unwrap();
        config.set_hmac_key(b"HMAC_KEY_FROM_ADMIN_CONSOLE").unwrap();
        let application = config.application_id.as_ref().unwrap();
        let keys = Keys::new(Arc::new(Keyring::new(&config)), application, &config.base_url);
        [b"alice", b"bobby", b"carol"].map(|user| keys.of(UserId::new(user).unwrap()).unwrap())
    })
}

/// `data`: a value that stands in the store. Its first bytes also say how a record is tampered with, and the
/// others are also a token.
pub fn record(data: &[u8]) {
    let [user, other, nobody] = keys();
    assert!(nobody.open(data).is_none(), "forged");
    assert!(nobody.open(&[b"T", data].concat()).is_none(), "forged");
    let lease = lease_in(data);
    assert_eq!(lease.is_some(), data.len() == 17 && data[0] == b'L');
    assert!(lease.is_none_or(|lease| lease == data));
    let Some((&[how, at, beyond, xor], text)) = data.split_first_chunk::<4>() else { return };
    let token: Vec<u8> = text.iter().take(TOKEN_MAX).map(|byte| in_token(*byte)).collect();
    let Ok(token) = AccessToken::new(&token) else { return };
    let record = user.seal(&token).unwrap();
    assert!(lease_in(&record).is_none());
    assert_eq!(user.open(&record).unwrap().as_bytes(), token.as_bytes());
    assert!(other.open(&record).is_none(), "another user's");
    let at = usize::from(u16::from_be_bytes([beyond, at])) % record.len();
    let mut tampered = record.clone();
    match how % 4 {
        0 => tampered[at] ^= xor.max(1),
        1 => tampered.truncate(at),
        2 => tampered.insert(at, xor),
        // Behind the nonce, which is new: all else may be a record that was sealed before.
        _ => tampered.splice(at.max(13).., text.iter().copied()).for_each(drop),
    }
    assert!(tampered == record || user.open(&tampered).is_none(), "tampered");
}

fn in_token(byte: u8) -> u8 {
    const ALLOWED: &[u8] = b"-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~+/=";
    ALLOWED[usize::from(byte) % ALLOWED.len()]
}

/// `data`: how many replies are expected, and what comes.
pub fn wire(data: &[u8]) {
    let Some((&first, input)) = data.split_first() else { return };
    let count = usize::from(first % 8);
    let whole = read(input, &[input.len()], count);
    check_as_specified(input, count, &whole);
    let bytewise: Vec<usize> = (0..=input.len()).collect();
    for ends in [&bytewise[..], &[usize::from(first) * input.len() / 255, input.len()]] {
        check_pieces(&whole, &read(input, ends, count));
    }
    for reply in whole.replies.iter().chain([&Reply::Error(input)]) {
        check_redirect(*reply);
    }
    check_command(input);
}

#[derive(Debug)]
struct Read<'a> {
    replies: Vec<Reply<'a>>,
    is_malformed: bool,
}

/// What a connection reads that receives `input` in pieces with these ends.
fn read<'a>(input: &'a [u8], ends: &[usize], count: usize) -> Read<'a> {
    let (mut at, mut frames, mut is_malformed) = (0, Vec::new(), false);
    for &end in ends {
        match decode(&input[..end], &mut at, &mut frames, count) {
            Err(Malformed) => is_malformed = true,
            Ok(()) if frames.len() < count => continue,
            Ok(()) => {}
        }
        break;
    }
    let count = frames.len();
    let replies = Replies::new(input, frames);
    Read { replies: (0..count).map(|index| replies.get(index)).collect(), is_malformed }
}

/// It does not matter how the input comes; only, what follows the last reply may not have come yet.
fn check_pieces(whole: &Read<'_>, pieces: &Read<'_>) {
    assert!(whole.is_malformed || !pieces.is_malformed, "{whole:?} {pieces:?}");
    if whole.is_malformed {
        assert!(whole.replies.starts_with(&pieces.replies), "{whole:?} {pieces:?}");
    } else {
        assert_eq!(whole.replies, pieces.replies);
    }
}

/// RESP2 as it is specified, as far as the library takes it.
fn check_as_specified(input: &[u8], count: usize, whole: &Read<'_>) {
    let mut rest = input;
    for reply in &whole.replies {
        assert_eq!(Some(*reply), next_reply(&mut rest), "{}", input.escape_ascii());
    }
    if whole.is_malformed {
        let all = (whole.replies.len()..count).all(|_| next_reply(&mut rest).is_some());
        assert!(!all || !rest.is_empty(), "refused: {}", input.escape_ascii());
    } else {
        let is_complete = whole.replies.len() == count;
        assert!(!is_complete || rest.is_empty(), "{}", input.escape_ascii());
        assert!(is_complete || next_reply(&mut rest).is_none(), "{}", input.escape_ascii());
    }
}

fn next_reply<'a>(rest: &mut &'a [u8]) -> Option<Reply<'a>> {
    let (&kind, after) = rest.split_first()?;
    let end = after.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, after) = (&after[..end], &after[end + 2..]);
    let number = || std::str::from_utf8(line).ok()?.parse::<i64>().ok();
    let (reply, used) = match kind {
        b'+' => (Reply::Status(line), 0),
        b'-' => (Reply::Error(line), 0),
        b':' => (Reply::Integer(number()?), 0),
        b'$' if line == b"-1" => (Reply::Nil, 0),
        b'$' => {
            let is_length = line.len() <= 5 && line.iter().all(u8::is_ascii_digit);
            let len = usize::try_from(number().filter(|_| is_length)?).ok()?;
            (after.get(len..)?.starts_with(b"\r\n"))
                .then_some((Reply::Bulk(&after[..len]), len + 2))?
        }
        _ => return None,
    };
    *rest = &after[used..];
    Some(reply)
}

/// An address in a reply is one that a store's URL could name.
fn check_redirect(reply: Reply<'_>) {
    let Some(Some(redirect)) = Redirect::in_reply(reply) else { return };
    let Reply::Error(text) = reply else { panic!("{reply:?}") };
    let text = String::from_utf8_lossy(text);
    assert!(text.starts_with(if redirect.asks { "ASK " } else { "MOVED " }), "{text}");
    assert!(redirect.port > 0 && text.trim_end().ends_with(&redirect.port.to_string()), "{text}");
    if let Some(host) = redirect.host {
        for spelling in spellings(&host) {
            let again = format!("MOVED 1 {spelling}:1");
            let again = Redirect::in_reply(Reply::Error(again.as_bytes())).flatten();
            assert_eq!(again.and_then(|again| again.host).as_ref(), Some(&host), "{text}");
        }
    }
}

/// A command is read as it was written, whatever its arguments hold.
fn check_command(input: &[u8]) {
    let arguments: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    for asks in [false, true] {
        let mut out = Commands { asks, ..Commands::default() };
        command(&mut out, &arguments);
        let mut rest = out.bytes.as_slice();
        if asks {
            assert_eq!(next_command(&mut rest), [b"ASKING"]);
        }
        assert_eq!(next_command(&mut rest), arguments);
        assert!(rest.is_empty());
    }
}

fn next_command<'a>(rest: &mut &'a [u8]) -> Vec<&'a [u8]> {
    assert_eq!(rest[0], b'*');
    let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let count: usize = std::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
    *rest = &rest[end + 2..];
    (0..count)
        .map(|_| match next_reply(rest) {
            Some(Reply::Bulk(argument)) => argument,
            other => panic!("{other:?}"),
        })
        .collect()
}
