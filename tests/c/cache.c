/* The cache: buffers on a hit and on a miss, the counters, and many threads. What is cached, for how
 * long, and who asks for it is in tests/cache. Against a sandbox whose tokens differ at each exchange.
 *
 * usage: cache NAME=ADDRESS... [quick=1] [without_tls=1]; the checkers use quick.
 */
#define _GNU_SOURCE
#include "cache.h"

/* ---- the functions that give a token -------------------------------------------------------------------- */

static const struct reader {
    const char *name;
    text_call *call;
    const char *prefix;
    size_t any; /* the size of a buffer for any token */
    int fetches;
} READERS[] = {
    {"get_token", spike_auth_client_get_token, "", SPIKE_AUTH_TOKEN_SIZE, 1},
    {"get_authorization", spike_auth_client_get_authorization, "Bearer ", SPIKE_AUTH_AUTHORIZATION_SIZE, 1},
    {"peek_token", peek_token, "", SPIKE_AUTH_TOKEN_SIZE, 0},
};

#define READ(reader, client, user, call_handle, out) \
    (reader)->call(client, user, NUL_TERMINATED, call_handle, (out).at, (out).cap, &(out).len, err)

static void check_miss(const struct reader *reader, const spike_auth_client *client, enum buffer_kind kind, size_t cap)
{
    struct text_out out = text_out_new(kind, cap, reader->any - 1);
    in_round("%s, capacity %zu, %s", reader->name, cap, kind == FENCED ? "fenced" : "guarded");
    if (!reader->fetches)
        EXPECT_TEXT(NOT_CACHED, out, READ(reader, client, "miss", NULL, out));
    else if (cap < reader->any)
        EXPECT_TEXT(BUFFER_TOO_SMALL, out, READ(reader, client, "miss", NULL, out));
    else
        EXPECT_TEXT(OK, out, forget(client, "miss") ? -1 : READ(reader, client, "miss", NULL, out));
    CHECK_STATUS(forget(client, "miss"), 0);
    text_out_free(&out);
}

/* The token may be of any length: if that does not fit, nothing is sent. */
static void a_miss_needs_room_for_any_token(void)
{
    spike_auth_client *client = sandbox_client("http");
    for (const struct reader *reader = READERS; reader < READERS + COUNT_OF(READERS); reader++) {
        const size_t n = reader->any, capacities[] = {0, 1, 2, 200, n - 2, n - 1, n, n + 1};
        for (size_t i = 0; i < COUNT_OF(capacities); i++) {
            long requests = counter("requests"), connections = counter("connections");
            check_miss(reader, client, GUARDED, capacities[i]);
            check_miss(reader, client, FENCED, capacities[i]);
            CHECK_EQ_INT(counter("requests") - requests, reader->fetches && capacities[i] >= n ? 6 : 0);
            if (capacities[i] < n)
                CHECK_EQ_INT(counter("connections"), connections);
        }
    }
    spike_auth_client_free(client);
}

static void check_hit(const struct reader *reader, const spike_auth_client *client, const char *user,
                      const char *expected, size_t cap)
{
    for (int kind = GUARDED; kind <= FENCED; kind++) {
        struct text_out out = text_out_new((enum buffer_kind)kind, cap, strlen(expected));
        in_round("%s, %s, capacity %zu, %s", reader->name, user, cap, kind == FENCED ? "fenced" : "guarded");
        if (cap <= strlen(expected)) {
            EXPECT_TEXT(BUFFER_TOO_SMALL, out, READ(reader, client, user, NULL, out));
        } else {
            EXPECT_TEXT(OK, out, READ(reader, client, user, NULL, out));
            CHECK_STR(out.at, expected);
        }
        text_out_free(&out);
    }
}

