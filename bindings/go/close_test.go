//go:build cgo

package spikeauth_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestCallsAfterCloseReturnErrClosed(t *testing.T) {
	client := server.client(t, "http")
	token, err := client.Token(t.Context(), "closed")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, call := range everyCall(t.Context(), client, "closed", token) {
		if err := call(); !errors.Is(err, spikeauth.ErrClosed) || !errors.Is(err, spikeauth.StatusClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestANilOrZeroClientReturnsErrClosed(t *testing.T) {
	for _, client := range []*spikeauth.Client{nil, new(spikeauth.Client)} {
		for name, call := range everyCall(t.Context(), client, "closed", "token") {
			if err := call(); !errors.Is(err, spikeauth.ErrClosed) || !strings.Contains(err.Error(), "New") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Two calls have a permit, two leaders wait for one, and the others wait for these four.
func TestCloseEndsCallsInProgress(t *testing.T) {
	for calls, limit := range map[int]time.Duration{40: 100 * time.Millisecond, 5000: time.Second} {
		inTime(t, limit, func() time.Duration { return closeDuring(t, calls) })
	}
}

var closes int

// closeDuring returns how long a Close and the ends of all calls took.
func closeDuring(t *testing.T, calls int) time.Duration {
	closes++
	client := server.client(t, "http", spikeauth.WithMaxConcurrency(2))
	user := func(i int) string { return fmt.Sprintf("fault.stall.close-%d-%d", closes, i) }
	var results []<-chan error
	for i := range calls {
		results = append(results, async(func() (string, error) { return client.Token(context.Background(), user(i%4)) }))
	}
	until(t, "two requests", func() bool {
		users, sent := server.counters(t).Users, 0
		for i := range 4 {
			sent += users[user(i)]
		}
		return sent == 2
	})
	start := time.Now()
	client.Close()
	for _, result := range results {
		if err := <-result; !errors.Is(err, spikeauth.ErrClosed) {
			t.Error(err)
		}
	}
	return time.Since(start)
}

func TestConcurrentCloses(t *testing.T) {
	const callers, closers = 8, 2
	for round := range 30 {
		client := server.client(t, "http")
		if _, err := client.Token(t.Context(), "hit"); err != nil {
			t.Fatal(err)
		}
		concurrently(callers+closers, func(i int) {
			if i >= callers {
				time.Sleep(time.Duration(round%5) * time.Millisecond)
				client.Close()
				return
			}
			var err error
			for n := 0; err == nil; n++ {
				user := []string{"hit", fmt.Sprintf("miss-%d-%d-%d", round, i, n)}[i%2]
				var token string
				if token, err = client.Token(context.Background(), user); err == nil && subject(token) != user {
					t.Errorf("the token of %q, not of %q", subject(token), user)
				}
				if _, signError := client.SignUser(user); signError != nil && !errors.Is(signError, spikeauth.ErrClosed) {
					t.Error(signError)
				}
			}
			if !errors.Is(err, spikeauth.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

func TestAClientIsNotCollectedDuringACall(t *testing.T) {
	result := async(func() (string, error) {
		client, err := spikeauth.New(applicationID, []byte(key), spikeauth.WithBaseURL(server.ready["http"]))
		if err != nil {
			return "", err
		}
		return client.Token(context.Background(), "fault.delay.300.collected") // the last reference
	})
	for {
		select {
		case err := <-result:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			runtime.GC()
		}
	}
}
