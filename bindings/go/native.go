//go:build cgo

package spikeauth

// This file is the only one that uses C: thin wrappers around the library's functions. All pointers are flat, the library
// keeps none of them but its own handles, and no function calls back.

/*
#if defined(__has_include)
#if !__has_include(<spike_auth.h>)
#error "spike_auth.h was not found where pkg-config says: reinstall libspike_auth (make install), or correct PKG_CONFIG_PATH"
#endif
#endif

#include <spike_auth.h>

#if SPIKE_AUTH_ABI_VERSION != 1
#error "spike_auth.h has another ABI than this package: install matching versions of libspike_auth and this package"
#endif
#if SPIKE_AUTH_VERSION_NUMBER < 0x000100
#error "spike_auth.h is older than this package: install libspike_auth 0.1.0 or newer"
#endif

#cgo noescape spike_auth_sign_user
#cgo nocallback spike_auth_sign_user
#cgo noescape spike_auth_verify_user
#cgo nocallback spike_auth_verify_user
#cgo noescape spike_auth_client_sign_user
#cgo nocallback spike_auth_client_sign_user
#cgo noescape spike_auth_client_sign_users
#cgo nocallback spike_auth_client_sign_users
#cgo noescape spike_auth_client_peek_token
#cgo nocallback spike_auth_client_peek_token
#cgo noescape spike_auth_client_get_token
#cgo nocallback spike_auth_client_get_token
#cgo noescape spike_auth_client_exchange
#cgo nocallback spike_auth_client_exchange
#cgo noescape spike_auth_client_exchange_signature
#cgo nocallback spike_auth_client_exchange_signature
#cgo noescape spike_auth_client_invalidate
#cgo nocallback spike_auth_client_invalidate
#cgo noescape spike_auth_client_forget
#cgo nocallback spike_auth_client_forget
#cgo nocallback spike_auth_client_check_store
#cgo noescape spike_auth_client_set_hmac_key
#cgo nocallback spike_auth_client_set_hmac_key
#cgo noescape spike_auth_client_diagnose
#cgo nocallback spike_auth_client_diagnose
#cgo noescape spike_auth_client_forget_shared
#cgo nocallback spike_auth_client_forget_shared
#cgo noescape spike_auth_client_stats
#cgo nocallback spike_auth_client_stats
#cgo nocallback spike_auth_call_set_timeout_ms
#cgo nocallback spike_auth_call_cancel
#cgo nocallback spike_auth_call_free
#cgo noescape spike_auth_call_get_token
#cgo nocallback spike_auth_call_get_token
#cgo noescape spike_auth_client_start_token
#cgo nocallback spike_auth_client_start_token
#cgo noescape spike_auth_client_start_exchange
#cgo nocallback spike_auth_client_start_exchange
#cgo noescape spike_auth_client_start_exchange_signature
#cgo nocallback spike_auth_client_start_exchange_signature
#cgo noescape spike_auth_queue_take
#cgo nocallback spike_auth_queue_take
*/
import "C"

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	signatureSize     = C.SPIKE_AUTH_SIGNATURE_SIZE
	signatureLen      = signatureSize - 1
	authorizationSize = C.SPIKE_AUTH_AUTHORIZATION_SIZE
	reportSize        = C.SPIKE_AUTH_REPORT_SIZE
)

type (
	nativeClient = *C.spike_auth_client
	nativeCall   = *C.spike_auth_call
	nativeQueue  = *C.spike_auth_queue
)

// libraryMatches compares the loaded library with the header of the build.
var libraryMatches = sync.OnceValue(func() bool {
	return C.spike_auth_abi_version() == C.SPIKE_AUTH_ABI_VERSION &&
		C.spike_auth_version_number() >= C.SPIKE_AUTH_VERSION_NUMBER
})

func checkLibrary() error {
	if libraryMatches() {
		return nil
	}
	return &Error{
		Op:     "load",
		Status: StatusInternal,
		Message: fmt.Sprintf("libspike_auth %s with ABI %d was loaded, but the program was built for %s or newer with ABI %d. "+
			"Install a matching version, or correct LD_LIBRARY_PATH.",
			dotted(uint32(C.spike_auth_version_number())), C.spike_auth_abi_version(),
			dotted(C.SPIKE_AUTH_VERSION_NUMBER), C.SPIKE_AUTH_ABI_VERSION),
	}
}

func dotted(version uint32) string {
	return fmt.Sprintf("%d.%d.%d", version>>16, version>>8&0xff, version&0xff)
}

// libraryText returns the library's description of a status.
func libraryText(s Status) string {
	return C.GoString(C.spike_auth_status_text(C.spike_auth_status_t(s)))
}

