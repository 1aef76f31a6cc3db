// Server returns Spike tokens to its own users: GET /token/USER_ID. All handlers share one client, and the request's
// context ends the call when the user disconnects.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func main() {
	spike, err := spikeauth.NewFromEnv()
	if err != nil {
		slog.Error("no client", "error", err)
		os.Exit(1)
	}
	defer spike.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		slog.Error("no listener", "error", err)
		os.Exit(1)
	}
	fmt.Printf("http://%s\n", listener.Addr())

	server := &http.Server{Handler: handler(spike), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		slog.Error("ended", "error", err)
	}
}

func handler(spike *spikeauth.Client) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token/{user}", func(w http.ResponseWriter, r *http.Request) {
		// A real service authenticates the caller here and checks that the id is theirs.
		token, err := spike.Token(r.Context(), r.PathValue("user"))
		if err != nil {
			slog.Warn("no token", "error", err) // contains no key, token or user id
			fail(w, err)
			return
		}
		fmt.Fprintln(w, token)
	})
	return mux
}

// fail replies with what a user may know about an error.
func fail(w http.ResponseWriter, err error) {
	var e *spikeauth.Error
	switch {
	case errors.Is(err, spikeauth.StatusInvalidUserID):
		http.Error(w, "there is no such user", http.StatusNotFound)
	case errors.As(err, &e) && e.Retryable:
		w.Header().Set("Retry-After", strconv.Itoa(1+int(e.RetryAfter/time.Second)))
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	default:
		http.Error(w, "no token", http.StatusBadGateway)
	}
}
