/* Started calls and their queue: every wrong use, results that equal those of the waiting functions, the
 * descriptor, and limits of the system. Against a sandbox whose tokens differ at each exchange.
 *
 * usage: queue NAME=ADDRESS... [quick=1] [without_tls=1]; the checkers use quick.
 */
#define _GNU_SOURCE
#include "queue.h"
#include "replace.h"

#include <sys/epoll.h>
#include <sys/resource.h>

/* ---- threads that cannot be made ------------------------------------------------------------------------- */

/* How many threads can still be made; below 0 there is no limit. */
static atomic_int threads_left = -1;

REPLACE(pthread_create)

int REPLACED(pthread_create)(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *),
                             void *argument_of_body)
{
    if (atomic_load(&threads_left) == 0)
        return EAGAIN;
    if (atomic_load(&threads_left) > 0)
        atomic_fetch_sub(&threads_left, 1);
    return real_pthread_create()(thread, attributes, body, argument_of_body);
}

/* ---- arguments ------------------------------------------------------------------------------------------- */

static void a_queue_needs_a_place(void)
{
    spike_auth_queue *queue;
    EXPECT(NULL_POINTER, spike_auth_queue_new(NULL, err));
    EXPECT_AROUND(OK, spike_auth_queue_new(&queue, err), queue = NULL, spike_auth_queue_free(queue));
    CHECK_EQ_INT(spike_auth_queue_fd(NULL), -1);
    spike_auth_queue_free(NULL);
    spike_auth_call_cancel(NULL);
    queue = new_queue();
    CHECK(spike_auth_queue_fd(queue) > STDERR_FILENO);
    CHECK(fcntl(spike_auth_queue_fd(queue), F_GETFD) & FD_CLOEXEC);
    check_nothing_to_take(queue);
    spike_auth_queue_free(queue);
}

static void take_checks_its_arguments(void)
{
    spike_auth_queue *queue = new_queue();
    uint64_t tags[2] = {7, 7};
    size_t count;
#define TAKE(queue, tags, cap) spike_auth_queue_take(queue, tags, cap, &count, err)
    EXPECT_AROUND(NULL_POINTER, TAKE(NULL, tags, 2), count = 7, CHECK_EQ_INT(count, 0));
    EXPECT_AROUND(NULL_POINTER, TAKE(queue, NULL, 1), count = 7, CHECK_EQ_INT(count, 0));
    EXPECT_AROUND(OK, TAKE(queue, NULL, 0), count = 7, CHECK_EQ_INT(count, 0));
    EXPECT_AROUND(OK, TAKE(queue, tags, 2), count = 7, CHECK_EQ_INT(count, 0));
    EXPECT(NULL_POINTER, spike_auth_queue_take(queue, tags, 2, NULL, err));
    for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++)
        EXPECT_AROUND(INVALID_ARGUMENT, TAKE(queue, tags, IMPOSSIBLE_LENGTHS[i]), count = 7, CHECK_EQ_INT(count, 0));
    EXPECT_AROUND(INVALID_ARGUMENT, TAKE(queue, tags, SIZE_MAX), count = 7, CHECK_EQ_INT(count, 0));
    /* The number of bytes would be impossible. */
    EXPECT_AROUND(INVALID_ARGUMENT, TAKE(queue, tags, (size_t)PTRDIFF_MAX / 8 + 1), count = 7, CHECK_EQ_INT(count, 0));
    EXPECT_AROUND(OK, TAKE(queue, tags, (size_t)PTRDIFF_MAX / 8), count = 7, CHECK_EQ_INT(count, 0));
#undef TAKE
    CHECK(tags[0] == 7 && tags[1] == 7);
    spike_auth_queue_free(queue);
}

static int32_t start_bad_signature(const spike_auth_client *client, size_t len, spike_auth_call *call,
                                   const spike_auth_queue *queue, spike_auth_error *err)
{
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    memset(signature, 'z', sizeof signature);
    return spike_auth_client_start_exchange_signature(client, "alice", NUL_TERMINATED, signature, len, call, queue, 1,
                                                      err);
}