/* Also the shortest token and the longest. A hit without room counts too, and keeps its token. */
static void a_hit_needs_room_for_its_token_only(void)
{
    static const char *const USERS[] = {"hit", "fault.max-token.hit", "fault.huge-token.1.hit"};
    spike_auth_client *client = sandbox_client("http");
    long hits = 0, requests;
    for (size_t i = 0; i < COUNT_OF(USERS); i++)
        CHECK_STATUS(get(client, USERS[i]).status, SPIKE_AUTH_STATUS_OK);
    requests = counter("requests");
    for (size_t i = 0; i < COUNT_OF(USERS); i++) {
        for (size_t k = 0; k < COUNT_OF(READERS); k++) {
            char expected[SPIKE_AUTH_AUTHORIZATION_SIZE];
            struct result held = peek(client, USERS[i]);
            int len = snprintf(expected, sizeof expected, "%s%.*s", READERS[k].prefix, (int)held.len, held.token);
            const size_t n = (size_t)len + 1, capacities[] = {0, 1, n - 1, n, n + 1, 2 * n};
            for (size_t at = 0; at < COUNT_OF(capacities); at++)
                check_hit(&READERS[k], client, USERS[i], expected, capacities[at]);
            hits += 1 + 6 * (long)COUNT_OF(capacities);
        }
    }
    CHECK_EQ_INT(counter("requests"), requests);
    CHECK_EQ_INT(stats_of(client).hits, hits);
    CHECK_EQ_INT(stats_of(client).entries, COUNT_OF(USERS));
    spike_auth_client_free(client);
}

static void arguments_are_checked_before_the_cache_is_read(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct result held = get_own(client, "checked");
    for (const struct reader *reader = READERS; reader < READERS + COUNT_OF(READERS); reader++) {
        struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
        in_round("%s", reader->name);
        check_outputs_are_required(reader->call, client, "checked");
        EXPECT_TEXT(NULL_POINTER, out, READ(reader, NULL, "checked", NULL, out));
        EXPECT_TEXT(NULL_POINTER, out, READ(reader, client, NULL, NULL, out));
        EXPECT_TEXT(INVALID_USER_ID, out, READ(reader, client, "", NULL, out));
        text_out_free(&out);
    }
    CHECK_STR(get_own(client, "checked").token, held.token);
    CHECK_EQ_INT(stats_of(client).hits, 1);
    for (size_t i = 0; i < COUNT_OF(READERS); i++) {
        in_round("%s", READERS[i].name);
        check_outputs_may_be_uninitialised(READERS[i].call, client, "checked", SPIKE_AUTH_STATUS_OK);
    }
    spike_auth_client_free(client);
}

static void a_user_id_needs_no_nul(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct buffer id = buffer_of_text(FENCED, "no-nul");
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
    const char *user = (const char *)id.at;
    for (size_t i = 0; i < COUNT_OF(READERS); i++) {
        EXPECT_TEXT(OK, out, READERS[i].call(client, user, id.size, NULL, out.at, out.cap, &out.len, err));
        CHECK(token_is_for(out.at, "no-nul"));
    }
    EXPECT(OK, spike_auth_client_invalidate(client, user, id.size, out.at, out.len, err));
    CHECK(!is_cached(client, "no-nul"));
    (void)get_own(client, "no-nul");
    EXPECT(OK, spike_auth_client_forget(client, user, id.size, err));
    CHECK(!is_cached(client, "no-nul"));
    text_out_free(&out);
    buffer_free(&id);
    spike_auth_client_free(client);
}

/* Also if the token is cached. */
static void a_cancelled_call_and_a_closed_client_give_no_token(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0), small = text_out_new(FENCED, 4, 0);
    spike_auth_call *call = NULL;
    (void)get_own(client, "cached");
    REQUIRE(spike_auth_call_new(&call, NULL) == SPIKE_AUTH_STATUS_OK);
    spike_auth_call_cancel(call);
    for (size_t i = 0; i < COUNT_OF(READERS); i++)
        if (READERS[i].fetches)
            EXPECT_TEXT(CANCELLED, out, READ(&READERS[i], client, "cached", call, out));
    CHECK_EQ_INT(stats_of(client).hits, 0);
    spike_auth_client_close(client);
    for (size_t i = 0; i < COUNT_OF(READERS); i++) {
        EXPECT_TEXT(CLOSED, out, READ(&READERS[i], client, "cached", NULL, out));
        EXPECT_TEXT(CLOSED, small, READ(&READERS[i], client, "cached", NULL, small));
    }
    spike_auth_call_free(call);
    text_out_free(&small);
    text_out_free(&out);
    spike_auth_client_free(client);
}

/* ---- settings and counters ------------------------------------------------------------------------------ */