// failure converts e, which the library has filled in.
func failure(op string, e *C.spike_auth_error) *Error {
	message := unsafe.Slice((*byte)(unsafe.Pointer(&e.message[0])), len(e.message))
	end := max(bytes.IndexByte(message, 0), 0)
	return &Error{
		Op:         op,
		Status:     Status(e.status),
		HTTPStatus: int(e.http_status),
		RetryAfter: time.Duration(max(e.retry_after_ms, 0)) * time.Millisecond,
		Attempts:   int(e.attempts),
		Retryable:  e.retryable != 0,
		Message:    string(message[:end]),
	}
}

// check converts a status and its details.
func check(op string, status C.spike_auth_status_t, e *C.spike_auth_error) error {
	if status != C.SPIKE_AUTH_STATUS_OK {
		return failure(op, e)
	}
	return nil
}

// notCreatedError is the error of a client that is nil or the zero value.
func notCreatedError(op string) error {
	return &Error{Op: op, Status: StatusClosed, Message: "the client was not created by New or NewFromEnv."}
}

// chars returns a pointer to the bytes of s, which are not terminated. It keeps them alive during the call.
func chars(s string) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s)))
}

func size(s string) C.size_t {
	return C.size_t(len(s))
}

func rawBytes(b []byte) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(b)))
}

func rawChars(b []byte) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(b)))
}

func sign(key []byte, userID string, out *[signatureSize]byte, op string) error {
	var n C.size_t
	var e C.spike_auth_error
	return check(op, C.spike_auth_sign_user(rawBytes(key), C.size_t(len(key)), chars(userID), size(userID),
		rawChars(out[:]), signatureSize, &n, &e), &e)
}

func verify(key []byte, userID, signature string, op string) error {
	var e C.spike_auth_error
	return check(op, C.spike_auth_verify_user(rawBytes(key), C.size_t(len(key)), chars(userID), size(userID),
		chars(signature), size(signature), &e), &e)
}

// clientSign requests the error details, which take half a kilobyte of stack, only after a failure.
func clientSign(client nativeClient, userID string, out *[signatureSize]byte, op string) error {
	if clientSignInto(client, userID, out, nil) == C.SPIKE_AUTH_STATUS_OK {
		return nil
	}
	return clientSignError(client, userID, out, op)
}

//go:noinline
func clientSignError(client nativeClient, userID string, out *[signatureSize]byte, op string) error {
	var e C.spike_auth_error
	return check(op, clientSignInto(client, userID, out, &e), &e)
}

func clientSignInto(client nativeClient, userID string, out *[signatureSize]byte, e *C.spike_auth_error) C.spike_auth_status_t {
	var n C.size_t
	return C.spike_auth_client_sign_user(client, chars(userID), size(userID), rawChars(out[:]), signatureSize, &n, e)
}

// clientSignMany signs the ids between the offsets and writes the signatures to out, one after the other.
func clientSignMany(client nativeClient, ids []byte, offsets []int64, out []byte, op string) error {
	var e C.spike_auth_error
	return check(op, C.spike_auth_client_sign_users(client, rawChars(ids), C.size_t(len(ids)),
		(*C.int64_t)(unsafe.Pointer(unsafe.SliceData(offsets))), C.size_t(len(offsets)-1),
		rawChars(out), C.size_t(len(out)), nil, &e), &e)
}

func newClient(s *settings) (nativeClient, error) {
	var e C.spike_auth_error
	var config *C.spike_auth_config
	if C.spike_auth_config_new(&config, &e) != C.SPIKE_AUTH_STATUS_OK {
		return nil, failure(opNew, &e)
	}
	defer C.spike_auth_config_free(config)
	if !configure(config, s, &e) {
		return nil, failure(opNew, &e)
	}
	var client nativeClient
	err := check(opNew, C.spike_auth_client_new(config, &client, &e), &e)
	return client, err
}

