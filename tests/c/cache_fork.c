/* The cache over fork(2): a child has the tokens of its parent, whatever the parent's threads were doing
 * to them, and from then on a cache of its own. Against a sandbox whose tokens differ at each exchange.
 *
 * usage: cache_fork NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "cache.h"
#include "children.h"

enum { WARM_USERS = 50, CHILDREN = 300, FEW = 10 };

/* The parent's token of each user. */
static char held[WARM_USERS][SPIKE_AUTH_TOKEN_SIZE];

static const char *warm_user(int number)
{
    static _Thread_local char user[64];
    snprintf(user, sizeof user, "warm-%d", number);
    return user;
}

static spike_auth_client *warm_client(void)
{
    spike_auth_client *client = sandbox_client("http");
    for (int i = 0; i < WARM_USERS; i++)
        strcpy(held[i], get_own(client, warm_user(i)).token);
    return client;
}

static struct result get_in_child(const spike_auth_client *client, const char *user)
{
    struct result result = get(client, user);
    check_own_in_child(&result, user);
    return result;
}

static void check_hit(const spike_auth_client *client, int number)
{
    CHECK_STR(get_in_child(client, warm_user(number)).token, held[number]);
}

/* All other counts are 0. */
static void check_only_hits(const spike_auth_client *client, uint64_t hits)
{
    spike_auth_stats stats = stats_of(client), expected = {0};
    expected.hits = hits;
    expected.entries = stats.entries;
    expected.bytes = stats.bytes;
    expected.forks = 1;
    CHECK_EQ_INT(stats.hits, hits);
    CHECK(memcmp(&stats, &expected, sizeof stats) == 0);
}

/* ---- without load --------------------------------------------------------------------------------------- */

static void hit_once(void *argument)
{
    const struct job *job = argument;
    check_hit(job->client, job->number % WARM_USERS);
    check_only_hits(job->client, 1);
    CHECK_EQ_INT(stats_of(job->client).entries, WARM_USERS);
}

static void hit_all_in_each_way(void *argument)
{
    const struct job *job = argument;
    CHECK_EQ_INT(stats_of(job->client).entries, WARM_USERS); /* before the first hit */
    CHECK(stats_of(job->client).bytes > 0);
    for (int i = 0; i < WARM_USERS; i++) {
        char out[SPIKE_AUTH_AUTHORIZATION_SIZE];
        size_t len;
        check_hit(job->client, i);
        CHECK_STR(peek(job->client, warm_user(i)).token, held[i]);
        CHECK_STATUS(spike_auth_client_get_authorization(job->client, warm_user(i), NUL_TERMINATED, NULL, out,
                                                         sizeof out, &len, NULL), 0);
        CHECK_STR(out + strlen("Bearer "), held[i]);
    }
    CHECK(!is_cached(job->client, "cold"));
    check_only_hits(job->client, 3 * WARM_USERS);
    spike_auth_client_free(job->client);
}

static void children_hit_what_their_parent_holds_without_a_request(void)
{
    spike_auth_client *client = warm_client();
    spike_auth_stats before = stats_of(client), after;
    long requests = counter("requests"), connections = counter("connections");
    CHECK_EQ_INT(before.forks, 0);
    fork_in_groups(hit_once, client, CHILDREN / 3);
    fork_in_groups(hit_all_in_each_way, client, FEW);
    CHECK_EQ_INT(counter("requests"), requests);
    CHECK_EQ_INT(counter("connections"), connections);
    after = stats_of(client);
    CHECK(memcmp(&before, &after, sizeof after) == 0);
    spike_auth_client_free(client);
}

static void miss_and_hit(void *argument)
{
    const struct job *job = argument;
    spike_auth_stats stats;
    struct result first;
    char user[64];
    snprintf(user, sizeof user, "cold-%d", job->number);
    first = get_in_child(job->client, user);
    CHECK_STR(get_in_child(job->client, user).token, first.token);
    check_hit(job->client, job->number % WARM_USERS);
    stats = stats_of(job->client);
    CHECK_EQ_INT(stats.hits, 2);
    CHECK_EQ_INT(stats.exchanges, 1);
    CHECK_EQ_INT(stats.requests, 1);
    CHECK_EQ_INT(stats.entries, WARM_USERS + 1);
}

