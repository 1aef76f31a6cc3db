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

func TestATokenIsKept(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		client := server.client(t, scheme)
		user := "kept-" + scheme
		token, err := client.Token(t.Context(), user)
		if err != nil || subject(token) != user {
			t.Fatalf("%q, %v", token, err)
		}
		again, err := client.Token(t.Context(), user)
		if err != nil || again != token {
			t.Errorf("%q, %v", again, err)
		}
		header, err := client.Authorization(t.Context(), user)
		if err != nil || header != "Bearer "+token {
			t.Errorf("%q, %v", header, err)
		}
		if n := server.requests(t, user); n != 1 {
			t.Errorf("%d requests", n)
		}
		exchanged, err := client.Exchange(t.Context(), user)
		if err != nil || exchanged != token || server.requests(t, user) != 2 {
			t.Errorf("%q, %v", exchanged, err)
		}
		stats, err := client.Stats()
		want := spikeauth.Stats{Hits: 2, Misses: 1, Exchanges: 1, Requests: 1, Entries: 1, Bytes: stats.Bytes}
		if err != nil || stats != want || stats.Bytes == 0 {
			t.Errorf("%+v, %v", stats, err)
		}
	}
}

func TestAnAuthorizationOfACold(t *testing.T) {
	client := server.client(t, "http")
	header, err := client.Authorization(t.Context(), "cold-header")
	token, _ := client.Token(t.Context(), "cold-header")
	if err != nil || header != "Bearer "+token || subject(token) != "cold-header" {
		t.Errorf("%q, %v", header, err)
	}
}

func TestTheLongestTokenFits(t *testing.T) {
	client := server.client(t, "http")
	for range 2 {
		header, err := client.Authorization(t.Context(), "fault.max-token")
		if err != nil || len(header) != len("Bearer ")+8192 {
			t.Errorf("%d, %v", len(header), err)
		}
	}
}

