package spikeauth

import (
	"context"
	"errors"
	"strings"
	"time"
)

// ErrClosed is what every call on a closed [Client] comes to, calls in flight too. It is [StatusClosed], for use with
// [errors.Is].
var ErrClosed error = StatusClosed

// ErrNoCgo is what every call returns in a program that was built without cgo.
var ErrNoCgo = errors.New("spikeauth: built without cgo, through which libspike_auth is called: " +
	"build with CGO_ENABLED=1 and a C compiler for the target (CC), neither of which is the default when cross-compiling")

// An Error says why a call failed.
type Error struct {
	// Op is the call, such as "token".
	Op string
	// Status is what the failure is.
	Status Status
	// HTTPStatus is the status of the HTTP reply, and 0 if there was none.
	HTTPStatus int
	// RetryAfter is how long the service asked to wait, and 0 if it did not.
	RetryAfter time.Duration
	// Attempts is how many requests were sent. A call that shared another's exchange has that exchange's number.
	Attempts int
	// Retryable tells whether the same call may succeed later. What may pass was tried again already, within the
	// deadline.
	Retryable bool
	// Message says what failed and what to do about it. It never holds a key, a signature, a token or the user id.
	Message string

	cause error // why the context ended, if it did
}

func (e *Error) Error() string {
	message := strings.TrimSuffix(e.Message, ".")
	if message == "" {
		message = e.Status.text()
	}
	return "spikeauth: " + e.Op + ": " + message
}

// Is reports whether target is the error's status, or the error that a context has where the status says that the call
// was cancelled or its deadline passed.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Status == StatusTimeout
	case context.Canceled:
		return e.Status == StatusCancelled
	}
	status, ok := target.(Status)
	return ok && status == e.Status
}

// Unwrap returns the cause of the context's end, as [context.Cause] has it, or nil if that is not why the call failed.
func (e *Error) Unwrap() error { return e.cause }

// Timeout reports whether a deadline passed: the context's, or the client's.
func (e *Error) Timeout() bool { return e.Status == StatusTimeout }

// withOp returns a copy of a shared error for another call.
func (e *Error) withOp(op string) *Error {
	own := *e
	own.Op = op
	return &own
}

func closedError(op string) *Error {
	return &Error{Op: op, Status: StatusClosed, Message: "the client was closed. Make a new one."}
}

// doneError is the error of a call that waited in vain: its context is done, or else its time is up.
func doneError(op string, ctx context.Context) *Error {
	e := &Error{Op: op}
	endedBy(e, ctx)
	return e
}

// endedBy makes e tell that the end of ctx, or of the time that the client allows, is why the call failed.
func endedBy(e *Error, ctx context.Context) {
	e.cause = context.Cause(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		e.Status, e.Retryable, e.Message = StatusCancelled, false, "the context was cancelled."
		return
	}
	e.Status, e.Retryable = StatusTimeout, true
	e.Message = "the deadline passed. Try again, or set a later one."
}
