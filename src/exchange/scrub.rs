//! Decides whether a server's text may be shown in an error message.
//!
//! A problem document can echo the whole request, signature included, and an intermediary can put
//! anything into a page. [`scrub`] drops a text whole if it may hold a secret: nothing is cut out
//! of it, so nothing of the secret is left.
//!
//! The key is not known here, and no request holds it. A server that has it all the same and echoes
//! it is caught by the key's form. A key without that form is missed: all its runs are shorter than
//! [`RUN_MAX`], and none mixes [`MIXED_MAX`] letters and digits. Examples are words, digits alone, and
//! every 17th random key of 16 letters and digits, because it has no digit.

use zeroize::Zeroizing;

use super::SignedUser;
use crate::error::cut;

/// The longest text that is looked at. A sentence of a problem document is far shorter; a longer
/// text is a page or a dump.
const TEXT_MAX: usize = 2048;

/// The longest piece that is shown of one text, in bytes.
const SHOWN_MAX: usize = 160;

/// A run of this many characters without a space is a key, a token, or an encoded secret.
const RUN_MAX: usize = 24;

/// So is a run of this many letters and digits that has both.
const MIXED_MAX: usize = 8;

/// This much of a signature is as telling as the whole.
const SIGNATURE_PIECE: usize = 16;

/// An id of at least this many letters and digits is also found with other characters in between.
/// A shorter one would be found by chance.
const ID_MIN: usize = 8;

/// The longest location that the service names. It is as long as a key, and no secret.
const LOCATION: &str = "body.application_user_id";

/// `text` in printable ASCII, cut to a length that fits into a message; `None` if it is empty or
/// may hold a secret.
pub(crate) fn scrub(text: &str, user: &SignedUser<'_>) -> Option<String> {
    if text.len() > TEXT_MAX {
        return None;
    }
    // First of all, so that nothing invisible splits a secret.
    let visible = Zeroizing::new(visible(text));
    let shown = cut(&visible, SHOWN_MAX).trim();
    let harmless = !shown.is_empty() && !user.is_in(&visible) && !holds_credential(&visible);
    harmless.then(|| shown.to_owned())
}

/// `text` with spaces for white space, and without other characters than printable ASCII.
fn visible(text: &str) -> String {
    // Room for all of it from the start: a text that grows leaves copies of itself behind.
    let mut visible = String::with_capacity(text.len());
    visible.extend(text.chars().filter_map(|c| {
        if c.is_whitespace() { Some(' ') } else { c.is_ascii_graphic().then_some(c) }
    }));
    visible
}

impl SignedUser<'_> {
    /// Whether `text` holds the id or a piece of the signature, in either case of the letters, and
    /// with anything between the letters and digits.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        let dense = Zeroizing::new(letters_and_digits(text.as_bytes()));
        let id = self.user.as_bytes();
        let dense_id = letters_and_digits(id);
        contains(lower.as_bytes(), &id.to_ascii_lowercase())
            || dense_id.len() >= ID_MIN && contains(&dense, &dense_id)
            || self
                .signature
                .as_bytes()
                .windows(SIGNATURE_PIECE)
                .any(|piece| contains(&dense, piece))
    }
}

