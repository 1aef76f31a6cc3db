/** @mainpage spike_auth: signs a user id and exchanges the signature for that user's Spike access token
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
 * # Conventions
 *
 * **Status.** A function that can fail returns a status: 0 is OK, the others are in enum spike_auth_status.
 * It crosses the boundary as an int32_t, so that any number is safe. Where a function lists what it fails
 * with, the prefix SPIKE_AUTH_STATUS_ is omitted. So are NULL_POINTER (a required pointer is NULL) and
 * INVALID_ARGUMENT (a length or capacity over PTRDIFF_MAX), which every function can return.
 *
 * **Error detail.** Such a function takes a spike_auth_error last. You own it, NULL is fine, and every call
 * rewrites all of it, also on success. No last error is kept anywhere.
 *
 * **Text in.** Pointer and length; no NUL is needed. NULL is fine where the length is 0. The length
 * SPIKE_AUTH_NUL_TERMINATED of a text means "it ends with a NUL, measure it".
 *
 * **Text out.** Buffer, capacity, and a place for the length; both pointers are required. The capacity counts
 * the NUL, the length does not. On OK the text ends with a NUL. On BUFFER_TOO_SMALL the length is the
 * needed one, and the buffer holds the empty text. On any other failure the length is 0 and the buffer
 * holds the empty text. Buffers may be uninitialised; they are never read. Outputs must not overlap inputs
 * or each other.
 *
 * **Order of arguments:** handle, inputs, outputs, error.
 *
 * **Ownership.** Only handles are allocated for you. Free each once, with the _free of its type. Freeing NULL
 * is fine. A _new that fails sets its handle to NULL. Inputs are copied or used up before the function
 * returns.
 *
 * **Threads.** Any thread may call any function, and any number of threads may use one client at once. Only
 * _free must not run while another thread is inside a call on the same handle. A program that must not block
 * a thread starts calls (spike_auth_client_start_token()) and waits for a queue's descriptor.
 *
 * **Signal handlers.** A signal handler may call no function of this library: the interrupted code may hold a
 * lock that the function waits for. To close or cancel on a signal, let the handler write to a pipe or set
 * a flag, and call from a thread that reads it.
 *
 * **Stack.** A call needs up to 52 KiB of the stack of its thread, beside what your own frames take: a thread
 * of 64 KiB is enough.
 *
 * **Your process.** No function panics or unwinds into you: a bug inside is SPIKE_AUTH_STATUS_PANIC. The
 * library aborts only when no memory is left at all. Do not pthread_cancel() a thread that is inside a
 * call: it would end the process. Use spike_auth_call_cancel(). There is no signal handler, no callback and
 * no SIGPIPE. The library has background threads only while there is work for them, with all signals
 * blocked: at most 16 that look up names; and for calls that were started, at most the maximum concurrency of
 * each client and one more, named spike_auth, which are gone within 20 ms after the last of these calls.
 * Settings come from the environment only through
 * spike_auth_config_load_env(). spike_auth_client_new() also reads SSL_CERT_FILE and SSL_CERT_DIR, which
 * name the platform's trusted roots (loaded once per process): do not change the environment in another
 * thread meanwhile. A program with raised privileges (setuid, setgid, file capabilities) takes nothing from
 * its environment, because an unprivileged user chooses it: the first function refuses, the second looks in
 * the system's own places.
 *
 * **Descriptors.** The library's descriptors are close-on-exec, and above 2 even where 0, 1 or 2 is closed: a
 * new socket has a lower number only between two system calls. It does not control the sockets of the C
 * library's resolver during a lookup, nor the files of the platform's roots while they are read.
 * Close only your own descriptors. If you close the library's (by closefrom(3), for example), a call in
 * flight ends with INTERNAL or at its deadline; the next call fails with INTERNAL before it sends
 * anything, and later ones make new connections. What you have opened under their numbers before that
 * is not closed or shut down. What you open while a call runs can still be affected.
 *
 * **Fork.** A client made before a fork works in the parent and in every child, at once. A child makes its own
 * connections and does not touch its parent's; what it closes, cancels or frees is its own. It starts with
 * the tokens of its parent's cache, and has its own cache from then on. Queues, and calls that were started,
 * stay with the parent: in a child a parent's queue hands out nothing, and the result of such a call is
 * CANCELLED. A fork by raw system call or
 * _Fork() is not noticed, and nothing can be done about a lock of the C library's resolver that a thread
 * held at the fork.
 * In a child that a signal handler forks inside a call, that call fails with CANCELLED.
 *
 * **Secrets.** The key, signatures and tokens are wiped from memory that the library owns, and no message
 * shows them. Wiping your buffers is up to you.
 *
 * **Binary compatibility.** A program built with this header works with every library of the same
 * SPIKE_AUTH_ABI_VERSION that is as new as the header or newer.
 */

/** @file
 * The C interface. The conventions that all functions follow are on the main page of the reference, and at the
 * top of this file. */

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
 * The ABI version, which is also the number in the soname. It changes only with an incompatible change;
 * an added function is compatible.
 */
#define SPIKE_AUTH_ABI_VERSION 1

/**
 * The version of this header, 0x00MMmmpp.
 */
#define SPIKE_AUTH_VERSION_NUMBER 256

/**
 * The maximum length of a user id in bytes, without a NUL.
 */
#define SPIKE_AUTH_USER_ID_MAX 128

/**
 * The size in bytes of a buffer for a signature: 64 hex characters and the NUL.
 */
#define SPIKE_AUTH_SIGNATURE_SIZE 65

/**
 * The size in bytes of a buffer for any access token: at most 8192 characters and the NUL.
 */
#define SPIKE_AUTH_TOKEN_SIZE 8193

/**
 * The size in bytes of a buffer for any Authorization value: "Bearer ", an access token and the NUL.
 */
#define SPIKE_AUTH_AUTHORIZATION_SIZE 8200

