package spikeauth

import "context"

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
	return c.exchange(ctx, &order{function: exchange, op: "exchange", userID: userID})
}

// ExchangeSignature exchanges a signature made elsewhere for an access token. The client needs no key.
func (c *Client) ExchangeSignature(ctx context.Context, userID, signature string) (string, error) {
	return c.exchange(ctx, &order{function: exchangeSignature, op: "exchange", userID: userID, signature: signature})
}

// Invalidate reports a token that the API refused with a 401, and drops it from the cache if it is still the cached one.
// Then call [Client.Token] and retry once.
func (c *Client) Invalidate(userID, rejected string) error {
	const op = "invalidate"
	if _, err := c.acquire(op, oneCall); err != nil {
		return err
	}
	defer c.release(oneCall)
	return clientInvalidate(c.handle.native, userID, rejected, op)
}

// Forget drops a user's token from the cache. After a 401 use [Client.Invalidate] instead.
func (c *Client) Forget(userID string) error {
	const op = "forget"
	if _, err := c.acquire(op, oneCall); err != nil {
		return err
	}
	defer c.release(oneCall)
	return clientForget(c.handle.native, userID, op)
}

// begin checks the context and acquires the client.
func (c *Client) begin(ctx context.Context, op string, part int64) (refs int64, err error) {
	if ctx == nil {
		panic("spikeauth: nil context")
	}
	if ctx.Err() != nil {
		return 0, contextError(op, ctx)
	}
	return c.acquire(op, part)
}

func (c *Client) exchange(ctx context.Context, o *order) (string, error) {
	if _, err := c.begin(ctx, o.op, oneCall); err != nil {
		return "", err
	}
	defer c.release(oneCall)
	return c.handle.fetch(ctx, o)
}

// cached returns prefix and a user's token. A hit is one call of the library. If many calls peek, this one does not: those
// for missing tokens may wait for a lock whose holder does not run, and the runtime makes a thread for each.
func (c *Client) cached(ctx context.Context, op, prefix, userID string) (string, error) {
	refs, err := c.begin(ctx, op, onePeek)
	if err != nil {
		return "", err
	}
	if refs < peekingMax.Load() {
		var isHit bool
		text := read(prefix, func(out []byte) (n int) { n, isHit = clientPeek(c.handle.native, userID, out); return n })
		if isHit {
			c.release(onePeek)
			return text, nil
		}
	}
	c.handle.refs.Add(oneCall - onePeek)
	defer c.release(oneCall)
	return c.handle.fetch(ctx, &order{function: getToken, op: op, prefix: prefix, userID: userID})
}
