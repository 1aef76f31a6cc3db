//go:build !cgo

package spikeauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestWithoutCgoEveryCallReturnsErrNoCgo(t *testing.T) {
	for _, client := range []*spikeauth.Client{nil, new(spikeauth.Client)} {
		calls := everyCall(t.Context(), client, "alice", "token")
		calls["New"] = func() error { _, err := spikeauth.New("1", []byte("key")); return err }
		calls["NewFromEnv"] = func() error { _, err := spikeauth.NewFromEnv(); return err }
		calls["package SignUser"] = func() error { _, err := spikeauth.SignUser([]byte("key"), "alice"); return err }
		calls["VerifyUser"] = func() error { return spikeauth.VerifyUser([]byte("key"), "alice", "00") }
		calls["RoundTripper"] = func() error {
			req, _ := http.NewRequest("GET", "https://example.com", nil)
			_, err := client.RoundTripper("alice", nil).RoundTrip(req)
			return err
		}
		for name, call := range calls {
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