/**
 * The trusted roots of the platform; the default. On Linux, SSL_CERT_FILE and SSL_CERT_DIR name another
 * store; they are ignored if empty, and in a program with raised privileges. A section of SSL_CERT_FILE that
 * is not valid PEM is an error; a certificate that cannot be used is skipped. The bundled roots are used
 * only if the system has no store at all and neither variable is set.
 */
#define SPIKE_AUTH_TLS_ROOTS_PLATFORM 0

/**
 * Mozilla's trusted roots as of the build of the library.
 */
#define SPIKE_AUTH_TLS_ROOTS_BUNDLED 1

/**
 * Only the certificates of spike_auth_config_set_ca_pem().
 */
#define SPIKE_AUTH_TLS_ROOTS_NONE 2

/**
 * The size in bytes of a buffer for any report of spike_auth_client_diagnose(), with the NUL.
 */
#define SPIKE_AUTH_REPORT_SIZE 16384

/**
 * The statuses. Their numbers never change and are never reused. A newer library may return a number that
 * is not listed here: treat it as a failure, and call spike_auth_status_text().
 */
typedef enum spike_auth_status {
    /**
     * Success.
     */
    SPIKE_AUTH_STATUS_OK = 0,
    /**
     * A required pointer is NULL.
     */
    SPIKE_AUTH_STATUS_NULL_POINTER = 1,
    /**
     * A length, a number or a constant is out of range.
     */
    SPIKE_AUTH_STATUS_INVALID_ARGUMENT = 2,
    /**
     * The user id is not 1 to 128 bytes of A-Z a-z 0-9 . _ -
     */
    SPIKE_AUTH_STATUS_INVALID_USER_ID = 3,
    /**
     * The application id is not 1 to 64 printable ASCII characters without spaces.
     */
    SPIKE_AUTH_STATUS_INVALID_APPLICATION_ID = 4,
    /**
     * The HMAC key is not 1 to 4096 bytes long.
     */
    SPIKE_AUTH_STATUS_INVALID_KEY = 5,
    /**
     * The signature is not 64 hexadecimal characters.
     */
    SPIKE_AUTH_STATUS_INVALID_SIGNATURE = 6,
    /**
     * The URL cannot be parsed, contains user info, or is http to another machine.
     */
    SPIKE_AUTH_STATUS_INVALID_URL = 7,
    /**
     * The buffer is too small; its length argument or the message says how much is needed.
     */
    SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL = 8,
    /**
     * The client has no HMAC key and cannot sign.
     */
    SPIKE_AUTH_STATUS_KEY_REQUIRED = 9,
    /**
     * The signature is well formed but does not match the user id.
     */
    SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH = 10,
    /**
     * The configuration has no application id.
     */
    SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG = 11,
    /**
     * The cache holds no token for this user.
     */
    SPIKE_AUTH_STATUS_NOT_CACHED = 12,
    /**
     * An environment variable has an invalid value; the message names it.
     */
    SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT = 13,
    /**
     * The client is closed.
     */
    SPIKE_AUTH_STATUS_CLOSED = 14,
    /**
     * The started call has not ended.
     */
    SPIKE_AUTH_STATUS_PENDING = 15,
    /**
     * There are no usable TLS roots, or the given CA certificates cannot be read.
     */
    SPIKE_AUTH_STATUS_TLS_ROOTS = 20,
    /**
     * A file that an environment variable names cannot be used.
     */
    SPIKE_AUTH_STATUS_FILE = 21,
    /**
     * The host name could not be resolved.
     */
    SPIKE_AUTH_STATUS_RESOLVE = 40,
    /**
     * No connection could be established.
     */
    SPIKE_AUTH_STATUS_CONNECT = 41,
    /**
     * The TLS handshake or the certificate check failed.
     */
    SPIKE_AUTH_STATUS_TLS = 42,
    /**
     * The deadline of the call has passed.
     */
    SPIKE_AUTH_STATUS_TIMEOUT = 43,
    /**
     * The connection ended before the response was complete.
     */
    SPIKE_AUTH_STATUS_CONNECTION_LOST = 44,
    /**
     * The proxy is unreachable or refused the connection.
     */
    SPIKE_AUTH_STATUS_PROXY = 45,
    /**
     * The call was cancelled.
     */
    SPIKE_AUTH_STATUS_CANCELLED = 46,
    /**
     * The store that processes share cannot be used.
     */
    SPIKE_AUTH_STATUS_STORE = 47,
    /**
     * The service refused the request (400, 404, 405, 413, 415, 422).
     */
    SPIKE_AUTH_STATUS_REFUSED = 60,
    /**
     * The service rejected the signature (401).
     */
    SPIKE_AUTH_STATUS_UNAUTHORIZED = 61,
    /**
     * The service denied access (403).
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
     * The service answered with an unexpected status (3xx and all others).
     */
    SPIKE_AUTH_STATUS_UNEXPECTED_STATUS = 65,
    /**
     * The response contains no usable token.
     */
    SPIKE_AUTH_STATUS_INVALID_RESPONSE = 66,
    /**
     * The response is too large.
     */
    SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE = 67,
    /**
     * The new token is the rejected one again, or was rejected too.
     */
    SPIKE_AUTH_STATUS_TOKEN_REJECTED = 68,
    /**
     * An internal failure, such as a failed system call.
     */
    SPIKE_AUTH_STATUS_INTERNAL = 90,
    /**
     * A bug in the library: it panicked, and the panic was caught.
     */
    SPIKE_AUTH_STATUS_PANIC = 91,
} spike_auth_status;

/**
 * The deadline and the cancellation of one call. Make a handle, pass it to a call, and cancel that call from
 * any thread. Only one call at a time may use a handle, waiting or started. When it has ended, the next call
 * may use the handle, unless it was cancelled.
 */
typedef struct spike_auth_call spike_auth_call;

/**
 * Signs user ids, exchanges signatures for access tokens, and caches the tokens, for one application. Make
 * one per process and keep it: it holds connections and tokens. Any number of threads may use a client at
 * once; only spike_auth_client_free() must not run while another thread is inside a call on it.
 */
