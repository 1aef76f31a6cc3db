//! Faults of the token's lifetime. The token stays a good one.

use super::{Entry, Takes::Word, number};

/// A hundred years, in seconds.
const CENTURY: i64 = 3_155_760_000;

pub const TABLE: &[Entry] = faults! { Token:
    "exp" [number(3600, -CENTURY, CENTURY)]:
        "the token's claims have iat, and exp N seconds from now" =>
        |plan, argument| plan.lifetime = Some(argument.number());
    "expires-in" [number(3600, i64::MIN, i64::MAX)]: "the reply has expires_in: N" =>
        |plan, argument| plan.expires_in = Some(argument.number().to_string());
    "expires-in-garbage" [Word(&["text", "number-text", "float", "overflow", "null", "object"])]:
        "the reply has an invalid expires_in" =>
        |plan, argument| plan.expires_in = Some(garbage(argument.word()).to_owned());
};

fn garbage(kind: &str) -> &'static str {
    match kind {
        "number-text" => r#""3600""#,
        "float" => "3600.5",
        "overflow" => "1e400",
        "null" => "null",
        "object" => r#"{"seconds":3600}"#,
        _ => r#""an hour""#,
    }
}
