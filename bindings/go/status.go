package spikeauth

import (
	"strconv"
	"strings"
)

// A Status is the library's number for the result of a call. Numbers are never reused; a newer library may return one
// that is not listed here.
//
// A Status is an error so that it can be a target of [errors.Is].
type Status int32

// Up to StatusInvalidEnvironment the call was invalid and nothing was sent. From StatusRefused to StatusTokenRejected
// the service, or a proxy, replied.
const (
	StatusOK                   Status = 0  // success; never an error
	StatusNullPointer          Status = 1  // never returned to Go
	StatusInvalidArgument      Status = 2  // a number or a constant is out of range
	StatusInvalidUserID        Status = 3  // the user id is not 1 to 128 of A-Z a-z 0-9 . _ -
	StatusInvalidApplicationID Status = 4  // not 1 to 64 printable ASCII characters without spaces
	StatusInvalidKey           Status = 5  // the HMAC key does not have 1 to 4096 bytes
	StatusInvalidSignature     Status = 6  // a signature is not 64 hexadecimal characters
	StatusInvalidURL           Status = 7  // malformed, with user info, or http to another machine
	StatusBufferTooSmall       Status = 8  // never returned to Go
	StatusKeyRequired          Status = 9  // the client has no HMAC key to sign with
	StatusSignatureMismatch    Status = 10 // well formed, but not the signature of this user id
	StatusIncompleteConfig     Status = 11 // the application id is missing
	StatusNotCached            Status = 12 // never returned to Go
	StatusInvalidEnvironment   Status = 13 // an environment variable has a bad value; the message names it
	StatusClosed               Status = 14 // the client was closed
	StatusPending              Status = 15 // never returned to Go
	StatusTLSRoots             Status = 20 // no usable trusted roots, or a CA that cannot be read
	StatusFile                 Status = 21 // a file named by an environment variable cannot be used
	StatusResolve              Status = 40 // the host name was not found
	StatusConnect              Status = 41 // the connection failed
	StatusTLS                  Status = 42 // the certificate or the handshake failed
	StatusTimeout              Status = 43 // the deadline passed
	StatusConnectionLost       Status = 44 // the connection ended before the reply was complete
	StatusProxy                Status = 45 // the proxy was unreachable or refused
	StatusCancelled            Status = 46 // the context was cancelled
	StatusStore                Status = 47 // the store that processes share cannot be used
	StatusRefused              Status = 60 // 400, 404, 405, 413, 415, 422
	StatusUnauthorized         Status = 61 // 401: the service refused the signature
	StatusForbidden            Status = 62 // 403
	StatusRateLimited          Status = 63 // 429
	StatusServerError          Status = 64 // 408, 425, 5xx
	StatusUnexpectedStatus     Status = 65 // 3xx and all others
	StatusInvalidResponse      Status = 66 // the reply contains no usable token
	StatusResponseTooLarge     Status = 67 // the reply is larger than any token needs
	StatusTokenRejected        Status = 68 // the new token was reported as rejected too
	StatusInternal             Status = 90 // an unexpected failure, such as of a system call
	StatusPanic                Status = 91 // a panic in the library, caught
)

// statusNames holds the library's names.
var statusNames = map[Status]string{
	StatusOK:                   "OK",
	StatusNullPointer:          "NULL_POINTER",
	StatusInvalidArgument:      "INVALID_ARGUMENT",
	StatusInvalidUserID:        "INVALID_USER_ID",
	StatusInvalidApplicationID: "INVALID_APPLICATION_ID",
	StatusInvalidKey:           "INVALID_KEY",
	StatusInvalidSignature:     "INVALID_SIGNATURE",
	StatusInvalidURL:           "INVALID_URL",
	StatusBufferTooSmall:       "BUFFER_TOO_SMALL",
	StatusKeyRequired:          "KEY_REQUIRED",
	StatusSignatureMismatch:    "SIGNATURE_MISMATCH",
	StatusIncompleteConfig:     "INCOMPLETE_CONFIG",
	StatusNotCached:            "NOT_CACHED",
	StatusInvalidEnvironment:   "INVALID_ENVIRONMENT",
	StatusClosed:               "CLOSED",
	StatusPending:              "PENDING",
	StatusTLSRoots:             "TLS_ROOTS",
	StatusFile:                 "FILE",
	StatusResolve:              "RESOLVE",
	StatusConnect:              "CONNECT",
	StatusTLS:                  "TLS",
	StatusTimeout:              "TIMEOUT",
	StatusConnectionLost:       "CONNECTION_LOST",
	StatusProxy:                "PROXY",
	StatusCancelled:            "CANCELLED",
	StatusStore:                "STORE",
	StatusRefused:              "REFUSED",
	StatusUnauthorized:         "UNAUTHORIZED",
	StatusForbidden:            "FORBIDDEN",
	StatusRateLimited:          "RATE_LIMITED",
	StatusServerError:          "SERVER_ERROR",
	StatusUnexpectedStatus:     "UNEXPECTED_STATUS",
	StatusInvalidResponse:      "INVALID_RESPONSE",
	StatusResponseTooLarge:     "RESPONSE_TOO_LARGE",
	StatusTokenRejected:        "TOKEN_REJECTED",
	StatusInternal:             "INTERNAL",
	StatusPanic:                "PANIC",
}

// String returns the library's name of the status, such as "TIMEOUT", or its number if this package does not know it.
func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return "Status(" + strconv.Itoa(int(s)) + ")"
}

// Error returns the library's description of the status.
func (s Status) Error() string {
	return "spikeauth: " + s.text()
}

// text returns the library's description in Go's style: no period and, except for an acronym, no capital.
func (s Status) text() string {
	text := strings.TrimSuffix(libraryText(s), ".")
	if len(text) > 1 && (text[1] == ' ' || 'a' <= text[1] && text[1] <= 'z') {
		text = strings.ToLower(text[:1]) + text[1:]
	}
	if _, ok := statusNames[s]; !ok {
		text = "status " + strconv.Itoa(int(s)) + ": " + text
	}
	return text
}
