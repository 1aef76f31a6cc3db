package spikeauth

import "strconv"

// A Status is what a call came to, as the library numbers it. Numbers are never reused, and a newer library may return
// one that is not listed here.
//
// Each status is an error, so that it can be the target of [errors.Is].
type Status int32

// The statuses. Up to StatusInvalidEnvironment the call was at fault and nothing was sent; from StatusRefused to
// StatusTokenRejected the service answered, or something in its place.
const (
	StatusOK                   Status = 0  // it worked; never an error
	StatusNullPointer          Status = 1  // never returned to Go
	StatusInvalidArgument      Status = 2  // a number or a constant is out of its range
	StatusInvalidUserID        Status = 3  // the user id is not 1 to 128 of A-Z a-z 0-9 . _ -
	StatusInvalidApplicationID Status = 4  // not 1 to 64 printable ASCII characters without spaces
	StatusInvalidKey           Status = 5  // the HMAC key does not have 1 to 4096 bytes
	StatusInvalidSignature     Status = 6  // a signature is not 64 hexadecimal characters
	StatusInvalidURL           Status = 7  // not parsable, user info in it, or http to another machine
	StatusBufferTooSmall       Status = 8  // never returned to Go
	StatusKeyRequired          Status = 9  // the client has no HMAC key and was asked to sign
	StatusSignatureMismatch    Status = 10 // well formed, but not the signature of this user id
	StatusIncompleteConfig     Status = 11 // there is no application id
	StatusNotCached            Status = 12 // never returned to Go
	StatusInvalidEnvironment   Status = 13 // an environment variable has a bad value; the message names it
	StatusClosed               Status = 14 // the client was closed
	StatusTLSRoots             Status = 20 // no usable trusted roots, or a CA that cannot be read
	StatusFile                 Status = 21 // a file that an environment variable names cannot be used
	StatusResolve              Status = 40 // the host's name was not found
	StatusConnect              Status = 41 // no connection could be made
	StatusTLS                  Status = 42 // the certificate or the handshake failed
	StatusTimeout              Status = 43 // the deadline passed
	StatusConnectionLost       Status = 44 // the connection ended before the whole reply was there
	StatusProxy                Status = 45 // the proxy could not be reached, or refused
	StatusCancelled            Status = 46 // the context was cancelled
	StatusRefused              Status = 60 // 400, 404, 405, 413, 415, 422
	StatusUnauthorized         Status = 61 // 401: the service refused the signature
	StatusForbidden            Status = 62 // 403
	StatusRateLimited          Status = 63 // 429
	StatusServerError          Status = 64 // 408, 425, 5xx
	StatusUnexpectedStatus     Status = 65 // 3xx and all others
	StatusInvalidResponse      Status = 66 // the reply holds no usable token
	StatusResponseTooLarge     Status = 67 // the reply is larger than any token needs
	StatusTokenRejected        Status = 68 // the new token was reported as rejected as well
	StatusInternal             Status = 90 // something failed that should not, such as a system call
	StatusPanic                Status = 91 // a bug of the library, caught
)

// The name of each status in the library, and what it means.
var statuses = map[Status]struct{ name, text string }{
	StatusOK:                   {"OK", "it worked"},
	StatusNullPointer:          {"NULL_POINTER", "a pointer that is required is NULL"},
	StatusInvalidArgument:      {"INVALID_ARGUMENT", "a length, a number or a constant is out of its range"},
	StatusInvalidUserID:        {"INVALID_USER_ID", "the user id is not 1 to 128 of A-Z a-z 0-9 . _ -"},
	StatusInvalidApplicationID: {"INVALID_APPLICATION_ID", "the application id is not 1 to 64 printable ASCII characters without spaces"},
	StatusInvalidKey:           {"INVALID_KEY", "the HMAC key does not have 1 to 4096 bytes"},
	StatusInvalidSignature:     {"INVALID_SIGNATURE", "a signature is not 64 hexadecimal characters"},
	StatusInvalidURL:           {"INVALID_URL", "the URL cannot be used: not parsable, user info in it, or http to another machine"},
	StatusBufferTooSmall:       {"BUFFER_TOO_SMALL", "the buffer is too small; its length argument, or the message, says what is needed"},
	StatusKeyRequired:          {"KEY_REQUIRED", "the client has no HMAC key and was asked to sign"},
	StatusSignatureMismatch:    {"SIGNATURE_MISMATCH", "the signature is well formed but not the one of this user id"},
	StatusIncompleteConfig:     {"INCOMPLETE_CONFIG", "the configuration lacks the application id"},
	StatusNotCached:            {"NOT_CACHED", "there is no token for this user in the cache"},
	StatusInvalidEnvironment:   {"INVALID_ENVIRONMENT", "an environment variable has a bad value; the message names it"},
	StatusClosed:               {"CLOSED", "the client was closed"},
	StatusTLSRoots:             {"TLS_ROOTS", "there are no usable TLS roots, or the CA certificates given cannot be read"},
	StatusFile:                 {"FILE", "a file that an environment variable names cannot be used"},
	StatusResolve:              {"RESOLVE", "the host's name was not found"},
	StatusConnect:              {"CONNECT", "no connection could be made"},
	StatusTLS:                  {"TLS", "the certificate or the TLS handshake failed"},
	StatusTimeout:              {"TIMEOUT", "the deadline of the call passed"},
	StatusConnectionLost:       {"CONNECTION_LOST", "the connection ended before the whole reply was there"},
	StatusProxy:                {"PROXY", "the proxy could not be reached, or refused"},
	StatusCancelled:            {"CANCELLED", "the call was cancelled"},
	StatusRefused:              {"REFUSED", "the service refused the request (400, 404, 405, 413, 415, 422)"},
	StatusUnauthorized:         {"UNAUTHORIZED", "the service refused the signature (401)"},
	StatusForbidden:            {"FORBIDDEN", "the service forbade the request (403)"},
	StatusRateLimited:          {"RATE_LIMITED", "too many requests (429)"},
	StatusServerError:          {"SERVER_ERROR", "the service failed (408, 425, 5xx)"},
	StatusUnexpectedStatus:     {"UNEXPECTED_STATUS", "a status that the service is not known to answer with (3xx and all others)"},
	StatusInvalidResponse:      {"INVALID_RESPONSE", "the reply holds no usable token"},
	StatusResponseTooLarge:     {"RESPONSE_TOO_LARGE", "the reply is larger than any token needs"},
	StatusTokenRejected:        {"TOKEN_REJECTED", "the new token equals the one just reported as rejected, or was reported too"},
	StatusInternal:             {"INTERNAL", "something failed that should not be able to, such as a system call"},
	StatusPanic:                {"PANIC", "a bug of the library: it panicked, and the panic was caught"},
}

// String returns the library's name of the status, such as "TIMEOUT", or its number if this package does not know it.
func (s Status) String() string {
	if known, ok := statuses[s]; ok {
		return known.name
	}
	return "Status(" + strconv.Itoa(int(s)) + ")"
}

// Error says what the status means.
func (s Status) Error() string {
	return "spikeauth: " + s.text()
}

func (s Status) text() string {
	if known, ok := statuses[s]; ok {
		return known.text
	}
	return "status " + strconv.Itoa(int(s)) + ": " + libraryText(s)
}
