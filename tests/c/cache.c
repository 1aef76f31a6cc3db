/* The cache: one exchange per user, what ends a token before its time, and what is counted. Against a sandbox whose
 * tokens differ at each exchange.
 *
 * usage: cache NAME=ADDRESS... [quick=1] [without_tls=1]; quick does less, for memcheck and the sanitizers.
 */
#define _GNU_SOURCE
#include "cache.h"

static int is_quick(void)
{
    return argument("quick") != NULL;
}

static spike_auth_client *client_with_capacity(uint32_t entries)
{
    spike_auth_config *config = sandbox_config("http");
    REQUIRE(spike_auth_config_set_cache_capacity(config, entries, NULL) == 0);
    return client_of(config);
}

/* ---- the three that give a token ------------------------------------------------------------------------ */

typedef int32_t read_function(const spike_auth_client *client, const char *user, char *out, size_t cap, size_t *len,
                              spike_auth_error *err);

static int32_t read_token(const spike_auth_client *client, const char *user, char *out, size_t cap, size_t *len,
                          spike_auth_error *err)
{
    return spike_auth_client_get_token(client, user, NUL_TERMINATED, NULL, out, cap, len, err);
}

static int32_t read_authorization(const spike_auth_client *client, const char *user, char *out, size_t cap,
                                  size_t *len, spike_auth_error *err)
{
    return spike_auth_client_get_authorization(client, user, NUL_TERMINATED, NULL, out, cap, len, err);
}

static int32_t read_peeked(const spike_auth_client *client, const char *user, char *out, size_t cap, size_t *len,
                           spike_auth_error *err)
{
    return spike_auth_client_peek_token(client, user, NUL_TERMINATED, out, cap, len, err);
}

static const struct reader {
    const char *name;
    read_function *call;
    const char *prefix;
    size_t any; /* the size of a buffer for any token */
    int fetches;
} READERS[] = {
    {"get_token", read_token, "", SPIKE_AUTH_TOKEN_SIZE, 1},
    {"get_authorization", read_authorization, "Bearer ", SPIKE_AUTH_AUTHORIZATION_SIZE, 1},
    {"peek_token", read_peeked, "", SPIKE_AUTH_TOKEN_SIZE, 0},
};

#define READ(reader, client, user, out) (reader)->call(client, user, (out).at, (out).cap, &(out).len, err)

static void check_miss(const struct reader *reader, const spike_auth_client *client, enum buffer_kind kind, size_t cap)
{
    struct text_out out = text_out_new(kind, cap, reader->any - 1);
    in_round("%s, capacity %zu, %s", reader->name, cap, kind == FENCED ? "fenced" : "guarded");
    if (!reader->fetches)
        EXPECT_TEXT(NOT_CACHED, out, READ(reader, client, "miss", out));
    else if (cap < reader->any)
        EXPECT_TEXT(BUFFER_TOO_SMALL, out, READ(reader, client, "miss", out));
    else
        EXPECT_TEXT(OK, out, forget(client, "miss") ? -1 : READ(reader, client, "miss", out));
    CHECK_STATUS(forget(client, "miss"), 0);
    text_out_free(&out);
}

/* A token could be as long as any: what has no room for that is refused before anything is sent. */
static void check_misses(const struct reader *reader, const spike_auth_client *client)
{
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

static void a_miss_needs_room_for_any_token(void)
{
    spike_auth_client *client = sandbox_client("http");
    for (size_t i = 0; i < COUNT_OF(READERS); i++)
        check_misses(&READERS[i], client);
    spike_auth_client_free(client);
}

static void a_client_that_keeps_nothing_always_misses(void)
{
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *clients[2] = {client_with_capacity(0), NULL};
    REQUIRE(spike_auth_config_set_cache_max_bytes(config, 1, NULL) == 0); /* no token is so small */
    clients[1] = client_of(config);
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        struct text_out out = text_out_new(FENCED, SPIKE_AUTH_TOKEN_SIZE - 1, SPIKE_AUTH_TOKEN_SIZE - 1);
        struct result first = get_own(clients[i], "unkept"), second = get_own(clients[i], "unkept");
        long requests = counter("requests");
        in_round("client %zu", i);
        CHECK(strcmp(first.token, second.token) != 0);
        CHECK(!is_cached(clients[i], "unkept"));
        EXPECT_TEXT(BUFFER_TOO_SMALL, out, READ(&READERS[0], clients[i], "unkept", out));
        EXPECT_TEXT(NOT_CACHED, out, READ(&READERS[2], clients[i], "unkept", out));
        CHECK_EQ_INT(counter("requests"), requests);
        check_misses(&READERS[1], clients[i]);
        CHECK_EQ_INT(stats_of(clients[i]).hits, 0);
        CHECK_EQ_INT(stats_of(clients[i]).entries, 0);
        text_out_free(&out);
        spike_auth_client_free(clients[i]);
    }
}

