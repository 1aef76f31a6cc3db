/* spike_auth: signs a user id and exchanges the signature for that user's Spike access token.
 *
 * The smallest use, with one way to handle all errors:
 *
 *     spike_auth_error err;
 *     spike_auth_config *config = NULL;
 *     spike_auth_client *client = NULL;
 *     char token[SPIKE_AUTH_TOKEN_SIZE];
 *     size_t token_len;
 *
 *     if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
 *         spike_auth_config_load_env(config, &err) != SPIKE_AUTH_STATUS_OK ||
 *         spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK ||
 *         spike_auth_client_get_token(client, "alice", SPIKE_AUTH_NUL_TERMINATED, NULL,
 *                                     token, sizeof token, &token_len, &err) != SPIKE_AUTH_STATUS_OK)
 *         fprintf(stderr, "%s\n", err.message);
 *     spike_auth_client_free(client);
 *     spike_auth_config_free(config);
 *
 * CONVENTIONS
 *
 * Status. A function that can fail returns a status: 0 is OK, the others are in enum spike_auth_status.
 * It crosses the boundary as an int32_t, so that any number is safe. Where a function lists what it fails
 * with, the prefix SPIKE_AUTH_STATUS_ is omitted. So are NULL_POINTER (a required pointer is NULL) and
 * INVALID_ARGUMENT (a length or capacity over PTRDIFF_MAX), which every function can return.
 *
 * Error detail. Such a function takes a spike_auth_error last. You own it, NULL is fine, and every call
 * rewrites all of it, also on success. No last error is kept anywhere.
 *
 * Text in. Pointer and length; no NUL is needed. NULL is fine where the length is 0. The length
 * SPIKE_AUTH_NUL_TERMINATED of a text means "it ends with a NUL, measure it".
 *
 * Text out. Buffer, capacity, and a place for the length; both pointers are required. The capacity counts
 * the NUL, the length does not. On OK the text ends with a NUL. On BUFFER_TOO_SMALL the length is the
 * needed one, and the buffer holds the empty text. On any other failure the length is 0 and the buffer
 * holds the empty text. Buffers may be uninitialised; they are never read. Outputs must not overlap inputs
 * or each other.
 *
 * Order of arguments: handle, inputs, outputs, error.
 *
 * Ownership. Only handles are allocated for you. Free each once, with the _free of its type. Freeing NULL
 * is fine. A _new that fails sets its handle to NULL. Inputs are copied or used up before the function
 * returns.
 *
 * Threads. Any thread may call any function, and any number of threads may use one client at once. Only
 * _free must not run while another thread is inside a call on the same handle.
 *
 * Signal handlers. A signal handler may call no function of this library: the interrupted code may hold a
 * lock that the function waits for. To close or cancel on a signal, let the handler write to a pipe or set
 * a flag, and call from a thread that reads it.
 *
 * Stack. A call needs up to 52 KiB of the stack of its thread, beside what your own frames take: a thread
 * of 64 KiB is enough.
 *
 * Your process. No function panics or unwinds into you: a bug inside is SPIKE_AUTH_STATUS_PANIC. The
 * library aborts only when no memory is left at all. Do not pthread_cancel() a thread that is inside a
 * call: it would end the process. Use spike_auth_call_cancel(). There is no signal handler, no callback, no
 * SIGPIPE and no background thread; a name is looked up on a helper thread with all signals blocked, of
 * which there are at most 16. Settings come from the environment only through
 * spike_auth_config_load_env(). spike_auth_client_new() also reads SSL_CERT_FILE and SSL_CERT_DIR, which
 * name the platform's trusted roots (loaded once per process): do not change the environment in another
 * thread meanwhile. A program with raised privileges (setuid, setgid, file capabilities) takes nothing from
 * its environment, because an unprivileged user chooses it: the first function refuses, the second looks in
 * the system's own places.
 *
 * Descriptors. The library's descriptors are close-on-exec, and above 2 even where 0, 1 or 2 is closed: a
 * new socket has a lower number only between two system calls. It does not control the sockets of the C
 * library's resolver during a lookup, nor the files of the platform's roots while they are read.
 * Close only your own descriptors. If you close the library's (by closefrom(3), for example), a call in
 * flight ends with INTERNAL or at its deadline; the next call fails with INTERNAL before it sends
 * anything, and later ones make new connections. What you have opened under their numbers before that
 * is not closed or shut down. What you open while a call runs can still be affected.
 *
 * Fork. A client made before a fork works in the parent and in every child, at once. A child makes its own
 * connections and does not touch its parent's; what it closes, cancels or frees is its own. It starts with
 * the tokens of its parent's cache, and has its own cache from then on. A fork by raw system call or
 * _Fork() is not noticed, and nothing can be done about a lock of the C library's resolver that a thread
 * held at the fork.
 * In a child that a signal handler forks inside a call, that call fails with CANCELLED.
 *
 * Secrets. The key, signatures and tokens are wiped from memory that the library owns, and no message
 * shows them. Wiping your buffers is up to you.
 *
 * Binary compatibility. A program built with this header works with every library of the same
 * SPIKE_AUTH_ABI_VERSION that is as new as the header or newer.
 */

#ifndef SPIKE_AUTH_H
#define SPIKE_AUTH_H

#include <stddef.h>
#include <stdint.h>

/** The length of a text that ends with a NUL: measure it. Not for keys and PEM. */
#define SPIKE_AUTH_NUL_TERMINATED SIZE_MAX

