/* What a program needs to test the cache: to get, to look, to report, and to read the counters. */
#ifndef CACHE_H
#define CACHE_H

#include <pthread.h>

#include "sandbox.h"

static inline struct result get_by(const spike_auth_client *client, const char *user, const spike_auth_call *call)
{
    struct result result;
    double start = now_ms();
    memset(&result, 0xA5, sizeof result);
    result.status = spike_auth_client_get_token(client, user, NUL_TERMINATED, call, result.token, sizeof result.token,
                                                &result.len, &result.err);
    result.took_ms = now_ms() - start;
    check_result(&result);
    return result;
}

static inline struct result get(const spike_auth_client *client, const char *user)
{
    return get_by(client, user, NULL);
}

static inline struct result peek(const spike_auth_client *client, const char *user)
{
    struct result result;
    memset(&result, 0xA5, sizeof result);
    result.status = spike_auth_client_peek_token(client, user, NUL_TERMINATED, result.token, sizeof result.token,
                                                 &result.len, &result.err);
    check_result(&result);
    return result;
}

static inline int32_t report(const spike_auth_client *client, const char *user, const char *token)
{
    return spike_auth_client_invalidate(client, user, NUL_TERMINATED, token, NUL_TERMINATED, NULL);
}

static inline int32_t forget(const spike_auth_client *client, const char *user)
{
    return spike_auth_client_forget(client, user, NUL_TERMINATED, NULL);
}

/* Gets a token that must be the user's own, and gives it. */
static inline struct result get_own(const spike_auth_client *client, const char *user)
{
    struct result result = get(client, user);
    check_that(result.status == SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__, "%s: %s", user, result.err.message);
    check_that(token_is_for(result.token, user), __FILE__, __LINE__, "not the token of %s", user);
    return result;
}

static inline int is_cached(const spike_auth_client *client, const char *user)
{
    struct result result = peek(client, user);
    CHECK(result.status == SPIKE_AUTH_STATUS_OK || result.status == SPIKE_AUTH_STATUS_NOT_CACHED);
    return result.status == SPIKE_AUTH_STATUS_OK;
}

static inline spike_auth_stats stats_of(const spike_auth_client *client)
{
    spike_auth_stats stats;
    memset(&stats, 0xA5, sizeof stats);
    CHECK_STATUS(spike_auth_client_stats(client, &stats, NULL), SPIKE_AUTH_STATUS_OK);
    return stats;
}

/* How many requests have been sent for a user. */
static inline long requests_for(const char *user)
{
    static char reply[1 << 20];
    char member[160];
    const char *found;
    get_counters(reply, sizeof reply);
    snprintf(member, sizeof member, "\"%s\":", user);
    found = strstr(reply, member);
    return found ? strtol(found + strlen(member), NULL, 10) : 0;
}

/* What must hold at any moment. `asked`: how many calls the cache has answered or not, -1 where nobody knows. */
static inline void check_sums(const spike_auth_stats *stats, long asked)
{
    if (asked >= 0)
        CHECK_EQ_INT(stats->hits + stats->misses, asked);
    CHECK(stats->coalesced + stats->exchanges <= stats->misses);
    CHECK(stats->failures <= stats->exchanges);
    CHECK(stats->requests <= stats->exchanges + stats->retries);
    CHECK(all_bytes_are(stats->reserved, sizeof stats->reserved, 0));
}

/* ---- many callers at once ------------------------------------------------------------------------------ */

enum { MOST_CALLERS = 100 };

struct caller {
    const spike_auth_client *client;
    char user[129];
    spike_auth_call *call;
    const char *rejected; /* reported first; NULL: nothing is */
    pthread_barrier_t *start;
    pthread_t thread;
    struct result result;
};

static struct caller callers[MOST_CALLERS];

static inline void set_caller(int number, const spike_auth_client *client, const char *user, const char *rejected)
{
    struct caller *caller = &callers[number];
    caller->client = client;
    snprintf(caller->user, sizeof caller->user, "%s", user);
    caller->rejected = rejected;
}

static inline void *call_at_once(void *argument)
{
    struct caller *caller = argument;
    pthread_barrier_wait(caller->start);
    if (caller->rejected)
        CHECK_STATUS(report(caller->client, caller->user, caller->rejected), SPIKE_AUTH_STATUS_OK);
    caller->result = get_by(caller->client, caller->user, caller->call);
    return NULL;
}

/* The first so many callers, as they were set. */
static inline void start_callers(int count)
{
    static pthread_barrier_t start;
    REQUIRE(count <= MOST_CALLERS);
    REQUIRE(pthread_barrier_init(&start, NULL, (unsigned)count) == 0);
    for (int i = 0; i < count; i++) {
        callers[i].start = &start;
        REQUIRE(spike_auth_call_new(&callers[i].call, NULL) == SPIKE_AUTH_STATUS_OK);
        REQUIRE(pthread_create(&callers[i].thread, NULL, call_at_once, &callers[i]) == 0);
    }
}

static inline void start_callers_of(int count, const spike_auth_client *client, const char *user, const char *rejected)
{
    for (int i = 0; i < count; i++)
        set_caller(i, client, user, rejected);
    start_callers(count);
}

static inline void end_callers(int count)
{
    for (int i = 0; i < count; i++) {
        pthread_join(callers[i].thread, NULL);
        spike_auth_call_free(callers[i].call);
    }
    pthread_barrier_destroy(callers[0].start);
}

#endif
