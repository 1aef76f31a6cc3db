/* What the cache makes of time. The clocks are this program's own: the wall clock can be set, and the other one stands
 * still unless it is moved, so that an hour takes no time and is exact. Against a sandbox whose tokens differ at each
 * exchange.
 *
 * usage: clock NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "cache.h"

#include <sys/syscall.h>

/* A call that hangs has no deadline here: it is ended by a signal. */
enum { PROGRAM_SECONDS = 60 };

enum { SECOND_MS = 1000, MINUTE_MS = 60 * SECOND_MS, HOUR_MS = 60 * MINUTE_MS, DAY_MS = 24 * HOUR_MS };

/* ---- clocks of our own ------------------------------------------------------------------------------------ */

static atomic_llong wall_is_ahead_ms;
static atomic_llong monotonic_ms;

/* Takes the place of the C library's, for the library under test too. */
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

/* ---- how long a token is kept ------------------------------------------------------------------------------- */

enum { DEFAULT_TTL = -1 };

static spike_auth_client *client_with_ttl(int64_t ttl_ms)
{
    spike_auth_config *config = sandbox_config("http");
    if (ttl_ms != DEFAULT_TTL)
        REQUIRE(spike_auth_config_set_cache_ttl_ms(config, (uint64_t)ttl_ms, NULL) == 0);
    return client_of(config);
}

/* The token of a user that is there, due or not: a call without room for any other one gets it. */
static int32_t get_what_is_there(const spike_auth_client *client, const char *user, char *token, size_t cap)
{
    size_t len;
    return spike_auth_client_get_token(client, user, NUL_TERMINATED, NULL, token, cap, &len, NULL);
}

/* A token that comes now is due for another at `due_ms`, and is there until `ends_ms`. */
static void check_term(const spike_auth_client *client, const char *user, long long due_ms, long long ends_ms)
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
    CHECK_STATUS(peek(client, user).status, SPIKE_AUTH_STATUS_NOT_CACHED); /* so that its caller goes on to get */
    second = get(client, user);
    CHECK_STATUS(second.status, SPIKE_AUTH_STATUS_OK);
    CHECK(strcmp(second.token, first.token) != 0);
    CHECK_EQ_INT(counter("requests"), requests + 1);
    pass(ends_ms - 1);
    CHECK_STATUS(get_what_is_there(client, user, token, second.len + 1), SPIKE_AUTH_STATUS_OK);
    CHECK_STR(token, second.token);
    pass(1);
    CHECK_STATUS(get_what_is_there(client, user, token, second.len + 1), SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL);
    CHECK_EQ_INT(counter("requests"), requests + 1);
}

struct term {
    const char *user;
    int64_t ttl_ms;
    long long due_ms;
    long long ends_ms;
};

static const struct term TERMS[] = {
    {"without-end", DEFAULT_TTL, HOUR_MS, 2 * HOUR_MS},
    {"without-end", 1, 1, 2},
    {"without-end", MINUTE_MS, MINUTE_MS, 2 * MINUTE_MS},
    {"without-end", INT64_C(30) * DAY_MS, INT64_C(30) * DAY_MS, INT64_C(60) * DAY_MS},
    {"fault.expires-in.100", DEFAULT_TTL, 90 * SECOND_MS, 100 * SECOND_MS},
    {"fault.expires-in.600", DEFAULT_TTL, 9 * MINUTE_MS, 10 * MINUTE_MS},
    {"fault.expires-in.7200", DEFAULT_TTL, HOUR_MS, 2 * HOUR_MS},
    {"fault.expires-in.7200", 0, 119 * MINUTE_MS, 2 * HOUR_MS},
    {"fault.expires-in.100", 5 * SECOND_MS, 5 * SECOND_MS, 100 * SECOND_MS},
    {"fault.expires-in-garbage.text", DEFAULT_TTL, HOUR_MS, 2 * HOUR_MS},
    {"fault.exp.10", DEFAULT_TTL, 9 * SECOND_MS, 10 * SECOND_MS},
    {"fault.exp.300", DEFAULT_TTL, 270 * SECOND_MS, 300 * SECOND_MS},
    {"fault.exp.7200", DEFAULT_TTL, HOUR_MS, 2 * HOUR_MS},
    {"fault.exp.7200", 0, 119 * MINUTE_MS, 2 * HOUR_MS},
    {"fault.exp.300.and.expires-in.60", DEFAULT_TTL, 270 * SECOND_MS, 300 * SECOND_MS},
};

