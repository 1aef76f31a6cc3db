package spikeauth

import (
	"context"
	"errors"
	"time"
)

const bearer = "Bearer "

// Token returns a user's access token, from the cache or by an exchange whose result is cached. Concurrent calls for the
// same user share one exchange.
//
// The deadline is the context's, or the client's timeout if the context has none. A context that is done ends this call
// at once and no other. A nil context panics.
func (c *Client) Token(ctx context.Context, userID string) (string, error) {
	return c.cached(ctx, "token", "", userID)
}

// Authorization returns the value of a user's Authorization header: "Bearer " and the result of [Client.Token].
func (c *Client) Authorization(ctx context.Context, userID string) (string, error) {
	return c.cached(ctx, "authorization", bearer, userID)
}

// Exchange signs a user id and exchanges the signature for an access token. It always sends a request and bypasses the
// cache; prefer [Client.Token].
func (c *Client) Exchange(ctx context.Context, userID string) (string, error) {
	const op = "exchange"
	validate := func() error {
		var signature [signatureSize]byte
		defer clear(signature[:])
		return clientSign(c.handle.native, userID, &signature, op)
	}
	return c.exchange(ctx, op, validate, func(call nativeCall, out []byte) (int, *Error) {
		return clientExchange(c.handle.native, userID, call, out, op)
	})
}

// ExchangeSignature exchanges a signature made elsewhere for an access token. The client needs no key.
func (c *Client) ExchangeSignature(ctx context.Context, userID, signature string) (string, error) {
	const op = "exchange"
	validate := func() error {
		err := verify([]byte("any key"), userID, signature, op)
		if errors.Is(err, StatusSignatureMismatch) {
			return nil // it is well formed
		}
		return err
	}
	return c.exchange(ctx, op, validate, func(call nativeCall, out []byte) (int, *Error) {
		return clientExchangeSignature(c.handle.native, userID, signature, call, out, op)
	})
}

// Invalidate reports a token that the API refused with a 401, and drops it from the cache if it is still the cached one.
// Then call [Client.Token] and retry once.
func (c *Client) Invalidate(userID, rejected string) error {
	const op = "invalidate"
	if err := c.acquire(op); err != nil {
		return err
	}
	defer c.release()
	return clientInvalidate(c.handle.native, userID, rejected, op)
}

// Forget drops a user's token from the cache. After a 401 use [Client.Invalidate] instead.
func (c *Client) Forget(userID string) error {
	const op = "forget"
	if err := c.acquire(op); err != nil {
		return err
	}
	defer c.release()
	return clientForget(c.handle.native, userID, op)
}

// begin checks the context and acquires the client.
func (c *Client) begin(ctx context.Context, op string) error {
	if ctx == nil {
		panic("spikeauth: nil context")
	}
	if ctx.Err() != nil {
		return contextError(op, ctx)
	}
	return c.acquire(op)
}

// exchange runs do after validate, so that a call that cannot succeed does not wait for a permit.
func (c *Client) exchange(
	ctx context.Context, op string, validate func() error, do func(call nativeCall, out []byte) (int, *Error),
) (string, error) {
	if err := c.begin(ctx, op); err != nil {
		return "", err
	}
	defer c.release()
	if err := validate(); err != nil {
		return "", err
	}
	token, failed := c.handle.block(ctx, op, c.handle.deadline(ctx), do)
	if failed != nil {
		return "", failed
	}
	return token, nil
}

// cached returns prefix and a user's token. A hit is one call of the library.
func (c *Client) cached(ctx context.Context, op, prefix, userID string) (string, error) {
	if err := c.begin(ctx, op); err != nil {
		return "", err
	}
	defer c.release()
	out := buffers.Get().(*buffer)
	start := copy(out[:], prefix)
	n, status := clientPeek(c.handle.native, userID, out[start:])
	var failed *Error
	if status != StatusOK && status != StatusNotCached {
		n, status, failed = clientPeekError(c.handle.native, userID, out[start:], op)
	}
	text := string(out[:start+n])
	out.release(start + n)
	switch status {
	case StatusOK:
		return text, nil
	case StatusNotCached:
		token, failed := c.handle.fetch(ctx, op, userID)
		if failed != nil {
			return "", failed
		}
		return prefix + token, nil
	}
	return "", failed
}

// fetch returns a token that is not cached, as the leader or as a waiter.
func (h *handle) fetch(ctx context.Context, op, userID string) (string, *Error) {
	deadline := h.deadline(ctx)
	flight, waiter := h.flights.join(userID, deadline)
	if waiter != nil {
		result, failed := h.await(ctx, op, userID, flight, waiter)
		if failed != nil || !result.lead {
			h.flights.coalesced.Add(1)
			if failed == nil && result.failed != nil {
				failed = result.failed.withOp(op)
			}
			return result.token, failed
		}
	}
	return h.lead(ctx, op, userID, deadline, flight)
}

// await waits for the result of a flight. It leaves the flight on failure, even if the context panics.
func (h *handle) await(
	ctx context.Context, op, userID string, joined *flight, w *waiter,
) (result flightResult, failed *Error) {
	received := false
	defer func() {
		if !received {
			h.flights.leave(userID, joined, w)
		}
	}()
	result, failed = wait(ctx, op, w.deadline, h.closed, w.ready)
	received = failed == nil
	return result, failed
}

// lead fetches the token for all waiters and completes the flight, even if the context panics. A leader that took over
// starts with fresh attempts, after the previous leader's Retry-After.
func (h *handle) lead(
	ctx context.Context, op, userID string, deadline time.Time, led *flight,
) (token string, failed *Error) {
	result, shouldRetry := flightResult{}, retryAll
	defer func() { h.flights.complete(userID, led, result, shouldRetry) }()
	if failed = h.waitUntil(ctx, op, deadline, led.notBefore); failed == nil {
		token, failed = h.block(ctx, op, deadline, func(call nativeCall, out []byte) (int, *Error) {
			return clientToken(h.native, userID, call, out, op)
		})
	}
	result.token, shouldRetry = token, h.shouldRetry(failed, deadline)
	if failed != nil {
		result.failed = failed.withOp(op) // a copy: the caller may modify its own
	}
	return token, failed
}

// waitUntil waits for the end of a Retry-After.
func (h *handle) waitUntil(ctx context.Context, op string, deadline, notBefore time.Time) *Error {
	left := time.Until(notBefore)
	if left <= 0 {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	_, failed := wait(ctx, op, deadline, h.closed, timer.C)
	return failed
}