/* Define SPIKE_AUTH_STATIC before including this header when you link the archive on Windows. */
#if defined(_WIN32) && !defined(SPIKE_AUTH_STATIC)
#define SPIKE_AUTH_API __declspec(dllimport)
#elif defined(__GNUC__) && !defined(SPIKE_AUTH_STATIC)
#define SPIKE_AUTH_API __attribute__((visibility("default")))
#else
#define SPIKE_AUTH_API
#endif

/* Compilers warn where a status is ignored. */
#if defined(__GNUC__)
#define SPIKE_AUTH_MUST_USE __attribute__((warn_unused_result))
#elif defined(_MSC_VER)
#define SPIKE_AUTH_MUST_USE _Check_return_
#else
#define SPIKE_AUTH_MUST_USE
#endif

/**
 * The number of the ABI, and of the soname. It changes only with an incompatible change; functions
 * that are added are none.
 */
#define SPIKE_AUTH_ABI_VERSION 1

/**
 * The version of this header, 0x00MMmmpp.
 */
#define SPIKE_AUTH_VERSION_NUMBER 256

/**
 * The longest user id in bytes, without a NUL.
 */
#define SPIKE_AUTH_USER_ID_MAX 128

/**
 * Size of a buffer for a signature: 64 hex characters and the NUL.
 */
#define SPIKE_AUTH_SIGNATURE_SIZE 65

/**
 * Size of a buffer for any access token: 8192 characters, the longest that is accepted, and the NUL.
 */
#define SPIKE_AUTH_TOKEN_SIZE 8193

/**
 * Size of a buffer for any Authorization header's value: "Bearer ", an access token, and the NUL.
 */
#define SPIKE_AUTH_AUTHORIZATION_SIZE 8200

/**
 * The platform's trusted roots; on Linux SSL_CERT_FILE and SSL_CERT_DIR name another store (empty, and in
 * a program with raised privileges, they count as not set). A section of SSL_CERT_FILE that is not valid PEM
 * is an error; a certificate in it that cannot be used is passed over. The bundled set takes the store's place
 * only where the system has none at all and neither variable is set. The default.
 */
#define SPIKE_AUTH_TLS_ROOTS_PLATFORM 0

/**
 * Mozilla's trusted roots, as they were when the library was built.
 */
#define SPIKE_AUTH_TLS_ROOTS_BUNDLED 1

/**
 * No trusted roots but those given with spike_auth_config_set_ca_pem().
 */
#define SPIKE_AUTH_TLS_ROOTS_NONE 2

/**
 * The statuses by name. Numbers are never reused and never change. A newer library may return one that
 * is not listed here: treat it as a failure, and ask spike_auth_status_text().
 */
typedef enum spike_auth_status {
    /**
     * It worked.
     */
    SPIKE_AUTH_STATUS_OK = 0,
    /**
     * A pointer that is required is NULL.
     */
    SPIKE_AUTH_STATUS_NULL_POINTER = 1,
    /**
     * A length, a number or a constant is out of its range.
     */
    SPIKE_AUTH_STATUS_INVALID_ARGUMENT = 2,
    /**
     * The user id is not 1 to 128 of A-Z a-z 0-9 . _ -
     */
    SPIKE_AUTH_STATUS_INVALID_USER_ID = 3,
    /**
     * The application id is not 1 to 64 printable ASCII characters without spaces.
     */
    SPIKE_AUTH_STATUS_INVALID_APPLICATION_ID = 4,
    /**
     * The HMAC key does not have 1 to 4096 bytes.
     */
    SPIKE_AUTH_STATUS_INVALID_KEY = 5,
    /**
     * A signature is not 64 hexadecimal characters.
     */
    SPIKE_AUTH_STATUS_INVALID_SIGNATURE = 6,
    /**
     * The URL cannot be used: not parsable, user info in it, or http to another machine.
     */
    SPIKE_AUTH_STATUS_INVALID_URL = 7,
    /**
     * The buffer is too small; its length argument, or the message, says what is needed.
     */
    SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL = 8,
    /**
     * The client has no HMAC key and was asked to sign.
     */
    SPIKE_AUTH_STATUS_KEY_REQUIRED = 9,
    /**
     * The signature is well formed but not the one of this user id.
     */
    SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH = 10,
    /**
     * The configuration lacks the application id.
     */
    SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG = 11,
    /**
     * There is no token for this user in the cache.
     */
    SPIKE_AUTH_STATUS_NOT_CACHED = 12,
    /**
     * An environment variable has a bad value; the message names it.
     */
    SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT = 13,
    /**
     * The client was closed.
     */
    SPIKE_AUTH_STATUS_CLOSED = 14,
    /**
     * There are no usable TLS roots, or the CA certificates given cannot be read.
     */
    SPIKE_AUTH_STATUS_TLS_ROOTS = 20,
    /**
     * A file that an environment variable names cannot be used.
     */
    SPIKE_AUTH_STATUS_FILE = 21,
    /**
     * The host's name was not found.
     */
    SPIKE_AUTH_STATUS_RESOLVE = 40,
    /**
     * No connection could be made.
     */
    SPIKE_AUTH_STATUS_CONNECT = 41,
    /**
     * The certificate or the TLS handshake failed.
     */
    SPIKE_AUTH_STATUS_TLS = 42,
    /**
     * The deadline of the call passed.
     */
    SPIKE_AUTH_STATUS_TIMEOUT = 43,
    /**
     * The connection ended before the whole reply was there.
     */
    SPIKE_AUTH_STATUS_CONNECTION_LOST = 44,
    /**
     * The proxy could not be reached, or refused.
     */
    SPIKE_AUTH_STATUS_PROXY = 45,
    /**
     * The call was cancelled.
     */
    SPIKE_AUTH_STATUS_CANCELLED = 46,
    /**
     * The service refused the request (400, 404, 405, 413, 415, 422).
     */
    SPIKE_AUTH_STATUS_REFUSED = 60,
    /**
     * The service refused the signature (401).
     */
    SPIKE_AUTH_STATUS_UNAUTHORIZED = 61,
    /**
     * The service forbade the request (403).
     */
    SPIKE_AUTH_STATUS_FORBIDDEN = 62,
    /**
     * Too many requests (429).
     */
    SPIKE_AUTH_STATUS_RATE_LIMITED = 63,
    /**
     * The service failed (408, 425, 5xx).
     */
    SPIKE_AUTH_STATUS_SERVER_ERROR = 64,
    /**
     * A status that the service is not known to answer with (3xx and all others).
     */
    SPIKE_AUTH_STATUS_UNEXPECTED_STATUS = 65,
    /**
     * The reply holds no usable token.
     */
    SPIKE_AUTH_STATUS_INVALID_RESPONSE = 66,
    /**
     * The reply is larger than any token needs.
     */
    SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE = 67,
    /**
     * The new token equals the one just reported as rejected, or was reported too.
     */
    SPIKE_AUTH_STATUS_TOKEN_REJECTED = 68,
    /**
     * Something failed that should not be able to, such as a system call.
     */
    SPIKE_AUTH_STATUS_INTERNAL = 90,
    /**
     * A bug of the library: it panicked, and the panic was caught.
     */
    SPIKE_AUTH_STATUS_PANIC = 91,
} spike_auth_status;

