package spikeauth

import (
	"fmt"
	"log/slog"
	"math"
	"time"
)

// maxTimeout is the longest timeout that the library takes.
const maxTimeout = 10 * time.Minute

// An Option changes a default setting of a [Client]. [New] fails if the value is invalid. Of two options for the same
// setting the later one counts.
type Option func(*settings) error

// settings holds the arguments of a client. A nil field is left to the environment or to the library's default.
type settings struct {
	fromEnv        bool
	applicationID  *string
	hmacKey        []byte
	baseURL        *string
	timeoutMS      *uint32
	connectMS      *uint32
	maxAttempts    *uint32
	caPEM          []byte
	tlsRoots       *TLSRoots
	proxy          *string
	maxConcurrency *uint32
	maxRate        *uint32
	cacheCapacity  *uint32
	cacheMaxBytes  *uint64
	cacheTTLMS     *uint64
	store          *string
	storeTimeoutMS *uint32
	userAgent      *string
	logger         *slog.Logger
}

// TLSRoots selects the trusted root certificates.
type TLSRoots int32

const (
	TLSRootsPlatform TLSRoots = 0 // the default: the platform's, or the store that SSL_CERT_FILE and SSL_CERT_DIR name
	TLSRootsBundled  TLSRoots = 1 // Mozilla's, as of the library's build
	TLSRootsNone     TLSRoots = 2 // only those of [WithCAPEM]
)

// WithBaseURL sets the base URL, without "/auth/hmac". It must be https, or http to this machine. The default is
// https://app-api.spikeapi.com/v3.
func WithBaseURL(url string) Option {
	return func(s *settings) error {
		s.baseURL = &url
		return nil
	}
}

// WithTimeout sets the total timeout of a call whose context has no deadline, at most 10 minutes. The default, also for
// 0, is 10 seconds.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) error { return setMS(&s.timeoutMS, "timeout", timeout) }
}

// WithConnectTimeout sets the timeout for a new connection: name lookup, TCP and TLS together. The default, also for 0,
// is 3.1 seconds, or the timeout of the call if that is shorter.
func WithConnectTimeout(timeout time.Duration) Option {
	return func(s *settings) error { return setMS(&s.connectMS, "connect timeout", timeout) }
}

// WithMaxAttempts sets the number of attempts of an exchange, including the first: 1 to 10. The default, also for 0, is
// 3.
func WithMaxAttempts(n int) Option {
	return func(s *settings) error { return setCount(&s.maxAttempts, "number of attempts", n) }
}

// WithCAPEM sets the certificates of a private CA, trusted in addition to the roots that [WithTLSRoots] selects.
func WithCAPEM(pem []byte) Option {
	return func(s *settings) error {
		s.caPEM = pem
		if pem == nil {
			s.caPEM = []byte{} // not unset: the library rejects it
		}
		return nil
	}
}

// WithTLSRoots selects the trusted root certificates.
func WithTLSRoots(roots TLSRoots) Option {
	return func(s *settings) error {
		s.tlsRoots = &roots
		return nil
	}
}

// WithProxy sets the HTTP proxy for an https base URL: http://[user:password@]host[:port], or "" for none. It overrides
// the environment.
func WithProxy(url string) Option {
	return func(s *settings) error {
		s.proxy = &url
		return nil
	}
}

// WithMaxConcurrency sets how many exchanges may be in flight at once, 1 to 1024. It also limits the threads that make
// them: further calls wait as goroutines. The default, also for 0, is 32.
func WithMaxConcurrency(n int) Option {
	return func(s *settings) error { return setCount(&s.maxConcurrency, "number of exchanges", n) }
}

// defaultConcurrency is the library's.
const defaultConcurrency = 32

// window returns the number that WithMaxConcurrency describes.
func (s *settings) window() int {
	if s.maxConcurrency == nil || *s.maxConcurrency == 0 {
		return defaultConcurrency
	}
	return int(*s.maxConcurrency)
}

