//go:build cgo

package spikeauth_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestToken(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		client := server.client(t, scheme)
		user := "token-" + scheme
		token, err := client.Token(t.Context(), user)
		if err != nil || subject(token) != user {
			t.Fatalf("%q, %v", token, err)
		}
		if again, err := client.Token(t.Context(), user); err != nil || again != token {
			t.Errorf("second call: %q, %v", again, err)
		}
		if header, err := client.Authorization(t.Context(), user); err != nil || header != "Bearer "+token {
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

func TestAuthorizationWithTheLongestToken(t *testing.T) {
	client := server.client(t, "http")
	for _, state := range []string{"miss", "hit"} {
		header, err := client.Authorization(t.Context(), "fault.max-token")
		if err != nil || !strings.HasPrefix(header, "Bearer ") || len(header) != len("Bearer ")+8192 {
			t.Errorf("%s: %d, %v", state, len(header), err)
		}
	}
}

func TestInvalidateAndForget(t *testing.T) {
	client := newSandbox(t, "--fresh-tokens").client(t, "http")
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
		t.Errorf("invalidating another token: %v", err)
	}
	if err := client.Invalidate("alice", first); err != nil {
		t.Fatal(err)
	}
	second := get()
	if second == first {
		t.Error("the invalidated token is still cached")
	}
	if err := client.Forget("alice"); err != nil || get() == second {
		t.Errorf("the token is still cached after Forget: %v", err)
	}
	if err := client.Invalidate("alice", ""); !errors.Is(err, spikeauth.StatusInvalidArgument) {
		t.Errorf("invalidating an empty token: %v", err)
	}
	if err := client.Forget("nobody"); err != nil {
		t.Errorf("forgetting an unknown user: %v", err)
	}
}

func TestExchangeSignature(t *testing.T) {
	keyless, err := spikeauth.New(applicationID, nil, spikeauth.WithBaseURL(server.ready["http"]))
	if err != nil {
		t.Fatal(err)
	}
	defer keyless.Close()
	signature, _ := spikeauth.SignUser([]byte(key), "elsewhere")
	if token, err := keyless.ExchangeSignature(t.Context(), "elsewhere", signature); err != nil || subject(token) != "elsewhere" {
		t.Errorf("%q, %v", token, err)
	}
	if _, err := keyless.ExchangeSignature(t.Context(), "somebody", signature); !errors.Is(err, spikeauth.StatusUnauthorized) {
		t.Errorf("another user's signature: %v", err)
	}
	if _, err := keyless.Token(t.Context(), "elsewhere"); !errors.Is(err, spikeauth.StatusKeyRequired) {
		t.Errorf("no key: %v", err)
	}
}

func TestConcurrentCallsShareOneExchange(t *testing.T) {
	client := server.client(t, "http")
	const user, n = "fault.delay.200.crowd", 1000
	concurrently(n, func(int) {
		if token, err := client.Token(t.Context(), user); err != nil || subject(token) != user {
			t.Errorf("%q, %v", token, err)
		}
	})
	if got := server.requests(t, user); got != 1 {
		t.Errorf("%d requests", got)
	}
	stats, err := client.Stats()
	if err != nil || stats.Hits+stats.Misses != n || stats.Exchanges != 1 || stats.Coalesced+stats.Exchanges > stats.Misses {
		t.Errorf("%+v, %v", stats, err)
	}
}

func TestConcurrentCallsReceiveTheirOwnCopyOfAnError(t *testing.T) {
	client := server.client(t, "http")
	const user, n = "fault.delay.200.and.status.500.crowd", 200
	failed := make([]*spikeauth.Error, n)
	concurrently(n, func(i int) {
		_, err := client.Token(context.Background(), user)
		if !errors.As(err, &failed[i]) || failed[i].HTTPStatus != 500 || failed[i].Attempts != 3 {
			t.Errorf("%#v", err)
		}
	})
	seen := map[*spikeauth.Error]bool{}
	for _, e := range failed {
		seen[e] = true
	}
	if len(seen) != n {
		t.Errorf("%d errors for %d calls", len(seen), n)
	}
	if got := server.requests(t, user); got != 3 {
		t.Errorf("%d requests", got)
	}
}
