package spikeauth

import (
	"fmt"
	"math"
	"time"
)

// The library's defaults and limits that this package has to know, because goroutines wait for their turn in Go.
const (
	defaultTimeout        = 10 * time.Second
	defaultMaxAttempts    = 3
	defaultMaxConcurrency = 32
	maxTimeout            = 10 * time.Minute
)

// An Option changes a setting of a [Client] that has a default. The library checks its value: a bad one makes [New]
// fail. Of two options for the same setting the later one counts.
type Option func(*settings) error

// settings is what a client is made of. What is nil is left to the library, or to the environment.
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
	cacheCapacity  *uint32
	cacheTTLMS     *uint64
	userAgent      *string
}

// TLSRoots says which certificates are trusted.
type TLSRoots int32

const (
	TLSRootsPlatform TLSRoots = 0 // the platform's; SSL_CERT_FILE and SSL_CERT_DIR name another store. The default.
	TLSRootsBundled  TLSRoots = 1 // Mozilla's, as they were when the library was built
	TLSRootsNone     TLSRoots = 2 // none but those given with [WithCAPEM]
)

// WithBaseURL sets the base URL, up to and without "/auth/hmac": https, or http for this machine alone. The default is
// https://app-api.spikeapi.com/v3.
func WithBaseURL(url string) Option {
	return func(s *settings) error {
		s.baseURL = &url
		return nil
	}
}

// WithTimeout sets the time that a call has where its context has no deadline, for all that it does. The default, also
// for 0, is 10 seconds, and 10 minutes are the most.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) error { return setMS(&s.timeoutMS, "timeout", timeout) }
}

// WithConnectTimeout sets the time within which a new connection must stand: name lookup, TCP and TLS together. The
// default, also for 0, is 3.1 seconds, or the time of the call if that is shorter.
func WithConnectTimeout(timeout time.Duration) Option {
	return func(s *settings) error { return setMS(&s.connectMS, "connect timeout", timeout) }
}

// WithMaxAttempts sets how often an exchange is tried, the first time included: 1 to 10. The default, also for 0, is 3.
func WithMaxAttempts(n int) Option {
	return func(s *settings) error { return setCount(&s.maxAttempts, "number of attempts", n) }
}

// WithCAPEM sets the certificates of a private CA, trusted beside the roots that [WithTLSRoots] chooses.
func WithCAPEM(pem []byte) Option {
	return func(s *settings) error {
		s.caPEM = pem
		if pem == nil {
			s.caPEM = []byte{} // for the library to refuse
		}
		return nil
	}
}

// WithTLSRoots sets which roots are trusted.
func WithTLSRoots(roots TLSRoots) Option {
	return func(s *settings) error {
		s.tlsRoots = &roots
		return nil
	}
}

// WithProxy sets the HTTP proxy through which an https base URL is reached: http://[user:password@]host[:port], or ""
// for none, whatever the environment says.
func WithProxy(url string) Option {
	return func(s *settings) error {
		s.proxy = &url
		return nil
	}
}

// WithMaxConcurrency sets how many exchanges may be in flight at once, 1 to 1024, and with that how many threads the
// client may hold. More calls wait for their turn, as goroutines. The default, also for 0, is 32.
func WithMaxConcurrency(n int) Option {
	return func(s *settings) error { return setCount(&s.maxConcurrency, "number of exchanges", n) }
}

// WithCacheCapacity sets how many tokens are kept at the most, within 64 MiB; 0 keeps none. The default is 100 000.
func WithCacheCapacity(tokens int) Option {
	return func(s *settings) error { return setCount(&s.cacheCapacity, "number of tokens", tokens) }
}

// WithCacheTTL sets the age at which a kept token is renewed, if it does not end before by itself. A token that does not
// say when it ends is kept for twice this age. 0 is no limit. The default is one hour.
func WithCacheTTL(ttl time.Duration) Option {
	return func(s *settings) error {
		ms, err := milliseconds("greatest age of a token", ttl)
		s.cacheTTLMS = &ms
		return err
	}
}

// WithUserAgent sets what follows the library's own name in the User-Agent header, such as "shop/1.2".
func WithUserAgent(suffix string) Option {
	return func(s *settings) error {
		s.userAgent = &suffix
		return nil
	}
}

// milliseconds rounds up, so that what is not zero does not become it.
func milliseconds(what string, d time.Duration) (uint64, error) {
	if d < 0 {
		return 0, outOfRange("the %s is negative: %v", what, d)
	}
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return uint64(ms), nil
}

// What does not fit into 32 bits is far beyond every limit: the library refuses the greatest number as well.
func setMS(setting **uint32, what string, d time.Duration) error {
	ms, err := milliseconds(what, d)
	fitting := uint32(min(ms, math.MaxUint32))
	*setting = &fitting
	return err
}

func setCount(setting **uint32, what string, n int) error {
	if n < 0 || int64(n) > math.MaxUint32 {
		return outOfRange("the %s is out of range: %d", what, n)
	}
	count := uint32(n)
	*setting = &count
	return nil
}

func outOfRange(format string, args ...any) error {
	return &Error{Op: opNew, Status: StatusInvalidArgument, Message: fmt.Sprintf(format, args...)}
}
