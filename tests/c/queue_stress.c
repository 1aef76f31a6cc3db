/* Started calls in masses: each is handed out exactly once, whatever happens to it, to its client and to the
 * cache meanwhile, and threads that wait share its flight. Prints what events cost. Against a sandbox whose
 * tokens differ at each exchange.
 *
 * usage: queue_stress NAME=ADDRESS... [quick=1]; the checkers use quick.
 */
#define _GNU_SOURCE
#include "queue.h"


static unsigned next_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* ---- chaos ----------------------------------------------------------------------------------------------- */

enum { ROUNDS = 200, STARTED = 200, BLOCKING = 32, USERS = 7 };

/* Users of a slow service, so that calls meet. */
static const char *user_of(unsigned number)
{
    static const char *const ALL[USERS] = {
        "fault.delay.1.a", "fault.delay.2.b", "fault.delay.3.c", "fault.delay.5.d", "fault.delay.8.e",
        "fault.status.503.f", "fault.delay.2.and.close-before.x40.g",
    };
    return ALL[number % USERS];
}

struct chaos {
    spike_auth_client *client;
    spike_auth_call *calls[STARTED];
    atomic_int is_started[STARTED];
    atomic_int stop;
    unsigned seed;
};

struct caller {
    struct chaos *chaos;
    unsigned number;
    pthread_t thread;
};

static int may_end_so(int32_t status)
{
    switch (status) {
    case SPIKE_AUTH_STATUS_OK:
    case SPIKE_AUTH_STATUS_CANCELLED:
    case SPIKE_AUTH_STATUS_CLOSED:
    case SPIKE_AUTH_STATUS_SERVER_ERROR:
    case SPIKE_AUTH_STATUS_CONNECTION_LOST:
        return 1;
    default:
        return 0;
    }
}

static void check_end(const struct result *result, const char *user)
{
    check_that(may_end_so(result->status), __FILE__, __LINE__, "%s: %d %s", user, (int)result->status,
               result->err.message);
    if (result->status == SPIKE_AUTH_STATUS_OK)
        check_own(result, user);
}

/* Half of these callers are cancelled by nobody; the others cancel themselves from time to time. */
static void *call_and_wait(void *argument_of_thread)
{
    struct caller *caller = argument_of_thread;
    unsigned random = caller->chaos->seed + caller->number;
    for (int i = 0; i < 3; i++) {
        const char *user = user_of(next_random(&random));
        struct result result = get(caller->chaos->client, user);
        check_end(&result, user);
    }
    return NULL;
}

/* Cancels calls of which nobody frees the handle. */
static void *cancel_some(void *argument_of_thread)
{
    struct chaos *chaos = argument_of_thread;
    unsigned random = chaos->seed;
    while (!atomic_load(&chaos->stop)) {
        unsigned one = next_random(&random) % STARTED / 3 * 3;
        if (atomic_load(&chaos->is_started[one]))
            spike_auth_call_cancel(chaos->calls[one]);
        nanosleep(&(struct timespec){0, 20000}, NULL);
    }
    return NULL;
}

static void *close_some_time(void *argument_of_thread)
{
    struct chaos *chaos = argument_of_thread;
    unsigned random = chaos->seed;
    struct timespec time = {0, (long)(next_random(&random) % 4000) * 1000};
    nanosleep(&time, NULL);
    if (chaos->seed % 3 == 0)
        spike_auth_client_close(chaos->client);
    return NULL;
}

static void disturb(struct chaos *chaos, unsigned *random, unsigned started, unsigned char *freed)
{
    unsigned one = next_random(random) % started / 3 * 3 + 1;
    switch (next_random(random) % 8) {
    case 0:
    case 1:
        if (one < started && !freed[one] && chaos->calls[one]) {
            spike_auth_call_free(chaos->calls[one]);
            chaos->calls[one] = NULL;
            freed[one] = 1;
        }
        break;
    case 2:
        (void)!spike_auth_client_clear(chaos->client, NULL);
        break;
    case 3:
        (void)!spike_auth_client_forget(chaos->client, user_of(*random), NUL_TERMINATED, NULL);
        break;
    default:
        break;
    }
}

