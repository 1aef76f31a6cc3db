package spikeauth

import (
	"context"
	"time"
)

const opProvision = "provision"

// refusalsMax is how often the service may answer 429, or 503 with Retry-After, for one user id.
const refusalsMax = 10

// unnamedPause is the pause after a refusal that names none.
var unnamedPause = time.Second

// Provision gets a token for each user id that has none, and returns no token: they are in the cache, and in the store
// of [WithStore], where other processes find them. There is an error for each user id, in their order, nil if its token
// is there. A second run with the same store exchanges only what is missing.
//
// At most [WithMaxConcurrency] calls are under way at once, each with the client's timeout. They take no thread and no
// goroutine of their own. A 429, or a 503 with Retry-After, is a pause: nothing is started until it is over, and then the
// user is tried again. It becomes the error of a user for whom the service has answered so ten times.
//
// Once the context is done, Provision returns, and all users that have no result yet have its error. A nil context panics.
func (c *Client) Provision(ctx context.Context, userIDs []string) []error {
	errs := make([]error, len(userIDs))
	if _, err := c.begin(ctx, opProvision, oneCall); err != nil {
		fill(errs, err)
		return errs
	}
	defer c.release(oneCall)
	queue, err := c.handle.startedCalls(opProvision)
	if err != nil {
		fill(errs, err)
		return errs
	}
	p := provisioning{
		handle: c.handle, queue: queue, userIDs: userIDs, errs: errs,
		refusals: make(map[int]int),
		window:   c.handle.window,
		inFlight: make(map[uint64]provisioned),
		ended:    make(chan uint64, c.handle.window),
	}
	defer p.free()
	p.run(ctx)
	return errs
}

// provisioning is the state of one call of Provision. Only its goroutine uses it.
type provisioning struct {
	handle  *handle
	queue   *queue
	userIDs []string
	errs    []error

	next     int         // the first index that was not tried yet
	again    []int       // indices that were refused, at most the window's size
	refusals map[int]int // by the service, for each index that is tried again
	pause    *time.Timer // nil if nothing was refused lately
	resume   time.Time   // the end of the pause

	window   int
	inFlight map[uint64]provisioned // by tag
	ended    chan uint64            // has room for the whole window
}

type provisioned struct {
	call  startedCall
	index int
	began time.Time
}

// run returns when all users have a result, or ctx is done.
func (p *provisioning) run(ctx context.Context) {
	for {
		p.feed(ctx)
		if len(p.inFlight) == 0 && !p.hasMore() {
			return
		}
		select {
		case tag := <-p.ended:
			p.settle(ctx, tag)
		case <-p.paused():
			p.pause = nil
		case <-ctx.Done():
			p.giveUp(contextError(opProvision, ctx))
			return
		}
	}
}

func (p *provisioning) hasMore() bool { return p.next < len(p.userIDs) || len(p.again) > 0 }

// feed fills the window. It looks at the context for each user: a million hits take a while.
func (p *provisioning) feed(ctx context.Context) {
	for p.pause == nil && len(p.inFlight) < p.window && p.hasMore() && ctx.Err() == nil {
		index := p.next
		if last := len(p.again) - 1; last >= 0 {
			index, p.again = p.again[last], p.again[:last]
		} else {
			p.next++
		}
		if !p.isCached(index) {
			p.start(index)
		}
	}
}

func (p *provisioning) isCached(index int) (isHit bool) {
	unread(func(out []byte) (n int) { n, isHit = clientPeek(p.handle.native, p.userIDs[index], out); return n })
	return isHit
}

// start starts a call with the client's timeout.
func (p *provisioning) start(index int) {
	o := order{function: getToken, op: opProvision, userID: p.userIDs[index]}
	began := time.Now()
	call, err := p.queue.start(p.handle.native, &o, 0, p.ended)
	if err != nil {
		p.errs[index] = err
		return
	}
	p.inFlight[call.tag] = provisioned{call, index, began}
}

// settle takes the outcome of a call that has ended.
func (p *provisioning) settle(ctx context.Context, tag uint64) {
	one, o := p.inFlight[tag], order{op: opProvision}
	delete(p.inFlight, tag)
	err := p.queue.outcome(one.call, &o)
	p.queue.free(one.call)
	failed, _ := err.(*Error)
	startsAgain := failed != nil && isPause(failed) && p.mayTryAgain(one.index, failed)
	if !startsAgain || failed.Attempts > 0 { // else the client held it back
		p.handle.log(ctx, one.began, o.done, err)
	}
	if startsAgain {
		p.again = append(p.again, one.index)
		p.wait(failed.RetryAfter)
		return
	}
	delete(p.refusals, one.index)
	p.errs[one.index] = err
}

// isPause tells whether all are to wait. A server error that names a time is a 503, for which the client holds all back.
func isPause(failed *Error) bool {
	return failed.Status == StatusRateLimited || failed.Status == StatusServerError && failed.RetryAfter > 0
}

// mayTryAgain counts what the service refused. What the client itself held back, without an attempt, is not counted.
func (p *provisioning) mayTryAgain(index int, failed *Error) bool {
	if failed.Attempts > 0 {
		p.refusals[index]++
	}
	return p.refusals[index] < refusalsMax
}

// wait begins a pause, or makes it longer.
func (p *provisioning) wait(pause time.Duration) {
	if pause <= 0 {
		pause = unnamedPause
	}
	if until := time.Now().Add(pause); until.After(p.resume) {
		p.resume = until
	}
	if p.pause != nil {
		p.pause.Stop()
	}
	p.pause = time.NewTimer(time.Until(p.resume))
}

// paused returns a channel that is ready at the end of the pause, or nil.
func (p *provisioning) paused() <-chan time.Time {
	if p.pause == nil {
		return nil
	}
	return p.pause.C
}

// giveUp gives all users without a result the same error.
func (p *provisioning) giveUp(err error) {
	fill(p.errs[p.next:], err)
	for _, index := range p.again {
		p.errs[index] = err
	}
	for _, one := range p.inFlight {
		p.errs[one.index] = err
	}
}

// free ends what is in flight, also if the context panics.
func (p *provisioning) free() {
	for _, one := range p.inFlight {
		p.queue.free(one.call)
	}
	if p.pause != nil {
		p.pause.Stop()
	}
}

func fill(errs []error, err error) {
	for i := range errs {
		errs[i] = err
	}
}
