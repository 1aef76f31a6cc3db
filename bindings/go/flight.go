package spikeauth

import (
	"sync"
	"sync/atomic"
	"time"
)

// The library makes one exchange per user at a time, for however many callers. But a caller that waits there holds a
// thread and a slot, and a thousand who ask for one user would keep all others out. So one goroutine per user, the
// leader, goes into the library, and the others wait here for what comes of it.

// flights are the users for whom somebody is on the way.
type flights struct {
	mutex  sync.Mutex
	byUser map[string]*flight
	shared atomic.Uint64 // calls that waited here, which the library has not seen
}

// flight is those who wait for one leader.
type flight struct {
	waiters   []*waiter
	notBefore time.Time // when the service may be asked again; the leader's to read and finish's to write
}

type waiter struct {
	limit time.Time
	ready chan outcome // takes one without blocking
	at    int          // its index among those who wait, or -1 when it has been told
}

// outcome is a token, or a failure, or the lead.
type outcome struct {
	token  string
	failed *Error
	lead   bool
}

// handOver is by how much longer a caller must be able to wait, to try what another had no time for.
const handOver = 100 * time.Millisecond

// join makes the caller the leader of a flight, or one who waits.
func (f *flights) join(userID string, limit time.Time) (*flight, *waiter) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if joined, ok := f.byUser[userID]; ok {
		w := &waiter{limit: limit, ready: make(chan outcome, 1), at: len(joined.waiters)}
		joined.waiters = append(joined.waiters, w)
		return joined, w
	}
	if f.byUser == nil {
		f.byUser = make(map[string]*flight)
	}
	led := new(flight)
	f.byUser[userID] = led
	return led, nil
}

// leave takes out one who waits no longer. If that one has just got the lead, it goes to another.
func (f *flights) leave(userID string, left *flight, w *waiter) {
	f.mutex.Lock()
	isTold := w.at < 0
	if !isTold {
		left.remove(w)
	}
	f.mutex.Unlock()
	if isTold && (<-w.ready).lead {
		f.finish(userID, left, outcome{}, everybody)
	}
}

// remove puts the last one in the place of w: when all leave at once, none of them must search for itself.
func (f *flight) remove(w *waiter) {
	last := len(f.waiters) - 1
	f.waiters[w.at] = f.waiters[last]
	f.waiters[w.at].at = w.at
	f.waiters[last] = nil
	f.waiters = f.waiters[:last]
}

// finish tells those who wait what came of the flight. If some of them go on instead, the one that can wait the longest
// gets the lead, and the others wait for that one. A time that the service asked to wait holds for all who get the lead,
// also for one to whom it is passed on.
func (f *flights) finish(userID string, done *flight, result outcome, goesOn func(*waiter) bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var next *waiter
	var rest []*waiter
	for _, w := range done.waiters {
		w.at = -1
		switch {
		case !goesOn(w):
			w.ready <- result
		case next == nil:
			next = w
		case w.limit.After(next.limit):
			rest = append(rest, next)
			next = w
		default:
			rest = append(rest, w)
		}
	}
	for i, w := range rest {
		w.at = i
	}
	done.waiters = rest
	if result.failed != nil && result.failed.RetryAfter > 0 {
		done.notBefore = time.Now().Add(result.failed.RetryAfter)
	}
	if next != nil {
		next.ready <- outcome{lead: true}
	} else {
		delete(f.byUser, userID)
	}
}

func everybody(*waiter) bool { return true }

// goOn tells who of those that wait tries again after a failure of the leader, as the library has it: what is shared
// is a failure that no retry can mend, or the last one when the attempts are used up. That the leader was cancelled or
// out of time is its own affair, and so is that it had no time for another attempt. A token that was rejected is no
// reason for one: the library would refuse all who ask until its time is over.
func (h *handle) goOn(failed *Error, limit time.Time) func(*waiter) bool {
	switch {
	case failed == nil:
		return func(*waiter) bool { return false }
	case failed.Status == StatusTimeout || failed.Status == StatusCancelled:
		return everybody
	case !failed.Retryable || failed.Status == StatusTokenRejected || failed.Attempts >= h.maxAttempts:
		return func(*waiter) bool { return false }
	}
	enough := limit.Add(handOver)
	if earliest := time.Now().Add(failed.RetryAfter); earliest.After(enough) {
		enough = earliest
	}
	return func(w *waiter) bool { return w.limit.After(enough) }
}
