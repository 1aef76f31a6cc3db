package spikeauth

import (
	"context"
	"errors"
	"time"
)

const bearer = "Bearer "

// Token returns the access token of a user: from the cache, else by an exchange that is then kept. However many calls
// ask for the same user at the same time, one exchange serves them all.
//
// The context's deadline is that of the call; without one it is the client's. A context that ends, ends the call at
// once, and leaves all others alone. A nil context panics.
func (c *Client) Token(ctx context.Context, userID string) (string, error) {
	return c.cached(ctx, "token", "", userID)
}

// Authorization returns the value of an Authorization header for a user: "Bearer ", and the token as [Client.Token]
// gives it.
func (c *Client) Authorization(ctx context.Context, userID string) (string, error) {
	return c.cached(ctx, "authorization", bearer, userID)
}

// Exchange signs a user id and exchanges the signature for that user's access token. It always asks the service, and
// does not touch the cache: [Client.Token] is for everyday use.
func (c *Client) Exchange(ctx context.Context, userID string) (string, error) {
	const op = "exchange"
	check := func() error {
		var signature [signatureSize]byte
		defer clear(signature[:])
		return clientSign(c.handle.native, userID, &signature, op)
	}
	return c.exchange(ctx, op, check, func(call nativeCall, out []byte) (int, *Error) {
		return clientExchange(c.handle.native, userID, call, out, op)
	})
}

// ExchangeSignature exchanges a signature that was made elsewhere, on a machine that has the key. The client needs
// none.
func (c *Client) ExchangeSignature(ctx context.Context, userID, signature string) (string, error) {
	const op = "exchange"
	check := func() error {
		err := verify([]byte("any key"), userID, signature, op)
		if errors.Is(err, StatusSignatureMismatch) {
			return nil // it is well formed
		}
		return err
	}
	return c.exchange(ctx, op, check, func(call nativeCall, out []byte) (int, *Error) {
		return clientExchangeSignature(c.handle.native, userID, signature, call, out, op)
	})
}

// Invalidate reports that the service refused a token (a 401 to a call with it), and drops it from the cache, if it is
// still the one that is there. Call [Client.Token] afterwards, and try once more with what it gives.
func (c *Client) Invalidate(userID, rejected string) error {
	const op = "invalidate"
	if err := c.enter(op); err != nil {
		return err
	}
	defer c.leave()
	return clientInvalidate(c.handle.native, userID, rejected, op)
}

// Forget drops what the cache holds for a user, whatever it is. After a 401 use [Client.Invalidate] instead.
func (c *Client) Forget(userID string) error {
	const op = "forget"
	if err := c.enter(op); err != nil {
		return err
	}
	defer c.leave()
	return clientForget(c.handle.native, userID, op)
}

// begin is what every call with a context does first.
func (c *Client) begin(ctx context.Context, op string) error {
	if ctx == nil {
		panic("spikeauth: nil context")
	}
	if ctx.Err() != nil {
		return doneError(op, ctx)
	}
	return c.enter(op)
}

// exchange makes an exchange that check has nothing against. What can never succeed does not wait for its turn.
func (c *Client) exchange(
	ctx context.Context, op string, check func() error, do func(call nativeCall, out []byte) (int, *Error),
) (string, error) {
	if err := c.begin(ctx, op); err != nil {
		return "", err
	}
	defer c.leave()
	if err := check(); err != nil {
		return "", err
	}
	token, failed := c.handle.block(ctx, op, c.handle.limit(ctx), do)
	if failed != nil {
		return "", failed
	}
	return token, nil
}

// cached returns prefix and the token of a user. A hit is one call of the library.
func (c *Client) cached(ctx context.Context, op, prefix, userID string) (string, error) {
	if err := c.begin(ctx, op); err != nil {
		return "", err
	}
	defer c.leave()
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
		token, failed := c.handle.miss(ctx, op, userID)
		if failed != nil {
			return "", failed
		}
		return prefix + token, nil
	}
	return "", failed
}

// miss gets a token that is not in the cache, alone or with others who ask for it.
func (h *handle) miss(ctx context.Context, op, userID string) (string, *Error) {
	limit := h.limit(ctx)
	flight, waiter := h.flights.join(userID, limit)
	if waiter != nil {
		result, failed := h.await(ctx, op, userID, flight, waiter)
		if failed != nil || !result.lead {
			h.flights.shared.Add(1)
			if failed == nil && result.failed != nil {
				failed = result.failed.withOp(op)
			}
			return result.token, failed
		}
	}
	return h.lead(ctx, op, userID, limit, flight)
}

// await waits for what comes of a flight, and leaves it if that fails, be it by a panic of the context.
func (h *handle) await(
	ctx context.Context, op, userID string, joined *flight, w *waiter,
) (result outcome, failed *Error) {
	isTold := false
	defer func() {
		if !isTold {
			h.flights.leave(userID, joined, w)
		}
	}()
	result, failed = wait(ctx, op, w.limit, h.closed, w.ready)
	isTold = failed == nil
	return result, failed
}

// lead gets the token for all who wait. Whatever becomes of the call, be it a panic of its context, the flight ends or
// goes on. One that got the lead from another begins its attempts anew, but not before the time that the other was told.
func (h *handle) lead(
	ctx context.Context, op, userID string, limit time.Time, led *flight,
) (token string, failed *Error) {
	result, goesOn := outcome{}, everybody
	defer func() { h.flights.finish(userID, led, result, goesOn) }()
	if failed = h.pause(ctx, op, limit, led.notBefore); failed == nil {
		token, failed = h.block(ctx, op, limit, func(call nativeCall, out []byte) (int, *Error) {
			return clientToken(h.native, userID, call, out, op)
		})
	}
	result.token, goesOn = token, h.goOn(failed, limit)
	if failed != nil {
		result.failed = failed.withOp(op) // the caller may write to its own
	}
	return token, failed
}

// pause waits until the service may be asked.
func (h *handle) pause(ctx context.Context, op string, limit, notBefore time.Time) *Error {
	left := time.Until(notBefore)
	if left <= 0 {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	_, failed := wait(ctx, op, limit, h.closed, timer.C)
	return failed
}
