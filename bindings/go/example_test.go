//go:build cgo

package spikeauth_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// The examples are configured by the environment, which points to a sandbox here.

func Example() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	for range 2 {
		token, err := client.Token(context.Background(), "my_application_user_123")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("a token of", len(token), "characters")
	}
	stats, err := client.Stats()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("requests sent:", stats.Requests)
	// Output:
	// a token of 143 characters
	// a token of 143 characters
	// requests sent: 1
}

func ExampleNew() {
	hmacKey := []byte("HMAC_KEY_FROM_ADMIN_CONSOLE")
	client, err := spikeauth.New("9999", hmacKey,
		spikeauth.WithTimeout(5*time.Second),
		spikeauth.WithUserAgent("shop/1.2"),
	)
	clear(hmacKey) // the client has its own copy
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println(client.SignUser("my_application_user_123"))
	// Output: e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199 <nil>
}

func ExampleClient_Token_deadline() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = client.Token(ctx, "fault.stall") // the sandbox never replies for this user
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

func ExampleClient_Provision() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	userIDs := []string{"alice", "not valid", "bob"}
	for i, err := range client.Provision(context.Background(), userIDs) {
		fmt.Println(i, err == nil, errors.Is(err, spikeauth.StatusInvalidUserID))
	}
	// Output:
	// 0 true false
	// 1 false true
	// 2 true false
}

func ExampleClient_Invalidate() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, user := context.Background(), "my_application_user_123"

	token, err := client.Token(ctx, user)
	if err != nil {
		log.Fatal(err)
	}
	// The API has replied 401 to a call with that token.
	if err := client.Invalidate(user, token); err != nil {
		log.Fatal(err)
	}
	_, err = client.Token(ctx, user)
	// The sandbox issues the same token again, which would be refused again.
	fmt.Println(errors.Is(err, spikeauth.StatusTokenRejected))
	// Output: true
}

func ExampleClient_Stats() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	// Served at /debug/vars. It is null once the client is closed.
	expvar.Publish("spike_auth", expvar.Func(func() any {
		stats, err := client.Stats()
		if err != nil {
			return nil
		}
		return stats
	}))
	if _, err := client.Token(context.Background(), "my_application_user_123"); err != nil {
		log.Fatal(err)
	}
	shown, _, _ := strings.Cut(expvar.Get("spike_auth").String(), `,"invalidations"`)
	fmt.Println(shown)
	// Output: {"hits":0,"misses":1,"coalesced":0,"exchanges":1,"requests":1,"retries":0,"failures":0
}

func ExampleError_LogValue() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr { // neither time nor message, for the example
			if attr.Key == "time" || attr.Key == "message" {
				return slog.Attr{}
			}
			return attr
		},
	}))
	if _, err := client.Token(context.Background(), "fault.status.403"); err != nil {
		logger.Error("no token", "error", err)
	}
	// Output: level=ERROR msg="no token" error.op=token error.status=FORBIDDEN error.http_status=403 error.retry_after=0s error.attempts=1 error.shared=false error.retryable=false
}

func ExampleClient_AppendSignature() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	line := []byte("signature=")
	line, err = client.AppendSignature(line, "my_application_user_123")
	fmt.Println(string(line), err)
	// Output: signature=e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199 <nil>
}

func ExampleClient_SignUsers() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	signatures, err := client.SignUsers([]string{"User1", "not valid", "user1"})
	for _, signature := range signatures {
		fmt.Printf("%.8s\n", signature)
	}
	fmt.Println(errors.Is(err, spikeauth.StatusInvalidUserID))
	// Output:
	// 387cad85
	//
	// 269d9708
	// true
}

func ExampleClient_RoundTripper() {
	// An API that requires a token.
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%.10s...", r.Header.Get("Authorization"))
	}))
	defer api.Close()

	spike, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer spike.Close()

	client := &http.Client{Transport: spike.RoundTripper("my_application_user_123", nil)}
	resp, err := client.Get(api.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: Bearer eyJ... <nil>
}

func ExampleSignUser() {
	signature, err := spikeauth.SignUser([]byte("HMAC_KEY_FROM_ADMIN_CONSOLE"), "my_application_user_123")
	fmt.Println(signature, err)
	// Output: e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199 <nil>
}

func ExampleVerifyUser() {
	key := []byte("HMAC_KEY_FROM_ADMIN_CONSOLE")
	const signature = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199"
	fmt.Println(spikeauth.VerifyUser(key, "my_application_user_123", signature))
	err := spikeauth.VerifyUser(key, "somebody_else", signature)
	fmt.Println(errors.Is(err, spikeauth.StatusSignatureMismatch))
	// Output:
	// <nil>
	// true
}

func ExampleError() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Token(context.Background(), "fault.retry-after.60") // the sandbox asks this user to wait
	var e *spikeauth.Error
	switch {
	case errors.Is(err, spikeauth.StatusUnauthorized):
		fmt.Println("the key does not belong to the application")
	case errors.As(err, &e) && e.Retryable:
		fmt.Println("again in", e.RetryAfter)
	}
	// Output: again in 1m0s
}
