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

func nobody(*waiter) bool { return false }

// crew is a leader's flight and those who wait for it, each with a second more than the one before.
func crew(t *testing.T, f *flights, n int) (*flight, []*waiter) {
	t.Helper()
	now := time.Now()
	led, leader := f.join("alice", now)
	if leader != nil {
		t.Fatal("the first one is no leader")
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

// got is what a waiter has been told, if anything.
func got(w *waiter) (outcome, bool) {
	select {
	case result := <-w.ready:
		return result, true
	default:
		return outcome{}, false
	}
}

func TestAllAreToldOfTheResult(t *testing.T) {
	var f flights
	led, waiters := crew(t, &f, 3)
	f.finish("alice", led, outcome{token: "token"}, nobody)
	for i, w := range waiters {
		if result, ok := got(w); !ok || result.token != "token" || result.lead {
			t.Errorf("%d: %v, %v", i, result, ok)
		}
	}
	if len(f.byUser) != 0 {
		t.Error("the flight goes on")
	}
}

func TestTheOneWithTheMostTimeGoesOn(t *testing.T) {
	var f flights
	led, waiters := crew(t, &f, 3)
	f.finish("alice", led, outcome{}, func(w *waiter) bool { return w != waiters[0] })
	if result, ok := got(waiters[0]); !ok || result.lead {
		t.Errorf("who does not go on: %v, %v", result, ok)
	}
	if result, ok := got(waiters[1]); ok {
		t.Errorf("who waits: %v", result)
	}
	if result, ok := got(waiters[2]); !ok || !result.lead {
		t.Errorf("who leads: %v, %v", result, ok)
	}
}

func TestALeadThatNobodyTakesIsPassedOn(t *testing.T) {
	var f flights
	led, waiters := crew(t, &f, 3)
	f.leave("alice", led, waiters[1])
	f.finish("alice", led, outcome{}, everybody)
	f.leave("alice", led, waiters[2]) // it was told to lead, and is gone
	if result, ok := got(waiters[0]); !ok || !result.lead {
		t.Errorf("%v, %v", result, ok)
	}
	f.finish("alice", led, outcome{}, everybody)
	if len(f.byUser) != 0 {
		t.Error("a flight with nobody in it")
	}
}

func TestAnyoneMayLeaveAtAnyTime(t *testing.T) {
	var f flights
	led, waiters := crew(t, &f, 5)
	for _, i := range []int{1, 4, 0} {
		f.leave("alice", led, waiters[i])
	}
	f.finish("alice", led, outcome{}, everybody)
	if result, ok := got(waiters[3]); !ok || !result.lead {
		t.Errorf("who leads: %v, %v", result, ok)
	}
	f.leave("alice", led, waiters[2])
	f.finish("alice", led, outcome{}, everybody)
	if len(f.byUser) != 0 {
		t.Error("a flight with nobody in it")
	}
}

func TestManyLeaveInNoTime(t *testing.T) {
	InTime(t, time.Second, func() time.Duration {
		var f flights
		led, waiters := crew(t, &f, 200000)
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

// waiting is how many wait for a user's leader, or -1 if there is none.
func (h *handle) waiting(user string) int {
	h.flights.mutex.Lock()
	defer h.flights.mutex.Unlock()
	if led, ok := h.flights.byUser[user]; ok {
		return len(led.waiters)
	}
	return -1
}

// checkNothingIsLeft of calls that have all returned: no slot is lost, no flight goes on, nobody is inside.
func checkNothingIsLeft(t *testing.T, client *Client) {
	t.Helper()
	h := client.handle
	if len(h.slots) != cap(h.slots) || len(h.flights.byUser) != 0 || h.users.Load() != 1 {
		t.Errorf("%d slots of %d, %v, %d users", len(h.slots), cap(h.slots), h.flights.byUser, h.users.Load())
	}
	if token, err := client.Token(t.Context(), "after-it-all"); err != nil || token == "" {
		t.Errorf("%q, %v", token, err)
	}
}

func TestTwentyThousandAreCancelledAtOnce(t *testing.T) {
	client, err := NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const goroutines = 20000
	round := 0
	InTime(t, 10*time.Second, func() time.Duration {
		round++
		user := fmt.Sprint("fault.stall.mass-", round)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var done sync.WaitGroup
		for range goroutines {
			done.Add(1)
			go func() {
				defer done.Done()
				if _, err := client.Token(ctx, user); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
		}
		Until(t, "the crowd", func() bool { return client.handle.waiting(user) == goroutines-1 })
		start := time.Now()
		cancel()
		if _, err := client.Token(t.Context(), fmt.Sprint("bystander-", round)); err != nil {
			t.Error(err)
		}
		done.Wait()
		return time.Since(start)
	})
	checkNothingIsLeft(t, client)
}

// All who were refused a token wait for the same exchange, and leave the slots to others.
func TestAStormOfReportsTakesOneSlot(t *testing.T) {
	client, err := NewFromEnv(WithMaxConcurrency(2))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const user, reporters = "fault.stall.storm", 300
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	for i := range reporters {
		done.Add(1)
		go func() {
			defer done.Done()
			drop := []func() error{
				func() error { return client.Invalidate(user, "token") },
				func() error { return client.Forget(user) },
			}[i%2]
			if err := drop(); err != nil {
				t.Error(err)
			}
			if _, err := client.Token(ctx, user); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
	}
	Until(t, "the storm", func() bool { return client.handle.waiting(user) == reporters-1 })
	if free := len(client.handle.slots); free != 1 {
		t.Errorf("%d slots are free", free)
	}
	if _, err := client.Token(t.Context(), "bystander"); err != nil {
		t.Error(err)
	}
	cancel()
	done.Wait()
	checkNothingIsLeft(t, client)
}

// unruly is a context of which a method ends its goroutine, or panics, after so many calls.
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

// token makes a call with it, and reports whether the call returned.
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

func TestAContextThatPanicsTakesNothingAlong(t *testing.T) {
	client, err := NewFromEnv(WithMaxConcurrency(2))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const shared = "fault.stall.unruly-shared"
	ctx, cancel := context.WithCancel(t.Context())
	leader := make(chan error)
	go func() {
		_, err := client.Token(ctx, shared)
		leader <- err
	}()
	Until(t, "the leader", func() bool { return client.handle.waiting(shared) == 0 && len(client.handle.slots) == 1 })
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
					t.Errorf("%s: %s was never called in %s", user, name, method)
				}
				if h := client.handle; len(h.slots) != 1 || h.waiting(shared) != 0 || h.waiting(user) > 0 || h.users.Load() != 2 {
					t.Fatalf("%s in %s: %d slots, %d wait, %d users", name, method, len(h.slots), h.waiting(user), h.users.Load())
				}
			}
		}
	}
	cancel()
	if err := <-leader; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	checkNothingIsLeft(t, client)
}

// unique is for the users of faults that are counted.
var unique atomic.Int32

// patience is a call with a deadline that far away, once those before it wait.
func patience(client *Client, user string, limit time.Duration) (cancel context.CancelFunc, result chan error) {
	before := client.handle.waiting(user)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	result = make(chan error, 1)
	go func() {
		_, err := client.Token(ctx, user)
		result <- err
	}()
	for client.handle.waiting(user) == before {
		time.Sleep(time.Millisecond)
	}
	return cancel, result
}

// The leader has no time to wait, and the one that gets the lead goes away: the next keeps to what the service asked.
func TestALeadThatIsHandedOverKeepsToRetryAfter(t *testing.T) {
	client, err := NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for round := 1; ; round++ {
		user := fmt.Sprintf("fault.delay.200.and.retry-after.1.x1.floor-%d", unique.Add(1))
		start := time.Now()
		cancelLeader, leader := patience(client, user, 1100*time.Millisecond)
		cancelFirst, first := patience(client, user, 40*time.Second)
		cancelNext, next := patience(client, user, 20*time.Second)
		failed := <-leader
		cancelFirst()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
		if err := <-next; err != nil {
			t.Errorf("the next: %v", err)
		}
		took := time.Since(start)
		cancelLeader()
		cancelNext()
		if errors.Is(failed, StatusTimeout) && round < 3 {
			continue // on a busy machine, before the service said when
		}
		if !errors.Is(failed, StatusServerError) {
			t.Errorf("the leader: %v", failed)
		}
		if took < 1200*time.Millisecond {
			t.Errorf("the second request came after %v", took)
		}
		break
	}
	checkNothingIsLeft(t, client)
}

func TestCloseEndsTheWaitForRetryAfter(t *testing.T) {
	InTime(t, 100*time.Millisecond, func() time.Duration {
		client, err := NewFromEnv()
		if err != nil {
			t.Fatal(err)
		}
		user := fmt.Sprintf("fault.delay.200.and.retry-after.60.x1.closed-%d", unique.Add(1))
		cancelLeader, leader := patience(client, user, 20*time.Second)
		defer cancelLeader()
		cancel, patient := patience(client, user, 5*time.Minute)
		defer cancel()
		if err := <-leader; !errors.Is(err, StatusServerError) {
			t.Errorf("the leader: %v", err)
		}
		start := time.Now()
		client.Close()
		if err := <-patient; !errors.Is(err, ErrClosed) {
			t.Errorf("the patient one: %v", err)
		}
		return time.Since(start)
	})
}

func TestWhoGoesOnAfterAFailure(t *testing.T) {
	h := &handle{maxAttempts: 3}
	now := time.Now()
	limit := now.Add(time.Second)
	for _, row := range []struct {
		name   string
		failed *Error
		waits  time.Duration
		want   bool
	}{
		{"a token", nil, time.Hour, false},
		{"a token that is rejected", &Error{Status: StatusTokenRejected, Attempts: 1, Retryable: true}, time.Hour, false},
		{"out of time", &Error{Status: StatusTimeout, Retryable: true}, 0, true},
		{"cancelled", &Error{Status: StatusCancelled}, 0, true},
		{"no retry can mend it", &Error{Status: StatusUnauthorized, Attempts: 1}, time.Hour, false},
		{"the attempts are used up", &Error{Status: StatusServerError, Attempts: 3, Retryable: true}, time.Hour, false},
		{"no more time than the leader", &Error{Status: StatusServerError, Attempts: 1, Retryable: true}, time.Second, false},
		{"more time than the leader", &Error{Status: StatusServerError, Attempts: 1, Retryable: true}, 2 * time.Second, true},
		{"not until it may be asked", &Error{Status: StatusServerError, Attempts: 1, Retryable: true, RetryAfter: time.Minute}, 30 * time.Second, false},
		{"until it may be asked", &Error{Status: StatusServerError, Attempts: 1, Retryable: true, RetryAfter: time.Minute}, 90 * time.Second, true},
	} {
		if got := h.goOn(row.failed, limit)(&waiter{limit: now.Add(row.waits)}); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

func TestStopWaitsForTheCancellation(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	begun, goOn := make(chan struct{}), make(chan struct{})
	returned := false
	stop := watch(ctx, func() {
		close(begun)
		<-goOn
		returned = true
	})
	end()
	<-begun
	time.AfterFunc(10*time.Millisecond, func() { close(goOn) })
	if stop() || !returned {
		t.Error("the handle would be freed under the cancellation")
	}
	if !watch(t.Context(), func() { t.Error("cancelled") })() || !watch(context.Background(), nil)() {
		t.Error("a handle that was not cancelled is given up")
	}
}

func TestNoTokenStaysInABuffer(t *testing.T) {
	client, err := NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
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
	for len(made) == 0 { // until those that are there already are gone, wherever the pool keeps them
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

// Everything at once, and then nobody is left.
func TestNothingIsLeftOfManyCalls(t *testing.T) {
	client, err := NewFromEnv(WithMaxConcurrency(4), WithMaxAttempts(2))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	users := []string{"mix-1", "mix-2", "fault.delay.5.mix", "fault.delay.20.mix", "fault.stall.mix", "fault.status.401.mix",
		"fault.status.500.and.retry-after.0.mix", "fault.close-before.mix", "not valid"}
	var done sync.WaitGroup
	for i := range 32 {
		done.Add(1)
		go func() {
			defer done.Done()
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
		}()
	}
	done.Wait()
	checkNothingIsLeft(t, client)
}
