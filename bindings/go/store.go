package spikeauth

import "context"

// CheckStore tries every command that the store of [WithStore] needs, on a key of its own. It is the one way to see a
// wrong setting, because no other call fails because of the store: call it when the program starts, and log its error.
//
// It fails with [StatusStore] and the reason, also if no store is set. It lasts at most as long as [WithStoreTimeout]
// says, and at most a quarter of the time that the context, or the client's timeout, leaves.
func (c *Client) CheckStore(ctx context.Context) error {
	const op = "check store"
	return c.askStore(ctx, op, func(call nativeCall) error { return clientCheckStore(c.handle.native, call, op) })
}

// ForgetShared drops a user's token from the cache, as [Client.Forget] does, and from the store. Other processes keep
// theirs until it ends or is renewed. It lasts at most as long as [Client.CheckStore]. If the store cannot be reached, it
// fails with [StatusStore] and has dropped the token from the cache. Without a store it does what Forget does.
func (c *Client) ForgetShared(ctx context.Context, userID string) error {
	const op = "forget shared"
	return c.askStore(ctx, op, func(call nativeCall) error { return clientForgetShared(c.handle.native, userID, call, op) })
}

// askStore makes a call that blocks a thread, because the library cannot start it. Others of the client wait for its
// place as goroutines.
func (c *Client) askStore(ctx context.Context, op string, ask func(nativeCall) error) error {
	if _, err := c.begin(ctx, op, oneCall); err != nil {
		return err
	}
	defer c.release(oneCall)
	select {
	case c.handle.storePlaces <- struct{}{}:
		defer func() { <-c.handle.storePlaces }()
	case <-ctx.Done():
		return contextError(op, ctx)
	}
	timeout, err := timeLeft(ctx, op)
	if err != nil {
		return err
	}
	call, err := newCall(op, timeout)
	if err != nil {
		return err
	}
	defer freeCall(call)
	defer afterDone(ctx, func() { cancelCall(call) })()
	return withContext(ctx, ask(call))
}