static void a_token_is_due_a_margin_before_its_end_or_at_the_ttl_and_there_until_its_end(void)
{
    for (size_t i = 0; i < COUNT_OF(TERMS); i++) {
        spike_auth_client *client = client_with_ttl(TERMS[i].ttl_ms);
        in_round("%s, ttl %lld", TERMS[i].user, (long long)TERMS[i].ttl_ms);
        check_term(client, TERMS[i].user, TERMS[i].due_ms, TERMS[i].ends_ms);
        spike_auth_client_free(client);
    }
}

/* Another token may be longer: a caller without room for any token makes do with the one that is there. */
static void a_token_that_is_due_needs_no_more_room_than_it_takes(void)
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

static void without_a_ttl_a_token_without_an_end_has_none(void)
{
    spike_auth_client *client = client_with_ttl(0);
    struct result first = get_own(client, "for-ever");
    pass(INT64_C(3650) * DAY_MS);
    CHECK_STR(get_own(client, "for-ever").token, first.token);
    CHECK_EQ_INT(requests_for("for-ever"), 1);
    spike_auth_client_free(client);
}

static void what_had_ended_before_it_came_is_handed_out_and_not_kept(void)
{
    static const char *const USERS[] = {"fault.exp.-30", "fault.exp.0", "fault.expires-in.0", "fault.expires-in.-1"};
    spike_auth_client *client = sandbox_client("http");
    for (size_t i = 0; i < COUNT_OF(USERS); i++) {
        in_round("%s", USERS[i]);
        for (int k = 0; k < 3; k++)
            (void)get_own(client, USERS[i]);
        CHECK_EQ_INT(requests_for(USERS[i]), 3);
    }
    CHECK_EQ_INT(stats_of(client).entries, 0);
    CHECK_EQ_INT(stats_of(client).failures, 0);
    spike_auth_client_free(client);
}

static void what_has_ended_is_held_until_somebody_asks(void)
{
    spike_auth_client *client = sandbox_client("http");
    (void)get_own(client, "ended");
    pass(2 * HOUR_MS);
    CHECK_EQ_INT(stats_of(client).entries, 1);
    CHECK(!is_cached(client, "ended"));
    CHECK_EQ_INT(stats_of(client).entries, 0);
    CHECK_EQ_INT(stats_of(client).bytes, 0);
    spike_auth_client_free(client);
}

/* ---- the wall clock ----------------------------------------------------------------------------------------- */

static const long long AHEAD_MS[] = {10 * MINUTE_MS, -10 * MINUTE_MS, DAY_MS, -DAY_MS, 3650LL * DAY_MS};

static void a_wall_clock_that_is_set_changes_nothing_for_what_is_kept(void)
{
    for (size_t i = 0; i < COUNT_OF(AHEAD_MS); i++) {
        spike_auth_client *client = sandbox_client("http");
        struct result ending = get_own(client, "fault.exp.300.set"), endless = get_own(client, "set");
        long requests = counter("requests");
        in_round("%lld ms ahead", AHEAD_MS[i]);
        set_the_wall_clock_ahead(AHEAD_MS[i]);
        CHECK_STR(get_own(client, "fault.exp.300.set").token, ending.token);
        CHECK_STR(get_own(client, "set").token, endless.token);
        pass(270 * SECOND_MS - 1);
        CHECK_STR(get_own(client, "fault.exp.300.set").token, ending.token);
        pass(1);
        CHECK(!is_cached(client, "fault.exp.300.set"));
        set_the_wall_clock_ahead(0);
        CHECK(!is_cached(client, "fault.exp.300.set"));
        CHECK_STR(get_own(client, "set").token, endless.token);
        CHECK_EQ_INT(counter("requests"), requests);
        spike_auth_client_free(client);
    }
}

/* The token says for how long it is good: whatever any clock says. */
static void a_wall_clock_that_is_off_changes_nothing_for_what_comes(void)
{
    static const char *const USERS[] = {"fault.exp.300.off", "fault.exp.300.and.no-date",
                                        "fault.exp.300.and.date-garbage", "fault.exp.300.and.date-skew.3600"};
    for (size_t i = 0; i < COUNT_OF(AHEAD_MS) * COUNT_OF(USERS); i++) {
        const char *user = USERS[i % COUNT_OF(USERS)];
        long long ahead = AHEAD_MS[i / COUNT_OF(USERS)];
        spike_auth_client *client = sandbox_client("http");
        in_round("%s, %lld ms ahead", user, ahead);
        set_the_wall_clock_ahead(ahead);
        check_term(client, user, 270 * SECOND_MS, 300 * SECOND_MS);
        set_the_wall_clock_ahead(0);
        spike_auth_client_free(client);
    }
}

