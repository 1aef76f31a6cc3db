//! Checks the body of an exchange as Huma would: types first, strictly, with an echo of what was wrong.

use std::{collections::HashSet, fmt};

use hmac::{Hmac, KeyInit, Mac};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::problem::Flaw;

const MEMBERS: [&str; 3] = ["application_id", "application_user_id", "signature"];
const USER_PATTERN: &str = "^[A-Za-z0-9._-]+$";
const SIGNATURE_PATTERN: &str = "^[0-9a-f]{64}$";

/// An exchange whose members have the right types and shapes.
#[derive(Debug, PartialEq)]
pub struct Exchange {
    pub application: Value,
    pub user: String,
    pub signature: String,
}

#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// Not JSON at all.
    Malformed,
    Invalid(Vec<Flaw>),
}

/// What the sandbox knows of the application.
pub struct Application {
    id: Value,
    pub key: String,
    hash: Hmac<Sha256>,
    /// Accepted too.
    old: Option<Hmac<Sha256>>,
}

impl Application {
    pub fn new(id: &str, key: &str) -> Option<Self> {
        let hash = Hmac::new_from_slice(key.as_bytes()).ok()?;
        Some(Self { id: expected_id(id), key: key.to_owned(), hash, old: None })
    }

    /// The same with another key.
    pub fn with_key(&self, key: &str, keeps_old: bool) -> Option<Self> {
        let old = keeps_old.then(|| self.hash.clone());
        Some(Self { id: self.id.clone(), old, ..Self::new("", key)? })
    }

    pub fn parse(&self, body: &[u8]) -> Result<Exchange, Refusal> {
        let document = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
        let mut check = Check::new(&document);
        check.members();
        check.application(&self.id);
        check.user();
        check.signature();
        check.finish()
    }

    /// Whether the application is the configured one and the signature is the user's.
    pub fn accepts(&self, exchange: &Exchange) -> bool {
        let is_by = |hash: &Hmac<Sha256>| {
            let tag = hash.clone().chain_update(&exchange.user).finalize();
            exchange.signature == hex::encode(tag.into_bytes())
        };
        exchange.application == self.id
            && (is_by(&self.hash) || self.old.as_ref().is_some_and(is_by))
    }
}

/// A canonical decimal id is a JSON number on the wire, any other a string.
fn expected_id(id: &str) -> Value {
    match id.parse::<i64>() {
        Ok(number) if number >= 0 && number.to_string() == id => number.into(),
        _ => id.into(),
    }
}

/// Collects every flaw: Huma reports all at once.
struct Check<'a> {
    document: &'a Document,
    flaws: Vec<Flaw>,
}

impl<'a> Check<'a> {
    fn new(document: &'a Document) -> Self {
        Self { document, flaws: Vec::new() }
    }

    fn members(&mut self) {
        let Some(members) = self.document.whole.as_object() else {
            return self.flaw("body", "expected object", self.document.whole.clone());
        };
        let whole = &self.document.whole;
        for name in MEMBERS.iter().filter(|name| !members.contains_key(**name)) {
            self.flaw(
                "body",
                &format!("expected required property {name} to be present"),
                whole.clone(),
            );
        }
        for name in members.keys().filter(|name| !MEMBERS.contains(&name.as_str())) {
            self.flaw(&format!("body.{name}"), "unexpected property", whole.clone());
        }
        for name in &self.document.duplicates {
            self.flaw(&format!("body.{name}"), "duplicate property", whole.clone());
        }
    }

    fn application(&mut self, expected: &Value) {
        let Some(value) = self.member("application_id") else {
            return;
        };
        if expected.is_number() && !value.is_number() {
            self.flaw("body.application_id", "expected number", value.clone());
        } else if expected.is_number() && !value.is_i64() {
            self.flaw("body.application_id", "expected integer", value.clone());
        } else if expected.is_string() && !value.is_string() {
            self.flaw("body.application_id", "expected string", value.clone());
        }
    }

    fn user(&mut self) {
        let Some(user) = self.text("application_user_id") else {
            return;
        };
        let message = match user.len() {
            0 => "expected length >= 1".to_owned(),
            1..=128 if user.bytes().all(is_user_byte) => return,
            1..=128 => format!("expected string to match pattern {USER_PATTERN}"),
            _ => "expected length <= 128".to_owned(),
        };
        self.flaw("body.application_user_id", &message, user.into());
    }

    fn signature(&mut self) {
        let Some(signature) = self.text("signature") else {
            return;
        };
        if signature.len() != 64 || !signature.bytes().all(is_lowercase_hex) {
            let message = format!("expected string to match pattern {SIGNATURE_PATTERN}");
            self.flaw("body.signature", &message, signature.into());
        }
    }

    fn finish(self) -> Result<Exchange, Refusal> {
        if !self.flaws.is_empty() {
            return Err(Refusal::Invalid(self.flaws));
        }
        let text = |name| self.member(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Exchange {
            application: self.member("application_id").cloned().unwrap_or_default(),
            user: text("application_user_id"),
            signature: text("signature"),
        })
    }

