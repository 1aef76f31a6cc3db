//go:build cgo

package spikeauth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// subject is the user whom a token of the sandbox names.
func subject(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct{ Sub string }
	if json.Unmarshal(text, &claims) != nil {
		return ""
	}
	return claims.Sub
}

type faultRow struct {
	Fault        string
	Place        string
	Status       string
	HTTPStatus   int   `json:"http_status"`
	Retryable    bool  `json:"retryable"`
	RetryAfterMS int64 `json:"retry_after_ms"`
}

type faultTable struct {
	Replies []faultRow
	Good    []struct {
		Fault        string
		NamesTheUser bool `json:"names_the_user"`
	}
	Places []faultRow
}

// check compares an error with its row. One request was sent; or none where no connection could be made; or two where
// a kept connection was lost, and the request went once more on a new one.
func (row faultRow) check(t *testing.T, err error) {
	t.Helper()
	var e *spikeauth.Error
	if !errors.As(err, &e) {
		t.Errorf("%v is no *Error", err)
		return
	}
	wait := time.Duration(max(row.RetryAfterMS, 0)) * time.Millisecond
	if e.Status.String() != row.Status || e.HTTPStatus != row.HTTPStatus || e.Retryable != row.Retryable ||
		e.RetryAfter != wait || e.Message == "" || e.Op != "exchange" {
		t.Errorf("%#v", e)
	}
	if e.Attempts != 1 && (e.HTTPStatus != 0 || e.Attempts != 0 && (e.Attempts != 2 || row.Status != "CONNECTION_LOST")) {
		t.Errorf("%d attempts", e.Attempts)
	}
	if !errors.Is(err, e.Status) || errors.Is(err, context.DeadlineExceeded) != (row.Status == "TIMEOUT") ||
		e.Timeout() != (row.Status == "TIMEOUT") {
		t.Errorf("%v is not what it says", err)
	}
}

// parallel runs calls a few at a time: most of them only wait.
func parallel(calls []func()) {
	var done sync.WaitGroup
	turns := make(chan struct{}, 16)
	for _, call := range calls {
		turns <- struct{}{}
		done.Add(1)
		go func() {
			defer done.Done()
			call()
			<-turns
		}()
	}
	done.Wait()
}

func TestEveryRowOfTheFaultTable(t *testing.T) {
	var table faultTable
	readJSON(t, "tests/vectors/faults.json", &table)
	if len(table.Replies) < 60 || len(table.Good) < 20 || len(table.Places) < 7 {
		t.Fatal("rows are missing")
	}
	opts := []spikeauth.Option{spikeauth.WithMaxAttempts(1), spikeauth.WithTimeout(2 * time.Second)}
	var calls []func()
	test := func(name string, check func(t *testing.T)) {
		calls = append(calls, func() { t.Run(name, check) })
	}
	for _, scheme := range []string{"http", "https"} {
		client := server.client(t, scheme, opts...)
		for _, row := range table.Replies {
			test(scheme+" "+row.Fault, func(t *testing.T) {
				client := server.client(t, scheme, opts...) // Retry-After holds all calls of a client
				token, err := client.Exchange(context.Background(), "fault."+row.Fault)
				if token != "" {
					t.Error("a token")
				}
				row.check(t, err)
			})
		}
		for _, row := range table.Good {
			test(scheme+" "+row.Fault, func(t *testing.T) {
				user := "fault." + row.Fault
				token, err := client.Exchange(context.Background(), user)
				if err != nil || token == "" || row.NamesTheUser && subject(token) != user {
					t.Errorf("%q, %v", token, err)
				}
			})
		}
	}
	for _, row := range table.Places {
		client := server.client(t, row.Place, opts...)
		test(row.Place, func(t *testing.T) {
			_, err := client.Exchange(context.Background(), "alice")
			row.check(t, err)
		})
	}
	parallel(calls)
	if server.counters(t).FollowedRedirects != 0 {
		t.Error("a redirect was followed")
	}
}

func TestEveryHTTPStatusHasItsStatus(t *testing.T) {
	var table struct {
		Replies []struct {
			HTTPStatus int `json:"http_status"`
			Status     spikeauth.Status
			Name       string
			Retryable  bool
		}
	}
	readJSON(t, "tests/vectors/statuses.json", &table)
	if len(table.Replies) < 20 {
		t.Fatal("rows are missing")
	}
	client := server.client(t, "http", spikeauth.WithMaxAttempts(1))
	for _, row := range table.Replies {
		_, err := client.Exchange(t.Context(), "fault.status."+itoa(row.HTTPStatus))
		var e *spikeauth.Error
		if !errors.As(err, &e) || !errors.Is(err, row.Status) || "SPIKE_AUTH_STATUS_"+e.Status.String() != row.Name ||
			e.HTTPStatus != row.HTTPStatus || e.Retryable != row.Retryable {
			t.Errorf("%d: %v", row.HTTPStatus, err)
		}
	}
}

func TestNoErrorShowsASecretWhateverTheServerEchoes(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithMaxAttempts(1))
	for _, fault := range []string{"echo", "echo.400", "echo.403", "echo.422", "echo.500", "echo-ok"} {
		user := "fault." + fault + ".my_application_user_123"
		signature, err := client.SignUser(user)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Exchange(t.Context(), user)
		if err == nil {
			t.Fatal(fault, "got a token")
		}
		shown := showings(err)
		for _, secret := range []string{key, signature, "my_application_user_123", "compat-canary-", "eyJ"} {
			if strings.Contains(shown, secret) {
				t.Errorf("%s shows %s: %s", fault, secret, shown)
			}
		}
	}
}
