package spikeauth

import "context"

// askInPlace makes a call that blocks a thread, because the library cannot start it. Others of the client wait for its
// place as goroutines.
func (c *Client) askInPlace(ctx context.Context, op string, ask func(nativeCall) error) error {
	if _, err := c.begin(ctx, op, oneCall); err != nil {
		return err
	}
	defer c.release(oneCall)
	select {
	case c.handle.directPlaces <- struct{}{}:
		defer func() { <-c.handle.directPlaces }()
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
