package spikeauth

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"time"
)

// ErrClosed is returned by calls on a closed [Client], and by calls that were in progress when it was closed. It equals
// [StatusClosed] and is meant for [errors.Is].
var ErrClosed error = StatusClosed

// ErrNoCgo is returned by every call of a program that was built without cgo.
var ErrNoCgo = errors.New("spikeauth: built without cgo, which libspike_auth needs: " +
	"Go disables cgo when it cross-compiles or finds no C compiler; " +
	"build with CGO_ENABLED=1 and a C compiler for the target (CC)")

// An Error describes a failed call.
type Error struct {
	// Op is the call, such as "token".
	Op string
	// Status is the kind of failure.
	Status Status
	// HTTPStatus is the HTTP status of the reply, or 0 if there was none.
	HTTPStatus int
	// RetryAfter is the wait that the service asked for, or 0.
	RetryAfter time.Duration
	// Attempts is the number of requests sent. Calls that shared an exchange report the same number.
	Attempts int
	// Shared reports whether another call made the exchange, and this one only waited for its result.
	Shared bool
	// Retryable reports whether the same call may succeed later. The client has already retried transient failures
	// within the deadline.
	Retryable bool
	// Message says what failed and what to do. It never contains a key, a signature, a token or the user id.
	Message string

	cause error // the context's cause, if the context ended the call
}

// Error returns the operation and the message.
func (e *Error) Error() string {
	message := strings.TrimSuffix(e.Message, ".")
	if message == "" {
		message = e.Status.text()
	}
	return "spikeauth: " + e.Op + ": " + message
}

// Is reports whether target is the error's status. A [StatusTimeout] also matches [context.DeadlineExceeded], and a
// [StatusCancelled] matches [context.Canceled].
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

// Unwrap returns the [context.Cause] if the context ended the call, or else nil.
func (e *Error) Unwrap() error { return e.cause }

// Timeout reports whether the deadline passed, the context's or the client's.
func (e *Error) Timeout() bool { return e.Status == StatusTimeout }

// Temporary returns Retryable. It implements [net.Error].
func (e *Error) Temporary() bool { return e.Retryable }

var _ net.Error = (*Error)(nil)

// LogValue implements [slog.LogValuer] with a group of the fields.
func (e *Error) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("op", e.Op),
		slog.String("status", e.Status.String()),
		slog.Int("http_status", e.HTTPStatus),
		slog.Duration("retry_after", e.RetryAfter),
		slog.Int("attempts", e.Attempts),
		slog.Bool("shared", e.Shared),
		slog.Bool("retryable", e.Retryable),
		slog.String("message", e.Message),
	)
}

func closedError(op string) *Error {
	return &Error{Op: op, Status: StatusClosed, Message: "the client was closed. Create a new one."}
}

// contextError returns the error of a call whose context is done or whose deadline has passed.
func contextError(op string, ctx context.Context) *Error {
	e := &Error{Op: op}
	e.setContext(ctx)
	return e
}

// setContext makes the end of ctx, or the client's timeout, the reason of the failure. A timeout message of the library
// is kept: it says what the call was waiting for.
func (e *Error) setContext(ctx context.Context) {
	awaitDone(ctx)
	e.cause = context.Cause(ctx)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Status, e.Retryable, e.Message = StatusCancelled, false, "the context was cancelled."
	case e.Status != StatusTimeout:
		e.Status, e.Retryable = StatusTimeout, true
		e.Message = "the deadline passed. Try again, or set a later one."
	}
}

// doneGrace limits the wait for a context whose deadline has passed. A busy machine ends it late.
const doneGrace = 100 * time.Millisecond

// awaitDone waits until a context whose deadline is due is done, since it has no cause before. The library's timeout has
// whole milliseconds and may end a little earlier.
func awaitDone(ctx context.Context) {
	deadline, ok := ctx.Deadline()
	left := time.Until(deadline)
	if !ok || left > doneGrace {
		return
	}
	timer := time.NewTimer(max(left, 0) + doneGrace)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
