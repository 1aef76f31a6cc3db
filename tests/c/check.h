/* A small check harness: a failed check prints where and what, and the program continues. C11 and POSIX. */
#ifndef CHECK_H
#define CHECK_H

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <spike_auth.h>

/* ---- counting and reporting -------------------------------------------------------------------- */

static atomic_uint check_passed;
static atomic_uint check_failed;

/* The round of a loop; a failed check prints it. */
static _Thread_local char check_round[200];

__attribute__((format(printf, 1, 2))) static inline void in_round(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check_round, sizeof check_round, format, arguments);
    va_end(arguments);
}

__attribute__((format(printf, 4, 5))) static inline int check_that(int holds, const char *file, int line,
                                                                   const char *format, ...)
{
    char what[1200];
    va_list arguments;
    if (holds) {
        atomic_fetch_add(&check_passed, 1);
        return 1;
    }
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    atomic_fetch_add(&check_failed, 1);
    fprintf(stderr, "%s:%d: %s%s%s%s\n", file, line, what, check_round[0] ? " [" : "", check_round,
            check_round[0] ? "]" : "");
    return 0;
}

static inline int check_int(long long actual, long long expected, const char *file, int line, const char *what)
{
    return check_that(actual == expected, file, line, "%s is %lld, not %lld", what, actual, expected);
}

static inline int check_status(int32_t actual, int32_t expected, const char *file, int line, const char *what)
{
    return check_that(actual == expected, file, line, "%s\n    is %s (%d), not %s (%d)", what,
                      spike_auth_status_name(actual), (int)actual, spike_auth_status_name(expected),
                      (int)expected);
}

static inline int check_str(const char *actual, const char *expected, const char *file, int line,
                            const char *what)
{
    return check_that(strcmp(actual, expected) == 0, file, line, "%s is \"%s\", not \"%s\"", what, actual,
                      expected);
}

