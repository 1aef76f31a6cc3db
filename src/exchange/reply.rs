//! The body of a 200. Two members are read. All others are skipped unread: one of them is a second
//! credential.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::token::{self, AccessToken};

/// Why a body holds no token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InvalidBody {
    /// It ends in the middle: the connection was cut, unless its length was announced.
    CutShort,
    /// Anything else. The reason quotes nothing of the body.
    Because(&'static str),
}

/// The body of a 200.
pub(crate) struct TokenBody {
    pub(crate) token: AccessToken,
    /// Not documented; used if present.
    pub(crate) expires_in: Option<Duration>,
}

const NO_TEXT_MEMBER: &str = "it is not a JSON object with the text member access_token";

/// Reads the body of a 200.
pub(crate) fn read(body: &[u8]) -> Result<TokenBody, InvalidBody> {
    if body.trim_ascii().is_empty() {
        return Err(InvalidBody::Because("it is empty"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let members = json
        .deserialize_map(MembersVisitor)
        .and_then(|members| json.end().map(|()| members))
        // Not serde's own message: it can quote the body.
        .map_err(|error| match error.is_eof() {
            true => InvalidBody::CutShort,
            false => InvalidBody::Because(NO_TEXT_MEMBER),
        })?;
    let token = match members.access_token.as_slice() {
        [] => Err("it has no member access_token"),
        [value] => token(value),
        _ => Err("it has two members access_token"),
    };
    // The shortest of several: a token that is dropped too early does no harm.
    let expires_in = members.expires_in.into_iter().filter_map(token::seconds).min();
    Ok(TokenBody {
        token: token.map_err(InvalidBody::Because)?,
        expires_in: expires_in.map(Duration::from_secs),
    })
}

/// The two members as they stand in the body, whatever their types and however often.
#[derive(Default)]
struct Members<'a> {
    access_token: Vec<&'a RawValue>,
    expires_in: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum MemberName {
    AccessToken,
    ExpiresIn,
    #[serde(other)]
    Other,
}

/// Not derived: that would refuse a second `expires_in`, and read an array as if it were an object.
struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key()? {
            match name {
                MemberName::AccessToken => members.access_token.push(map.next_value()?),
                MemberName::ExpiresIn => members.expires_in.push(map.next_value()?),
                MemberName::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

/// Checks the value of `access_token` in place and copies it once, into memory that is wiped.
fn token(value: &RawValue) -> Result<AccessToken, &'static str> {
    let quoted = value.get().strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    let text = quoted.ok_or(NO_TEXT_MEMBER)?;
    if text.contains('\\') {
        // serde would unescape into a buffer of its own, which is not wiped.
        return AccessToken::new(&unescaped(text.as_bytes()));
    }
    AccessToken::new(text.as_bytes())
}

/// Resolves JSON's escapes (RFC 8259, 7) of the characters that a token may hold. Any other escape
/// becomes a character that it may not hold.
fn unescaped(text: &[u8]) -> Zeroizing<Vec<u8>> {
    const NO_TOKEN: u8 = 0;
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let escaped = match rest.next() {
            Some(b'/') => Some(b'/'),
            Some(b'u') => rest
                .by_ref()
                .take(4)
                .try_fold(0, |code, digit| Some(code * 16 + char::from(digit).to_digit(16)?))
                .and_then(|code: u32| u8::try_from(code).ok()),
            _ => None,
        };
        plain.push(escaped.unwrap_or(NO_TOKEN));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<String, InvalidBody> {
        super::read(body.as_bytes())
            .map(|body| String::from_utf8(body.token.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn expires_in_is_used_if_readable_and_ignored_otherwise() {
        for (value, expected) in [
            ("3600", Some(3600)),
            ("3600.7", Some(3600)),
            (r#""3600""#, Some(3600)),
            ("0", Some(0)),
            ("-1", Some(0)),
            ("1e99", Some(u64::MAX)),
            ("null", None),
            (r#""soon""#, None),
            ("[1]", None),
            (r#"{"expires_in":1}"#, None),
            (r#"60,"expires_in":30,"expires_in":"x""#, Some(30)),
        ] {
            let body = format!(r#"{{"expires_in":{value},"access_token":"abc"}}"#);
            let read = super::read(body.as_bytes()).unwrap();
            assert_eq!(read.expires_in.map(|time| time.as_secs()), expected, "{body}");
        }
        assert_eq!(super::read(br#"{"access_token":"abc"}"#).unwrap().expires_in, None);
    }

    #[test]
    fn the_member_is_found_at_any_place() {
        for body in [
            r#"{"access_token":"abc"}"#,
            " { \"access_token\" : \"abc\" } \n",
            r#"{"user_info":{"compat_application_client_token":"second","access_token":"nested"},"access_token":"abc"}"#,
            r#"{"access_token":"abc","x":[1,2.5,null,true,{"access_token":1}],"y":"\u0000"}"#,
            r#"{"access_token":"\u0061bc"}"#,
            r#"{"\u0061ccess_token":"abc"}"#,
        ] {
            assert_eq!(read(body).unwrap(), "abc", "{body}");
        }
        assert_eq!(read(r#"{"access_token":"a\/b"}"#).unwrap(), "a/b");
    }

    #[test]
    fn bodies_without_a_token() {
        for (body, reason) in [
            ("", "empty"),
            (" \n", "empty"),
            ("<html></html>", "not a JSON object"),
            ("null", "not a JSON object"),
            ("[]", "not a JSON object"),
            (r#""abc""#, "not a JSON object"),
            ("{}", "no member access_token"),
            (r#"{"Access_Token":"abc"}"#, "no member access_token"),
            (r#"{"access_token":null}"#, "not a JSON object with the text"),
            (r#"{"access_token":1}"#, "not a JSON object with the text"),
            (r#"{"access_token":["abc"]}"#, "not a JSON object with the text"),
            (r#"{"access_token":{"a":1}}"#, "not a JSON object with the text"),
            (r#"{"access_token":""}"#, "empty"),
            (r#"{"access_token":"a b"}"#, "no bearer token"),
            (r#"{"access_token":"a\r\nX-Injected: 1"}"#, "no bearer token"),
            (r#"{"access_token":"a\u0000"}"#, "no bearer token"),
            ("{\"access_token\":\"\u{e9}\"}", "no bearer token"),
            (r#"{"access_token":"abc","access_token":"abc"}"#, "two members"),
            (r#"{"access_token":"abc","\u0061ccess_token":"def"}"#, "two members"),
            (r#"{"access_token":"abc"} x"#, "not a JSON object"),
            (r#"{"access_token":"abc"}{}"#, "not a JSON object"),
            ("\u{feff}{\"access_token\":\"abc\"}", "not a JSON object"),
        ] {
            match read(body) {
                Err(InvalidBody::Because(why)) => assert!(why.contains(reason), "{body}: {why}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        assert!(super::read(b"{\"access_token\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_truncated_body_is_cut_short() {
        let whole = r#"{"access_token":"abc","x":{"y":[1]}}"#;
        for end in 1..whole.len() {
            assert_eq!(
                read(&whole[..end]).unwrap_err(),
                InvalidBody::CutShort,
                "{}",
                &whole[..end]
            );
        }
    }

    #[test]
    fn escapes_are_resolved() {
        for (value, expected) in
            [(r"a\/b", "a/b"), (r"\u0061\u002Db", "a-b"), (r"\u002db\/", "-b/")]
        {
            let body = format!(r#"{{"access_token":"{value}"}}"#);
            assert_eq!(read(&body).unwrap(), expected);
        }
        for bad in [r#"a\"b"#, r"a\\b", r"a\nb", r"\u0161", r"\u0000", r"\ud83d\ude00"] {
            match read(&format!(r#"{{"access_token":"{bad}"}}"#)) {
                Err(InvalidBody::Because(why)) => {
                    assert!(why.contains("no bearer token"), "{bad}: {why}")
                }
                other => panic!("{bad}: {other:?}"),
            }
        }
        for broken in [r"a\x", r"\u00g0", r"\u00"] {
            assert!(read(&format!(r#"{{"access_token":"{broken}"}}"#)).is_err(), "{broken}");
        }
    }

    #[test]
    fn nesting_takes_no_stack() {
        let deep =
            format!(r#"{{"x":{}{},"access_token":"abc"}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(read(&deep).unwrap(), "abc");
    }

    proptest! {
        #[test]
        fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = super::read(&body);
        }

        #[test]
        fn an_accepted_token_is_what_json_says(value in "\\PC{0,40}") {
            let body = serde_json::json!({ "access_token": value, "user_info": { "access_token": "other" } }).to_string();
            if let Ok(token) = read(&body) {
                prop_assert_eq!(token, value);
            }
        }
    }
}
