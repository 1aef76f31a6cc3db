//! The one error type of the library.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The kind of an error, by which a caller decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A number or a text is out of range.
    InvalidArgument,
    /// The user id is not 1 to 128 bytes of `A-Z a-z 0-9 . _ -`.
    InvalidUserId,
    /// The application id is empty, too long, or not printable ASCII.
    InvalidApplicationId,
    /// The HMAC key is empty or too long.
    InvalidKey,
    /// The signature is not 64 hexadecimal characters.
    InvalidSignature,
    /// The URL cannot be used.
    InvalidUrl,
    /// The client has no HMAC key and cannot sign.
    KeyRequired,
    /// The signature is well formed but does not match the user id.
    SignatureMismatch,
    /// The configuration has no application id.
    IncompleteConfig,
    /// The cache holds no token for this user.
    NotCached,
    /// An environment variable has an invalid value.
    InvalidEnvironment,
    /// The client is closed.
    Closed,
    /// There are no usable TLS roots.
    TlsRoots,
    /// A file that an environment variable names cannot be used.
    File,
    /// The host name could not be resolved.
    Resolve,
    /// No connection could be established.
    Connect,
    /// The TLS handshake or the certificate check failed.
    Tls,
    /// The deadline of the call has passed.
    Timeout,
    /// The connection ended before the response was complete.
    ConnectionLost,
    /// The proxy is unreachable or refused the connection.
    Proxy,
    /// The call was cancelled.
    Cancelled,
    /// The store that processes share cannot be used.
    Store,
    /// The service refused the request (400, 404, 405, 413, 415, 422).
    Refused,
    /// The service rejected the signature (401).
    Unauthorized,
    /// The service denied access (403).
    Forbidden,
    /// Too many requests (429).
    RateLimited,
    /// The service failed (408, 425, 5xx).
    ServerError,
    /// An unexpected status of the service (3xx and all others).
    UnexpectedStatus,
    /// The response contains no usable token.
    InvalidResponse,
    /// The response is too large.
    ResponseTooLarge,
    /// The new token is the rejected one again, or was rejected too.
    TokenRejected,
    /// An internal failure, such as a failed system call.
    Internal,
}

/// An error: its kind, a message, and the facts of the HTTP exchange.
///
/// The message says what failed and what to do about it. It never contains a key, a signature, a token, or
/// the user id, even if the server's response does.
#[derive(Clone)]
pub struct Error(Box<Facts>); // boxed to keep `Result` small

#[derive(Clone)]
struct Facts {
    kind: ErrorKind,
    message: Cow<'static, str>,
    /// The length of the message's first part, which says what failed.
    what_len: usize,
    http_status: Option<u16>,
    retry_after: Option<Duration>,
    attempts: u32,
    retryable: bool,
    timed_out: bool,
}

impl Error {
    /// An error without a request, not retryable.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_message(kind, message.into())
    }

    #[cold] // and so not repeated wherever something fails
    #[inline(never)]
    fn with_message(kind: ErrorKind, message: Cow<'static, str>) -> Self {
        Self(Box::new(Facts {
            kind,
            what_len: message.len(),
            message,
            http_status: None,
            retry_after: None,
            attempts: 0,
            retryable: false,
            timed_out: false,
        }))
    }

    /// Adds a sentence to the message: what to do about it.
    #[cold]
    #[inline(never)]
    pub(crate) fn with_cure(mut self, cure: &str) -> Self {
        self.0.message = format!("{}. {cure}", self.0.message).into();
        self
    }

    /// The message without its cure.
    pub(crate) fn what(&self) -> &str {
        self.0.message.get(..self.0.what_len).unwrap_or_default()
    }

    /// What to do about it, where the message says that in a sentence of its own.
    pub(crate) fn cure(&self) -> Option<&str> {
        self.0.message.get(self.0.what_len..)?.strip_prefix(". ")
    }

    pub(crate) fn with_http_status(mut self, status: u16) -> Self {
        self.0.http_status = Some(status);
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    pub(crate) fn with_attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    pub(crate) fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Marks an error whose cause is a timeout of a part of the call.
    pub(crate) fn with_timed_out(mut self) -> Self {
        self.0.timed_out = true;
        self
    }

    pub(crate) fn timed_out(&self) -> bool {
        self.0.timed_out
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(
            ErrorKind::Cancelled,
            "The call was cancelled. Its handle stays cancelled: make a new one to call again.",
        )
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "The client is closed. Make a new one for further calls.")
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What failed and what to do about it, without secrets.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The status code of the HTTP response, if there was one.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// How long to wait before a retry, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// How many requests were sent for this result.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        self.0.retryable
    }
}

/// Rounds up, so that a wait never ends early.
pub(crate) fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(time.as_nanos().div_ceil(1_000_000) as u64)
}

/// `text` cut to at most `max` bytes, at a character boundary.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("http_status", &self.0.http_status)
            .field("retry_after", &self.0.retry_after)
            .field("attempts", &self.0.attempts)
            .field("retryable", &self.0.retryable)
            .finish()
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character_boundary() {
        assert_eq!(
            [0, 1, 2, 3, 9].map(|max| cut("a\u{e9}b", max)),
            ["", "a", "a", "a\u{e9}", "a\u{e9}b"]
        );
    }

    #[test]
    fn a_cure_is_a_sentence_of_its_own() {
        let error = Error::new(ErrorKind::Connect, "It failed. Check 1").with_cure("Check 2.");
        assert_eq!(error.message(), "It failed. Check 1. Check 2.");
        assert_eq!(error.what(), "It failed. Check 1");
        assert_eq!(error.cure(), Some("Check 2."));
        assert_eq!(Error::new(ErrorKind::Connect, "It failed.").cure(), None);
    }

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(whole_ms(Duration::from_nanos(1)), Duration::from_millis(1));
        assert_eq!(whole_ms(Duration::from_millis(7)), Duration::from_millis(7));
        assert_eq!(whole_ms(Duration::ZERO), Duration::ZERO);
    }
}