// configure reports whether the library accepts all settings. The environment is read first, so that options override it.
func configure(config *C.spike_auth_config, s *settings, e *C.spike_auth_error) bool {
	const ok = C.SPIKE_AUTH_STATUS_OK
	switch {
	case s.fromEnv && C.spike_auth_config_load_env(config, e) != ok,
		s.applicationID != nil && C.spike_auth_config_set_application_id(config, chars(*s.applicationID), size(*s.applicationID), e) != ok,
		s.hmacKey != nil && C.spike_auth_config_set_hmac_key(config, rawBytes(s.hmacKey), C.size_t(len(s.hmacKey)), e) != ok,
		s.baseURL != nil && C.spike_auth_config_set_base_url(config, chars(*s.baseURL), size(*s.baseURL), e) != ok,
		s.timeoutMS != nil && C.spike_auth_config_set_timeout_ms(config, C.uint32_t(*s.timeoutMS), e) != ok,
		s.connectMS != nil && C.spike_auth_config_set_connect_timeout_ms(config, C.uint32_t(*s.connectMS), e) != ok,
		s.maxAttempts != nil && C.spike_auth_config_set_max_attempts(config, C.uint32_t(*s.maxAttempts), e) != ok,
		s.caPEM != nil && C.spike_auth_config_set_ca_pem(config, rawChars(s.caPEM), C.size_t(len(s.caPEM)), e) != ok,
		s.tlsRoots != nil && C.spike_auth_config_set_tls_roots(config, C.int32_t(*s.tlsRoots), e) != ok,
		s.proxy != nil && C.spike_auth_config_set_proxy(config, chars(*s.proxy), size(*s.proxy), e) != ok,
		s.maxConcurrency != nil && C.spike_auth_config_set_max_concurrency(config, C.uint32_t(*s.maxConcurrency), e) != ok,
		s.maxRate != nil && C.spike_auth_config_set_max_rate(config, C.uint32_t(*s.maxRate), e) != ok,
		s.cacheCapacity != nil && C.spike_auth_config_set_cache_capacity(config, C.uint32_t(*s.cacheCapacity), e) != ok,
		s.cacheMaxBytes != nil && C.spike_auth_config_set_cache_max_bytes(config, C.uint64_t(*s.cacheMaxBytes), e) != ok,
		s.cacheTTLMS != nil && C.spike_auth_config_set_cache_ttl_ms(config, C.uint64_t(*s.cacheTTLMS), e) != ok,
		s.store != nil && C.spike_auth_config_set_store(config, chars(*s.store), size(*s.store), e) != ok,
		s.storeTimeoutMS != nil && C.spike_auth_config_set_store_timeout_ms(config, C.uint32_t(*s.storeTimeoutMS), e) != ok,
		s.userAgent != nil && C.spike_auth_config_set_user_agent(config, chars(*s.userAgent), size(*s.userAgent), e) != ok:
		return false
	}
	return true
}

func closeClient(client nativeClient) { C.spike_auth_client_close(client) }

func freeClient(client nativeClient) { C.spike_auth_client_free(client) }

// clientPeek writes a cached token to out. Whatever else there is to say, a call for the token says.
func clientPeek(client nativeClient, userID string, out []byte) (n int, isHit bool) {
	var length C.size_t
	status := C.spike_auth_client_peek_token(client, chars(userID), size(userID),
		rawChars(out), C.size_t(len(out)), &length, nil)
	return int(length), status == C.SPIKE_AUTH_STATUS_OK
}

// wait makes the call and writes its token to out.
func (o *order) wait(client nativeClient, call nativeCall, out []byte) (int, error) {
	var status C.spike_auth_status_t
	var n C.size_t
	var e C.spike_auth_error
	user, userLen, to, room := chars(o.userID), size(o.userID), rawChars(out), C.size_t(len(out))
	switch o.function {
	case getToken:
		status = C.spike_auth_client_get_token(client, user, userLen, call, to, room, &n, &e)
	case exchange:
		status = C.spike_auth_client_exchange(client, user, userLen, call, to, room, &n, &e)
	case exchangeSignature:
		status = C.spike_auth_client_exchange_signature(client, user, userLen, chars(o.signature), size(o.signature), call,
			to, room, &n, &e)
	}
	return int(n), check(o.op, status, &e)
}

// start starts the call. The queue hands out tag when it has ended.
func (o *order) start(client nativeClient, call nativeCall, queue nativeQueue, tag uint64) error {
	var status C.spike_auth_status_t
	var e C.spike_auth_error
	user, userLen, number := chars(o.userID), size(o.userID), C.uint64_t(tag)
	switch o.function {
	case getToken:
		status = C.spike_auth_client_start_token(client, user, userLen, call, queue, number, &e)
	case exchange:
		status = C.spike_auth_client_start_exchange(client, user, userLen, call, queue, number, &e)
	case exchangeSignature:
		status = C.spike_auth_client_start_exchange_signature(client, user, userLen, chars(o.signature), size(o.signature),
			call, queue, number, &e)
	}
	return check(o.op, status, &e)
}

// callResult writes the token of a started call that has ended to out.
func callResult(call nativeCall, out []byte, op string) (int, error) {
	var n C.size_t
	var e C.spike_auth_error
	err := check(op, C.spike_auth_call_get_token(call, rawChars(out), C.size_t(len(out)), &n, &e), &e)
	return int(n), err
}

// newQueue makes a queue and a file that is readable when a call has ended.
func newQueue(op string) (nativeQueue, *os.File, error) {
	var e C.spike_auth_error
	var queue nativeQueue
	if C.spike_auth_queue_new(&queue, &e) != C.SPIKE_AUTH_STATUS_OK {
		return nil, nil, failure(op, &e)
	}
	file, err := watch(uintptr(C.spike_auth_queue_fd(queue)))
	if err != nil {
		freeQueue(queue)
		return nil, nil, &Error{Op: op, Status: StatusInternal, Retryable: true, Message: fmt.Sprintf(
			"the runtime cannot watch the queue of started calls: %v. Check the limit on open files (RLIMIT_NOFILE).", err)}
	}
	return queue, file, nil
}

