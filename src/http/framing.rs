//! How the body of a reply is framed and encoded: what is read, and what is refused before anything waits
//! for more of it.

use ::http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, TRANSFER_ENCODING};
use ::http::{Response, Version};

use super::errors::{connection_lost, too_large};
use crate::error::{Error, ErrorKind, cut};

/// Whether the body comes in chunks, as the head says; or why it must not be read. No coding was asked
/// for, and chunks are what every HTTP/1.1 client reads (RFC 9112, 6.1 and 7).
pub(crate) fn is_chunked<T>(response: &Response<T>) -> Result<bool, Error> {
    let headers = response.headers();
    let mut codings =
        elements(headers, TRANSFER_ENCODING).filter(|coding| !is(coding, "identity")).peekable();
    if codings.peek().is_none() {
        return Ok(false);
    }
    if response.version() == Version::HTTP_10 {
        return Err(unreadable("it has a Transfer-Encoding, which HTTP/1.0 does not know"));
    }
    // Some say it twice and do it once.
    if codings.all(|coding| is(coding, "chunked")) {
        return Ok(true);
    }
    Err(unreadable("its Transfer-Encoding is another than chunked, which was not asked for"))
}

/// What the content was encoded with, in words of our own.
pub(crate) fn content_encoding(headers: &HeaderMap) -> Option<&'static str> {
    const KNOWN: [&str; 7] = ["gzip", "x-gzip", "deflate", "compress", "br", "zstd", "aws-chunked"];
    let coding = elements(headers, CONTENT_ENCODING).find(|coding| !is(coding, "identity"))?;
    let known = KNOWN.into_iter().find(|known| is(coding, known));
    Some(known.unwrap_or("one that is not known"))
}

/// The elements of all lines of a list (RFC 9110, 5.6.1).
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
    unreadable("a line of its chunks ends in a line feed or a carriage return alone")
}

/// An error that ureq found by itself: in the reply's HTTP, or at the end of the connection.
pub(crate) fn translate(error: &ureq::Error) -> Error {
    match error {
        ureq::Error::Io(error) => connection_lost(cut(&error.to_string(), 100)),
        ureq::Error::BodyStalled => connection_lost("the reply ends in the middle"),
        ureq::Error::LargeResponseHeader(..) => too_large(),
        // ureq-proto's own error type cannot be named here; some of its texts quote the reply.
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
        "its Content-Length is no number, or there are two that differ"
    } else if text.contains("100-continue") {
        "a 100 Continue with headers stands before it"
    } else {
        "it is not valid HTTP"
    })
}

fn unreadable(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidResponse,
        format!(
            "The reply cannot be read: {why}. Check that the base URL is the service's, and that nothing \
             between answers in its place."
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
    fn chunks_are_read_from_http_1_1_and_no_other_coding_is() {
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
    fn a_content_encoding_is_named_by_words_of_our_own() {
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
            ("canary-secret", Some("one that is not known")),
        ] {
            assert_eq!(named(line), name, "{line}");
        }
    }
}
