//! Status numbers: their names, what each means, and which error of the core is which.

use std::ffi::{CStr, c_char};

use crate::error::ErrorKind;

/// A status as functions return it: one of `enum spike_auth_status`, or a number that a later version
/// added.
pub type spike_auth_status_t = i32;

/// The statuses by name. Numbers are never reused and never change. A newer library may return one that
/// is not listed here: treat it as a failure, and ask spike_auth_status_text().
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum spike_auth_status {
    /// It worked.
    Ok = 0,
    // The caller's mistake; nothing was sent.
    /// A pointer that is required is NULL.
    NullPointer = 1,
    /// A length, a number or a constant is out of its range.
    InvalidArgument = 2,
    /// The user id is not 1 to 128 of A-Z a-z 0-9 . _ -
    InvalidUserId = 3,
    /// The application id is not 1 to 64 printable ASCII characters without spaces.
    InvalidApplicationId = 4,
    /// The HMAC key does not have 1 to 4096 bytes.
    InvalidKey = 5,
    /// A signature is not 64 hexadecimal characters.
    InvalidSignature = 6,
    /// The URL cannot be used: not parsable, user info in it, or http to another machine.
    InvalidUrl = 7,
    /// The buffer is too small; its length argument, or the message, says what is needed.
    BufferTooSmall = 8,
    /// The client has no HMAC key and was asked to sign.
    KeyRequired = 9,
    /// The signature is well formed but not the one of this user id.
    SignatureMismatch = 10,
    /// The configuration lacks the application id.
    IncompleteConfig = 11,
    /// There is no token for this user in the cache.
    NotCached = 12,
    /// An environment variable has a bad value; the message names it.
    InvalidEnvironment = 13,
    /// The client was closed.
    Closed = 14,
    // This machine.
    /// There are no usable TLS roots, or the CA certificates given cannot be read.
    TlsRoots = 20,
    /// A file that an environment variable names cannot be used.
    File = 21,
    // The network.
    /// The host's name was not found.
    Resolve = 40,
    /// No connection could be made.
    Connect = 41,
    /// The certificate or the TLS handshake failed.
    Tls = 42,
    /// The deadline of the call passed.
    Timeout = 43,
    /// The connection ended before the whole reply was there.
    ConnectionLost = 44,
    /// The proxy could not be reached, or refused.
    Proxy = 45,
    /// The call was cancelled.
    Cancelled = 46,
    // The service answered.
    /// The service refused the request (400, 404, 405, 413, 415, 422).
    Refused = 60,
    /// The service refused the signature (401).
    Unauthorized = 61,
    /// The service forbade the request (403).
    Forbidden = 62,
    /// Too many requests (429).
    RateLimited = 63,
    /// The service failed (408, 425, 5xx).
    ServerError = 64,
    /// A status that the service is not known to answer with (3xx and all others).
    UnexpectedStatus = 65,
    /// The reply holds no usable token.
    InvalidResponse = 66,
    /// The reply is larger than any token needs.
    ResponseTooLarge = 67,
    /// The new token equals the one just reported as rejected, or was reported too.
    TokenRejected = 68,
    // Should not happen.
    /// Something failed that should not be able to, such as a system call.
    Internal = 90,
    /// A bug of the library: it panicked, and the panic was caught.
    Panic = 91,
}

impl From<ErrorKind> for spike_auth_status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => Self::InvalidArgument,
            ErrorKind::InvalidUserId => Self::InvalidUserId,
            ErrorKind::InvalidApplicationId => Self::InvalidApplicationId,
            ErrorKind::InvalidKey => Self::InvalidKey,
            ErrorKind::InvalidSignature => Self::InvalidSignature,
            ErrorKind::InvalidUrl => Self::InvalidUrl,
            ErrorKind::KeyRequired => Self::KeyRequired,
            ErrorKind::SignatureMismatch => Self::SignatureMismatch,
            ErrorKind::IncompleteConfig => Self::IncompleteConfig,
            ErrorKind::NotCached => Self::NotCached,
            ErrorKind::InvalidEnvironment => Self::InvalidEnvironment,
            ErrorKind::Closed => Self::Closed,
            ErrorKind::TlsRoots => Self::TlsRoots,
            ErrorKind::File => Self::File,
            ErrorKind::Resolve => Self::Resolve,
            ErrorKind::Connect => Self::Connect,
            ErrorKind::Tls => Self::Tls,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::ConnectionLost => Self::ConnectionLost,
            ErrorKind::Proxy => Self::Proxy,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Unauthorized => Self::Unauthorized,
            ErrorKind::Forbidden => Self::Forbidden,
            ErrorKind::RateLimited => Self::RateLimited,
            ErrorKind::ServerError => Self::ServerError,
            ErrorKind::UnexpectedStatus => Self::UnexpectedStatus,
            ErrorKind::InvalidResponse => Self::InvalidResponse,
            ErrorKind::ResponseTooLarge => Self::ResponseTooLarge,
            ErrorKind::TokenRejected => Self::TokenRejected,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

/// The name of a status, such as "SPIKE_AUTH_STATUS_TIMEOUT"; "unknown" for a number that is none.
/// Static: never free it.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_status_name(status: spike_auth_status_t) -> *const c_char {
    find(status).map_or(c"unknown", |row| row.1).as_ptr()
}

