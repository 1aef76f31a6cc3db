/* The cache as a C program sees it. */
#ifndef CACHE_H
#define CACHE_H

#include "sandbox.h"

static inline struct result get(const spike_auth_client *client, const char *user)
{
    return make_call(spike_auth_client_get_token, client, user, NULL);
}

static inline struct result peek(const spike_auth_client *client, const char *user)
{
    return make_call(peek_token, client, user, NULL);
}

static inline int32_t report(const spike_auth_client *client, const char *user, const char *token)
{
    return spike_auth_client_invalidate(client, user, NUL_TERMINATED, token, NUL_TERMINATED, NULL);
}

static inline int32_t forget(const spike_auth_client *client, const char *user)
{
    return spike_auth_client_forget(client, user, NUL_TERMINATED, NULL);
}

/* Gets a token, which must be the user's own. */
static inline struct result get_own(const spike_auth_client *client, const char *user)
{
    struct result result = get(client, user);
    check_own(&result, user);
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

#endif
