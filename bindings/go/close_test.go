//go:build cgo

package spikeauth_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestAfterCloseEveryCallIsErrClosed(t *testing.T) {
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
	for name, call := range everyCall(t.Context(), client, token) {
		if err := call(); !errors.Is(err, spikeauth.ErrClosed) || !errors.Is(err, spikeauth.StatusClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// everyCall is all methods that can fail.
func everyCall(ctx context.Context, client *spikeauth.Client, token string) map[string]func() error {
	return map[string]func() error{
		"SignUser":          func() error { _, err := client.SignUser("closed"); return err },
		"AppendSignature":   func() error { _, err := client.AppendSignature(nil, "closed"); return err },
		"SignUsers":         func() error { _, err := client.SignUsers([]string{"closed"}); return err },
		"Exchange":          func() error { _, err := client.Exchange(ctx, "closed"); return err },
		"ExchangeSignature": func() error { _, err := client.ExchangeSignature(ctx, "closed", strings.Repeat("0", 64)); return err },
		"Token":             func() error { _, err := client.Token(ctx, "closed"); return err },
		"Authorization":     func() error { _, err := client.Authorization(ctx, "closed"); return err },
		"Invalidate":        func() error { return client.Invalidate("closed", token) },
		"Forget":            func() error { return client.Forget("closed") },
		"Stats":             func() error { _, err := client.Stats(); return err },
	}
}

func TestAClientThatWasNotMadeIsNotUsed(t *testing.T) {
	for _, client := range []*spikeauth.Client{nil, new(spikeauth.Client)} {
		for name, call := range everyCall(t.Context(), client, "token") {
			if err := call(); !errors.Is(err, spikeauth.ErrClosed) || !strings.Contains(err.Error(), "New") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Some of the calls are in the library, some wait for their turn, and some for the exchange of another.
func TestCloseEndsCallsInFlight(t *testing.T) {
	round := 0
	inTime(t, 100*time.Millisecond, func() time.Duration {
		round++
		client := server.client(t, "http", spikeauth.WithMaxConcurrency(2))
		user := func(i int) string { return fmt.Sprintf("fault.stall.close-%d-%d", round, i) }
		var done sync.WaitGroup
		for i := range 40 {
			done.Add(1)
			go func() {
				defer done.Done()
				if _, err := client.Token(context.Background(), user(i%4)); !errors.Is(err, spikeauth.ErrClosed) {
					t.Errorf("%v", err)
				}
			}()
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
		done.Wait()
		return time.Since(start)
	})
}

func TestClosingWhileOthersCall(t *testing.T) {
	for round := range 30 {
		client := server.client(t, "http")
		if _, err := client.Token(t.Context(), "hit"); err != nil {
			t.Fatal(err)
		}
		var done sync.WaitGroup
		for i := range 8 {
			done.Add(1)
			go func() {
				defer done.Done()
				for n := 0; ; n++ {
					user := []string{"hit", fmt.Sprintf("miss-%d-%d-%d", round, i, n)}[i%2]
					token, err := client.Token(context.Background(), user)
					if err != nil {
						if !errors.Is(err, spikeauth.ErrClosed) {
							t.Error(err)
						}
						return
					}
					if subject(token) != user {
						t.Errorf("the token of %q, not of %q", subject(token), user)
					}
					if _, err := client.SignUser(user); err != nil && !errors.Is(err, spikeauth.ErrClosed) {
						t.Error(err)
					}
				}
			}()
		}
		time.Sleep(time.Duration(round%5) * time.Millisecond)
		for range 2 {
			done.Add(1)
			go func() {
				defer done.Done()
				client.Close()
			}()
		}
		done.Wait()
	}
}

// Nothing holds the client during the call but the call itself.
func TestAClientIsNotCollectedDuringACall(t *testing.T) {
	result := make(chan error)
	go func() {
		client, err := spikeauth.New(applicationID, []byte(key), spikeauth.WithBaseURL(server.places["http"]))
		if err == nil {
			_, err = client.Token(context.Background(), "fault.delay.300.collected")
		}
		result <- err
	}()
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