static void every_size_is_a_setting(void)
{
    static const uint64_t NUMBERS[] = {0, 1, 400, UINT32_MAX, (uint64_t)INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(NUMBERS); i++) {
        spike_auth_config *config = sandbox_config("http");
        spike_auth_client *client;
        in_round("%llu", (unsigned long long)NUMBERS[i]);
        REQUIRE(spike_auth_config_set_cache_capacity(config, (uint32_t)NUMBERS[i], NULL) == 0);
        REQUIRE(spike_auth_config_set_cache_max_bytes(config, NUMBERS[i], NULL) == 0);
        REQUIRE(spike_auth_config_set_cache_ttl_ms(config, NUMBERS[i], NULL) == 0);
        client = client_of(config);
        for (int k = 0; k < 3; k++)
            (void)get_own(client, "number");
        CHECK(stats_of(client).entries <= NUMBERS[i]);
        if (NUMBERS[i] >= 400) /* a ttl of 400 ms may have passed */
            CHECK_EQ_INT(stats_of(client).entries, 1);
        if (NUMBERS[i] >= UINT32_MAX)
            CHECK_EQ_INT(stats_of(client).hits, 2);
        spike_auth_client_free(client);
    }
}

/* All counts differ, so that one in the place of another is found. */
static void every_counter_has_its_place(void)
{
    enum { CAPACITY = 9, HITS = 30, USERS = 16, REFUSED = 4, REPORTED = 5, WAITING = 3 };
    static struct running waiting[WAITING];
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client;
    char signature[SPIKE_AUTH_SIGNATURE_SIZE], user[64];
    spike_auth_stats stats, after;
    REQUIRE(spike_auth_config_set_cache_capacity(config, CAPACITY, NULL) == 0);
    REQUIRE(spike_auth_config_set_max_attempts(config, 3, NULL) == 0);
    client = client_of(config);
    for (int i = 0; i < WAITING; i++)
        start(&waiting[i], spike_auth_client_get_token, client, "fault.delay.1000.counted");
    for (int i = 0; i < WAITING; i++)
        finish_with(&waiting[i], SPIKE_AUTH_STATUS_OK);
    CHECK_STATUS(forget(client, "fault.delay.1000.counted"), SPIKE_AUTH_STATUS_OK);
    for (int i = 0; i < REPORTED; i++) {
        snprintf(user, sizeof user, "reported-%d", i);
        CHECK_STATUS(report(client, user, get_own(client, user).token), SPIKE_AUTH_STATUS_OK);
    }
    for (int i = 0; i < REFUSED; i++) {
        snprintf(user, sizeof user, "fault.status.422.refused-%d", i);
        CHECK_STATUS(get(client, user).status, SPIKE_AUTH_STATUS_REFUSED);
    }
    for (int i = 0; i < USERS; i++) {
        snprintf(user, sizeof user, "fault.status.500.x1.counted-%d", i);
        CHECK_EQ_INT(get_own(client, user).err.attempts, 2);
    }
    for (int i = 0; i < HITS; i++)
        CHECK_EQ_INT(get_own(client, user).err.attempts, 0);
    stats = stats_of(client);
    sign_for(user, signature);
    check_token(client, user);
    EXPECT(OK, spike_auth_client_exchange_signature(client, user, NUL_TERMINATED, signature, NUL_TERMINATED, NULL,
                                                    waiting[0].result.token, sizeof waiting[0].result.token,
                                                    &waiting[0].result.len, err));
    CHECK_EQ_INT(stats.hits, HITS);
    CHECK_EQ_INT(stats.misses, WAITING + REPORTED + REFUSED + USERS);
    CHECK_EQ_INT(stats.coalesced, WAITING - 1);
    CHECK_EQ_INT(stats.exchanges, 1 + REPORTED + REFUSED + USERS);
    CHECK_EQ_INT(stats.requests, 1 + REPORTED + REFUSED + 2 * USERS);
    CHECK_EQ_INT(stats.retries, USERS);
    CHECK_EQ_INT(stats.failures, REFUSED);
    CHECK_EQ_INT(stats.invalidations, REPORTED);
    CHECK_EQ_INT(stats.evictions, USERS - CAPACITY);
    CHECK_EQ_INT(stats.entries, CAPACITY);
    CHECK(stats.bytes > CAPACITY * waiting[0].result.len && stats.bytes < CAPACITY * 600);
    CHECK_EQ_INT(stats.forks, 0); /* cache_fork.c has others */
    after = stats_of(client);
    CHECK(memcmp(&stats, &after, sizeof after) == 0); /* an exchange neither reads the cache nor fills it */
    spike_auth_client_free(client);
}

/* ---- threads -------------------------------------------------------------------------------------------- */

