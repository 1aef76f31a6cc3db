// Excluded from the race detector, under which sync.Pool drops items at random.

//go:build cgo && !race

package spikeauth_test

import (
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestAHitAllocatesOnlyTheToken(t *testing.T) {
	client := server.client(t, "http")
	ctx := t.Context()
	if _, err := client.Token(ctx, "hit"); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(){
		"Token":         func() { _, _ = client.Token(ctx, "hit") },
		"Authorization": func() { _, _ = client.Authorization(ctx, "hit") },
	} {
		if got := testing.AllocsPerRun(1000, call); got > 1 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

func TestSigningAllocatesOnlyTheResult(t *testing.T) {
	client := server.client(t, "http")
	out := make([]byte, 0, 64)
	for name, row := range map[string]struct {
		most float64
		call func()
	}{
		"AppendSignature": {0, func() { out, _ = client.AppendSignature(out[:0], "my_application_user_123") }},
		"SignUser":        {1, func() { _, _ = client.SignUser("my_application_user_123") }},
		"package":         {1, func() { _, _ = spikeauth.SignUser([]byte(key), "my_application_user_123") }},
	} {
		if got := testing.AllocsPerRun(1000, row.call); got > row.most {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