typedef struct spike_auth_client spike_auth_client;

/**
 * The settings for a client. Make a configuration, set what you need, make a client from it, free it. Each
 * setter checks its value at once, describes what is wrong, and changes nothing if it fails.
 */
typedef struct spike_auth_config spike_auth_config;

/**
 * Hands out calls that were started, when they have ended. Make one for each event loop, for any number of
 * clients. Its functions may be called from any thread; none of them waits, and none calls you. A queue
 * belongs to the process that made it: in a forked child it hands out nothing, and nothing can be started
 * with it.
 */
typedef struct spike_auth_queue spike_auth_queue;

/**
 * A status as functions return it: a value of `enum spike_auth_status`, or a number of a later version.
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
     * 1 if another call made the exchange, and this one only waited for its result; else 0. So exchanges are
     * the results with `attempts` over 0 and without `shared`.
     */
    uint32_t shared;
    /**
     * On success with the old token, whose renewal this call tried: the status with which that failed. Else 0.
     */
    int32_t renewal_status;
    /**
     * Zero. Reserved for later versions.
     */
    uint64_t reserved[7];
} spike_auth_error;

/**
 * The counters of a client's cache since the client was made, and its contents. The size is always 256
 * bytes.
 *
 * The calls of spike_auth_client_get_token(), spike_auth_client_get_authorization() and
 * spike_auth_client_peek_token() are counted, and the exchanges that they start.
 * spike_auth_client_exchange() and spike_auth_client_exchange_signature() do not use the cache and are not
 * counted; nor is a call that fails before it looks into the cache (an invalid user id, a closed client).
 *
 * The counters add up: hits + misses is the number of lookups; coalesced + exchanges + store_hits <= misses;
 * failures <= exchanges; requests <= exchanges + retries. An exchange counts in exchanges when it starts; its requests,
 * retries and failure count when it ends. In a forked child all counters start at zero, except entries,
 * bytes and forks.
 */
typedef struct spike_auth_stats {
    /**
     * Calls that returned a cached token, including those of spike_auth_client_peek_token().
     */
    uint64_t hits;
    /**
     * Calls that found no token, or that renewed one. spike_auth_client_peek_token() counts no misses.
     */
    uint64_t misses;
    /**
     * Misses that waited for an exchange that another call had started.
     */
    uint64_t coalesced;
    /**
     * Exchanges that misses started.
     */
    uint64_t exchanges;
    /**
     * Requests that these exchanges sent.
     */
    uint64_t requests;
    /**
     * Requests that were not the first of their exchange.
     */
    uint64_t retries;
    /**
     * Exchanges that ended without a usable token.
     */
    uint64_t failures;
    /**
     * Tokens dropped by spike_auth_client_invalidate().
     */
    uint64_t invalidations;
    /**
     * Tokens dropped to make room.
     */
    uint64_t evictions;
    /**
     * Tokens in the cache now. An expired token stays until it is looked up or evicted.
     */
    uint64_t entries;
    /**
     * Their memory in bytes, as it counts for spike_auth_config_set_cache_max_bytes().
     */
    uint64_t bytes;
    /**
     * The number of forks between the process that made the client and this one.
     */
    uint64_t forks;
    /**
     * Started calls that have not ended.
     */
    uint64_t pending;
    /**
     * Misses that took a token from the store.
     */
    uint64_t store_hits;
    /**
     * Exchanges that were made because the store held no token.
     */
    uint64_t store_misses;
    /**
     * Misses that waited until another process had made its exchange.
     */
    uint64_t store_waits;
    /**
     * Operations of the store that failed.
     */
    uint64_t store_errors;
    /**
     * Exchanges that were made without a look into the store, because it had failed three times in a row.
     */
    uint64_t store_skipped;
    /**
     * How often the key was changed, by spike_auth_client_set_hmac_key() or in its file.
     */
    uint64_t key_changes;
    /**
     * Zero. Reserved for later versions.
     */
    uint64_t reserved[13];
} spike_auth_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the ABI version of the loaded library. A program that loads it at run time compares it with
 * SPIKE_AUTH_ABI_VERSION.
 */
SPIKE_AUTH_API
uint32_t spike_auth_abi_version(void);

/**
 * Returns the version of the loaded library, such as "0.1.0". The string is static: do not free it.
 */
SPIKE_AUTH_API
const char *spike_auth_version(void);

/**
 * Returns the version of the loaded library, 0x00MMmmpp.
 */
SPIKE_AUTH_API
uint32_t spike_auth_version_number(void);

/**
 * Returns SPIKE_AUTH_SIGNATURE_SIZE, for languages that cannot use macros.
 */
SPIKE_AUTH_API
size_t spike_auth_signature_size(void);

/**
 * Returns SPIKE_AUTH_TOKEN_SIZE, for languages that cannot use macros.
 */
SPIKE_AUTH_API
size_t spike_auth_token_size(void);

/**
 * Returns SPIKE_AUTH_AUTHORIZATION_SIZE, for languages that cannot use macros.
 */
SPIKE_AUTH_API
size_t spike_auth_authorization_size(void);

/**
 * Returns the name of a status, such as "SPIKE_AUTH_STATUS_TIMEOUT", or "unknown". The string is static: do
 * not free it.
 */
SPIKE_AUTH_API
const char *spike_auth_status_name(spike_auth_status_t status);

/**
 * Returns the meaning of a status, one English sentence. The string is static: do not free it. The message
 * of a spike_auth_error says more, and what to do.
 */
SPIKE_AUTH_API
const char *spike_auth_status_text(spike_auth_status_t status);

