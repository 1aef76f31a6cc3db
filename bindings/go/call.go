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

// wait receives from what the call has to wait for, until its limit. It need not know of Close: that ends the calls
// which are waited for, and so passes on from one to the next.
func wait[T any](ctx context.Context, op string, limit time.Time, from <-chan T) (T, *Error) {
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
	case <-ctx.Done():
	case <-timer.C:
	}
	var none T
	return none, doneError(op, ctx)
}

// block makes a call that blocks: do writes a token into the buffer.
func (h *handle) block(
	ctx context.Context, op string, limit time.Time, do func(call nativeCall, out []byte) (int, *Error),
) (string, *Error) {
	call, failed := wait(ctx, op, limit, h.slots)
	if failed != nil {
		return "", failed
	}
	if call == nil {
		if call, failed = newCall(op); failed != nil {
			h.slots <- nil
			return "", failed
		}
	}
	if !limitCall(call, time.Until(limit)) {
		h.slots <- call
		return "", doneError(op, ctx)
	}

	stop := watch(ctx, func() { cancelCall(call) })
	out := buffers.Get().(*buffer)
	n, failed := do(call, out[:])
	token := string(out[:n])
	out.release(n)
	if stop() {
		h.slots <- call
	} else {
		freeCall(call) // a cancelled one stays so
		h.slots <- nil
	}

	if failed == nil {
		return token, nil
	}
	if failed.Status == StatusCancelled || failed.Status == StatusTimeout && ctx.Err() != nil {
		endedBy(failed, ctx)
	}
	return "", failed
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