/**
 * The deadline and the cancellation of one call. Make a handle, pass it to a call, and cancel that call from
 * any thread. Only one call at a time may use a handle. When the call has returned, the next call may use it,
 * unless it was cancelled.
 */
typedef struct spike_auth_call spike_auth_call;

/**
 * Signs user ids, exchanges signatures for access tokens and keeps these, for one application. Make one per
 * process and keep it: it keeps connections and tokens. All its functions may be called from any number of
 * threads at once, but for spike_auth_client_free().
 */
typedef struct spike_auth_client spike_auth_client;

/**
 * The settings of a client to be. Make one, set what you need, make a client of it, free it. Each setter
 * checks its value at once, says what is wrong with it, and changes nothing if it fails.
 */
typedef struct spike_auth_config spike_auth_config;

/**
 * A status as functions return it: one of `enum spike_auth_status`, or a number that a later version
 * added.
 */
typedef int32_t spike_auth_status_t;

/**
 * The detail of a failure. The caller owns it: put one on the stack, pass its address, and read it when a
 * function has failed. A function that takes it rewrites all of it, also on success, so it need not be
 * initialised. NULL may be passed instead. Its size is always 512 bytes.
 */
typedef struct spike_auth_error {
    /**
     * The status that the function returned.
     */
    int32_t status;
    /**
     * The status code of the HTTP response; 0 if there was none.
     */
    int32_t http_status;
    /**
     * How long to wait before a retry, in milliseconds; -1 if unknown.
     */
    int64_t retry_after_ms;
    /**
     * How many requests were sent for this result, also on success. 0 for a cached token, or if no connection
     * could be made.
     */
    uint32_t attempts;
    /**
     * 1 if the same call may succeed later, else 0.
     */
    uint32_t retryable;
    /**
     * What failed and what to do about it. UTF-8, NUL-terminated, cut at a character boundary. Never contains a
     * key, a signature, a token, or the user id.
     */
    char message[424];
    /**
     * Zero. Reserved for later versions.
     */
    uint64_t reserved[8];
} spike_auth_error;

/**
 * What a client's cache has done since the client was made, and what it holds. 256 bytes, for ever.
 *
 * It counts the calls of spike_auth_client_get_token(), spike_auth_client_get_authorization() and
 * spike_auth_client_peek_token(), and the exchanges that they begin. spike_auth_client_exchange() and
 * spike_auth_client_exchange_signature() do not touch the cache and are not counted. A call that fails before
 * it looks (a bad user id, a closed client) is not counted either.
 *
 * The counters add up: hits + misses is the number of calls that asked; coalesced + exchanges <= misses;
 * failures <= exchanges; requests <= exchanges + retries. An exchange that is under way is counted in
 * exchanges; its requests, retries and failure are counted when it ends. In a child of fork all begin at
 * zero, but entries, bytes and forks.
 */
typedef struct spike_auth_stats {
    /**
     * Calls that were answered from the cache. Of spike_auth_client_peek_token() only those that found one.
     */
    uint64_t hits;
    /**
     * Calls that were not, or that renewed a token.
     */
    uint64_t misses;
    /**
     * Misses that waited for an exchange which another call had begun.
     */
    uint64_t coalesced;
    /**
     * Exchanges that misses began.
     */
    uint64_t exchanges;
    /**
     * Requests that these exchanges sent.
     */
    uint64_t requests;
    /**
     * Requests among them that were not the first of their exchange.
     */
    uint64_t retries;
    /**
     * Exchanges that ended without a token that could be handed out.
     */
    uint64_t failures;
    /**
     * Tokens that were dropped because spike_auth_client_invalidate() reported them.
     */
    uint64_t invalidations;
    /**
     * Tokens that were dropped to make room.
     */
    uint64_t evictions;
    /**
     * Tokens that are held now. One that has ended is held until it is asked for, or evicted.
     */
    uint64_t entries;
    /**
     * The memory that they take, in bytes, as it counts for spike_auth_config_set_cache_max_bytes().
     */
    uint64_t bytes;
    /**
     * How many forks lie between the process that made the client and this one.
     */
    uint64_t forks;
    /**
     * Zero. Kept for later versions.
     */
    uint64_t reserved[20];
} spike_auth_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI of the library that is loaded. Compare it with SPIKE_AUTH_ABI_VERSION where the library is
 * loaded at run time.
 */
