//go:build cgo

package spikeauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lines is a log of JSON lines.
type lines struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *lines) Write(text []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(text)
}

// take returns what was logged, sorted, without times.
func (l *lines) take(t *testing.T) []string {
	t.Helper()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	found := []string{}
	for text := range strings.Lines(l.text.String()) {
		var line struct {
			Time     string
			Level    string
			Msg      string
			Status   string
			Attempts *int
			MS       *int
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&line); err != nil || line.Attempts == nil || line.MS == nil || *line.MS < 0 {
			t.Fatalf("%s: %v", text, err)
		}
		found = append(found, fmt.Sprintf("%s %s %s %d", line.Level, line.Msg, line.Status, *line.Attempts))
	}
	l.text.Reset()
	slices.Sort(found)
	return found
}

func (l *lines) expect(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := l.take(t); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// logger logs everything, times included.
func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

const exchanged = "DEBUG exchange OK 1"

func newUser(fault string) string { return newUsers(1, fault)[0] }

func TestEachExchangeIsLoggedAndAHitIsNot(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		var log lines
		client := envClient(t, WithLogger(log.logger()))
		user := newUser("")
		signature, err := client.SignUser(user)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []func() error{
			func() error { _, err := client.Token(t.Context(), user); return err },
			func() error { _, err := client.Authorization(t.Context(), newUser("")); return err },
			func() error { _, err := client.Exchange(t.Context(), user); return err },
			func() error { _, err := client.ExchangeSignature(t.Context(), user, signature); return err },
			func() error { return client.Provision(t.Context(), []string{newUser("")})[0] },
		} {
			if err := call(); err != nil {
				t.Fatal(err)
			}
			log.expect(t, exchanged)
		}
		_, _ = client.Token(t.Context(), user)
		_, _ = client.Authorization(t.Context(), user)
		client.Provision(t.Context(), []string{user})
		log.expect(t)
	})
}

func TestEachFailureIsLogged(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		var log lines
		client := envClient(t, WithLogger(log.logger()), WithMaxAttempts(2))
		for fault, want := range map[string]string{
			"fault.status.500.":    "WARN call failed SERVER_ERROR 2",
			"fault.status.403.":    "WARN call failed FORBIDDEN 1",
			"fault.empty.":         "WARN call failed INVALID_RESPONSE 1",
			"fault.status.500.x1.": "DEBUG exchange OK 2",
		} {
			_, _ = client.Token(t.Context(), newUser(fault))
			log.expect(t, want)
		}
		client.Provision(t.Context(), []string{newUser("fault.status.500."), newUser("")})
		log.expect(t, "WARN call failed SERVER_ERROR 2", exchanged)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := client.Token(ctx, newUser("fault.stall.")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if got := log.take(t); len(got) != 1 || !strings.HasPrefix(got[0], "WARN call failed TIMEOUT ") {
			t.Errorf("%q", got)
		}
	})
}

func TestWhatTheCallerDoesIsNotLogged(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		var log lines
		client := envClient(t, WithLogger(log.logger()))
		_, _ = client.Token(t.Context(), "not valid")
		client.Provision(t.Context(), []string{"not valid"})
		ctx, cancel := context.WithCancel(t.Context())
		result := begin(t, client, ctx, newUser("fault.delay.1000."))
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		result = begin(t, client, t.Context(), newUser("fault.delay.1000."))
		client.Close()
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		_, _ = client.Token(t.Context(), "alice")
		log.expect(t)
	})
}

func TestCallsThatShareAnExchangeHaveOneLine(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		for fault, want := range map[string]string{
			"fault.delay.500.":                exchanged,
			"fault.delay.500.and.status.422.": "WARN call failed REFUSED 1",
		} {
			var log lines
			client, user := envClient(t, WithLogger(log.logger())), newUser(fault)
			var calls sync.WaitGroup
			var failures, shared atomic.Int32
			for range 20 {
				calls.Add(1)
				go func() {
					defer calls.Done()
					_, err := client.Token(t.Context(), user)
					if failed, ok := err.(*Error); ok {
						failures.Add(1)
						if failed.Shared {
							shared.Add(1)
						}
					}
				}()
			}
			calls.Wait()
			log.expect(t, want)
			if failures.Load() > 0 && shared.Load() != 19 || stats(t, client).Exchanges != 1 {
				t.Errorf("%d failures, %d shared, %v", failures.Load(), shared.Load(), stats(t, client))
			}
		}
	})
}

// serviceOf returns the URL of a service that answers the request of each number, counted from 1, with a status.
func serviceOf(t *testing.T, status func(number int32) int) string {
	t.Helper()
	var requests atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		number := requests.Add(1)
		w.WriteHeader(status(number))
		fmt.Fprintf(w, `{"access_token": "token-%d"}`, number)
	}))
	t.Cleanup(service.Close)
	return service.URL
}

func TestARenewalThatFailsIsLogged(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		var log lines
		url := serviceOf(t, func(number int32) int { return map[bool]int{true: 200, false: 500}[number <= 2] })
		client := envClient(t, WithBaseURL(url), WithCacheTTL(time.Second), WithMaxAttempts(1), WithLogger(log.logger()))
		for _, user := range []string{"alice", "bob"} {
			if _, err := client.Token(t.Context(), user); err != nil {
				t.Fatal(err)
			}
		}
		log.expect(t, exchanged, exchanged)
		time.Sleep(1050 * time.Millisecond)
		if token, err := client.Token(t.Context(), "alice"); token != "token-1" || err != nil {
			t.Errorf("%q, %v", token, err)
		}
		log.expect(t, "WARN renewal failed, old token kept SERVER_ERROR 1")
		if err := client.Provision(t.Context(), []string{"alice", "bob"}); err[0] != nil || err[1] != nil {
			t.Error(err)
		}
		log.expect(t, "WARN renewal failed, old token kept SERVER_ERROR 1")
	})
}

