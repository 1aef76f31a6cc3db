//! Makes a server's words fit to be shown.
//!
//! A problem document can echo the whole request, signature included, and an intermediary can put
//! anything into a page. What reaches an error message has passed through [`scrub`].

use zeroize::Zeroizing;

use crate::error::cut;
use crate::signing::{KeyTrace, SIGNATURE_LEN, Signature};

/// The longest text that is looked at. A sentence of a problem document is far shorter; what is
/// longer is a page or a dump, and is dropped whole rather than cut through a secret.
const TEXT_MAX: usize = 2048;

/// The longest piece that is kept of one text, in bytes.
const SHOWN_MAX: usize = 160;

/// Secrets shorter than this are too likely to be part of an innocent word to be cut out: a text
/// that holds one is dropped whole. A piece of a signature as long as this is cut out.
const SHORT: usize = 8;

/// So much of a signature, whatever stands between its characters, drops a text whole.
const SIGNATURE_PIECE: usize = 16;

/// An unbroken run of this many characters with a digit in it is a credential, not a word; and one
/// of so many is without.
const RUN_MAX: usize = 24;
const WORD_MAX: usize = 36;

const REMOVED: &str = "[removed]";

/// What must not be shown, whatever the server says.
pub(crate) struct Secrets<'a> {
    pub(crate) user_id: &'a [u8],
    pub(crate) signature: &'a Signature,
    pub(crate) key: Option<&'a KeyTrace>,
}

/// `text` without secrets, control characters and line breaks, cut to a length that fits into a
/// message; empty if nothing of it may be shown.
pub(crate) fn scrub(text: &str, secrets: &Secrets<'_>) -> String {
    // A key that does not print could be echoed in any encoding: then no text is trusted.
    if text.len() > TEXT_MAX || !secrets.key.is_none_or(KeyTrace::is_printable) {
        return String::new();
    }
    // Only printable ASCII stays, first of all: nothing invisible can then hide in a secret.
    let visible = Zeroizing::new(visible(text));
    let Some(without_known) = remove_known(&visible, secrets) else {
        return String::new();
    };
    let without_known = Zeroizing::new(without_known);
    let without_runs = Zeroizing::new(remove_runs(&without_known, secrets));
    if secrets.stand_in(&without_runs) {
        return String::new();
    }
    cut(&without_runs, SHOWN_MAX).trim().to_owned()
}

fn visible(text: &str) -> String {
    // Room for all of it from the start: a text that grows leaves copies of itself behind.
    let mut visible = String::with_capacity(text.len());
    visible.extend(text.chars().filter_map(|c| {
        if c.is_whitespace() { Some(' ') } else { c.is_ascii_graphic().then_some(c) }
    }));
    visible
}

/// Replaces every known secret; `None` if a short one is in the text.
fn remove_known(text: &str, secrets: &Secrets<'_>) -> Option<String> {
    let bytes = text.as_bytes();
    let mut kept = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match secrets.length_at_start(rest) {
            Some(len) if len < SHORT => return None,
            Some(len) => {
                kept.extend_from_slice(REMOVED.as_bytes());
                at += len;
            }
            None => {
                kept.extend(rest.first());
                at += 1;
            }
        }
    }
    String::from_utf8(kept).ok()
}

impl Secrets<'_> {
    /// Whether a secret is still in `text`, when everything but letters and digits is passed over:
    /// a signature in groups of four, an id that is split over two texts.
    pub(crate) fn stand_in(&self, text: &str) -> bool {
        let text = Zeroizing::new(letters_and_digits(text.as_bytes()));
        let user_id = letters_and_digits(self.user_id);
        let pieces = self.signature.as_bytes().windows(SIGNATURE_PIECE);
        (user_id.len() >= SHORT && contains(&text, &user_id))
            || pieces.into_iter().any(|piece| contains(&text, piece))
    }

    /// Whether `run` is a piece of the signature, and long enough to matter.
    fn is_piece_of_signature(&self, run: &str) -> bool {
        let run = Zeroizing::new(run.to_ascii_lowercase());
        (SHORT..=SIGNATURE_LEN).contains(&run.len())
            && contains(self.signature.as_bytes(), run.as_bytes())
    }

    /// The length of the longest secret that `text` starts with.
    fn length_at_start(&self, text: &[u8]) -> Option<usize> {
        let plain = [self.user_id, self.signature.as_bytes().as_slice()]
            .into_iter()
            .filter(|secret| starts_with(text, secret))
            .map(<[u8]>::len)
            .max();
        let key =
            self.key.filter(|key| text.get(..key.len()).is_some_and(|start| key.is_left_by(start)));
        plain.max(key.map(KeyTrace::len))
    }
}