SPIKE_AUTH_API
uint32_t spike_auth_abi_version(void);

/**
 * The version of the library that is loaded, such as "0.1.0". Static: never free it.
 */
SPIKE_AUTH_API
const char *spike_auth_version(void);

/**
 * The version of the library that is loaded, 0x00MMmmpp.
 */
SPIKE_AUTH_API
uint32_t spike_auth_version_number(void);

/**
 * SPIKE_AUTH_SIGNATURE_SIZE, for languages that see no macros.
 */
SPIKE_AUTH_API
size_t spike_auth_signature_size(void);

/**
 * SPIKE_AUTH_TOKEN_SIZE, for languages that see no macros.
 */
SPIKE_AUTH_API
size_t spike_auth_token_size(void);

/**
 * SPIKE_AUTH_AUTHORIZATION_SIZE, for languages that see no macros.
 */
SPIKE_AUTH_API
size_t spike_auth_authorization_size(void);

/**
 * The name of a status, such as "SPIKE_AUTH_STATUS_TIMEOUT"; "unknown" for a number that is none.
 * Static: never free it.
 */
SPIKE_AUTH_API
const char *spike_auth_status_name(spike_auth_status_t status);

/**
 * What a status means, in one sentence of English. Static: never free it. The message of a
 * spike_auth_error says more, and what to do about it.
 */
SPIKE_AUTH_API
const char *spike_auth_status_text(spike_auth_status_t status);

/**
 * Signs one user id with a key: HMAC-SHA256 as 64 lowercase hex characters.
 *
 * A client does the same faster (spike_auth_client_sign_user()): it prepares the key once.
 *
 * @param key            the raw bytes of the key as the Spike console shows it, never hex- or
 *                       base64-decoded. Not a text: SPIKE_AUTH_NUL_TERMINATED is refused.
 * @param key_len        1 to 4096
 * @param user_id        1 to 128 of A-Z a-z 0-9 . _ - ; signed byte for byte, never trimmed
 * @param user_id_len    its length, or SPIKE_AUTH_NUL_TERMINATED
 * @param signature      receives the signature and a NUL
 * @param signature_cap  SPIKE_AUTH_SIGNATURE_SIZE or more
 * @param signature_len  receives 64
 * @param err            NULL or where the details go
 *
 * Fails with INVALID_KEY, INVALID_USER_ID, BUFFER_TOO_SMALL.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_sign_user(const uint8_t *key,
                                         size_t key_len,
                                         const char *user_id,
                                         size_t user_id_len,
                                         char *signature,
                                         size_t signature_cap,
                                         size_t *signature_len,
                                         struct spike_auth_error *err);

/**
 * Checks a signature against a key and a user id, in constant time.
 *
 * @param key            as in spike_auth_sign_user()
 * @param key_len        1 to 4096
 * @param user_id        as in spike_auth_sign_user()
 * @param user_id_len    its length, or SPIKE_AUTH_NUL_TERMINATED
 * @param signature      64 hex characters in either case
 * @param signature_len  its length, or SPIKE_AUTH_NUL_TERMINATED
 * @param err            NULL or where the details go
 *
 * OK if it matches, else SIGNATURE_MISMATCH. Fails with INVALID_SIGNATURE if it is not 64 hex characters,
 * INVALID_KEY, INVALID_USER_ID.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_verify_user(const uint8_t *key,
                                           size_t key_len,
                                           const char *user_id,
                                           size_t user_id_len,
                                           const char *signature,
                                           size_t signature_len,
                                           struct spike_auth_error *err);

/**
 * Makes a configuration in which every setting has its default.
 *
 * @param config  gets the handle; NULL if the function fails. Free it with spike_auth_config_free().
 * @param err     NULL or where the details go
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_new(struct spike_auth_config **config,
                                          struct spike_auth_error *err);

/**
 * Frees a configuration and wipes its key. NULL is fine. Clients made of it are not touched.
 */
SPIKE_AUTH_API
void spike_auth_config_free(struct spike_auth_config *config);