/**
 * Signs one user id with a key: HMAC-SHA256 as 64 lowercase hex characters. A client signs faster, because
 * it prepares the key once: see spike_auth_client_sign_user().
 *
 * @param key            the raw bytes of the key as the Spike console shows it, not hex- or base64-decoded.
 *                       Not a text: SPIKE_AUTH_NUL_TERMINATED is refused.
 * @param key_len        length of key in bytes, 1 to 4096
 * @param user_id        1 to 128 bytes of A-Z a-z 0-9 . _ - ; signed byte for byte, never trimmed
 * @param user_id_len    length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param signature      receives the signature and a NUL. It never expires: protect it like a password.
 * @param signature_cap  size of signature in bytes: SPIKE_AUTH_SIGNATURE_SIZE or more
 * @param signature_len  receives 64
 * @param err            receives the error detail; may be NULL
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
 * @param key            see spike_auth_sign_user()
 * @param key_len        length of key in bytes, 1 to 4096
 * @param user_id        1 to 128 bytes of A-Z a-z 0-9 . _ -
 * @param user_id_len    length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param signature      64 hex characters in upper or lower case
 * @param signature_len  length of signature in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param err            receives the error detail; may be NULL
 *
 * Returns OK if it matches, else SIGNATURE_MISMATCH. Fails with INVALID_KEY, INVALID_USER_ID,
 * INVALID_SIGNATURE (not 64 hex characters).
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
 * Makes a configuration with the default of every setting.
 *
 * @param config  receives the handle, NULL on failure. Free it with spike_auth_config_free().
 * @param err     receives the error detail; may be NULL
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_new(struct spike_auth_config **config,
                                          struct spike_auth_error *err);

/**
 * Frees a configuration and wipes its key. NULL is ignored. Clients made from it are not affected.
 */
SPIKE_AUTH_API
void spike_auth_config_free(struct spike_auth_config *config);

/**
 * Reads settings from the environment:
 *
 * SPIKE_APPLICATION_ID; SPIKE_HMAC_KEY, or SPIKE_HMAC_KEY_FILE (one trailing newline is dropped; a file that
 * its group or others can write to is refused; it is read again after a 401, see spike_auth_client_set_hmac_key()); SPIKE_API_BASE_URL; SPIKE_TIMEOUT_MS; SPIKE_CA_FILE;
 * SPIKE_STORE_URL, or SPIKE_STORE_URL_FILE (like the key's file); SPIKE_STORE_TIMEOUT_MS; SPIKE_MAX_RATE. The
 * proxy for an https base URL is the first non-empty one of https_proxy, HTTPS_PROXY, all_proxy and
 * ALL_PROXY, except for the hosts in no_proxy or NO_PROXY.
 *
 * A variable that is not set leaves its setting unchanged. An invalid or empty value is an error that names
 * the variable, and then no setting is changed. The proxy variables differ: an empty one counts as not set,
 * and an unusable proxy (SOCKS, for example) is an error of spike_auth_client_new(), and only if it would be
 * used. Entries of no_proxy are names (which include their subdomains) and addresses, both with an optional
 * port, or a single *; patterns and address ranges are not supported. No other thread may change the
 * environment (setenv) during this call.
 *
 * In a program with raised privileges (setuid, setgid, file capabilities; getauxval(AT_SECURE) is not 0) the
 * function reads nothing and fails with INVALID_ENVIRONMENT: use the setters instead.
 *
 * @param err  receives the error detail; may be NULL
 *
 * Fails with INVALID_ENVIRONMENT, FILE.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_load_env(struct spike_auth_config *config,
                                               struct spike_auth_error *err);

/**
 * Sets the application id, the only setting without a default.
 *
 * @param id      1 to 64 printable ASCII characters without spaces. Plain digits (no leading zero, at most
 *                2^63-1) are sent as a JSON number, as the service expects; anything else as a JSON string.
 * @param id_len  length of id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param err     receives the error detail; may be NULL
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
 * Sets the HMAC key. A client without a key can only exchange signatures that were made elsewhere.
 *
 * @param key      the raw bytes as the Spike console shows them, not hex- or base64-decoded. Not a text:
 *                 SPIKE_AUTH_NUL_TERMINATED is refused. The library keeps only a state derived from it.
 * @param key_len  length of key in bytes, 1 to 4096
 * @param err      receives the error detail; may be NULL
 *
 * Fails with INVALID_KEY, INTERNAL (the system gives no memory for it).
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_hmac_key(struct spike_auth_config *config,
                                                   const uint8_t *key,
                                                   size_t key_len,
                                                   struct spike_auth_error *err);

/**
 * Sets the base URL, without "/auth/hmac". The default is https://app-api.spikeapi.com/v3.
 *
 * @param url      https, or http for this machine only (localhost, 127.0.0.0/8, [::1]); no user info, query
 *                 or fragment. One trailing slash is dropped.
 * @param url_len  length of url in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param err      receives the error detail; may be NULL
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
 * Sets the timeout of one call, from its start, including all attempts and waits. The default is 10 000 ms.
 *
 * @param total  milliseconds, 1 to 600 000; 0 for the default. There is no "infinite".
 * @param err    receives the error detail; may be NULL
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_timeout_ms(struct spike_auth_config *config,
                                                     uint32_t total,
                                                     struct spike_auth_error *err);

/**
 * Sets the timeout of a new connection: name lookup, TCP and TLS handshake together. The default is 3 100
 * ms, or the timeout of the call if that is shorter.
 *
 * @param ms   milliseconds, 1 to 600 000; 0 for the default. spike_auth_client_new() refuses a value above
 *             the timeout of the call.
 * @param err  receives the error detail; may be NULL
 *
 * When it passes, the attempt fails with RESOLVE (during the name lookup), PROXY (while waiting for the
 * proxy) or CONNECT, and is retried like any other. TIMEOUT means the timeout of the whole call.
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_connect_timeout_ms(struct spike_auth_config *config,
                                                             uint32_t ms,
                                                             struct spike_auth_error *err);

/**
 * Sets the maximum number of attempts of one exchange, including the first. The default is 3. A client whose
 * exchanges only fail stops retrying after 100 retries (50 if they are timeouts); successes allow new ones.
 * If a kept connection turns out to be closed before a byte of the response, the request is sent once more
 * on a new one, which does not count as an attempt.
 *
 * @param n    1 to 10; 0 for the default
 * @param err  receives the error detail; may be NULL
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_max_attempts(struct spike_auth_config *config,
                                                       uint32_t n,
                                                       struct spike_auth_error *err);

/**
 * Sets the certificates of a private CA. They are trusted in addition to the roots of
 * spike_auth_config_set_tls_roots(), and replace those of an earlier call.
 *
 * @param pem      one or more "-----BEGIN CERTIFICATE-----" sections; text around them, other sections and
 *                 UTF-8 byte order marks are skipped. SPIKE_AUTH_NUL_TERMINATED is refused.
 * @param pem_len  length of pem in bytes
 * @param err      receives the error detail; may be NULL
 *
 * Fails with TLS_ROOTS if there is no certificate, if one cannot be read, or if the key of one cannot verify
 * other certificates: it must be RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519. The message names the
 * certificate by its position among all sections.
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
 * @param err    receives the error detail; may be NULL
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_tls_roots(struct spike_auth_config *config,
                                                    int32_t roots,
                                                    struct spike_auth_error *err);

/**
 * Sets what follows the library's name in the User-Agent header, such as "shop/1.2". The service receives
 * it, and so does a proxy, in the CONNECT request: some proxies filter by it.
 *
 * @param suffix      at most 256 printable ASCII characters; empty (the default) for none
 * @param suffix_len  length of suffix in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param err         receives the error detail; may be NULL
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
 * Sets the HTTP proxy for an https base URL, used with CONNECT. An http base URL is on this machine and
 * never uses a proxy.
 *
 * @param url      http://[user:password@]host[:port], user name and password percent-encoded, default port
 *                 80; empty for no proxy. Takes precedence over the environment, whichever was set first.
 * @param url_len  length of url in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param err      receives the error detail; may be NULL
 *
 * Fails with INVALID_URL, also for SOCKS and https proxies.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_proxy(struct spike_auth_config *config,
                                                const char *url,
                                                size_t url_len,
                                                struct spike_auth_error *err);

/**
 * Sets how many exchanges of a client may run at once. Further ones wait in the order of their arrival,
 * within their deadlines. The default is 32.
 *
 * @param n    1 to 1024; 0 for the default
 * @param err  receives the error detail; may be NULL
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_max_concurrency(struct spike_auth_config *config,
                                                          uint32_t n,
                                                          struct spike_auth_error *err);

/**
 * Sets how many requests a client may send per second, retries included. The default is no limit.
 *
 * A call waits for its turn within its deadline, and a started call waits without a thread. If the turn is too late
 * for the deadline, the call fails at once with RATE_LIMITED, http_status 0, and the wait in retry_after_ms. The
 * limit is that of one client in one process: for a fleet, divide its total by the number of processes. Tokens
 * that come from the cache or the store are not counted.
 *
 * @param per_second  0, the default, for no limit
 * @param err         receives the error detail; may be NULL
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_max_rate(struct spike_auth_config *config,
                                                   uint32_t per_second,
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
 * Cancels a handle: the call that uses it returns CANCELLED at once, and so does every later call. A started
 * call is handed out at once. A call that has ended is not affected. A cancelled handle stays cancelled. May
 * be called from any thread, any number of times; NULL is ignored. In a forked child, it cancels the child's
 * calls only, not the parent's.
 */