fn letters_and_digits(text: &[u8]) -> Vec<u8> {
    let mut found = Vec::with_capacity(text.len());
    found.extend(
        text.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase),
    );
    found
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether `text` holds what looks like a key, a token, or any of these in hex or base64.
fn holds_credential(text: &str) -> bool {
    let is_location = |run: &str| run.trim_matches(|c: char| c.is_ascii_punctuation()) == LOCATION;
    let long = |run: &str| run.len() >= RUN_MAX && !is_location(run);
    let mixed = |run: &str| {
        run.len() >= MIXED_MAX
            && run.bytes().any(|byte| byte.is_ascii_digit())
            && run.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    text.split(' ').any(long) || text.split(|c: char| !c.is_ascii_alphanumeric()).any(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::HmacKey;
    use crate::user_id::UserId;
    use proptest::prelude::*;

    const KEY: &str = "HMAC_KEY_FROM_ADMIN_CONSOLE";
    const ID: &str = "my_application_user_123";
    const SIGNATURE: &str = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";

    fn scrubbed(text: &str, user_id: &str) -> Option<String> {
        let user = UserId::new(user_id.as_bytes()).unwrap();
        let signature = HmacKey::new(KEY.as_bytes()).unwrap().signature(user);
        scrub(text, &SignedUser { user, signature: &signature })
    }

    #[test]
    fn a_harmless_sentence_stays_as_it_is() {
        for text in [
            "invalid signature",
            "body.application_user_id",
            "body.application_user_id: expected a string",
            "no text in 'body.application_user_id'",
            "expected string to match pattern ^[0-9a-f]{64}$",
            "the application 9999 has no webhook, see RFC 9457",
        ] {
            assert_eq!(scrubbed(text, ID).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_text_with_the_id_or_the_signature_is_dropped() {
        let upper = SIGNATURE.to_uppercase();
        let dotted = "e0.70 ea.58 e2.b1 d7.d0 1a.95 70.b8";
        for secret in [
            ID,
            SIGNATURE,
            &upper,
            dotted,
            "e070ea58 e2b1d7d01a9570b...",
            "MY-Application user_123",
        ] {
            assert_eq!(scrubbed(&format!("no {secret} here"), ID), None, "{secret}");
        }
    }

    #[test]
    fn a_short_id_drops_every_text_with_its_letters() {
        assert_eq!(scrubbed("Bob is unknown", "bob"), None);
        assert_eq!(scrubbed("robert is unknown", "bob").as_deref(), Some("robert is unknown"));
        assert_eq!(scrubbed("a._-b", "._-"), None);
    }

    #[test]
    fn invisible_characters_go_and_hide_nothing() {
        let shown = scrubbed("a\u{1b}[31mb\u{202e}c\u{0}d\r\ne", ID);
        assert_eq!(shown.as_deref(), Some("a[31mbcd  e"));
        for hidden in
            ['\u{200b}', '\u{34f}', '\u{3164}', '\u{2800}', '\u{e0041}', '\t', '\0', '\u{e9}']
        {
            let text = format!("my_application{hidden}_user_123");
            assert_eq!(scrubbed(&text, ID), None, "{hidden:?}");
        }
    }

    #[test]
    fn a_text_with_an_unknown_credential_is_dropped() {
        for secret in [
            KEY,
            "eyJhbGciOiJIUzI1NiIsInR5cCI6.eyJpc3MiOiI5OTk5Iiwic3ViIjoi",
            "v1.canary4f6a2c8e0b1d.canary3f5a7c9e2d4b",
            "bXlfYXBwbGljYXRpb25fdXNlcl8xMjM=",
            "Short-Key-8d1f3b7e",
            "%6d%79%5f%61%70%70%6c%69",
        ] {
            assert_eq!(scrubbed(&format!("not good: <{secret}>"), "alice"), None, "{secret}");
        }
        for near in [
            "body.application_user_idx",
            "body.application_user_id:x",
            "a.body.application_user_id",
        ] {
            assert_eq!(scrubbed(near, "alice"), None, "{near}");
        }
        assert!(scrubbed(&"x".repeat(RUN_MAX - 1), ID).is_some());
        assert!(scrubbed(&"x".repeat(RUN_MAX), ID).is_none());
    }

    #[test]
    fn a_long_text_is_dropped_and_a_shown_one_is_cut() {
        assert_eq!(scrubbed(&"a ".repeat(TEXT_MAX), ID), None);
        let shown = scrubbed(&"a ".repeat(200), ID).unwrap();
        assert!(shown.len() <= SHOWN_MAX && shown.starts_with("a a"));
    }

    proptest! {
        #[test]
        fn no_secret_survives(
            before in ".{0,40}",
            after in ".{0,40}",
            id in "[A-Za-z0-9._-]{1,128}",
            which in 0..3usize,
        ) {
            let key = HmacKey::new(KEY.as_bytes()).unwrap();
            let signature = key.signature(UserId::new(id.as_bytes()).unwrap());
            let secret = [
                id.as_str(),
                std::str::from_utf8(signature.as_bytes()).unwrap(),
                KEY,
            ][which];
            prop_assert_eq!(scrubbed(&format!("{before}{secret}{after}"), &id), None);
        }

        #[test]
        fn a_shown_text_is_short_and_visible(text in any::<String>()) {
            let shown = scrubbed(&text, ID).unwrap_or_default();
            prop_assert!(shown.len() <= SHOWN_MAX);
            prop_assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}
