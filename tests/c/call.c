/* Call handles: a call's own deadline, cancelling it, and how often it is tried. Against the sandbox.
 *
 * usage: call NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <pthread.h>

/* A busy machine may be late by itself: a limit holds if one of so many tries keeps it. A library
 * that breaks it does so every time. */
enum { TRIES = 3, CANCEL_MS = 50, GRACE_MS = 100 };

static spike_auth_call *new_call(uint32_t timeout_ms)
{
    spike_auth_call *call = NULL;
    REQUIRE(spike_auth_call_new(&call, NULL) == SPIKE_AUTH_STATUS_OK);
    REQUIRE(spike_auth_call_set_timeout_ms(call, timeout_ms, NULL) == SPIKE_AUTH_STATUS_OK);
    return call;
}

/* As the defaults are: three attempts. */
static spike_auth_config *retrying_config(const char *place)
{
    spike_auth_config *config = sandbox_config(place);
    REQUIRE(spike_auth_config_set_max_attempts(config, 0, NULL) == 0);
    return config;
}

/* ---- timeouts -------------------------------------------------------------------------------------- */

static void a_calls_timeout_is_1_to_600000_or_the_clients(void)
{
    static const uint32_t GOOD[] = {0, 1, 600000}, BAD[] = {600001, UINT32_MAX};
    spike_auth_call *call = new_call(0);
    for (size_t i = 0; i < COUNT_OF(GOOD); i++)
        EXPECT(OK, spike_auth_call_set_timeout_ms(call, GOOD[i], err));
    for (size_t i = 0; i < COUNT_OF(BAD); i++)
        EXPECT(INVALID_ARGUMENT, spike_auth_call_set_timeout_ms(call, BAD[i], err));
    EXPECT(NULL_POINTER, spike_auth_call_set_timeout_ms(NULL, 1, err));
    EXPECT(NULL_POINTER, spike_auth_call_new(NULL, err));
    spike_auth_call_cancel(NULL);
    spike_auth_call_free(NULL);
    spike_auth_call_free(call);
}

static double time_out(const spike_auth_client *client, uint32_t timeout_ms, uint32_t expected_ms)
{
    spike_auth_call *call = new_call(timeout_ms);
    struct result result = exchange_with(client, "alice", call);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_TIMEOUT);
    CHECK_EQ_INT(result.err.retryable, 1);
    CHECK(result.took_ms >= expected_ms - 1);
    spike_auth_call_free(call);
    return result.took_ms;
}

static void a_calls_timeout_takes_the_place_of_the_clients(void)
{
    static const struct {
        uint32_t of_call, expected;
    } ROWS[] = {{1, 1}, {100, 100}, {0, 300}, {700, 700}}; /* the last is longer than the client's */
    static const char *const PLACES[] = {"silent", "silent_tls", "full"};
    for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
        spike_auth_config *config = sandbox_config(PLACES[i]);
        spike_auth_client *client;
        CHECK_STATUS(spike_auth_config_set_timeout_ms(config, 300, NULL), 0);
        client = client_of(config);
        for (size_t k = 0; k < COUNT_OF(ROWS); k++) {
            double most = ROWS[k].expected + GRACE_MS, took = most + 1;
            in_round("%s, %u ms", PLACES[i], (unsigned)ROWS[k].of_call);
            for (int tries = 0; tries < TRIES && took > most; tries++)
                took = time_out(client, ROWS[k].of_call, ROWS[k].expected);
            check_that(took <= most, __FILE__, __LINE__, "took %.0f ms", took);
        }
        spike_auth_client_free(client);
    }
}

static void the_longest_timeout_does_not_overflow(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_call *call = new_call(600000);
    struct result result = exchange_with(client, "alice", call);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
    spike_auth_call_free(call);
    spike_auth_client_free(client);
}

static void one_handle_serves_many_calls_one_after_the_other(void)
{
    spike_auth_client *first = sandbox_client("http"), *second = sandbox_client("https");
    spike_auth_call *call = new_call(5000);
    for (int i = 0; i < 20; i++) {
        struct result result = exchange_with(i % 2 ? first : second, "alice", call);
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
        CHECK(token_is_for(result.token, "alice"));
    }
    spike_auth_call_free(call);
    spike_auth_client_free(first);
    spike_auth_client_free(second);
}

