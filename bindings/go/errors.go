package spikeauth

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"
)

// ErrClosed is what every call on a closed [Client] comes to, calls in flight too. It is [StatusClosed], for use with
// [errors.Is].
var ErrClosed error = StatusClosed

// ErrNoCgo is what every call returns in a program that was built without cgo.
var ErrNoCgo = errors.New("spikeauth: built without cgo, through which libspike_auth is called: " +
	"cgo was off, as it is when cross-compiling, or there was no C compiler: Go then turns it off by itself; " +
	"build with CGO_ENABLED=1 and a C compiler for the target (CC)")

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

// Temporary returns Retryable. It is there for [net.Error].
func (e *Error) Temporary() bool { return e.Retryable }

var _ net.Error = (*Error)(nil)

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

// endedBy makes e tell that the end of ctx, or of the time that the client allows, is why the call failed. What the
// library says of a deadline stays: it knows what it was waiting for.
func endedBy(e *Error, ctx context.Context) {
	settle(ctx)
	e.cause = context.Cause(ctx)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Status, e.Retryable, e.Message = StatusCancelled, false, "the context was cancelled."
	case e.Status != StatusTimeout:
		e.Status, e.Retryable = StatusTimeout, true
		e.Message = "the deadline passed. Try again, or set a later one."
	}
}

// grace is for how long the end of a context is waited for. On a busy machine it comes late.
const grace = 100 * time.Millisecond

// settle waits for the end of a context whose deadline is here, because it has no cause before. A call, which is given
// whole milliseconds, may be out of time a little earlier.
func settle(ctx context.Context) {
	deadline, ok := ctx.Deadline()
	left := time.Until(deadline)
	if !ok || left > grace {
		return
	}
	timer := time.NewTimer(max(left, 0) + grace)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
