//go:build cgo

package spikeauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestABadSettingMakesNewFail(t *testing.T) {
	for name, row := range map[string]struct {
		option spikeauth.Option
		want   spikeauth.Status
	}{
		"http elsewhere":     {spikeauth.WithBaseURL("http://example.com"), spikeauth.StatusInvalidURL},
		"no URL":             {spikeauth.WithBaseURL(""), spikeauth.StatusInvalidURL},
		"negative timeout":   {spikeauth.WithTimeout(-1), spikeauth.StatusInvalidArgument},
		"long timeout":       {spikeauth.WithTimeout(10*time.Minute + 1), spikeauth.StatusInvalidArgument},
		"longest timeout":    {spikeauth.WithTimeout(1<<63 - 1), spikeauth.StatusInvalidArgument},
		"wrapping timeout":   {spikeauth.WithTimeout((1<<32 + 1) * time.Millisecond), spikeauth.StatusInvalidArgument},
		"negative connect":   {spikeauth.WithConnectTimeout(-time.Second), spikeauth.StatusInvalidArgument},
		"connect too long":   {spikeauth.WithConnectTimeout(11 * time.Second), spikeauth.StatusInvalidArgument},
		"attempts":           {spikeauth.WithMaxAttempts(11), spikeauth.StatusInvalidArgument},
		"negative attempts":  {spikeauth.WithMaxAttempts(-1), spikeauth.StatusInvalidArgument},
		"wrapping attempts":  {spikeauth.WithMaxAttempts(1<<32 + 1), spikeauth.StatusInvalidArgument},
		"no PEM":             {spikeauth.WithCAPEM(nil), spikeauth.StatusTLSRoots},
		"not PEM":            {spikeauth.WithCAPEM([]byte("nothing")), spikeauth.StatusTLSRoots},
		"unknown roots":      {spikeauth.WithTLSRoots(3), spikeauth.StatusInvalidArgument},
		"SOCKS":              {spikeauth.WithProxy("socks5://localhost"), spikeauth.StatusInvalidURL},
		"concurrency":        {spikeauth.WithMaxConcurrency(1025), spikeauth.StatusInvalidArgument},
		"negative capacity":  {spikeauth.WithCacheCapacity(-1), spikeauth.StatusInvalidArgument},
		"negative age":       {spikeauth.WithCacheTTL(-1), spikeauth.StatusInvalidArgument},
		"control characters": {spikeauth.WithUserAgent("a\r\nb"), spikeauth.StatusInvalidArgument},
	} {
		client, err := spikeauth.New(applicationID, []byte(key), row.option)
		var e *spikeauth.Error
		if client != nil || !errors.Is(err, row.want) || !errors.As(err, &e) || e.Message == "" || e.Op != "new" {
			t.Errorf("%s: %v, not %v", name, err, row.want)
		}
	}
	for _, id := range []string{"", "a b", strings.Repeat("1", 65)} {
		if _, err := spikeauth.New(id, []byte(key)); !errors.Is(err, spikeauth.StatusInvalidApplicationID) {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, bad := range [][]byte{{}, make([]byte, 4097)} {
		if _, err := spikeauth.New(applicationID, bad); !errors.Is(err, spikeauth.StatusInvalidKey) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestAnOptionThatIsNilIsNamed(t *testing.T) {
	_, err := spikeauth.NewFromEnv(spikeauth.WithMaxAttempts(1), nil)
	if !errors.Is(err, spikeauth.StatusInvalidArgument) || !strings.Contains(err.Error(), "option 1") {
		t.Error(err)
	}
}

func TestEverySettingIsTaken(t *testing.T) {
	client, err := spikeauth.New(applicationID, []byte(key),
		spikeauth.WithBaseURL("http://example.com"), // the later one counts
		spikeauth.WithBaseURL(server.places["http"]),
		spikeauth.WithTimeout(2*time.Second),
		spikeauth.WithConnectTimeout(time.Second),
		spikeauth.WithMaxAttempts(2),
		spikeauth.WithTLSRoots(spikeauth.TLSRootsBundled),
		spikeauth.WithProxy(""),
		spikeauth.WithMaxConcurrency(1),
		spikeauth.WithCacheCapacity(0),
		spikeauth.WithCacheTTL(time.Minute),
		spikeauth.WithUserAgent("shop/1.2"),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 2 { // none is kept
		if _, err := client.Token(t.Context(), "settings"); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.requests(t, "settings"); n != 2 {
		t.Errorf("%d requests", n)
	}
	var e *spikeauth.Error
	if _, err := client.Token(t.Context(), "fault.status.500.settings"); !errors.As(err, &e) || e.Attempts != 2 {
		t.Errorf("%#v", err)
	}
	s := newSandbox(t)
	agent := s.client(t, "http", spikeauth.WithUserAgent("shop/1.2"))
	if _, err := agent.Token(t.Context(), "agent"); err != nil {
		t.Fatal(err)
	}
	var last json.RawMessage
	if s.control(t, "/last", &last); !strings.Contains(string(last), " shop/1.2\"") {
		t.Errorf("%s", last)
	}
}

func TestTheShortestTimeoutIsNotTheDefault(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithTimeout(1), spikeauth.WithConnectTimeout(1))
	if _, err := client.Token(context.Background(), "fault.stall.shortest"); !errors.Is(err, spikeauth.StatusTimeout) {
		t.Error(err)
	}
}

func TestATokenEndsAtTheGreatestAge(t *testing.T) {
	client := server.client(t, "http", spikeauth.WithCacheTTL(time.Millisecond))
	until(t, "a second exchange", func() bool {
		if _, err := client.Token(t.Context(), "aged"); err != nil {
			t.Fatal(err)
		}
		return server.requests(t, "aged") > 1
	})
}

func TestTheProxyIsUsed(t *testing.T) {
	s := newSandbox(t)
	client := s.client(t, "https", spikeauth.WithProxy(s.places["proxy"]))
	if _, err := client.Token(t.Context(), "tunnel"); err != nil {
		t.Fatal(err)
	}
	if s.counters(t).Tunnels != 1 {
		t.Error("there was no tunnel")
	}
}

func TestTheSandboxIsNotTrustedUnasked(t *testing.T) {
	client, err := spikeauth.New(applicationID, []byte(key),
		spikeauth.WithBaseURL(server.places["https"]), spikeauth.WithTLSRoots(spikeauth.TLSRootsBundled))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Token(t.Context(), "untrusted"); !errors.Is(err, spikeauth.StatusTLS) {
		t.Error(err)
	}
}

func TestTheKeyIsNotKept(t *testing.T) {
	want, _ := spikeauth.SignUser([]byte(key), "alice")
	mine := []byte(key)
	client, err := spikeauth.New(applicationID, mine, spikeauth.WithBaseURL(server.places["http"]))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	clear(mine)
	if got, err := client.SignUser("alice"); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTheEnvironment(t *testing.T) {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if token, err := client.Token(t.Context(), "env"); err != nil || subject(token) != "env" {
		t.Errorf("%q, %v", token, err)
	}
	t.Run("options go before it", func(t *testing.T) {
		t.Setenv("SPIKE_API_BASE_URL", "http://127.0.0.1:1")
		client, err := spikeauth.NewFromEnv(spikeauth.WithBaseURL(server.places["http"]))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Token(t.Context(), "env-option"); err != nil {
			t.Error(err)
		}
	})
	t.Run("its timeout counts", func(t *testing.T) {
		t.Setenv("SPIKE_TIMEOUT_MS", "50")
		client, err := spikeauth.NewFromEnv(spikeauth.WithConnectTimeout(10 * time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Token(context.Background(), "fault.delay.5000.env"); !errors.Is(err, spikeauth.StatusTimeout) {
			t.Error(err)
		}
	})
	for name, value := range map[string]string{"SPIKE_TIMEOUT_MS": "1s", "SPIKE_APPLICATION_ID": "", "SPIKE_HMAC_KEY": ""} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if _, err := spikeauth.NewFromEnv(); !errors.Is(err, spikeauth.StatusInvalidEnvironment) || !strings.Contains(err.Error(), name) {
				t.Error(err)
			}
		})
	}
	t.Run("a proxy that cannot be used", func(t *testing.T) {
		t.Setenv("all_proxy", "socks5h://127.0.0.1:1080")
		if _, err := spikeauth.NewFromEnv(spikeauth.WithBaseURL(server.places["https"])); !errors.Is(err, spikeauth.StatusInvalidEnvironment) ||
			!strings.Contains(err.Error(), "all_proxy") {
			t.Error(err)
		}
		for _, opts := range [][]spikeauth.Option{
			{}, // plain http
			{spikeauth.WithBaseURL(server.places["https"]), spikeauth.WithProxy("")},
		} {
			client, err := spikeauth.NewFromEnv(opts...)
			if err != nil {
				t.Fatal(err)
			}
			client.Close()
		}
	})
	t.Run("no application id", func(t *testing.T) {
		t.Setenv("SPIKE_APPLICATION_ID", "restored at the end")
		os.Unsetenv("SPIKE_APPLICATION_ID")
		if _, err := spikeauth.NewFromEnv(); !errors.Is(err, spikeauth.StatusIncompleteConfig) {
			t.Error(err)
		}
	})
}
