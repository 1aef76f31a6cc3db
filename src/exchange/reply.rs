//! The body of a good reply. One member is taken; everything else is skipped unread, because a
//! second credential stands beside it.

use std::fmt;

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::token::AccessToken;

/// Why a body holds no token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It ends in the middle: the connection was cut, if nothing told its length.
    CutShort,
    /// It is something else. The reason holds none of it.
    Because(&'static str),
}

/// The token of a 200.
pub(crate) fn read_token(body: &[u8]) -> Result<AccessToken, Unusable> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut reason = "it is not a JSON object with the text member access_token";
    let token = json.deserialize_map(ReplyVisitor {
        reason: &mut reason,
    });
    match token.and_then(|token| json.end().map(|()| token)) {
        Ok(token) => Ok(token),
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
    type Value = AccessToken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<AccessToken, A::Error> {
        let mut token = None;
        while let Some(name) = members.next_key::<MemberName>()? {
            if !name.is_access_token {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let Token(this) = members.next_value()?;
            if token.is_some() {
                *self.reason = "it has two members access_token";
                return Err(A::Error::custom(""));
            }
            token = Some(this);
        }
        let checked = token.unwrap_or(Err("it has no member access_token"));
        checked.map_err(|why| {
            *self.reason = why;
            A::Error::custom("")
        })
    }
}

/// The name of a member, compared where it stands and not copied.
struct MemberName {
    is_access_token: bool,
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
                Ok(MemberName {
                    is_access_token: name == "access_token",
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
        struct TokenVisitor;
        impl Visitor<'_> for TokenVisitor {
            type Value = Token;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Token, E> {
                Ok(Token(AccessToken::new(text.as_bytes())))
            }
        }
        deserializer.deserialize_str(TokenVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<String, Unusable> {
        read_token(body.as_bytes())
            .map(|token| String::from_utf8(token.as_bytes().to_vec()).unwrap())
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
            (
                r#"{"access_token":null}"#,
                "not a JSON object with the text",
            ),
            (r#"{"access_token":1}"#, "not a JSON object with the text"),
            (
                r#"{"access_token":["abc"]}"#,
                "not a JSON object with the text",
            ),
            (
                r#"{"access_token":{"a":1}}"#,
                "not a JSON object with the text",
            ),
            (r#"{"access_token":""}"#, "empty"),
            (r#"{"access_token":"a b"}"#, "no bearer token"),
            (
                r#"{"access_token":"a\r\nX-Injected: 1"}"#,
                "no bearer token",
            ),
            (r#"{"access_token":"a\u0000"}"#, "no bearer token"),
            ("{\"access_token\":\"\u{e9}\"}", "no bearer token"),
            (
                r#"{"access_token":"abc","access_token":"abc"}"#,
                "two members",
            ),
            (
                r#"{"access_token":"abc","\u0061ccess_token":"def"}"#,
                "two members",
            ),
            (r#"{"access_token":"abc"} x"#, "not a JSON object"),
            (r#"{"access_token":"abc"}{}"#, "not a JSON object"),
            ("\u{feff}{\"access_token\":\"abc\"}", "not a JSON object"),
        ] {
            match read(body) {
                Err(Unusable::Because(why)) => assert!(why.contains(reason), "{body}: {why}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        assert!(read_token(b"{\"access_token\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_body_that_ends_in_the_middle_is_told_apart() {
        let whole = r#"{"access_token":"abc","x":{"y":[1]}}"#;
        for end in 1..whole.len() {
            assert_eq!(
                read(&whole[..end]).unwrap_err(),
                Unusable::CutShort,
                "{}",
                &whole[..end]
            );
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(
            r#"{{"x":{}{},"access_token":"abc"}}"#,
            "[".repeat(30_000),
            "]".repeat(30_000)
        );
        assert_eq!(read(&deep).unwrap(), "abc");
    }

    proptest! {
        #[test]
        fn any_bytes_at_all(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_token(&body);
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
