//go:build !cgo

package spikeauth_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestWithoutCgoEveryCallReturnsErrNoCgo(t *testing.T) {
	ctx, key := context.Background(), []byte("key")
	for _, client := range []*spikeauth.Client{nil, new(spikeauth.Client)} {
		for name, call := range map[string]func() error{
			"New":               func() error { _, err := spikeauth.New("1", key); return err },
			"NewFromEnv":        func() error { _, err := spikeauth.NewFromEnv(); return err },
			"SignUser":          func() error { _, err := spikeauth.SignUser(key, "alice"); return err },
			"VerifyUser":        func() error { return spikeauth.VerifyUser(key, "alice", "00") },
			"Client.SignUser":   func() error { _, err := client.SignUser("alice"); return err },
			"AppendSignature":   func() error { _, err := client.AppendSignature(nil, "alice"); return err },
			"SignUsers":         func() error { _, err := client.SignUsers(nil); return err },
			"Exchange":          func() error { _, err := client.Exchange(ctx, "alice"); return err },
			"ExchangeSignature": func() error { _, err := client.ExchangeSignature(ctx, "alice", "00"); return err },
			"Token":             func() error { _, err := client.Token(ctx, "alice"); return err },
			"Authorization":     func() error { _, err := client.Authorization(ctx, "alice"); return err },
			"Invalidate":        func() error { return client.Invalidate("alice", "token") },
			"Forget":            func() error { return client.Forget("alice") },
			"Stats":             func() error { _, err := client.Stats(); return err },
			"RoundTripper": func() error {
				req, _ := http.NewRequest("GET", "https://example.com", nil)
				_, err := client.RoundTripper("alice", nil).RoundTrip(req)
				return err
			},
		} {
			if err := call(); !errors.Is(err, spikeauth.ErrNoCgo) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, part := range []string{"without cgo", "CGO_ENABLED=1", "CC"} {
		if !strings.Contains(spikeauth.ErrNoCgo.Error(), part) {
			t.Errorf("%v does not say %q", spikeauth.ErrNoCgo, part)
		}
	}
	if text := spikeauth.Status(99).Error(); !strings.Contains(text, "99") {
		t.Error(text)
	}
}
