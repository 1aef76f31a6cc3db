package spikeauth

import (
	"os"
	"sync"
)

// queue hands out a client's started calls when they have ended. Such a call is a goroutine that waits for a channel. The
// runtime's poller watches the queue's descriptor, and one goroutine closes the channels of calls that have ended.
type queue struct {
	native nativeQueue
	file   *os.File // a duplicate of its descriptor

	mutex   sync.Mutex
	lastTag uint64
	waiting map[uint64]chan struct{} // by tag
}

// startedCalls returns the client's queue, which the first started call makes.
func (h *handle) startedCalls(op string) (*queue, *Error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.queue == nil {
		native, file, failed := newQueue(op)
		if failed != nil {
			return nil, failed
		}
		h.queue = &queue{native: native, file: file, waiting: make(map[uint64]chan struct{})}
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

// add returns a new tag and the channel that is closed when its call has ended.
func (q *queue) add() (tag uint64, ended <-chan struct{}) {
	channel := make(chan struct{})
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.lastTag++
	q.waiting[q.lastTag] = channel
	return q.lastTag, channel
}

func (q *queue) remove(tag uint64) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	delete(q.waiting, tag)
}

// end ignores the tag of a call that was removed after it was handed out.
func (q *queue) end(tags []uint64) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	for _, tag := range tags {
		if ended, ok := q.waiting[tag]; ok {
			close(ended)
			delete(q.waiting, tag)
		}
	}
}
