package spikeauth_test

import (
	"context"
	"strings"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

// everyCall returns every method that can fail, by name.
func everyCall(ctx context.Context, client *spikeauth.Client, userID, token string) map[string]func() error {
	return map[string]func() error{
		"SignUser":          func() error { _, err := client.SignUser(userID); return err },
		"AppendSignature":   func() error { _, err := client.AppendSignature(nil, userID); return err },
		"SignUsers":         func() error { _, err := client.SignUsers([]string{userID}); return err },
		"Exchange":          func() error { _, err := client.Exchange(ctx, userID); return err },
		"ExchangeSignature": func() error { _, err := client.ExchangeSignature(ctx, userID, strings.Repeat("0", 64)); return err },
		"Provision":         func() error { return client.Provision(ctx, []string{userID})[0] },
		"Token":             func() error { _, err := client.Token(ctx, userID); return err },
		"Authorization":     func() error { _, err := client.Authorization(ctx, userID); return err },
		"TokenSource": func() error {
			_, err := spikeauth.NewTokenSource(client, userID, strings.Clone).Token()
			return err
		},
		"PerRPCCredentials": func() error {
			_, err := client.PerRPCCredentials(userID).GetRequestMetadata(ctx, "https://example.com")
			return err
		},
		"Invalidate":   func() error { return client.Invalidate(userID, token) },
		"Forget":       func() error { return client.Forget(userID) },
		"SetHMACKey":   func() error { return client.SetHMACKey([]byte("key")) },
		"CheckStore":   func() error { return client.CheckStore(ctx) },
		"Diagnose":     func() error { _, err := client.Diagnose(ctx, userID); return err },
		"ForgetShared": func() error { return client.ForgetShared(ctx, userID) },
		"Stats":        func() error { _, err := client.Stats(); return err },
	}
}