func TestAPauseOfProvisionHasTheLinesOfItsExchanges(t *testing.T) {
	var log lines
	client := envClient(t, WithMaxAttempts(1), WithLogger(log.logger()))
	users := append(newUsers(1, "fault.status.429.and.retry-after.1.x1."), newUsers(30, "")...)
	for _, err := range client.Provision(t.Context(), users) {
		if err != nil {
			t.Error(err)
		}
	}
	log.expect(t, append(slices.Repeat([]string{exchanged}, 31), "WARN call failed RATE_LIMITED 1")...)
}

// They fail without a request, because the pause is longer than their timeout, and start again after it.
func TestUsersThatProvisionHoldsBackHaveOneLine(t *testing.T) {
	var log lines
	client := envClient(t, WithMaxAttempts(1), WithTimeout(time.Second), WithLogger(log.logger()))
	if _, err := client.Token(t.Context(), newUser("fault.status.429.and.retry-after.2.x1.")); !errors.Is(err, StatusRateLimited) {
		t.Error(err)
	}
	log.expect(t, "WARN call failed RATE_LIMITED 1")
	began := time.Now()
	for _, err := range client.Provision(t.Context(), newUsers(5, "")) {
		if err != nil {
			t.Error(err)
		}
	}
	if time.Since(began) < time.Second {
		t.Error("nobody was held back")
	}
	log.expect(t, slices.Repeat([]string{exchanged}, 5)...)
}

func TestALoggerOfNilAndALevelAreHeeded(t *testing.T) {
	client := envClient(t, WithLogger(slog.Default()), WithLogger(nil))
	if client.handle.logger != nil {
		t.Error("nil is no logger")
	}
	if _, err := client.Token(t.Context(), newUser("")); err != nil {
		t.Error(err)
	}
	var log lines
	client = envClient(t, WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
	_, _ = client.Token(t.Context(), newUser(""))
	_, _ = client.Token(t.Context(), newUser("fault.status.403."))
	log.expect(t, "WARN call failed FORBIDDEN 1")
}

// hook is a handler that calls a function first.
type hook struct {
	slog.Handler
	run func(context.Context)
}

func (h hook) Handle(ctx context.Context, record slog.Record) error {
	h.run(ctx)
	return h.Handler.Handle(ctx, record)
}

func (l *lines) hooked(run func(context.Context)) Option {
	return WithLogger(slog.New(hook{l.logger().Handler(), run}))
}

func TestAHandlerThatPanicsCostsNoToken(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		var log lines
		places := blocking.Load()
		client := envClient(t, log.hooked(func(context.Context) { panic("of a handler") }))
		if token, err := client.Token(t.Context(), newUser("")); token == "" || err != nil {
			t.Errorf("%q, %v", token, err)
		}
		if _, err := client.Token(t.Context(), newUser("fault.status.403.")); !errors.Is(err, StatusForbidden) {
			t.Error(err)
		}
		if errs := client.Provision(t.Context(), newUsers(3, "")); errs[0] != nil || errs[1] != nil || errs[2] != nil {
			t.Error(errs)
		}
		checkIdle(t, client, places)
		log.expect(t)
	})
}

func TestASlowHandlerHoldsUpNoOtherCall(t *testing.T) {
	inBothWays(t, func(t *testing.T) {
		var log lines
		type slowKey struct{}
		isLogging, others := make(chan struct{}), make(chan struct{})
		client := envClient(t, log.hooked(func(ctx context.Context) {
			if ctx.Value(slowKey{}) != nil {
				close(isLogging)
				<-others
			}
		}))
		user := newUser("")
		slow := Async(func() (string, error) {
			return client.Token(context.WithValue(t.Context(), slowKey{}, true), user)
		})
		<-isLogging
		for _, user := range append(newUsers(10, ""), user) {
			if _, err := client.Token(t.Context(), user); err != nil {
				t.Error(err)
			}
		}
		close(others)
		if err := <-slow; err != nil {
			t.Error(err)
		}
		log.expect(t, slices.Repeat([]string{exchanged}, 11)...)
	})
}

func TestNoLineShowsASecret(t *testing.T) {
	var log bytes.Buffer
	const key, user, token = "canary-key-8d1f3b7e5a9c", "canary-user-5e7d9c1b3a", "canary-token-4f6a2c8e0b1d"
	var sent atomic.Value
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent.Store(string(body))
		w.Header().Set("X-Echo", string(body))
		if strings.Contains(string(body), user+"-refused") {
			w.WriteHeader(422)
		}
		fmt.Fprintf(w, `{"access_token": %q, "detail": %q, "title": %q}`, token, body, body)
	}))
	defer service.Close()
	client, err := New("9999", []byte(key), WithBaseURL(service.URL), WithMaxAttempts(1),
		WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if got, err := client.Token(t.Context(), user); got != token || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := client.Token(t.Context(), user+"-refused"); !errors.Is(err, StatusRefused) {
		t.Error(err)
	}
	signature, err := client.SignUser(user + "-refused")
	if err != nil || !strings.Contains(sent.Load().(string), signature) {
		t.Fatalf("the service has not echoed the signature: %v", err)
	}
	shown := log.String()
	if strings.Count(shown, "\n") != 2 {
		t.Error(shown)
	}
	for _, secret := range []string{key, user, token, signature} {
		if strings.Contains(shown, secret) {
			t.Errorf("%s in %s", secret, shown)
		}
	}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("a client", "client", client)
	if strings.Contains(log.String(), key) {
		t.Error(log.String())
	}
}
