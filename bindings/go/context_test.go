//go:build cgo

package spikeauth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestEveryRaceWithADeadlineIsDeadlineExceeded(t *testing.T) {
	client := server.client(t, "http")
	for i := range 200 {
		call := []func(context.Context, string) (string, error){client.Token, client.Exchange}[i%2]
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(500+37*i)*time.Microsecond)
		token, err := call(ctx, fmt.Sprintf("fault.stall.race-%d", i))
		cancel()
		if token != "" || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, spikeauth.StatusTimeout) ||
			errors.Is(err, context.Canceled) {
			t.Fatalf("race %d: %q, %v", i, token, err)
		}
	}
	if token, err := client.Token(t.Context(), "after-the-races"); err != nil || subject(token) != "after-the-races" {
		t.Errorf("the next call: %q, %v", token, err)
	}
}

func TestADeadlineAlwaysHasItsCause(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithMaxConcurrency(64))
	cause := errors.New("the page was late")
	var calls []func()
	for i := range 200 {
		calls = append(calls, func() {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(5000+137*i)*time.Microsecond, cause)
			defer cancel()
			_, err := client.Token(ctx, fmt.Sprintf("fault.stall.cause-%d", i%150)) // some wait for another
			if !errors.Is(err, cause) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	parallel(calls)
}

func TestARaceThatIsWonIsAToken(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithCacheCapacity(0))
	for i := range 100 {
		user := fmt.Sprintf("fault.delay.%d.tie-%d", 1+i%4, i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%8)*time.Millisecond)
		token, err := client.Token(ctx, user)
		cancel()
		if err == nil && subject(token) != user || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s: %q, %v", user, token, err)
		}
	}
}

func TestACancelledCallIsBackAtOnceAndAlone(t *testing.T) {
	client := server.client(t, "http")
	round := 0
	inTime(t, 50*time.Millisecond, func() time.Duration {
		round++
		user := fmt.Sprintf("fault.delay.400.cancel-%d", round)
		var others sync.WaitGroup
		for range 5 {
			others.Add(1)
			go func() {
				defer others.Done()
				if token, err := client.Token(t.Context(), user); err != nil || subject(token) != user {
					t.Errorf("another waiter: %q, %v", token, err)
				}
			}()
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan time.Time)
		go func() {
			_, err := client.Token(ctx, user)
			ended <- time.Now()
			if !errors.Is(err, context.Canceled) || !errors.Is(err, spikeauth.StatusCancelled) {
				t.Errorf("not cancelled: %v", err)
			}
		}()
		until(t, "the request", func() bool { return server.requests(t, user) > 0 })
		cancelled := time.Now()
		cancel()
		took := (<-ended).Sub(cancelled)
		others.Wait()
		return took
	})
}

func TestACancelledLeaderHandsOver(t *testing.T) {
	client := server.client(t, "http")
	const user = "fault.delay.300.leader"
	ctx, cancel := context.WithCancelCause(t.Context())
	leader := make(chan error)
	go func() {
		_, err := client.Token(ctx, user)
		leader <- err
	}()
	until(t, "the leader's request", func() bool { return server.requests(t, user) == 1 })
	waiter := make(chan error)
	go func() {
		_, err := client.Token(t.Context(), user)
		waiter <- err
	}()
	cause := errors.New("the user went away")
	cancel(cause)
	if err := <-leader; !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("the leader: %v", err)
	}
	if err := <-waiter; err != nil {
		t.Errorf("the other: %v", err)
	}
}

func TestAContextThatIsDoneMakesNoCall(t *testing.T) {
	client := server.client(t, "http")
	if _, err := client.Token(t.Context(), "done"); err != nil {
		t.Fatal(err)
	}
	requests := server.counters(t).Requests
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	for ctx, want := range map[context.Context]error{cancelled: context.Canceled, late: context.DeadlineExceeded} {
		for _, user := range []string{"done", "not-there"} {
			for _, call := range []func(context.Context, string) (string, error){client.Token, client.Authorization, client.Exchange} {
				if token, err := call(ctx, user); token != "" || !errors.Is(err, want) {
					t.Errorf("%q, %v", token, err)
				}
			}
		}
	}
	if after := server.counters(t).Requests; after != requests {
		t.Errorf("%d requests", after-requests)
	}
}

