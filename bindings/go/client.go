package spikeauth

import (
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

const opNew = "new"

// A Client signs user ids, exchanges signatures for access tokens and keeps these, for one application. Make one with
// [New] or [NewFromEnv], and share it: its methods may be called by any number of goroutines at once.
type Client struct {
	_       noCopy
	handle  *handle
	cleanup runtime.Cleanup
}

// noCopy makes go vet complain of a client that is copied: only the one that New returns keeps its handle alive.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// handle is a client apart from what its user holds, so that it can outlive that until the last call has returned.
type handle struct {
	native      nativeClient
	timeout     time.Duration
	maxAttempts int

	users   atomic.Int64 // who is inside, the owner included; and isClosed
	closed  chan struct{}
	slots   chan nativeCall
	flights flights
}

// isClosed is the bit of handle.users that lets nobody in any more.
const isClosed = 1 << 62

// New makes a client of an application id and the raw bytes of its HMAC key, both as the Spike console shows them.
// The key is not kept: the slice may be wiped when New has returned. A nil key makes a client that cannot sign, only
// exchange signatures that were made elsewhere.
//
// It connects to nothing yet. Close the client when it is no longer needed.
func New(applicationID string, hmacKey []byte, opts ...Option) (*Client, error) {
	return build(settings{applicationID: &applicationID, hmacKey: hmacKey}, opts)
}

// NewFromEnv makes a client of the environment: SPIKE_APPLICATION_ID; SPIKE_HMAC_KEY or SPIKE_HMAC_KEY_FILE;
// SPIKE_API_BASE_URL; SPIKE_TIMEOUT_MS; SPIKE_CA_FILE; and the proxy from https_proxy, HTTPS_PROXY, all_proxy or
// ALL_PROXY, with the exceptions of no_proxy. A proxy that cannot be used is an error only where it would be used.
// Options go before the environment. A program with raised privileges (setuid, file capabilities) may not use it.
func NewFromEnv(opts ...Option) (*Client, error) {
	return build(settings{fromEnv: true}, opts)
}

func build(s settings, opts []Option) (*Client, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	for i, set := range opts {
		if set == nil {
			return nil, outOfRange("option %d, counted from 0, is nil", i)
		}
		if err := set(&s); err != nil {
			return nil, err
		}
	}
	native, err := newClient(&s)
	if err != nil {
		return nil, err
	}
	h := &handle{
		native:      native,
		timeout:     s.timeout(),
		maxAttempts: orDefault(s.maxAttempts, defaultMaxAttempts),
		closed:      make(chan struct{}),
		slots:       newSlots(orDefault(s.maxConcurrency, defaultMaxConcurrency)),
	}
	h.users.Store(1)
	c := &Client{handle: h}
	// Freeing may wait, which would hold up the cleanups of the whole program.
	c.cleanup = runtime.AddCleanup(c, func(h *handle) { go h.close() }, h)
	return c, nil
}

// timeout is the one that the library has, wherever it was set.
func (s *settings) timeout() time.Duration {
	ms := orDefault(s.timeoutMS, 0)
	if s.timeoutMS == nil && s.fromEnv {
		ms, _ = strconv.Atoi(os.Getenv("SPIKE_TIMEOUT_MS")) // the library has accepted it
	}
	if ms == 0 {
		return defaultTimeout
	}
	return time.Duration(ms) * time.Millisecond
}

func orDefault(setting *uint32, value int) int {
	if setting == nil || *setting == 0 {
		return value
	}
	return int(*setting)
}

// Close ends the client: calls in flight return [ErrClosed] at once, later ones too, and its key and tokens are wiped
// when the last call has returned. It always returns nil, and may be called more than once.
func (c *Client) Close() error {
	if c == nil || c.handle == nil {
		return nil
	}
	c.cleanup.Stop()
	c.handle.close()
	runtime.KeepAlive(c)
	return nil
}

// String returns the name of the type: a client has nothing to show.
func (c *Client) String() string { return "spikeauth.Client" }

// GoString is for %#v.
func (c *Client) GoString() string { return c.String() }

// enter keeps the client from being freed until leave.
func (c *Client) enter(op string) error {
	if c == nil || c.handle == nil {
		return errNotMade(op)
	}
	if !c.handle.enter() {
		return closedError(op)
	}
	return nil
}

// leave is what every method does last, and what keeps a client that its user has dropped from being collected
// during the method.
func (c *Client) leave() {
	c.handle.leave()
	runtime.KeepAlive(c)
}

func (h *handle) enter() bool {
	for {
		users := h.users.Load()
		if users&isClosed != 0 {
			return false
		}
		if h.users.CompareAndSwap(users, users+1) {
			return true
		}
	}
}

func (h *handle) leave() {
	if h.users.Add(-1) == isClosed {
		h.free()
	}
}

// close lets nobody in any more, and ends the calls that are. It is one of the users until it has done so.
func (h *handle) close() {
	if h.users.Or(isClosed)&isClosed != 0 {
		return
	}
	close(h.closed)
	closeClient(h.native)
	h.leave()
}

// free is called once, by whoever was the last one inside.
func (h *handle) free() {
	for range cap(h.slots) {
		freeCall(<-h.slots)
	}
	freeClient(h.native)
}