/// What a status means, in one sentence of English. Static: never free it. The message of a
/// spike_auth_error says more, and what to do about it.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_status_text(status: spike_auth_status_t) -> *const c_char {
    find(status)
        .map_or(c"A status that this version of libspike_auth does not know.", |row| row.2)
        .as_ptr()
}

type Row = (spike_auth_status, &'static CStr, &'static CStr);

fn find(status: spike_auth_status_t) -> Option<&'static Row> {
    STATUSES.iter().find(|row| row.0 as i32 == status)
}

/// The names and the meanings once more, as text; a test compares both with the header.
#[rustfmt::skip] // a table, a row a line
const STATUSES: &[Row] = {
    use spike_auth_status as Status;
    &[
        (Status::Ok, c"SPIKE_AUTH_STATUS_OK", c"It worked."),
        (Status::NullPointer, c"SPIKE_AUTH_STATUS_NULL_POINTER", c"A pointer that is required is NULL."),
        (Status::InvalidArgument, c"SPIKE_AUTH_STATUS_INVALID_ARGUMENT", c"A length, a number or a constant is out of its range."),
        (Status::InvalidUserId, c"SPIKE_AUTH_STATUS_INVALID_USER_ID", c"The user id is not 1 to 128 of A-Z a-z 0-9 . _ -"),
        (Status::InvalidApplicationId, c"SPIKE_AUTH_STATUS_INVALID_APPLICATION_ID", c"The application id is not 1 to 64 printable ASCII characters without spaces."),
        (Status::InvalidKey, c"SPIKE_AUTH_STATUS_INVALID_KEY", c"The HMAC key does not have 1 to 4096 bytes."),
        (Status::InvalidSignature, c"SPIKE_AUTH_STATUS_INVALID_SIGNATURE", c"A signature is not 64 hexadecimal characters."),
        (Status::InvalidUrl, c"SPIKE_AUTH_STATUS_INVALID_URL", c"The URL cannot be used: not parsable, user info in it, or http to another machine."),
        (Status::BufferTooSmall, c"SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL", c"The buffer is too small; its length argument, or the message, says what is needed."),
        (Status::KeyRequired, c"SPIKE_AUTH_STATUS_KEY_REQUIRED", c"The client has no HMAC key and was asked to sign."),
        (Status::SignatureMismatch, c"SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH", c"The signature is well formed but not the one of this user id."),
        (Status::IncompleteConfig, c"SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG", c"The configuration lacks the application id."),
        (Status::NotCached, c"SPIKE_AUTH_STATUS_NOT_CACHED", c"There is no token for this user in the cache."),
        (Status::InvalidEnvironment, c"SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT", c"An environment variable has a bad value; the message names it."),
        (Status::Closed, c"SPIKE_AUTH_STATUS_CLOSED", c"The client was closed."),
        (Status::TlsRoots, c"SPIKE_AUTH_STATUS_TLS_ROOTS", c"There are no usable TLS roots, or the CA certificates given cannot be read."),
        (Status::File, c"SPIKE_AUTH_STATUS_FILE", c"A file that an environment variable names cannot be used."),
        (Status::Resolve, c"SPIKE_AUTH_STATUS_RESOLVE", c"The host's name was not found."),
        (Status::Connect, c"SPIKE_AUTH_STATUS_CONNECT", c"No connection could be made."),
        (Status::Tls, c"SPIKE_AUTH_STATUS_TLS", c"The certificate or the TLS handshake failed."),
        (Status::Timeout, c"SPIKE_AUTH_STATUS_TIMEOUT", c"The deadline of the call passed."),
        (Status::ConnectionLost, c"SPIKE_AUTH_STATUS_CONNECTION_LOST", c"The connection ended before the whole reply was there."),
        (Status::Proxy, c"SPIKE_AUTH_STATUS_PROXY", c"The proxy could not be reached, or refused."),
        (Status::Cancelled, c"SPIKE_AUTH_STATUS_CANCELLED", c"The call was cancelled."),
        (Status::Refused, c"SPIKE_AUTH_STATUS_REFUSED", c"The service refused the request (400, 404, 405, 413, 415, 422)."),
        (Status::Unauthorized, c"SPIKE_AUTH_STATUS_UNAUTHORIZED", c"The service refused the signature (401)."),
        (Status::Forbidden, c"SPIKE_AUTH_STATUS_FORBIDDEN", c"The service forbade the request (403)."),
        (Status::RateLimited, c"SPIKE_AUTH_STATUS_RATE_LIMITED", c"Too many requests (429)."),
        (Status::ServerError, c"SPIKE_AUTH_STATUS_SERVER_ERROR", c"The service failed (408, 425, 5xx)."),
        (Status::UnexpectedStatus, c"SPIKE_AUTH_STATUS_UNEXPECTED_STATUS", c"A status that the service is not known to answer with (3xx and all others)."),
        (Status::InvalidResponse, c"SPIKE_AUTH_STATUS_INVALID_RESPONSE", c"The reply holds no usable token."),
        (Status::ResponseTooLarge, c"SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE", c"The reply is larger than any token needs."),
        (Status::TokenRejected, c"SPIKE_AUTH_STATUS_TOKEN_REJECTED", c"The new token equals the one just reported as rejected, or was reported too."),
        (Status::Internal, c"SPIKE_AUTH_STATUS_INTERNAL", c"Something failed that should not be able to, such as a system call."),
        (Status::Panic, c"SPIKE_AUTH_STATUS_PANIC", c"A bug of the library: it panicked, and the panic was caught."),
    ]
};