static void new_tokens_of_a_child_are_its_own(void)
{
    spike_auth_client *client = warm_client();
    long requests = counter("requests");
    fork_in_groups(miss_and_hit, client, 5 * FEW);
    CHECK_EQ_INT(counter("requests") - requests, 5 * FEW);
    CHECK(!is_cached(client, "cold-1"));
    CHECK_EQ_INT(stats_of(client).entries, WARM_USERS);
    spike_auth_client_free(client);
}

/* ---- under load ----------------------------------------------------------------------------------------- */

/* Adds and removes other users than the children's: the tables grow, and their entries move. */
static void change_others(struct load *load, long i)
{
    char user[64];
    struct result result;
    snprintf(user, sizeof user, "load-%d-%ld", load->number, i);
    result = get_own(load->client, user);
    if (i % 3 == 0)
        CHECK_STATUS(forget(load->client, user), SPIKE_AUTH_STATUS_OK);
    if (i % 3 == 1)
        CHECK_STATUS(report(load->client, user, result.token), SPIKE_AUTH_STATUS_OK);
    CHECK_STR(peek(load->client, warm_user((int)(i % WARM_USERS))).token, held[i % WARM_USERS]);
}

static void hit_three_times_and_miss(void *argument)
{
    const struct job *job = argument;
    char user[64];
    for (int i = 0; i < 3; i++)
        check_hit(job->client, (7 * job->number + 11 * i) % WARM_USERS);
    check_only_hits(job->client, 3);
    CHECK(stats_of(job->client).entries >= WARM_USERS);
    snprintf(user, sizeof user, "child-%d", job->number);
    (void)get_in_child(job->client, user);
    CHECK_EQ_INT(stats_of(job->client).requests, 1);
}

static void children_forked_while_threads_change_the_cache_hit(void)
{
    static struct load load[LOAD_THREADS];
    spike_auth_client *client = warm_client();
    start_load(load, client, change_others, NULL);
    fork_in_groups(hit_three_times_and_miss, client, CHILDREN);
    stop_load(load);
    for (int i = 0; i < WARM_USERS; i++)
        CHECK_STR(get_own(client, warm_user(i)).token, held[i]);
    spike_auth_client_free(client);
}

/* Drops everything repeatedly; the same users get other tokens. */
static void change_everything(struct load *load, long i)
{
    const char *user = warm_user((int)((i + load->number) % WARM_USERS));
    struct result result = get(load->client, user);
    CHECK(result.status == SPIKE_AUTH_STATUS_OK || result.status == SPIKE_AUTH_STATUS_TOKEN_REJECTED);
    CHECK(result.status != SPIKE_AUTH_STATUS_OK || token_is_for(result.token, user));
    if (i % 5 == 1 && result.status == SPIKE_AUTH_STATUS_OK && i % WARM_USERS < 3) /* few: it blocks a user */
        CHECK_STATUS(report(load->client, user, result.token), SPIKE_AUTH_STATUS_OK);
    if (i % 5 == 2)
        CHECK_STATUS(forget(load->client, user), SPIKE_AUTH_STATUS_OK);
    if (i % 20 == 3)
        CHECK_STATUS(spike_auth_client_clear(load->client, NULL), SPIKE_AUTH_STATUS_OK);
}

static void get_five(void *argument)
{
    const struct job *job = argument;
    spike_auth_stats stats;
    for (int i = 0; i < 5; i++)
        (void)get_in_child(job->client, warm_user((7 * job->number + 11 * i) % WARM_USERS));
    stats = stats_of(job->client);
    CHECK_EQ_INT(stats.hits + stats.misses, 5);
    CHECK(stats.entries <= WARM_USERS);
    CHECK_EQ_INT(stats.requests, stats.misses);
    CHECK_EQ_INT(stats.forks, 1);
    CHECK_STATUS(spike_auth_client_clear(job->client, NULL), SPIKE_AUTH_STATUS_OK);
    CHECK_EQ_INT(stats_of(job->client).entries, 0);
    CHECK_EQ_INT(stats_of(job->client).bytes, 0);
    if (job->number % 2)
        spike_auth_client_free(job->client);
}

static void children_forked_while_threads_clear_the_cache_get_their_own_tokens(void)
{
    static struct load load[LOAD_THREADS];
    spike_auth_client *client = warm_client();
    start_load(load, client, change_everything, NULL);
    fork_in_groups(get_five, client, CHILDREN);
    stop_load(load);
    spike_auth_client_free(client);
}

/* ---- forks of forks --------------------------------------------------------------------------------------- */

enum { DEEPEST = 5 };

