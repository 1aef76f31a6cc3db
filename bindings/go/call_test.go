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

// inBothWays runs a test with calls that block if a place is free, and with calls that are all started.
func inBothWays(t *testing.T, test func(t *testing.T)) {
	t.Run("blocking", test)
	t.Run("started", func(t *testing.T) {
		const all = 1 << 20
		blocking.Add(all)
		defer blocking.Add(-all)
		test(t)
	})
}

func stats(t *testing.T, client *Client) Stats {
	t.Helper()
	found, err := client.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// waiting returns the number of calls that the client's queue has not handed out.
func (h *handle) waiting() int {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.queue == nil {
		return 0
	}
	h.queue.mutex.Lock()
	defer h.queue.mutex.Unlock()
	return len(h.queue.waiting)
}

// checkIdle checks that calls that have all returned hold no place and no reference, and that nothing is under way.
func checkIdle(t *testing.T, client *Client, places int32) {
	t.Helper()
	h := client.handle
	if blocking.Load() != places || h.waiting() != 0 || h.refs.Load() != 1 || stats(t, client).Pending != 0 {
		t.Errorf("%d places taken, not %d; %d wait, %d references, %v",
			blocking.Load(), places, h.waiting(), h.refs.Load(), stats(t, client))
	}
	if token, err := client.Token(t.Context(), "idle"); err != nil || token == "" {
		t.Errorf("%q, %v", token, err)
	}
}

// unique makes users of faults that are counted or used up.
var unique atomic.Int32

// begin starts a call and waits until it has looked into the cache.
func begin(t *testing.T, client *Client, ctx context.Context, user string) <-chan error {
	t.Helper()
	lookUps := func() uint64 { found := stats(t, client); return found.Hits + found.Misses }
	before := lookUps()
	result := Async(func() (string, error) { return client.Token(ctx, user) })
	Until(t, "the call has begun", func() bool { return lookUps() > before })
	return result
}

func TestCancelEndsOneCallAtOnce(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		client, places := envClient(t), blocking.Load()
		for cancelled, role := range []string{"the leader", "a waiter"} {
			InTime(t, 50*time.Millisecond, func() time.Duration {
				user := fmt.Sprintf("fault.delay.1000.cancel-%d", unique.Add(1))
				cause := errors.New("the user disconnected")
				ctx, cancel := context.WithCancelCause(t.Context())
				contexts := []context.Context{t.Context(), t.Context(), t.Context()}
				contexts[cancelled] = ctx
				var results []<-chan error
				for _, ctx := range contexts {
					results = append(results, begin(t, client, ctx, user))
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
		checkIdle(t, client, places)
	})
}

func TestAHitWhileManyPeek(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		client, places := envClient(t), blocking.Load()
		for name, call := range map[string]func(context.Context, string) (string, error){
			"Token": client.Token, "Authorization": client.Authorization,
		} {
			want, err := call(t.Context(), "idle")
			if err != nil {
				t.Fatal(err)
			}
			before := stats(t, client)
			many := peekingMax.Load()
			client.handle.refs.Add(many)
			got, err := call(t.Context(), "idle")
			client.handle.refs.Add(-many)
			if after := stats(t, client); err != nil || got != want || after.Hits != before.Hits+1 || after.Misses != before.Misses {
				t.Errorf("%s: %q, not %q, %v, %v", name, got, want, err, after)
			}
		}
		checkIdle(t, client, places)
	})
}

func TestTheLimitOnPeeksFollowsGOMAXPROCS(t *testing.T) {
	client := envClient(t)
	hit := func() {
		t.Helper()
		if _, err := client.Token(t.Context(), "idle"); err != nil {
			t.Fatal(err)
		}
	}
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	for _, now := range []int{procs, procs + 8, 1} {
		runtime.GOMAXPROCS(now)
		if err := client.Forget("idle"); err != nil {
			t.Fatal(err)
		}
		hit() // a miss
		if want := onePeek * int64(now+2); peekingMax.Load() != want {
			t.Errorf("%d: %#x, not %#x", now, peekingMax.Load(), want)
		}
	}
	runtime.GOMAXPROCS(procs)
	many := peekingMax.Load()
	client.handle.refs.Add(many)
	hit() // one too many for the old limit
	client.handle.refs.Add(-many)
	if want := onePeek * int64(procs+2); peekingMax.Load() != want {
		t.Errorf("after a hit: %#x, not %#x", peekingMax.Load(), want)
	}
}

// Calls for one slow user do not keep others from theirs, and all end at once.
func TestTwentyThousandCallsForOneUser(t *testing.T) {
	client, places := envClient(t, WithMaxConcurrency(2)), blocking.Load()
	const n = 20000
	InTime(t, 10*time.Second, func() time.Duration {
		user := fmt.Sprint("fault.stall.crowd-", unique.Add(1))
		before := stats(t, client).Misses
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var results []<-chan error
		for range n {
			results = append(results, Async(func() (string, error) { return client.Token(ctx, user) }))
		}
		Until(t, "all calls wait", func() bool { return stats(t, client).Misses == before+n })
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
	checkIdle(t, client, places)
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

func (u unruly) Deadline() (time.Time, bool) { u.call("Deadline"); return u.Context.Deadline() }
func (u unruly) Done() <-chan struct{}       { u.call("Done"); return u.Context.Done() }
func (u unruly) Err() error                  { u.call("Err"); return u.Context.Err() }
func (u unruly) Value(key any) any           { u.call("Value"); return u.Context.Value(key) }

// token makes a call with the context and reports whether it returned.
func (u unruly) token(client *Client, user string, calls int32) bool {
	return u.returns(func(ctx context.Context) { _, _ = client.Token(ctx, user) }, calls)
}

// returns reports whether a call with the context returned.
func (u unruly) returns(call func(context.Context), calls int32) (returned bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	u.Context, u.calls = ctx, new(atomic.Int32)
	u.calls.Store(calls)
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() { _ = recover() }()
		call(u)
		returned = true
	}()
	<-over
	return returned
}

func TestAPanickingContextHoldsNothing(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		client, places := envClient(t), blocking.Load()
		for name, end := range map[string]func(){"panic": func() { panic("unruly") }, "Goexit": runtime.Goexit} {
			for _, method := range []string{"Done", "Err", "Value", "Deadline"} {
				ended := 0
				for calls := range int32(8) {
					user := fmt.Sprint("fault.stall.unruly-", unique.Add(1))
					if !(unruly{method: method, end: end}).token(client, user, calls) {
						ended++
					}
				}
				if ended == 0 && !(method == "Value" && places > 0) { // a started call asks for none
					t.Errorf("%s in %s was never reached", name, method)
				}
				checkIdle(t, client, places)
			}
		}
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
	if stop(); !returned {
		t.Error("the handle would be freed during the cancellation")
	}
	afterDone(t.Context(), func() { t.Error("cancelled") })()
	afterDone(context.Background(), nil)()
}

func TestTokensAreWipedFromBuffers(t *testing.T) {
	inBothWays(t, checkBuffersAreWiped)
}

func checkBuffersAreWiped(t *testing.T) {
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
	for range 2 { // empties the pool; Get would leave what other processors keep
		runtime.GC()
	}
	for name, call := range map[string]func(context.Context, string) (string, error){
		"Token": client.Token, "Authorization": client.Authorization, "Exchange": client.Exchange,
		"Provision": func(ctx context.Context, user string) (string, error) {
			return "", client.Provision(ctx, []string{user})[0]
		},
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
	client, places := envClient(t, WithMaxConcurrency(4), WithMaxAttempts(2)), blocking.Load()
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
	checkIdle(t, client, places)
}
