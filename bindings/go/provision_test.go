//go:build cgo

package spikeauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// newUsers returns users that no other test has, with one fault for all.
func newUsers(n int, fault string) []string {
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprintf("%sprovision-%d", fault, unique.Add(1))
	}
	return users
}

// checkProvisioned checks that each user has a token, and that so many requests were sent for them.
func checkProvisioned(t *testing.T, client *Client, users []string, errs []error, requests uint64) {
	t.Helper()
	if len(errs) != len(users) {
		t.Fatalf("%d errors for %d users", len(errs), len(users))
	}
	for i, err := range errs {
		if err != nil {
			t.Errorf("%s: %v", users[i], err)
		}
	}
	before := stats(t, client)
	for _, user := range users {
		if token, err := client.Token(t.Context(), user); err != nil || token == "" {
			t.Errorf("%s: %q, %v", user, token, err)
		}
	}
	if after := stats(t, client); after.Hits != before.Hits+uint64(len(users)) || after.Requests != requests {
		t.Errorf("not all are hits, or not %d requests: %v", requests, after)
	}
}

func TestProvisionGetsWhatIsMissing(t *testing.T) {
	client, places := envClient(t), blocking.Load()
	users := newUsers(300, "")
	checkProvisioned(t, client, users[:200], client.Provision(t.Context(), users[:200]), 200)
	checkProvisioned(t, client, users, client.Provision(t.Context(), users), 300)
	twice := append(newUsers(50, ""), users...)
	twice = append(twice, twice[:50]...)
	checkProvisioned(t, client, twice, client.Provision(t.Context(), twice), 350)
	if errs := client.Provision(t.Context(), nil); errs == nil || len(errs) != 0 {
		t.Error(errs)
	}
	checkIdle(t, client, places)
}

func TestProvisionTellsUsersApart(t *testing.T) {
	client, places := envClient(t, WithMaxAttempts(1)), blocking.Load()
	forbidden, broken := newUsers(1, "fault.status.403.")[0], newUsers(1, "fault.status.500.")[0]
	users := []string{newUsers(1, "")[0], "not valid", forbidden, "", broken, newUsers(1, "")[0]}
	errs := client.Provision(t.Context(), users)
	for i, want := range []error{nil, StatusInvalidUserID, StatusForbidden, StatusInvalidUserID, StatusServerError, nil} {
		err := errs[i]
		var failed *Error
		if !errors.Is(err, want) || err != nil && (!errors.As(err, &failed) || failed.Op != "provision") {
			t.Errorf("%s: %v, not %v", users[i], err, want)
		}
	}
	checkIdle(t, client, places)
}

func TestProvisionEndsWithItsContext(t *testing.T) {
	InTime(t, time.Second, func() time.Duration {
		client, places := envClient(t, WithMaxConcurrency(4)), blocking.Load()
		users := append(newUsers(20, ""), newUsers(1000, "fault.stall.")...)
		cause := errors.New("the job was stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan []error)
		go func() { result <- client.Provision(ctx, users) }()
		Until(t, "all places are taken", func() bool { return stats(t, client).Pending == 4 && stats(t, client).Entries == 20 })
		start := time.Now()
		cancel(cause)
		errs := <-result
		took := time.Since(start)
		for i, err := range errs {
			if i < 20 && err != nil || i >= 20 && (!errors.Is(err, context.Canceled) || !errors.Is(err, cause)) {
				t.Fatalf("%d: %v", i, err)
			}
		}
		Until(t, "the exchanges have ended", func() bool { return stats(t, client).Pending == 0 })
		checkIdle(t, client, places)
		return took
	})
}

func TestProvisionEndsWithItsDeadline(t *testing.T) {
	client := envClient(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, err := range client.Provision(ctx, newUsers(100, "fault.stall.")) {
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, StatusTimeout) {
			t.Fatal(err)
		}
	}
	for _, err := range client.Provision(ctx, newUsers(2, "")) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}
}

// The client's timeout ends one user's call, and no other.
func TestProvisionWithASlowUser(t *testing.T) {
	client := envClient(t, WithTimeout(300*time.Millisecond))
	users := append(newUsers(50, ""), newUsers(1, "fault.stall.")...)
	for i, err := range client.Provision(t.Context(), users) {
		if want := i == 50; errors.Is(err, StatusTimeout) != want || (err != nil) != want {
			t.Errorf("%s: %v", users[i], err)
		}
	}
}