static void check_hit(const struct reader *reader, const spike_auth_client *client, const char *user,
                      const char *expected, size_t cap)
{
    for (int kind = GUARDED; kind <= FENCED; kind++) {
        struct text_out out = text_out_new((enum buffer_kind)kind, cap, strlen(expected));
        in_round("%s, %s, capacity %zu, %s", reader->name, user, cap, kind == FENCED ? "fenced" : "guarded");
        if (cap <= strlen(expected)) {
            EXPECT_TEXT(BUFFER_TOO_SMALL, out, READ(reader, client, user, out));
        } else {
            EXPECT_TEXT(OK, out, READ(reader, client, user, out));
            CHECK_STR(out.at, expected);
        }
        text_out_free(&out);
    }
}

/* Of a token of any length, the longest too. */
static void a_hit_needs_room_for_itself_and_loses_nothing_where_there_is_none(void)
{
    static const char *const USERS[] = {"hit", "fault.max-token.hit", "fault.huge-token.1.hit"};
    spike_auth_client *client = sandbox_client("http");
    long asked = COUNT_OF(USERS), requests;
    for (size_t i = 0; i < COUNT_OF(USERS); i++)
        CHECK_STATUS(get(client, USERS[i]).status, SPIKE_AUTH_STATUS_OK);
    requests = counter("requests");
    for (size_t i = 0; i < COUNT_OF(USERS); i++) {
        for (size_t k = 0; k < COUNT_OF(READERS); k++) {
            char expected[SPIKE_AUTH_AUTHORIZATION_SIZE];
            struct result held = peek(client, USERS[i]);
            int len = snprintf(expected, sizeof expected, "%s%s", READERS[k].prefix, held.token);
            const size_t n = (size_t)len + 1, capacities[] = {0, 1, n - 1, n, n + 1, 2 * n};
            for (size_t at = 0; at < COUNT_OF(capacities); at++)
                check_hit(&READERS[k], client, USERS[i], expected, capacities[at]);
            asked += 1 + 6 * (long)COUNT_OF(capacities);
        }
    }
    CHECK_EQ_INT(counter("requests"), requests);
    CHECK_EQ_INT(stats_of(client).hits, asked - (long)COUNT_OF(USERS)); /* what had no room was a hit too */
    CHECK_EQ_INT(stats_of(client).entries, COUNT_OF(USERS));
    spike_auth_client_free(client);
}

/* Whatever is wrong with the arguments, a hit does not get past it. */
static void pointers_and_lengths_are_checked_on_a_hit_too(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct result held = get_own(client, "pointers");
    for (size_t i = 0; i < COUNT_OF(READERS); i++) {
        struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
        read_function *call = READERS[i].call;
        in_round("%s", READERS[i].name);
        EXPECT_AROUND(NULL_POINTER, call(client, "pointers", NULL, out.cap, &out.len, err), out.len = 7,
                      CHECK_EQ_INT(out.len, 0));
        EXPECT_AROUND(NULL_POINTER, call(client, "pointers", out.at, out.cap, NULL, err), text_out_poison(&out),
                      CHECK_EQ_INT(out.at[0], 0));
        EXPECT_TEXT(NULL_POINTER, out, call(NULL, "pointers", out.at, out.cap, &out.len, err));
        EXPECT_TEXT(NULL_POINTER, out, call(client, NULL, out.at, out.cap, &out.len, err));
        EXPECT_TEXT(INVALID_USER_ID, out, call(client, "", out.at, out.cap, &out.len, err));
        EXPECT_TEXT(INVALID_ARGUMENT, out, call(client, "pointers", out.at, SIZE_MAX, &out.len, err));
        for (size_t k = 0; k < COUNT_OF(IMPOSSIBLE_LENGTHS); k++)
            EXPECT_TEXT(INVALID_ARGUMENT, out, call(client, "pointers", out.at, IMPOSSIBLE_LENGTHS[k], &out.len, err));
        text_out_free(&out);
    }
    CHECK_STR(get_own(client, "pointers").token, held.token);
    CHECK_EQ_INT(stats_of(client).hits, 1); /* nothing else came so far that it asked */
    spike_auth_client_free(client);
}

/* Under memcheck this fails if an uninitialised byte is read, or if one is left where it must not be. */
static void memory_may_be_uninitialised_and_unaligned(void)
{
    spike_auth_client *client = sandbox_client("http");
    CHECK_STATUS(get(client, "memory").status, SPIKE_AUTH_STATUS_OK);
    for (size_t i = 0; i < COUNT_OF(READERS); i++) {
        struct buffer out = buffer_guarded(SPIKE_AUTH_AUTHORIZATION_SIZE);
        struct buffer len = buffer_guarded(sizeof(size_t) + 1);
        struct buffer error = buffer_guarded(sizeof(spike_auth_error));
        spike_auth_error *err = (spike_auth_error *)(void *)error.at;
        size_t length;
        in_round("%s", READERS[i].name);
        CHECK_STATUS(READERS[i].call(client, "memory", (char *)out.at, out.size, (void *)(len.at + 1), err), 0);
        memcpy(&length, len.at + 1, sizeof length);
        CHECK_EQ_INT(strlen((char *)out.at), length);
        check_error_is_whole(err, SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__);
        CHECK(!all_bytes_are(err, sizeof *err, 0x77)); /* looks at every byte */
        CHECK(buffer_is_intact(&out) && buffer_is_intact(&len) && buffer_is_intact(&error));
        buffer_free(&out);
        buffer_free(&len);
        buffer_free(&error);
    }
    spike_auth_client_free(client);
}

