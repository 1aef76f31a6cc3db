// Exchanges with the Go binding. It is built together with ../peers/exchange.go, and shares its goroutines and
// protocol.
//
// In the timed loop: Exchange(), which signs, sends the request and reads the token, on kept connections; for a crowd
// Token(). All goroutines share one client.
package main

import (
	"context"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func openSpike(baseURL string, ca []byte) {
	options := []spikeauth.Option{spikeauth.WithBaseURL(baseURL)}
	if ca != nil {
		options = append(options, spikeauth.WithCAPEM(ca), spikeauth.WithTLSRoots(spikeauth.TLSRootsNone))
	}
	client, err := spikeauth.New("9999", key, options...)
	if err != nil {
		die(err)
	}
	exchange = func(ctx context.Context, user string) error {
		_, err := client.Exchange(ctx, user)
		return err
	}
	token = func(ctx context.Context, user string) error {
		_, err := client.Token(ctx, user)
		return err
	}
}

func init() { open = openSpike }
