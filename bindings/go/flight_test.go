//go:build cgo

package spikeauth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newFlight returns a flight with n waiters, each with a deadline a second after the one before.
func newFlight(t *testing.T, f *flights, n int) (*flight, []*waiter) {
	t.Helper()
	now := time.Now()
	led, leader := f.join("alice", now)
	if leader != nil {
		t.Fatal("the first caller is not the leader")
	}
	var waiters []*waiter
	for i := range n {
		joined, w := f.join("alice", now.Add(time.Duration(i)*time.Second))
		if joined != led || w == nil {
			t.Fatal("another flight")
		}
		waiters = append(waiters, w)
	}
	return led, waiters
}

// check compares the result that a waiter has received, "" for none, with want.
func (w *waiter) check(t *testing.T, want string) {
	t.Helper()
	got := ""
	select {
	case result := <-w.ready:
		got = result.token
		if result.lead {
			got = "lead"
		}
	default:
	}
	if got != want {
		t.Errorf("received %q, not %q", got, want)
	}
}

func TestAllWaitersReceiveTheResult(t *testing.T) {
	var f flights
	led, waiters := newFlight(t, &f, 3)
	f.complete("alice", led, flightResult{token: "token"}, retryNone)
	for _, w := range waiters {
		w.check(t, "token")
	}
	if len(f.byUser) != 0 {
		t.Error("the flight is not removed")
	}
}

func TestTheWaiterWithTheLatestDeadlineBecomesTheLeader(t *testing.T) {
	var f flights
	led, waiters := newFlight(t, &f, 3)
	f.complete("alice", led, flightResult{token: "token"}, func(w *waiter) bool { return w != waiters[0] })
	waiters[0].check(t, "token")
	waiters[1].check(t, "")
	waiters[2].check(t, "lead")
}

func TestWaitersLeave(t *testing.T) {
	var f flights
	led, waiters := newFlight(t, &f, 6)
	for _, i := range []int{1, 5, 0} { // before the result
		f.leave("alice", led, waiters[i])
	}
	f.complete("alice", led, flightResult{}, retryAll)
	f.leave("alice", led, waiters[4]) // after it was made the leader
	waiters[3].check(t, "lead")
	f.leave("alice", led, waiters[2]) // of the next leader's flight
	f.complete("alice", led, flightResult{}, retryAll)
	if len(f.byUser) != 0 {
		t.Error("an empty flight is not removed")
	}
}

func TestLeavingTakesConstantTime(t *testing.T) {
	InTime(t, time.Second, func() time.Duration {
		var f flights
		led, waiters := newFlight(t, &f, 200000)
		start := time.Now()
		for i := range waiters {
			f.leave("alice", led, waiters[(i+len(waiters)/2)%len(waiters)])
		}
		if len(led.waiters) != 0 {
			t.Errorf("%d are left", len(led.waiters))
		}
		return time.Since(start)
	})
}