/* ---- cancel ---------------------------------------------------------------------------------------- */

static void cancelling_before_and_after_a_call(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_call *call = new_call(0);
    long requests = counter("requests");
    struct result result = exchange_with(client, "alice", call);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
    spike_auth_call_cancel(call); /* after it: the token stands, the handle is used up */
    for (int i = 0; i < 3; i++) {
        result = exchange_with(client, "alice", call);
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_CANCELLED);
        CHECK_EQ_INT(result.err.attempts, 0);
        CHECK_EQ_INT(result.err.http_status, 0);
        CHECK_EQ_INT(result.err.retryable, 0);
        CHECK_EQ_INT(result.err.retry_after_ms, -1);
    }
    CHECK_EQ_INT(counter("requests"), requests + 1);
    check_token(client, "alice"); /* the client knows nothing of it */
    spike_auth_call_free(call);
    spike_auth_client_free(client);
}

struct running {
    spike_auth_client *client;
    const char *user;
    spike_auth_call *call;
    struct result result;
    double ended_at;
};

static void *run(void *argument)
{
    struct running *running = argument;
    running->result = exchange_with(running->client, running->user, running->call);
    running->ended_at = now_ms();
    return NULL;
}

static double cancel_during_call(const char *place, const char *user)
{
    struct running running = {client_of(retrying_config(place)), user, new_call(20000), {0}, 0};
    pthread_t thread;
    double cancelled_at;
    REQUIRE(pthread_create(&thread, NULL, run, &running) == 0);
    sleep_ms(120);
    cancelled_at = now_ms();
    spike_auth_call_cancel(running.call);
    pthread_join(thread, NULL);
    CHECK_STATUS(running.result.status, SPIKE_AUTH_STATUS_CANCELLED);
    spike_auth_call_free(running.call);
    if (strncmp(user, "fault.", 6) == 0)
        check_token(running.client, "alice");
    spike_auth_client_free(running.client);
    return running.ended_at - cancelled_at;
}

static void cancelling_during_a_call_ends_it_at_once_wherever_it_is(void)
{
    static const char *const WHERE[][2] = {
        {"full", "alice"}, {"silent_tls", "alice"}, {"silent", "alice"}, {"http", "fault.stall"},
        {"https", "fault.stall-mid-body"}, {"http", "fault.drip.20"}, {"https", "fault.drip-body.20"},
        {"http", "fault.retry-after.5"}, {"http", "fault.status.401.and.stall-mid-body"},
    };
    for (size_t i = 0; i < COUNT_OF(WHERE); i++) {
        double took = CANCEL_MS + 1;
        in_round("%s %s", WHERE[i][0], WHERE[i][1]);
        for (int k = 0; k < TRIES && took > CANCEL_MS; k++)
            took = cancel_during_call(WHERE[i][0], WHERE[i][1]);
        check_that(took <= CANCEL_MS, __FILE__, __LINE__, "took %.0f ms", took);
    }
}

enum { CALLS = 64, CANCELLERS = 8 };

struct crowd {
    struct running calls[CALLS];
    atomic_int is_over;
};

static void *cancel_often(void *argument)
{
    struct crowd *crowd = argument;
    while (!atomic_load(&crowd->is_over)) {
        for (int i = 0; i < CALLS; i += 2) /* the others are let alone */
            spike_auth_call_cancel(crowd->calls[i].call);
        sleep_ms(1);
    }
    return NULL;
}

