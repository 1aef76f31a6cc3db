package spikeauth

import (
	"context"
	"sync"
	"time"
)

// The longest result of the library, an Authorization header's value.
type buffer [authorizationSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// release wipes what was used of a buffer, and gives it back.
func (b *buffer) release(used int) {
	clear(b[:used])
	buffers.Put(b)
}

// A blocking call holds a thread, so only as many enter the library as may have an exchange in flight. A slot is the
// right to enter, and comes with the handle of a call, which is made when it is first needed. Nothing is in a slot that
// nobody has used, or that was cancelled.
func newSlots(n int) chan nativeCall {
	slots := make(chan nativeCall, n)
	for range n {
		slots <- nil
	}
	return slots
}

// limit is until when a call may last: its context's deadline, else as long as the client allows.
func (h *handle) limit(ctx context.Context) time.Time {
	now := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		if latest := now.Add(maxTimeout); deadline.After(latest) {
			return latest
		}
		return deadline
	}
	return now.Add(h.timeout)
}

// wait receives from what the call has to wait for, until its limit, or until the client is closed.
func wait[T any](ctx context.Context, op string, limit time.Time, closed <-chan struct{}, from <-chan T) (T, *Error) {
	var none T
	select {
	case got := <-from:
		return got, nil
	default:
	}
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	select {
	case got := <-from:
		return got, nil
	case <-closed:
		return none, closedError(op)
	case <-ctx.Done():
	case <-timer.C:
	}
	return none, doneError(op, ctx)
}

// block makes a call that blocks: do writes a token into the buffer.
func (h *handle) block(
	ctx context.Context, op string, limit time.Time, do func(call nativeCall, out []byte) (int, *Error),
) (string, *Error) {
	call, failed := wait(ctx, op, limit, h.closed, h.slots)
	if failed != nil {
		return "", failed
	}
	token, failed := h.use(ctx, call, op, limit, do)
	if failed != nil && (failed.Status == StatusCancelled || failed.Status == StatusTimeout) {
		endedBy(failed, ctx)
	}
	return token, failed
}

// use makes a call in a slot, which is given back whatever becomes of the call, be it a panic of its context.
func (h *handle) use(
	ctx context.Context, call nativeCall, op string, limit time.Time, do func(call nativeCall, out []byte) (int, *Error),
) (token string, failed *Error) {
	isSpent := true
	defer func() {
		if isSpent {
			freeCall(call)
			call = nil
		}
		h.slots <- call
	}()
	if call == nil {
		if call, failed = newCall(op); failed != nil {
			return "", failed
		}
	}
	if !limitCall(call, time.Until(limit)) {
		isSpent = false
		return "", &Error{Op: op, Status: StatusCancelled} // block says by what
	}
	stop := watch(ctx, func() { cancelCall(call) })
	out := buffers.Get().(*buffer)
	n, failed := do(call, out[:])
	token = string(out[:n])
	out.release(n)
	isSpent = !stop() // a cancelled one stays so
	return token, failed
}

// watch calls cancel when ctx ends. The function that it returns ends that, and tells whether cancel was not called; if
// it was, it has returned by then.
func watch(ctx context.Context, cancel func()) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	cancelled := make(chan struct{})
	stopWatching := context.AfterFunc(ctx, func() {
		cancel()
		close(cancelled)
	})
	return func() bool {
		if stopWatching() {
			return true
		}
		<-cancelled
		return false
	}
}
