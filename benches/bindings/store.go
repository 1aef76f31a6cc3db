// In the timed loop: Token() for users whose tokens stand in the store, and not in the client's cache. The settings are in
// the environment. It is built together with ../peers/store.go, and shares its loop and protocol.
package main

import (
	"context"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func openSpike([]string) error {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		return err
	}
	clear = func() {
		for i := range users {
			if err := client.Forget(name(i)); err != nil {
				die(err)
			}
		}
	}
	get = func(ctx context.Context, user string) error {
		_, err := client.Token(ctx, user)
		return err
	}
	getMany(users) // puts all tokens there
	return nil
}

func init() { open = openSpike }
