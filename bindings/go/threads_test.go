//go:build cgo && linux

package spikeauth_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func threads(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// 20 000 goroutines, each for a user without a token, and a sandbox that takes a second. The test runs in its own process, where
// nothing else creates threads.
func TestWaitingCallsHoldNoThreads(t *testing.T) {
	if os.Getenv("SPIKEAUTH_TEST_THREADS") == "" {
		inItsOwnProcess(t, "SPIKEAUTH_TEST_THREADS")
		return
	}
	const goroutines, limit = 20000, 32 // the default
	s := newSandbox(t, "--delay-ms", "1000")
	client := s.client(t, "http")
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan struct{})
	go func() {
		defer close(calls)
		concurrently(goroutines, func(i int) {
			user := fmt.Sprintf("cold-%d", i)
			token, err := client.Token(ctx, user)
			if err == nil && subject(token) != user ||
				err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, spikeauth.StatusTimeout) {
				t.Errorf("%q, %v", token, err)
			}
		})
	}()
	most := 0
	until(t, "the third round has begun", func() bool {
		most = max(most, threads(t))
		return s.counters(t).Requests > 2*limit
	})
	if got := s.counters(t).MaxInFlight; got != limit {
		t.Errorf("%d exchanges in flight, not %d", got, limit)
	}
	start := time.Now()
	cancel()
	<-calls
	t.Logf("at most %d threads; all calls ended after %v", most, time.Since(start))
	if most > limit+runtime.GOMAXPROCS(0)+16 {
		t.Errorf("%d threads", most)
	}
}

// The sandbox takes a few milliseconds for each. The test runs in its own process, as above.
func TestProvisionHoldsNoThreadsAndNoGoroutines(t *testing.T) {
	if os.Getenv("SPIKEAUTH_TEST_THREADS") == "" {
		inItsOwnProcess(t, "SPIKEAUTH_TEST_THREADS")
		return
	}
	const n, limit = 10000, 32 // the default
	s := newSandbox(t, "--delay-ms", "5")
	client := s.client(t, "http", spikeauth.WithCacheCapacity(n))
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprintf("cold-%d", i)
	}
	result := make(chan []error)
	before := runtime.NumGoroutine()
	go func() { result <- client.Provision(t.Context(), users) }()
	most, goroutines := 0, 0
	var errs []error
	until(t, "Provision has returned", func() bool {
		most, goroutines = max(most, threads(t)), max(goroutines, runtime.NumGoroutine()-before)
		select {
		case errs = <-result:
			return true
		default:
			return false
		}
	})
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", users[i], err)
		}
	}
	got := s.counters(t)
	if got.Requests != n || len(got.Users) != n || got.MaxInFlight != limit {
		t.Errorf("%d requests, %d users, %d in flight", got.Requests, len(got.Users), got.MaxInFlight)
	}
	t.Logf("at most %d threads, %d goroutines", most, goroutines)
	if most > limit+runtime.GOMAXPROCS(0)+16 || goroutines > 2 { // the one of this test, and the reader
		t.Errorf("%d threads, %d goroutines", most, goroutines)
	}
}

// inItsOwnProcess runs the test that calls it once more, with the variable set.
func inItsOwnProcess(t *testing.T, variable string) {
	command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), variable+"=1")
	out, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v: %s", err, out)
	}
}