// watch returns a duplicate of a descriptor, since the library closes its own. It is close-on-exec and above 2.
func watch(descriptor uintptr) (*os.File, error) {
	duplicate, _, failed := syscall.Syscall(syscall.SYS_FCNTL, descriptor, syscall.F_DUPFD_CLOEXEC, 3)
	if failed != 0 {
		return nil, os.NewSyscallError("fcntl", failed)
	}
	file := os.NewFile(duplicate, "spikeauth")
	if err := file.SetReadDeadline(time.Time{}); err != nil { // the poller has refused it
		file.Close()
		return nil, err
	}
	return file, nil
}

// takeTags returns how many tags of calls that have ended it wrote. If fewer than fit, none is left.
func takeTags(queue nativeQueue, tags []uint64) int {
	var n C.size_t
	_ = C.spike_auth_queue_take(queue, (*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(tags))), C.size_t(len(tags)), &n, nil)
	return int(n)
}

func freeQueue(queue nativeQueue) { C.spike_auth_queue_free(queue) }

func clientInvalidate(client nativeClient, userID, rejected, op string) error {
	var e C.spike_auth_error
	return check(op, C.spike_auth_client_invalidate(client, chars(userID), size(userID), chars(rejected), size(rejected), &e), &e)
}

func clientSetKey(client nativeClient, key []byte, op string) error {
	var e C.spike_auth_error
	return check(op, C.spike_auth_client_set_hmac_key(client, rawBytes(key), C.size_t(len(key)), &e), &e)
}

func clientForget(client nativeClient, userID, op string) error {
	var e C.spike_auth_error
	return check(op, C.spike_auth_client_forget(client, chars(userID), size(userID), &e), &e)
}

func clientCheckStore(client nativeClient, call nativeCall, op string) error {
	var e C.spike_auth_error
	return check(op, C.spike_auth_client_check_store(client, call, &e), &e)
}

func clientDiagnose(client nativeClient, userID string, call nativeCall, op string) ([]byte, error) {
	report := make([]byte, reportSize)
	var n C.size_t
	var e C.spike_auth_error
	status := C.spike_auth_client_diagnose(client, chars(userID), size(userID), call,
		rawChars(report), C.size_t(len(report)), &n, &e)
	return report[:n], check(op, status, &e)
}

func clientForgetShared(client nativeClient, userID string, call nativeCall, op string) error {
	var e C.spike_auth_error
	return check(op, C.spike_auth_client_forget_shared(client, chars(userID), size(userID), call, &e), &e)
}

func clientStats(client nativeClient, op string) (Stats, error) {
	var s C.spike_auth_stats
	var e C.spike_auth_error
	if C.spike_auth_client_stats(client, &s, &e) != C.SPIKE_AUTH_STATUS_OK {
		return Stats{}, failure(op, &e)
	}
	return Stats{
		Hits:          uint64(s.hits),
		Misses:        uint64(s.misses),
		Coalesced:     uint64(s.coalesced),
		Exchanges:     uint64(s.exchanges),
		Requests:      uint64(s.requests),
		Retries:       uint64(s.retries),
		Failures:      uint64(s.failures),
		Invalidations: uint64(s.invalidations),
		Evictions:     uint64(s.evictions),
		Entries:       uint64(s.entries),
		Bytes:         uint64(s.bytes),
		Pending:       uint64(s.pending),
		StoreHits:     uint64(s.store_hits),
		StoreMisses:   uint64(s.store_misses),
		StoreWaits:    uint64(s.store_waits),
		StoreErrors:   uint64(s.store_errors),
		StoreSkipped:  uint64(s.store_skipped),
		KeyChanges:    uint64(s.key_changes),
	}, nil
}

// newCall makes a handle with a timeout; 0 is the client's. It rounds down: the library then times out before the context,
// and its message says what the call was waiting for.
func newCall(op string, timeout time.Duration) (nativeCall, error) {
	var e C.spike_auth_error
	var call nativeCall
	if C.spike_auth_call_new(&call, &e) != C.SPIKE_AUTH_STATUS_OK {
		return nil, failure(op, &e)
	}
	if timeout > 0 {
		ms := C.uint32_t(max(timeout/time.Millisecond, 1))
		_ = C.spike_auth_call_set_timeout_ms(call, ms, nil) // at most maxTimeout
	}
	return call, nil
}

func cancelCall(call nativeCall) { C.spike_auth_call_cancel(call) }

func freeCall(call nativeCall) { C.spike_auth_call_free(call) }