/**
 * Reads the settings from the environment:
 *
 * SPIKE_APPLICATION_ID; SPIKE_HMAC_KEY, or SPIKE_HMAC_KEY_FILE (one trailing newline is dropped; a file
 * that its group or others can write is refused); SPIKE_API_BASE_URL; SPIKE_TIMEOUT_MS; SPIKE_CA_FILE; and
 * for an https base URL the proxy from the first of https_proxy, HTTPS_PROXY, all_proxy and ALL_PROXY that is
 * not empty, but for the hosts in no_proxy or NO_PROXY.
 *
 * A variable that is not set leaves its setting as it was. One with a bad value, an empty one too, is an
 * error that names it, and then no setting at all is changed. Variables for proxies differ: an empty one
 * counts as not set, and a proxy that cannot be used (SOCKS, for example) is an error of
 * spike_auth_client_new(), and only where it would be used. In no_proxy, entries are names (which cover their
 * subdomains), addresses, either with a port, or a lone *; no patterns and no ranges of addresses. Do not call
 * it while another thread changes the environment (setenv).
 *
 * In a program with raised privileges (setuid, setgid, file capabilities; where getauxval(AT_SECURE) is not 0)
 * it refuses with INVALID_ENVIRONMENT and reads nothing: set each setting with its own function.
 *
 * Fails with INVALID_ENVIRONMENT; FILE.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_load_env(struct spike_auth_config *config,
                                               struct spike_auth_error *err);

/**
 * Sets the application id, the only setting without a default.
 *
 * @param id      1 to 64 printable ASCII characters without spaces. Plain digits (no leading zero, at most
 *                2^63-1) go out as a JSON number, which is what the service takes; anything else goes out
 *                as a JSON string.
 * @param id_len  its length, or SPIKE_AUTH_NUL_TERMINATED
 *
 * Fails with INVALID_APPLICATION_ID.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_application_id(struct spike_auth_config *config,
                                                         const char *id,
                                                         size_t id_len,
                                                         struct spike_auth_error *err);

/**
 * Sets the HMAC key. Without one, a client exchanges signatures that were made elsewhere.
 *
 * @param key      the raw bytes as the Spike console shows them, never hex- or base64-decoded. Not a text:
 *                 SPIKE_AUTH_NUL_TERMINATED is refused. Not kept: only what signing needs of it is.
 * @param key_len  1 to 4096
 *
 * Fails with INVALID_KEY.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_hmac_key(struct spike_auth_config *config,
                                                   const uint8_t *key,
                                                   size_t key_len,
                                                   struct spike_auth_error *err);

/**
 * Sets the base URL, up to and without "/auth/hmac". The default is https://app-api.spikeapi.com/v3.
 *
 * @param url      https, or http for this machine alone (localhost, 127.0.0.0/8, [::1]); no user info,
 *                 query or fragment. One trailing slash is dropped.
 * @param url_len  its length, or SPIKE_AUTH_NUL_TERMINATED
 *
 * Fails with INVALID_URL.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_base_url(struct spike_auth_config *config,
                                                   const char *url,
                                                   size_t url_len,
                                                   struct spike_auth_error *err);

/**
 * Sets the deadline of one call, counted from its beginning and holding for all that it does. The default
 * is 10 000 ms.
 *
 * @param total  milliseconds, 1 to 600 000; 0 for the default. There is no "infinite".
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_timeout_ms(struct spike_auth_config *config,
                                                     uint32_t total,
                                                     struct spike_auth_error *err);

/**
 * Sets the time within which a new connection must stand: name lookup, TCP and TLS handshake together.
 * The default is 3 100 ms, or the deadline of the call if that is shorter.
 *
 * @param ms  milliseconds, 1 to 600 000; 0 for the default. spike_auth_client_new() refuses one that is
 *        longer than the deadline of the call.
 *
 * When it passes, the attempt fails, with CONNECT, with RESOLVE if it was still looking up the name, or with
 * PROXY if it was waiting for one, and is tried again like any other. TIMEOUT is for the deadline of the
 * whole call.
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_connect_timeout_ms(struct spike_auth_config *config,
                                                             uint32_t ms,
                                                             struct spike_auth_error *err);

/**
 * Sets how often an exchange is tried, the first time included. The default is 3. A client that only fails
 * stops trying again after 100 retries (50 if they are timeouts), until successes have earned more. A request
 * that meets a kept connection which ends without a byte of reply goes once more on a new one, and that
 * costs no attempt.
 *
 * @param n  1 to 10; 0 for the default
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_max_attempts(struct spike_auth_config *config,
                                                       uint32_t n,
                                                       struct spike_auth_error *err);

/**
 * Sets the certificates of a private CA, trusted beside the roots that spike_auth_config_set_tls_roots()
 * chooses. Replaces those set before.
 *
 * @param pem      one or more "-----BEGIN CERTIFICATE-----" sections; text around them, other kinds of
 *                 sections and byte-order marks of UTF-8 are passed over. SPIKE_AUTH_NUL_TERMINATED is refused.
 * @param pem_len  its length
 *
 * Fails with TLS_ROOTS if there is none, one that cannot be read, or one whose key cannot be used to check
 * others: it must be RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519. The message says which, by its position
 * among all sections.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_ca_pem(struct spike_auth_config *config,
                                                 const char *pem,
                                                 size_t pem_len,
                                                 struct spike_auth_error *err);

/**
 * Sets which roots are trusted.
 *
 * @param roots  SPIKE_AUTH_TLS_ROOTS_PLATFORM (the default), _BUNDLED or _NONE
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_tls_roots(struct spike_auth_config *config,
                                                    int32_t roots,
                                                    struct spike_auth_error *err);

/**
 * Sets what follows the library's own name in the User-Agent header, such as "shop/1.2". The service
 * gets it, and a proxy, with CONNECT: some refuse by it.
 *
 * @param suffix      at most 256 printable ASCII characters; empty for none, which is the default
 * @param suffix_len  its length, or SPIKE_AUTH_NUL_TERMINATED
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_user_agent(struct spike_auth_config *config,
                                                     const char *suffix,
                                                     size_t suffix_len,
                                                     struct spike_auth_error *err);

/**
 * Sets the HTTP proxy through which an https base URL is reached, by CONNECT. An http base URL, which is
 * on this machine, is never reached through one.
 *
 * @param url      http://[user:password@]host[:port], user name and password percent-encoded, port 80 if
 *                 none is given; empty for no proxy, whatever spike_auth_config_load_env() found. Goes
 *                 before the environment's proxy, whichever was read first.
 * @param url_len  its length, or SPIKE_AUTH_NUL_TERMINATED
 *
 * Fails with INVALID_URL, for SOCKS and https proxies too.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_proxy(struct spike_auth_config *config,
                                                const char *url,
                                                size_t url_len,
                                                struct spike_auth_error *err);

/**
 * Sets how many exchanges of a client may be in flight at once. More wait for their turn, first come first
 * served, inside their own deadlines. The default is 32.
 *
 * @param n  1 to 1024; 0 for the default
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_max_concurrency(struct spike_auth_config *config,
                                                          uint32_t n,
                                                          struct spike_auth_error *err);

/**
 * Sets how many tokens a client keeps at the most; where there is no room, one that has not been asked for
 * lately goes. The default is 100 000.
 *
 * @param entries  0: none. Calls that ask for the same user at the same time share an exchange all the same.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_cache_capacity(struct spike_auth_config *config,
                                                         uint32_t entries,
                                                         struct spike_auth_error *err);

/**
 * Sets how much memory the tokens that a client keeps may take, whichever bound is met first. The default is
 * 64 MiB.
 *
 * @param bytes  0 for the default. A token takes about 200 bytes more than its length and the user id's. One
 *               that could never fit is handed out and not kept.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_cache_max_bytes(struct spike_auth_config *config,
                                                          uint64_t bytes,
                                                          struct spike_auth_error *err);

/**
 * Sets the age at which a kept token is renewed. One that has an end of its own is renewed before that as well:
 * by 60 seconds, or by a tenth of its lifetime if that is less. The first call that asks for the token then makes
 * an exchange, and the others go on with the old one. If that fails in a way that may pass, the old token is
 * handed out until its own end; one without an end, until twice this age; 49 days after the time of renewal at
 * most. The default is one hour: a token that does not say when it ends must not live long after it was revoked.
 * Time while the machine is suspended does not count.
 *
 * @param ms  milliseconds; 0 for no limit
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_cache_ttl_ms(struct spike_auth_config *config,
                                                       uint64_t ms,
                                                       struct spike_auth_error *err);

/**
 * Makes a call handle that uses the client's deadline and is not cancelled.
 *
 * @param call  receives the handle, NULL on failure. Free it with spike_auth_call_free().
 * @param err   receives the error detail; may be NULL
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_call_new(struct spike_auth_call **call,
                                        struct spike_auth_error *err);

/**
 * Sets the deadline of the next call that uses the handle. It may be shorter or longer than the client's.
 *
 * @param ms   milliseconds, 1 to 600 000; 0 for the client's deadline
 * @param err  receives the error detail; may be NULL
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_call_set_timeout_ms(struct spike_auth_call *call,
                                                   uint32_t ms,
                                                   struct spike_auth_error *err);

/**
 * Cancels a handle: the call that uses it returns CANCELLED at once, and so does every later call. A call that
 * has returned is not affected. A cancelled handle stays cancelled. May be called from any thread, any number
 * of times; NULL is ignored. In a forked child, it cancels the child's calls only, not the parent's.
 */