#define CHECK(condition) check_that(!!(condition), __FILE__, __LINE__, "%s does not hold", #condition)
#define CHECK_EQ_INT(actual, expected) \
    check_int((long long)(actual), (long long)(expected), __FILE__, __LINE__, #actual)
#define CHECK_STATUS(actual, expected) check_status(actual, expected, __FILE__, __LINE__, #actual)
#define CHECK_STR(actual, expected) check_str(actual, expected, __FILE__, __LINE__, #actual)
#define CHECK_CONTAINS(text, part) \
    check_that(strstr(text, part) != NULL, __FILE__, __LINE__, "\"%s\" is not in \"%s\"", part, text)
#define CHECK_LACKS(text, part) \
    check_that(strstr(text, part) == NULL, __FILE__, __LINE__, "\"%s\" is in \"%s\"", part, text)

/* Ends the program if the condition does not hold. */
#define REQUIRE(condition)                                                             \
    do {                                                                               \
        if (!CHECK(condition)) {                                                       \
            fprintf(stderr, "giving up: the rest of the program needs this\n");        \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

/* Runs a test function, and prints its name if a check fails. */
#define RUN(test) check_run(test, #test)

static inline void check_run(void (*test)(void), const char *name)
{
    unsigned failed_before = atomic_load(&check_failed);
    check_round[0] = 0;
    test();
    check_round[0] = 0;
    if (atomic_load(&check_failed) != failed_before)
        fprintf(stderr, "FAILED %s\n", name);
}

/* Prints the last line and returns the exit code. A program without checks fails. */
static inline int check_summary(void)
{
    unsigned passed = atomic_load(&check_passed);
    unsigned failed = atomic_load(&check_failed);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- signals ------------------------------------------------------------------------------------ */

/* A program inherits ignored and blocked signals. */
static inline void set_signal(int number, void (*action)(int))
{
    struct sigaction new = {.sa_handler = action};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    REQUIRE(sigaction(number, &new, NULL) == 0);
    REQUIRE(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
}

/* ---- buffers that detect writes beyond their end ----------------------------------------------- */

enum buffer_kind {
    GUARDED, /* between guard bytes; uninitialised, so that memcheck reports a read */
    FENCED   /* directly before an inaccessible page: a read beyond the end is a fault too */
};

struct buffer {
    unsigned char *at;
    size_t size;
    unsigned char *block;
    size_t block_size;
    enum buffer_kind kind;
};

enum { GUARD_SIZE = 64, GUARD_BYTE = 0xC3 };

static inline struct buffer buffer_guarded(size_t size)
{
    struct buffer buffer = {NULL, size, NULL, size + 2 * GUARD_SIZE, GUARDED};
    buffer.block = malloc(buffer.block_size);
    REQUIRE(buffer.block != NULL);
    buffer.at = buffer.block + GUARD_SIZE;
    memset(buffer.block, GUARD_BYTE, GUARD_SIZE);
    memset(buffer.at + size, GUARD_BYTE, GUARD_SIZE);
    return buffer;
}

static inline struct buffer buffer_fenced(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t usable = (size + page - 1) / page * page;
    struct buffer buffer = {NULL, size, NULL, usable + page, FENCED};
    void *map = mmap(NULL, buffer.block_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(map != MAP_FAILED);
    buffer.block = map;
    REQUIRE(mprotect(buffer.block + usable, page, PROT_NONE) == 0);
    buffer.at = buffer.block + usable - size;
    memset(buffer.block, GUARD_BYTE, usable - size);
    return buffer;
}

static inline struct buffer buffer_new(enum buffer_kind kind, size_t size)
{
    return kind == FENCED ? buffer_fenced(size) : buffer_guarded(size);
}

static inline void buffer_free(struct buffer *buffer)
{
    if (buffer->kind == FENCED)
        munmap(buffer->block, buffer->block_size);
    else
        free(buffer->block);
}

static inline int all_bytes_are(const void *bytes, size_t size, unsigned char value)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        if (at[i] != value)
            return 0;
    return 1;
}

static inline int buffer_is_intact(const struct buffer *buffer)
{
    const unsigned char *end = buffer->at + buffer->size;
    if (!all_bytes_are(buffer->block, (size_t)(buffer->at - buffer->block), GUARD_BYTE))
        return 0;
    return buffer->kind == FENCED || all_bytes_are(end, GUARD_SIZE, GUARD_BYTE);
}

static inline struct buffer buffer_of_text(enum buffer_kind kind, const char *text)
{
    struct buffer buffer = buffer_new(kind, strlen(text));
    memcpy(buffer.at, text, buffer.size);
    return buffer;
}

/* ---- the error struct ------------------------------------------------------------------------- */

/* Two error structs, each at the end of its page and filled with its own poison: bytes that differ after
 * a call were not written. */
static inline spike_auth_error *poisoned_error(int which)
{
    static struct buffer places[2];
    struct buffer *place = &places[which];
    if (place->at == NULL)
        *place = buffer_fenced(sizeof(spike_auth_error));
    memset(place->at, which ? 0x5A : 0xA5, place->size);
    return (spike_auth_error *)(void *)place->at;
}

static inline void check_error_is_whole(const spike_auth_error *err, int32_t status, const char *file, int line)
{
    int terminated = memchr(err->message, 0, sizeof err->message) != NULL;
    check_int(err->status, status, file, line, "err->status");
    check_that(terminated, file, line, "err->message has no NUL");
    check_that(all_bytes_are(err->reserved, sizeof err->reserved, 0), file, line, "err->reserved is not zero");
    check_that(err->retryable <= 1, file, line, "err->retryable is %u", (unsigned)err->retryable);
    if (status == SPIKE_AUTH_STATUS_OK)
        check_that(err->message[0] == 0, file, line, "success has a message");
    else
        check_that(terminated && strlen(err->message) > 20, file, line, "the message is too short");
    /* Nothing was sent. But a close may come during a request, and a success counts its requests. */
    if (status < SPIKE_AUTH_STATUS_RESOLVE && status != SPIKE_AUTH_STATUS_CLOSED) {
        check_int(err->http_status, 0, file, line, "err->http_status");
        if (status != SPIKE_AUTH_STATUS_OK)
            check_int(err->attempts, 0, file, line, "err->attempts");
        check_int(err->retryable, 0, file, line, "err->retryable");
        check_int(err->retry_after_ms, -1, file, line, "err->retry_after_ms");
    }
}

/* Makes a call three times: without an error struct, and with two that hold different poison. `call`
 * must use `err`. Each must return the status, and both structs must be rewritten completely. */
#define EXPECT(name, call) EXPECT_AROUND(name, call, (void)0, (void)0)
#define EXPECT_AROUND(name, call, before, after) EXPECT_STATUS_AROUND(SPIKE_AUTH_STATUS_##name, call, before, after)
#define EXPECT_STATUS(status, call) EXPECT_STATUS_AROUND(status, call, (void)0, (void)0)

#define EXPECT_STATUS_AROUND(status, call, before, after)                                            \
    do {                                                                                             \
        const int32_t expected_ = (status);                                                          \
        const spike_auth_error *errors_[2];                                                          \
        for (int round_ = -1; round_ < 2; round_++) {                                                \
            spike_auth_error *err = round_ < 0 ? NULL : poisoned_error(round_);                      \
            before;                                                                                  \
            CHECK_STATUS(call, expected_);                                                           \
            after;                                                                                   \
            if (round_ >= 0) {                                                                       \
                errors_[round_] = err;                                                               \
                check_error_is_whole(err, expected_, __FILE__, __LINE__);                            \
            }                                                                                        \
        }                                                                                            \
        check_that(memcmp(errors_[0], errors_[1], sizeof *errors_[0]) == 0, __FILE__, __LINE__,      \
                   "a part of err was not rewritten by %s", #call);                                  \
    } while (0)

/* ---- text output ------------------------------------------------------------------------------- */

struct text_out {
    struct buffer buffer;
    char *at;
    size_t cap;
    size_t len;
    size_t needed; /* the length that BUFFER_TOO_SMALL reports */
};

static inline struct text_out text_out_new(enum buffer_kind kind, size_t cap, size_t needed)
{
    struct text_out out = {buffer_new(kind, cap), NULL, cap, 0, needed};
    out.at = (char *)out.buffer.at;
    return out;
}

static inline void text_out_free(struct text_out *out)
{
    buffer_free(&out->buffer);
}

static inline void text_out_poison(struct text_out *out)
{
    memset(out->at, 0xEE, out->cap);
    out->len = 0xEEEE;
}

static inline void check_text_out(const struct text_out *out, int32_t status, const char *file, int line)
{
    check_that(buffer_is_intact(&out->buffer), file, line, "the guard bytes were overwritten");
    if (status == SPIKE_AUTH_STATUS_OK) {
        int fits = check_that(out->len > 0 && out->len < out->cap, file, line, "the length is %zu", out->len);
        check_that(fits && out->at[out->len] == 0, file, line, "the text does not end with a NUL");
        check_that(fits && strlen(out->at) == out->len, file, line, "the text has a NUL inside");
        return;
    }
    check_that(out->cap == 0 || out->at[0] == 0, file, line, "the buffer does not hold the empty text");
    check_int((long long)out->len, status == SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL ? (long long)out->needed : 0,
              file, line, "the length");
}

/* As EXPECT, for a call that writes a text to `out`. */
#define EXPECT_TEXT(name, out, call) EXPECT_TEXT_STATUS(SPIKE_AUTH_STATUS_##name, out, call)
#define EXPECT_TEXT_STATUS(status, out, call) \
    EXPECT_STATUS_AROUND(status, call, text_out_poison(&(out)), check_text_out(&(out), expected_, __FILE__, __LINE__))

/* ---- settings and clients ---------------------------------------------------------------------- */

#define KEY_TEXT "HMAC_KEY_FROM_ADMIN_CONSOLE"
#define KEY ((const uint8_t *)KEY_TEXT)
#define KEY_LEN (sizeof KEY_TEXT - 1)
#define APPLICATION_ID "9999"
#define NUL_TERMINATED SPIKE_AUTH_NUL_TERMINATED

/* Lengths that no object can have, and that do not mean "NUL-terminated". */
static const size_t IMPOSSIBLE_LENGTHS[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX - 1};

static inline spike_auth_config *new_config(const char *base_url)
{
    spike_auth_config *config = NULL;
    REQUIRE(spike_auth_config_new(&config, NULL) == SPIKE_AUTH_STATUS_OK);
    REQUIRE(spike_auth_config_set_application_id(config, APPLICATION_ID, NUL_TERMINATED, NULL) == 0);
    REQUIRE(spike_auth_config_set_hmac_key(config, KEY, KEY_LEN, NULL) == 0);
    REQUIRE(spike_auth_config_set_base_url(config, base_url, NUL_TERMINATED, NULL) == 0);
    /* One attempt, so that the requests can be counted. */
    REQUIRE(spike_auth_config_set_max_attempts(config, 1, NULL) == 0);
    return config;
}

/* Makes a client and frees the configuration, which a client no longer needs. */
static inline spike_auth_client *client_of(spike_auth_config *config)
{
    spike_auth_client *client = NULL;
    spike_auth_error err;
    if (spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK)
        fprintf(stderr, "%s\n", err.message);
    REQUIRE(client != NULL);
    spike_auth_config_free(config);
    return client;
}

/* ---- calls for one user ------------------------------------------------------------------------ */

/* All calls that write a text for a user, in one form. */
typedef int32_t text_call(const spike_auth_client *client, const char *user, size_t user_len,
                          const spike_auth_call *call, char *out, size_t cap, size_t *len, spike_auth_error *err);

static inline int32_t peek_token(const spike_auth_client *client, const char *user, size_t user_len,
                                 const spike_auth_call *call, char *out, size_t cap, size_t *len,
                                 spike_auth_error *err)
{
    (void)call;
    return spike_auth_client_peek_token(client, user, user_len, out, cap, len, err);
}

/* NULL is refused, and so is an impossible capacity; the other outputs are empty. */
static inline void check_outputs_are_required(text_call *make, const spike_auth_client *client, const char *user)
{
    struct text_out out = text_out_new(GUARDED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
#define MAKE(at, cap, len) make(client, user, NUL_TERMINATED, NULL, at, cap, len, err)
    EXPECT_AROUND(NULL_POINTER, MAKE(NULL, out.cap, &out.len), out.len = 7, CHECK_EQ_INT(out.len, 0));
    EXPECT_AROUND(NULL_POINTER, MAKE(NULL, 0, &out.len), out.len = 7, CHECK_EQ_INT(out.len, 0));
    EXPECT_AROUND(NULL_POINTER, MAKE(out.at, out.cap, NULL), text_out_poison(&out), CHECK_EQ_INT(out.at[0], 0));
    EXPECT(NULL_POINTER, MAKE(out.at, 0, NULL));
    EXPECT(NULL_POINTER, MAKE(NULL, 0, NULL));
    EXPECT_TEXT(INVALID_ARGUMENT, out, MAKE(out.at, SIZE_MAX, &out.len));
    for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++)
        EXPECT_TEXT(INVALID_ARGUMENT, out, MAKE(out.at, IMPOSSIBLE_LENGTHS[i], &out.len));
#undef MAKE
    text_out_free(&out);
}

/* Outputs may be uninitialised, and the length unaligned. memcheck reports a read of an uninitialised
 * byte, and a byte that a call left so. */
static inline void check_outputs_may_be_uninitialised(text_call *make, const spike_auth_client *client,
                                                      const char *user, int32_t expected)
{
    struct buffer out = buffer_guarded(SPIKE_AUTH_AUTHORIZATION_SIZE);
    struct buffer len = buffer_guarded(sizeof(size_t) + 1);
    struct buffer error = buffer_guarded(sizeof(spike_auth_error));
    spike_auth_error *err = (spike_auth_error *)(void *)error.at;
    size_t length;
    CHECK_STATUS(make(client, user, NUL_TERMINATED, NULL, (char *)out.at, out.size, (void *)(len.at + 1), err),
                 expected);
    memcpy(&length, len.at + 1, sizeof length);
    CHECK_EQ_INT(strlen((char *)out.at), length);
    check_error_is_whole(err, expected, __FILE__, __LINE__);
    CHECK(!all_bytes_are(err, sizeof *err, 0x77)); /* looks at every byte */
    CHECK(buffer_is_intact(&out) && buffer_is_intact(&len) && buffer_is_intact(&error));
    buffer_free(&out);
    buffer_free(&len);
    buffer_free(&error);
}

#endif
