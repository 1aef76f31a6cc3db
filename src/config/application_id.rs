//! The application id and its JSON form.

use crate::error::{Error, ErrorKind};

/// The maximum length of an application id in bytes.
pub(crate) const APPLICATION_ID_MAX: usize = 64;

/// An application id, and the JSON value that is sent.
///
/// The service expects a JSON number, although its field table says "string". So digits are sent as a number,
/// anything else as a string.
#[derive(Clone)]
pub(crate) struct ApplicationId {
    text: String,
    json: String,
}

impl ApplicationId {
    pub(crate) fn new(text: &[u8]) -> Result<Self, Error> {
        if text.is_empty() || text.len() > APPLICATION_ID_MAX {
            return Err(invalid(format!("it has {} bytes", text.len())));
        }
        if let Some(position) = text.iter().position(|byte| !byte.is_ascii_graphic()) {
            return Err(invalid(format!(
                "the byte at position {position} (counted from 0) is a space or not printable ASCII"
            )));
        }
        let text = String::from_utf8_lossy(text).into_owned();
        Ok(Self { json: to_json(&text), text })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// A JSON number or string.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }
}

fn to_json(text: &str) -> String {
    match text.parse::<u64>() {
        // Only a canonical number within int64, which is what the service can hold.
        Ok(number) if number <= i64::MAX as u64 && number.to_string() == text => text.to_owned(),
        _ => serde_json::Value::from(text).to_string(),
    }
}

fn invalid(why: String) -> Error {
    Error::new(
        ErrorKind::InvalidApplicationId,
        format!(
            "Invalid application id: {why}. Pass the number that the Spike console shows, \
             1 to {APPLICATION_ID_MAX} printable ASCII characters without spaces."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_and_anything_else_is_a_string() {
        let cases = [
            ("0", "0"),
            ("9999", "9999"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "\"9223372036854775808\""),
            ("007", "\"007\""),
            ("00", "\"00\""),
            ("+1", "\"+1\""),
            ("-1", "\"-1\""),
            ("1e3", "\"1e3\""),
            ("app_1", "\"app_1\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
        ];
        for (text, json) in cases {
            assert_eq!(ApplicationId::new(text.as_bytes()).unwrap().json(), json);
        }
    }

    #[test]
    fn invalid_ids_are_refused() {
        for bad in ["", " 9999", "9999 ", "99\t99", "9999\n", "caf\u{e9}", "a\0", &"9".repeat(65)] {
            let error = ApplicationId::new(bad.as_bytes()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidApplicationId, "{bad:?}");
        }
        assert!(ApplicationId::new("9".repeat(64).as_bytes()).is_ok());
    }
}