enum { MOST_MIXERS = 64, MIX_USERS = 256, MIX_CAPACITY = 200 };

struct mixer {
    const spike_auth_client *client;
    unsigned seed;
    atomic_long *steps;
    pthread_t thread;
};

static int32_t get_and_report(const spike_auth_client *client, const char *user)
{
    struct result result = get(client, user);
    return result.status == SPIKE_AUTH_STATUS_OK ? report(client, user, result.token) : result.status;
}

static int32_t check_signature(const spike_auth_client *client, const char *user)
{
    char expected[SPIKE_AUTH_SIGNATURE_SIZE], signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    int32_t status = spike_auth_client_sign_user(client, user, NUL_TERMINATED, signature, sizeof signature, &len, NULL);
    sign_for(user, expected);
    CHECK(status != SPIKE_AUTH_STATUS_OK || strcmp(signature, expected) == 0);
    return status;
}

static int32_t check_stats(const spike_auth_client *client)
{
    spike_auth_stats stats;
    int32_t status = spike_auth_client_stats(client, &stats, NULL);
    CHECK(stats.coalesced + stats.exchanges <= stats.misses && stats.failures <= stats.exchanges);
    CHECK(stats.entries <= MIX_CAPACITY);
    return status;
}

static int32_t read_own(const spike_auth_client *client, const char *user, text_call *call)
{
    struct result result = make_call(call, client, user, NULL);
    CHECK(result.status != SPIKE_AUTH_STATUS_OK || token_is_for(result.token, user));
    return result.status;
}

static int32_t mix_once(const spike_auth_client *client, unsigned *seed)
{
    int what = rand_r(seed) % 128;
    char user[64];
    snprintf(user, sizeof user, "mix-%d", rand_r(seed) % MIX_USERS);
    if (what < 90)
        return read_own(client, user, READERS[what % (int)COUNT_OF(READERS)].call);
    if (what < 100)
        return forget(client, user);
    if (what < 103)
        return get_and_report(client, user);
    if (what < 104)
        return spike_auth_client_clear(client, NULL);
    if (what < 108)
        return read_own(client, user, spike_auth_client_exchange);
    return what < 118 ? check_signature(client, user) : check_stats(client);
}

static void *mix_until_closed(void *argument)
{
    struct mixer *mixer = argument;
    int32_t status = SPIKE_AUTH_STATUS_OK;
    while (status != SPIKE_AUTH_STATUS_CLOSED) {
        status = mix_once(mixer->client, &mixer->seed);
        CHECK(status == SPIKE_AUTH_STATUS_OK || status == SPIKE_AUTH_STATUS_NOT_CACHED ||
              status == SPIKE_AUTH_STATUS_TOKEN_REJECTED || status == SPIKE_AUTH_STATUS_CLOSED);
        atomic_fetch_add(mixer->steps, 1);
    }
    return NULL;
}

static void threads_do_everything_at_once_until_another_one_closes_the_client(void)
{
    static struct mixer mixers[MOST_MIXERS];
    int count = argument("quick") ? 8 : MOST_MIXERS;
    long steps_before_close = argument("quick") ? 500 : 20000;
    atomic_long steps = 0;
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client;
    REQUIRE(spike_auth_config_set_cache_capacity(config, MIX_CAPACITY, NULL) == 0);
    client = client_of(config);
    for (int i = 0; i < count; i++) {
        mixers[i] = (struct mixer){client, (unsigned)i, &steps, mixers[i].thread};
        REQUIRE(pthread_create(&mixers[i].thread, NULL, mix_until_closed, &mixers[i]) == 0);
    }
    for (int ms = 0; ms < 60000 && atomic_load(&steps) < steps_before_close; ms++)
        sleep_ms(1);
    spike_auth_client_close(client);
    for (int i = 0; i < count; i++)
        pthread_join(mixers[i].thread, NULL);
    CHECK(atomic_load(&steps) >= steps_before_close);
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(a_miss_needs_room_for_any_token);
    RUN(a_hit_needs_room_for_its_token_only);
    RUN(arguments_are_checked_before_the_cache_is_read);
    RUN(a_user_id_needs_no_nul);
    RUN(a_cancelled_call_and_a_closed_client_give_no_token);
    RUN(every_size_is_a_setting);
    RUN(every_counter_has_its_place);
    RUN(threads_do_everything_at_once_until_another_one_closes_the_client);
    return check_summary();
}
