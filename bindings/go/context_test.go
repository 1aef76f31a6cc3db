//go:build cgo

package spikeauth_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestDeadlineExceeded(t *testing.T) {
	const workers, calls = 16, 320
	client := server.client(t, "http", spikeauth.WithMaxConcurrency(64))
	cause := errors.New("the page was late")
	concurrently(workers, func(worker int) {
		for i := worker; i < calls; i += workers {
			call := []func(context.Context, string) (string, error){client.Token, client.Exchange}[i/workers%2]
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(500+87*i)*time.Microsecond, cause)
			token, err := call(ctx, fmt.Sprintf("fault.stall.deadline-%d", i%(calls-50))) // some wait for a leader
			cancel()
			if token != "" || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, spikeauth.StatusTimeout) ||
				!errors.Is(err, cause) || errors.Is(err, context.Canceled) {
				t.Errorf("%d: %q, %v", i, token, err)
			}
		}
	})
	if token, err := client.Token(t.Context(), "after-deadlines"); err != nil || subject(token) != "after-deadlines" {
		t.Errorf("the next call: %q, %v", token, err)
	}
}

// Replies and deadlines at the same moment.
func TestATokenOrDeadlineExceeded(t *testing.T) {
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

func TestADoneContextMakesNoCall(t *testing.T) {
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
		for _, user := range []string{"done", "not-cached"} {
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

func TestANilArgumentPanics(t *testing.T) {
	client := server.client(t, "http")
	for want, call := range map[string]func(){
		"spikeauth: nil context": func() {
			var none context.Context
			_, _ = client.Token(none, "alice")
		},
		"spikeauth: nil convert": func() { spikeauth.NewTokenSource[string](client, "alice", nil) },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != want {
					t.Errorf("%s, not %s", got, want)
				}
			}()
			call()
		}()
	}
}

func TestTheContextsDeadlineOverridesTheClientsTimeout(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithTimeout(100*time.Millisecond))
	for name, left := range map[string]time.Duration{"longer": 20 * time.Second, "over-the-limit": 1000 * time.Hour} {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		defer cancel()
		if _, err := client.Token(ctx, "fault.delay.300."+name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := client.Token(context.Background(), "fault.delay.5000.client")
	if !errors.Is(err, spikeauth.StatusTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no deadline: %v", err)
	}
}

func TestTheWaitForAPermitEndsInTime(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithMaxConcurrency(1), spikeauth.WithTimeout(300*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	busy := async(func() (string, error) { return client.Exchange(ctx, "fault.stall.permit") })
	until(t, "the first request", func() bool { return server.requests(t, "fault.stall.permit") == 1 })
	if _, err := client.Token(context.Background(), "permit-1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client's timeout: %v", err)
	}
	soon, cancelSoon := context.WithCancel(ctx)
	time.AfterFunc(20*time.Millisecond, cancelSoon)
	if _, err := client.Token(soon, "permit-2"); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v", err)
	}
	cancel()
	if err := <-busy; !errors.Is(err, context.Canceled) {
		t.Errorf("the first call: %v", err)
	}
	if token, err := client.Token(t.Context(), "permit-3"); err != nil || subject(token) != "permit-3" {
		t.Errorf("the next call: %q, %v", token, err)
	}
}

func TestAnInvalidCallNeedsNoPermit(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithMaxConcurrency(1))
	keyless, err := spikeauth.New(applicationID, nil,
		spikeauth.WithBaseURL(server.ready["http"]), spikeauth.WithMaxConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer keyless.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var busy []<-chan error
	for i, one := range []*spikeauth.Client{client, keyless} {
		user := fmt.Sprintf("fault.stall.busy-%d", i)
		signature, _ := spikeauth.SignUser([]byte(key), user)
		busy = append(busy, async(func() (string, error) { return one.ExchangeSignature(ctx, user, signature) }))
		until(t, "the request", func() bool { return server.requests(t, user) == 1 })
	}
	for name, row := range map[string]struct {
		call func() (string, error)
		want spikeauth.Status
	}{
		"user id":           {func() (string, error) { return client.Exchange(ctx, "not valid") }, spikeauth.StatusInvalidUserID},
		"no key":            {func() (string, error) { return keyless.Exchange(ctx, "alice") }, spikeauth.StatusKeyRequired},
		"signature":         {func() (string, error) { return client.ExchangeSignature(ctx, "alice", "00") }, spikeauth.StatusInvalidSignature},
		"empty signature":   {func() (string, error) { return client.ExchangeSignature(ctx, "alice", "") }, spikeauth.StatusInvalidSignature},
		"user id, no key":   {func() (string, error) { return keyless.ExchangeSignature(ctx, "not valid", "00") }, spikeauth.StatusInvalidUserID},
		"signature, no key": {func() (string, error) { return keyless.ExchangeSignature(ctx, "alice", "00") }, spikeauth.StatusInvalidSignature},
	} {
		var e *spikeauth.Error
		if _, err := row.call(); !errors.As(err, &e) || e.Status != row.want || e.Op != "exchange" {
			t.Errorf("%s: %v", name, err)
		}
	}
	cancel()
	for _, result := range busy {
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("the call in progress: %v", err)
		}
	}
}
