package spikeauth

import (
	"slices"
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
	waiters []*waiter
}

type waiter struct {
	limit time.Time
	ready chan outcome // takes one without blocking
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
		w := &waiter{limit: limit, ready: make(chan outcome, 1)}
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
	i := slices.Index(left.waiters, w)
	if i >= 0 {
		left.waiters = slices.Delete(left.waiters, i, i+1)
	}
	f.mutex.Unlock()
	if i < 0 && (<-w.ready).lead {
		f.finish(userID, left, outcome{}, func(*waiter) bool { return true })
	}
}

// finish tells those who wait what came of the flight. If some of them go on instead, the one that can wait the longest
// gets the lead, and the others wait for that one.
func (f *flights) finish(userID string, done *flight, result outcome, goesOn func(*waiter) bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var next *waiter
	var rest []*waiter
	for _, w := range done.waiters {
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
	done.waiters = rest
	if next != nil {
		next.ready <- outcome{lead: true}
	} else if f.byUser[userID] == done {
		delete(f.byUser, userID)
	}
}

// detach makes later callers begin a flight of their own: what this one brings may be what was just dropped.
func (f *flights) detach(userID string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	delete(f.byUser, userID)
}

// goOn tells who of those that wait tries again after a failure of the leader, as the library has it: what is shared
// is a failure that no retry can mend, or the last one when the attempts are used up. That the leader was cancelled or
// out of time is its own affair, and so is that it had no time for another attempt.
func (h *handle) goOn(failed *Error, limit time.Time) func(*waiter) bool {
	switch {
	case failed == nil:
		return func(*waiter) bool { return false }
	case failed.Status == StatusTimeout || failed.Status == StatusCancelled:
		return func(*waiter) bool { return true }
	case !failed.Retryable || failed.Attempts >= h.maxAttempts:
		return func(*waiter) bool { return false }
	}
	enough := limit.Add(handOver)
	if earliest := time.Now().Add(failed.RetryAfter); earliest.After(enough) {
		enough = earliest
	}
	return func(w *waiter) bool { return w.limit.After(enough) }
}
