package spikeauth

import (
	"context"
	"sync"
	"time"
)

// buffer holds the longest result of the library, the value of an Authorization header.
type buffer [authorizationSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// release wipes the used part of a buffer and returns it to the pool.
func (b *buffer) release(used int) {
	clear(b[:used])
	buffers.Put(b)
}

// newCallPool returns a semaphore of n permits that also reuses call handles. A blocking call holds a thread, so only
// as many calls enter the library as it runs exchanges at once. A permit is nil until its first use, and again after its
// handle was cancelled.
func newCallPool(n int) chan nativeCall {
	calls := make(chan nativeCall, n)
	for range n {
		calls <- nil
	}
	return calls
}

// deadline returns the deadline of a call: its context's, at most maxTimeout from now, or else the client's timeout.
func (h *handle) deadline(ctx context.Context) time.Time {
	now := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		if latest := now.Add(maxTimeout); deadline.After(latest) {
			return latest
		}
		return deadline
	}
	return now.Add(h.timeout)
}

// wait receives from a channel until the deadline, the end of ctx or the close of the client.
func wait[T any](
	ctx context.Context, op string, deadline time.Time, closed <-chan struct{}, from <-chan T,
) (T, *Error) {
	var zero T
	select {
	case value := <-from:
		return value, nil
	default:
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case value := <-from:
		return value, nil
	case <-closed:
		return zero, closedError(op)
	case <-ctx.Done():
	case <-timer.C:
	}
	return zero, contextError(op, ctx)
}

// block runs do, a blocking call of the library that writes a token to out, once a permit is free.
func (h *handle) block(
	ctx context.Context, op string, deadline time.Time, do func(call nativeCall, out []byte) (int, *Error),
) (string, *Error) {
	call, failed := wait(ctx, op, deadline, h.closed, h.calls)
	if failed != nil {
		return "", failed
	}
	token, failed := h.run(ctx, call, op, deadline, do)
	if failed != nil && (failed.Status == StatusCancelled || failed.Status == StatusTimeout) {
		failed.setContext(ctx)
	}
	return token, failed
}

// run runs do with a permit, and returns the permit even if the context panics.
func (h *handle) run(
	ctx context.Context, call nativeCall, op string, deadline time.Time,
	do func(call nativeCall, out []byte) (int, *Error),
) (token string, failed *Error) {
	reusable := false
	defer func() {
		if !reusable {
			freeCall(call)
			call = nil
		}
		h.calls <- call
	}()
	if call == nil {
		if call, failed = newCall(op); failed != nil {
			return "", failed
		}
	}
	if !setCallTimeout(call, time.Until(deadline)) {
		reusable = true
		return "", &Error{Op: op, Status: StatusCancelled} // block sets the reason
	}
	stop := afterDone(ctx, func() { cancelCall(call) })
	out := buffers.Get().(*buffer)
	n, failed := do(call, out[:])
	token = string(out[:n])
	out.release(n)
	reusable = stop() // a cancelled handle stays cancelled
	return token, failed
}

// afterDone calls cancel when ctx is done. The returned stop function prevents that and reports whether it did; if not,
// it waits until cancel has returned.
func afterDone(ctx context.Context, cancel func()) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	cancelled := make(chan struct{})
	stopAfter := context.AfterFunc(ctx, func() {
		cancel()
		close(cancelled)
	})
	return func() bool {
		if stopAfter() {
			return true
		}
		<-cancelled
		return false
	}
}