static void a_wall_clock_that_is_set_during_a_call_changes_nothing(void)
{
    static const char USER[] = "fault.delay.300.and.exp.300.during";
    for (size_t i = 0; i < COUNT_OF(AHEAD_MS); i++) {
        spike_auth_client *client = sandbox_client("http");
        in_round("%lld ms ahead", AHEAD_MS[i]);
        start_callers_of(2, client, USER, NULL);
        while (counter("in_flight") == 0)
            sleep_ms(1);
        set_the_wall_clock_ahead(AHEAD_MS[i]);
        end_callers(2);
        for (int k = 0; k < 2; k++) {
            CHECK_STATUS(callers[k].result.status, SPIKE_AUTH_STATUS_OK);
            CHECK_STR(get_own(client, USER).token, callers[k].result.token);
        }
        pass(270 * SECOND_MS - 1);
        CHECK(is_cached(client, USER));
        pass(1);
        CHECK(!is_cached(client, USER));
        set_the_wall_clock_ahead(0);
        spike_auth_client_free(client);
    }
}

/* ---- reports ------------------------------------------------------------------------------------------------ */

enum { STOPPED_MS = 5000 }; /* how long nothing is asked after a report, or when the key must be wrong */

static void check_rejected(const struct result *result, uint32_t attempts, int64_t retry_after_ms)
{
    CHECK_STATUS(result->status, SPIKE_AUTH_STATUS_TOKEN_REJECTED);
    CHECK_EQ_INT(result->err.attempts, attempts);
    CHECK_EQ_INT(result->err.http_status, attempts ? 200 : 0);
    CHECK_EQ_INT(result->err.retryable, 1);
    CHECK_EQ_INT(result->err.retry_after_ms, retry_after_ms);
}

static void check_still_rejected(const spike_auth_client *client, const char *user, int64_t retry_after_ms)
{
    struct result result = get(client, user);
    char out[SPIKE_AUTH_AUTHORIZATION_SIZE];
    size_t len;
    check_rejected(&result, 0, retry_after_ms);
    CHECK_STATUS(spike_auth_client_get_authorization(client, user, NUL_TERMINATED, NULL, out, sizeof out, &len, NULL),
                 SPIKE_AUTH_STATUS_TOKEN_REJECTED);
    CHECK(!is_cached(client, user));
}

static void the_rejected_token_once_more_is_handed_out_to_nobody_for_five_seconds(void)
{
    static const char USER[] = "fault.huge-token.100.again"; /* the same each time, whatever the sandbox's others are */
    spike_auth_client *client = sandbox_client("http");
    struct result held = get(client, USER), refused;
    CHECK_STATUS(held.status, SPIKE_AUTH_STATUS_OK);
    CHECK_STATUS(report(client, USER, held.token), SPIKE_AUTH_STATUS_OK);
    refused = get(client, USER);
    check_rejected(&refused, 1, STOPPED_MS);
    CHECK_LACKS(refused.err.message, held.token);
    check_still_rejected(client, USER, STOPPED_MS);
    CHECK_STATUS(exchange(client, USER).status, SPIKE_AUTH_STATUS_OK); /* this one always asks */
    (void)get_own(client, "bystander");
    pass(1);
    CHECK_STATUS(report(client, USER, held.token), SPIKE_AUTH_STATUS_OK); /* which makes it no longer */
    check_still_rejected(client, USER, STOPPED_MS - 1);
    pass(STOPPED_MS - 2);
    check_still_rejected(client, USER, 1);
    CHECK_EQ_INT(requests_for(USER), 3);
    CHECK_EQ_INT(stats_of(client).failures, 1);
    pass(1);
    CHECK_STR(get(client, USER).token, held.token);
    CHECK_STR(get(client, USER).token, held.token);
    CHECK_EQ_INT(requests_for(USER), 4);
    spike_auth_client_free(client);
}

static void many_who_report_a_token_that_comes_again_make_one_exchange(void)
{
    static const char USER[] = "fault.huge-token.100.many";
    spike_auth_client *client = sandbox_client("http");
    struct result held = get(client, USER);
    for (int round = 0; round < 3; round++) {
        start_callers_of(MOST_CALLERS, client, USER, held.token);
        end_callers(MOST_CALLERS);
        for (int i = 0; i < MOST_CALLERS; i++) {
            in_round("round %d, caller %d", round, i);
            check_rejected(&callers[i].result, callers[i].result.err.attempts, STOPPED_MS);
        }
    }
    CHECK_EQ_INT(requests_for(USER), 2);
    CHECK_EQ_INT(stats_of(client).invalidations, 1);
    spike_auth_client_free(client);
}