static void run_round(unsigned seed)
{
    static struct caller callers[BLOCKING];
    static struct chaos chaos;
    spike_auth_config *config = sandbox_config("http");
    spike_auth_queue *queue = new_queue();
    unsigned char freed[STARTED] = {0}, handed_out[STARTED] = {0}, refused[STARTED] = {0};
    unsigned random = seed;
    pthread_t canceller, closer;
    int missing = 0;
    uint64_t tags[16];
    size_t count;
    memset(&chaos, 0, sizeof chaos);
    chaos.seed = seed;
    REQUIRE(spike_auth_config_set_max_concurrency(config, 1 + seed % 9, NULL) == 0);
    REQUIRE(spike_auth_config_set_max_attempts(config, seed % 10 ? 1 : 2, NULL) == 0);
    chaos.client = client_of(config);
    for (unsigned i = 0; i < BLOCKING; i++) {
        callers[i] = (struct caller){&chaos, i, callers[i].thread};
        REQUIRE(pthread_create(&callers[i].thread, NULL, call_and_wait, &callers[i]) == 0);
    }
    REQUIRE(pthread_create(&canceller, NULL, cancel_some, &chaos) == 0);
    REQUIRE(pthread_create(&closer, NULL, close_some_time, &chaos) == 0);
    for (unsigned i = 0; i < STARTED; i++) {
        int32_t status;
        const struct starter *starter = &STARTERS[i % 16 == 5 ? 1 : 0];
        chaos.calls[i] = new_call();
        status = starter->start(chaos.client, user_of(next_random(&random)), NUL_TERMINATED, chaos.calls[i], queue, i,
                                NULL);
        refused[i] = status != SPIKE_AUTH_STATUS_OK;
        CHECK(status == SPIKE_AUTH_STATUS_OK || status == SPIKE_AUTH_STATUS_CLOSED);
        atomic_store(&chaos.is_started[i], 1);
        disturb(&chaos, &random, i + 1, freed);
        if (i % 7 == 0) {
            count = take(queue, tags, 3);
            for (size_t j = 0; j < count; j++) {
                CHECK_EQ_INT(freed[tags[j]], 0);
                CHECK_EQ_INT(handed_out[tags[j]]++, 0);
            }
        }
    }
    for (int i = 0; i < STARTED; i++)
        missing += !refused[i] && !freed[i] && !handed_out[i];
    while (missing > 0) {
        if (!CHECK(is_readable(queue, 20000)))
            break;
        count = take(queue, tags, COUNT_OF(tags));
        for (size_t j = 0; j < count; j++) {
            struct result result;
            CHECK(!freed[tags[j]] && !refused[tags[j]]);
            CHECK_EQ_INT(handed_out[tags[j]]++, 0);
            result = result_of(chaos.calls[tags[j]]);
            check_that(may_end_so(result.status), __FILE__, __LINE__, "%d %s", (int)result.status, result.err.message);
        }
        missing -= (int)count;
    }
    CHECK_EQ_INT(missing, 0);
    for (int i = 0; i < BLOCKING; i++)
        pthread_join(callers[i].thread, NULL);
    atomic_store(&chaos.stop, 1);
    pthread_join(canceller, NULL);
    pthread_join(closer, NULL);
    CHECK_EQ_INT(take(queue, tags, COUNT_OF(tags)), 0);
    if (seed % 3)
        CHECK_EQ_INT(stats_of(chaos.client).pending, 0);
    for (int i = 0; i < STARTED; i++)
        spike_auth_call_free(chaos.calls[i]);
    spike_auth_client_free(chaos.client);
    spike_auth_queue_free(queue);
}

static void each_call_is_handed_out_once_in_chaos(void)
{
    unsigned rounds = argument("quick") ? 6 : ROUNDS;
    for (unsigned round = 0; round < rounds; round++) {
        in_round("round %u", round);
        run_round(round);
    }
}

/* ---- one flight ------------------------------------------------------------------------------------------ */