static void a_user_id_needs_no_nul(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct buffer id = buffer_of_text(FENCED, "no-nul");
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
    const char *user = (const char *)id.at;
    EXPECT_TEXT(OK, out, spike_auth_client_get_token(client, user, id.size, NULL, out.at, out.cap, &out.len, err));
    CHECK(token_is_for(out.at, "no-nul"));
    EXPECT_TEXT(OK, out,
                spike_auth_client_get_authorization(client, user, id.size, NULL, out.at, out.cap, &out.len, err));
    CHECK(token_is_for(out.at, "no-nul"));
    EXPECT_TEXT(OK, out, spike_auth_client_peek_token(client, user, id.size, out.at, out.cap, &out.len, err));
    EXPECT(OK, spike_auth_client_invalidate(client, user, id.size, out.at, out.len, err));
    CHECK(!is_cached(client, "no-nul"));
    CHECK_STATUS(get(client, "no-nul").status, SPIKE_AUTH_STATUS_OK);
    EXPECT(OK, spike_auth_client_forget(client, user, id.size, err));
    CHECK(!is_cached(client, "no-nul"));
    text_out_free(&out);
    buffer_free(&id);
    spike_auth_client_free(client);
}

/* ---- keeping ------------------------------------------------------------------------------------------ */

static void the_second_token_of_a_user_makes_no_request(void)
{
    static const char *const PLACES[] = {"http", "https"};
    for (size_t i = 0; i < (argument("without_tls") ? 1 : COUNT_OF(PLACES)); i++) {
        spike_auth_client *client = sandbox_client(PLACES[i]);
        long requests = counter("requests");
        struct result first = get_own(client, "alice");
        spike_auth_stats stats;
        in_round("%s", PLACES[i]);
        for (int k = 0; k < 9; k++)
            CHECK_STR(get_own(client, "alice").token, first.token);
        CHECK_EQ_INT(counter("requests"), requests + 1);
        stats = stats_of(client);
        CHECK_EQ_INT(stats.hits, 9);
        CHECK_EQ_INT(stats.misses, 1);
        CHECK_EQ_INT(stats.coalesced, 0);
        CHECK_EQ_INT(stats.exchanges, 1);
        CHECK_EQ_INT(stats.requests, 1);
        CHECK_EQ_INT(stats.retries, 0);
        CHECK_EQ_INT(stats.failures, 0);
        CHECK_EQ_INT(stats.invalidations, 0);
        CHECK_EQ_INT(stats.evictions, 0);
        CHECK_EQ_INT(stats.entries, 1);
        CHECK(stats.bytes > first.len && stats.bytes < first.len + 400);
        CHECK_EQ_INT(stats.forks, 0);
        check_sums(&stats, 10);
        spike_auth_client_free(client);
    }
}

static void each_user_has_a_token_of_its_own_and_each_client_a_cache_of_its_own(void)
{
    enum { USERS = 300 };
    spike_auth_client *client = sandbox_client("http"), *other = sandbox_client("http");
    long requests = counter("requests");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < USERS; i++) {
            char user[64];
            snprintf(user, sizeof user, "own-%d", i);
            (void)get_own(client, user);
        }
    }
    CHECK_EQ_INT(counter("requests"), requests + USERS);
    CHECK_EQ_INT(stats_of(client).entries, USERS);
    CHECK(!is_cached(other, "own-1"));
    CHECK(strcmp(get_own(other, "own-1").token, peek(client, "own-1").token) != 0);
    spike_auth_client_free(other);
    spike_auth_client_free(client);
}

static void the_service_is_asked_by_exchange_whatever_is_kept(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct result held = get_own(client, "asked");
    spike_auth_stats before = stats_of(client), after;
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    sign_for("asked", signature);
    CHECK(strcmp(exchange(client, "asked").token, held.token) != 0);
    CHECK(strcmp(exchange_signature(client, "asked", signature).token, held.token) != 0);
    after = stats_of(client);
    CHECK(memcmp(&before, &after, sizeof after) == 0); /* neither asks the cache, nor puts anything in */
    CHECK_STR(peek(client, "asked").token, held.token);
    spike_auth_client_free(client);
}

static void to_peek_sends_nothing(void)
{
    spike_auth_client *client = sandbox_client("http");
    long connections = counter("connections");
    struct result held;
    CHECK_STATUS(peek(client, "peeked").status, SPIKE_AUTH_STATUS_NOT_CACHED);
    CHECK_EQ_INT(counter("connections"), connections);
    CHECK_EQ_INT(stats_of(client).hits + stats_of(client).misses, 0);
    held = get_own(client, "peeked");
    CHECK_STR(peek(client, "peeked").token, held.token);
    CHECK_EQ_INT(stats_of(client).hits, 1);
    spike_auth_client_free(client);
}