static void a_new_token_that_is_reported_as_well_is_the_last_for_five_seconds(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct result first = get_own(client, "twice"), second;
    CHECK_STATUS(report(client, "twice", first.token), SPIKE_AUTH_STATUS_OK);
    second = get_own(client, "twice");
    CHECK(strcmp(first.token, second.token) != 0);
    pass(2000);
    CHECK_STATUS(report(client, "twice", first.token), SPIKE_AUTH_STATUS_OK); /* old news */
    CHECK_STR(get_own(client, "twice").token, second.token);
    CHECK_STATUS(report(client, "twice", second.token), SPIKE_AUTH_STATUS_OK);
    check_still_rejected(client, "twice", STOPPED_MS - 2000);
    pass(STOPPED_MS - 2001);
    check_still_rejected(client, "twice", 1);
    CHECK_EQ_INT(requests_for("twice"), 2);
    pass(1);
    (void)get_own(client, "twice");
    CHECK_EQ_INT(requests_for("twice"), 3);
    CHECK_EQ_INT(stats_of(client).invalidations, 2);
    CHECK_EQ_INT(stats_of(client).failures, 0);
    spike_auth_client_free(client);
}

static void a_report_five_seconds_later_is_a_first_one(void)
{
    spike_auth_client *client = sandbox_client("http");
    for (int i = 0; i < 4; i++) {
        struct result held = get_own(client, "later");
        CHECK_STATUS(report(client, "later", held.token), SPIKE_AUTH_STATUS_OK);
        CHECK(strcmp(get_own(client, "later").token, held.token) != 0);
        pass(STOPPED_MS);
    }
    CHECK_EQ_INT(requests_for("later"), 5);
    spike_auth_client_free(client);
}

/* ---- refused signatures -------------------------------------------------------------------------------------- */

enum { USERS_IN_A_ROW = 5 };

/* The service refuses the signatures of so many different users, and each of them is told so by the service. */
static void be_refused(const spike_auth_client *client, const char *name, int users)
{
    for (int i = 0; i < users; i++) {
        char user[129];
        struct result result;
        snprintf(user, sizeof user, "fault.status.401.%s-%d", name, i);
        in_round("%s", user);
        result = get(client, user);
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
        CHECK_EQ_INT(result.err.attempts, 1);
        CHECK_EQ_INT(result.err.http_status, 401);
        CHECK_EQ_INT(result.err.retry_after_ms, -1);
    }
    in_round("%s", name);
}