SPIKE_AUTH_API
void spike_auth_call_cancel(struct spike_auth_call *call);

/**
 * Frees a call handle. NULL is ignored. A waiting call must have returned. A started call is ended by it, and
 * is handed out no more; one that was handed out may be freed before the function that started it returns.
 */
SPIKE_AUTH_API
void spike_auth_call_free(struct spike_auth_call *call);

/**
 * The access token of a call that was started, once it has ended: status, details and token as the waiting
 * function would have given them, as often as asked, until the handle is started again or freed. Never
 * waits.
 *
 * @param call       a handle that was passed to a start function
 * @param token      receives the token and a NUL
 * @param token_cap  its size in bytes; SPIKE_AUTH_TOKEN_SIZE is always enough
 * @param token_len  receives the token's length without the NUL
 * @param err        receives the error detail; may be NULL
 *
 * Fails with PENDING (the call is under way), INVALID_ARGUMENT (the handle was never started),
 * BUFFER_TOO_SMALL (nothing is lost: call again), CANCELLED (also in a forked child of the process that
 * started it), and with each status of the waiting function.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_call_get_token(const struct spike_auth_call *call,
                                              char *token,
                                              size_t token_cap,
                                              size_t *token_len,
                                              struct spike_auth_error *err);

/**
 * The value of an Authorization header of a call that was started: "Bearer ", and the token as
 * spike_auth_call_get_token() gives it.
 *
 * @param call     as there
 * @param out      receives the value and a NUL
 * @param out_cap  its size in bytes; SPIKE_AUTH_AUTHORIZATION_SIZE is always enough
 * @param out_len  receives the length without the NUL
 * @param err      receives the error detail; may be NULL
 *
 * Fails as spike_auth_call_get_token() does.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_call_get_authorization(const struct spike_auth_call *call,
                                                      char *out,
                                                      size_t out_cap,
                                                      size_t *out_len,
                                                      struct spike_auth_error *err);

/**
 * Makes a client from a configuration. The configuration is copied: it may be changed or freed afterwards.
 * Loads the trusted roots if the base URL is https, or the store is reached by TLS. Does not connect.
 *
 * @param config  a configuration with an application id
 * @param client  receives the handle, NULL on failure. Free it with spike_auth_client_free().
 * @param err     receives the error detail; may be NULL
 *
 * Fails with INCOMPLETE_CONFIG, INVALID_ARGUMENT (the connect timeout is longer than the timeout of a call),
 * INVALID_ENVIRONMENT (the base URL would be reached through a proxy that spike_auth_config_load_env() found
 * and that cannot be used), TLS_ROOTS, INTERNAL (the system provides no random numbers, or the self-test of
 * signing failed).
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_new(const struct spike_auth_config *config,
                                          struct spike_auth_client **client,
                                          struct spike_auth_error *err);

/**
 * Closes a client: calls in progress return CLOSED at once, and so does every later call. Calls that were
 * started are handed out at once, with CLOSED. May be called from any thread, any number of times; NULL is
 * ignored. The handle stays valid until it is freed.
 */