SPIKE_AUTH_API
void spike_auth_call_cancel(struct spike_auth_call *call);

/**
 * Frees a call handle. NULL is ignored. Free it only after the call that uses it has returned.
 */
SPIKE_AUTH_API
void spike_auth_call_free(struct spike_auth_call *call);

/**
 * Makes a client of a configuration, which is copied: free it or change it afterwards. Reads the trusted
 * roots if the base URL is an https one; connects to nothing yet.
 *
 * @param config  a configuration with an application id
 * @param client  gets the handle; NULL if the function fails. Free it with spike_auth_client_free().
 * @param err     NULL or where the details go
 *
 * Fails with INCOMPLETE_CONFIG, INVALID_ARGUMENT (a connect timeout that is longer than the deadline of
 * the call), INVALID_ENVIRONMENT (the base URL would be reached through a proxy that
 * spike_auth_config_load_env() found in a variable and that cannot be used), TLS_ROOTS, INTERNAL (the system
 * gives the process no randomness).
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_new(const struct spike_auth_config *config,
                                          struct spike_auth_client **client,
                                          struct spike_auth_error *err);

/**
 * Closes a client: calls in flight return CLOSED at once, later ones too. From any thread, as often as you
 * like; NULL is fine. The handle stays valid until it is freed.
 */
SPIKE_AUTH_API
void spike_auth_client_close(const struct spike_auth_client *client);

/**
 * Closes a client, frees it and wipes its key and its tokens. NULL is fine. Not while another thread is
 * inside a call on it: close it first, wait until those calls have returned, then free it.
 */
SPIKE_AUTH_API
void spike_auth_client_free(struct spike_auth_client *client);

