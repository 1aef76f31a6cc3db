// Package spikeauth signs a user id, exchanges the signature for that user's Spike access token, and keeps the token.
//
// It is the Go binding of libspike_auth, which it links with cgo; every rule lives there, and its header,
// spike_auth.h, states them. This package is not made by Spike.
//
// # Use
//
// Make one [Client] and share it between all goroutines. Ask it for the token each time that you need one: a token
// that is there costs a fraction of a microsecond, and however many goroutines ask for the same user at the same
// time, one exchange serves them all.
//
//	client, err := spikeauth.NewFromEnv() // SPIKE_APPLICATION_ID and SPIKE_HMAC_KEY
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	authorization, err := client.Authorization(ctx, "my_application_user_123")
//
// [Client.RoundTripper] does the rest for an [net/http.Client]: it adds the header, and after a 401 gets another
// token and tries once more.
//
// # Errors
//
// Every failure but [ErrNoCgo] is an [*Error], which says what failed and what to do about it, and never holds a key, a
// signature, a token or the user id. Each [Status] is a target of [errors.Is]:
//
//	if errors.Is(err, spikeauth.StatusRateLimited) { ... }
//
// A call whose context ends is also [context.DeadlineExceeded] or [context.Canceled], as everywhere.
//
// # Linking
//
// pkg-config must find the installed library, as spike_auth. With the build tag spikeauth_static its archive is linked
// instead of the shared library. Without cgo, which Go turns off by itself where it finds no C compiler, the package
// compiles, and every call returns [ErrNoCgo]. The README says what to do when linking fails.
package spikeauth
