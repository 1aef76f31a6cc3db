/* The cache and the two clocks. Both are this program's own: the wall clock can be set, and the
 * monotonic clock stands still unless it is moved, so that an hour takes no time and is exact. Against a
 * sandbox whose tokens differ at each exchange.
 *
 * usage: clock NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "cache.h"

#include <sys/syscall.h>

/* A call that hangs has no deadline here; a signal ends the program. */
enum { PROGRAM_SECONDS = 60 };

enum { SECOND_MS = 1000, MINUTE_MS = 60 * SECOND_MS, HOUR_MS = 60 * MINUTE_MS, DAY_MS = 24 * HOUR_MS };

/* ---- the clocks ------------------------------------------------------------------------------------------- */

static atomic_llong wall_is_ahead_ms;
static atomic_llong monotonic_ms;

/* Replaces the C library's function, also for the library under test. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (clock == CLOCK_MONOTONIC) {
        long long ms = DAY_MS + atomic_load(&monotonic_ms);
        *now = (struct timespec){ms / 1000, ms % 1000 * 1000000};
        return 0;
    }
    if (syscall(SYS_clock_gettime, clock, now) != 0)
        return -1;
    if (clock == CLOCK_REALTIME)
        now->tv_sec += atomic_load(&wall_is_ahead_ms) / 1000;
    return 0;
}

static void pass(long long ms)
{
    atomic_fetch_add(&monotonic_ms, ms);
}

static void set_the_wall_clock_ahead(long long ms)
{
    atomic_store(&wall_is_ahead_ms, ms);
}

/* ---- the monotonic clock ---------------------------------------------------------------------------------- */

enum { DEFAULT_TTL = -1 };

static spike_auth_client *client_with_ttl(int64_t ttl_ms)
{
    spike_auth_config *config = sandbox_config("http");
    if (ttl_ms != DEFAULT_TTL)
        REQUIRE(spike_auth_config_set_cache_ttl_ms(config, (uint64_t)ttl_ms, NULL) == 0);
    return client_of(config);
}

/* A call without room for any token gets the cached one, also if that is due for renewal. */
static int32_t get_cached(const spike_auth_client *client, const char *user, char *token, size_t cap)
{
    size_t len;
    return spike_auth_client_get_token(client, user, NUL_TERMINATED, NULL, token, cap, &len, NULL);
}

/* A token that comes now is due for renewal at `due_ms`, and expires at `expires_ms`. */
static void check_lifetime(const spike_auth_client *client, const char *user, long long due_ms, long long expires_ms)
{
    struct result first = get(client, user), second;
    long requests = counter("requests");
    static char token[SPIKE_AUTH_TOKEN_SIZE];
    CHECK_STATUS(first.status, SPIKE_AUTH_STATUS_OK);
    pass(due_ms - 1);
    CHECK_STR(peek(client, user).token, first.token);
    CHECK_STR(get(client, user).token, first.token);
    CHECK_EQ_INT(counter("requests"), requests);
    pass(1);
    CHECK_STATUS(peek(client, user).status, SPIKE_AUTH_STATUS_NOT_CACHED); /* so that the caller goes on to get */
    second = get(client, user);
    CHECK_STATUS(second.status, SPIKE_AUTH_STATUS_OK);
    CHECK(strcmp(second.token, first.token) != 0);
    CHECK_EQ_INT(counter("requests"), requests + 1);
    pass(expires_ms - 1);
    CHECK_STATUS(get_cached(client, user, token, second.len + 1), SPIKE_AUTH_STATUS_OK);
    CHECK_STR(token, second.token);
    pass(1);
    CHECK_STATUS(get_cached(client, user, token, second.len + 1), SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL);
    CHECK_EQ_INT(counter("requests"), requests + 1);
}

static const struct lifetime {
    const char *user;
    int64_t ttl_ms;
    long long due_ms;
    long long expires_ms;
} LIFETIMES[] = {
    {"unlimited", DEFAULT_TTL, HOUR_MS, 2 * HOUR_MS},
    {"unlimited", 1, 1, 2},
    {"unlimited", INT64_C(30) * DAY_MS, INT64_C(30) * DAY_MS, INT64_C(60) * DAY_MS},
    {"fault.expires-in.600", DEFAULT_TTL, 9 * MINUTE_MS, 10 * MINUTE_MS},
    {"fault.exp.7200", DEFAULT_TTL, HOUR_MS, 2 * HOUR_MS},
    {"fault.exp.7200", 0, 119 * MINUTE_MS, 2 * HOUR_MS},
    {"fault.exp.300.and.expires-in.60", DEFAULT_TTL, 270 * SECOND_MS, 300 * SECOND_MS},
};