/**
 * Signs one user id with the client's key: HMAC-SHA256 as 64 lowercase hex characters. Takes no lock,
 * allocates nothing, makes no system call, sends nothing.
 *
 * @param user_id        1 to 128 of A-Z a-z 0-9 . _ - ; signed byte for byte, never trimmed
 * @param user_id_len    its length, or SPIKE_AUTH_NUL_TERMINATED
 * @param signature      gets the signature and a NUL. It never expires: keep it as secret as a password.
 * @param signature_cap  SPIKE_AUTH_SIGNATURE_SIZE or more
 * @param signature_len  gets 64
 * @param err            NULL or where the details go
 *
 * Fails with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_sign_user(const struct spike_auth_client *client,
                                                const char *user_id,
                                                size_t user_id_len,
                                                char *signature,
                                                size_t signature_cap,
                                                size_t *signature_len,
                                                struct spike_auth_error *err);

/**
 * Signs many user ids in one call. The layout is that of an Arrow column of large strings, so that one can
 * be handed over as it is. Allocates nothing, sends nothing; about a third faster per id than one by one.
 *
 * @param ids             all ids in one run of bytes, without separators or NULs
 * @param ids_len         its length; SPIKE_AUTH_NUL_TERMINATED is refused
 * @param offsets         count + 1 offsets into ids: id i is from offsets[i] to offsets[i + 1]. They must
 *                        not be negative, fall, or go beyond ids_len. NULL is allowed if count is 0.
 * @param count           the number of ids
 * @param signatures      gets 64 hex characters per id, without NULs: id i at signatures + 64 * i
 * @param signatures_cap  64 * count or more
 * @param statuses        NULL, or gets one status per id: OK or INVALID_USER_ID
 * @param err             NULL or where the details go
 *
 * A bad id gets 64 NUL bytes for its signature; all others are signed, and the function returns
 * INVALID_USER_ID with the index of the first bad one in the message. It is the one function that can
 * succeed in part. If it fails with INVALID_ARGUMENT, BUFFER_TOO_SMALL, KEY_REQUIRED, NULL_POINTER or
 * CLOSED, nothing was written.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_sign_users(const struct spike_auth_client *client,
                                                 const char *ids,
                                                 size_t ids_len,
                                                 const int64_t *offsets,
                                                 size_t count,
                                                 char *signatures,
                                                 size_t signatures_cap,
                                                 int32_t *statuses,
                                                 struct spike_auth_error *err);

/**
 * Signs a user id and exchanges the signature for that user's access token. Always asks the service.
 * Blocks until the token is there, the service has refused, or the deadline has passed. What may pass
 * (no connection, a lost one, 408, 425, 429, 500, 502, 503, 504) is tried again within the deadline, up to
 * the number of attempts, after a wait that the service's Retry-After can lengthen.
 *
 * A 429, and a 503 with Retry-After, hold all calls of the client until the time that it says, 10 minutes at
 * most. A call whose deadline is before that fails at once with RATE_LIMITED or SERVER_ERROR, attempts 0 and
 * the time left in retry_after_ms; the others wait. Then one request goes first, and the others follow its
 * answer.
 *
 * @param user_id      1 to 128 of A-Z a-z 0-9 . _ -
 * @param user_id_len  its length, or SPIKE_AUTH_NUL_TERMINATED
 * @param call         NULL for the client's deadline, or a handle that sets another one or cancels
 * @param token        gets the token and a NUL: 1 to 8192 characters that may stand in a header
 * @param token_cap    SPIKE_AUTH_TOKEN_SIZE or more: less is BUFFER_TOO_SMALL before anything is sent
 * @param token_len    gets the token's length without the NUL
 * @param err          NULL or where the details go
 *
 * Fails with any status from 40 on, and with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_exchange(const struct spike_auth_client *client,
                                               const char *user_id,
                                               size_t user_id_len,
                                               const struct spike_auth_call *call,
                                               char *token,
                                               size_t token_cap,
                                               size_t *token_len,
                                               struct spike_auth_error *err);

/**
 * Exchanges a signature that was made elsewhere, on a machine that has the key. Needs no key here.
 *
 * @param user_id        the id that was signed, byte for byte
 * @param user_id_len    its length, or SPIKE_AUTH_NUL_TERMINATED
 * @param signature      64 hex characters in either case
 * @param signature_len  its length, or SPIKE_AUTH_NUL_TERMINATED
 * @param call           NULL, or a handle, as in spike_auth_client_exchange()
 * @param token          as in spike_auth_client_exchange()
 * @param token_cap      SPIKE_AUTH_TOKEN_SIZE or more
 * @param token_len      gets the token's length without the NUL
 * @param err            NULL or where the details go
 *
 * Fails as spike_auth_client_exchange() does, and with INVALID_SIGNATURE (a NULL or empty one too).
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_exchange_signature(const struct spike_auth_client *client,
                                                         const char *user_id,
                                                         size_t user_id_len,
                                                         const char *signature,
                                                         size_t signature_len,
                                                         const struct spike_auth_call *call,
                                                         char *token,
                                                         size_t token_cap,
                                                         size_t *token_len,
                                                         struct spike_auth_error *err);

/**
 * Returns the access token of a user: from the client's cache, or by an exchange whose token is then cached.
 * Concurrent calls for the same user share one exchange and its result, also if it fails; each waits no longer
 * than its own deadline. If the call that makes the exchange is cancelled or times out, another call takes
 * over, and sends an interrupted request again. Retries and rate limits are those of
 * spike_auth_client_exchange().
 *
 * A cache hit takes no lock and no system call; only a thread's first hit allocates.
 *
 * The first call that asks for a token due for renewal (see spike_auth_config_set_cache_ttl_ms()) renews it and
 * waits for the exchange; the others receive the old token at once. If the renewal fails and the failure may
 * be temporary, that call receives the old token too, and no renewal starts for 5 to 10 seconds. After a 401 or
 * 403 the old token is dropped.
 *
 * @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
 * @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param call         a call handle with its own deadline and cancellation, or NULL for the client's deadline
 * @param token        receives the token and a NUL: 1 to 8192 characters that are valid in an HTTP header
 * @param token_cap    size of token in bytes. SPIKE_AUTH_TOKEN_SIZE is always enough. For a cached token, its
 *                     length + 1 is enough. If an exchange is needed, a size below SPIKE_AUTH_TOKEN_SIZE fails
 *                     with BUFFER_TOO_SMALL before anything is sent.
 * @param token_len    receives the token's length without the NUL
 * @param err          receives the error detail; may be NULL. `attempts` is 0 for a cached token; a call that
 *                     shared an exchange receives the number of requests of that exchange.
 *
 * Fails with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED, and any status from 40 on.
 *
 * TOKEN_REJECTED: see spike_auth_client_invalidate(). UNAUTHORIZED with `attempts` 0: the service has refused
 * the signatures of five different users in a row, so the key is probably wrong. Until a signature is accepted,
 * one request is sent every five seconds, and all other calls fail at once; retry_after_ms is the time until
 * the next request.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_get_token(const struct spike_auth_client *client,
                                                const char *user_id,
                                                size_t user_id_len,
                                                const struct spike_auth_call *call,
                                                char *token,
                                                size_t token_cap,
                                                size_t *token_len,
                                                struct spike_auth_error *err);

/**
 * Returns the value of an Authorization header for a user: "Bearer " and the token that
 * spike_auth_client_get_token() returns.
 *
 * @param user_id      see spike_auth_client_get_token()
 * @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param call         see spike_auth_client_get_token()
 * @param out          receives the value and a NUL
 * @param out_cap      size of out in bytes. SPIKE_AUTH_AUTHORIZATION_SIZE is always enough. For a cached token,
 *                     its length + 8 is enough. If an exchange is needed, a size below
 *                     SPIKE_AUTH_AUTHORIZATION_SIZE fails with BUFFER_TOO_SMALL before anything is sent.
 * @param out_len      receives the length of the value without the NUL
 * @param err          receives the error detail; may be NULL
 *
 * Fails with the statuses of spike_auth_client_get_token().
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_get_authorization(const struct spike_auth_client *client,
                                                        const char *user_id,
                                                        size_t user_id_len,
                                                        const struct spike_auth_call *call,
                                                        char *out,
                                                        size_t out_cap,
                                                        size_t *out_len,
                                                        struct spike_auth_error *err);

/**
 * Returns the access token of a user if it is cached. Never waits and sends nothing. A token that is due for
 * renewal counts as not cached until a call of spike_auth_client_get_token() has started to renew it. A program
 * that peeks first, and calls spike_auth_client_get_token() on NOT_CACHED, therefore renews its tokens in time.
 *
 * @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
 * @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param token        receives the token and a NUL
 * @param token_cap    size of token in bytes: the token's length + 1 or more. SPIKE_AUTH_TOKEN_SIZE is always
 *                     enough.
 * @param token_len    receives the token's length without the NUL
 * @param err          receives the error detail; may be NULL
 *
 * Fails with NOT_CACHED, INVALID_USER_ID, BUFFER_TOO_SMALL, CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_peek_token(const struct spike_auth_client *client,
                                                 const char *user_id,
                                                 size_t user_id_len,
                                                 char *token,
                                                 size_t token_cap,
                                                 size_t *token_len,
                                                 struct spike_auth_error *err);

/**
 * Reports that the service rejected a token: it answered 401 to a request with it. Drops the token from the
 * cache if it is still the cached one, so any number of threads that report the same token cause one new
 * exchange. Then call spike_auth_client_get_token() and repeat the request once with the new token.
 *
 * In the five seconds after a report, only one exchange fetches a new token. If the service returns the
 * rejected token again, or the new one is reported too, spike_auth_client_get_token() fails with
 * TOKEN_REJECTED, without a request, until the five seconds are over; retry_after_ms is the time that remains.
 *
 * @param user_id       the user of the token
 * @param user_id_len   length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param rejected      the rejected token, without "Bearer "
 * @param rejected_len  length of rejected in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param err           receives the error detail; may be NULL
 *
 * Succeeds if the token is not cached. Fails with INVALID_USER_ID, INVALID_ARGUMENT (rejected cannot be a
 * token; an empty text, for example), CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_invalidate(const struct spike_auth_client *client,
                                                 const char *user_id,
                                                 size_t user_id_len,
                                                 const char *rejected,
                                                 size_t rejected_len,
                                                 struct spike_auth_error *err);

/**
 * Drops the cached token of a user. An exchange in progress continues for the calls that wait for it, but its
 * token is not cached. After a 401, use spike_auth_client_invalidate() instead.
 *
 * @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
 * @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param err          receives the error detail; may be NULL
 *
 * Succeeds if nothing is cached. Fails with INVALID_USER_ID, CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_forget(const struct spike_auth_client *client,
                                             const char *user_id,
                                             size_t user_id_len,
                                             struct spike_auth_error *err);

/**
 * Drops and wipes all cached tokens. Exchanges in progress are treated as by spike_auth_client_forget().
 *
 * @param err  receives the error detail; may be NULL
 *
 * Fails with CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_clear(const struct spike_auth_client *client,
                                            struct spike_auth_error *err);

/**
 * Reads the counters of a client's cache.
 *
 * @param stats  gets them; need not be initialised. All zero if the function fails.
 * @param err    NULL or where the details go
 *
 * Fails with CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_stats(const struct spike_auth_client *client,
                                            struct spike_auth_stats *stats,
                                            struct spike_auth_error *err);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SPIKE_AUTH_H */

/* Their sizes never change: a program may be older or newer than the library. */
#if defined(__cplusplus) && __cplusplus >= 201103L
static_assert(sizeof(spike_auth_error) == 512, "spike_auth_error must be 512 bytes");
static_assert(sizeof(spike_auth_stats) == 256, "spike_auth_stats must be 256 bytes");
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(spike_auth_error) == 512, "spike_auth_error must be 512 bytes");
_Static_assert(sizeof(spike_auth_stats) == 256, "spike_auth_stats must be 256 bytes");
#endif