    fn text(&mut self, name: &str) -> Option<&'a str> {
        let value = self.member(name)?;
        if !value.is_string() {
            self.flaw(&format!("body.{name}"), "expected string", value.clone());
        }
        value.as_str()
    }

    fn member(&self, name: &str) -> Option<&'a Value> {
        self.document.whole.get(name)
    }

    fn flaw(&mut self, location: &str, message: &str, value: Value) {
        self.flaws.push(Flaw { message: message.to_owned(), location: location.to_owned(), value });
    }
}

fn is_user_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

fn is_lowercase_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// A JSON document, and the members that its outermost object has twice.
#[derive(Debug)]
struct Document {
    whole: Value,
    duplicates: Vec<String>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

/// Keeps everything except objects as it is, for the echo.
macro_rules! keep {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E>(self, value: $type) -> Result<Document, E> {
            Ok(Document { whole: value.into(), duplicates: Vec::new() })
        })*
    };
}

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON document")
    }

    keep!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document { whole: Value::Null, duplicates: Vec::new() })
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(
        self,
        mut sequence: A,
    ) -> Result<Document, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element::<Value>()? {
            items.push(item);
        }
        Ok(Document { whole: Value::Array(items), duplicates: Vec::new() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Document, A::Error> {
        let mut members = Map::new();
        let mut duplicates = HashSet::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.insert(name.clone(), value).is_some() {
                duplicates.insert(name);
            }
        }
        Ok(Document { whole: Value::Object(members), duplicates: duplicates.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"HMAC_KEY_FROM_ADMIN_CONSOLE";
    const SIGNATURE: &str = "269d9708f584a186a5c8a37badf3a7a98ba1234d4f64d6d876816830ae85df16";

    fn parse(body: &str) -> Result<Exchange, Refusal> {
        Application::new("9999", std::str::from_utf8(KEY).unwrap()).unwrap().parse(body.as_bytes())
    }

    /// Location and message of the only flaw.
    fn flaw(body: &str) -> (String, String) {
        match parse(body) {
            Err(Refusal::Invalid(flaws)) if flaws.len() == 1 => {
                (flaws[0].location.clone(), flaws[0].message.clone())
            }
            other => panic!("{body}: {other:?}"),
        }
    }

    fn body(application: &str, user: &str, signature: &str) -> String {
        format!(
            r#"{{"application_id":{application},"application_user_id":{user},"signature":{signature}}}"#
        )
    }

    fn good() -> String {
        body("9999", r#""user1""#, &format!(r#""{SIGNATURE}""#))
    }

    #[test]
    fn an_id_that_is_no_canonical_number_is_a_string() {
        assert_eq!(expected_id("9999"), Value::from(9999));
        assert_eq!(expected_id("0"), Value::from(0));
        for id in ["007", "+7", "-7", "9223372036854775808", "abc"] {
            assert_eq!(expected_id(id), Value::from(id));
        }
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for text in ["", "{", "nope", "{\"a\":1}x", "\u{feff}{}"] {
            assert_eq!(parse(text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn each_flaw_is_named_with_its_place() {
        let signature = format!(r#""{SIGNATURE}""#);
        let long = format!(r#""{}""#, "a".repeat(129));
        let upper = signature.to_uppercase();
        let cases = [
            (body(r#""9999""#, r#""u""#, &signature), "body.application_id", "expected number"),
            (body("9999.5", r#""u""#, &signature), "body.application_id", "expected integer"),
            (body("9999", "7", &signature), "body.application_user_id", "expected string"),
            (body("9999", r#""""#, &signature), "body.application_user_id", "expected length >= 1"),
            (body("9999", &long, &signature), "body.application_user_id", "expected length <= 128"),
            (body("9999", r#""a b""#, &signature), "body.application_user_id", "pattern"),
            (body("9999", r#""u""#, &upper), "body.signature", "pattern"),
            (body("9999", r#""u""#, r#""abc""#), "body.signature", "pattern"),
            (good().replace('}', r#","uts":1}"#), "body.uts", "unexpected property"),
            (
                good().replace('}', r#","signature":"x"}"#).replace("\"x\"", &signature),
                "body.signature",
                "duplicate",
            ),
            ("[1]".to_owned(), "body", "expected object"),
        ];
        for (body, location, message) in cases {
            let (found, text) = flaw(&body);
            assert_eq!(found, location, "{body}");
            assert!(text.contains(message), "{body}: {text}");
        }
    }

    #[test]
    fn a_missing_member_echoes_the_whole_body() {
        let Err(Refusal::Invalid(flaws)) = parse(r#"{"application_id":9999,"signature":"x"}"#)
        else {
            panic!("accepted")
        };
        assert_eq!(
            flaws[0].message,
            "expected required property application_user_id to be present"
        );
        assert_eq!(flaws[0].value["signature"], "x");
    }
}