/* Only the last generation reads tokens. In generations.c each does. */
static void fork_again_and_hit(void *argument)
{
    struct job *job = argument;
    if (++job->number < DEEPEST) {
        check_child(fork_again_and_hit, job);
        CHECK_EQ_INT(stats_of(job->client).hits, 0);
    } else {
        for (int i = 0; i < WARM_USERS; i++)
            check_hit(job->client, i);
        CHECK_EQ_INT(stats_of(job->client).hits, WARM_USERS);
    }
    CHECK_EQ_INT(stats_of(job->client).forks, job->number);
    CHECK_EQ_INT(stats_of(job->client).entries, WARM_USERS);
    CHECK_STATUS(spike_auth_client_clear(job->client, NULL), SPIKE_AUTH_STATUS_OK);
    spike_auth_client_free(job->client);
}

static void tokens_pass_through_generations_that_do_not_use_them(void)
{
    struct job job = {warm_client(), 0};
    check_child(fork_again_and_hit, &job);
    CHECK_EQ_INT(stats_of(job.client).entries, WARM_USERS);
    spike_auth_client_free(job.client);
}

/* ---- what either side drops ------------------------------------------------------------------------------- */

static void forget_some(void *argument)
{
    const struct job *job = argument;
    CHECK_STATUS(forget(job->client, warm_user(1)), SPIKE_AUTH_STATUS_OK);
    CHECK(!is_cached(job->client, warm_user(1)));
    CHECK(strcmp(get_in_child(job->client, warm_user(1)).token, held[1]) != 0);
    check_hit(job->client, 2);
    CHECK_EQ_INT(stats_of(job->client).entries, WARM_USERS);
}

static void report_some(void *argument)
{
    const struct job *job = argument;
    CHECK_STATUS(report(job->client, warm_user(1), held[2]), SPIKE_AUTH_STATUS_OK);
    check_hit(job->client, 1);
    CHECK_STATUS(report(job->client, warm_user(1), held[1]), SPIKE_AUTH_STATUS_OK);
    CHECK(!is_cached(job->client, warm_user(1)));
    CHECK(strcmp(get_in_child(job->client, warm_user(1)).token, held[1]) != 0);
    CHECK_EQ_INT(stats_of(job->client).invalidations, 1);
}

static void clear_all(void *argument)
{
    const struct job *job = argument;
    CHECK_STATUS(spike_auth_client_clear(job->client, NULL), SPIKE_AUTH_STATUS_OK);
    CHECK_EQ_INT(stats_of(job->client).entries, 0);
    for (int i = 0; i < WARM_USERS; i++)
        CHECK(!is_cached(job->client, warm_user(i)));
    CHECK(strcmp(get_in_child(job->client, warm_user(1)).token, held[1]) != 0);
}

static void hit_and_close(void *argument)
{
    const struct job *job = argument;
    check_hit(job->client, 1);
    spike_auth_client_close(job->client);
    CHECK_STATUS(get(job->client, warm_user(1)).status, SPIKE_AUTH_STATUS_CLOSED);
    CHECK_STATUS(peek(job->client, warm_user(1)).status, SPIKE_AUTH_STATUS_CLOSED);
}

static void free_at_once(void *argument)
{
    spike_auth_client_free(((const struct job *)argument)->client);
}

static void hit_and_free(void *argument)
{
    check_hit(((const struct job *)argument)->client, 1);
    free_at_once(argument);
}

static void what_a_child_drops_stays_in_the_parent(void)
{
    static void (*const ACTIONS[])(void *) = {forget_some, report_some, clear_all, hit_and_close, free_at_once,
                                            hit_and_free};
    struct job job = {warm_client(), 0};
    spike_auth_stats before = stats_of(job.client), after;
    for (size_t i = 0; i < COUNT_OF(ACTIONS); i++) {
        in_round("action %zu", i);
        check_child(ACTIONS[i], &job);
    }
    after = stats_of(job.client);
    CHECK(memcmp(&before, &after, sizeof after) == 0);
    for (int i = 0; i < WARM_USERS; i++)
        CHECK_STR(get_own(job.client, warm_user(i)).token, held[i]);
    check_child(hit_once, &job); /* also for the next child */
    spike_auth_client_free(job.client);
}

/* A child waits until its parent has closed the other end. */
static int gate[2];

