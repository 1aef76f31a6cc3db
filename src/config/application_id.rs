//! The application id, and how it is written in the request.

use crate::error::{Error, ErrorKind};

/// The longest application id in bytes.
pub(crate) const APPLICATION_ID_MAX: usize = 64;

/// An application id, held as the JSON value that goes out.
///
/// The service takes a JSON number; its field table says "string". So what is written as a number
/// goes out as one, and anything else as a string.
#[derive(Clone)]
pub(crate) struct ApplicationId {
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
        Ok(Self { json: to_json(&String::from_utf8_lossy(text)) })
    }

    /// The JSON number or string.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }
}

fn to_json(text: &str) -> String {
    match text.parse::<u64>() {
        // Canonical and within what the service can hold (an int64), or it is no number of theirs.
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
    fn digits_go_out_as_a_number_and_all_else_as_a_string() {
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
    fn what_is_refused() {
        for bad in ["", " 9999", "9999 ", "99\t99", "9999\n", "caf\u{e9}", "a\0", &"9".repeat(65)] {
            let error = ApplicationId::new(bad.as_bytes()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidApplicationId, "{bad:?}");
        }
        assert!(ApplicationId::new("9".repeat(64).as_bytes()).is_ok());
    }
}
