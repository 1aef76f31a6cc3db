//! The body of a good reply. Two members are taken; everything else is skipped unread, because a
//! second credential stands beside them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::token::{self, AccessToken};

/// Why a body holds no token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It ends in the middle: the connection was cut, if nothing told its length.
    CutShort,
    /// It is something else. The reason holds none of it.
    Because(&'static str),
}

/// What a 200 says.
pub(crate) struct Said {
    pub(crate) token: AccessToken,
    /// Not documented, and taken if it is there.
    pub(crate) expires_in: Option<Duration>,
}

/// Reads the body of a 200.
pub(crate) fn read(body: &[u8]) -> Result<Said, Unusable> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut reason = "it is not a JSON object with the text member access_token";
    let said = json.deserialize_map(ReplyVisitor { reason: &mut reason });
    match said.and_then(|said| json.end().map(|()| said)) {
        Ok(said) => Ok(said),
        Err(error) if error.is_eof() && !body.trim_ascii().is_empty() => Err(Unusable::CutShort),
        Err(_) if body.trim_ascii().is_empty() => Err(Unusable::Because("it is empty")),
        Err(_) => Err(Unusable::Because(reason)),
    }
}

struct ReplyVisitor<'a> {
    /// serde's own errors can quote what they read; ours cannot.
    reason: &'a mut &'static str,
}

impl<'de> Visitor<'de> for ReplyVisitor<'_> {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Said, A::Error> {
        let (mut token, mut expires_in) = (None, None);
        while let Some(name) = members.next_key()? {
            match name {
                MemberName::AccessToken => {
                    let Token(this) = members.next_value()?;
                    if token.is_some() {
                        *self.reason = "it has two members access_token";
                        return Err(A::Error::custom(""));
                    }
                    token = Some(this);
                }
                MemberName::ExpiresIn => {
                    // Of several the shortest: a token that is thrown away too soon does no harm.
                    let said = token::seconds(members.next_value::<&RawValue>()?);
                    expires_in = expires_in.into_iter().chain(said).min();
                }
                MemberName::Other => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        match token.unwrap_or(Err("it has no member access_token")) {
            Ok(token) => Ok(Said { token, expires_in: expires_in.map(Duration::from_secs) }),
            Err(why) => {
                *self.reason = why;
                Err(A::Error::custom(""))
            }
        }
    }
}

/// The name of a member, compared where it stands and not copied.
enum MemberName {
    AccessToken,
    ExpiresIn,
    Other,
}

impl<'de> serde::Deserialize<'de> for MemberName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = MemberName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<MemberName, E> {
                Ok(match name {
                    "access_token" => MemberName::AccessToken,
                    "expires_in" => MemberName::ExpiresIn,
                    _ => MemberName::Other,
                })
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// The value of `access_token`, checked where it stands and copied once, into memory that is wiped.
struct Token(Result<AccessToken, &'static str>);

impl<'de> serde::Deserialize<'de> for Token {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let text = json
            .strip_prefix('"')
            .and_then(|json| json.strip_suffix('"'))
            .ok_or_else(|| D::Error::custom("not a text"))?;
        if !text.contains('\\') {
            return Ok(Self(AccessToken::new(text.as_bytes())));
        }
        // serde would do this in a buffer of its own, which nobody wipes.
        Ok(Self(AccessToken::new(&unescaped(text.as_bytes()))))
    }
}

/// JSON's escapes (RFC 8259, 7) for the characters that a token may hold. All others become one that it
/// may not.
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

    fn read(body: &str) -> Result<String, Unusable> {
        super::read(body.as_bytes())
            .map(|said| String::from_utf8(said.token.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn expires_in_is_taken_if_it_can_be_and_spoils_nothing() {
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
            let said = super::read(body.as_bytes()).unwrap();
            assert_eq!(said.expires_in.map(|time| time.as_secs()), expected, "{body}");
        }
        assert_eq!(super::read(br#"{"access_token":"abc"}"#).unwrap().expires_in, None);
    }

    #[test]
    fn the_one_member_is_taken_wherever_it_stands() {
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
    fn what_is_no_token() {
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
                Err(Unusable::Because(why)) => assert!(why.contains(reason), "{body}: {why}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        assert!(super::read(b"{\"access_token\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_body_that_ends_in_the_middle_is_told_apart() {
        let whole = r#"{"access_token":"abc","x":{"y":[1]}}"#;
        for end in 1..whole.len() {
            assert_eq!(read(&whole[..end]).unwrap_err(), Unusable::CutShort, "{}", &whole[..end]);
        }
    }

    #[test]
    fn escapes_are_read_as_json_has_them() {
        for (value, expected) in
            [(r"a\/b", "a/b"), (r"\u0061\u002Db", "a-b"), (r"\u002db\/", "-b/")]
        {
            let body = format!(r#"{{"access_token":"{value}"}}"#);
            assert_eq!(read(&body).unwrap(), expected);
        }
        for bad in [r#"a\"b"#, r"a\\b", r"a\nb", r"\u0161", r"\u0000", r"\ud83d\ude00"] {
            match read(&format!(r#"{{"access_token":"{bad}"}}"#)) {
                Err(Unusable::Because(why)) => {
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
    fn depth_costs_no_stack() {
        let deep =
            format!(r#"{{"x":{}{},"access_token":"abc"}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(read(&deep).unwrap(), "abc");
    }

    proptest! {
        #[test]
        fn any_bytes_at_all(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = super::read(&body);
        }

        #[test]
        fn what_is_accepted_is_what_json_says(value in "\\PC{0,40}") {
            let body = serde_json::json!({ "access_token": value, "user_info": { "access_token": "other" } }).to_string();
            if let Ok(token) = read(&body) {
                prop_assert_eq!(token, value);
            }
        }
    }
}
