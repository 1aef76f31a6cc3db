package spikeauth

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// buffer holds the longest result of the library, the value of an Authorization header.
type buffer [authorizationSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// take returns the first n bytes of a buffer, wipes them and returns the buffer to the pool.
func (b *buffer) take(n int) string {
	text := string(b[:n])
	clear(b[:n])
	buffers.Put(b)
	return text
}

// order is a call that may send a request.
type order struct {
	function          function
	op                string
	prefix            string // of the result
	userID, signature string
}

// function is what an order calls, waiting or started.
type function int

const (
	getToken function = iota
	exchange
	exchangeSignature
)

// blocking counts the calls of the process that hold a thread while they wait. There are as many places as GOMAXPROCS,
// but at most placesMax: a lone call costs a third of a started one, and a place is free for it unless other calls are
// slow.
var blocking atomic.Int32

const placesMax = 4

func takePlace() bool {
	if blocking.Add(1) <= int32(min(runtime.GOMAXPROCS(0), placesMax)) {
		return true
	}
	leavePlace()
	return false
}

func leavePlace() { blocking.Add(-1) }

// fetch makes a call. It blocks a thread if a place is free; otherwise the call is started, and waits as a goroutine.
func (h *handle) fetch(ctx context.Context, o *order) (text string, failed *Error) {
	var timeout time.Duration // the client's
	if deadline, ok := ctx.Deadline(); ok {
		if timeout = min(time.Until(deadline), maxTimeout); timeout <= 0 {
			return "", contextError(o.op, ctx)
		}
	}
	if takePlace() {
		text, failed = h.block(ctx, o, timeout)
	} else {
		text, failed = h.start(ctx, o, timeout)
	}
	if failed != nil && (failed.Status == StatusCancelled || failed.Status == StatusTimeout) {
		failed.setContext(ctx)
	}
	return text, failed
}

// block makes a call in a place that was taken. It leaves the place even if the context panics.
func (h *handle) block(ctx context.Context, o *order, timeout time.Duration) (string, *Error) {
	defer leavePlace()
	call, failed := newCall(o.op, timeout)
	if failed != nil {
		return "", failed
	}
	defer freeCall(call)
	stop := afterDone(ctx, func() { cancelCall(call) })
	out := buffers.Get().(*buffer)
	prefix := copy(out[:], o.prefix)
	n, failed := o.wait(h.native, call, out[prefix:])
	text := out.take(prefix + n)
	stop()
	return text, failed
}

// start starts a call and waits for its end or that of ctx. It ends the call even if the context panics.
func (h *handle) start(ctx context.Context, o *order, timeout time.Duration) (string, *Error) {
	q, failed := h.startedCalls(o.op)
	if failed != nil {
		return "", failed
	}
	call, failed := q.start(h.native, o, timeout)
	if failed != nil {
		return "", failed
	}
	defer q.free(call)
	select {
	case <-call.ended:
		return q.result(call, o)
	case <-ctx.Done():
		return "", &Error{Op: o.op, Status: StatusCancelled} // fetch sets the reason
	}
}

// afterDone calls cancel when ctx is done. The returned stop function prevents that, or waits until cancel has returned.
func afterDone(ctx context.Context, cancel func()) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	cancelled := make(chan struct{})
	stopAfter := context.AfterFunc(ctx, func() {
		cancel()
		close(cancelled)
	})
	return func() {
		if !stopAfter() {
			<-cancelled
		}
	}
}
