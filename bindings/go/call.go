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

// read returns prefix and what write adds to it, in a buffer that is wiped and used again. write returns its length.
func read(prefix string, write func(out []byte) int) string {
	out := buffers.Get().(*buffer)
	n := copy(out[:], prefix)
	n += write(out[n:])
	text := string(out[:n])
	clear(out[:n])
	buffers.Put(out)
	return text
}

// unread wipes what write writes, and makes no string of it.
func unread(write func(out []byte) int) {
	read("", func(out []byte) int { clear(out[:write(out)]); return 0 })
}

// order is a call that may send a request.
type order struct {
	function          function
	op                string
	prefix            string // of the result
	userID, signature string

	done work // when it has ended
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

// peekingMax limits the calls of a client that peek, times onePeek. It follows GOMAXPROCS, which may change. To read that
// takes a lock, so a hit does not.
var peekingMax atomic.Int64

func takePlace() bool {
	procs := runtime.GOMAXPROCS(0)
	peekingMax.Store(onePeek * int64(procs+2))
	if blocking.Add(1) <= int32(min(procs, placesMax)) {
		return true
	}
	leavePlace()
	return false
}

func leavePlace() { blocking.Add(-1) }

// fetch makes a call, and logs it.
func (h *handle) fetch(ctx context.Context, o *order) (string, error) {
	began := time.Now()
	text, err := h.perform(ctx, o)
	h.log(ctx, began, o.done, err)
	return text, err
}

// perform blocks a thread if a place is free; otherwise the call is started, and waits as a goroutine.
func (h *handle) perform(ctx context.Context, o *order) (text string, err error) {
	timeout, err := timeLeft(ctx, o.op)
	if err != nil {
		return "", err
	}
	if takePlace() {
		text, err = h.block(ctx, o, timeout)
	} else {
		text, err = h.start(ctx, o, timeout)
	}
	if err != nil {
		return "", withContext(ctx, err)
	}
	return text, nil
}

// timeLeft returns the timeout of a call; 0 is the client's.
func timeLeft(ctx context.Context, op string) (time.Duration, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, nil
	}
	left := min(time.Until(deadline), maxTimeout)
	if left <= 0 {
		return 0, contextError(op, ctx)
	}
	return left, nil
}

// withContext adds the reason to the error of a call that ctx may have ended.
func withContext(ctx context.Context, err error) error {
	if failed, ok := err.(*Error); ok && (failed.Status == StatusCancelled || failed.Status == StatusTimeout) {
		failed.setContext(ctx)
	}
	return err
}

// block makes a call in a place that was taken. It leaves the place and frees the call even if the context panics.
func (h *handle) block(ctx context.Context, o *order, timeout time.Duration) (text string, err error) {
	defer leavePlace()
	call, err := newCall(o.op, timeout)
	if err != nil {
		return "", err
	}
	defer freeCall(call)
	defer afterDone(ctx, func() { cancelCall(call) })()
	text = read(o.prefix, func(out []byte) (n int) { n, err = o.wait(h.native, call, out); return n })
	return text, err
}

// start starts a call and waits for its end or that of ctx. It ends the call even if the context panics.
func (h *handle) start(ctx context.Context, o *order, timeout time.Duration) (string, error) {
	q, err := h.startedCalls(o.op)
	if err != nil {
		return "", err
	}
	ended := make(chan uint64, 1)
	call, err := q.start(h.native, o, timeout, ended)
	if err != nil {
		return "", err
	}
	defer q.free(call)
	select {
	case <-ended:
		return q.result(call, o)
	case <-ctx.Done():
		return "", &Error{Op: o.op, Status: StatusCancelled} // perform sets the reason
	}
}

// afterDone calls cancel when ctx is done. The returned stop function prevents that, or waits until cancel has returned.
func afterDone(ctx context.Context, cancel func()) (stop func()) {
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
