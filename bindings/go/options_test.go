//go:build cgo

package spikeauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// Each setting reaches the library, and none is truncated on the way.
func TestInvalidSettings(t *testing.T) {
	for name, row := range map[string]struct {
		option spikeauth.Option
		want   spikeauth.Status
	}{
		"base URL":             {spikeauth.WithBaseURL("http://example.com"), spikeauth.StatusInvalidURL},
		"empty base URL":       {spikeauth.WithBaseURL(""), spikeauth.StatusInvalidURL},
		"negative timeout":     {spikeauth.WithTimeout(-1), spikeauth.StatusInvalidArgument},
		"long timeout":         {spikeauth.WithTimeout(10*time.Minute + 1), spikeauth.StatusInvalidArgument},
		"longest timeout":      {spikeauth.WithTimeout(1<<63 - 1), spikeauth.StatusInvalidArgument},
		"timeout over 32 bits": {spikeauth.WithTimeout((1<<32 + 1) * time.Millisecond), spikeauth.StatusInvalidArgument},
		"negative connect":     {spikeauth.WithConnectTimeout(-time.Second), spikeauth.StatusInvalidArgument},
		"long connect":         {spikeauth.WithConnectTimeout(11 * time.Second), spikeauth.StatusInvalidArgument},
		"attempts":             {spikeauth.WithMaxAttempts(11), spikeauth.StatusInvalidArgument},
		"negative attempts":    {spikeauth.WithMaxAttempts(-1), spikeauth.StatusInvalidArgument},
		"over 32 bits":         {spikeauth.WithMaxAttempts(1<<32 + 1), spikeauth.StatusInvalidArgument},
		"nil PEM":              {spikeauth.WithCAPEM(nil), spikeauth.StatusTLSRoots},
		"PEM":                  {spikeauth.WithCAPEM([]byte("nothing")), spikeauth.StatusTLSRoots},
		"roots":                {spikeauth.WithTLSRoots(3), spikeauth.StatusInvalidArgument},
		"proxy":                {spikeauth.WithProxy("socks5://localhost"), spikeauth.StatusInvalidURL},
		"concurrency":          {spikeauth.WithMaxConcurrency(1025), spikeauth.StatusInvalidArgument},
		"negative rate":        {spikeauth.WithMaxRate(-1), spikeauth.StatusInvalidArgument},
		"negative capacity":    {spikeauth.WithCacheCapacity(-1), spikeauth.StatusInvalidArgument},
		"negative memory":      {spikeauth.WithCacheMaxBytes(-1), spikeauth.StatusInvalidArgument},
		"negative TTL":         {spikeauth.WithCacheTTL(-1), spikeauth.StatusInvalidArgument},
		"store":                {spikeauth.WithStore("http://localhost"), spikeauth.StatusInvalidURL},
		"negative store":       {spikeauth.WithStoreTimeout(-1), spikeauth.StatusInvalidArgument},
		"long store":           {spikeauth.WithStoreTimeout(10*time.Second + 1), spikeauth.StatusInvalidArgument},
		"user agent":           {spikeauth.WithUserAgent("a\r\nb"), spikeauth.StatusInvalidArgument},
	} {
		client, err := spikeauth.New(applicationID, []byte(key), row.option)
		var e *spikeauth.Error
		if client != nil || !errors.Is(err, row.want) || !errors.As(err, &e) || e.Message == "" || e.Op != "new" {
			t.Errorf("%s: %v, not %v", name, err, row.want)
		}
	}
	if _, err := spikeauth.New("", []byte(key)); !errors.Is(err, spikeauth.StatusInvalidApplicationID) {
		t.Errorf("empty application id: %v", err)
	}
	if _, err := spikeauth.New(applicationID, []byte{}); !errors.Is(err, spikeauth.StatusInvalidKey) {
		t.Errorf("an empty key, which is not a nil one: %v", err)
	}
	_, err := spikeauth.NewFromEnv(spikeauth.WithMaxAttempts(1), nil)
	if !errors.Is(err, spikeauth.StatusInvalidArgument) || !strings.Contains(err.Error(), "option 1") {
		t.Errorf("nil option: %v", err)
	}
}

