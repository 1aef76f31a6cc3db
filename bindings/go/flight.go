package spikeauth

import (
	"sync"
	"sync/atomic"
	"time"
)

// The library also coalesces exchanges for the same user, but a caller that waits there holds a thread and a permit: a
// thousand callers for one user would block all other users. So only one goroutine per user, the leader, enters the
// library. The others wait here for its result.

// flights holds the flight of each user that has one.
type flights struct {
	mutex     sync.Mutex
	byUser    map[string]*flight
	coalesced atomic.Uint64 // calls that waited here, which the library has not counted
}

// flight is a leader's exchange and the callers that wait for it.
type flight struct {
	waiters   []*waiter
	notBefore time.Time // the end of a Retry-After; written by complete, read by the leader
}

type waiter struct {
	deadline time.Time
	ready    chan flightResult // buffered: complete never blocks
	index    int               // in flight.waiters, or -1 once ready has a result
}

// flightResult is a token, an error, or the order to become the leader.
type flightResult struct {
	token  string
	failed *Error
	lead   bool
}

// retryMargin is how much later than the leader's a waiter's deadline must be to repeat what the leader had no time for.
const retryMargin = 100 * time.Millisecond

// join makes the caller the leader of a new flight, or a waiter of the current one.
func (f *flights) join(userID string, deadline time.Time) (*flight, *waiter) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if current, ok := f.byUser[userID]; ok {
		w := &waiter{deadline: deadline, ready: make(chan flightResult, 1), index: len(current.waiters)}
		current.waiters = append(current.waiters, w)
		return current, w
	}
	if f.byUser == nil {
		f.byUser = make(map[string]*flight)
	}
	led := new(flight)
	f.byUser[userID] = led
	return led, nil
}

// leave removes a waiter. If it has just become the leader, the flight is handed off to the next one.
func (f *flights) leave(userID string, from *flight, w *waiter) {
	f.mutex.Lock()
	hasResult := w.index < 0
	if !hasResult {
		from.remove(w)
	}
	f.mutex.Unlock()
	if hasResult && (<-w.ready).lead {
		f.complete(userID, from, flightResult{}, retryAll)
	}
}

// remove moves the last waiter to the place of w, so that it takes constant time when all leave at once.
func (f *flight) remove(w *waiter) {
	last := len(f.waiters) - 1
	f.waiters[w.index] = f.waiters[last]
	f.waiters[w.index].index = w.index
	f.waiters[last] = nil
	f.waiters = f.waiters[:last]
}

// complete sends the result to the waiters, except those that shouldRetry selects. Of these, the one with the latest
// deadline becomes the leader and the others wait for it. A Retry-After holds for every later leader of the flight.
func (f *flights) complete(userID string, done *flight, result flightResult, shouldRetry func(*waiter) bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var next *waiter
	var rest []*waiter
	for _, w := range done.waiters {
		w.index = -1
		switch {
		case !shouldRetry(w):
			w.ready <- result
		case next == nil:
			next = w
		case w.deadline.After(next.deadline):
			rest = append(rest, next)
			next = w
		default:
			rest = append(rest, w)
		}
	}
	for i, w := range rest {
		w.index = i
	}
	done.waiters = rest
	if result.failed != nil && result.failed.RetryAfter > 0 {
		done.notBefore = time.Now().Add(result.failed.RetryAfter)
	}
	if next != nil {
		next.ready <- flightResult{lead: true}
	} else {
		delete(f.byUser, userID)
	}
}

func retryAll(*waiter) bool  { return true }
func retryNone(*waiter) bool { return false }

// shouldRetry selects the waiters that retry after the leader's call, by the library's own rules. Waiters share a token,
// an error that no retry can fix, and the last error when all attempts are used. They do not share the leader's
// cancellation or timeout, nor its lack of time for another attempt. A rejected token is shared: the library returns it
// to all callers until its Retry-After has passed.
func (h *handle) shouldRetry(failed *Error, deadline time.Time) func(*waiter) bool {
	switch {
	case failed == nil:
		return retryNone
	case failed.Status == StatusTimeout || failed.Status == StatusCancelled:
		return retryAll
	case !failed.Retryable || failed.Status == StatusTokenRejected || failed.Attempts >= h.maxAttempts:
		return retryNone
	}
	after := deadline.Add(retryMargin)
	if notBefore := time.Now().Add(failed.RetryAfter); notBefore.After(after) {
		after = notBefore
	}
	return func(w *waiter) bool { return w.deadline.After(after) }
}