static void what_fails_to_start_is_not_handed_out(void)
{
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client = sandbox_client("http"), *closed = sandbox_client("http"), *without_key = NULL;
    spike_auth_queue *queue = new_queue();
    spike_auth_call *call = new_call(), *cancelled = new_call(), *fresh = new_call();
    long requests = counter("requests");
    char long_id[130];
    memset(long_id, 'a', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = 0;
    spike_auth_config_free(config);
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    REQUIRE(spike_auth_config_set_application_id(config, APPLICATION_ID, NUL_TERMINATED, NULL) == 0);
    REQUIRE(spike_auth_config_set_base_url(config, address("http"), NUL_TERMINATED, NULL) == 0);
    without_key = client_of(config);
    spike_auth_client_close(closed);
    spike_auth_call_cancel(cancelled);
    FOR_EACH_STARTER(starter) {
        in_round("%s", starter->name);
#define START(client, id, len, call, queue) starter->start(client, id, len, call, queue, 1, err)
        EXPECT(NULL_POINTER, START(NULL, "alice", 5, call, queue));
        EXPECT(NULL_POINTER, START(client, NULL, 5, call, queue));
        EXPECT(NULL_POINTER, START(client, "alice", 5, NULL, queue));
        EXPECT(NULL_POINTER, START(client, "alice", 5, call, NULL));
        EXPECT(INVALID_USER_ID, START(client, "", 0, call, queue));
        EXPECT(INVALID_USER_ID, START(client, "a b", 3, call, queue));
        EXPECT(INVALID_USER_ID, START(client, long_id, NUL_TERMINATED, call, queue));
        EXPECT(CLOSED, START(closed, "alice", 5, call, queue));
        EXPECT(CANCELLED, START(client, "alice", 5, cancelled, queue));
        for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++)
            EXPECT(INVALID_ARGUMENT, START(client, "alice", IMPOSSIBLE_LENGTHS[i], call, queue));
        if (starter->needs_key)
            EXPECT(KEY_REQUIRED, START(without_key, "alice", 5, call, queue));
        CHECK_EQ_INT(starter->start(client, "", 0, call, queue, 1, NULL), SPIKE_AUTH_STATUS_INVALID_USER_ID);
#undef START
    }
    EXPECT(INVALID_SIGNATURE, start_bad_signature(client, 64, call, queue, err));
    EXPECT(INVALID_SIGNATURE, start_bad_signature(client, 63, call, queue, err));
    EXPECT(INVALID_SIGNATURE, start_bad_signature(client, 0, call, queue, err));
    EXPECT(NULL_POINTER, spike_auth_client_start_exchange_signature(client, "alice", 5, NULL, 64, call, queue, 1, err));
    in_round("never started");
    CHECK_STATUS(status_of(call), SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(status_of(cancelled), SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(status_of(fresh), SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
    check_nothing_to_take(queue);
    CHECK_EQ_INT(stats_of(client).pending, 0);
    CHECK_EQ_INT(counter("requests"), requests);
    CHECK_EQ_INT(count_threads(), 1);
    spike_auth_call_free(call);
    spike_auth_call_free(cancelled);
    spike_auth_call_free(fresh);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
    spike_auth_client_free(closed);
    spike_auth_client_free(without_key);
}

static void a_handle_serves_one_call_at_a_time(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    FOR_EACH_STARTER(starter) {
        spike_auth_call *call = new_call();
        struct result first;
        char text[SPIKE_AUTH_AUTHORIZATION_SIZE];
        size_t len;
        in_round("%s", starter->name);
        CHECK_STATUS(starter->start(client, "fault.delay.150", NUL_TERMINATED, call, queue, 1, NULL), 0);
        CHECK_EQ_INT(stats_of(client).pending, 1);
        FOR_EACH_STARTER(other)
            EXPECT(INVALID_ARGUMENT, other->start(client, "bob", 3, call, queue, 2, err));
        CHECK_STATUS(result_of(call).status, SPIKE_AUTH_STATUS_PENDING);
        CHECK_STATUS(spike_auth_call_get_authorization(call, text, sizeof text, &len, NULL),
                     SPIKE_AUTH_STATUS_PENDING);
        CHECK(text[0] == 0);
        take_one(queue, 1);
        CHECK_EQ_INT(stats_of(client).pending, 0);
        first = result_of(call);
        check_own(&first, "fault.delay.150");
        /* A start that fails leaves the result. */
        CHECK_STATUS(starter->start(client, "a b", 3, call, queue, 3, NULL), SPIKE_AUTH_STATUS_INVALID_USER_ID);
        CHECK_STR(result_of(call).token, first.token);
        CHECK_STATUS(starter->start(client, "carol", 5, call, queue, 4, NULL), 0);
        take_one(queue, 4);
        first = result_of(call);
        check_own(&first, "carol");
        forget(client, "carol");
        forget(client, "fault.delay.150");
        spike_auth_call_free(call);
    }
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static int32_t get_token_of(const spike_auth_call *call, char *out, size_t cap, size_t *len, spike_auth_error *err)
{
    return spike_auth_call_get_token(call, out, cap, len, err);
}

static const struct result_reader {
    const char *name;
    read_call *read;
    const char *prefix;
} RESULT_READERS[] = {
    {"call_get_token", get_token_of, ""},
    {"call_get_authorization", spike_auth_call_get_authorization, "Bearer "},
};

static void a_result_is_there_as_often_as_asked(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    FOR_EACH_STARTER(starter) {
        spike_auth_call *call = new_call();
        struct result result;
        CHECK_STATUS(starter->start(client, "alice", 5, call, queue, 1, NULL), 0);
        take_one(queue, 1);
        result = result_of(call);
        check_own(&result, "alice");
        for (const struct result_reader *reader = RESULT_READERS; reader < RESULT_READERS + 2; reader++) {
            size_t n = strlen(reader->prefix) + result.len, capacities[] = {0, 1, 2, n - 1, n, n + 1, 2 * n};
            for (size_t i = 0; i < COUNT_OF(capacities); i++)
                for (int kind = GUARDED; kind <= FENCED; kind++) {
                    struct text_out out = text_out_new((enum buffer_kind)kind, capacities[i], n);
                    in_round("%s, %s, capacity %zu", starter->name, reader->name, capacities[i]);
                    if (capacities[i] <= n)
                        EXPECT_TEXT(BUFFER_TOO_SMALL, out, reader->read(call, out.at, out.cap, &out.len, err));
                    else
                        EXPECT_TEXT(OK, out, reader->read(call, out.at, out.cap, &out.len, err));
                    CHECK(capacities[i] <= n || strcmp(out.at + strlen(reader->prefix), result.token) == 0);
                    text_out_free(&out);
                }
            struct text_out out = text_out_new(GUARDED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
            EXPECT_TEXT(NULL_POINTER, out, reader->read(NULL, out.at, out.cap, &out.len, err));
            EXPECT_TEXT(INVALID_ARGUMENT, out, reader->read(call, out.at, SIZE_MAX, &out.len, err));
            EXPECT_AROUND(NULL_POINTER, reader->read(call, NULL, 9, &out.len, err), out.len = 7,
                          CHECK_EQ_INT(out.len, 0));
            EXPECT_AROUND(NULL_POINTER, reader->read(call, out.at, out.cap, NULL, err), text_out_poison(&out),
                          CHECK_EQ_INT(out.at[0], 0));
            text_out_free(&out);
        }
        CHECK_STR(result_of(call).token, result.token);
        CHECK_STATUS(spike_auth_client_clear(client, NULL), 0);
        CHECK_STR(result_of(call).token, result.token);
        /* Cancelled after it ended: the result stays. */
        spike_auth_call_cancel(call);
        CHECK_STR(result_of(call).token, result.token);
        spike_auth_call_free(call);
    }
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static void tags_need_no_alignment_and_stay_within_their_room(void)
{
    enum { CALLS = 200 };
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    spike_auth_call *calls[CALLS];
    const size_t rooms[] = {1, 63, 64, 65, 5, 100};
    size_t total = 0;
    REQUIRE(get_own(client, "alice").status == 0);
    for (uint64_t i = 0; i < CALLS; i++)
        start_token(client, "alice", calls[i] = new_call(), queue, i << 40 | i);
    for (size_t i = 0; i < COUNT_OF(rooms); i++) {
        struct buffer tags = buffer_guarded(rooms[i] * 8 + 1), count = buffer_guarded(sizeof(size_t) + 1);
        size_t taken;
        in_round("room for %zu", rooms[i]);
        CHECK(is_readable(queue, 0));
        CHECK_STATUS(spike_auth_queue_take(queue, (void *)(tags.at + 1), rooms[i], (void *)(count.at + 1), NULL), 0);
        memcpy(&taken, count.at + 1, sizeof taken);
        CHECK_EQ_INT(taken, rooms[i] < CALLS - total ? rooms[i] : CALLS - total);
        for (size_t j = 0; j < taken; j++, total++) {
            uint64_t tag;
            memcpy(&tag, tags.at + 1 + j * 8, sizeof tag);
            CHECK(tag == ((uint64_t)total << 40 | total)); /* first ended first */
        }
        CHECK(buffer_is_intact(&tags) && buffer_is_intact(&count));
        buffer_free(&tags);
        buffer_free(&count);
    }
    CHECK_EQ_INT(total, CALLS);
    check_nothing_to_take(queue);
    for (int i = 0; i < CALLS; i++)
        spike_auth_call_free(calls[i]);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

/* ---- results --------------------------------------------------------------------------------------------- */

/* Users, each with what its exchange meets. */
static const char *const FAULTS[] = {
    "alice",
    "fault.status.401",
    "fault.status.403",
    "fault.status.404",
    "fault.status.422",
    "fault.status.429",
    "fault.status.500",
    "fault.status.503",
    "fault.status.503.x1",
    "fault.status.503.x2",
    "fault.retry-after.1",
    "fault.retry-after.1.x1",
    "fault.retry-after.300",
    "fault.status.201",
    "fault.html",
    "fault.empty",
    "fault.bad-json",
    "fault.no-token",
    "fault.max-token",
    "fault.huge-token",
    "fault.crlf-token",
    "fault.echo.401",
    "fault.echo-ok",
    "fault.problem-huge",
    "fault.close-before",
    "fault.close-mid-body",
    "fault.reset-mid",
    "fault.split",
    "fault.endless-headers",
    "fault.no_such_fault",
};

/* Numbers of a message may be times. */
static void without_digits(char *text)
{
    for (; *text; text++)
        if (*text >= '0' && *text <= '9')
            *text = '#';
}

static void check_same_result(struct result *started, struct result *waited)
{
    CHECK_STATUS(started->status, waited->status);
    CHECK_EQ_INT(started->err.http_status, waited->err.http_status);
    CHECK_EQ_INT(started->err.attempts, waited->err.attempts);
    CHECK_EQ_INT(started->err.shared, 0);
    CHECK_EQ_INT(waited->err.shared, 0);
    CHECK_EQ_INT(started->err.retryable, waited->err.retryable);
    CHECK_EQ_INT(started->err.retry_after_ms < 0, waited->err.retry_after_ms < 0);
    without_digits(started->err.message);
    without_digits(waited->err.message);
    CHECK_STR(started->err.message, waited->err.message);
}

/* One fault by both ways. Each has a client and a user of its own: some faults count a user's requests. */
struct pair {
    struct running waited;
    spike_auth_client *client;
    spike_auth_queue *queue;
    spike_auth_call *call;
    char user[100];
};

static spike_auth_client *client_with_attempts(uint32_t attempts)
{
    spike_auth_config *config = sandbox_config("http");
    REQUIRE(spike_auth_config_set_max_attempts(config, attempts, NULL) == 0);
    return client_of(config);
}

static void start_pair(struct pair *pair, const struct starter *starter, const char *fault, uint32_t attempts)
{
    snprintf(pair->user, sizeof pair->user, "%s.%s-%u-waited", fault, starter->name, attempts);
    start(&pair->waited, starter->wait, client_with_attempts(attempts), pair->user);
    snprintf(pair->user, sizeof pair->user, "%s.%s-%u", fault, starter->name, attempts);
    pair->client = client_with_attempts(attempts);
    pair->queue = new_queue();
    pair->call = new_call();
    CHECK_STATUS(starter->start(pair->client, pair->user, NUL_TERMINATED, pair->call, pair->queue, 1, NULL), 0);
}

static void finish_pair(struct pair *pair)
{
    struct result result;
    in_round("%s", pair->user);
    take_one(pair->queue, 1);
    result = result_of(pair->call);
    finish(&pair->waited);
    check_same_result(&result, &pair->waited.result);
    spike_auth_client_free(pair->waited.client);
    spike_auth_call_free(pair->call);
    spike_auth_queue_free(pair->queue);
    spike_auth_client_free(pair->client);
}

static void results_equal_those_of_the_waiting_functions(void)
{
    static struct pair pairs[COUNT_OF(STARTERS)][COUNT_OF(FAULTS)];
    for (uint32_t attempts = 1; attempts <= 3; attempts += 2) {
        for (size_t s = 0; s < COUNT_OF(STARTERS); s++)
            for (size_t i = 0; i < COUNT_OF(FAULTS); i++)
                start_pair(&pairs[s][i], &STARTERS[s], FAULTS[i], attempts);
        for (size_t s = 0; s < COUNT_OF(STARTERS); s++)
            for (size_t i = 0; i < COUNT_OF(FAULTS); i++)
                finish_pair(&pairs[s][i]);
    }
}

/* Threads and started calls, whose exchange ends well or with a failure. */
static void of_the_calls_that_share_an_exchange_one_made_it(void)
{
    enum { EACH = 3 };
    static const struct {
        const char *user;
        int32_t status;
    } ROWS[] = {{"fault.delay.500.together", SPIKE_AUTH_STATUS_OK},
                {"fault.delay.500.and.status.422.together", SPIKE_AUTH_STATUS_REFUSED}};
    for (int starts_first = 0; starts_first < 2; starts_first++)
        for (size_t row = 0; row < COUNT_OF(ROWS); row++) {
            static struct running waiting[EACH];
            spike_auth_client *client = client_with_attempts(1);
            spike_auth_queue *queue = new_queue();
            spike_auth_call *calls[EACH];
            uint64_t tags[EACH];
            int made = 0, shared = 0;
            in_round("%s, %d", ROWS[row].user, starts_first);
            for (int i = 0; i < EACH; i++) {
                calls[i] = new_call();
                if (!starts_first)
                    start(&waiting[i], spike_auth_client_get_token, client, ROWS[row].user);
                while (counter("in_flight") != 1 && !starts_first)
                    sleep_ms(1);
                start_token(client, ROWS[row].user, calls[i], queue, 1);
                if (starts_first)
                    start(&waiting[i], spike_auth_client_get_token, client, ROWS[row].user);
            }
            take_all(queue, tags, EACH);
            for (int i = 0; i < EACH; i++) {
                struct result started = result_of(calls[i]);
                finish_with(&waiting[i], ROWS[row].status);
                CHECK_STATUS(started.status, ROWS[row].status);
                CHECK_EQ_INT(started.err.attempts, 1);
                CHECK_EQ_INT(waiting[i].result.err.attempts, 1);
                made += !started.err.shared + !waiting[i].result.err.shared;
                shared += started.err.shared == 1;
                shared += waiting[i].result.err.shared == 1;
                spike_auth_call_free(calls[i]);
            }
            CHECK_EQ_INT(made, 1);
            CHECK_EQ_INT(shared, 2 * EACH - 1);
            CHECK_EQ_INT(stats_of(client).exchanges, 1);
            spike_auth_queue_free(queue);
            spike_auth_client_free(client);
        }
}

static void a_peer_that_is_not_there_is_a_result_too(void)
{
    static const char *const PLACES[] = {"refused", "silent", "tls_faults.expired", "tls_faults.untrusted"};
    FOR_EACH_STARTER(starter)
        for (size_t i = 0; i < (argument("without_tls") ? 2 : COUNT_OF(PLACES)); i++) {
            spike_auth_config *config = sandbox_config(PLACES[i]);
            spike_auth_client *client;
            spike_auth_queue *queue = new_queue();
            spike_auth_call *call = new_call_of(1000);
            struct result started, waited;
            in_round("%s, %s", starter->name, PLACES[i]);
            client = client_of(config);
            CHECK_STATUS(starter->start(client, "alice", 5, call, queue, 1, NULL), 0);
            take_one(queue, 1);
            started = result_of(call);
            waited = make_call(starter->wait, client, "bob", call);
            check_same_result(&started, &waited);
            spike_auth_call_free(call);
            spike_auth_queue_free(queue);
            spike_auth_client_free(client);
        }
}

/* A client whose tokens are due after 100 ms. */
static spike_auth_config *config_of_short_tokens(void)
{
    spike_auth_config *config = sandbox_config("http");
    REQUIRE(spike_auth_config_set_cache_ttl_ms(config, 1000, NULL) == 0);
    return config;
}

static struct result start_and_take(const spike_auth_client *client, const char *user, uint32_t timeout_ms)
{
    spike_auth_queue *queue = new_queue();
    spike_auth_call *call = new_call_of(timeout_ms);
    struct result result;
    double start = now_ms();
    start_token(client, user, call, queue, 9);
    take_one(queue, 9);
    result = result_of(call);
    result.took_ms = now_ms() - start;
    spike_auth_call_free(call);
    spike_auth_queue_free(queue);
    return result;
}

static void a_renewal_that_fails_gives_the_old_token(void)
{
    enum { WAYS = 7 };
    for (int way = 0; way < WAYS; way++) {
        spike_auth_config *config = config_of_short_tokens();
        spike_auth_client *client;
        spike_auth_queue *queue = new_queue();
        spike_auth_call *busy = new_call();
        struct result first, result;
        char user[32];
        REQUIRE(spike_auth_config_set_max_concurrency(config, 1, NULL) == 0);
        client = client_of(config);
        snprintf(user, sizeof user, "renewed-%d", way);
        in_round("way %d", way);
        first = get_own(client, user);
        sleep_ms(1050);
        switch (way) {
        case 0: /* a new token */
            result = start_and_take(client, user, 1000);
            check_own(&result, user);
            CHECK(strcmp(result.token, first.token) != 0);
            CHECK_EQ_INT(result.err.renewal_status, 0);
            break;
        case 1: /* the service fails */
            set_fault(user, "status:500");
            result = start_and_take(client, user, 1000);
            CHECK_STR(result.token, first.token);
            CHECK_EQ_INT(result.err.attempts, 1);
            CHECK_EQ_INT(result.err.renewal_status, SPIKE_AUTH_STATUS_SERVER_ERROR);
            /* And is not asked again. */
            result = start_and_take(client, user, 1000);
            CHECK_STR(result.token, first.token);
            CHECK_EQ_INT(result.err.attempts, 0);
            CHECK_EQ_INT(result.err.renewal_status, 0);
            CHECK_EQ_INT(requests_for(user), 2);
            break;
        case 2: /* it refuses */
            set_fault(user, "status:403");
            CHECK_EQ_INT(start_and_take(client, user, 1000).err.http_status, 403);
            break;
        case 3: /* no worker has time for it */
            CHECK_STATUS(spike_auth_client_start_exchange(client, "fault.delay.600.busy", NUL_TERMINATED, busy, queue,
                                                          1, NULL), 0);
            while (counter("in_flight") != 1)
                sleep_ms(1);
            result = start_and_take(client, user, 100);
            CHECK_STR(result.token, first.token);
            CHECK(result.took_ms >= 99 && (argument("quick") || result.took_ms < 400));
            CHECK_EQ_INT(result.err.renewal_status, SPIKE_AUTH_STATUS_TIMEOUT);
            take_one(queue, 1);
            break;
        case 4: /* the service has asked all calls to wait */
            result = exchange(client, "fault.status.429.and.retry-after.1");
            CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_RATE_LIMITED);
            result = start_and_take(client, user, 5000);
            CHECK_STR(result.token, first.token);
            CHECK(result.took_ms < 300);
            break;
        case 5: /* no thread can be made */
            atomic_store(&threads_left, 0);
            result = start_and_take(client, user, 1000);
            CHECK_STR(result.token, first.token);
            atomic_store(&threads_left, -1);
            break;
        case 6: /* the service fails, and the call waits */
            set_fault(user, "status:500");
            result = get(client, user);
            CHECK_STR(result.token, first.token);
            CHECK_EQ_INT(result.err.renewal_status, SPIKE_AUTH_STATUS_SERVER_ERROR);
            break;
        }
        set_fault(user, "");
        spike_auth_call_free(busy);
        spike_auth_queue_free(queue);
        spike_auth_client_free(client);
    }
}

static void a_cancelled_renewal_can_be_tried_at_once(void)
{
    spike_auth_client *client = client_of(config_of_short_tokens());
    spike_auth_queue *queue = new_queue();
    spike_auth_call *call = new_call();
    struct result first = get_own(client, "cancelled-renewal"), second;
    sleep_ms(1050);
    set_fault("cancelled-renewal", "delay:5000");
    start_token(client, "cancelled-renewal", call, queue, 1);
    while (counter("in_flight") != 1)
        sleep_ms(1);
    spike_auth_call_cancel(call);
    take_one(queue, 1);
    CHECK_STATUS(status_of(call), SPIKE_AUTH_STATUS_CANCELLED);
    set_fault("cancelled-renewal", "");
    for (int ms = 0; ms < 100; ms += 10) { /* the worker may still be about to end it */
        sleep_ms(10);
        second = start_and_take(client, "cancelled-renewal", 1000);
        if (strcmp(second.token, first.token) != 0)
            break;
    }
    check_own(&second, "cancelled-renewal");
    CHECK(strcmp(second.token, first.token) != 0);
    spike_auth_call_free(call);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static void failures_say_how_many_requests_were_sent(void)
{
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client;
    spike_auth_queue *queue = new_queue();
    spike_auth_call *call = new_call();
    REQUIRE(spike_auth_config_set_max_attempts(config, 2, NULL) == 0);
    client = client_of(config);
    /* It waits for its retry. */
    CHECK_STATUS(spike_auth_client_start_exchange(client, "fault.status.500.and.retry-after.5.waits", NUL_TERMINATED,
                                                  call, queue, 1, NULL), 0);
    while (requests_for("fault.status.500.and.retry-after.5.waits") != 1)
        sleep_ms(1);
    sleep_ms(50);
    spike_auth_call_cancel(call);
    take_one(queue, 1);
    CHECK_STATUS(result_of(call).status, SPIKE_AUTH_STATUS_CANCELLED);
    CHECK_EQ_INT(result_of(call).err.attempts, 1);
    spike_auth_call_free(call);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

/* ---- the descriptor -------------------------------------------------------------------------------------- */

static void the_descriptor_is_readable_until_all_is_taken(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    spike_auth_call *calls[5];
    uint64_t tags[5];
    REQUIRE(get_own(client, "alice").status == 0);
    for (int round = 0; round < 3; round++) {
        CHECK(!is_readable(queue, 0));
        for (uint64_t i = 0; i < COUNT_OF(calls); i++)
            start_token(client, "alice", calls[i] = new_call(), queue, i);
        for (int i = 0; i < 10; i++)
            CHECK(is_readable(queue, 0));
        CHECK_EQ_INT(take(queue, tags, 2), 2);
        CHECK(is_readable(queue, 0));
        CHECK_EQ_INT(take(queue, tags, 3), 3);
        check_nothing_to_take(queue);
        for (size_t i = 0; i < COUNT_OF(calls); i++)
            spike_auth_call_free(calls[i]);
    }
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static int next_edge(int epoll, int ms)
{
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, ms);
}

static void a_burst_is_one_edge(void)
{
    enum { CALLS = 50 };
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    spike_auth_call *calls[CALLS];
    uint64_t tags[CALLS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    REQUIRE(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, spike_auth_queue_fd(queue), &event) == 0);
    REQUIRE(get_own(client, "alice").status == 0);
    CHECK_EQ_INT(next_edge(epoll, 0), 0);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < CALLS; i++)
            start_token(client, "alice", calls[i] = new_call(), queue, i);
        CHECK_EQ_INT(next_edge(epoll, 1000), 1);
        CHECK_EQ_INT(next_edge(epoll, 0), 0);
        /* Not all: no edge comes for the rest. */
        CHECK_EQ_INT(take(queue, tags, 10), 10);
        CHECK_EQ_INT(next_edge(epoll, 0), 0);
        CHECK_EQ_INT(take(queue, tags, CALLS), CALLS - 10);
        for (int i = 0; i < CALLS; i++)
            spike_auth_call_free(calls[i]);
    }
    close(epoll);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

/* A loop that waits for edges, as its documentation says, while calls end all the time. */
static void an_edge_triggered_loop_misses_nothing(void)
{
    enum { CALLS = 2000 };
    static spike_auth_call *calls[CALLS];
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    int epoll = epoll_create1(EPOLL_CLOEXEC), count = argument("quick") ? 100 : CALLS, got = 0;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    REQUIRE(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, spike_auth_queue_fd(queue), &event) == 0);
    for (int i = 0; i < count; i++) {
        char user[32];
        snprintf(user, sizeof user, "edge-%d", i);
        start_token(client, user, calls[i] = new_call(), queue, (uint64_t)i);
    }
    while (got < count) {
        uint64_t tags[7];
        size_t taken;
        REQUIRE(next_edge(epoll, 20000) == 1);
        do {
            taken = take(queue, tags, COUNT_OF(tags));
            got += (int)taken;
        } while (taken == COUNT_OF(tags));
    }
    CHECK_EQ_INT(got, count);
    for (int i = 0; i < count; i++) {
        CHECK_STATUS(status_of(calls[i]), SPIKE_AUTH_STATUS_OK);
        spike_auth_call_free(calls[i]);
    }
    close(epoll);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static void no_descriptor_is_left_for_a_queue(void)
{
    struct rlimit before, none;
    spike_auth_queue *queue = (void *)&before;
    spike_auth_error error;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    none.rlim_cur = 3;
    int open_fds = count_fds();
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_STATUS(spike_auth_queue_new(&queue, &error), SPIKE_AUTH_STATUS_INTERNAL);
    check_error_is_whole(&error, SPIKE_AUTH_STATUS_INTERNAL, __FILE__, __LINE__);
    CHECK(queue == NULL);
    CHECK_CONTAINS(error.message, "RLIMIT_NOFILE");
    CHECK_CONTAINS(error.message, "os error 24");
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_EQ_INT(count_fds(), open_fds);
    queue = new_queue();
    CHECK_EQ_INT(count_fds(), open_fds + 1);
    spike_auth_queue_free(queue);
    CHECK_EQ_INT(count_fds(), open_fds);
}

/* ---- ends ------------------------------------------------------------------------------------------------ */

static void what_is_freed_is_not_handed_out(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    spike_auth_call *kept = new_call(), *freed = new_call(), *again = new_call();
    REQUIRE(get_own(client, "alice").status == 0);
    start_token(client, "alice", freed, queue, 1);
    start_token(client, "alice", kept, queue, 2);
    spike_auth_call_free(freed);
    take_one(queue, 2);
    in_round("while it waits");
    start_token(client, "fault.delay.5000.freed", freed = new_call(), queue, 3);
    spike_auth_call_free(freed);
    CHECK_EQ_INT(stats_of(client).pending, 0);
    CHECK(becomes_single_threaded(1000)); /* the worker was stopped too */
    check_nothing_to_take(queue);
    in_round("started again before it was taken");
    start_token(client, "alice", again, queue, 4);
    start_token(client, "alice", again, queue, 5);
    spike_auth_call_free(again);
    CHECK_EQ_INT(take(queue, (uint64_t[2]){0}, 2), 0);
    start_token(client, "alice", again = new_call(), queue, 6);
    start_token(client, "fault.delay.5000.freed", again, queue, 7);
    spike_auth_call_free(again);
    CHECK_EQ_INT(take(queue, (uint64_t[2]){0}, 2), 0);
    start_token(client, "alice", kept, queue, 8);
    take_one(queue, 8);
    CHECK_EQ_INT(stats_of(client).pending, 0);
    spike_auth_call_free(kept);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static void cancel_and_close_hand_out_at_once(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    static const char *const USERS[] = {"fault.delay.9000.a", "fault.delay.9000.b", "fault.delay.9000.a"};
    spike_auth_call *calls[4];
    double start;
    uint64_t tags[2];
    for (uint64_t i = 0; i < COUNT_OF(USERS); i++)
        start_token(client, USERS[i], calls[i] = new_call(), queue, i);
    CHECK_STATUS(spike_auth_client_start_exchange(client, "fault.delay.9000.c", NUL_TERMINATED, calls[3] = new_call(),
                                                  queue, 3, NULL), 0);
    CHECK_EQ_INT(stats_of(client).pending, 4);
    start = now_ms();
    spike_auth_call_cancel(calls[2]);
    spike_auth_call_cancel(calls[2]);
    take_one(queue, 2);
    spike_auth_call_cancel(calls[0]);
    take_one(queue, 0);
    CHECK_STATUS(result_of(calls[0]).status, SPIKE_AUTH_STATUS_CANCELLED);
    CHECK_STATUS(result_of(calls[2]).status, SPIKE_AUTH_STATUS_CANCELLED);
    CHECK_STATUS(spike_auth_client_start_token(client, "alice", 5, calls[0], queue, 1, NULL),
                 SPIKE_AUTH_STATUS_CANCELLED);
    CHECK_EQ_INT(stats_of(client).pending, 2);
    spike_auth_client_close(client);
    take_all(queue, tags, 2); /* a worker may be about to hand one out */
    CHECK_EQ_INT(tags[0] + tags[1], 4);
    CHECK(now_ms() - start < 500);
    CHECK_STATUS(result_of(calls[1]).status, SPIKE_AUTH_STATUS_CLOSED);
    CHECK_STATUS(result_of(calls[3]).status, SPIKE_AUTH_STATUS_CLOSED);
    CHECK(becomes_single_threaded(1000));
    for (size_t i = 0; i < COUNT_OF(calls); i++)
        spike_auth_call_free(calls[i]);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static void a_freed_queue_or_client_leaves_the_rest_usable(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue(), *other;
    spike_auth_call *calls[3] = {new_call(), new_call(), new_call()};
    struct result result;
    long fds = count_fds();
    REQUIRE(get_own(client, "alice").status == 0);
    fds = count_fds();
    start_token(client, "alice", calls[0], queue, 1);
    start_token(client, "fault.delay.200.orphan", calls[1], queue, 2);
    spike_auth_queue_free(queue);
    other = new_queue();
    start_token(client, "fault.delay.200.orphan", calls[2], other, 3); /* joins it */
    take_one(other, 3);
    result = result_of(calls[2]);
    check_own(&result, "fault.delay.200.orphan");
    while (status_of(calls[1]) == SPIKE_AUTH_STATUS_PENDING) /* the leader may end after those that follow */
        sleep_ms(1);
    result = result_of(calls[1]);
    check_own(&result, "fault.delay.200.orphan");
    result = result_of(calls[0]);
    check_own(&result, "alice");
    CHECK_EQ_INT(requests_for("fault.delay.200.orphan"), 1);
    start_token(client, "alice", calls[0], other, 4);
    take_one(other, 4);
    in_round("the client is freed");
    for (uint64_t i = 0; i < COUNT_OF(calls); i++)
        start_token(client, i ? "fault.delay.9000.gone" : "alice", calls[i], other, i);
    spike_auth_client_free(client);
    CHECK_EQ_INT(count_threads(), 1);
    take_all(other, (uint64_t[3]){0}, 3);
    result = result_of(calls[0]);
    check_own(&result, "alice");
    CHECK_STATUS(result_of(calls[1]).status, SPIKE_AUTH_STATUS_CLOSED);
    CHECK_STATUS(result_of(calls[2]).status, SPIKE_AUTH_STATUS_CLOSED);
    for (size_t i = 0; i < COUNT_OF(calls); i++)
        spike_auth_call_free(calls[i]);
    spike_auth_queue_free(other);
    CHECK(count_fds() <= fds - 1);
}

static void a_handle_also_serves_calls_that_wait(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    spike_auth_call *call = new_call();
    struct result result = make_call(spike_auth_client_get_token, client, "alice", call);
    check_own(&result, "alice");
    CHECK_STATUS(status_of(call), SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
    start_token(client, "bob", call, queue, 1);
    take_one(queue, 1);
    result = make_call(spike_auth_client_get_token, client, "alice", call);
    check_own(&result, "alice");
    result = result_of(call); /* of the one that was started */
    check_own(&result, "bob");
    spike_auth_call_free(call);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

/* ---- several queues, clients and threads ----------------------------------------------------------------- */

static void queues_and_clients_combine_freely(void)
{
    enum { CALLS = 100 };
    spike_auth_client *clients[2] = {sandbox_client("http"), sandbox_client(argument("without_tls") ? "http" : "https")};
    spike_auth_queue *queues[2] = {new_queue(), new_queue()};
    spike_auth_call *calls[2][2][CALLS];
    for (uint64_t i = 0; i < CALLS; i++)
        for (uint64_t c = 0; c < 2; c++)
            for (uint64_t q = 0; q < 2; q++) {
                char user[32];
                snprintf(user, sizeof user, "combined-%d", (int)i / 2);
                start_token(clients[c], user, calls[c][q][i] = new_call(), queues[q], q << 63 | c << 32 | i);
            }
    for (uint64_t q = 0; q < 2; q++) {
        uint64_t tags[2 * CALLS];
        unsigned char seen[2][CALLS] = {{0}};
        take_all(queues[q], tags, 2 * CALLS);
        for (int i = 0; i < 2 * CALLS; i++) {
            uint64_t c = tags[i] >> 32 & 1, number = tags[i] & 0xffffffff;
            char user[32];
            struct result result;
            REQUIRE(tags[i] >> 63 == q && number < CALLS);
            CHECK_EQ_INT(seen[c][number]++, 0);
            snprintf(user, sizeof user, "combined-%d", (int)number / 2);
            result = result_of(calls[c][q][number]);
            check_own(&result, user);
            spike_auth_call_free(calls[c][q][number]);
        }
    }
    for (int i = 0; i < 2; i++) {
        spike_auth_stats stats = stats_of(clients[i]);
        CHECK_EQ_INT(stats.pending, 0);
        CHECK_EQ_INT(stats.requests, CALLS / 2);
        spike_auth_client_free(clients[i]);
        spike_auth_queue_free(queues[i]);
    }
}

enum { TAKERS = 64, MOST_TAKEN = 20000 };

static atomic_uchar times_taken[MOST_TAKEN];
static atomic_int taken_in_all, taken_at_most;

static void *take_until_all_are_taken(void *queue)
{
    while (atomic_load(&taken_in_all) < atomic_load(&taken_at_most)) {
        uint64_t tags[3];
        size_t count;
        if (!is_readable(queue, 10))
            continue;
        count = take(queue, tags, COUNT_OF(tags));
        for (size_t i = 0; i < count; i++)
            if (CHECK(tags[i] < MOST_TAKEN))
                CHECK_EQ_INT(atomic_fetch_add(&times_taken[tags[i]], 1), 0);
        atomic_fetch_add(&taken_in_all, (int)count);
    }
    return NULL;
}

static void many_threads_take_each_call_once(void)
{
    static spike_auth_call *calls[MOST_TAKEN];
    int count = argument("quick") ? 500 : MOST_TAKEN, threads = argument("quick") ? 4 : TAKERS;
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    pthread_t takers[TAKERS];
    REQUIRE(get_own(client, "taken-0").status == 0);
    atomic_store(&taken_at_most, count);
    for (int i = 0; i < threads; i++)
        REQUIRE(pthread_create(&takers[i], NULL, take_until_all_are_taken, queue) == 0);
    for (int i = 0; i < count; i++) {
        char user[32];
        snprintf(user, sizeof user, "taken-%d", i % 50);
        start_token(client, user, calls[i] = new_call(), queue, (uint64_t)i);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(takers[i], NULL);
    CHECK_EQ_INT(atomic_load(&taken_in_all), count);
    check_nothing_to_take(queue);
    for (int i = 0; i < count; i++)
        spike_auth_call_free(calls[i]);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static void *take_and_free(void *queue)
{
    while (atomic_load(&taken_in_all) < atomic_load(&taken_at_most)) {
        uint64_t tag;
        if (!is_readable(queue, 10) || take(queue, &tag, 1) == 0)
            continue;
        spike_auth_call_free((spike_auth_call *)(uintptr_t)tag);
        atomic_fetch_add(&taken_in_all, 1);
    }
    return NULL;
}

/* Another thread may take a call and free its handle before the function that started it has returned. */
static void a_handle_may_be_freed_as_soon_as_it_is_taken(void)
{
    int count = argument("quick") ? 500 : MOST_TAKEN;
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    pthread_t takers[2];
    atomic_store(&taken_in_all, 0);
    atomic_store(&taken_at_most, count);
    REQUIRE(get_own(client, "alice").status == 0);
    for (size_t i = 0; i < COUNT_OF(takers); i++)
        REQUIRE(pthread_create(&takers[i], NULL, take_and_free, queue) == 0);
    for (int i = 0; i < count; i++) {
        spike_auth_call *call = new_call_of(i % 8 ? 0 : 1); /* some of them end at once by their deadline */
        start_token(client, i % 8 ? "alice" : "fault.delay.2.taken", call, queue, (uintptr_t)call);
    }
    for (size_t i = 0; i < COUNT_OF(takers); i++)
        pthread_join(takers[i], NULL);
    check_nothing_to_take(queue);
    CHECK_EQ_INT(stats_of(client).pending, 0);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static void a_freed_queue_has_no_descriptor(void)
{
    spike_auth_client *client = sandbox_client("http");
    spike_auth_call *ended = new_call(), *pending = new_call();
    spike_auth_queue *queue;
    long fds;
    REQUIRE(get_own(client, "alice").status == 0);
    queue = new_queue();
    fds = count_fds();
    start_token(client, "alice", ended, queue, 1);
    take_one(queue, 1);
    start_token(client, "fault.delay.300.orphan", pending, queue, 2);
    spike_auth_queue_free(queue); /* and not when the handles are freed */
    while (status_of(pending) == SPIKE_AUTH_STATUS_PENDING)
        sleep_ms(1);
    CHECK(becomes_single_threaded(1000));
    CHECK_EQ_INT(count_fds(), fds - 1);
    spike_auth_call_free(ended);
    spike_auth_call_free(pending);
    spike_auth_client_free(client);
}

static void calls_that_ended_before_their_turn_leave_nothing(void)
{
    enum { CALLS = 20000, MOST_BYTES = 100000 };
    int count = argument("quick") ? 500 : CALLS;
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client;
    spike_auth_queue *queue = new_queue();
    spike_auth_call *running = new_call();
    size_t before;
    REQUIRE(spike_auth_config_set_max_concurrency(config, 1, NULL) == 0);
    client = client_of(config);
    start_token(client, "fault.delay.9000.runs", running, queue, 1);
    wait_until_in_flight(1);
    before = allocated();
    for (int i = 0; i < count; i++) {
        spike_auth_call *call = new_call();
        char user[32];
        snprintf(user, sizeof user, "turnless-%d", i);
        start_token(client, user, call, queue, 2);
        spike_auth_call_free(call);
    }
    check_that(allocated() < before + MOST_BYTES, __FILE__, __LINE__, "%zu bytes stay",
               allocated() - before);
    CHECK_EQ_INT(stats_of(client).pending, 1);
    spike_auth_call_free(running);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

/* ---- no thread ------------------------------------------------------------------------------------------- */

static void without_threads_each_call_fails(void)
{
    enum { CALLS = 300 };
    spike_auth_call *calls[CALLS];
    for (int left = 0; left <= 1; left++) { /* one: only deadlines are kept */
        spike_auth_client *client = sandbox_client("http");
        spike_auth_queue *queue = new_queue();
        uint64_t tags[CALLS];
        long requests = counter("requests");
        struct result result;
        REQUIRE(get_own(client, "alice").status == 0);
        atomic_store(&threads_left, left);
        for (uint64_t i = 0; i < CALLS; i++) {
            char user[32];
            snprintf(user, sizeof user, "threadless-%d", (int)i % 3);
            calls[i] = new_call();
            CHECK_STATUS(STARTERS[i % 3].start(client, user, NUL_TERMINATED, calls[i], queue, i, NULL), 0);
        }
        take_all(queue, tags, CALLS);
        for (int i = 0; i < CALLS; i++) {
            in_round("%d threads can be made, %s %d", left, STARTERS[i % 3].name, i);
            result = result_of(calls[i]);
            CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_INTERNAL);
            CHECK_CONTAINS(result.err.message, "RLIMIT_NPROC");
            CHECK_EQ_INT(result.err.retryable, 1);
            CHECK_EQ_INT(result.err.attempts, 0);
        }
        CHECK_EQ_INT(stats_of(client).pending, 0);
        CHECK_EQ_INT(counter("requests"), requests + 1);
        /* What needs no thread works. */
        start_token(client, "alice", calls[0], queue, 7);
        take_one(queue, 7);
        result = result_of(calls[0]);
        check_own(&result, "alice");
        get_own(client, "threadless-0");
        atomic_store(&threads_left, -1);
        start_token(client, "threadless-1", calls[0], queue, 8);
        take_one(queue, 8);
        result = result_of(calls[0]);
        check_own(&result, "threadless-1");
        for (int i = 0; i < CALLS; i++)
            spike_auth_call_free(calls[i]);
        spike_auth_queue_free(queue);
        spike_auth_client_free(client);
    }
}

static void with_one_worker_all_calls_are_served(void)
{
    enum { CALLS = 100 };
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    spike_auth_call *calls[CALLS];
    uint64_t tags[CALLS];
    atomic_store(&threads_left, 2);
    for (uint64_t i = 0; i < CALLS; i++) {
        char user[32];
        snprintf(user, sizeof user, "lonely-%d", (int)i);
        start_token(client, user, calls[i] = new_call(), queue, i);
    }
    take_all(queue, tags, CALLS);
    for (uint64_t i = 0; i < CALLS; i++) {
        CHECK_EQ_INT(tags[i], i); /* first in, first out */
        CHECK_STATUS(status_of(calls[i]), SPIKE_AUTH_STATUS_OK);
        spike_auth_call_free(calls[i]);
    }
    atomic_store(&threads_left, -1);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

/* A thread leads, and none can be made when it hands its flight off to calls that were started. */
static void a_flight_without_threads_ends(void)
{
    enum { CALLS = 50 };
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    spike_auth_call *calls[CALLS];
    struct running leader;
    uint64_t tags[CALLS];
    start(&leader, spike_auth_client_get_token, client, "fault.delay.9000.lead");
    wait_until_in_flight(1);
    atomic_store(&threads_left, 1);
    for (uint64_t i = 0; i < CALLS; i++)
        start_token(client, "fault.delay.9000.lead", calls[i] = new_call(), queue, i);
    CHECK_EQ_INT(stats_of(client).pending, CALLS);
    spike_auth_call_cancel(leader.call);
    finish_with(&leader, SPIKE_AUTH_STATUS_CANCELLED);
    take_all(queue, tags, CALLS);
    for (int i = 0; i < CALLS; i++) {
        CHECK_STATUS(status_of(calls[i]), SPIKE_AUTH_STATUS_INTERNAL);
        spike_auth_call_free(calls[i]);
    }
    CHECK_EQ_INT(stats_of(client).pending, 0);
    atomic_store(&threads_left, -1);
    set_fault("fault.delay.9000.lead", "delay:1");
    get_own(client, "fault.delay.9000.lead"); /* no flight was left behind */
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(a_queue_needs_a_place);
    RUN(take_checks_its_arguments);
    RUN(what_fails_to_start_is_not_handed_out);
    RUN(a_handle_serves_one_call_at_a_time);
    RUN(a_result_is_there_as_often_as_asked);
    RUN(tags_need_no_alignment_and_stay_within_their_room);
    RUN(results_equal_those_of_the_waiting_functions);
    RUN(of_the_calls_that_share_an_exchange_one_made_it);
    RUN(a_peer_that_is_not_there_is_a_result_too);
    RUN(a_renewal_that_fails_gives_the_old_token);
    RUN(a_cancelled_renewal_can_be_tried_at_once);
    RUN(failures_say_how_many_requests_were_sent);
    RUN(the_descriptor_is_readable_until_all_is_taken);
    RUN(a_burst_is_one_edge);
    RUN(an_edge_triggered_loop_misses_nothing);
    RUN(no_descriptor_is_left_for_a_queue);
    RUN(what_is_freed_is_not_handed_out);
    RUN(cancel_and_close_hand_out_at_once);
    RUN(a_freed_queue_or_client_leaves_the_rest_usable);
    RUN(a_handle_also_serves_calls_that_wait);
    RUN(queues_and_clients_combine_freely);
    RUN(many_threads_take_each_call_once);
    RUN(a_handle_may_be_freed_as_soon_as_it_is_taken);
    RUN(a_freed_queue_has_no_descriptor);
    RUN(calls_that_ended_before_their_turn_leave_nothing);
    RUN(without_threads_each_call_fails);
    RUN(with_one_worker_all_calls_are_served);
    RUN(a_flight_without_threads_ends);
    return check_summary();
}