static void many_calls_for_one_user_send_one_request(void)
{
    enum { CALLS = 20000 };
    static spike_auth_call *calls[CALLS];
    static uint64_t tags[CALLS];
    int count = argument("quick") ? 300 : CALLS;
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    struct running waiting[4];
    char first[SPIKE_AUTH_AUTHORIZATION_SIZE];
    const char *user = "fault.delay.500.one";
    for (int i = 0; i < count; i++) {
        start_token(client, user, calls[i] = new_call(), queue, (uint64_t)i);
        if (i % (count / 4) == 0)
            start(&waiting[i / (count / 4)], spike_auth_client_get_token, client, user);
    }
    take_all(queue, tags, (size_t)count);
    strcpy(first, result_of(calls[0]).token);
    for (int i = 0; i < count; i++) {
        struct result result = result_of(calls[i]);
        CHECK(strcmp(result.token, first) == 0);
        spike_auth_call_free(calls[i]);
    }
    for (size_t i = 0; i < COUNT_OF(waiting); i++)
        finish_with(&waiting[i], SPIKE_AUTH_STATUS_OK);
    CHECK_EQ_INT(requests_for(user), 1);
    CHECK_EQ_INT(stats_of(client).requests, 1);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

/* A leader and two followers, each a thread that waits or a call that was started: bit i of `kinds`. The first
 * `cancelled` of them are cancelled while they lead. */
static void check_mixture(unsigned kinds, int cancelled)
{
    enum { ALL = 3 };
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    struct running waiting[ALL];
    spike_auth_call *calls[ALL];
    char user[64], token[SPIKE_AUTH_AUTHORIZATION_SIZE] = "";
    int started = 0;
    snprintf(user, sizeof user, "fault.delay.150.mixture-%u-%d", kinds, cancelled);
    for (int i = 0; i < ALL; i++) {
        /* The next leader is the one with the most time. */
        uint32_t timeout = 60000 - (uint32_t)i * 1000;
        if (kinds >> i & 1) {
            start_token(client, user, calls[i] = new_call_of(timeout), queue, (uint64_t)i);
            started++;
        } else {
            waiting[i].make = spike_auth_client_get_token;
            waiting[i].client = client;
            strcpy(waiting[i].user, user);
            waiting[i].call = new_call_of(timeout);
            REQUIRE(pthread_create(&waiting[i].thread, NULL, run, &waiting[i]) == 0);
        }
        while (stats_of(client).coalesced != (uint64_t)i || stats_of(client).exchanges != 1)
            sleep_ms(1);
        while (i == 0 && requests_for(user) != 1)
            sleep_ms(1);
    }
    for (int i = 0; i < cancelled; i++) {
        spike_auth_call_cancel(kinds >> i & 1 ? calls[i] : waiting[i].call);
        while (i + 1 < ALL && requests_for(user) != i + 2)
            sleep_ms(1);
    }
    take_all(queue, (uint64_t[ALL]){0}, (size_t)started);
    for (int i = 0; i < ALL; i++) {
        struct result result;
        if (kinds >> i & 1) {
            result = result_of(calls[i]);
            spike_auth_call_free(calls[i]);
        } else {
            finish(&waiting[i]);
            result = waiting[i].result;
        }
        if (i < cancelled) {
            CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_CANCELLED);
            continue;
        }
        check_own(&result, user);
        CHECK(token[0] == 0 || strcmp(token, result.token) == 0);
        strcpy(token, result.token);
    }
    CHECK_EQ_INT(requests_for(user), cancelled < ALL ? cancelled + 1 : ALL);
    CHECK_EQ_INT(stats_of(client).exchanges, 1);
    CHECK_EQ_INT(stats_of(client).pending, 0);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

static void threads_and_started_calls_share_a_flight(void)
{
    for (unsigned kinds = 0; kinds < 8; kinds++)
        for (int cancelled = 0; cancelled <= 3; cancelled++) {
            in_round("kinds %u, %d cancelled", kinds, cancelled);
            check_mixture(kinds, cancelled);
        }
}

/* ---- time ------------------------------------------------------------------------------------------------ */

enum { LATE_MS = 100 };

/* Calls that make an exchange, wait for their turn, and wait for another's flight. */
static void deadlines_and_cancels_are_kept(void)
{
    enum { CALLS = 30 };
    double late[2] = {0, 0};
    for (int cancels = 0; cancels < 2; cancels++) {
        spike_auth_config *config = sandbox_config("silent");
        spike_auth_client *client;
        spike_auth_queue *queue = new_queue();
        spike_auth_call *calls[CALLS];
        double ends[CALLS];
        REQUIRE(spike_auth_config_set_max_concurrency(config, 8, NULL) == 0);
        client = client_of(config);
        for (int i = 0; i < CALLS; i++) {
            /* In an order that is not that of the starts. */
            uint32_t timeout = cancels ? 60000 : 100 + (uint32_t)(i * 7 % CALLS) * 20;
            char user[32];
            snprintf(user, sizeof user, "user-%d", i % 15);
            calls[i] = new_call_of(timeout);
            ends[i] = now_ms() + timeout;
            start_token(client, user, calls[i], queue, (uint64_t)i);
        }
        for (int i = 0; i < CALLS; i++) {
            uint64_t tag;
            if (cancels) {
                ends[i] = now_ms();
                spike_auth_call_cancel(calls[i]);
            }
            REQUIRE(is_readable(queue, 20000));
            CHECK_EQ_INT(take(queue, &tag, 1), 1);
            if (now_ms() - ends[tag] > late[cancels])
                late[cancels] = now_ms() - ends[tag];
            CHECK(now_ms() - ends[tag] >= -1);
            CHECK_STATUS(status_of(calls[tag]), cancels ? SPIKE_AUTH_STATUS_CANCELLED : SPIKE_AUTH_STATUS_TIMEOUT);
            CHECK(!cancels || tag == (uint64_t)i);
        }
        CHECK(argument("quick") || late[cancels] < LATE_MS);
        for (int i = 0; i < CALLS; i++)
            spike_auth_call_free(calls[i]);
        spike_auth_client_free(client);
        spike_auth_queue_free(queue);
    }
    printf("deadlines at most %.1f ms late, cancels %.1f ms\n", late[0], late[1]);
}

/* ---- masses ---------------------------------------------------------------------------------------------- */

enum { MASS = 100000, CONCURRENCY = 16, BYTES_MAX = 900, TOLD_MS = 2000 };

static spike_auth_call *mass[MASS];
static double ends_at[MASS];

enum event { CANCEL, CANCEL_BACKWARDS, CLOSE, FREE, EXPIRE, EVENTS };

static void happen(enum event event, spike_auth_client *client, int count)
{
    for (int i = 0; event == CANCEL && i < count; i++)
        spike_auth_call_cancel(mass[i]);
    for (int i = count - 1; event == CANCEL_BACKWARDS && i >= 0; i--)
        spike_auth_call_cancel(mass[i]);
    for (int i = 0; event == FREE && i < count; i++)
        spike_auth_call_free(mass[i]);
    if (event == CLOSE)
        spike_auth_client_close(client);
}

static void check_mass(enum event event, int one_user, int count)
{
    static const char *const NAMES[] = {"cancel", "cancel backwards", "close", "free", "expiry"};
    static const int32_t STATUSES[] = {SPIKE_AUTH_STATUS_CANCELLED, SPIKE_AUTH_STATUS_CANCELLED,
                                       SPIKE_AUTH_STATUS_CLOSED, 0, SPIKE_AUTH_STATUS_TIMEOUT};
    spike_auth_config *config = sandbox_config("silent");
    spike_auth_client *client;
    spike_auth_queue *queue = new_queue();
    size_t before;
    double start, started, told, late = 0, bytes;
    uint64_t tags[256];
    uint32_t timeout = event == EXPIRE ? 1500 : 60000;
    int got = 0;
    REQUIRE(spike_auth_config_set_max_concurrency(config, CONCURRENCY, NULL) == 0);
    REQUIRE(spike_auth_config_set_timeout_ms(config, timeout, NULL) == 0);
    client = client_of(config);
    before = allocated();
    start = now_ms();
    for (int i = 0; i < count; i++) {
        char user[32];
        snprintf(user, sizeof user, "cold-%d", one_user ? 0 : i);
        ends_at[i] = now_ms() + timeout;
        start_token(client, user, mass[i] = new_call(), queue, (uint64_t)i);
    }
    started = now_ms();
    bytes = (double)(allocated() - before) / count;
    CHECK(event == EXPIRE || stats_of(client).pending == (uint64_t)count);
    CHECK(count_threads() <= 1 + CONCURRENCY + 1);
    happen(event, client, count);
    if (event == FREE) {
        CHECK_EQ_INT(stats_of(client).pending, 0);
        CHECK_EQ_INT(take(queue, tags, COUNT_OF(tags)), 0);
        got = count;
    }
    while (got < count) {
        size_t taken;
        REQUIRE(is_readable(queue, 20000));
        taken = take(queue, tags, COUNT_OF(tags));
        for (size_t i = 0; i < taken; i++) {
            CHECK_STATUS(status_of(mass[tags[i]]), STATUSES[event]);
            if (now_ms() - ends_at[tags[i]] > late)
                late = now_ms() - ends_at[tags[i]];
            spike_auth_call_free(mass[tags[i]]);
        }
        got += (int)taken;
    }
    told = now_ms();
    if (event == EXPIRE)
        CHECK(argument("quick") || late < TOLD_MS);
    else
        CHECK(argument("quick") || told - started < TOLD_MS);
    CHECK(argument("quick") || bytes < BYTES_MAX);
    CHECK_EQ_INT(take(queue, tags, COUNT_OF(tags)), 0);
    CHECK(becomes_single_threaded(2000));
    printf("%d calls for %s, %s: %.0f bytes each, started in %.0f ms, told in %.0f ms, threads gone after %.0f ms\n",
           count, one_user ? "one user" : "as many users", NAMES[event], bytes, started - start,
           event == EXPIRE ? late : told - started, now_ms() - told);
    spike_auth_client_free(client);
    spike_auth_queue_free(queue);
    /* What stays is the allocator's, and a few tables that do not shrink. */
    CHECK(argument("quick") || allocated() < before + (size_t)count * 100 + 1000000);
}

static void a_mass_of_calls_ends_by_each_event(void)
{
    int count = argument("quick") ? 1000 : MASS;
    for (int event = 0; event < EVENTS; event++)
        for (int one_user = 0; one_user < 2; one_user++) {
            in_round("event %d, one user %d", event, one_user);
            check_mass((enum event)event, one_user, count);
        }
}

/* ---- cost ------------------------------------------------------------------------------------------------ */

static void hits_are_cheap(void)
{
    enum { TIMES = 200000 };
    int times = argument("quick") ? 1000 : TIMES;
    spike_auth_client *client = sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    spike_auth_call *call = new_call();
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    double start, peeks, gets, queued;
    REQUIRE(get_own(client, "alice").status == 0);
    start = now_ms();
    for (int i = 0; i < times; i++)
        REQUIRE(spike_auth_client_peek_token(client, "alice", 5, token, sizeof token, &len, NULL) == 0);
    peeks = (now_ms() - start) / times * 1e6;
    start = now_ms();
    for (int i = 0; i < times; i++)
        REQUIRE(spike_auth_client_get_token(client, "alice", 5, NULL, token, sizeof token, &len, NULL) == 0);
    gets = (now_ms() - start) / times * 1e6;
    start = now_ms();
    for (int i = 0; i < times; i++) {
        uint64_t tag;
        REQUIRE(spike_auth_client_start_token(client, "alice", 5, call, queue, 1, NULL) == 0);
        REQUIRE(spike_auth_queue_take(queue, &tag, 1, &len, NULL) == 0 && len == 1);
        REQUIRE(spike_auth_call_get_token(call, token, sizeof token, &len, NULL) == 0);
    }
    queued = (now_ms() - start) / times * 1e6;
    CHECK_EQ_INT(count_threads(), 1);
    printf("a hit: peek_token %.0f ns, get_token %.0f ns, through the queue %.0f ns\n", peeks, gets, queued);
    spike_auth_call_free(call);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(hits_are_cheap);
    RUN(deadlines_and_cancels_are_kept);
    RUN(threads_and_started_calls_share_a_flight);
    RUN(many_calls_for_one_user_send_one_request);
    RUN(a_mass_of_calls_ends_by_each_event);
    RUN(each_call_is_handed_out_once_in_chaos);
    return check_summary();
}
