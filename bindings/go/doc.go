// Package spikeauth signs user ids, exchanges the signatures for Spike access tokens, and caches the tokens.
//
// It is the Go binding of libspike_auth, which it links through cgo. This package is not made by Spike.
//
// # Use
//
// Create one [Client] and share it between all goroutines. Ask it for the token each time one is needed: a cached token
// costs a fraction of a microsecond, and concurrent calls for the same user share one exchange.
//
//	client, err := spikeauth.NewFromEnv() // SPIKE_APPLICATION_ID and SPIKE_HMAC_KEY
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	authorization, err := client.Authorization(ctx, "my_application_user_123")
//
// For an [net/http.Client], [Client.RoundTripper] adds the header, and retries once with a new token after a 401. For
// golang.org/x/oauth2 there is [NewTokenSource], for gRPC [Client.PerRPCCredentials].
//
// # Errors
//
// Every error except [ErrNoCgo] is an [*Error]. Its message says what failed and what to do; it never contains a key, a
// signature, a token or the user id. Each [Status] is a target for [errors.Is]:
//
//	if errors.Is(err, spikeauth.StatusRateLimited) { ... }
//
// If the context ended the call, the error also matches [context.DeadlineExceeded] or [context.Canceled]. Errors and
// [Stats] log as groups in log/slog.
//
// # Tests
//
// The package spikeauthtest beside this one has a server that stands in for the service.
//
// # Linking
//
// The module holds the library for Linux on x86-64 and arm64, with glibc, and with the build tag musl for musl. The tags
// spikeauth_dynamic and spikeauth_static link an installed library, which pkg-config must find as spike_auth. A checkout
// holds none, and always links an installed one. Without cgo, which Go disables if it finds no C compiler, the package
// compiles and every call returns [ErrNoCgo]. The README lists linking errors and their fixes.
package spikeauth
