//! The framing and encoding of a response body, and the errors of ureq.

use ::http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, TRANSFER_ENCODING};
use ::http::{Response, Version};

use super::errors::{connection_lost, too_large};
use crate::error::{Error, ErrorKind, cut};

/// Whether the head announces a chunked body. Fails for another coding: none was requested, and every
/// HTTP/1.1 client reads chunks (RFC 9112, 6.1 and 7).
pub(crate) fn is_chunked<T>(response: &Response<T>) -> Result<bool, Error> {
    let headers = response.headers();
    let mut codings =
        elements(headers, TRANSFER_ENCODING).filter(|coding| !is(coding, "identity")).peekable();
    if codings.peek().is_none() {
        return Ok(false);
    }
    if response.version() == Version::HTTP_10 {
        return Err(unreadable("it has a Transfer-Encoding, which HTTP/1.0 does not support"));
    }
    // Some servers announce it twice and apply it once.
    if codings.all(|coding| is(coding, "chunked")) {
        return Ok(true);
    }
    Err(unreadable("its Transfer-Encoding is not chunked, and no other was requested"))
}

/// The name of the content encoding, from a fixed list, so that it is safe to show.
pub(crate) fn content_encoding(headers: &HeaderMap) -> Option<&'static str> {
    const KNOWN: [&str; 7] = ["gzip", "x-gzip", "deflate", "compress", "br", "zstd", "aws-chunked"];
    let coding = elements(headers, CONTENT_ENCODING).find(|coding| !is(coding, "identity"))?;
    let known = KNOWN.into_iter().find(|known| is(coding, known));
    Some(known.unwrap_or("an unknown one"))
}

/// The elements of a list header, from all its lines (RFC 9110, 5.6.1).
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

fn is(coding: &[u8], name: &str) -> bool {
    coding.eq_ignore_ascii_case(name.as_bytes())
}

pub(crate) fn bare_line_end() -> Error {
    unreadable("a line of its chunks ends with a line feed or a carriage return alone")
}

/// An error that ureq itself found in the response or at the end of the connection.
pub(crate) fn translate(error: &ureq::Error) -> Error {
    match error {
        ureq::Error::Io(error) => connection_lost(cut(&error.to_string(), 100)),
        ureq::Error::BodyStalled => connection_lost("the response is incomplete"),
        ureq::Error::LargeResponseHeader(..) => too_large(),
        // The error type of ureq-proto cannot be named here, and some of its texts quote the response.
        ureq::Error::Protocol(error) => of_protocol(&error.to_string()),
        ureq::Error::Http(_) => unreadable("it is not valid HTTP"),
        other => Error::new(
            ErrorKind::Internal,
            format!("The HTTP layer failed: {}.", cut(&other.to_string(), 100)),
        ),
    }
}

fn of_protocol(text: &str) -> Error {
    if text.contains("too many headers") {
        return too_large();
    }
    unreadable(if text.starts_with("chunk") {
        "its chunks are malformed, or have long extensions"
    } else if text.contains("content-length") {
        "its Content-Length is not a number, or there are two different ones"
    } else if text.contains("100-continue") {
        "a 100 Continue with headers precedes it"
    } else {
        "it is not valid HTTP"
    })
}

fn unreadable(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidResponse,
        format!(
            "The response cannot be read: {why}. Check that the base URL is the service's, and that nothing \
             in between answers instead."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(version: Version, lines: &[&str]) -> Result<bool, String> {
        let mut response = Response::builder().version(version);
        for line in lines {
            response = response.header(TRANSFER_ENCODING, *line);
        }
        is_chunked(&response.body(()).unwrap()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn only_chunked_http_1_1_bodies_are_accepted() {
        let of = |lines: &[&str]| chunked(Version::HTTP_11, lines);
        for none in [&[][..], &["identity"], &["", " , "], &["Identity,identity"]] {
            assert_eq!(of(none), Ok(false), "{none:?}");
            assert_eq!(chunked(Version::HTTP_10, none), Ok(false));
        }
        for chunks in [
            &["chunked"][..],
            &[" CHUNKED "],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["identity, chunked"],
        ] {
            assert_eq!(of(chunks), Ok(true), "{chunks:?}");
            let refusal = chunked(Version::HTTP_10, chunks).unwrap_err();
            assert!(refusal.contains("HTTP/1.0"), "{refusal}");
        }
        for other in [
            &["gzip"][..],
            &["gzip, chunked"],
            &["chunked", "gzip"],
            &["chunked;q=1"],
            &["xchunked"],
            &["chunked\u{e9}"],
        ] {
            let refusal = of(other).unwrap_err();
            assert!(refusal.contains("Transfer-Encoding"), "{other:?}: {refusal}");
        }
    }

    #[test]
    fn a_content_encoding_is_named_from_a_fixed_list() {
        let named = |line: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, line.parse().unwrap());
            content_encoding(&headers)
        };
        assert_eq!(content_encoding(&HeaderMap::new()), None);
        for (line, name) in [
            ("", None),
            ("identity", None),
            ("GZIP", Some("gzip")),
            ("identity, br", Some("br")),
            ("canary-secret", Some("an unknown one")),
        ] {
            assert_eq!(named(line), name, "{line}");
        }
    }
}
