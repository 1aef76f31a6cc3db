//go:build cgo

package spikeauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// The rules are proved in tests/c/rotation.c.
func TestAnotherKey(t *testing.T) {
	server, err := startSandbox()
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	client := server.client(t, "http")
	body := strings.NewReader(`{"hmac_key": "another"}`)
	reply, err := http.Post(server.ready["control"]+"/key", "application/json", body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatal(reply, err)
	}
	reply.Body.Close()
	if _, err := client.Token(t.Context(), "alice"); !errors.Is(err, spikeauth.StatusUnauthorized) {
		t.Errorf("with the old key: %v", err)
	}
	if err := client.SetHMACKey([]byte("another")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Token(t.Context(), "alice"); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	for _, bad := range [][]byte{nil, {}, make([]byte, 4097)} {
		if err := client.SetHMACKey(bad); !errors.Is(err, spikeauth.StatusInvalidKey) {
			t.Errorf("a key of %d bytes: %v", len(bad), err)
		}
	}
	if stats, err := client.Stats(); err != nil || stats.KeyChanges != 1 {
		t.Errorf("Stats: %v, %v", stats, err)
	}
}