static void hit_after_the_gate(void *argument)
{
    const struct job *job = argument;
    char byte;
    close(gate[1]);
    if (job->number % 2) /* reads before the parent drops, or only afterwards */
        check_hit(job->client, 0);
    CHECK_EQ_INT(read(gate[0], &byte, 1), 0);
    for (int i = 0; i < WARM_USERS; i++)
        check_hit(job->client, i);
    check_only_hits(job->client, (uint64_t)(WARM_USERS + job->number % 2));
}

static void what_the_parent_drops_stays_in_a_child(void)
{
    spike_auth_client *client = warm_client();
    pid_t children[FEW];
    REQUIRE(pipe2(gate, O_CLOEXEC) == 0);
    for (int i = 0; i < FEW; i++) {
        struct job job = {client, i};
        children[i] = start_child(hit_after_the_gate, &job);
    }
    CHECK_STATUS(report(client, warm_user(1), held[1]), SPIKE_AUTH_STATUS_OK);
    CHECK_STATUS(forget(client, warm_user(2)), SPIKE_AUTH_STATUS_OK);
    CHECK_STATUS(spike_auth_client_clear(client, NULL), SPIKE_AUTH_STATUS_OK);
    CHECK(strcmp(get_own(client, warm_user(3)).token, held[3]) != 0);
    spike_auth_client_close(client);
    spike_auth_client_free(client);
    close(gate[0]);
    close(gate[1]);
    check_children(children, FEW);
}

static void check_closed(void *argument)
{
    const struct job *job = argument;
    CHECK_STATUS(get(job->client, warm_user(1)).status, SPIKE_AUTH_STATUS_CLOSED);
    CHECK_STATUS(peek(job->client, warm_user(1)).status, SPIKE_AUTH_STATUS_CLOSED);
    CHECK_STATUS(exchange(job->client, "child").status, SPIKE_AUTH_STATUS_CLOSED);
    spike_auth_client_free(job->client);
}

static void a_child_of_a_closed_client_has_a_closed_client(void)
{
    struct job job = {warm_client(), 0};
    spike_auth_client_close(job.client);
    check_child(check_closed, &job);
    spike_auth_client_free(job.client);
}

/* ---- exchanges under way ------------------------------------------------------------------------------------ */

enum { CALLERS = 4 };

static struct running callers[CALLERS];

#define IN_FLIGHT "fault.stall.x1.in-flight" /* the first request is never answered */

/* It neither waits for its parent's exchange nor ends it. */
static void get_what_the_parent_waits_for(void *argument)
{
    const struct job *job = argument;
    for (int i = 0; i < CALLERS; i++)
        spike_auth_call_cancel(callers[i].call);
    (void)get_in_child(job->client, IN_FLIGHT);
    CHECK_EQ_INT(stats_of(job->client).coalesced, 0);
    CHECK_EQ_INT(stats_of(job->client).exchanges, 1);
    check_hit(job->client, 1);
}

static void a_child_does_not_wait_for_its_parents_exchange(void)
{
    struct job job = {warm_client(), 0};
    for (int i = 0; i < CALLERS; i++)
        start(&callers[i], spike_auth_client_get_token, job.client, IN_FLIGHT);
    wait_until_in_flight(1);
    while (stats_of(job.client).coalesced < CALLERS - 1)
        sleep_ms(1);
    check_child(get_what_the_parent_waits_for, &job);
    CHECK_EQ_INT(requests_for(IN_FLIGHT), 2);
    CHECK(!is_cached(job.client, IN_FLIGHT));
    CHECK_EQ_INT(counter("in_flight"), 1); /* the parent's is unchanged */
    for (int i = 0; i < CALLERS; i++)
        spike_auth_call_cancel(callers[i].call);
    for (int i = 0; i < CALLERS; i++)
        finish_with(&callers[i], SPIKE_AUTH_STATUS_CANCELLED);
    (void)get_own(job.client, IN_FLIGHT);
    spike_auth_client_free(job.client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    begin_children();
    RUN(children_hit_what_their_parent_holds_without_a_request);
    RUN(new_tokens_of_a_child_are_its_own);
    RUN(children_forked_while_threads_change_the_cache_hit);
    RUN(children_forked_while_threads_clear_the_cache_get_their_own_tokens);
    RUN(tokens_pass_through_generations_that_do_not_use_them);
    RUN(what_a_child_drops_stays_in_the_parent);
    RUN(what_the_parent_drops_stays_in_a_child);
    RUN(a_child_of_a_closed_client_has_a_closed_client);
    RUN(a_child_does_not_wait_for_its_parents_exchange);
    return check_summary();
}
