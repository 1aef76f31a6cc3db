// Command prints the Authorization header for a user. It reads SPIKE_APPLICATION_ID and SPIKE_HMAC_KEY.
//
//	curl -H "$(go run ./examples/command my_application_user_123)" https://app-api.spikeapi.com/v3/...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: command USER_ID")
		os.Exit(2)
	}
	// Ctrl-C ends the call at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, spikeauth.StatusUnauthorized) {
			fmt.Fprintln(os.Stderr, "Is SPIKE_HMAC_KEY the key of the application SPIKE_APPLICATION_ID?")
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, userID string) error {
	client, err := spikeauth.NewFromEnv(spikeauth.WithUserAgent("example-command/1.0"))
	if err != nil {
		return err
	}
	defer client.Close()
	authorization, err := client.Authorization(ctx, userID)
	if err != nil {
		return err
	}
	fmt.Println("Authorization: " + authorization)
	return nil
}
