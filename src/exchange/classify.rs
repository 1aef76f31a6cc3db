//! The meaning of a response: the table of `POST /v3/auth/hmac`'s statuses, and what to do about each.

use std::time::SystemTime;

use ::http::StatusCode;

use super::reply::{self, InvalidBody};
use super::{SignedUser, problem, retry_after};
use crate::error::{Error, ErrorKind};
use crate::http::{Response, connection_lost};
use crate::token::TokenResponse;

/// The token in `response`, or the failure that it stands for.
pub(crate) fn classify(response: Response, user: &SignedUser<'_>) -> Result<TokenResponse, Error> {
    if response.status == 200 {
        let status = response.status;
        return accept(response).map_err(|error| error.with_http_status(status));
    }
    Err(refuse(response, user))
}

fn accept(response: Response) -> Result<TokenResponse, Error> {
    let body = response.body?;
    let read = reply::read(&body).map_err(|why| match (why, response.content_encoding) {
        // With a Content-Length the body is complete: then it is the server that stopped short.
        (InvalidBody::CutShort, _) if response.ends_with_connection => {
            connection_lost("the response ends in the middle")
        }
        // Never decoded: none was asked for.
        (_, Some(coding)) => {
            unusable(&format!("it has a Content-Encoding, which was not asked for: {coding}"))
        }
        (InvalidBody::CutShort, None) => unusable("it is JSON that ends in the middle"),
        (InvalidBody::Because(why), None) => unusable(why),
    })?;
    let now = response
        .date
        .and_then(|date| httpdate::parse_http_date(date.trim()).ok())
        .unwrap_or_else(SystemTime::now);
    Ok(TokenResponse::new(read.token, read.expires_in, now))
}

fn unusable(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidResponse,
        format!("200 OK: the response holds no usable token ({why})"),
    )
    .with_cure(
        "Check that the base URL is the service's, and that nothing in between answers instead.",
    )
}

fn refuse(response: Response, user: &SignedUser<'_>) -> Error {
    let body = match response.body {
        Ok(body) => body,
        // Somebody stopped the call; the status has nothing more to say.
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed) => {
            return error.with_http_status(response.status);
        }
        // The status was told, and that is what counts; the body would have explained it.
        Err(_) => Default::default(),
    };
    let meaning = Meaning::of(response.status);
    let reason =
        StatusCode::from_u16(response.status).ok().and_then(|status| status.canonical_reason());
    let title = reason.map_or(String::new(), |reason| format!(" {reason}"));
    let said = problem::explain(&body, user).map_or(String::new(), |text| format!(" ({text})"));
    let wait = response
        .retry_after
        .and_then(|value| retry_after::parse(&value, response.date.as_deref(), SystemTime::now()));
    let Meaning { kind, what, cure, retryable } = meaning;
    Error::new(kind, format!("{}{title}: {what}{said}", response.status))
        .with_cure(cure)
        .with_http_status(response.status)
        .with_retry_after(wait)
        .with_retryable(retryable)
}

/// A row of the table.
struct Meaning {
    kind: ErrorKind,
    what: &'static str,
    cure: &'static str,
    retryable: bool,
}

impl Meaning {
    fn of(status: u16) -> Self {
        let row = |kind, what, cure, retryable| Self { kind, what, cure, retryable };
        match status {
            401 => row(
                ErrorKind::Unauthorized,
                "the service refused the signature",
                "Check the application id and the HMAC key, and that both belong to the same application.",
                false,
            ),
            403 => row(
                ErrorKind::Forbidden,
                "the service forbade the request",
                "Check in the Spike console what this application may do.",
                false,
            ),
            404 | 405 => {
                row(ErrorKind::Refused, "the service has no such endpoint", CHECK_URL, false)
            }
            400 | 413 | 415 | 422 => row(
                ErrorKind::Refused,
                "the service refused the request",
                "Check the application id and the user id; if both are right, report it as a bug of this library.",
                false,
            ),
            429 => row(
                ErrorKind::RateLimited,
                "too many requests",
                "Wait before the next one, and keep a user's token instead of exchanging for every request.",
                true,
            ),
            408 | 425 | 500 | 502 | 503 | 504 => {
                row(ErrorKind::ServerError, "the service failed for now", "Try again later.", true)
            }
            500..=599 => row(ErrorKind::ServerError, "the service failed", CHECK_URL, false),
            300..=303 | 305..=399 => row(
                ErrorKind::UnexpectedStatus,
                "the response is a redirect, which is not followed because it would send a credential elsewhere",
                CHECK_URL,
                false,
            ),
            _ => row(
                ErrorKind::UnexpectedStatus,
                "the service is not known to send this status",
                CHECK_URL,
                false,
            ),
        }
    }
}

