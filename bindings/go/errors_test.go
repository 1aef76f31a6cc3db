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

// formatted returns a value in every way that a program might print or log it.
func formatted(value any) string {
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", value)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("logged", "value", value, slog.Group("group", "value", value))
	}
	text, err := json.Marshal(value)
	fmt.Fprintln(&out, string(text), err)
	return out.String()
}

func TestNoSecretIsFormatted(t *testing.T) {
	const canary = "Canary-Key-8d1f3b7e5a9c2d4f"
	const password, storePassword = "proxy-canary-5e7d9c1b", "store-canary-1c9e7d5b"
	const user = "fault.echo.422.alice" // the error's body echoes the request
	s := newSandbox(t, "--hmac-key", canary)
	opts := []spikeauth.Option{
		spikeauth.WithBaseURL(s.ready["http"]),
		spikeauth.WithProxy("http://user:" + password + "@127.0.0.1:1"),
		spikeauth.WithStore("redis://user:" + storePassword + "@127.0.0.1:1/0"),
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
	_, failed := client.Token(t.Context(), user)
	if failed == nil {
		t.Fatal("no error")
	}
	unusable := client.CheckStore(t.Context())
	if !errors.Is(unusable, spikeauth.StatusStore) {
		t.Fatal(unusable)
	}
	_, refused := spikeauth.New(applicationID, nil, spikeauth.WithStore("http://user:"+storePassword+"@localhost"))
	if !errors.Is(refused, spikeauth.StatusInvalidURL) {
		t.Fatal(refused)
	}
	hidden := []string{canary, token, password, storePassword, user}
	for _, user := range []string{"alice", user} {
		signature, _ := client.SignUser(user)
		hidden = append(hidden, signature)
	}
	for _, secret := range hidden {
		hidden = append(hidden, fmt.Sprintf("%x", secret))
	}
	transport := client.RoundTripper("alice", nil)
	holder := struct {
		Client    *spikeauth.Client
		Transport any
		Options   []spikeauth.Option
	}{client, transport, opts}
	for name, value := range map[string]any{
		"TokenSource": spikeauth.NewTokenSource(client, "alice", strings.Clone), "PerRPCCredentials": client.PerRPCCredentials("alice"),
		"Client": client, "RoundTripper": transport, "Option": opts[1], "holder": holder, "&holder": &holder, "Error": failed,
		"store": opts[2], "store's Error": unusable, "Error of New": refused,
	} {
		text := formatted(value)
		for _, secret := range hidden {
			if strings.Contains(text, secret) {
				t.Errorf("%s contains %s: %s", name, secret, text)
			}
		}
	}
	if got := fmt.Sprintf("%v %+v %#v", client, client, client); got != "spikeauth.Client spikeauth.Client spikeauth.Client" {
		t.Error(got)
	}
}

func TestErrorIs(t *testing.T) {
	targets := []error{context.DeadlineExceeded, context.Canceled, spikeauth.ErrClosed, spikeauth.ErrNoCgo}
	for status, want := range map[spikeauth.Status]error{
		spikeauth.StatusTimeout:   context.DeadlineExceeded,
		spikeauth.StatusCancelled: context.Canceled,
		spikeauth.StatusClosed:    spikeauth.ErrClosed,
		spikeauth.StatusRefused:   nil,
	} {
		e := &spikeauth.Error{Op: "token", Status: status}
		err := fmt.Errorf("wrapped: %w", e)
		for _, target := range targets {
			if errors.Is(err, target) != (target == want) {
				t.Errorf("%v, %v", err, target)
			}
		}
		if !errors.Is(err, status) || errors.Is(err, status+1) || e.Timeout() != (status == spikeauth.StatusTimeout) {
			t.Errorf("%v is not its status", err)
		}
	}
}

func TestErrorIsANetError(t *testing.T) {
	for _, retryable := range []bool{true, false} {
		var network net.Error
		err := fmt.Errorf("wrapped: %w", &spikeauth.Error{Status: spikeauth.StatusConnect, Retryable: retryable})
		//lint:ignore SA1019 some callers still use it
		if !errors.As(err, &network) || network.Timeout() || network.Temporary() != retryable {
			t.Error(err)
		}
	}
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*spikeauth.Error{
		"spikeauth: token: what failed. What to do": {Op: "token", Message: "what failed. What to do."},
		"spikeauth: sign: the HMAC key is not":      {Op: "sign", Status: spikeauth.StatusInvalidKey},
	} {
		if got := e.Error(); !strings.HasPrefix(got, want) || strings.HasSuffix(got, ".") {
			t.Errorf("%q", got)
		}
	}
	for _, status := range []spikeauth.Status{-1, 16, 99, 1 << 30} {
		err, number := error(&spikeauth.Error{Op: "token", Status: status}), strconv.Itoa(int(status))
		if !errors.Is(err, status) || !strings.Contains(err.Error(), number) ||
			!strings.Contains(status.String(), number) || !strings.Contains(status.Error(), "libspike_auth") {
			t.Errorf("%v, %v, %v", err, status.String(), status.Error())
		}
	}
}

func TestAnErrorIsLoggedAsAGroup(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&out, nil))
	e := &spikeauth.Error{Op: "token", Status: spikeauth.StatusServerError, HTTPStatus: 503, RetryAfter: time.Minute,
		Attempts: 2, Retryable: true, Message: "What failed."}
	logger.Error("no token", "error", error(e))
	const want = `"error":{"op":"token","status":"SERVER_ERROR","http_status":503,"retry_after":60000000000,"attempts":2,` +
		`"shared":false,"retryable":true,"message":"What failed."}}`
	if !strings.Contains(out.String(), want) {
		t.Error(out.String())
	}
}

func TestErrorFields(t *testing.T) {
	for user, want := range map[string]spikeauth.Error{
		"fault.retry-after.60": {Op: "token", Status: spikeauth.StatusServerError, HTTPStatus: 503, RetryAfter: time.Minute, Attempts: 1, Retryable: true},
		"fault.status.500":     {Op: "authorization", Status: spikeauth.StatusServerError, HTTPStatus: 500, Attempts: 3, Retryable: true},
		"fault.status.403":     {Op: "exchange", Status: spikeauth.StatusForbidden, HTTPStatus: 403, Attempts: 1},
		"fault.close-before":   {Op: "exchange", Status: spikeauth.StatusConnectionLost, Attempts: 3, Retryable: true},
		"not valid":            {Op: "token", Status: spikeauth.StatusInvalidUserID},
	} {
		client := server.client(t, "http") // a new one, because a Retry-After applies to all calls of a client
		call := map[string]func(context.Context, string) (string, error){
			"token": client.Token, "authorization": client.Authorization, "exchange": client.Exchange,
		}[want.Op]
		var e *spikeauth.Error
		if _, err := call(t.Context(), user); !errors.As(err, &e) || e.Message == "" {
			t.Fatalf("%s: %#v", user, err)
		}
		got := *e
		got.Message = ""
		if got != want {
			t.Errorf("%s: %#v", user, got)
		}
	}
}