func TestProvisionEndsWithItsClient(t *testing.T) {
	client := envClient(t, WithMaxConcurrency(4))
	users := newUsers(1000, "fault.stall.")
	time.AfterFunc(50*time.Millisecond, func() { client.Close() })
	for i, err := range client.Provision(t.Context(), users) {
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	for _, err := range client.Provision(t.Context(), users) {
		if !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
}

// Of 30 users only a few have a turn within the client's timeout.
func TestProvisionWaitsForTheClientsOwnRate(t *testing.T) {
	client := envClient(t, WithMaxRate(50), WithTimeout(100*time.Millisecond))
	users := newUsers(30, "")
	checkProvisioned(t, client, users, client.Provision(t.Context(), users), 30)
}

// refusing is a service that answers 429 for a second, and then as the sandbox does.
type refusing struct {
	*httptest.Server
	refused atomic.Int32
}

func newRefusing(t *testing.T, target string) *refusing {
	service := new(refusing)
	var end atomic.Int64
	service.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		end.CompareAndSwap(0, now.Add(time.Second).UnixNano())
		if now.UnixNano() < end.Load() {
			service.refused.Add(1)
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		reply, err := http.Post(target+"/auth/hmac", r.Header.Get("Content-Type"), r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		defer reply.Body.Close()
		w.Header().Set("Content-Type", reply.Header.Get("Content-Type"))
		w.WriteHeader(reply.StatusCode)
		_, _ = io.Copy(w, reply.Body)
	}))
	t.Cleanup(service.Close)
	return service
}

// The wave ends a call in each place, since none has the time to wait. Then all pause, and no user is lost.
func TestProvisionPausesInAWaveOf429(t *testing.T) {
	const window = 8
	service := newRefusing(t, os.Getenv("SPIKE_API_BASE_URL"))
	client := envClient(t, WithBaseURL(service.URL), WithMaxConcurrency(window), WithTimeout(500*time.Millisecond))
	users := newUsers(100, "")
	errs := client.Provision(t.Context(), users)
	refused := service.refused.Load()
	if refused < 1 || refused > window {
		t.Errorf("%d requests were refused", refused)
	}
	checkProvisioned(t, client, users, errs, 100+uint64(refused))
}

func TestProvisionGivesAUserUpAfterTenRefusals(t *testing.T) {
	original := unnamedPause
	defer func() { unnamedPause = original }()
	unnamedPause = time.Millisecond
	client := envClient(t, WithMaxAttempts(1))
	users := append(newUsers(1, "fault.status.429.x9."), newUsers(1, "fault.status.429.x10.")...)
	errs := client.Provision(t.Context(), users)
	if errs[0] != nil || !errors.Is(errs[1], StatusRateLimited) || stats(t, client).Requests != 10+10 {
		t.Errorf("%v, %v", errs, stats(t, client))
	}
}

func TestAPanickingContextLeavesNothingOfProvision(t *testing.T) {
	client, places := envClient(t), blocking.Load()
	for name, end := range map[string]func(){"panic": func() { panic("unruly") }, "Goexit": runtime.Goexit} {
		for _, method := range []string{"Done", "Err"} {
			ended := 0
			for calls := range int32(5) {
				users := newUsers(3, "fault.stall.")
				call := func(ctx context.Context) { client.Provision(ctx, users) }
				if !(unruly{method: method, end: end}).returns(call, calls) {
					ended++
				}
			}
			if ended == 0 {
				t.Errorf("%s in %s was never reached", name, method)
			}
			Until(t, "the exchanges have ended", func() bool { return stats(t, client).Pending == 0 })
			checkIdle(t, client, places)
		}
	}
}

func TestTheDefaultWindowIsTheLibrarys(t *testing.T) {
	text := source(t, "../../src/config/mod.rs")
	found := regexp.MustCompile(`const DEFAULT_CONCURRENCY: u32 = (\d+);`).FindStringSubmatch(text)
	if found == nil || found[1] != strconv.Itoa(defaultConcurrency) {
		t.Errorf("%v, not %d", found, defaultConcurrency)
	}
	for n, want := range map[int]int{0: defaultConcurrency, 1: 1, 1024: 1024} {
		if got := envClient(t, WithMaxConcurrency(n)).handle.window; got != want {
			t.Errorf("%d: %d, not %d", n, got, want)
		}
	}
}
