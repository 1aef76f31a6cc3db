//go:build cgo

package spikeauth_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

const nowhere = "unix:///nowhere/at/all.sock"

// newRedis starts a redis-server for one test and returns its URL.
func newRedis(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("without redis-server (apt-get install redis-server)")
	}
	folder, err := os.MkdirTemp("", "spike_auth-") // t.TempDir has a path that is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "redis.sock")
	command := exec.Command(program, "--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", socket)
	command.Dir = folder
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		os.RemoveAll(folder)
	})
	until(t, "redis-server listens", func() bool {
		probe, err := net.Dial("unix", socket)
		if err == nil {
			probe.Close()
		}
		return err == nil
	})
	return "unix://" + socket
}

// silentStore accepts connections and says nothing. It returns its URL and the channel of its connections.
func silentStore(t *testing.T) (string, <-chan net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1000)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- connection
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		for connection := range accepted {
			connection.Close()
		}
	})
	return "redis://" + listener.Addr().String(), accepted
}

func stats(t *testing.T, client *spikeauth.Client) spikeauth.Stats {
	t.Helper()
	found, err := client.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTwoClientsShareOneExchange(t *testing.T) {
	s, store := newSandbox(t, "--fresh-tokens"), spikeauth.WithStore(newRedis(t))
	clients := []*spikeauth.Client{
		s.client(t, "http", store, spikeauth.WithStoreTimeout(5*time.Second)),
		s.client(t, "http", store, spikeauth.WithStoreTimeout(5*time.Second)),
	}
	tokens := func() (found [2]string) {
		for i, client := range clients {
			var err error
			if found[i], err = client.Token(t.Context(), "alice"); err != nil || subject(found[i]) != "alice" {
				t.Fatalf("%q, %v", found[i], err)
			}
		}
		return found
	}
	first := tokens()
	if n := s.requests(t, "alice"); first[0] != first[1] || n != 1 {
		t.Errorf("%q, %d requests", first, n)
	}
	if one, other := stats(t, clients[0]), stats(t, clients[1]); one.StoreMisses != 1 || other.StoreHits != 1 || other.Exchanges != 0 {
		t.Errorf("%v, %v", one, other)
	}
	if err := clients[0].CheckStore(t.Context()); err != nil {
		t.Error(err)
	}
	if err := clients[0].ForgetShared(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	second := tokens()
	if second[0] == first[0] || second[1] != first[1] { // the other one keeps its own
		t.Errorf("%q, then %q", first, second)
	}
	if err := clients[1].Forget("alice"); err != nil {
		t.Error(err)
	}
	if third := tokens(); third[1] != second[0] {
		t.Errorf("%q, then %q", second, third)
	}
}

func TestTheErrorTellsWhatIsWrongWithTheStore(t *testing.T) {
	broken, none := server.client(t, "http", spikeauth.WithStore(nowhere)), server.client(t, "http")
	for name, row := range map[string]struct {
		call func() error
		want spikeauth.Error
		text string
	}{
		"unreachable": {func() error { return broken.CheckStore(t.Context()) },
			spikeauth.Error{Op: "check store", Status: spikeauth.StatusStore, Retryable: true}, "Check the store's URL"},
		"none": {func() error { return none.CheckStore(t.Context()) },
			spikeauth.Error{Op: "check store", Status: spikeauth.StatusStore}, "redis://localhost:6379"},
		"forget": {func() error { return broken.ForgetShared(t.Context(), "alice") },
			spikeauth.Error{Op: "forget shared", Status: spikeauth.StatusStore, Retryable: true}, "Check the store's URL"},
		"user id": {func() error { return none.ForgetShared(t.Context(), "not valid") },
			spikeauth.Error{Op: "forget shared", Status: spikeauth.StatusInvalidUserID}, "user id"},
	} {
		var e *spikeauth.Error
		if err := row.call(); !errors.As(err, &e) || !strings.Contains(e.Message, row.text) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := *e
		if got.Message = ""; got != row.want {
			t.Errorf("%s: %#v", name, got)
		}
	}
	if err := none.ForgetShared(t.Context(), "alice"); err != nil {
		t.Errorf("without a store: %v", err)
	}
	if _, err := broken.Token(t.Context(), "broken-store"); err != nil || stats(t, broken).StoreErrors != 3 {
		t.Errorf("%v, %v", err, stats(t, broken))
	}
}

// More calls than places: some block a thread, the others wait.
func TestACancelledContextEndsCallsOfTheStore(t *testing.T) {
	url, accepted := silentStore(t)
	client := server.client(t, "http", spikeauth.WithStore(url), spikeauth.WithStoreTimeout(10*time.Second),
		spikeauth.WithTimeout(time.Minute))
	inTime(t, time.Second, func() time.Duration {
		cause := errors.New("the user disconnected")
		ctx, cancel := context.WithCancelCause(t.Context())
		var results []<-chan error
		for i := range 20 {
			results = append(results, async(func() (string, error) {
				if i%2 == 0 {
					return "", client.CheckStore(ctx)
				}
				return "", client.ForgetShared(ctx, fmt.Sprint("user-", i))
			}))
		}
		for range 4 {
			<-accepted
		}
		time.Sleep(20 * time.Millisecond) // for more, if there were more places
		if n := len(accepted); n != 0 {
			t.Errorf("%d more calls block a thread", n)
		}
		start := time.Now()
		cancel(cause)
		for _, result := range results {
			if err := <-result; !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
				t.Errorf("%v", err)
			}
		}
		took := time.Since(start)
		for len(accepted) > 0 { // of calls that took a place while their context was cancelled
			<-accepted
		}
		return took
	})
}

func TestADoneContextAsksNoStore(t *testing.T) {
	url, accepted := silentStore(t)
	client := server.client(t, "http", spikeauth.WithStore(url))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	for ctx, want := range map[context.Context]error{cancelled: context.Canceled, late: context.DeadlineExceeded} {
		for _, err := range []error{client.CheckStore(ctx), client.ForgetShared(ctx, "alice")} {
			if !errors.Is(err, want) {
				t.Error(err)
			}
		}
	}
	if len(accepted) != 0 {
		t.Error("a connection was made")
	}
}

// A quarter of the context's time, not all of the store's.
func TestTheContextsDeadlineLimitsAnOperationOfTheStore(t *testing.T) {
	url, _ := silentStore(t)
	client := server.client(t, "http", spikeauth.WithStore(url), spikeauth.WithStoreTimeout(10*time.Second))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	start := time.Now()
	if err := client.CheckStore(ctx); !errors.Is(err, spikeauth.StatusStore) || !strings.Contains(err.Error(), "in time") {
		t.Error(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Error(took)
	}
}

// Those of another client take no place.
func TestAClientWaitsForNoCallsOfAnother(t *testing.T) {
	url, accepted := silentStore(t)
	stuck := server.client(t, "http", spikeauth.WithStore(url), spikeauth.WithStoreTimeout(10*time.Second),
		spikeauth.WithTimeout(time.Minute))
	var results []<-chan error
	for range 10 {
		results = append(results, async(func() (string, error) { return "", stuck.CheckStore(t.Context()) }))
	}
	for range 4 {
		<-accepted
	}
	other := server.client(t, "http", spikeauth.WithStore(nowhere))
	inTime(t, 2*time.Second, func() time.Duration {
		start := time.Now()
		if err := other.CheckStore(t.Context()); !errors.Is(err, spikeauth.StatusStore) {
			t.Error(err)
		}
		return time.Since(start)
	})
	stuck.Close()
	for _, result := range results {
		<-result
	}
}

func TestCloseEndsCallsOfTheStore(t *testing.T) {
	url, accepted := silentStore(t)
	client := server.client(t, "http", spikeauth.WithStore(url), spikeauth.WithStoreTimeout(10*time.Second),
		spikeauth.WithTimeout(time.Minute))
	var results []<-chan error
	for range 10 {
		results = append(results, async(func() (string, error) { return "", client.CheckStore(t.Context()) }))
	}
	<-accepted
	start := time.Now()
	client.Close()
	for _, result := range results {
		if err := <-result; !errors.Is(err, spikeauth.ErrClosed) {
			t.Error(err)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Error(took)
	}
}