static void a_token_is_due_and_expires_at_exact_times(void)
{
    for (size_t i = 0; i < COUNT_OF(LIFETIMES); i++) {
        spike_auth_client *client = client_with_ttl(LIFETIMES[i].ttl_ms);
        in_round("%s, ttl %lld", LIFETIMES[i].user, (long long)LIFETIMES[i].ttl_ms);
        check_lifetime(client, LIFETIMES[i].user, LIFETIMES[i].due_ms, LIFETIMES[i].expires_ms);
        spike_auth_client_free(client);
    }
}

/* Its replacement may be longer: a caller without room for any token gets the one that is cached. */
static void a_token_that_is_due_needs_room_for_itself_only(void)
{
    spike_auth_client *client = client_with_ttl(MINUTE_MS);
    struct result first = get_own(client, "due");
    struct text_out out = text_out_new(FENCED, first.len + 1, first.len);
    long requests = counter("requests");
    pass(MINUTE_MS);
    EXPECT_TEXT(OK, out, spike_auth_client_get_token(client, "due", NUL_TERMINATED, NULL, out.at, out.cap, &out.len,
                                                     err));
    CHECK_STR(out.at, first.token);
    CHECK_EQ_INT(counter("requests"), requests);
    CHECK(strcmp(get_own(client, "due").token, first.token) != 0);
    text_out_free(&out);
    spike_auth_client_free(client);
}

/* ---- the wall clock ----------------------------------------------------------------------------------------- */

static const long long AHEAD_MS[] = {10 * MINUTE_MS, -10 * MINUTE_MS, DAY_MS, -DAY_MS, 3650LL * DAY_MS};

static void setting_the_wall_clock_changes_nothing_for_cached_tokens(void)
{
    for (size_t i = 0; i < COUNT_OF(AHEAD_MS); i++) {
        spike_auth_client *client = sandbox_client("http");
        struct result expiring = get_own(client, "fault.exp.300.set"), unlimited = get_own(client, "set");
        long requests = counter("requests");
        in_round("%lld ms ahead", AHEAD_MS[i]);
        set_the_wall_clock_ahead(AHEAD_MS[i]);
        CHECK_STR(get_own(client, "fault.exp.300.set").token, expiring.token);
        CHECK_STR(get_own(client, "set").token, unlimited.token);
        pass(270 * SECOND_MS - 1);
        CHECK_STR(get_own(client, "fault.exp.300.set").token, expiring.token);
        pass(1);
        CHECK(!is_cached(client, "fault.exp.300.set"));
        set_the_wall_clock_ahead(0);
        CHECK(!is_cached(client, "fault.exp.300.set"));
        CHECK_STR(get_own(client, "set").token, unlimited.token);
        CHECK_EQ_INT(counter("requests"), requests);
        spike_auth_client_free(client);
    }
}

/* The token itself says for how long it is valid. */
static void a_wrong_wall_clock_changes_nothing_for_new_tokens(void)
{
    static const char *const USERS[] = {"fault.exp.300.off", "fault.exp.300.and.no-date",
                                        "fault.exp.300.and.date-garbage", "fault.exp.300.and.date-skew.3600"};
    for (size_t i = 0; i < COUNT_OF(AHEAD_MS) * COUNT_OF(USERS); i++) {
        const char *user = USERS[i % COUNT_OF(USERS)];
        long long ahead = AHEAD_MS[i / COUNT_OF(USERS)];
        spike_auth_client *client = sandbox_client("http");
        in_round("%s, %lld ms ahead", user, ahead);
        set_the_wall_clock_ahead(ahead);
        check_lifetime(client, user, 270 * SECOND_MS, 300 * SECOND_MS);
        set_the_wall_clock_ahead(0);
        spike_auth_client_free(client);
    }
}

static void setting_the_wall_clock_during_a_call_changes_nothing(void)
{
    static const char USER[] = "fault.delay.300.and.exp.300.during";
    for (size_t i = 0; i < COUNT_OF(AHEAD_MS); i++) {
        static struct running caller;
        spike_auth_client *client = sandbox_client("http");
        in_round("%lld ms ahead", AHEAD_MS[i]);
        start(&caller, spike_auth_client_get_token, client, USER);
        wait_until_in_flight(1);
        set_the_wall_clock_ahead(AHEAD_MS[i]);
        finish_with(&caller, SPIKE_AUTH_STATUS_OK);
        CHECK_STR(get_own(client, USER).token, caller.result.token);
        pass(270 * SECOND_MS - 1);
        CHECK(is_cached(client, USER));
        pass(1);
        CHECK(!is_cached(client, USER));
        set_the_wall_clock_ahead(0);
        spike_auth_client_free(client);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    set_signal(SIGALRM, SIG_DFL);
    alarm(PROGRAM_SECONDS);
    RUN(a_token_is_due_and_expires_at_exact_times);
    RUN(a_token_that_is_due_needs_room_for_itself_only);
    RUN(setting_the_wall_clock_changes_nothing_for_cached_tokens);
    RUN(a_wrong_wall_clock_changes_nothing_for_new_tokens);
    RUN(setting_the_wall_clock_during_a_call_changes_nothing);
    return check_summary();
}