func TestShouldRetry(t *testing.T) {
	h := &handle{maxAttempts: 3}
	now := time.Now()
	leader := now.Add(time.Second)
	for _, row := range []struct {
		name   string
		failed *Error
		left   time.Duration
		want   bool
	}{
		{"token", nil, time.Hour, false},
		{"rejected token", &Error{Status: StatusTokenRejected, Attempts: 1, Retryable: true}, time.Hour, false},
		{"leader timed out", &Error{Status: StatusTimeout, Retryable: true}, 0, true},
		{"leader cancelled", &Error{Status: StatusCancelled}, 0, true},
		{"not retryable", &Error{Status: StatusUnauthorized, Attempts: 1}, time.Hour, false},
		{"all attempts used", &Error{Status: StatusServerError, Attempts: 3, Retryable: true}, time.Hour, false},
		{"the leader's deadline", &Error{Status: StatusServerError, Attempts: 1, Retryable: true}, time.Second, false},
		{"a later deadline", &Error{Status: StatusServerError, Attempts: 1, Retryable: true}, 2 * time.Second, true},
		{"before Retry-After", &Error{Status: StatusServerError, Attempts: 1, Retryable: true, RetryAfter: time.Minute}, 30 * time.Second, false},
		{"after Retry-After", &Error{Status: StatusServerError, Attempts: 1, Retryable: true, RetryAfter: time.Minute}, 90 * time.Second, true},
	} {
		if got := h.shouldRetry(row.failed, leader)(&waiter{deadline: now.Add(row.left)}); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

// waiting returns the number of waiters in a user's flight, or -1 if there is none.
func (h *handle) waiting(user string) int {
	h.flights.mutex.Lock()
	defer h.flights.mutex.Unlock()
	if led, ok := h.flights.byUser[user]; ok {
		return len(led.waiters)
	}
	return -1
}

// checkIdle checks that calls that have all returned hold no permit, flight or reference.
func checkIdle(t *testing.T, client *Client) {
	t.Helper()
	h := client.handle
	if len(h.calls) != cap(h.calls) || len(h.flights.byUser) != 0 || h.refs.Load() != 1 {
		t.Errorf("%d permits of %d, %v, %d references", len(h.calls), cap(h.calls), h.flights.byUser, h.refs.Load())
	}
	if token, err := client.Token(t.Context(), "idle"); err != nil || token == "" {
		t.Errorf("%q, %v", token, err)
	}
}

// unique makes users of faults that are counted or used up.
var unique atomic.Int32

// join starts a call and waits until it is in the user's flight.
func join(ctx context.Context, client *Client, user string) <-chan error {
	before := client.handle.waiting(user)
	result := Async(func() (string, error) { return client.Token(ctx, user) })
	for client.handle.waiting(user) == before {
		time.Sleep(time.Millisecond)
	}
	return result
}

// joinFor is join with a timeout.
func joinFor(t *testing.T, client *Client, user string, timeout time.Duration) (context.CancelFunc, <-chan error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return cancel, join(ctx, client, user)
}

func TestCancelEndsOneCallAtOnce(t *testing.T) {
	client := envClient(t)
	for cancelled, role := range []string{"the leader", "a waiter"} {
		InTime(t, 50*time.Millisecond, func() time.Duration {
			user := fmt.Sprintf("fault.delay.400.cancel-%d", unique.Add(1))
			cause := errors.New("the user disconnected")
			ctx, cancel := context.WithCancelCause(t.Context())
			contexts := []context.Context{t.Context(), t.Context(), t.Context()}
			contexts[cancelled] = ctx
			var results []<-chan error
			for _, ctx := range contexts {
				results = append(results, join(ctx, client, user))
			}
			start := time.Now()
			cancel(cause)
			err := <-results[cancelled]
			took := time.Since(start)
			if !errors.Is(err, context.Canceled) || !errors.Is(err, StatusCancelled) || !errors.Is(err, cause) {
				t.Errorf("%s: %v", role, err)
			}
			for i, result := range results {
				if i == cancelled {
					continue
				}
				if err := <-result; err != nil {
					t.Errorf("another call than %s: %v", role, err)
				}
			}
			return took
		})
	}
	checkIdle(t, client)
}

// Calls for one slow user leave the permits to others, also while its token is being dropped.
func TestTwentyThousandCallsForOneUserTakeOnePermit(t *testing.T) {
	client := envClient(t, WithMaxConcurrency(2))
	const n = 20000
	InTime(t, 10*time.Second, func() time.Duration {
		user := fmt.Sprint("fault.stall.one-permit-", unique.Add(1))
		drop := []func() error{
			func() error { return client.Invalidate(user, "token") },
			func() error { return client.Forget(user) },
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var results []<-chan error
		for i := range n {
			results = append(results, Async(func() (string, error) {
				if err := drop[i%len(drop)](); err != nil {
					t.Error(err)
				}
				return client.Token(ctx, user)
			}))
		}
		Until(t, "all calls wait", func() bool { return client.handle.waiting(user) == n-1 })
		if free := len(client.handle.calls); free != 1 {
			t.Errorf("%d permits are free", free)
		}
		other := func() {
			if _, err := client.Token(t.Context(), fmt.Sprint("other-", unique.Add(1))); err != nil {
				t.Error(err)
			}
		}
		other()
		start := time.Now()
		cancel()
		other()
		for _, result := range results {
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		return time.Since(start)
	})
	checkIdle(t, client)
}

// unruly is a context of which one method panics or ends its goroutine after a number of calls.
type unruly struct {
	context.Context
	method string
	calls  *atomic.Int32
	end    func()
}

func (u unruly) call(method string) {
	if method == u.method && u.calls.Add(-1) < 0 {
		u.end()
	}
}

func (u unruly) Done() <-chan struct{} { u.call("Done"); return u.Context.Done() }
func (u unruly) Err() error            { u.call("Err"); return u.Context.Err() }
func (u unruly) Value(key any) any     { u.call("Value"); return u.Context.Value(key) }

// token makes a call with the context and reports whether it returned.
func (u unruly) token(client *Client, user string, calls int32) (returned bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	u.Context, u.calls = ctx, new(atomic.Int32)
	u.calls.Store(calls)
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() { _ = recover() }()
		_, _ = client.Token(u, user)
		returned = true
	}()
	<-over
	return returned
}

func TestAPanickingContextHoldsNothing(t *testing.T) {
	client := envClient(t, WithMaxConcurrency(2))
	const shared = "fault.stall.unruly-shared"
	ctx, cancel := context.WithCancel(t.Context())
	leader := join(ctx, client, shared)
	Until(t, "the leader has its permit", func() bool { return len(client.handle.calls) == 1 })
	for _, user := range []string{shared, "fault.stall.unruly-alone"} {
		for name, end := range map[string]func(){"panic": func() { panic("unruly") }, "Goexit": runtime.Goexit} {
			for _, method := range []string{"Done", "Err", "Value"} {
				ended := 0
				for calls := range int32(8) {
					if !(unruly{method: method, end: end}).token(client, user, calls) {
						ended++
					}
				}
				if ended == 0 {
					t.Errorf("%s: %s in %s was never reached", user, name, method)
				}
				if h := client.handle; len(h.calls) != 1 || h.waiting(shared) != 0 || h.waiting(user) > 0 || h.refs.Load() != 2 {
					t.Fatalf("%s in %s: %d permits, %d waiters, %d references", name, method, len(h.calls), h.waiting(user), h.refs.Load())
				}
			}
		}
	}
	cancel()
	if err := <-leader; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	checkIdle(t, client)
}

// The first leader has no time to wait, and the second is cancelled. The library itself keeps to the Retry-After of a 429
// or 503.
func TestEveryLeaderKeepsToRetryAfter(t *testing.T) {
	client := envClient(t)
	for round := 1; ; round++ {
		user := fmt.Sprintf("fault.delay.200.and.status.500.and.retry-after.1.x1.handed-off-%d", unique.Add(1))
		start := time.Now()
		_, first := joinFor(t, client, user, 1100*time.Millisecond)
		cancelSecond, second := joinFor(t, client, user, 40*time.Second)
		_, third := joinFor(t, client, user, 20*time.Second)
		failed := <-first
		cancelSecond()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("second: %v", err)
		}
		if err := <-third; err != nil {
			t.Errorf("third: %v", err)
		}
		took := time.Since(start)
		if errors.Is(failed, StatusTimeout) && round < 3 {
			continue // a busy machine: the reply came too late
		}
		if !errors.Is(failed, StatusServerError) {
			t.Errorf("first: %v", failed)
		}
		if took < 1200*time.Millisecond {
			t.Errorf("the second request was sent before Retry-After: %v", took)
		}
		break
	}
	checkIdle(t, client)
}

func TestCloseEndsTheWaitForRetryAfter(t *testing.T) {
	InTime(t, 100*time.Millisecond, func() time.Duration {
		client := envClient(t)
		user := fmt.Sprintf("fault.delay.200.and.status.500.and.retry-after.60.x1.closed-%d", unique.Add(1))
		_, first := joinFor(t, client, user, 20*time.Second)
		_, second := joinFor(t, client, user, 5*time.Minute)
		if err := <-first; !errors.Is(err, StatusServerError) {
			t.Errorf("first: %v", err)
		}
		start := time.Now()
		client.Close()
		if err := <-second; !errors.Is(err, ErrClosed) {
			t.Errorf("second: %v", err)
		}
		return time.Since(start)
	})
}

func TestStopWaitsForTheCancellation(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	begun, proceed := make(chan struct{}), make(chan struct{})
	returned := false
	stop := afterDone(ctx, func() {
		close(begun)
		<-proceed
		returned = true
	})
	end()
	<-begun
	time.AfterFunc(10*time.Millisecond, func() { close(proceed) })
	if stop() || !returned {
		t.Error("the handle would be freed during the cancellation")
	}
	if !afterDone(t.Context(), func() { t.Error("cancelled") })() || !afterDone(context.Background(), nil)() {
		t.Error("a handle that was not cancelled is not reused")
	}
}

func TestTokensAreWipedFromBuffers(t *testing.T) {
	client := envClient(t)
	var mutex sync.Mutex
	var made []*buffer
	original := buffers.New
	defer func() { buffers.New = original }()
	buffers.New = func() any {
		mutex.Lock()
		defer mutex.Unlock()
		made = append(made, new(buffer))
		return made[len(made)-1]
	}
	for len(made) == 0 { // drain the pool
		buffers.Get()
	}
	made = nil
	for name, call := range map[string]func(context.Context, string) (string, error){
		"Token": client.Token, "Authorization": client.Authorization, "Exchange": client.Exchange,
	} {
		for range 2 {
			if _, err := call(t.Context(), "wiped-"+name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(made) == 0 {
		t.Fatal("no buffer was seen")
	}
	for _, one := range made {
		if *one != (buffer{}) {
			t.Errorf("%.20q...", one[:])
		}
	}
}

func TestMixedCallsLeaveAnIdleClient(t *testing.T) {
	client := envClient(t, WithMaxConcurrency(4), WithMaxAttempts(2))
	users := []string{"mix-1", "mix-2", "fault.delay.5.mix", "fault.delay.20.mix", "fault.stall.mix", "fault.status.401.mix",
		"fault.status.500.and.retry-after.0.mix", "fault.close-before.mix", "not valid"}
	Concurrently(32, func(i int) {
		rng := rand.New(rand.NewPCG(7, uint64(i)))
		for range 60 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(30000))*time.Microsecond)
			user := users[rng.IntN(len(users))]
			switch rng.IntN(8) {
			case 0:
				_ = client.Forget(user)
			case 1:
				_ = client.Invalidate(user, fmt.Sprint("token-", i))
			case 2:
				_, _ = client.Exchange(ctx, user)
			case 3:
				time.AfterFunc(time.Duration(rng.IntN(5000))*time.Microsecond, cancel)
				_, _ = client.Authorization(ctx, user)
			default:
				_, _ = client.Token(ctx, user)
			}
			cancel()
		}
	})
	checkIdle(t, client)
}