static void what_is_forgotten_or_cleared_is_asked_for_again(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct result anna = get_own(client, "anna"), bert = get_own(client, "bert");
    CHECK_STATUS(forget(client, "anna"), SPIKE_AUTH_STATUS_OK);
    CHECK_STATUS(forget(client, "anna"), SPIKE_AUTH_STATUS_OK); /* nothing to drop is no failure */
    CHECK_STATUS(forget(client, "nobody"), SPIKE_AUTH_STATUS_OK);
    CHECK(!is_cached(client, "anna"));
    CHECK_STR(get_own(client, "bert").token, bert.token);
    CHECK(strcmp(get_own(client, "anna").token, anna.token) != 0);
    CHECK_EQ_INT(stats_of(client).entries, 2);
    EXPECT(OK, spike_auth_client_clear(client, err));
    CHECK_EQ_INT(stats_of(client).entries, 0);
    CHECK_EQ_INT(stats_of(client).bytes, 0);
    CHECK(!is_cached(client, "anna") && !is_cached(client, "bert"));
    CHECK(strcmp(get_own(client, "bert").token, bert.token) != 0);
    CHECK_EQ_INT(requests_for("anna"), 2);
    CHECK_EQ_INT(requests_for("bert"), 2);
    CHECK_EQ_INT(stats_of(client).evictions + stats_of(client).invalidations, 0);
    spike_auth_client_free(client);
}

static void the_bounds_hold_and_what_goes_was_not_asked_for_lately(void)
{
    enum { CAPACITY = 10, USERS = 200 };
    spike_auth_client *client = client_with_capacity(CAPACITY);
    struct result hot = get_own(client, "hot");
    spike_auth_stats stats;
    for (int i = 0; i < USERS; i++) {
        char user[64];
        snprintf(user, sizeof user, "cold-%d", i);
        (void)get_own(client, user);
        CHECK_STR(get_own(client, "hot").token, hot.token);
    }
    stats = stats_of(client);
    CHECK_EQ_INT(stats.entries, CAPACITY);
    CHECK_EQ_INT(stats.evictions, USERS + 1 - CAPACITY);
    check_sums(&stats, 2 * USERS + 1);
    spike_auth_client_free(client);
}

