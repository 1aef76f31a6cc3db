//go:build cgo

package spikeauth

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func everybody(*waiter) bool { return true }
func nobody(*waiter) bool    { return false }

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

func TestWhatWasDroppedIsNotWaitedFor(t *testing.T) {
	var f flights
	led, waiters := crew(t, &f, 1)
	f.detach("alice")
	other, w := f.join("alice", time.Now())
	if w != nil || other == led {
		t.Fatal("it joined the flight that is over")
	}
	f.finish("alice", led, outcome{token: "old"}, nobody)
	if result, ok := got(waiters[0]); !ok || result.token != "old" {
		t.Errorf("%v, %v", result, ok)
	}
	if f.byUser["alice"] != other {
		t.Error("the end of one flight ended another")
	}
}

func TestInvalidateAndForgetDetach(t *testing.T) {
	client, err := NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for name, drop := range map[string]func() error{
		"Invalidate": func() error { return client.Invalidate("alice", "token") },
		"Forget":     func() error { return client.Forget("alice") },
	} {
		client.handle.flights.join("alice", time.Now())
		if err := drop(); err != nil || len(client.handle.flights.byUser) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
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
	for range 100 { // those that are there already
		buffers.Get()
	}
	buffers.New = func() any {
		mutex.Lock()
		defer mutex.Unlock()
		made = append(made, new(buffer))
		return made[len(made)-1]
	}
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

// Everything at once, and then nobody is left: no slot is lost, no flight goes on, nobody is inside.
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
	h := client.handle
	if len(h.slots) != 4 || len(h.flights.byUser) != 0 || h.users.Load() != 1 {
		t.Errorf("%d slots, %v, %d users", len(h.slots), h.flights.byUser, h.users.Load())
	}
	if token, err := client.Token(t.Context(), "after-the-mix"); err != nil || token == "" {
		t.Errorf("%q, %v", token, err)
	}
}