SPIKE_AUTH_API
void spike_auth_client_close(const struct spike_auth_client *client);

/**
 * Closes a client, frees it, and wipes its key and its tokens. NULL is ignored. No other thread may be
 * inside a call on it: close it first, wait until all calls have returned, then free it. Calls that were
 * started need not have been taken: their results stay in their handles. Waits for the client's background
 * threads to end.
 */
SPIKE_AUTH_API
void spike_auth_client_free(struct spike_auth_client *client);

/**
 * Signs one user id with the client's key: HMAC-SHA256 as 64 lowercase hex characters. Takes no lock,
 * allocates nothing, makes no system call.
 *
 * @param user_id        1 to 128 bytes of A-Z a-z 0-9 . _ - ; signed byte for byte, never trimmed
 * @param user_id_len    length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param signature      receives the signature and a NUL. It never expires: protect it like a password.
 * @param signature_cap  size of signature in bytes: SPIKE_AUTH_SIGNATURE_SIZE or more
 * @param signature_len  receives 64
 * @param err            receives the error detail; may be NULL
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
 * Changes the key of a client while other threads use it. Later calls sign with the new key. Kept tokens stay, and
 * exchanges under way finish: one whose signature the service refuses is repeated with the new key. With a store, tokens
 * are looked for and kept under the new key. Thread-safe.
 *
 * @param key      the key as the console shows it, 1 to 4096 bytes, not decoded; copied
 * @param key_len  its length in bytes; SPIKE_AUTH_NUL_TERMINATED is refused
 * @param err      receives the error detail; may be NULL
 *
 * The old key is wiped when the last call that uses it has ended. A client whose key came from SPIKE_HMAC_KEY_FILE needs
 * no call: after a 401 it reads the file again, at most once in five seconds. After this call it does not. A client that
 * was made without a key has one from then on. Fails with INVALID_KEY, CLOSED, INTERNAL (the system gives no memory).
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_set_hmac_key(const struct spike_auth_client *client,
                                                   const uint8_t *key,
                                                   size_t key_len,
                                                   struct spike_auth_error *err);

/**
 * Signs many user ids in one call. The layout is that of an Arrow array of large strings, so such an array
 * can be passed without a copy. Allocates nothing, sends nothing; about a third faster per id than single
 * calls.
 *
 * @param ids             all ids in one block of bytes, without separators or NULs
 * @param ids_len         length of ids in bytes; SPIKE_AUTH_NUL_TERMINATED is refused
 * @param offsets         count + 1 offsets into ids: id i is from offsets[i] to offsets[i + 1]. They must
 *                        not be negative, decrease, or exceed ids_len. May be NULL if count is 0.
 * @param count           the number of ids
 * @param signatures      receives 64 hex characters per id, without NULs: id i at signatures + 64 * i
 * @param signatures_cap  size of signatures in bytes: 64 * count or more
 * @param statuses        receives count statuses, OK or INVALID_USER_ID; may be NULL
 * @param err             receives the error detail; may be NULL
 *
 * This is the one function that can succeed in part: an invalid id receives 64 NUL bytes as its signature,
 * all others are signed, and the function returns INVALID_USER_ID with the index of the first invalid id in
 * the message. If it fails with NULL_POINTER, INVALID_ARGUMENT, BUFFER_TOO_SMALL, KEY_REQUIRED or CLOSED,
 * nothing was written.
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
 * Signs a user id and exchanges the signature for that user's access token. Always sends a request; does not
 * use the cache. Blocks until the token arrives, the service refuses, or the deadline passes. Failures that
 * may be temporary (no connection, a lost one, 408, 425, 429, 500, 502, 503, 504) are retried within the
 * deadline, up to the maximum number of attempts, after a delay that the service's Retry-After can lengthen.
 *
 * A 429, or a 503 with Retry-After, holds back all requests of the client for the time it names, at most 10
 * minutes. A call whose deadline is earlier fails at once with RATE_LIMITED or SERVER_ERROR, `attempts` 0
 * and the remaining time in retry_after_ms; the others wait. After that time one request is sent first, and
 * the others wait for its result.
 *
 * @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
 * @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param call         a call handle with its own deadline and cancellation, or NULL for the client's
 *                     deadline
 * @param token        receives the token and a NUL: 1 to 8192 characters that are valid in an HTTP header
 * @param token_cap    size of token in bytes. A size below SPIKE_AUTH_TOKEN_SIZE fails with BUFFER_TOO_SMALL
 *                     before anything is sent.
 * @param token_len    receives the token's length without the NUL
 * @param err          receives the error detail; may be NULL
 *
 * Fails with INVALID_USER_ID, KEY_REQUIRED, BUFFER_TOO_SMALL, CLOSED, and any status from 40 on.
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
 * Exchanges a signature that was made elsewhere, by a machine that has the key. The client needs no key.
 *
 * @param user_id        the signed id, byte for byte
 * @param user_id_len    length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param signature      64 hex characters in upper or lower case
 * @param signature_len  length of signature in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param call           see spike_auth_client_exchange()
 * @param token          see spike_auth_client_exchange()
 * @param token_cap      see spike_auth_client_exchange()
 * @param token_len      receives the token's length without the NUL
 * @param err            receives the error detail; may be NULL
 *
 * Fails with INVALID_SIGNATURE (also if it is NULL or empty), and the statuses of
 * spike_auth_client_exchange() except KEY_REQUIRED.
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
 * Sets the maximum number of tokens in the cache. If it is full, a token that was not used lately is
 * evicted. The default is 100 000.
 *
 * @param entries  0 for no cache; concurrent calls for the same user still share one exchange
 * @param err      receives the error detail; may be NULL
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_cache_capacity(struct spike_auth_config *config,
                                                         uint32_t entries,
                                                         struct spike_auth_error *err);

/**
 * Sets the maximum memory of the cached tokens; the limit of spike_auth_config_set_cache_capacity() holds
 * too. The default is 64 MiB.
 *
 * @param bytes  bytes; 0 for the default. A token takes about 200 bytes more than its length and that of the
 *               user id. A token that could never fit is returned but not cached.
 * @param err    receives the error detail; may be NULL
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_cache_max_bytes(struct spike_auth_config *config,
                                                          uint64_t bytes,
                                                          struct spike_auth_error *err);

/**
 * Sets the age at which a cached token is renewed. The default is one hour, because a token without an
 * expiry must not live long after it was revoked. A token with an expiry is also renewed before it expires:
 * by 60 seconds, or by a tenth of its lifetime if that is less.
 *
 * The first call that asks for a token due for renewal makes an exchange, while the others receive the old
 * token. If the exchange fails and the failure may be temporary, the old token is returned until it expires;
 * one without an expiry, until twice this age. Both end 49 days after the time of renewal at the latest.
 * Time during which the machine is suspended does not count.
 *
 * @param ms   milliseconds; 0 for no limit
 * @param err  receives the error detail; may be NULL
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_cache_ttl_ms(struct spike_auth_config *config,
                                                       uint64_t ms,
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
 * Sets the Redis or Valkey, or a node of a cluster, in which processes and machines share their tokens. A token that one of them has
 * fetched is handed out by all, and while one fetches a user's token, the others wait for it. The default is
 * none.
 *
 * A client with a store and an HMAC key looks there before it makes an exchange; what it holds itself is handed
 * out as without a store. Records are encrypted with a key that is derived from the HMAC key: the operator of
 * the store can delete or delay them, but not read them. The store's own password is not protected by redis:// and
 * valkey://: use rediss:// or valkeys:// (TLS, with the trusted roots of the configuration) across a network.
 * The proxy is never used.
 *
 * No call fails because of the store. If it cannot be used, tokens are fetched as without one; after three
 * failures in a row it is skipped for five seconds. spike_auth_client_check_store() tells whether it works.
 *
 * @param url      redis://[user:password@]host[:port][/db], rediss:// for TLS, or
 *                 unix://[user:password@]/path[?db=N]; valkey:// and valkeys:// mean the same. User and password
 *                 are percent-encoded. The default port is 6379. Empty for none.
 * @param url_len  length of url in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param err      receives the error detail; may be NULL
 *
 * Fails with INVALID_URL.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_store(struct spike_auth_config *config,
                                                const char *url,
                                                size_t url_len,
                                                struct spike_auth_error *err);

/**
 * Sets the timeout of one operation of the store, connecting included. An operation never takes more than a
 * quarter of the time that its call has left. The default is 250 ms.
 *
 * @param ms   milliseconds, 1 to 10 000; 0 for the default
 * @param err  receives the error detail; may be NULL
 *
 * Fails with INVALID_ARGUMENT.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_config_set_store_timeout_ms(struct spike_auth_config *config,
                                                           uint32_t ms,
                                                           struct spike_auth_error *err);

/**
 * Tries every command that the store needs, on a random key, whose record it deletes again. This is the way to see
 * a wrong setting, because no other call fails by one. Call it when the program starts, and log its message.
 *
 * @param call  a call handle with its own deadline and cancellation, or NULL for the client's deadline
 * @param err   receives the error detail: which command failed, and what to do; may be NULL
 *
 * Fails with STORE (also if no store is set), KEY_REQUIRED, CANCELLED, CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_check_store(const struct spike_auth_client *client,
                                                  const struct spike_auth_call *call,
                                                  struct spike_auth_error *err);

/**
 * Drops the token of a user from the client's cache, as spike_auth_client_forget() does, and from the store. Other
 * processes keep theirs until it expires or is renewed, and an exchange in progress may store its token again.
 *
 * @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ -
 * @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param call         see spike_auth_client_check_store()
 * @param err          receives the error detail; may be NULL
 *
 * Succeeds if nothing is there, or if no store is set. Fails with STORE if the store cannot be reached (the cache
 * has forgotten the token then), INVALID_USER_ID, KEY_REQUIRED, CANCELLED, CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_forget_shared(const struct spike_auth_client *client,
                                                    const char *user_id,
                                                    size_t user_id_len,
                                                    const struct spike_auth_call *call,
                                                    struct spike_auth_error *err);

/**
 * Makes a queue. It takes one descriptor.
 *
 * @param queue  receives the handle, NULL on failure. Free it with spike_auth_queue_free().
 * @param err    receives the error detail; may be NULL
 *
 * Fails with INTERNAL (no descriptor is left).
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_queue_new(struct spike_auth_queue **queue,
                                         struct spike_auth_error *err);

/**
 * Returns the descriptor of a queue, for poll, epoll, or an event loop: it is readable while there is
 * something to take. It may also be readable with nothing to take. Level-triggered; a program that waits for
 * edges takes until `count` is less than `cap`. Do not read from it, write to it or close it. It is valid
 * until the queue is freed. -1 in a forked child, for NULL, and if you have closed it.
 */
