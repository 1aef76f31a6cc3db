//! Problem details (RFC 9457): a server's description of a failure, made safe to show.
//!
//! Only `title`, `detail`, and the `location` and `message` of `errors` are used. `errors[].value` is never
//! read: it can echo the whole request, including the signature.

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::SignedUser;
use super::scrub::scrub;
use crate::error::cut;

/// How many `errors` are shown.
const ERRORS_MAX: usize = 3;
/// The rest of a message is the library's own text.
const TEXT_MAX: usize = 180;

/// Members as raw JSON, because one of a wrong type must not affect the others.
#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(borrow, default)]
    title: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    errors: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    location: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

/// The description in `body`, one line without secrets; `None` if there is nothing safe to show.
pub(crate) fn explain(body: &[u8], user: &SignedUser<'_>) -> Option<String> {
    let problem: Problem<'_> = serde_json::from_slice(body).ok()?;
    let text = |member| text(member, user);
    let mut parts: Vec<String> =
        text(problem.detail).or_else(|| text(problem.title)).into_iter().collect();
    for item in items(problem.errors) {
        match (text(item.location), text(item.message)) {
            (Some(location), Some(message)) => parts.push(format!("{location}: {message}")),
            (_, Some(message)) => parts.push(message),
            _ => {}
        }
    }
    let all = Zeroizing::new(parts.join("; "));
    // Each text is harmless by itself; a secret that is split over several of them is not.
    if user.is_in(&all) {
        return None;
    }
    Some(cut(&all, TEXT_MAX).trim_end().to_owned()).filter(|text| !text.is_empty())
}

fn items(errors: Option<&RawValue>) -> Vec<Item<'_>> {
    let list: Vec<&RawValue> =
        errors.and_then(|errors| serde_json::from_str(errors.get()).ok()).unwrap_or_default();
    list.iter().take(ERRORS_MAX).filter_map(|item| serde_json::from_str(item.get()).ok()).collect()
}

fn text(member: Option<&RawValue>, user: &SignedUser<'_>) -> Option<String> {
    let text: String = serde_json::from_str(member?.get()).ok()?;
    let text = Zeroizing::new(text);
    let shown = scrub(&text, user)?;
    // A full stop would end up in the middle of the message's sentence.
    let shown = shown.trim_end_matches(['.', ' ']);
    (!shown.is_empty()).then(|| shown.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::HmacKey;
    use crate::user_id::UserId;
    use proptest::prelude::*;

    fn explained(body: &str) -> Option<String> {
        let key = HmacKey::new(b"HMAC_KEY_FROM_ADMIN_CONSOLE").unwrap();
        let user = UserId::new(b"my_application_user_123").unwrap();
        let signature = key.signature(user);
        explain(body.as_bytes(), &SignedUser { user, signature: &signature })
    }

    #[test]
    fn the_detail_or_the_title_is_followed_by_the_errors() {
        let body = r#"{"title":"Unprocessable Entity","status":422,"detail":"validation failed.","errors":[
            {"location":"body.signature","message":"expected length 64","value":"x"},
            {"message":"no location"},{"location":"body"},{"message":"a fourth"}]}"#;
        assert_eq!(
            explained(body).unwrap(),
            "validation failed; body.signature: expected length 64; no location"
        );
        assert_eq!(explained(r#"{"title":"Unauthorized"}"#).unwrap(), "Unauthorized");
    }

    #[test]
    fn an_echoed_request_is_never_shown() {
        let signature = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";
        for member in ["title", "detail", "value"] {
            let body = format!(r#"{{"{member}":"{signature} my_application_user_123"}}"#);
            let shown = explained(&body).unwrap_or_default();
            assert!(!shown.contains("e070") && !shown.contains("my_app"), "{shown}");
        }
        let body = format!(
            r#"{{"errors":[{{"location":"{signature}","message":"for my_application_user_123","value":"{signature}"}}]}}"#
        );
        assert_eq!(explained(&body), None);
    }

    #[test]
    fn a_text_with_a_secret_takes_no_other_with_it() {
        let body = r#"{"title":"Unauthorized","detail":"no user my_application_user_123",
            "errors":[{"location":"body","message":"my_application_user_123"},
            {"location":"my_application_user_123","message":"not found"}]}"#;
        assert_eq!(explained(body).unwrap(), "Unauthorized; not found");
    }

    #[test]
    fn a_secret_that_is_split_over_several_texts_is_never_shown() {
        let signature = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";
        for (secret, len) in [("my_application_user_123", 5), (signature, 3), (signature, 7)] {
            let pieces: Vec<&str> =
                secret.as_bytes().chunks(len).map(|piece| str::from_utf8(piece).unwrap()).collect();
            let errors: Vec<_> = pieces[1..]
                .chunks_exact(2)
                .map(|pair| serde_json::json!({ "location": pair[0], "message": pair[1] }))
                .collect();
            for member in ["title", "detail"] {
                let body = serde_json::json!({ member: pieces[0], "errors": errors }).to_string();
                assert_eq!(explained(&body), None, "{body}");
            }
        }
        let body = r#"{"errors":[{"location":"my_applica","message":"tion_user_123"}]}"#;
        assert_eq!(explained(body), None);
    }

    #[test]
    fn wrong_types_and_other_bodies_are_not_shown() {
        for body in [
            "",
            "<html>",
            "[]",
            "null",
            "{}",
            r#"{"title":1,"detail":null,"errors":{}}"#,
            r#"{"errors":[1,null,"x",{"message":2}]}"#,
        ] {
            assert_eq!(explained(body), None, "{body}");
        }
        assert_eq!(explained(r#"{"title":"A","detail":{"x":1},"errors":7}"#).unwrap(), "A");
    }

    #[test]
    fn depth_uses_no_stack() {
        let body =
            format!(r#"{{"errors":{}{},"title":"A"}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(explained(&body).unwrap(), "A");
    }

    proptest! {
        #[test]
        fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = explained(&String::from_utf8_lossy(&body));
        }

        #[test]
        fn any_texts(title in any::<String>(), location in any::<String>(), message in any::<String>()) {
            let body = serde_json::json!({ "title": title, "errors": [{ "location": location, "message": message }] });
            if let Some(shown) = explained(&body.to_string()) {
                prop_assert!(shown.len() <= TEXT_MAX);
                prop_assert!(!shown.chars().any(char::is_control));
            }
        }
    }
}
