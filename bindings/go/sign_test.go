//go:build cgo

package spikeauth_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func TestKnownSignatures(t *testing.T) {
	var vectors struct {
		Key        string
		Signatures map[string]string
	}
	text, err := os.ReadFile(filepath.Join(root, "tests/vectors/signatures.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if vectors.Key != key || len(vectors.Signatures) < 1000 {
		t.Fatal("these are not the vectors of this key")
	}
	client := server.client(t, "http")
	var ids, known []string
	for id, signature := range vectors.Signatures {
		ids, known = append(ids, id), append(known, signature)
		if got, err := spikeauth.SignUser([]byte(key), id); err != nil || got != signature {
			t.Errorf("SignUser(%q) = %q, %v", id, got, err)
		}
		if got, err := client.SignUser(id); err != nil || got != signature {
			t.Errorf("Client.SignUser(%q) = %q, %v", id, got, err)
		}
		if got, err := client.AppendSignature([]byte("id="), id); err != nil || string(got) != "id="+signature {
			t.Errorf("AppendSignature(%q) = %q, %v", id, got, err)
		}
		if err := spikeauth.VerifyUser([]byte(key), id, signature); err != nil {
			t.Errorf("VerifyUser(%q): %v", id, err)
		}
	}
	if got, err := client.SignUsers(ids); err != nil || !slices.Equal(got, known) {
		t.Errorf("SignUsers: %v", err)
	}
}

func TestAnInvalidUserIDIsNotSent(t *testing.T) {
	client := server.client(t, "http")
	before := server.counters(t).Requests
	for _, id := range []string{"", "not valid", "a\x00b", strings.Repeat("a", 129)} {
		calls := everyCall(t.Context(), client, id, "token")
		delete(calls, "Stats")
		delete(calls, "CheckStore")
		delete(calls, "SetHMACKey")
		if id == "" {
			delete(calls, "Diagnose")
		}
		calls["package SignUser"] = func() error { _, err := spikeauth.SignUser([]byte(key), id); return err }
		calls["VerifyUser"] = func() error { return spikeauth.VerifyUser([]byte(key), id, strings.Repeat("0", 64)) }
		for name, call := range calls {
			var e *spikeauth.Error
			if err := call(); !errors.As(err, &e) || e.Status != spikeauth.StatusInvalidUserID || e.Attempts != 0 {
				t.Errorf("%s(%.20q): %v", name, id, err)
			}
		}
	}
	if after := server.counters(t).Requests; after != before {
		t.Errorf("%d requests were sent", after-before)
	}
}

func TestSignUsersWithInvalidIDs(t *testing.T) {
	client := server.client(t, "http")
	for _, none := range [][]string{nil, {}} {
		if got, err := client.SignUsers(none); err != nil || got == nil || len(got) != 0 {
			t.Errorf("no ids: %v, %v", got, err)
		}
	}
	alice, _ := client.SignUser("alice")
	got, err := client.SignUsers([]string{"alice", "not valid", "", "alice"})
	if !slices.Equal(got, []string{alice, "", "", alice}) {
		t.Errorf("%q", got)
	}
	if !errors.Is(err, spikeauth.StatusInvalidUserID) || !strings.Contains(err.Error(), "1") {
		t.Errorf("the error does not name the first invalid id: %v", err)
	}
	keyless, err := spikeauth.New(applicationID, nil, spikeauth.WithBaseURL(server.ready["http"]))
	if err != nil {
		t.Fatal(err)
	}
	defer keyless.Close()
	if got, err := keyless.SignUsers([]string{"alice"}); got != nil || !errors.Is(err, spikeauth.StatusKeyRequired) {
		t.Errorf("no key: %v, %v", got, err)
	}
}

func TestAFailedAppendReturnsDst(t *testing.T) {
	got, err := server.client(t, "http").AppendSignature([]byte("before"), "not valid")
	if err == nil || string(got) != "before" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestVerifyUser(t *testing.T) {
	signature, _ := spikeauth.SignUser([]byte(key), "alice")
	for _, row := range []struct {
		key, id, signature string
		want               error
	}{
		{key, "alice", strings.ToUpper(signature), nil},
		{key, "bob", signature, spikeauth.StatusSignatureMismatch},
		{"another", "alice", signature, spikeauth.StatusSignatureMismatch},
		{key, "alice", "", spikeauth.StatusInvalidSignature},
		{"", "alice", signature, spikeauth.StatusInvalidKey},
	} {
		if err := spikeauth.VerifyUser([]byte(row.key), row.id, row.signature); !errors.Is(err, row.want) {
			t.Errorf("%q %s: %v, not %v", row.key, row.id, err, row.want)
		}
	}
	if _, err := spikeauth.SignUser(nil, "alice"); !errors.Is(err, spikeauth.StatusInvalidKey) {
		t.Errorf("nil key: %v", err)
	}
}