// WithMaxRate sets how many requests the client may send per second, retries included. A call waits for its turn, or fails
// at once with [StatusRateLimited] if its deadline is too near. The limit is that of one process: for a fleet, divide the
// total. The default is 0, no limit.
func WithMaxRate(perSecond int) Option {
	return func(s *settings) error { return setCount(&s.maxRate, "rate", perSecond) }
}

// WithCacheCapacity sets the maximum number of cached tokens, within [WithCacheMaxBytes]; 0 disables the cache. The
// default is 100 000.
func WithCacheCapacity(tokens int) Option {
	return func(s *settings) error { return setCount(&s.cacheCapacity, "number of tokens", tokens) }
}

// WithCacheMaxBytes sets the maximum memory of the cached tokens. A token takes about 200 bytes more than its length and
// that of the user id; one that could never fit is returned but not cached. The default, also for 0, is 64 MiB.
func WithCacheMaxBytes(bytes int64) Option {
	return func(s *settings) error {
		if bytes < 0 {
			return invalidArgument("the memory of the cache is negative: %d", bytes)
		}
		limit := uint64(bytes)
		s.cacheMaxBytes = &limit
		return nil
	}
}

// WithCacheTTL sets the age at which a cached token is renewed, unless it expires earlier. A token without an expiry is
// kept for twice this age. 0 means no limit. The default is one hour.
func WithCacheTTL(ttl time.Duration) Option {
	return func(s *settings) error {
		ms, err := milliseconds("cache TTL", ttl)
		s.cacheTTLMS = &ms
		return err
	}
}

// WithStore sets the Redis or Valkey, or a node of a cluster, in which processes and machines share their tokens:
// redis://[user:password@]host[:6379][/db], rediss:// for TLS, unix://[user:password@]/path[?db=N], or "" for none, which
// is the default. No call fails because of it; [Client.CheckStore] tells whether it works.
func WithStore(url string) Option {
	return func(s *settings) error {
		s.store = &url
		return nil
	}
}

// WithStoreTimeout sets the timeout of one operation of the store, connecting included, at most 10 seconds and never more
// than a quarter of the time that its call has left. The default, also for 0, is 250 milliseconds.
func WithStoreTimeout(timeout time.Duration) Option {
	return func(s *settings) error { return setMS(&s.storeTimeoutMS, "store timeout", timeout) }
}

// WithUserAgent sets the text after the library's name in the User-Agent header, such as "shop/1.2".
func WithUserAgent(suffix string) Option {
	return func(s *settings) error {
		s.userAgent = &suffix
		return nil
	}
}

// WithLogger logs a line for each exchange, at [slog.LevelDebug], and for each call that fails by network or service, at
// [slog.LevelWarn], with the attributes status, attempts and ms: no id and no secret. A hit has no line; nor has a call that
// shared another's exchange, or that its context cancelled. The default, also for nil, is no log.
//
// The handler is called by the goroutine of the call, with its context. A panic of the handler is dropped.
func WithLogger(logger *slog.Logger) Option {
	return func(s *settings) error {
		s.logger = logger
		return nil
	}
}

// milliseconds rounds up, so that a short duration does not become 0, the default.
func milliseconds(what string, d time.Duration) (uint64, error) {
	if d < 0 {
		return 0, invalidArgument("the %s is negative: %v", what, d)
	}
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return uint64(ms), nil
}

// setMS replaces a value over 32 bits by the largest one: the library rejects both.
func setMS(setting **uint32, what string, d time.Duration) error {
	ms, err := milliseconds(what, d)
	clamped := uint32(min(ms, math.MaxUint32))
	*setting = &clamped
	return err
}

func setCount(setting **uint32, what string, n int) error {
	if n < 0 || int64(n) > math.MaxUint32 {
		return invalidArgument("the %s is out of range: %d", what, n)
	}
	count := uint32(n)
	*setting = &count
	return nil
}

func invalidArgument(format string, args ...any) error {
	return &Error{Op: opNew, Status: StatusInvalidArgument, Message: fmt.Sprintf(format, args...)}
}
