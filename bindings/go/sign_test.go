//go:build cgo

package spikeauth_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func signatures(t *testing.T) map[string]string {
	var vectors struct {
		Key        string
		Signatures map[string]string
	}
	readJSON(t, "tests/vectors/signatures.json", &vectors)
	if vectors.Key != key || len(vectors.Signatures) < 1000 {
		t.Fatal("these are not the vectors of this key")
	}
	return vectors.Signatures
}

func TestEverySignatureIsTheKnownOne(t *testing.T) {
	client := server.client(t, "http")
	var ids, known []string
	for id, signature := range signatures(t) {
		ids, known = append(ids, id), append(known, signature)
		plain, err := spikeauth.SignUser([]byte(key), id)
		if err != nil || plain != signature {
			t.Errorf("SignUser(%q) = %q, %v", id, plain, err)
		}
		byClient, err := client.SignUser(id)
		if err != nil || byClient != signature {
			t.Errorf("Client.SignUser(%q) = %q, %v", id, byClient, err)
		}
		appended, err := client.AppendSignature([]byte("id="), id)
		if err != nil || string(appended) != "id="+signature {
			t.Errorf("AppendSignature(%q) = %q, %v", id, appended, err)
		}
		for _, spelling := range []string{signature, strings.ToUpper(signature)} {
			if err := spikeauth.VerifyUser([]byte(key), id, spelling); err != nil {
				t.Errorf("VerifyUser(%q, %q): %v", id, spelling, err)
			}
		}
	}
	many, err := client.SignUsers(ids)
	if err != nil || !slices.Equal(many, known) {
		t.Errorf("SignUsers: %v", err)
	}
}

func TestEveryUserIDIsJudged(t *testing.T) {
	var rule struct {
		Valid   []string
		Invalid []struct{ ID, Reason string }
	}
	readJSON(t, "tests/vectors/user_ids.json", &rule)
	client := server.client(t, "http")
	before := server.counters(t).Requests
	for _, id := range rule.Valid {
		if _, err := client.SignUser(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, bad := range rule.Invalid {
		calls := map[string]func() error{
			"sign":              func() error { _, err := client.SignUser(bad.ID); return err },
			"sign without one":  func() error { _, err := spikeauth.SignUser([]byte(key), bad.ID); return err },
			"append":            func() error { _, err := client.AppendSignature(nil, bad.ID); return err },
			"verify":            func() error { return spikeauth.VerifyUser([]byte(key), bad.ID, strings.Repeat("0", 64)) },
			"token":             func() error { _, err := client.Token(t.Context(), bad.ID); return err },
			"authorization":     func() error { _, err := client.Authorization(t.Context(), bad.ID); return err },
			"exchange":          func() error { _, err := client.Exchange(t.Context(), bad.ID); return err },
			"exchange, signed":  func() error { _, err := client.ExchangeSignature(t.Context(), bad.ID, "00"); return err },
			"invalidate":        func() error { return client.Invalidate(bad.ID, "token") },
			"forget":            func() error { return client.Forget(bad.ID) },
			"sign many":         func() error { _, err := client.SignUsers([]string{bad.ID}); return err },
			"sign many, second": func() error { _, err := client.SignUsers([]string{"alice", bad.ID}); return err },
		}
		for name, call := range calls {
			err := call()
			var e *spikeauth.Error
			if !errors.As(err, &e) || !errors.Is(err, spikeauth.StatusInvalidUserID) || e.Attempts != 0 || e.Retryable {
				t.Errorf("%s %q: %v", name, bad.ID, err)
			} else if !strings.HasPrefix(name, "sign many") && !strings.Contains(e.Message, bad.Reason) && bad.Reason != "empty" {
				t.Errorf("%s %q: %q does not say %q", name, bad.ID, e.Message, bad.Reason)
			}
		}
	}
	if after := server.counters(t).Requests; after != before {
		t.Errorf("%d requests were sent", after-before)
	}
}

func TestSigningManyInPart(t *testing.T) {
	client := server.client(t, "http")
	for _, none := range [][]string{nil, {}} {
		if got, err := client.SignUsers(none); err != nil || got == nil || len(got) != 0 {
			t.Errorf("of none: %v, %v", got, err)
		}
	}
	alice, _ := client.SignUser("alice")
	got, err := client.SignUsers([]string{"alice", "not valid", "", "alice"})
	if !slices.Equal(got, []string{alice, "", "", alice}) {
		t.Errorf("got %q", got)
	}
	if !errors.Is(err, spikeauth.StatusInvalidUserID) || !strings.Contains(err.Error(), "1") {
		t.Errorf("the first bad one is not named: %v", err)
	}
	keyless, err := spikeauth.New(applicationID, nil, spikeauth.WithBaseURL(server.places["http"]))
	if err != nil {
		t.Fatal(err)
	}
	defer keyless.Close()
	if got, err := keyless.SignUsers([]string{"alice"}); got != nil || !errors.Is(err, spikeauth.StatusKeyRequired) {
		t.Errorf("without a key: %v, %v", got, err)
	}
}

func TestAFailedAppendReturnsWhatWasThere(t *testing.T) {
	client := server.client(t, "http")
	got, err := client.AppendSignature([]byte("before"), "not valid")
	if err == nil || string(got) != "before" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestVerifying(t *testing.T) {
	signature, _ := spikeauth.SignUser([]byte(key), "alice")
	for _, row := range []struct {
		key, id, signature string
		want               error
	}{
		{key, "alice", signature, nil},
		{key, "bob", signature, spikeauth.StatusSignatureMismatch},
		{"another", "alice", signature, spikeauth.StatusSignatureMismatch},
		{key, "alice", signature[1:], spikeauth.StatusInvalidSignature},
		{key, "alice", "", spikeauth.StatusInvalidSignature},
		{"", "alice", signature, spikeauth.StatusInvalidKey},
		{strings.Repeat("k", 4097), "alice", signature, spikeauth.StatusInvalidKey},
	} {
		if err := spikeauth.VerifyUser([]byte(row.key), row.id, row.signature); !errors.Is(err, row.want) {
			t.Errorf("%.10s... %s: %v, not %v", row.key, row.id, err, row.want)
		}
	}
	if _, err := spikeauth.SignUser(nil, "alice"); !errors.Is(err, spikeauth.StatusInvalidKey) {
		t.Errorf("no key: %v", err)
	}
}
