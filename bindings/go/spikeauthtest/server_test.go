//go:build cgo

package spikeauthtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// subject returns the user that a token names.
func subject(token string) string {
	var claims struct{ Sub string }
	if parts := strings.Split(token, "."); len(parts) == 3 {
		text, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(text, &claims)
	}
	return claims.Sub
}

func httpStatus(t *testing.T, client *spikeauth.Client, user string) int {
	t.Helper()
	_, err := client.Exchange(t.Context(), user)
	var e *spikeauth.Error
	switch {
	case err == nil:
		return 200
	case errors.As(err, &e):
		return e.HTTPStatus
	}
	t.Fatal(err)
	return 0
}

type row struct {
	Fault, Status string
	HTTPStatus    int `json:"http_status"`
	Retryable     bool
	RetryAfterMS  int64 `json:"retry_after_ms"`
	Script        *struct {
		Status     int
		Body       *string
		RetryAfter int `json:"retry_after"`
		Delay      float64
		Drop       bool
	}
}

func (r row) response() Response {
	response := Response{
		Status:     r.Script.Status,
		RetryAfter: time.Duration(r.Script.RetryAfter) * time.Second,
		Delay:      time.Duration(r.Script.Delay * float64(time.Second)),
		Drop:       r.Script.Drop,
	}
	if r.Script.Body != nil {
		response.Body = []byte(*r.Script.Body)
	}
	return response
}

func TestWhatIsScriptedBecomesTheStatusOfTheSharedTable(t *testing.T) {
	var table struct{ Replies, Good []row }
	vectors(t, "faults.json", &table)
	var numbers map[string]spikeauth.Status
	vectors(t, "status_numbers.json", &numbers)
	tried := 0
	for _, r := range append(table.Replies, table.Good...) {
		if r.Script == nil {
			continue
		}
		tried++
		t.Run(r.Fault, func(t *testing.T) {
			s := NewServer(t)
			s.Respond(r.response())
			client := s.Client(spikeauth.WithMaxAttempts(1), spikeauth.WithTimeout(time.Second))
			token, err := client.Exchange(t.Context(), "alice")
			if r.Status == "" {
				if err != nil || subject(token) != "alice" {
					t.Errorf("%q, %v", token, err)
				}
				return
			}
			var e *spikeauth.Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			told := max(time.Duration(r.RetryAfterMS)*time.Millisecond, 0)
			if e.Status != numbers[r.Status] || e.HTTPStatus != r.HTTPStatus || e.Retryable != r.Retryable || e.RetryAfter != told {
				t.Errorf("%+v", e)
			}
			if s.Requests() != 1 {
				t.Errorf("%d requests", s.Requests())
			}
		})
	}
	if tried < 45 {
		t.Errorf("%d rows have a script", tried)
	}
}

func TestResponsesComeInTheirOrderAndAUsersOwnComeFirst(t *testing.T) {
	s := NewServer(t)
	for _, r := range []Response{
		{Status: 500},
		{Status: 502, Times: 2},
		{Status: 504, Times: 1},
		{Status: 403, User: "alice", Times: 1},
		{Status: 409, User: "bob"},
	} {
		s.Respond(r)
	}
	client := s.Client(spikeauth.WithMaxAttempts(1))
	ask := func(users ...string) (found []int) {
		for _, user := range users {
			found = append(found, httpStatus(t, client, user))
		}
		return found
	}
	if got := fmt.Sprint(ask("alice", "alice", "bob", "carol", "carol", "carol", "alice", "bob")); got != "[403 502 409 502 504 500 500 409]" {
		t.Error(got)
	}
	s.Respond(Response{User: "bob"})
	if got := fmt.Sprint(ask("bob", "carol")); got != "[200 500]" {
		t.Error(got)
	}
	s.Respond(Response{})
	if got := fmt.Sprint(ask("bob", "carol")); got != "[200 200]" {
		t.Error(got)
	}
	if s.Requests() != 12 || s.RequestsFor("carol") != 5 || s.RequestsFor("nobody") != 0 || s.Token("carol") == "" {
		t.Error(s.Requests(), s.RequestsFor("carol"), s.RequestsFor("nobody"))
	}
	s.Respond(Response{Status: 500})
	s.Reset()
	if s.Requests() != 0 || s.RequestsFor("carol") != 0 || s.Token("carol") != "" || httpStatus(t, client, "carol") != 200 {
		t.Error("Reset left something")
	}
}

func TestARetryAfterIsToldAsADate(t *testing.T) {
	s := NewServer(t)
	s.Respond(Response{Status: 503, RetryAt: time.Now().In(time.FixedZone("", 5*3600)).Add(time.Minute)})
	_, err := s.Client(spikeauth.WithMaxAttempts(1)).Token(t.Context(), "alice")
	var e *spikeauth.Error
	if !errors.As(err, &e) || e.RetryAfter < 55*time.Second || e.RetryAfter > 61*time.Second {
		t.Errorf("%+v", err)
	}
}

// fatal is a test that only notes that it has failed.
type fatal struct {
	testing.TB
	said string
}

func (f *fatal) Fatalf(format string, args ...any) { f.said = fmt.Sprintf(format, args...) }