fn starts_with(text: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty()
        && text.get(..secret.len()).is_some_and(|start| start.eq_ignore_ascii_case(secret))
}

fn letters_and_digits(text: &[u8]) -> Vec<u8> {
    let mut found = Vec::with_capacity(text.len());
    found.extend(
        text.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase),
    );
    found
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// Replaces pieces of the signature, and what looks like a credential that we do not know: the
/// second one in a reply, a token of somebody else.
fn remove_runs(text: &str, secrets: &Secrets<'_>) -> String {
    let without_pieces = Zeroizing::new(replace_runs(
        text,
        |c| c.is_ascii_alphanumeric(),
        |run| secrets.is_piece_of_signature(run),
    ));
    let without_dotted = Zeroizing::new(replace_runs(
        &without_pieces,
        |c| in_credential(c) || matches!(c, '.' | '~'),
        is_dotted_credential,
    ));
    replace_runs(&without_dotted, in_credential, is_credential)
}

fn in_credential(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_' | '%')
}

/// A token may hold dots (RFC 6750, 2.1), and so may a path such as `body.items.0.signature`: what
/// tells them apart is a long piece in which letters and digits mix.
fn is_dotted_credential(run: &str) -> bool {
    let mixed = |piece: &str| {
        piece.len() >= RUN_MAX / 2
            && piece.bytes().any(|byte| byte.is_ascii_digit())
            && piece.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    run.len() >= RUN_MAX && run.split(['.', '~']).any(mixed)
}

fn is_credential(run: &str) -> bool {
    run.len() >= WORD_MAX || run.len() >= RUN_MAX && run.bytes().any(|byte| byte.is_ascii_digit())
}

/// Replaces each unbroken run of characters that are `inside`, if it is `bad`.
fn replace_runs(text: &str, inside: impl Fn(char) -> bool, bad: impl Fn(&str) -> bool) -> String {
    // What is put in is at most one character longer than the eight and more that it stands for.
    let mut out = String::with_capacity(text.len() + text.len() / SHORT + REMOVED.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| inside(c) != inside(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        out.push_str(if inside(first) && bad(run) { REMOVED } else { run });
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::HmacKey;
    use crate::user_id::UserId;
    use proptest::prelude::*;

    const KEY: &[u8] = b"HMAC_KEY_FROM_ADMIN_CONSOLE";

    fn scrubbed(text: &str, user_id: &str) -> String {
        let (key, trace) = (HmacKey::new(KEY).unwrap(), KeyTrace::new(KEY));
        let user = UserId::new(user_id.as_bytes()).unwrap();
        let signature = key.signature(user);
        scrub(text, &Secrets { user_id: user.as_bytes(), signature: &signature, key: Some(&trace) })
    }

    #[test]
    fn an_innocent_sentence_stays_as_it_is() {
        assert_eq!(scrubbed("invalid signature", "user-number-1"), "invalid signature");
        assert_eq!(
            scrubbed("unexpected property application_user_identifier_of_old", "user-number-1"),
            "unexpected property application_user_identifier_of_old"
        );
    }

    #[test]
    fn known_secrets_are_cut_out_in_either_case() {
        assert_eq!(scrubbed("no USER-number-1 here", "user-number-1"), "no [removed] here");
        assert_eq!(scrubbed("<HMAC_KEY_FROM_ADMIN_CONSOLE>", "user-number-1"), "<[removed]>");
        let signature = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";
        for text in [signature.to_owned(), signature.to_uppercase()] {
            assert_eq!(scrubbed(&text, "my_application_user_123"), "[removed]");
        }
    }

    #[test]
    fn a_text_with_a_short_id_is_dropped_whole() {
        assert_eq!(scrubbed("bob is unknown", "bob"), "");
        assert_eq!(scrubbed("robert is unknown", "bob"), "robert is unknown");
    }

    #[test]
    fn invisible_characters_go_and_hide_nothing() {
        assert_eq!(scrubbed("a\u{1b}[31mb\u{202e}c\u{0}d\r\ne", "user-number-1"), "a[31mbcd  e");
        assert_eq!(scrubbed("user-\u{200b}number-1", "user-number-1"), "[removed]");
    }

    #[test]
    fn unknown_credentials_and_cut_ones_go() {
        assert_eq!(
            scrubbed("sig e070ea58e2b1d7d01a9570b89fc99e76 bad", "user-number-1"),
            "sig [removed] bad"
        );
        assert_eq!(
            scrubbed("eyJhbGciOiJIUzI1NiIsInR5cCI6.eyJpc3MiOiI5OTk5Iiwic3ViIjoi", "user-number-1"),
            "[removed]"
        );
    }

    #[test]
    fn long_texts_are_dropped_and_shown_ones_are_cut_at_a_character() {
        assert_eq!(scrubbed(&"a ".repeat(TEXT_MAX), "user-number-1"), "");
        let shown = scrubbed(&"a ".repeat(200), "user-number-1");
        assert!(shown.len() <= SHOWN_MAX && shown.starts_with("a a"));
    }

    #[test]
    fn a_secret_that_is_split_or_cut_drops_the_text_or_the_piece() {
        let id = "my_application_user_123";
        let dotted = "e0.70.ea.58.e2.b1.d7.d0.1a.95.70.b8.9f.c9.9e.76.c7.3c.f3.dc.8a.ab.4f.31";
        assert_eq!(scrubbed(dotted, id), "");
        assert_eq!(
            scrubbed("bad signature e070ea58e2b1d7d01a9570b... sorry", id),
            "bad signature [removed]... sorry"
        );
        assert_eq!(scrubbed("bad signature 9570B89F sorry", id), "bad signature [removed] sorry");
        assert_eq!(scrubbed("no user my-application-user-123", id), "");
        for hidden in ['\u{34f}', '\u{115f}', '\u{3164}', '\u{180b}', '\u{2800}', '\u{e0041}', '\t']
        {
            let text = format!("my_application{hidden}_user_123");
            assert!(!scrubbed(&text, id).contains("user_123"), "{hidden:?}");
        }
    }

    #[test]
    fn the_key_is_found_in_either_case_and_an_unprintable_one_silences_the_server() {
        assert_eq!(scrubbed("<hmac_key_from_admin_console>", "user-number-1"), "<[removed]>");
        let key = HmacKey::new(b"A\tSECRETKEY1234").unwrap();
        let trace = KeyTrace::new(b"A\tSECRETKEY1234");
        let user = UserId::new(b"user-number-1").unwrap();
        let signature = key.signature(user);
        let secrets =
            Secrets { user_id: user.as_bytes(), signature: &signature, key: Some(&trace) };
        assert_eq!(scrub("innocent", &secrets), "");
    }

    proptest! {
        #[test]
        fn no_secret_survives(before in ".{0,40}", after in ".{0,40}", id in "[A-Za-z0-9._-]{1,128}", which in 0..3usize) {
            let key = HmacKey::new(KEY).unwrap();
            let signature = key.signature(UserId::new(id.as_bytes()).unwrap());
            let signature = std::str::from_utf8(signature.as_bytes()).unwrap().to_owned();
            let secret: &str =
                [id.as_str(), &signature, std::str::from_utf8(KEY).unwrap()][which];
            let shown = scrubbed(&format!("{before}{secret}{after}"), &id).to_ascii_lowercase();
            // What stands in for a secret may itself hold a very short id: "[removed]" holds "e".
            let shown = shown.replace("[removed]", "");
            prop_assert!(!shown.contains(&secret.to_ascii_lowercase()), "{shown}");
        }

        #[test]
        fn whatever_comes_in_is_short_and_visible(text in any::<String>()) {
            let shown = scrubbed(&text, "user-number-1");
            prop_assert!(shown.len() <= SHOWN_MAX);
            prop_assert!(shown.chars().all(|c| !c.is_control()));
        }
    }
}
