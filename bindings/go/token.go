package spikeauth

import "context"

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
	return c.exchange(ctx, op, func(call nativeCall, out []byte) (int, *Error) {
		return clientExchange(c.handle.native, userID, call, out, op)
	})
}

// ExchangeSignature exchanges a signature that was made elsewhere, on a machine that has the key. The client needs
// none.
func (c *Client) ExchangeSignature(ctx context.Context, userID, signature string) (string, error) {
	const op = "exchange"
	return c.exchange(ctx, op, func(call nativeCall, out []byte) (int, *Error) {
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
	if err := clientInvalidate(c.handle.native, userID, rejected, op); err != nil {
		return err
	}
	c.handle.flights.detach(userID)
	return nil
}

// Forget drops what the cache holds for a user, whatever it is. After a 401 use [Client.Invalidate] instead.
func (c *Client) Forget(userID string) error {
	const op = "forget"
	if err := c.enter(op); err != nil {
		return err
	}
	defer c.leave()
	if err := clientForget(c.handle.native, userID, op); err != nil {
		return err
	}
	c.handle.flights.detach(userID)
	return nil
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

func (c *Client) exchange(
	ctx context.Context, op string, do func(call nativeCall, out []byte) (int, *Error),
) (string, error) {
	if err := c.begin(ctx, op); err != nil {
		return "", err
	}
	defer c.leave()
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
	return "", clientPeekError(c.handle.native, userID, op)
}

// miss gets a token that is not in the cache, alone or with others who ask for it.
func (h *handle) miss(ctx context.Context, op, userID string) (string, *Error) {
	limit := h.limit(ctx)
	flight, waiter := h.flights.join(userID, limit)
	if waiter != nil {
		result, failed := wait(ctx, op, limit, waiter.ready)
		if failed != nil {
			h.flights.leave(userID, flight, waiter)
			h.flights.shared.Add(1)
			return "", failed
		}
		if !result.lead {
			h.flights.shared.Add(1)
			if result.failed != nil {
				return "", result.failed.withOp(op)
			}
			return result.token, nil
		}
	}
	token, failed := h.block(ctx, op, limit, func(call nativeCall, out []byte) (int, *Error) {
		return clientToken(h.native, userID, call, out, op)
	})
	result := outcome{token: token}
	if failed != nil {
		result.failed = failed.withOp(op) // the caller may write to its own
	}
	h.flights.finish(userID, flight, result, h.goOn(failed, limit))
	return token, failed
}