static void every_number_is_a_setting(void)
{
    static const uint64_t NUMBERS[] = {0, 1, 400, UINT32_MAX, (uint64_t)INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(NUMBERS); i++) {
        spike_auth_config *config = sandbox_config("http");
        spike_auth_client *client;
        in_round("%llu", (unsigned long long)NUMBERS[i]);
        EXPECT(OK, spike_auth_config_set_cache_capacity(config, (uint32_t)NUMBERS[i], err));
        EXPECT(OK, spike_auth_config_set_cache_max_bytes(config, NUMBERS[i], err));
        EXPECT(OK, spike_auth_config_set_cache_ttl_ms(config, NUMBERS[i], err));
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

static void failures_are_not_kept(void)
{
    spike_auth_client *client = sandbox_client("http");
    static const char USER[] = "fault.status.500.x2.failing";
    CHECK_STATUS(get(client, USER).status, SPIKE_AUTH_STATUS_SERVER_ERROR);
    CHECK_STATUS(get(client, USER).status, SPIKE_AUTH_STATUS_SERVER_ERROR);
    (void)get_own(client, USER);
    CHECK_EQ_INT(requests_for(USER), 3);
    CHECK_EQ_INT(stats_of(client).failures, 2);
    CHECK_EQ_INT(stats_of(client).exchanges, 3);
    spike_auth_client_free(client);
}

/* ---- cancel and close ----------------------------------------------------------------------------------- */

static void a_handle_that_was_cancelled_gets_no_token_however_near(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
    spike_auth_call *call = NULL;
    struct result held = get_own(client, "near");
    REQUIRE(spike_auth_call_new(&call, NULL) == SPIKE_AUTH_STATUS_OK);
    CHECK_STATUS(spike_auth_call_set_timeout_ms(call, 1, NULL), 0);
    CHECK_STR(get_by(client, "near", call).token, held.token); /* what is here takes no time */
    spike_auth_call_cancel(call);
    EXPECT_TEXT(CANCELLED, out, spike_auth_client_get_token(client, "near", 4, call, out.at, out.cap, &out.len, err));
    EXPECT_TEXT(CANCELLED, out,
                spike_auth_client_get_authorization(client, "near", 4, call, out.at, out.cap, &out.len, err));
    EXPECT_TEXT(CANCELLED, out, spike_auth_client_get_token(client, "far", 3, call, out.at, out.cap, &out.len, err));
    EXPECT_TEXT(INVALID_USER_ID, out, spike_auth_client_get_token(client, "", 0, call, out.at, out.cap, &out.len, err));
    CHECK_STR(get_own(client, "near").token, held.token);
    CHECK_EQ_INT(stats_of(client).hits, 2); /* what was cancelled did not ask */
    CHECK_EQ_INT(stats_of(client).misses, 1);
    CHECK_EQ_INT(requests_for("far"), 0);
    spike_auth_call_free(call);
    text_out_free(&out);
    spike_auth_client_free(client);
}

static void a_closed_client_says_so_whatever_it_holds(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct text_out out = text_out_new(FENCED, 4, 0); /* too small besides */
    struct result held = get_own(client, "held");
    spike_auth_stats stats;
    spike_auth_client_close(client);
    for (size_t i = 0; i < COUNT_OF(READERS); i++) {
        in_round("%s", READERS[i].name);
        EXPECT_TEXT(CLOSED, out, READ(&READERS[i], client, "held", out));
        EXPECT_TEXT(CLOSED, out, READ(&READERS[i], client, "other", out));
    }
    EXPECT(CLOSED, spike_auth_client_invalidate(client, "held", 4, held.token, held.len, err));
    EXPECT(CLOSED, spike_auth_client_forget(client, "held", 4, err));
    EXPECT(CLOSED, spike_auth_client_clear(client, err));
    EXPECT_AROUND(CLOSED, spike_auth_client_stats(client, &stats, err), memset(&stats, 0xA5, sizeof stats),
                  CHECK(all_bytes_are(&stats, sizeof stats, 0)));
    text_out_free(&out);
    spike_auth_client_free(client);
}

/* ---- one exchange for all ------------------------------------------------------------------------------- */

static void wait_until_all_wait(const spike_auth_client *client, uint64_t count)
{
    for (int ms = 0; ms < 10000 && stats_of(client).coalesced + 1 < count; ms++)
        sleep_ms(1);
    CHECK_EQ_INT(stats_of(client).coalesced + 1, count);
}

static void check_all_have_one_token(int count, const char *user)
{
    for (int i = 0; i < count; i++) {
        in_round("%s, caller %d", user, i);
        CHECK_STATUS(callers[i].result.status, SPIKE_AUTH_STATUS_OK);
        CHECK(token_is_for(callers[i].result.token, user));
        CHECK_STR(callers[i].result.token, callers[0].result.token);
    }
}

static void many_callers_share_one_exchange(void)
{
    static const char USER[] = "fault.delay.300.crowd", REFUSED[] = "fault.delay.300.and.status.422.crowd";
    int count = is_quick() ? 8 : MOST_CALLERS;
    spike_auth_client *client = sandbox_client("http");
    spike_auth_stats stats;
    start_callers_of(count, client, USER, NULL);
    end_callers(count);
    check_all_have_one_token(count, USER);
    CHECK_EQ_INT(requests_for(USER), 1);
    stats = stats_of(client);
    CHECK_EQ_INT(stats.exchanges, 1);
    check_sums(&stats, count);
    start_callers_of(count, client, REFUSED, NULL);
    end_callers(count);
    for (int i = 0; i < count; i++) { /* they share a failure as well, with all that is known of it */
        in_round("refused, caller %d", i);
        CHECK_STATUS(callers[i].result.status, SPIKE_AUTH_STATUS_REFUSED);
        CHECK_EQ_INT(callers[i].result.err.http_status, 422);
        CHECK_EQ_INT(callers[i].result.err.attempts, 1);
        CHECK_STR(callers[i].result.err.message, callers[0].result.err.message);
    }
    check_that(requests_for(REFUSED) < count / 2, __FILE__, __LINE__, "%ld requests", requests_for(REFUSED));
    spike_auth_client_free(client);
}

static void who_is_cancelled_leaves_the_others_to_it(void)
{
    enum { CALLERS = 8 };
    static const char USER[] = "fault.delay.400.x1.cancelled";
    spike_auth_client *client = sandbox_client("http");
    int cancelled = 0;
    const char *token = NULL;
    start_callers_of(CALLERS, client, USER, NULL);
    wait_until_all_wait(client, CALLERS);
    for (int i = 0; i < CALLERS / 2; i++) /* whether the one who asks for all is among them, or not */
        spike_auth_call_cancel(callers[i].call);
    end_callers(CALLERS);
    for (int i = 0; i < CALLERS; i++) {
        const struct result *result = &callers[i].result;
        in_round("caller %d", i);
        if (i < CALLERS / 2 && result->status == SPIKE_AUTH_STATUS_CANCELLED) {
            cancelled++;
            continue;
        }
        CHECK_STATUS(result->status, SPIKE_AUTH_STATUS_OK);
        CHECK(token_is_for(result->token, USER));
        token = token ? token : result->token;
        CHECK_STR(result->token, token);
    }
    CHECK(cancelled > 0);
    CHECK(requests_for(USER) <= CALLERS / 2 + 1); /* each of those who were cancelled may have asked */
    CHECK_EQ_INT(stats_of(client).exchanges, 1);
    spike_auth_client_free(client);
}

static void to_close_ends_all_who_wait(void)
{
    enum { CALLERS = 8 };
    spike_auth_client *client = sandbox_client("http");
    start_callers_of(CALLERS, client, "fault.stall.closed", NULL);
    wait_until_all_wait(client, CALLERS);
    spike_auth_client_close(client);
    end_callers(CALLERS);
    for (int i = 0; i < CALLERS; i++) {
        in_round("caller %d", i);
        CHECK_STATUS(callers[i].result.status, SPIKE_AUTH_STATUS_CLOSED);
    }
    spike_auth_client_free(client);
}

/* ---- reports -------------------------------------------------------------------------------------------- */

static void many_who_report_the_same_token_make_one_exchange(void)
{
    static const char *const USERS[] = {"reported", "fault.delay.50.reported"};
    int count = is_quick() ? 8 : MOST_CALLERS;
    for (size_t i = 0; i < COUNT_OF(USERS); i++) {
        spike_auth_client *client = sandbox_client("http");
        struct result old = get_own(client, USERS[i]);
        start_callers_of(count, client, USERS[i], old.token);
        end_callers(count);
        check_all_have_one_token(count, USERS[i]);
        CHECK(strcmp(callers[0].result.token, old.token) != 0);
        CHECK_EQ_INT(requests_for(USERS[i]), 2);
        CHECK_EQ_INT(stats_of(client).invalidations, 1);
        CHECK_EQ_INT(stats_of(client).exchanges, 2);
        spike_auth_client_free(client);
    }
}

static void a_report_drops_nothing_but_the_token_that_it_names(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct result old = get_own(client, "renewed"), new, other = get_own(client, "bystander");
    CHECK_STATUS(forget(client, "renewed"), SPIKE_AUTH_STATUS_OK);
    new = get_own(client, "renewed");
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(report(client, "renewed", old.token), SPIKE_AUTH_STATUS_OK);
        CHECK_STATUS(report(client, "renewed", other.token), SPIKE_AUTH_STATUS_OK);
        CHECK_STATUS(report(client, "renewed", "x"), SPIKE_AUTH_STATUS_OK);
        CHECK_STATUS(report(client, "stranger", old.token), SPIKE_AUTH_STATUS_OK);
        CHECK_STR(get_own(client, "renewed").token, new.token);
    }
    CHECK_STR(get_own(client, "bystander").token, other.token);
    CHECK_EQ_INT(requests_for("renewed"), 2);
    CHECK_EQ_INT(stats_of(client).invalidations, 0);
    spike_auth_client_free(client);
}

static void what_can_be_no_token_cannot_be_reported(void)
{
    static char text[SPIKE_AUTH_TOKEN_SIZE + 1];
    spike_auth_client *client = sandbox_client("http");
    struct result held = get_own(client, "odd");
    char authorization[SPIKE_AUTH_AUTHORIZATION_SIZE];
    spike_auth_error err;
    static const char *const BAD[] = {"", " ", "a b", "a\n", "\xc3\xa9", "a\"b"};
    memset(text, 'a', SPIKE_AUTH_TOKEN_SIZE);
    snprintf(authorization, sizeof authorization, "Bearer %s", held.token);
    for (size_t i = 0; i < COUNT_OF(BAD); i++)
        EXPECT(INVALID_ARGUMENT, spike_auth_client_invalidate(client, "odd", 3, BAD[i], NUL_TERMINATED, err));
    EXPECT(INVALID_ARGUMENT, spike_auth_client_invalidate(client, "odd", 3, "a\0b", 3, err));
    EXPECT(INVALID_ARGUMENT, spike_auth_client_invalidate(client, "odd", 3, NULL, 0, err));
    EXPECT(INVALID_ARGUMENT, spike_auth_client_invalidate(client, "odd", 3, text, SPIKE_AUTH_TOKEN_SIZE, err));
    EXPECT(OK, spike_auth_client_invalidate(client, "odd", 3, text, SPIKE_AUTH_TOKEN_SIZE - 1, err));
    CHECK_STATUS(spike_auth_client_invalidate(client, "odd", 3, authorization, NUL_TERMINATED, &err),
                 SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
    CHECK_LACKS(err.message, held.token);
    CHECK_STR(get_own(client, "odd").token, held.token);
    spike_auth_client_free(client);
}

/* ---- everything at once --------------------------------------------------------------------------------- */

enum { MOST_MIXERS = 64, MIX_USERS = 256, MIX_CAPACITY = 200, MIX_MS = 1500, QUICK_MIX_MS = 300 };

struct mixer {
    const spike_auth_client *client;
    int number;
    unsigned seed;
    long asked;   /* calls that the cache answered or not */
    long past_it; /* requests that went past the cache */
    atomic_int *stop;
    pthread_t thread;
    char token[SPIKE_AUTH_TOKEN_SIZE]; /* some token of some user, to report */
};

static int is_one_of(int32_t status, int32_t first, int32_t second)
{
    return status == first || status == second;
}

/* A user's token, or the reason why there is none for five seconds. */
static void mix_get(struct mixer *mixer, const char *user)
{
    struct result result = get(mixer->client, user);
    mixer->asked++;
    CHECK(is_one_of(result.status, SPIKE_AUTH_STATUS_OK, SPIKE_AUTH_STATUS_TOKEN_REJECTED));
    if (result.status == SPIKE_AUTH_STATUS_OK) {
        check_that(token_is_for(result.token, user), __FILE__, __LINE__, "not the token of %s", user);
        memcpy(mixer->token, result.token, result.len + 1);
    }
}

static void mix_authorization(struct mixer *mixer, const char *user)
{
    char out[SPIKE_AUTH_AUTHORIZATION_SIZE];
    size_t len;
    int32_t status = read_authorization(mixer->client, user, out, sizeof out, &len, NULL);
    mixer->asked++;
    CHECK(is_one_of(status, SPIKE_AUTH_STATUS_OK, SPIKE_AUTH_STATUS_TOKEN_REJECTED));
    if (status == SPIKE_AUTH_STATUS_OK)
        CHECK(strncmp(out, "Bearer ", 7) == 0 && token_is_for(out + 7, user));
}

static void mix_peek(struct mixer *mixer, const char *user)
{
    struct result result = peek(mixer->client, user);
    CHECK(is_one_of(result.status, SPIKE_AUTH_STATUS_OK, SPIKE_AUTH_STATUS_NOT_CACHED));
    if (result.status != SPIKE_AUTH_STATUS_OK)
        return;
    mixer->asked++; /* one that finds nothing asks for nothing */
    CHECK(token_is_for(result.token, user));
}

static void mix_small_buffer(struct mixer *mixer, const char *user)
{
    char out[40];
    size_t len;
    CHECK_STATUS(read_token(mixer->client, user, out, sizeof out, &len, NULL), SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL);
    CHECK(len >= sizeof out && out[0] == 0);
    mixer->asked++;
}

static void mix_report(struct mixer *mixer, const char *user)
{
    mix_get(mixer, user);
    if (mixer->token[0])
        CHECK_STATUS(report(mixer->client, user, mixer->token), SPIKE_AUTH_STATUS_OK);
}

/* A user of its own, so that the fault is met once. */
static void mix_retry(struct mixer *mixer, const char *fault)
{
    char user[129];
    struct result result;
    snprintf(user, sizeof user, "fault.%s.mix-%d-%ld", fault, mixer->number, mixer->asked);
    result = get(mixer->client, user);
    mixer->asked++;
    if (result.status == SPIKE_AUTH_STATUS_OK)
        CHECK(token_is_for(result.token, user));
    else
        CHECK(is_one_of(result.status, SPIKE_AUTH_STATUS_SERVER_ERROR, SPIKE_AUTH_STATUS_REFUSED));
}

static void mix_once(struct mixer *mixer)
{
    char user[64];
    int what = rand_r(&mixer->seed) % 128;
    snprintf(user, sizeof user, "mix-%d", rand_r(&mixer->seed) % MIX_USERS);
    if (what < 60) {
        mix_get(mixer, user);
    } else if (what < 80) {
        mix_authorization(mixer, user);
    } else if (what < 100) {
        mix_peek(mixer, user);
    } else if (what < 108) {
        mix_small_buffer(mixer, user);
    } else if (what < 116) {
        CHECK_STATUS(forget(mixer->client, user), SPIKE_AUTH_STATUS_OK);
    } else if (what < 118) {
        mix_report(mixer, user);
    } else if (what < 119) {
        CHECK_STATUS(spike_auth_client_clear(mixer->client, NULL), SPIKE_AUTH_STATUS_OK);
    } else if (what < 121) {
        CHECK_STATUS(exchange(mixer->client, user).status, SPIKE_AUTH_STATUS_OK);
        mixer->past_it++;
    } else if (what < 122) {
        mix_retry(mixer, "status.422");
    } else {
        mix_retry(mixer, "status.503.x1");
    }
}

static void *mix_until_stopped(void *argument)
{
    struct mixer *mixer = argument;
    while (!atomic_load(mixer->stop))
        mix_once(mixer);
    return NULL;
}

static void *add_up_until_stopped(void *argument)
{
    struct mixer *mixer = argument;
    while (!atomic_load(mixer->stop)) {
        spike_auth_stats stats = stats_of(mixer->client);
        check_sums(&stats, -1);
        CHECK(stats.entries <= MIX_CAPACITY);
    }
    return NULL;
}

static int has_seen_everything(const spike_auth_client *client)
{
    spike_auth_stats stats = stats_of(client);
    return stats.hits > 0 && stats.retries > 0 && stats.failures > 0 && stats.invalidations > 0;
}

static void threads_that_do_everything_at_once_get_their_own_tokens_and_the_counters_add_up(void)
{
    static struct mixer mixers[MOST_MIXERS], observer;
    int count = is_quick() ? 8 : MOST_MIXERS;
    atomic_int stop = 0;
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client;
    spike_auth_stats stats;
    long requests = counter("requests"), asked = 0, past_it = 0;
    REQUIRE(spike_auth_config_set_cache_capacity(config, MIX_CAPACITY, NULL) == 0);
    REQUIRE(spike_auth_config_set_max_attempts(config, 0, NULL) == 0);
    client = client_of(config);
    observer = (struct mixer){.client = client, .stop = &stop};
    REQUIRE(pthread_create(&observer.thread, NULL, add_up_until_stopped, &observer) == 0);
    for (int i = 0; i < count; i++) {
        mixers[i] = (struct mixer){.client = client, .number = i, .seed = (unsigned)i, .stop = &stop};
        REQUIRE(pthread_create(&mixers[i].thread, NULL, mix_until_stopped, &mixers[i]) == 0);
    }
    sleep_ms(is_quick() ? QUICK_MIX_MS : MIX_MS);
    for (int i = 0; i < 2000 && !has_seen_everything(client); i++) /* longer where the machine is busy */
        sleep_ms(10);
    atomic_store(&stop, 1);
    pthread_join(observer.thread, NULL);
    for (int i = 0; i < count; i++) {
        pthread_join(mixers[i].thread, NULL);
        asked += mixers[i].asked;
        past_it += mixers[i].past_it;
    }
    stats = stats_of(client);
    check_sums(&stats, asked);
    CHECK_EQ_INT(counter("requests") - requests, (long)stats.requests + past_it);
    CHECK(has_seen_everything(client));
    CHECK(stats.entries <= MIX_CAPACITY);
    CHECK_STATUS(spike_auth_client_clear(client, NULL), SPIKE_AUTH_STATUS_OK);
    stats = stats_of(client);
    CHECK_EQ_INT(stats.entries, 0);
    CHECK_EQ_INT(stats.bytes, 0);
    spike_auth_client_free(client);
}

static void *mix_until_closed(void *argument)
{
    struct mixer *mixer = argument;
    char user[64];
    int32_t status = SPIKE_AUTH_STATUS_OK;
    snprintf(user, sizeof user, "mix-%d", mixer->number % 4);
    while (status == SPIKE_AUTH_STATUS_OK) {
        struct result result = get(mixer->client, user);
        status = result.status;
        CHECK(status != SPIKE_AUTH_STATUS_OK || token_is_for(result.token, user));
        if (status == SPIKE_AUTH_STATUS_OK && rand_r(&mixer->seed) % 8 == 0)
            status = forget(mixer->client, user);
    }
    CHECK_STATUS(status, SPIKE_AUTH_STATUS_CLOSED);
    return NULL;
}

static void threads_get_tokens_until_another_one_closes_the_client(void)
{
    enum { THREADS = 16 };
    static struct mixer mixers[THREADS];
    spike_auth_client *client = sandbox_client("http");
    for (int i = 0; i < THREADS; i++) {
        mixers[i] = (struct mixer){.client = client, .number = i, .seed = (unsigned)i};
        REQUIRE(pthread_create(&mixers[i].thread, NULL, mix_until_closed, &mixers[i]) == 0);
    }
    sleep_ms(50);
    spike_auth_client_close(client);
    for (int i = 0; i < THREADS; i++)
        pthread_join(mixers[i].thread, NULL);
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(a_miss_needs_room_for_any_token);
    RUN(a_client_that_keeps_nothing_always_misses);
    RUN(a_hit_needs_room_for_itself_and_loses_nothing_where_there_is_none);
    RUN(pointers_and_lengths_are_checked_on_a_hit_too);
    RUN(memory_may_be_uninitialised_and_unaligned);
    RUN(a_user_id_needs_no_nul);
    RUN(the_second_token_of_a_user_makes_no_request);
    RUN(each_user_has_a_token_of_its_own_and_each_client_a_cache_of_its_own);
    RUN(the_service_is_asked_by_exchange_whatever_is_kept);
    RUN(to_peek_sends_nothing);
    RUN(what_is_forgotten_or_cleared_is_asked_for_again);
    RUN(the_bounds_hold_and_what_goes_was_not_asked_for_lately);
    RUN(every_number_is_a_setting);
    RUN(failures_are_not_kept);
    RUN(a_handle_that_was_cancelled_gets_no_token_however_near);
    RUN(a_closed_client_says_so_whatever_it_holds);
    RUN(many_callers_share_one_exchange);
    RUN(who_is_cancelled_leaves_the_others_to_it);
    RUN(to_close_ends_all_who_wait);
    RUN(many_who_report_the_same_token_make_one_exchange);
    RUN(a_report_drops_nothing_but_the_token_that_it_names);
    RUN(what_can_be_no_token_cannot_be_reported);
    RUN(threads_that_do_everything_at_once_get_their_own_tokens_and_the_counters_add_up);
    RUN(threads_get_tokens_until_another_one_closes_the_client);
    return check_summary();
}