func TestInvalidateAndForget(t *testing.T) {
	s := newSandbox(t, "--fresh-tokens")
	client := s.client(t, "http")
	get := func() string {
		t.Helper()
		token, err := client.Token(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	first := get()
	if err := client.Invalidate("alice", "another-token"); err != nil || get() != first {
		t.Errorf("another token was reported: %v", err)
	}
	if err := client.Invalidate("alice", first); err != nil {
		t.Fatal(err)
	}
	second := get()
	if second == first {
		t.Error("the token is still there")
	}
	if err := client.Forget("alice"); err != nil || get() == second {
		t.Errorf("it was not forgotten: %v", err)
	}
	if err := client.Invalidate("alice", ""); !errors.Is(err, spikeauth.StatusInvalidArgument) {
		t.Errorf("no token was reported: %v", err)
	}
	if err := client.Forget("nobody"); err != nil {
		t.Errorf("there was nothing to forget: %v", err)
	}
}

func TestATokenThatComesBackRejectedIsNotAskedForAgain(t *testing.T) {
	client := server.client(t, "http") // the sandbox makes the same token each time
	token, err := client.Token(t.Context(), "rejected")
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Invalidate("rejected", token); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err = client.Token(t.Context(), "rejected")
		var e *spikeauth.Error
		if !errors.As(err, &e) || e.Status != spikeauth.StatusTokenRejected || !e.Retryable || e.RetryAfter <= 0 {
			t.Errorf("%#v", err)
		}
	}
	if n := server.requests(t, "rejected"); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestASignatureMadeElsewhere(t *testing.T) {
	keyless, err := spikeauth.New(applicationID, nil, spikeauth.WithBaseURL(server.places["http"]))
	if err != nil {
		t.Fatal(err)
	}
	defer keyless.Close()
	signature, _ := spikeauth.SignUser([]byte(key), "elsewhere")
	if token, err := keyless.ExchangeSignature(t.Context(), "elsewhere", signature); err != nil || subject(token) != "elsewhere" {
		t.Errorf("%q, %v", token, err)
	}
	for _, row := range []struct {
		user, signature string
		want            spikeauth.Status
	}{
		{"elsewhere", "", spikeauth.StatusInvalidSignature},
		{"elsewhere", "00", spikeauth.StatusInvalidSignature},
		{"somebody", signature, spikeauth.StatusUnauthorized},
	} {
		if _, err := keyless.ExchangeSignature(t.Context(), row.user, row.signature); !errors.Is(err, row.want) {
			t.Errorf("%v, not %v", err, row.want)
		}
	}
	if _, err := keyless.Token(t.Context(), "elsewhere"); !errors.Is(err, spikeauth.StatusKeyRequired) {
		t.Errorf("%v", err)
	}
}

// crowd makes n calls at once, and returns their errors.
func crowd(n int, call func() error) []error {
	failed := make([]error, n)
	var done sync.WaitGroup
	for i := range n {
		done.Add(1)
		go func() {
			defer done.Done()
			failed[i] = call()
		}()
	}
	done.Wait()
	return failed
}

func TestACrowdMakesOneExchange(t *testing.T) {
	client := server.client(t, "http")
	const user, n = "fault.delay.200.crowd", 1000
	for _, err := range crowd(n, func() error {
		token, err := client.Token(t.Context(), user)
		if err == nil && subject(token) != user {
			return fmt.Errorf("the token of %q", subject(token))
		}
		return err
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := server.requests(t, user); got != 1 {
		t.Errorf("%d requests", got)
	}
	stats, err := client.Stats()
	if err != nil || stats.Hits+stats.Misses != n || stats.Exchanges != 1 || stats.Coalesced+stats.Exchanges > stats.Misses {
		t.Errorf("%+v, %v", stats, err)
	}
}

func TestACrowdSharesAFailure(t *testing.T) {
	for fault, requests := range map[string]int{"status.401": 1, "status.500": 3, "retry-after.60": 1} {
		client := server.client(t, "http") // Retry-After holds all calls of a client
		user := "fault.delay.200.and." + fault + ".crowd"
		seen := map[*spikeauth.Error]bool{}
		for _, err := range crowd(200, func() error {
			_, err := client.Token(context.Background(), user)
			return err
		}) {
			var e *spikeauth.Error
			if !errors.As(err, &e) || e.HTTPStatus == 0 || e.Attempts != requests || seen[e] {
				t.Fatalf("%s: %#v, or not an error of their own", fault, err)
			}
			seen[e] = true
		}
		if got := server.requests(t, user); got != requests {
			t.Errorf("%s: %d requests, not %d", fault, got, requests)
		}
	}
}

// A leader that has no time for another attempt fails alone.
func TestALeaderInAHurryHandsOver(t *testing.T) {
	client := server.client(t, "http")
	const user = "fault.delay.300.and.retry-after.2.x1.hurry"
	hurry, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	leader := make(chan error)
	go func() {
		_, err := client.Token(hurry, user)
		leader <- err
	}()
	until(t, "the leader's request", func() bool { return server.requests(t, user) == 1 })
	patient, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if token, err := client.Token(patient, user); err != nil || subject(token) != user {
		t.Errorf("the patient one: %q, %v", token, err)
	}
	if err := <-leader; !errors.Is(err, spikeauth.StatusServerError) {
		t.Errorf("the leader: %v", err)
	}
}

// Those who wait for one slow user do not keep the others out.
func TestOneSlowUserDoesNotStarveTheOthers(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithMaxConcurrency(2))
	const slow = "fault.stall.starve"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, err := range crowd(100, func() error {
			_, err := client.Token(ctx, slow)
			return err
		}) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a slow one: %v", err)
			}
		}
	}()
	until(t, "the slow request", func() bool { return server.requests(t, slow) == 1 })
	for i := range 20 {
		user := fmt.Sprintf("quick-%d", i)
		if token, err := client.Token(ctx, user); err != nil || subject(token) != user {
			t.Fatalf("%q, %v", token, err)
		}
	}
	cancel()
	<-done
}