func TestWhatMakesNoSenseFailsTheTest(t *testing.T) {
	for _, r := range []Response{{Status: 199}, {Status: 600}, {Times: -1}, {Delay: -1}, {RetryAfter: -1}} {
		f := &fatal{TB: t}
		NewServer(f).Respond(r)
		if !strings.Contains(f.said, "not from 200 to 599, or a negative number") {
			t.Errorf("%+v: %q", r, f.said)
		}
	}
}

func TestTokens(t *testing.T) {
	hour := time.Hour
	for _, row := range []struct {
		opts      []Option
		different bool
		requests  int
	}{
		{nil, false, 3},
		{[]Option{WithFreshTokens()}, true, 3},
		{[]Option{WithTokenLifetime(hour)}, false, 3},
		{[]Option{WithTokenLifetime(-5 * time.Second)}, false, 4}, // expired: none is kept
	} {
		s := NewServer(t, row.opts...)
		client := s.Client()
		first, err := client.Exchange(t.Context(), "alice")
		second, err2 := client.Exchange(t.Context(), "alice")
		if err != nil || err2 != nil || s.Token("alice") != second || subject(second) != "alice" {
			t.Errorf("%v, %v, %q", err, err2, second)
		}
		if row.different != (first != second) {
			t.Errorf("%q and %q", first, second)
		}
		for range 2 {
			if _, err := client.Token(t.Context(), "alice"); err != nil {
				t.Error(err)
			}
		}
		if s.Requests() != row.requests {
			t.Errorf("%d requests", s.Requests())
		}
	}
}

func TestAnotherKeyGetsA401UntilTheClientHasIt(t *testing.T) {
	s := NewServer(t)
	client := s.Client()
	s.SetHMACKey("another key, as after a rotation")
	if _, err := client.Token(t.Context(), "alice"); !errors.Is(err, spikeauth.StatusUnauthorized) {
		t.Error(err)
	}
	if err := client.SetHMACKey([]byte(s.HMACKey())); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Token(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
}

func TestTheEnvironmentLeadsToItUntilTheTestEnds(t *testing.T) {
	for _, name := range conflicting {
		t.Setenv(name, "/nowhere")
	}
	t.Setenv("SPIKE_HMAC_KEY", "") // unset, and restored after this test
	os.Unsetenv("SPIKE_HMAC_KEY")
	t.Run("during", func(t *testing.T) {
		s := NewServer(t, WithApplication("1234", "Another-Key-8d1f3b7e5a9c"))
		s.Setenv()
		client, err := spikeauth.NewFromEnv()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if token, err := client.Token(t.Context(), "alice"); err != nil || token != s.Token("alice") {
			t.Errorf("%q, %v", token, err)
		}
	})
	if _, found := os.LookupEnv("SPIKE_HMAC_KEY"); found || os.Getenv("SPIKE_STORE_URL") != "/nowhere" {
		t.Error("the environment is not as it was")
	}
}

func TestACrowdIsServed(t *testing.T) {
	s := NewServer(t)
	client := s.Client(spikeauth.WithMaxConcurrency(64), spikeauth.WithCacheCapacity(0))
	var group sync.WaitGroup
	for i := range 500 {
		group.Add(1)
		go func() {
			defer group.Done()
			user := fmt.Sprintf("user-%d", i)
			if token, err := client.Exchange(t.Context(), user); err != nil || subject(token) != user {
				t.Errorf("%s: %q, %v", user, token, err)
			}
		}()
	}
	group.Wait()
	if s.Requests() != 500 {
		t.Errorf("%d requests", s.Requests())
	}
}

func TestTheEndOfATestEndsItsServerAndItsClients(t *testing.T) {
	var s *Server
	var client *spikeauth.Client
	start := time.Now()
	t.Run("test", func(t *testing.T) {
		s = NewServer(t)
		client = s.Client()
		s.Respond(Response{Delay: 10 * time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _, _ = client.Token(ctx, "alice") }()
		half, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.BaseURL(), "http://"), "/v3"))
		if err != nil {
			t.Fatal(err)
		}
		defer half.Close()
		fmt.Fprint(half, "POST /v3/auth/hmac HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
		for s.Requests() == 0 {
			time.Sleep(time.Millisecond)
		}
	})
	if took := time.Since(start); took > time.Minute {
		t.Error(took)
	}
	if _, err := client.Token(t.Context(), "alice"); !errors.Is(err, spikeauth.ErrClosed) {
		t.Error(err)
	}
	other, err := spikeauth.New("9999", []byte("key"), spikeauth.WithBaseURL(s.BaseURL()), spikeauth.WithMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Token(t.Context(), "alice"); !errors.Is(err, spikeauth.StatusConnect) {
		t.Error(err)
	}
}

func TestNothingThatItSaysHoldsASecret(t *testing.T) {
	const key, user = "Canary-Key-8d1f3b7e5a9c", "canary-user-5e7d9c1b3a"
	s := NewServer(t, WithApplication("9999", key))
	signature, err := spikeauth.SignUser([]byte(key), user)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests(t) {
		r.Body = strings.ReplaceAll(r.Body, "user1", user)
		if r.Status != 401 {
			r.Body = regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(r.Body, signature)
		}
		status, body := r.send(t, s.BaseURL())
		for _, secret := range []string{key, user, signature} {
			if status != 200 && strings.Contains(body, secret) {
				t.Errorf("%s: %s", r.Name, body)
			}
		}
	}
}