const CHECK_URL: &str = "Check the base URL; the service's is https://app-api.spikeapi.com/v3.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULT_BASE_URL;
    use crate::signing::HmacKey;
    use crate::user_id::UserId;
    use std::time::Duration;
    use zeroize::Zeroizing;

    fn reply(status: u16, body: &str) -> Response {
        Response {
            status,
            requests: 1,
            retry_after: None,
            date: None,
            content_encoding: None,
            body: Ok(Zeroizing::new(body.as_bytes().to_vec())),
            ends_with_connection: false,
        }
    }

    fn classified(response: Response) -> Result<TokenResponse, Error> {
        let user = UserId::new(b"my_application_user_123").unwrap();
        let key = HmacKey::new(b"HMAC_KEY_FROM_ADMIN_CONSOLE").unwrap();
        let signature = key.signature(user);
        classify(response, &SignedUser { user, signature: &signature })
    }

    fn error(response: Response) -> Error {
        classified(response).err().unwrap()
    }

    #[test]
    fn every_status_there_is() {
        for status in 100..=999u16 {
            if status == 200 {
                continue;
            }
            let expected = match status {
                400 | 404 | 405 | 413 | 415 | 422 => ErrorKind::Refused,
                401 => ErrorKind::Unauthorized,
                403 => ErrorKind::Forbidden,
                429 => ErrorKind::RateLimited,
                408 | 425 | 500..=599 => ErrorKind::ServerError,
                _ => ErrorKind::UnexpectedStatus,
            };
            let error = error(reply(status, ""));
            assert_eq!(error.kind(), expected, "{status}");
            assert_eq!(error.http_status(), Some(status));
            let passing = matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504);
            assert_eq!(error.retryable(), passing, "{status}");
        }
    }

    #[test]
    fn the_message_of_a_401_in_full() {
        let error = error(reply(
            401,
            r#"{"title":"Unauthorized","status":401,"detail":"invalid signature"}"#,
        ));
        assert_eq!(
            error.message(),
            "401 Unauthorized: the service refused the signature (invalid signature). Check the application id \
             and the HMAC key, and that both belong to the same application."
        );
    }

    #[test]
    fn every_message_names_the_service_alike() {
        assert!(CHECK_URL.contains(DEFAULT_BASE_URL));
    }

    #[test]
    fn retry_after_is_handed_on() {
        let with = |value: &str| Response { retry_after: Some(value.into()), ..reply(503, "") };
        assert_eq!(error(with("7")).retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(error(with("soon")).retry_after(), None);
    }

    #[test]
    fn a_200_is_only_as_good_as_its_body() {
        assert_eq!(
            classified(reply(200, r#"{"access_token":"abc"}"#)).ok().unwrap().token.as_bytes(),
            b"abc"
        );
        let empty = error(reply(200, ""));
        assert_eq!((empty.kind(), empty.http_status()), (ErrorKind::InvalidResponse, Some(200)));
        let cut = r#"{"access_token":"ab"#;
        assert_eq!(error(reply(200, cut)).kind(), ErrorKind::InvalidResponse);
        let lost = error(Response { ends_with_connection: true, ..reply(200, cut) });
        assert_eq!((lost.kind(), lost.retryable()), (ErrorKind::ConnectionLost, true));
    }

    #[test]
    fn a_content_encoding_is_to_blame_only_where_the_body_cannot_be_read() {
        let encoded = |body| Response { content_encoding: Some("gzip"), ..reply(200, body) };
        assert!(classified(encoded(r#"{"access_token":"abc"}"#)).is_ok());
        let error = error(encoded("\u{1f}\u{8}"));
        assert_eq!(error.kind(), ErrorKind::InvalidResponse);
        assert!(
            error.message().contains("Content-Encoding") && error.message().contains("gzip"),
            "{error}"
        );
    }

    #[test]
    fn a_lifetime_counts_from_the_replys_own_date() {
        // {"exp":1445412540}: one minute after the date
        let body = r#"{"access_token":"e30.eyJleHAiOjE0NDU0MTI1NDB9.c2ln"}"#;
        let dated =
            |date: Option<&str>| Response { date: date.map(Into::into), ..reply(200, body) };
        let lifetime = |response| classified(response).ok().unwrap().lifetime.unwrap().as_secs();
        assert_eq!(lifetime(dated(Some("Wed, 21 Oct 2015 07:28:00 GMT"))), 60);
        assert_eq!(lifetime(dated(Some("Wed, 21 Oct 2015 08:28:00 GMT"))), 0);
        // Without a date that can be read, our own clock; and it is long past 2015.
        assert_eq!(lifetime(dated(Some("yesterday"))), 0);
        assert_eq!(lifetime(dated(None)), 0);
    }

    #[test]
    fn a_body_that_was_lost_costs_only_its_explanation() {
        let lost = Response { body: Err(connection_lost("reset")), ..reply(503, "") };
        assert_eq!(error(lost).kind(), ErrorKind::ServerError);
        let cancelled = Response { body: Err(Error::cancelled()), ..reply(401, "") };
        assert_eq!(error(cancelled).kind(), ErrorKind::Cancelled);
        let timed_out =
            Response { body: Err(Error::new(ErrorKind::Timeout, "")), ..reply(503, "") };
        assert_eq!(error(timed_out).kind(), ErrorKind::ServerError, "the status was told");
    }
}