static void check_stopped(const struct result *result, int64_t retry_after_ms)
{
    CHECK_STATUS(result->status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
    CHECK_EQ_INT(result->err.attempts, 0);
    CHECK_EQ_INT(result->err.http_status, 0);
    CHECK_EQ_INT(result->err.retryable, 0);
    CHECK_EQ_INT(result->err.retry_after_ms, retry_after_ms);
}

static void check_user_is_stopped(const spike_auth_client *client, const char *user, int64_t retry_after_ms)
{
    struct result result = get(client, user);
    check_stopped(&result, retry_after_ms);
    CHECK_EQ_INT(requests_for(user), 0);
}

static void after_five_refused_users_one_request_in_five_seconds_goes_out_until_a_success(void)
{
    spike_auth_client *client = sandbox_client("http"), *other = sandbox_client("http");
    struct result held = get_own(client, "held");
    be_refused(client, "stop", USERS_IN_A_ROW);
    check_user_is_stopped(client, "sixth", STOPPED_MS);
    CHECK_STR(get_own(client, "held").token, held.token); /* what is here is here */
    (void)get_own(other, "other");
    pass(STOPPED_MS - 1);
    check_user_is_stopped(client, "sixth", 1);
    pass(1);
    be_refused(client, "probe", 1);
    check_user_is_stopped(client, "sixth", STOPPED_MS);
    pass(10 * STOPPED_MS); /* what was not used does not add up */
    be_refused(client, "late-probe", 1);
    check_user_is_stopped(client, "sixth", STOPPED_MS);
    pass(STOPPED_MS);
    (void)get_own(client, "sixth");
    (void)get_own(client, "seventh");
    be_refused(client, "anew", USERS_IN_A_ROW - 1);
    (void)get_own(client, "eighth");
    CHECK_EQ_INT(stats_of(client).requests, 1 + USERS_IN_A_ROW + 2 + 2 + USERS_IN_A_ROW - 1 + 1);
    spike_auth_client_free(other);
    spike_auth_client_free(client);
}

static void of_many_who_wait_for_the_moment_one_is_let_through(void)
{
    enum { CALLERS = 32 };
    spike_auth_client *client = sandbox_client("http");
    int sent = 0;
    be_refused(client, "moment", USERS_IN_A_ROW);
    pass(STOPPED_MS);
    for (int i = 0; i < CALLERS; i++) {
        char user[129];
        snprintf(user, sizeof user, "fault.delay.50.and.status.401.moment-of-%d", i);
        set_caller(i, client, user, NULL);
    }
    start_callers(CALLERS);
    end_callers(CALLERS);
    for (int i = 0; i < CALLERS; i++) {
        in_round("caller %d", i);
        if (callers[i].result.err.attempts > 0)
            sent++;
        else
            check_stopped(&callers[i].result, STOPPED_MS);
    }
    CHECK_EQ_INT(sent, 1);
    CHECK_EQ_INT(stats_of(client).requests, USERS_IN_A_ROW + 1);
    spike_auth_client_free(client);
}

static void what_is_not_five_users_in_a_row_stops_nothing(void)
{
    spike_auth_client *client = sandbox_client("http");
    for (int i = 0; i < 2 * USERS_IN_A_ROW; i++) {
        char user[129];
        be_refused(client, "the-same", 1);
        snprintf(user, sizeof user, "fault.status.403.forbidden-%d", i);
        CHECK_STATUS(get(client, user).status, SPIKE_AUTH_STATUS_FORBIDDEN);
    }
    be_refused(client, "row", USERS_IN_A_ROW - 2);
    (void)get_own(client, "success");
    be_refused(client, "row", USERS_IN_A_ROW - 1);
    (void)get_own(client, "another-success");
    spike_auth_client_free(client);
}

static void exchange_neither_stops_others_nor_is_stopped(void)
{
    spike_auth_client *client = sandbox_client("http");
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    for (int i = 0; i < 2 * USERS_IN_A_ROW; i++) {
        char user[129];
        snprintf(user, sizeof user, "fault.status.401.exchanged-%d", i);
        sign_for(user, signature);
        CHECK_STATUS(exchange(client, user).status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
        CHECK_STATUS(exchange_signature(client, user, signature).status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
    }
    (void)get_own(client, "let-through");
    be_refused(client, "exchange", USERS_IN_A_ROW);
    check_user_is_stopped(client, "stopped", STOPPED_MS);
    sign_for("alice", signature);
    check_token(client, "alice");
    CHECK_STATUS(exchange_signature(client, "alice", signature).status, SPIKE_AUTH_STATUS_OK);
    check_user_is_stopped(client, "stopped", STOPPED_MS); /* nor does it start them again */
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    set_signal(SIGALRM, SIG_DFL);
    alarm(PROGRAM_SECONDS);
    RUN(a_token_is_due_a_margin_before_its_end_or_at_the_ttl_and_there_until_its_end);
    RUN(a_token_that_is_due_needs_no_more_room_than_it_takes);
    RUN(without_a_ttl_a_token_without_an_end_has_none);
    RUN(what_had_ended_before_it_came_is_handed_out_and_not_kept);
    RUN(what_has_ended_is_held_until_somebody_asks);
    RUN(a_wall_clock_that_is_set_changes_nothing_for_what_is_kept);
    RUN(a_wall_clock_that_is_off_changes_nothing_for_what_comes);
    RUN(a_wall_clock_that_is_set_during_a_call_changes_nothing);
    RUN(the_rejected_token_once_more_is_handed_out_to_nobody_for_five_seconds);
    RUN(many_who_report_a_token_that_comes_again_make_one_exchange);
    RUN(a_new_token_that_is_reported_as_well_is_the_last_for_five_seconds);
    RUN(a_report_five_seconds_later_is_a_first_one);
    RUN(after_five_refused_users_one_request_in_five_seconds_goes_out_until_a_success);
    RUN(of_many_who_wait_for_the_moment_one_is_let_through);
    RUN(what_is_not_five_users_in_a_row_stops_nothing);
    RUN(exchange_neither_stops_others_nor_is_stopped);
    return check_summary();
}
