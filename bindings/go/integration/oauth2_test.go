package integration

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
	"golang.org/x/oauth2"
)

func toOAuth2(accessToken string) *oauth2.Token { return &oauth2.Token{AccessToken: accessToken} }

func ExampleNewTokenSource() {
	// An API that requires a token.
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("%.10s...\n", r.Header.Get("Authorization"))
	}))
	defer api.Close()

	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	source := spikeauth.NewTokenSource(client, "my_application_user_123", func(accessToken string) *oauth2.Token {
		return &oauth2.Token{AccessToken: accessToken}
	})
	httpClient := &http.Client{Transport: &oauth2.Transport{Source: source}} // not oauth2.NewClient
	resp, err := httpClient.Get(api.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// Bearer eyJ...
	// 200 OK
}

func TestTokenSource(t *testing.T) {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	var source oauth2.TokenSource = spikeauth.NewTokenSource(client, "alice", toOAuth2)
	kept := oauth2.ReuseTokenSource(nil, source) // what the documentation warns of
	first, err := source.Token()
	if err != nil || !first.Valid() || first.Type() != "Bearer" {
		t.Fatalf("%v, %v", first, err)
	}
	if _, err := kept.Token(); err != nil {
		t.Fatal(err)
	}
	if token, err := client.Token(t.Context(), "alice"); err != nil || token != first.AccessToken {
		t.Errorf("%q, %v", token, err)
	}
	if err := client.Invalidate("alice", first.AccessToken); err != nil {
		t.Fatal(err)
	}
	second, err := source.Token()
	if err != nil || second.AccessToken == first.AccessToken {
		t.Errorf("the rejected token again, %v", err)
	}
	if stale, err := kept.Token(); err != nil || stale.AccessToken != first.AccessToken {
		t.Errorf("oauth2 asks again: the warning of NewTokenSource is outdated, %v", err)
	}
	client.Close()
	if token, err := source.Token(); token != nil || !errors.Is(err, spikeauth.ErrClosed) {
		t.Errorf("%v, %v", token, err)
	}
}

func TestATransportSendsTheNewToken(t *testing.T) {
	var seen []string
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
	}))
	defer api.Close()
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	source := spikeauth.NewTokenSource(client, "bob", toOAuth2)
	httpClient := &http.Client{Transport: &oauth2.Transport{Source: source}}
	var tokens []string
	for range 2 {
		token, err := client.Token(context.Background(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, "Bearer "+token)
		resp, err := httpClient.Get(api.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if err := client.Invalidate("bob", token); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 || seen[0] != tokens[0] || seen[1] != tokens[1] || seen[0] == seen[1] {
		t.Errorf("%q, not %q", seen, tokens)
	}
}