func TestANilContextPanics(t *testing.T) {
	client := server.client(t, "http")
	defer func() {
		if fmt.Sprint(recover()) != "spikeauth: nil context" {
			t.Error("it does not")
		}
	}()
	var none context.Context
	_, _ = client.Token(none, "alice")
}

func TestWhichDeadlineCounts(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithTimeout(100*time.Millisecond))
	longer, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := client.Token(longer, "fault.delay.300.longer"); err != nil {
		t.Errorf("the context allows more: %v", err)
	}
	_, err := client.Token(context.Background(), "fault.delay.5000.shorter")
	if !errors.Is(err, spikeauth.StatusTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client allows no more: %v", err)
	}
	endless, cancel := context.WithDeadline(t.Context(), time.Now().Add(1000*time.Hour))
	defer cancel()
	if _, err := client.Token(endless, "fault.delay.300.endless"); err != nil {
		t.Errorf("a deadline beyond the limit: %v", err)
	}
}

// The turn is waited for in Go, and the deadline holds there too.
func TestWaitingForATurnEndsInTime(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithMaxConcurrency(1), spikeauth.WithTimeout(300*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	busy := make(chan error)
	go func() {
		_, err := client.Exchange(ctx, "fault.stall.turn")
		busy <- err
	}()
	until(t, "the first request", func() bool { return server.requests(t, "fault.stall.turn") == 1 })
	if _, err := client.Token(context.Background(), "turn-1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client's deadline: %v", err)
	}
	soon, cancelSoon := context.WithCancel(ctx)
	time.AfterFunc(20*time.Millisecond, cancelSoon)
	if _, err := client.Token(soon, "turn-2"); !errors.Is(err, context.Canceled) {
		t.Errorf("the context's end: %v", err)
	}
	cancel()
	if err := <-busy; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	if token, err := client.Token(t.Context(), "turn-3"); err != nil || subject(token) != "turn-3" {
		t.Errorf("the next: %q, %v", token, err)
	}
}

// What can never succeed fails at once, also when all places are taken.
func TestWhatIsNotValidDoesNotWaitForATurn(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithMaxConcurrency(1))
	keyless, err := spikeauth.New(applicationID, nil,
		spikeauth.WithBaseURL(server.places["http"]), spikeauth.WithMaxConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer keyless.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var busy sync.WaitGroup
	for i, one := range []*spikeauth.Client{client, keyless} {
		user := fmt.Sprintf("fault.stall.places-%d", i)
		signature, _ := spikeauth.SignUser([]byte(key), user)
		busy.Add(1)
		go func() {
			defer busy.Done()
			if _, err := one.ExchangeSignature(ctx, user, signature); !errors.Is(err, context.Canceled) {
				t.Errorf("the one before: %v", err)
			}
		}()
		until(t, "the request", func() bool { return server.requests(t, user) == 1 })
	}
	for name, row := range map[string]struct {
		call func() (string, error)
		want spikeauth.Status
	}{
		"user id":      {func() (string, error) { return client.Exchange(ctx, "not valid") }, spikeauth.StatusInvalidUserID},
		"no key":       {func() (string, error) { return keyless.Exchange(ctx, "alice") }, spikeauth.StatusKeyRequired},
		"signature":    {func() (string, error) { return client.ExchangeSignature(ctx, "alice", "00") }, spikeauth.StatusInvalidSignature},
		"signed other": {func() (string, error) { return keyless.ExchangeSignature(ctx, "not valid", "00") }, spikeauth.StatusInvalidUserID},
	} {
		var e *spikeauth.Error
		if _, err := row.call(); !errors.As(err, &e) || e.Status != row.want || e.Op != "exchange" {
			t.Errorf("%s: %v", name, err)
		}
	}
	cancel()
	busy.Wait()
}
