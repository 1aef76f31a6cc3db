//! The dates in a token that is a JWT (RFC 7519). They are hints: nothing is verified.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The base64url of RFC 7515; padding is tolerated.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[derive(Deserialize)]
struct Claims<'a> {
    /// As text, because a claim of a wrong type must not affect the others.
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
    #[serde(borrow)]
    iat: Option<&'a RawValue>,
}

/// The claims `exp` and `iat` (RFC 7519, 4.1.4 and 4.1.6), in seconds since 1970.
pub(super) struct Dates {
    pub(super) expires: u64,
    pub(super) issued: Option<u64>,
}

/// The dates of a token that has an `exp`. The length of the token limits what is decoded, and skipped JSON
/// uses no stack at any depth.
pub(super) fn dates(token: &[u8]) -> Option<Dates> {
    let mut parts = token.split(|&byte| byte == b'.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let mut json = Zeroizing::new(vec![0; base64::decoded_len_estimate(payload.len())]);
    let len = BASE64URL.decode_slice(payload, &mut json).ok()?;
    let json = json.get(..len)?;
    // serde accepts an array for a struct too.
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let claims: Claims<'_> = serde_json::from_slice(json).ok()?;
    Some(Dates { expires: seconds(claims.exp?)?, issued: claims.iat.and_then(seconds) })
}

/// A number of seconds, whole or not, as a JSON number or a string of one. Saturates at zero and at the
/// maximum.
pub(crate) fn seconds(json: &RawValue) -> Option<u64> {
    let text = json.get();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    // Rust parses "inf" and "nan" as numbers too.
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|number| number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    fn expiry(token: &[u8]) -> Option<u64> {
        dates(token).map(|dates| dates.expires)
    }

    #[test]
    fn iat_is_used_if_it_is_a_number() {
        for (claims, expected) in [
            (r#"{"exp":9,"iat":5}"#, Some(5)),
            (r#"{"iat":"5","exp":9}"#, Some(5)),
            (r#"{"exp":9}"#, None),
            (r#"{"exp":9,"iat":null}"#, None),
            (r#"{"exp":9,"iat":[5]}"#, None),
        ] {
            let dates = dates(&jwt(claims)).unwrap();
            assert_eq!((dates.expires, dates.issued), (9, expected), "{claims}");
        }
    }

    fn jwt(claims: &str) -> Vec<u8> {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)).into_bytes()
    }

    #[test]
    fn exp_in_every_form_of_a_number() {
        for (claims, expected) in [
            (r#"{"exp":1700000000}"#, Some(1_700_000_000)),
            (r#"{"exp":1700000000.9}"#, Some(1_700_000_000)),
            (r#"{"exp":1.7e9}"#, Some(1_700_000_000)),
            (r#"{"exp":"1700000000"}"#, Some(1_700_000_000)),
            (r#"{"exp":0}"#, Some(0)),
            (r#"{"exp":-5}"#, Some(0)),
            (r#"{"exp":-5.5}"#, Some(0)),
            (r#"{"exp":18446744073709551615}"#, Some(u64::MAX)),
            (r#"{"exp":1e300}"#, Some(u64::MAX)),
            (r#"{"exp":1e9999}"#, Some(u64::MAX)),
            (r#"{"iss":"9999","sub":"a"}"#, None),
            (r#"{"exp":null}"#, None),
            (r#"{"exp":true}"#, None),
            (r#"{"exp":"soon"}"#, None),
            (r#"{"exp":"inf"}"#, None),
            (r#"{"exp":"nan"}"#, None),
            (r#"{"exp":""}"#, None),
            (r#"{"exp":[1]}"#, None),
            (r#"{"exp":{"exp":1}}"#, None),
            // Ambiguous.
            (r#"{"exp":1,"exp":2}"#, None),
            (r#"{"EXP":1}"#, None),
            (r#"{"other":{"exp":1}}"#, None),
            (r#"["exp",1]"#, None),
            ("[5]", None),
            ("", None),
        ] {
            assert_eq!(expiry(&jwt(claims)), expected, "{claims}");
        }
    }

    #[test]
    fn a_token_that_is_not_a_jwt_has_no_dates() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"exp":1}"#);
        for token in [
            payload.clone(),
            format!("a.{payload}"),
            format!("a.{payload}.b.c"),
            format!("a.{payload}~.b"),
            "..".into(),
            "...".into(),
            ".".into(),
            String::new(),
        ] {
            assert_eq!(expiry(token.as_bytes()), None, "{token}");
        }
        let padded = PADDED.encode(r#"{"exp":10}"#);
        assert!(padded.ends_with('='));
        assert_eq!(expiry(format!("a.{padded}.b").as_bytes()), Some(10));
    }

    #[test]
    fn depth_uses_no_stack() {
        let deep = format!(r#"{{"x":{}{},"exp":7}}"#, "[".repeat(3000), "]".repeat(3000));
        assert_eq!(expiry(&jwt(&deep)), Some(7));
    }

    proptest! {
        #[test]
        fn any_bytes(token in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = dates(&token);
        }

        #[test]
        fn any_claims(claims in "\\PC{0,60}") {
            let _ = dates(&jwt(&claims));
        }

        #[test]
        fn every_number(exp in any::<u64>()) {
            prop_assert_eq!(expiry(&jwt(&format!(r#"{{"exp":{exp}}}"#))), Some(exp));
        }
    }
}
