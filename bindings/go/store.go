package spikeauth

import "context"

// CheckStore tries every command that the store of [WithStore] needs, on a key of its own. It is the one way to see a
// wrong setting, because no other call fails because of the store: call it when the program starts, and log its error.
//
// It fails with [StatusStore] and the reason, also if no store is set. It lasts at most as long as [WithStoreTimeout]
// says, and at most a quarter of the time that the context, or the client's timeout, leaves.
func (c *Client) CheckStore(ctx context.Context) error {
	const op = "check store"
	return c.askInPlace(ctx, op, func(call nativeCall) error { return clientCheckStore(c.handle.native, call, op) })
}

// ForgetShared drops a user's token from the cache, as [Client.Forget] does, and from the store. Other processes keep
// theirs until it ends or is renewed. It lasts at most as long as [Client.CheckStore]. If the store cannot be reached, it
// fails with [StatusStore] and has dropped the token from the cache. Without a store it does what Forget does.
func (c *Client) ForgetShared(ctx context.Context, userID string) error {
	const op = "forget shared"
	return c.askInPlace(ctx, op, func(call nativeCall) error { return clientForgetShared(c.handle.native, userID, call, op) })
}
