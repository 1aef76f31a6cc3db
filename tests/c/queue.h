/* Started calls and queues as a C program sees them. */
#ifndef QUEUE_H
#define QUEUE_H

#include <errno.h>
#include <poll.h>

#include "cache.h"

/* The bytes that are allocated. Only glibc counts them: with another C library it is 0, and no bound on it fails. */
#ifdef __GLIBC__
#include <malloc.h>
static inline size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}
#else
static inline size_t allocated(void)
{
    return 0;
}
#endif

/* All functions that start a call, in one form. */
typedef int32_t start_call(const spike_auth_client *client, const char *user, size_t user_len, spike_auth_call *call,
                           const spike_auth_queue *queue, uint64_t tag, spike_auth_error *err);

/* All functions that give the result of a started call, in one form. */
typedef int32_t read_call(const spike_auth_call *call, char *out, size_t cap, size_t *len, spike_auth_error *err);

static inline int32_t start_signature(const spike_auth_client *client, const char *user, size_t user_len,
                                      spike_auth_call *call, const spike_auth_queue *queue, uint64_t tag,
                                      spike_auth_error *err)
{
    char signature[SPIKE_AUTH_SIGNATURE_SIZE] = "";
    size_t len;
    int32_t status = spike_auth_sign_user(KEY, KEY_LEN, user, user_len, signature, sizeof signature, &len, NULL);
    if (status != SPIKE_AUTH_STATUS_OK)
        memset(signature, '0', sizeof signature - 1);
    return spike_auth_client_start_exchange_signature(client, user, user_len, signature, SPIKE_AUTH_SIGNATURE_SIZE - 1,
                                                      call, queue, tag, err);
}

static inline int32_t exchange_signature(const spike_auth_client *client, const char *user, size_t user_len,
                                         const spike_auth_call *call, char *out, size_t cap, size_t *len,
                                         spike_auth_error *err)
{
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    sign_for(user, signature);
    return spike_auth_client_exchange_signature(client, user, user_len, signature, NUL_TERMINATED, call, out, cap, len,
                                                err);
}

static const struct starter {
    const char *name;
    start_call *start;
    text_call *wait; /* the waiting function */
    int needs_key;
} STARTERS[] = {
    {"start_token", spike_auth_client_start_token, spike_auth_client_get_token, 1},
    {"start_exchange", spike_auth_client_start_exchange, spike_auth_client_exchange, 1},
    {"start_exchange_signature", start_signature, exchange_signature, 0},
};

#define FOR_EACH_STARTER(one) \
    for (const struct starter *one = STARTERS; one < STARTERS + COUNT_OF(STARTERS); one++)

static inline spike_auth_queue *new_queue(void)
{
    spike_auth_queue *queue = NULL;
    REQUIRE(spike_auth_queue_new(&queue, NULL) == SPIKE_AUTH_STATUS_OK);
    return queue;
}

static inline spike_auth_call *new_call(void)
{
    spike_auth_call *call = NULL;
    REQUIRE(spike_auth_call_new(&call, NULL) == SPIKE_AUTH_STATUS_OK);
    return call;
}

static inline spike_auth_call *new_call_of(uint32_t timeout_ms)
{
    spike_auth_call *call = new_call();
    REQUIRE(spike_auth_call_set_timeout_ms(call, timeout_ms, NULL) == SPIKE_AUTH_STATUS_OK);
    return call;
}

static inline void start_token(const spike_auth_client *client, const char *user, spike_auth_call *call,
                               const spike_auth_queue *queue, uint64_t tag)
{
    spike_auth_error err;
    int32_t status = spike_auth_client_start_token(client, user, NUL_TERMINATED, call, queue, tag, &err);
    check_that(status == SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__, "%s: %s", user, err.message);
}

/* Whether the queue becomes readable within this time. */
static inline int is_readable(const spike_auth_queue *queue, int ms)
{
    struct pollfd fd = {.fd = spike_auth_queue_fd(queue), .events = POLLIN};
    int ready;
    while ((ready = poll(&fd, 1, ms)) < 0 && errno == EINTR)
        ;
    return ready == 1;
}

static inline size_t take(const spike_auth_queue *queue, uint64_t *tags, size_t cap)
{
    size_t count = 77;
    spike_auth_error err;
    CHECK_STATUS(spike_auth_queue_take(queue, tags, cap, &count, &err), SPIKE_AUTH_STATUS_OK);
    check_error_is_whole(&err, SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__);
    CHECK(count <= cap);
    return count;
}

/* Takes exactly these. */
static inline void take_all(const spike_auth_queue *queue, uint64_t *tags, size_t count)
{
    uint64_t one_more;
    for (size_t taken = 0; taken < count;) {
        REQUIRE(is_readable(queue, 30000));
        taken += take(queue, tags + taken, count - taken);
    }
    CHECK_EQ_INT(take(queue, &one_more, 1), 0);
}

static inline void take_one(const spike_auth_queue *queue, uint64_t expected)
{
    uint64_t tag = ~expected;
    take_all(queue, &tag, 1);
    CHECK_EQ_INT(tag, expected);
}

static inline void check_nothing_to_take(const spike_auth_queue *queue)
{
    uint64_t tag;
    CHECK_EQ_INT(take(queue, &tag, 1), 0);
    CHECK(!is_readable(queue, 0));
}

static inline struct result result_of(const spike_auth_call *call)
{
    struct result result;
    memset(&result, 0xA5, sizeof result);
    result.status = spike_auth_call_get_token(call, result.token, sizeof result.token, &result.len, &result.err);
    check_result(&result);
    return result;
}

/* Only the status, for tests with many calls. */
static inline int32_t status_of(const spike_auth_call *call)
{
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    return spike_auth_call_get_token(call, token, sizeof token, &len, NULL);
}

/* Line `name` of /proc/self/status, as a number. */
static inline long of_process(const char *name)
{
    char line[256];
    long number = -1;
    FILE *file = fopen("/proc/self/status", "re");
    REQUIRE(file != NULL);
    while (number < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            number = strtol(line + strlen(name) + 1, NULL, 10);
    fclose(file);
    return number;
}

static inline long count_threads(void)
{
    return of_process("Threads");
}

static inline int becomes_single_threaded(int ms)
{
    double start = now_ms();
    while (count_threads() > 1)
        if (now_ms() - start > ms)
            return 0;
        else
            sleep_ms(1);
    return 1;
}

/* Faults for a user from now on; "" removes them. */
static inline void set_fault(const char *user, const char *spec)
{
    char body[256];
    snprintf(body, sizeof body, "{\"user\":\"%s\",\"spec\":\"%s\"}", user, spec);
    control("faults", body);
}

#endif
