package spikeauth

import (
	"runtime"
	"sync"
	"sync/atomic"
)

const opNew = "new"

// A Client signs user ids, exchanges signatures for access tokens and caches the tokens, for one application. Create it
// with [New] or [NewFromEnv]. It is safe for concurrent use.
type Client struct {
	_       noCopy
	handle  *handle
	cleanup runtime.Cleanup
}

// noCopy makes go vet report copies of a Client: only the original keeps its handle alive.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// handle is the state of a client. It is separate from Client so that it can outlive it until the last call returns.
type handle struct {
	native nativeClient
	refs   atomic.Int64 // the sum of what is in progress, of oneCall for the open client, and of closedFlag

	// One item for each thread that is blocked in a call that cannot be started. Of this client alone: Close ends them all, and
	// so a call that waits for a place.
	directPlaces chan struct{}

	window int // how many exchanges the library has in flight at most

	mutex sync.Mutex
	queue *queue // nil until a call was started
}

// The parts of handle.refs. One word counts both kinds, so that a hit costs no atomic operation more.
const (
	oneCall    = 1
	onePeek    = 1 << 32 // a call that looks into the cache
	closedFlag = 1 << 62 // refuses new calls
)

// New creates a client from an application id and the raw bytes of its HMAC key, both as the Spike console shows them.
// The key is copied: the caller may wipe the slice after New returns. A client with a nil key cannot sign; it only
// exchanges signatures made elsewhere.
//
// New opens no connection. Close the client when it is no longer needed.
func New(applicationID string, hmacKey []byte, opts ...Option) (*Client, error) {
	return build(settings{applicationID: &applicationID, hmacKey: hmacKey}, opts)
}

// NewFromEnv creates a client from the environment: SPIKE_APPLICATION_ID; SPIKE_HMAC_KEY or SPIKE_HMAC_KEY_FILE;
// SPIKE_API_BASE_URL; SPIKE_TIMEOUT_MS; SPIKE_CA_FILE; SPIKE_STORE_URL or SPIKE_STORE_URL_FILE; SPIKE_STORE_TIMEOUT_MS; and
// the proxy from https_proxy, HTTPS_PROXY, all_proxy or ALL_PROXY, with the exceptions in no_proxy. An unusable proxy is an
// error only if it would be used. Options take precedence over the environment. A program with raised privileges (setuid,
// file capabilities) may not use NewFromEnv.
func NewFromEnv(opts ...Option) (*Client, error) {
	return build(settings{fromEnv: true}, opts)
}

func build(s settings, opts []Option) (*Client, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	for i, set := range opts {
		if set == nil {
			return nil, invalidArgument("option %d, counted from 0, is nil", i)
		}
		if err := set(&s); err != nil {
			return nil, err
		}
	}
	native, err := newClient(&s)
	if err != nil {
		return nil, err
	}
	h := &handle{native: native, directPlaces: make(chan struct{}, placesMax), window: s.window()}
	h.refs.Store(oneCall)
	c := &Client{handle: h}
	// Freeing may block, which would delay all other cleanups of the program.
	c.cleanup = runtime.AddCleanup(c, func(h *handle) { go h.close() }, h)
	return c, nil
}

// Close closes the client. Calls in progress and later calls return [ErrClosed] at once. The key and the tokens are
// wiped when the last call has returned. Close always returns nil and may be called more than once.
func (c *Client) Close() error {
	if c == nil || c.handle == nil {
		return nil
	}
	c.cleanup.Stop()
	c.handle.close()
	runtime.KeepAlive(c)
	return nil
}

// String returns the name of the type. It shows no setting.
func (c *Client) String() string { return "spikeauth.Client" }

// GoString implements [fmt.GoStringer] like String.
func (c *Client) GoString() string { return c.String() }

// acquire keeps the client from being freed until release of the same part. It returns all references.
func (c *Client) acquire(op string, part int64) (refs int64, err error) {
	if c == nil || c.handle == nil {
		return 0, notCreatedError(op)
	}
	for {
		before := c.handle.refs.Load()
		if before&closedFlag != 0 {
			return 0, closedError(op)
		}
		if c.handle.refs.CompareAndSwap(before, before+part) {
			return before + part, nil
		}
	}
}

// release must be the last step of every method: it also keeps an unreachable client from being collected during the
// method.
func (c *Client) release(part int64) {
	c.handle.release(part)
	runtime.KeepAlive(c)
}

func (h *handle) release(part int64) {
	if h.refs.Add(-part) == closedFlag {
		h.free()
	}
}

// close refuses new calls, ends those in progress and drops the open client's reference.
func (h *handle) close() {
	if h.refs.Or(closedFlag)&closedFlag != 0 {
		return
	}
	closeClient(h.native)
	h.release(oneCall)
}

// free is called once, by the last release.
func (h *handle) free() {
	if h.queue != nil {
		h.queue.file.Close()
	}
	freeClient(h.native)
}
