//! The status numbers, their names and texts, and their errors of the core.

use std::ffi::{CStr, c_char};

use crate::error::ErrorKind;

/// A status as functions return it: a value of `enum spike_auth_status`, or a number of a later version.
pub type spike_auth_status_t = i32;

/// The statuses. Their numbers never change and are never reused. A newer library may return a number that
/// is not listed here: treat it as a failure, and call spike_auth_status_text().
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum spike_auth_status {
    /// Success.
    Ok = 0,
    // Errors of the caller; nothing was sent.
    /// A required pointer is NULL.
    NullPointer = 1,
    /// A length, a number or a constant is out of range.
    InvalidArgument = 2,
    /// The user id is not 1 to 128 bytes of A-Z a-z 0-9 . _ -
    InvalidUserId = 3,
    /// The application id is not 1 to 64 printable ASCII characters without spaces.
    InvalidApplicationId = 4,
    /// The HMAC key is not 1 to 4096 bytes long.
    InvalidKey = 5,
    /// The signature is not 64 hexadecimal characters.
    InvalidSignature = 6,
    /// The URL cannot be parsed, contains user info, or is http to another machine.
    InvalidUrl = 7,
    /// The buffer is too small; its length argument or the message says how much is needed.
    BufferTooSmall = 8,
    /// The client has no HMAC key and cannot sign.
    KeyRequired = 9,
    /// The signature is well formed but does not match the user id.
    SignatureMismatch = 10,
    /// The configuration has no application id.
    IncompleteConfig = 11,
    /// The cache holds no token for this user.
    NotCached = 12,
    /// An environment variable has an invalid value; the message names it.
    InvalidEnvironment = 13,
    /// The client is closed.
    Closed = 14,
    /// The started call has not ended.
    Pending = 15,
    // Errors of this machine.
    /// There are no usable TLS roots, or the given CA certificates cannot be read.
    TlsRoots = 20,
    /// A file that an environment variable names cannot be used.
    File = 21,
    // Errors of the network.
    /// The host name could not be resolved.
    Resolve = 40,
    /// No connection could be established.
    Connect = 41,
    /// The TLS handshake or the certificate check failed.
    Tls = 42,
    /// The deadline of the call has passed.
    Timeout = 43,
    /// The connection ended before the response was complete.
    ConnectionLost = 44,
    /// The proxy is unreachable or refused the connection.
    Proxy = 45,
    /// The call was cancelled.
    Cancelled = 46,
    /// The store that processes share cannot be used.
    Store = 47,
    // Answers of the service.
    /// The service refused the request (400, 404, 405, 413, 415, 422).
    Refused = 60,
    /// The service rejected the signature (401).
    Unauthorized = 61,
    /// The service denied access (403).
    Forbidden = 62,
    /// Too many requests (429).
    RateLimited = 63,
    /// The service failed (408, 425, 5xx).
    ServerError = 64,
    /// The service answered with an unexpected status (3xx and all others).
    UnexpectedStatus = 65,
    /// The response contains no usable token.
    InvalidResponse = 66,
    /// The response is too large.
    ResponseTooLarge = 67,
    /// The new token is the rejected one again, or was rejected too.
    TokenRejected = 68,
    // Unexpected errors.
    /// An internal failure, such as a failed system call.
    Internal = 90,
    /// A bug in the library: it panicked, and the panic was caught.
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
            ErrorKind::Store => Self::Store,
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

/// Returns the name of a status, such as "SPIKE_AUTH_STATUS_TIMEOUT", or "unknown". The string is static: do
/// not free it.
#[unsafe(no_mangle)]
pub extern "C" fn spike_auth_status_name(status: spike_auth_status_t) -> *const c_char {
    find(status).map_or(c"unknown", |row| row.1).as_ptr()
}

/// Returns the meaning of a status, one English sentence. The string is static: do not free it. The message
/// of a spike_auth_error says more, and what to do.
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

/// The names and meanings as text; a test compares them with the header.
#[rustfmt::skip] // one line per row
const STATUSES: &[Row] = {
    use spike_auth_status as Status;
    &[
        (Status::Ok, c"SPIKE_AUTH_STATUS_OK", c"Success."),
        (Status::NullPointer, c"SPIKE_AUTH_STATUS_NULL_POINTER", c"A required pointer is NULL."),
        (Status::InvalidArgument, c"SPIKE_AUTH_STATUS_INVALID_ARGUMENT", c"A length, a number or a constant is out of range."),
        (Status::InvalidUserId, c"SPIKE_AUTH_STATUS_INVALID_USER_ID", c"The user id is not 1 to 128 bytes of A-Z a-z 0-9 . _ -"),
        (Status::InvalidApplicationId, c"SPIKE_AUTH_STATUS_INVALID_APPLICATION_ID", c"The application id is not 1 to 64 printable ASCII characters without spaces."),
        (Status::InvalidKey, c"SPIKE_AUTH_STATUS_INVALID_KEY", c"The HMAC key is not 1 to 4096 bytes long."),
        (Status::InvalidSignature, c"SPIKE_AUTH_STATUS_INVALID_SIGNATURE", c"The signature is not 64 hexadecimal characters."),
        (Status::InvalidUrl, c"SPIKE_AUTH_STATUS_INVALID_URL", c"The URL cannot be parsed, contains user info, or is http to another machine."),
        (Status::BufferTooSmall, c"SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL", c"The buffer is too small; its length argument or the message says how much is needed."),
        (Status::KeyRequired, c"SPIKE_AUTH_STATUS_KEY_REQUIRED", c"The client has no HMAC key and cannot sign."),
        (Status::SignatureMismatch, c"SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH", c"The signature is well formed but does not match the user id."),
        (Status::IncompleteConfig, c"SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG", c"The configuration has no application id."),
        (Status::NotCached, c"SPIKE_AUTH_STATUS_NOT_CACHED", c"The cache holds no token for this user."),
        (Status::InvalidEnvironment, c"SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT", c"An environment variable has an invalid value; the message names it."),
        (Status::Closed, c"SPIKE_AUTH_STATUS_CLOSED", c"The client is closed."),
        (Status::Pending, c"SPIKE_AUTH_STATUS_PENDING", c"The started call has not ended."),
        (Status::TlsRoots, c"SPIKE_AUTH_STATUS_TLS_ROOTS", c"There are no usable TLS roots, or the given CA certificates cannot be read."),
        (Status::File, c"SPIKE_AUTH_STATUS_FILE", c"A file that an environment variable names cannot be used."),
        (Status::Resolve, c"SPIKE_AUTH_STATUS_RESOLVE", c"The host name could not be resolved."),
        (Status::Connect, c"SPIKE_AUTH_STATUS_CONNECT", c"No connection could be established."),
        (Status::Tls, c"SPIKE_AUTH_STATUS_TLS", c"The TLS handshake or the certificate check failed."),
        (Status::Timeout, c"SPIKE_AUTH_STATUS_TIMEOUT", c"The deadline of the call has passed."),
        (Status::ConnectionLost, c"SPIKE_AUTH_STATUS_CONNECTION_LOST", c"The connection ended before the response was complete."),
        (Status::Proxy, c"SPIKE_AUTH_STATUS_PROXY", c"The proxy is unreachable or refused the connection."),
        (Status::Cancelled, c"SPIKE_AUTH_STATUS_CANCELLED", c"The call was cancelled."),
        (Status::Store, c"SPIKE_AUTH_STATUS_STORE", c"The store that processes share cannot be used."),
        (Status::Refused, c"SPIKE_AUTH_STATUS_REFUSED", c"The service refused the request (400, 404, 405, 413, 415, 422)."),
        (Status::Unauthorized, c"SPIKE_AUTH_STATUS_UNAUTHORIZED", c"The service rejected the signature (401)."),
        (Status::Forbidden, c"SPIKE_AUTH_STATUS_FORBIDDEN", c"The service denied access (403)."),
        (Status::RateLimited, c"SPIKE_AUTH_STATUS_RATE_LIMITED", c"Too many requests (429)."),
        (Status::ServerError, c"SPIKE_AUTH_STATUS_SERVER_ERROR", c"The service failed (408, 425, 5xx)."),
        (Status::UnexpectedStatus, c"SPIKE_AUTH_STATUS_UNEXPECTED_STATUS", c"The service answered with an unexpected status (3xx and all others)."),
        (Status::InvalidResponse, c"SPIKE_AUTH_STATUS_INVALID_RESPONSE", c"The response contains no usable token."),
        (Status::ResponseTooLarge, c"SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE", c"The response is too large."),
        (Status::TokenRejected, c"SPIKE_AUTH_STATUS_TOKEN_REJECTED", c"The new token is the rejected one again, or was rejected too."),
        (Status::Internal, c"SPIKE_AUTH_STATUS_INTERNAL", c"An internal failure, such as a failed system call."),
        (Status::Panic, c"SPIKE_AUTH_STATUS_PANIC", c"A bug in the library: it panicked, and the panic was caught."),
    ]
};
