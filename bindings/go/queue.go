package spikeauth

import (
	"os"
	"sync"
	"time"
)

// queue hands out a client's started calls when they have ended. The goroutine of such a call waits for a channel. The
// runtime's poller watches the queue's descriptor, and one goroutine sends the tags of calls that have ended.
type queue struct {
	native nativeQueue
	file   *os.File // a duplicate of its descriptor

	// The functions of the library for started calls are called under the lock, too: for each goroutine that is held up
	// inside the library, the runtime makes another thread.
	mutex   sync.Mutex
	lastTag uint64
	waiting map[uint64]chan<- uint64 // by tag
}

type startedCall struct {
	native nativeCall
	tag    uint64
}

// startedCalls returns the client's queue, which the first started call makes.
func (h *handle) startedCalls(op string) (*queue, error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.queue == nil {
		native, file, err := newQueue(op)
		if err != nil {
			return nil, err
		}
		h.queue = &queue{native: native, file: file, waiting: make(map[uint64]chan<- uint64)}
		go h.queue.read()
	}
	return h.queue, nil
}

// read runs until the file is closed. It must not refer to the Client, which would then never be collected.
func (q *queue) read() {
	defer freeQueue(q.native)
	conn, err := q.file.SyscallConn()
	if err != nil {
		return
	}
	var tags [256]uint64
	_ = conn.Read(func(uintptr) bool {
		for n := len(tags); n == len(tags); {
			n = takeTags(q.native, tags[:])
			q.end(tags[:n])
		}
		return false
	})
}

// start starts a call. Its tag is sent to ended when it has ended; there must be room for it, so that nothing waits.
func (q *queue) start(client nativeClient, o *order, timeout time.Duration, ended chan<- uint64) (startedCall, error) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	call, err := newCall(o.op, timeout)
	if err != nil {
		return startedCall{}, err
	}
	q.lastTag++
	if err := o.start(client, call, q.native, q.lastTag); err != nil {
		freeCall(call)
		return startedCall{}, err
	}
	q.waiting[q.lastTag] = ended
	return startedCall{call, q.lastTag}, nil
}

// result returns the result of a call that has ended.
func (q *queue) result(call startedCall, o *order) (text string, err error) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	text = read(o.prefix, func(out []byte) (n int) { n, err = callResult(call.native, out, o); return n })
	return text, err
}

// outcome returns the error of a call that has ended, and no token.
func (q *queue) outcome(call startedCall, o *order) (err error) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	unread(func(out []byte) (n int) { n, err = callResult(call.native, out, o); return n })
	return err
}

// free ends a call if it has not ended, and frees its handle.
func (q *queue) free(call startedCall) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	delete(q.waiting, call.tag)
	freeCall(call.native)
}

// end ignores the tag of a call that was freed after it was handed out.
func (q *queue) end(tags []uint64) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	for _, tag := range tags {
		if ended, ok := q.waiting[tag]; ok {
			ended <- tag
			delete(q.waiting, tag)
		}
	}
}
