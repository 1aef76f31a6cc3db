//! The request body: exactly the three members that the service accepts.

use zeroize::Zeroizing;

use crate::config::ApplicationId;
use crate::signing::{SIGNATURE_LEN, Signature};
use crate::user_id::{USER_ID_MAX, UserId};

const BETWEEN: &[u8] = br#"","signature":""#;
const END: &[u8] = br#""}"#;

/// The part of the body that all users share.
pub(crate) struct RequestBody {
    prefix: Vec<u8>,
}

impl RequestBody {
    pub(crate) fn new(application_id: &ApplicationId) -> Self {
        let prefix =
            format!(r#"{{"application_id":{},"application_user_id":""#, application_id.json());
        Self { prefix: prefix.into_bytes() }
    }

    /// The body for one user, in one allocation, wiped on drop. By their types, neither value contains a
    /// character that JSON has to escape.
    pub(crate) fn with(&self, user: UserId<'_>, signature: &Signature) -> Zeroizing<Vec<u8>> {
        let size = self.prefix.len() + USER_ID_MAX + BETWEEN.len() + SIGNATURE_LEN + END.len();
        let mut body = Zeroizing::new(Vec::with_capacity(size));
        for part in [&self.prefix, user.as_bytes(), BETWEEN, signature.as_bytes(), END] {
            body.extend_from_slice(part);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::HmacKey;

    fn body(application_id: &str, user: &str) -> String {
        let user = UserId::new(user.as_bytes()).unwrap();
        let signature = HmacKey::new(b"HMAC_KEY_FROM_ADMIN_CONSOLE").unwrap().signature(user);
        let application_id = ApplicationId::new(application_id.as_bytes()).unwrap();
        String::from_utf8(RequestBody::new(&application_id).with(user, &signature).to_vec())
            .unwrap()
    }

    #[test]
    fn exactly_three_members() {
        assert_eq!(
            body("9999", "a"),
            r#"{"application_id":9999,"application_user_id":"a","signature":"a8c179bdf15ce1c5e2beab8e4700d0ac66e62b8880870164d9fe2dd0025622f3"}"#
        );
    }

    #[test]
    fn it_is_json_for_any_application_id() {
        for id in ["app", "a\"b", "a\\", "0", "007"] {
            let value: serde_json::Value =
                serde_json::from_str(&body(id, &"A".repeat(128))).unwrap();
            assert_eq!(value.as_object().unwrap().len(), 3);
            let expected = if id == "0" { serde_json::json!(0) } else { serde_json::json!(id) };
            assert_eq!(value["application_id"], expected);
        }
    }
}