/* Half of the calls wait for ever if nobody cancels them; the other half must not be touched. */
static void many_threads_cancel_half_of_many_calls(void)
{
    static struct crowd crowd;
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client;
    pthread_t callers[CALLS], cancellers[CANCELLERS];
    CHECK_STATUS(spike_auth_config_set_max_concurrency(config, 48, NULL), 0); /* some wait for a slot */
    client = client_of(config);
    for (int i = 0; i < CALLS; i++) {
        const char *user = i % 2 ? "fault.delay.300" : "fault.stall";
        crowd.calls[i] = (struct running){client, user, new_call(30000), {0}, 0};
        REQUIRE(pthread_create(&callers[i], NULL, run, &crowd.calls[i]) == 0);
    }
    sleep_ms(100);
    for (int i = 0; i < CANCELLERS; i++)
        REQUIRE(pthread_create(&cancellers[i], NULL, cancel_often, &crowd) == 0);
    for (int i = 0; i < CALLS; i++) {
        pthread_join(callers[i], NULL);
        in_round("call %d", i);
        CHECK_STATUS(crowd.calls[i].result.status, i % 2 ? SPIKE_AUTH_STATUS_OK : SPIKE_AUTH_STATUS_CANCELLED);
    }
    atomic_store(&crowd.is_over, 1);
    for (int i = 0; i < CANCELLERS; i++)
        pthread_join(cancellers[i], NULL);
    for (int i = 0; i < CALLS; i++)
        spike_auth_call_free(crowd.calls[i].call);
    check_token(client, "alice");
    spike_auth_client_free(client);
}

/* ---- how often it is tried ------------------------------------------------------------------------- */

struct row {
    const char *fault;
    int32_t status;
    int32_t http_status;
    uint32_t fewest, most; /* requests */
    int64_t retry_after_ms;
    uint32_t retryable;
    double at_most_ms;
};

enum { DEADLINE_MS = 2000, AT_ONCE_MS = 500, BACKOFF_MS = 300, YEAR_S = 365 * 24 * 3600 };