func TestSettings(t *testing.T) {
	client, err := spikeauth.New(applicationID, []byte(key),
		spikeauth.WithBaseURL("http://example.com"), // overridden by the next
		spikeauth.WithBaseURL(server.ready["http"]),
		spikeauth.WithTimeout(2*time.Second),
		spikeauth.WithConnectTimeout(time.Second),
		spikeauth.WithMaxAttempts(2),
		spikeauth.WithTLSRoots(spikeauth.TLSRootsBundled),
		spikeauth.WithProxy(""),
		spikeauth.WithMaxConcurrency(1),
		spikeauth.WithCacheCapacity(0),
		spikeauth.WithCacheTTL(time.Minute),
		spikeauth.WithStore(""),
		spikeauth.WithStoreTimeout(0),
		spikeauth.WithUserAgent("shop/1.2"),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 2 {
		if _, err := client.Token(t.Context(), "settings"); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.requests(t, "settings"); n != 2 {
		t.Errorf("%d requests: a token was cached", n)
	}
	var e *spikeauth.Error
	if _, err := client.Token(t.Context(), "fault.status.500.settings"); !errors.As(err, &e) || e.Attempts != 2 {
		t.Errorf("%#v", err)
	}
}

func TestTheRateThatIsSetHolds(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithMaxRate(1), spikeauth.WithTimeout(500*time.Millisecond))
	if _, err := client.Exchange(t.Context(), "rate"); err != nil {
		t.Fatal(err)
	}
	var e *spikeauth.Error
	_, err := client.Exchange(t.Context(), "rate")
	if !errors.As(err, &e) || e.Status != spikeauth.StatusRateLimited || e.Attempts != 0 || e.RetryAfter <= 0 {
		t.Errorf("%#v", err)
	}
}

func TestTheUserAgentAndTheProxyAreUsed(t *testing.T) {
	s := newSandbox(t)
	client := s.client(t, "https", spikeauth.WithProxy(s.ready["proxy"]), spikeauth.WithUserAgent("shop/1.2"))
	if _, err := client.Token(t.Context(), "tunnel"); err != nil {
		t.Fatal(err)
	}
	var last json.RawMessage
	if s.control(t, "/last", &last); !strings.Contains(string(last), " shop/1.2\"") {
		t.Errorf("%s", last)
	}
	if n := s.counters(t).Tunnels; n != 1 {
		t.Errorf("%d tunnels", n)
	}
}

func TestTheMemoryOfTheCacheIsLimited(t *testing.T) {
	for bytes, want := range map[int64]int{0: 1, 1: 2, 1 << 20: 1, 1 << 40: 1} { // 0 is the default, 1 is too little for a token
		client, user := server.client(t, "http", spikeauth.WithCacheMaxBytes(bytes)), fmt.Sprint("memory-", bytes)
		for range 2 {
			if _, err := client.Token(t.Context(), user); err != nil {
				t.Fatal(err)
			}
		}
		if n := server.requests(t, user); n != want {
			t.Errorf("%d bytes: %d requests", bytes, n)
		}
	}
}

func TestTheCacheTTLIsUsed(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithCacheTTL(time.Millisecond))
	until(t, "a second exchange", func() bool {
		if _, err := client.Token(t.Context(), "aged"); err != nil {
			t.Fatal(err)
		}
		return server.requests(t, "aged") > 1
	})
}

func TestNewFromEnv(t *testing.T) {
	for _, row := range []struct {
		name, variable, value, user string
		opts                        []spikeauth.Option
		want                        error
	}{
		{name: "unchanged", user: "env"},
		{name: "an option overrides it", variable: "SPIKE_API_BASE_URL", value: "http://127.0.0.1:1", user: "env",
			opts: []spikeauth.Option{spikeauth.WithBaseURL(server.ready["http"])}},
		{name: "its timeout is the default of calls", variable: "SPIKE_TIMEOUT_MS", value: "50", user: "fault.delay.5000.env",
			opts: []spikeauth.Option{spikeauth.WithConnectTimeout(10 * time.Millisecond)}, want: spikeauth.StatusTimeout},
		{name: "an invalid variable", variable: "SPIKE_TIMEOUT_MS", value: "1s", want: spikeauth.StatusInvalidEnvironment},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.variable != "" {
				t.Setenv(row.variable, row.value)
			}
			client, err := spikeauth.NewFromEnv(row.opts...)
			if err == nil {
				defer client.Close()
				var token string
				if token, err = client.Token(context.Background(), row.user); err == nil && subject(token) != row.user {
					t.Errorf("%q", token)
				}
			}
			if !errors.Is(err, row.want) {
				t.Error(err)
			}
		})
	}
}
