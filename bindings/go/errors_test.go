//go:build cgo

package spikeauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func itoa(n int) string { return strconv.Itoa(n) }

// showings is a value in all ways that a program might print or log it.
func showings(value any) string {
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", value)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("shown", "value", value, slog.Group("group", "value", value))
	}
	text, err := json.Marshal(value)
	fmt.Fprintln(&out, string(text), err)
	return out.String()
}

func TestOurTypesShowNoSecret(t *testing.T) {
	const canary = "Canary-Key-8d1f3b7e5a9c2d4f"
	const password = "proxy-canary-5e7d9c1b"
	s := newSandbox(t, "--hmac-key", canary)
	opts := []spikeauth.Option{
		spikeauth.WithBaseURL(s.places["http"]),
		spikeauth.WithProxy("http://user:" + password + "@127.0.0.1:1"),
	}
	client, err := spikeauth.New(applicationID, []byte(canary), opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	token, err := client.Token(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	signature, _ := client.SignUser("alice")
	transport := client.RoundTripper("alice", nil)
	holder := struct {
		Client    *spikeauth.Client
		Transport any
		Options   []spikeauth.Option
	}{client, transport, opts}
	hidden := []string{canary, token, signature, password}
	for _, secret := range hidden {
		hidden = append(hidden, fmt.Sprintf("%x", secret))
	}
	for name, value := range map[string]any{
		"Client": client, "RoundTripper": transport, "Option": opts[1], "holder": holder, "&holder": &holder,
	} {
		shown := showings(value)
		for _, secret := range hidden {
			if strings.Contains(shown, secret) {
				t.Errorf("%s shows %s: %s", name, secret, shown)
			}
		}
	}
	if got := fmt.Sprintf("%v %+v %#v", client, client, client); got != "spikeauth.Client spikeauth.Client spikeauth.Client" {
		t.Error(got)
	}
}

func TestEveryStatusIsATarget(t *testing.T) {
	numbers := map[string]int{}
	readJSON(t, "tests/vectors/status_numbers.json", &numbers)
	if len(numbers) < 30 {
		t.Fatal("statuses are missing")
	}
	for name, number := range numbers {
		status := spikeauth.Status(number)
		err := fmt.Errorf("wrapped: %w", &spikeauth.Error{Op: "token", Status: status})
		if !errors.Is(err, status) || errors.Is(err, status+1) || status.String() != name {
			t.Errorf("%s: %v", name, err)
		}
		if text := err.Error(); strings.HasSuffix(text, ".") || !strings.HasPrefix(text, "wrapped: spikeauth: token: ") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

func TestAnUnknownStatusIsAFailureLikeAnother(t *testing.T) {
	for _, status := range []spikeauth.Status{-1, 15, 99, 1 << 30} {
		err := error(&spikeauth.Error{Op: "token", Status: status})
		if !errors.Is(err, status) || !strings.Contains(err.Error(), itoa(int(status))) ||
			!strings.Contains(status.String(), itoa(int(status))) || !strings.Contains(status.Error(), "libspike_auth") {
			t.Errorf("%v, %v, %v", err, status.String(), status.Error())
		}
	}
}

func TestWhatAnErrorIs(t *testing.T) {
	for status, target := range map[spikeauth.Status]error{
		spikeauth.StatusTimeout:   context.DeadlineExceeded,
		spikeauth.StatusCancelled: context.Canceled,
		spikeauth.StatusClosed:    spikeauth.ErrClosed,
	} {
		err := &spikeauth.Error{Op: "token", Status: status}
		if !errors.Is(err, target) || err.Timeout() != (status == spikeauth.StatusTimeout) {
			t.Errorf("%v is not %v", err, target)
		}
	}
	other := &spikeauth.Error{Op: "token", Status: spikeauth.StatusRefused, Message: "what, and the cure."}
	for _, target := range []error{context.DeadlineExceeded, context.Canceled, spikeauth.ErrClosed, spikeauth.ErrNoCgo} {
		if errors.Is(other, target) {
			t.Errorf("%v is %v", other, target)
		}
	}
	if other.Error() != "spikeauth: token: what, and the cure" || errors.Unwrap(other) != nil {
		t.Error(other)
	}
	for _, retryable := range []bool{true, false} {
		var network net.Error
		err := fmt.Errorf("wrapped: %w", &spikeauth.Error{Op: "token", Status: spikeauth.StatusConnect, Retryable: retryable})
		//lint:ignore SA1019 it is there for those who still ask
		if !errors.As(err, &network) || network.Timeout() || network.Temporary() != retryable {
			t.Errorf("%v is not what net says", err)
		}
	}
}

func TestAnErrorOfTheServiceIsWhole(t *testing.T) {
	client := server.client(t, "http")
	_, err := client.Token(t.Context(), "fault.retry-after.60.whole")
	var e *spikeauth.Error
	if !errors.As(err, &e) || e.Op != "token" || e.Status != spikeauth.StatusServerError || e.HTTPStatus != 503 ||
		e.RetryAfter != time.Minute || e.Attempts != 1 || !e.Retryable || !strings.Contains(e.Message, "503") {
		t.Errorf("%#v", err)
	}
	client = server.client(t, "http") // Retry-After holds all calls of a client
	if _, err := client.Authorization(t.Context(), "fault.status.500.whole"); !errors.As(err, &e) || e.Op != "authorization" || e.Attempts != 3 {
		t.Errorf("%#v", err)
	}
}