SPIKE_AUTH_API
int32_t spike_auth_queue_fd(const struct spike_auth_queue *queue);

/**
 * Takes the tags of calls that have ended, first ended first. Each started call is handed out exactly once,
 * to one thread, whatever its result, unless its handle was freed before.
 *
 * @param queue  a queue
 * @param tags   receives at most `cap` tags; NULL is allowed if `cap` is 0
 * @param cap    how many tags have room
 * @param count  receives how many were written. Less than `cap`: nothing is left.
 * @param err    receives the error detail; may be NULL
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_queue_take(const struct spike_auth_queue *queue,
                                          uint64_t *tags,
                                          size_t cap,
                                          size_t *count,
                                          struct spike_auth_error *err);

/**
 * Frees a queue and closes its descriptor: remove that from your event loop first. Calls that were started
 * with it continue, and are not handed out. NULL is ignored.
 */
SPIKE_AUTH_API
void spike_auth_queue_free(struct spike_auth_queue *queue);

/**
 * Starts what spike_auth_client_get_token() does, and returns at once. When the call has ended, the queue
 * hands out its tag, and spike_auth_call_get_token() or spike_auth_call_get_authorization() gives its result.
 * The deadline counts from here. A token that is in the cache is handed out like any other;
 * spike_auth_client_peek_token() first costs a tenth of that.
 *
 * Started calls are served in the order in which they were started, at most the client's maximum concurrency
 * at once. There is no limit on how many wait.
 *
 * @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ - ; copied
 * @param user_id_len  its length in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param call         a handle with nothing under way; required. It must stay until the call has ended, or
 *                     freeing it ends the call.
 * @param queue        hands out the call when it has ended
 * @param tag          any number, such as an index or a pointer
 * @param err          receives the error detail; may be NULL
 *
 * Fails with INVALID_USER_ID, KEY_REQUIRED, CLOSED, CANCELLED (the handle was cancelled before),
 * INVALID_ARGUMENT (something is under way with the handle, or the queue belongs to a parent process), INTERNAL
 * (you have closed the queue's descriptor): then nothing is handed out. Any other failure is the result of the
 * call.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_start_token(const struct spike_auth_client *client,
                                                  const char *user_id,
                                                  size_t user_id_len,
                                                  struct spike_auth_call *call,
                                                  const struct spike_auth_queue *queue,
                                                  uint64_t tag,
                                                  struct spike_auth_error *err);

/**
 * Starts what spike_auth_client_exchange() does, as spike_auth_client_start_token() starts its call.
 *
 * @param user_id      as there
 * @param user_id_len  as there
 * @param call         as there
 * @param queue        as there
 * @param tag          as there
 * @param err          receives the error detail; may be NULL
 *
 * Fails as spike_auth_client_start_token() does.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_start_exchange(const struct spike_auth_client *client,
                                                     const char *user_id,
                                                     size_t user_id_len,
                                                     struct spike_auth_call *call,
                                                     const struct spike_auth_queue *queue,
                                                     uint64_t tag,
                                                     struct spike_auth_error *err);

/**
 * Starts what spike_auth_client_exchange_signature() does, as spike_auth_client_start_token() starts its
 * call. Needs no key.
 *
 * @param user_id        as there
 * @param user_id_len    as there
 * @param signature      64 hexadecimal characters; copied
 * @param signature_len  its length in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param call           as there
 * @param queue          as there
 * @param tag            as there
 * @param err            receives the error detail; may be NULL
 *
 * Fails with INVALID_SIGNATURE, and as spike_auth_client_start_token() does, but not with KEY_REQUIRED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_start_exchange_signature(const struct spike_auth_client *client,
                                                               const char *user_id,
                                                               size_t user_id_len,
                                                               const char *signature,
                                                               size_t signature_len,
                                                               struct spike_auth_call *call,
                                                               const struct spike_auth_queue *queue,
                                                               uint64_t tag,
                                                               struct spike_auth_error *err);

/**
 * Reads the counters of a client's cache.
 *
 * @param stats  receives the counters; need not be initialised. All zero if the function fails.
 * @param err    receives the error detail; may be NULL
 *
 * Fails with CLOSED.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_stats(const struct spike_auth_client *client,
                                            struct spike_auth_stats *stats,
                                            struct spike_auth_error *err);

/**
 * Finds out why a client does not work. Looks at one thing after the other, and writes a report as one line of JSON.
 * Makes a new connection, and one request if there is a user id; asks the store, if there is one. Uses and changes
 * nothing of the cache. Blocks until the deadline at most. The report holds no secret, and not the user id.
 *
 * @param user_id      the user for whom one exchange is tried, 1 to 128 bytes of A-Z a-z 0-9 . _ - ; NULL or empty for no
 *                     exchange
 * @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
 * @param call         a call handle with its own deadline and cancellation, or NULL for the client's deadline
 * @param report       receives the report and a NUL, UTF-8 without control characters
 * @param report_cap   size of report in bytes. A size below SPIKE_AUTH_REPORT_SIZE fails with BUFFER_TOO_SMALL before
 *                     anything is sent.
 * @param report_len   receives the report's length without the NUL
 * @param err          receives the error detail; may be NULL
 *
 * The function succeeds if it could write a report, whatever that says. Its members: version (of the library), ok (no
 * check has failed), cure (what to do first, or null), checks. Each check has name, status ("ok", "warning", "failed",
 * "skipped"), ms (how long it took), message, cure (or null), and members of its own. In this order:
 *
 * - settings: `settings`, a list of name, value, from (a variable of the environment, "program" or "default")
 * - key: `length` in bytes
 * - proxy: `proxy`, host:port or "none"
 * - resolve: `host`, host:port, of the proxy if there is one; `addresses`, a list of at most 16
 * - connect: `peer`, the address
 * - tls: `version`, `issuer`, `days_left` (or null), `roots` (their number), `roots_from`
 * - exchange: `http_status`
 * - clock: `ahead_s`, by how many seconds this machine's clock is ahead of the service's
 * - store: none
 *
 * A check has its own members only where it was made and what they name is known. Later versions may add members and
 * checks.
 *
 * Fails with INVALID_USER_ID, BUFFER_TOO_SMALL, CANCELLED, CLOSED, INTERNAL.
 */
SPIKE_AUTH_API
SPIKE_AUTH_MUST_USE
spike_auth_status_t spike_auth_client_diagnose(const struct spike_auth_client *client,
                                               const char *user_id,
                                               size_t user_id_len,
                                               const struct spike_auth_call *call,
                                               char *report,
                                               size_t report_cap,
                                               size_t *report_len,
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