#define GOOD(fault, requests) {fault, SPIKE_AUTH_STATUS_OK, 0, requests, requests, -1, 0, DEADLINE_MS + GRACE_MS}
#define ONCE(fault, status, http_status) \
    {fault, SPIKE_AUTH_STATUS_##status, http_status, 1, 1, -1, 0, AT_ONCE_MS}
#define THRICE(fault, status, http_status) \
    {fault, SPIKE_AUTH_STATUS_##status, http_status, 3, 3, -1, 1, AT_ONCE_MS + BACKOFF_MS}
#define TOLD(fault, status, http_status, requests, seconds, at_most_ms) \
    {fault, SPIKE_AUTH_STATUS_##status, http_status, requests, requests, (seconds) * INT64_C(1000), 1, at_most_ms}
#define LATE(fault, http_status) \
    {fault, SPIKE_AUTH_STATUS_TIMEOUT, http_status, 1, 1, -1, 1, DEADLINE_MS + GRACE_MS}

static const struct row ROWS[] = {
    GOOD("close-next", 1), GOOD("status.500.x1", 2), GOOD("status.502.x2", 3), GOOD("status.408.x2", 3),
    GOOD("close-before.x2", 3), GOOD("close-mid-body.x2", 3), GOOD("reset-mid.x2", 3),
    GOOD("status.503.x1", 2), GOOD("retry-after.0.x2", 3), GOOD("retry-after.1.x1", 2),
    GOOD("retry-after-date.-30.x2", 3), GOOD("retry-after-garbage.words.x1", 2),
    ONCE("status.400", REFUSED, 400), ONCE("status.401", UNAUTHORIZED, 401), ONCE("status.403", FORBIDDEN, 403),
    ONCE("status.422", REFUSED, 422), ONCE("status.302", UNEXPECTED_STATUS, 302),
    ONCE("status.501", SERVER_ERROR, 501), ONCE("html", INVALID_RESPONSE, 200),
    ONCE("no-token", INVALID_RESPONSE, 200), ONCE("garbage", INVALID_RESPONSE, 0),
    ONCE("big-header", RESPONSE_TOO_LARGE, 0), ONCE("big-body.65537", RESPONSE_TOO_LARGE, 200),
    THRICE("status.408", SERVER_ERROR, 408), THRICE("status.425", SERVER_ERROR, 425),
    THRICE("status.500", SERVER_ERROR, 500), THRICE("status.504", SERVER_ERROR, 504),
    THRICE("html-error", SERVER_ERROR, 502), THRICE("close-before", CONNECTION_LOST, 0),
    THRICE("close-mid-head", CONNECTION_LOST, 0), THRICE("close-mid-body", CONNECTION_LOST, 200),
    THRICE("reset-before", CONNECTION_LOST, 0),
    {"status.429", SPIKE_AUTH_STATUS_RATE_LIMITED, 429, 2, 3, -1, 1, DEADLINE_MS + GRACE_MS},
    {"retry-after.-5", SPIKE_AUTH_STATUS_SERVER_ERROR, 503, 2, 3, -1, 1, DEADLINE_MS + GRACE_MS},
    TOLD("retry-after.0", SERVER_ERROR, 503, 3, 0, AT_ONCE_MS + BACKOFF_MS),
    TOLD("retry-after.1", SERVER_ERROR, 503, 2, 1, 1000 + AT_ONCE_MS),
    TOLD("retry-after.2", SERVER_ERROR, 503, 1, 2, AT_ONCE_MS),
    TOLD("status.429.and.retry-after.60", RATE_LIMITED, 429, 1, 60, AT_ONCE_MS),
    TOLD("retry-after-date.1000000000", SERVER_ERROR, 503, 1, YEAR_S, AT_ONCE_MS),
    TOLD("retry-after-garbage.overflow", SERVER_ERROR, 503, 1, YEAR_S, AT_ONCE_MS),
    LATE("stall", 0), LATE("stall-mid-body", 200), LATE("drip", 0),
};

/* A client of its own for each: on a kept connection, an end before the reply is tried again for nothing. */
static double check_row(const spike_auth_config *config, const struct row *row, const char *user)
{
    spike_auth_call *call = new_call(DEADLINE_MS);
    spike_auth_client *client = NULL;
    struct result result;
    long requests;
    REQUIRE(spike_auth_client_new(config, &client, NULL) == 0);
    result = exchange_with(client, user, call);
    requests = counter(user);
    CHECK_STATUS(result.status, row->status);
    CHECK_EQ_INT(result.err.http_status, row->http_status);
    CHECK_EQ_INT(result.err.retryable, row->retryable);
    CHECK_EQ_INT(result.err.retry_after_ms, row->retry_after_ms);
    CHECK(requests >= row->fewest && requests <= row->most);
    CHECK_EQ_INT(result.err.attempts, requests);
    if (row->status == SPIKE_AUTH_STATUS_OK)
        CHECK(token_is_for(result.token, user));
    if (row->status == SPIKE_AUTH_STATUS_TIMEOUT)
        CHECK(result.took_ms >= DEADLINE_MS - 1);
    spike_auth_client_free(client);
    spike_auth_call_free(call);
    return result.took_ms;
}

struct rows {
    const char *place;
    const spike_auth_config *config;
    atomic_size_t next;
};

static void *check_rows(void *argument)
{
    struct rows *rows = argument;
    for (size_t i; (i = atomic_fetch_add(&rows->next, 1)) < COUNT_OF(ROWS);) {
        const struct row *row = &ROWS[i];
        double took = row->at_most_ms + 1;
        for (int k = 0; k < TRIES && took > row->at_most_ms; k++) {
            char user[129]; /* one of its own for each try, so that it is counted apart */
            snprintf(user, sizeof user, "fault.%s.%s-%d", row->fault, rows->place, k);
            in_round("%s", user);
            took = check_row(rows->config, row, user);
        }
        check_that(took <= row->at_most_ms, __FILE__, __LINE__, "took %.0f ms", took);
    }
    return NULL;
}

static void every_fault_is_tried_as_often_as_it_may(void)
{
    enum { THREADS = 8 };
    static const char *const PLACES[] = {"http", "https"};
    for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
        spike_auth_config *config = retrying_config(PLACES[i]);
        struct rows rows = {PLACES[i], config, 0};
        pthread_t threads[THREADS];
        for (int k = 0; k < THREADS; k++)
            REQUIRE(pthread_create(&threads[k], NULL, check_rows, &rows) == 0);
        for (int k = 0; k < THREADS; k++)
            pthread_join(threads[k], NULL);
        spike_auth_config_free(config);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(a_calls_timeout_is_1_to_600000_or_the_clients);
    RUN(a_calls_timeout_takes_the_place_of_the_clients);
    RUN(the_longest_timeout_does_not_overflow);
    RUN(one_handle_serves_many_calls_one_after_the_other);
    RUN(cancelling_before_and_after_a_call);
    RUN(cancelling_during_a_call_ends_it_at_once_wherever_it_is);
    RUN(many_threads_cancel_half_of_many_calls);
    RUN(every_fault_is_tried_as_often_as_it_may);
    return check_summary();
}
