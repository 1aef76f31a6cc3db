/* The cache over fork(2): a child has the tokens of its parent, whatever the parent's threads were doing to them, and
 * a cache of its own from then on. Against a sandbox whose tokens differ at each exchange.
 *
 * usage: cache_fork NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "cache.h"
#include "children.h"

#include <fcntl.h>

enum { WARM_USERS = 50, CHILDREN = 300, GROUP = 10 };

/* What the parent holds of each user. */
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

/* Another's token ends the child with its own exit code, so that it is not counted as just a failure. */
static struct result get_in_child(const spike_auth_client *client, const char *user)
{
    struct result result = get(client, user);
    if (result.status == SPIKE_AUTH_STATUS_OK && !token_is_for(result.token, user))
        _exit(CHILD_GOT_ANOTHERS);
    check_that(result.status == SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__, "%s: %s", user, result.err.message);
    return result;
}

static void check_hit(const spike_auth_client *client, int number)
{
    CHECK_STR(get_in_child(client, warm_user(number)).token, held[number]);
}

static void check_only_hits(const spike_auth_client *client, uint64_t hits, uint64_t forks)
{
    spike_auth_stats stats = stats_of(client);
    CHECK_EQ_INT(stats.hits, hits);
    CHECK_EQ_INT(stats.misses, 0);
    CHECK_EQ_INT(stats.coalesced, 0);
    CHECK_EQ_INT(stats.exchanges, 0);
    CHECK_EQ_INT(stats.requests, 0);
    CHECK_EQ_INT(stats.retries, 0);
    CHECK_EQ_INT(stats.failures, 0);
    CHECK_EQ_INT(stats.invalidations, 0);
    CHECK_EQ_INT(stats.evictions, 0);
    CHECK_EQ_INT(stats.forks, forks);
}

struct job {
    spike_auth_client *client;
    int number;
};

static void fork_in_groups(void (*body)(void *), spike_auth_client *client, int children)
{
    struct outcomes outcomes = {0};
    for (int done = 0; done < children; done += GROUP) {
        pid_t group[GROUP];
        for (int i = 0; i < GROUP; i++) {
            struct job job = {client, done + i};
            group[i] = start_child(body, &job);
        }
        for (int i = 0; i < GROUP; i++)
            wait_for(group[i], &outcomes);
    }
    check_outcomes(&outcomes, children);
}

/* ---- warm ----------------------------------------------------------------------------------------------- */

static void hit_once(void *argument)
{
    const struct job *job = argument;
    check_hit(job->client, job->number % WARM_USERS);
    check_only_hits(job->client, 1, 1);
    CHECK_EQ_INT(stats_of(job->client).entries, WARM_USERS);
}

static void hit_all_in_every_way(void *argument)
{
    const struct job *job = argument;
    CHECK_EQ_INT(stats_of(job->client).entries, WARM_USERS); /* before anything was asked for, too */
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
    check_only_hits(job->client, 3 * WARM_USERS, 1);
    spike_auth_client_free(job->client);
}

static void children_hit_what_their_parent_holds_without_a_request(void)
{
    spike_auth_client *client = warm_client();
    spike_auth_stats before = stats_of(client), after;
    long requests = counter("requests"), connections = counter("connections");
    CHECK_EQ_INT(before.forks, 0);
    fork_in_groups(hit_once, client, CHILDREN / 3);
    fork_in_groups(hit_all_in_every_way, client, GROUP);
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

static void what_a_child_gets_besides_is_its_own(void)
{
    spike_auth_client *client = warm_client();
    long requests = counter("requests");
    fork_in_groups(miss_and_hit, client, 5 * GROUP);
    CHECK_EQ_INT(counter("requests") - requests, 5 * GROUP);
    CHECK(!is_cached(client, "cold-1"));
    CHECK_EQ_INT(stats_of(client).entries, WARM_USERS);
    spike_auth_client_free(client);
}

/* ---- under load ----------------------------------------------------------------------------------------- */

enum { LOAD_THREADS = 4 };

struct load {
    const spike_auth_client *client;
    void (*step)(struct load *load, long i);
    int number;
    atomic_int stop;
    atomic_long steps;
    pthread_t thread;
};

static void *step_until_stopped(void *argument)
{
    struct load *load = argument;
    for (long i = 0; !atomic_load(&load->stop); i++) {
        load->step(load, i);
        atomic_fetch_add(&load->steps, 1);
    }
    return NULL;
}

static void start_load(struct load *load, const spike_auth_client *client, void (*step)(struct load *load, long i))
{
    for (int i = 0; i < LOAD_THREADS; i++) {
        load[i].client = client;
        load[i].step = step;
        load[i].number = i;
        atomic_store(&load[i].stop, 0);
        atomic_store(&load[i].steps, 0);
        REQUIRE(pthread_create(&load[i].thread, NULL, step_until_stopped, &load[i]) == 0);
    }
    for (int i = 0; i < LOAD_THREADS; i++)
        while (atomic_load(&load[i].steps) == 0)
            sleep_ms(1);
}

static void stop_load(struct load *load)
{
    for (int i = 0; i < LOAD_THREADS; i++)
        atomic_store(&load[i].stop, 1);
    for (int i = 0; i < LOAD_THREADS; i++)
        pthread_join(load[i].thread, NULL);
}

/* Users come and go beside those of whom the children will ask: the tables grow, and what stands in them moves. */
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
    check_only_hits(job->client, 3, 1);
    CHECK(stats_of(job->client).entries >= WARM_USERS);
    snprintf(user, sizeof user, "child-%d", job->number);
    (void)get_in_child(job->client, user);
    CHECK_EQ_INT(stats_of(job->client).requests, 1);
}

static void children_forked_while_threads_change_the_cache_hit_all_the_same(void)
{
    static struct load load[LOAD_THREADS];
    spike_auth_client *client = warm_client();
    start_load(load, client, change_others);
    fork_in_groups(hit_three_times_and_miss, client, CHILDREN);
    stop_load(load);
    for (int i = 0; i < WARM_USERS; i++)
        CHECK_STR(get_own(client, warm_user(i)).token, held[i]);
    spike_auth_client_free(client);
}

/* Everything goes, again and again, and the same users come back with other tokens. */
static void change_everything(struct load *load, long i)
{
    const char *user = warm_user((int)((i + load->number) % WARM_USERS));
    struct result result = get(load->client, user);
    CHECK(result.status == SPIKE_AUTH_STATUS_OK || result.status == SPIKE_AUTH_STATUS_TOKEN_REJECTED);
    CHECK(result.status != SPIKE_AUTH_STATUS_OK || token_is_for(result.token, user));
    if (i % 5 == 1 && result.status == SPIKE_AUTH_STATUS_OK && i % WARM_USERS < 3) /* few: it stops a user */
        CHECK_STATUS(report(load->client, user, result.token), SPIKE_AUTH_STATUS_OK);
    if (i % 5 == 2)
        CHECK_STATUS(forget(load->client, user), SPIKE_AUTH_STATUS_OK);
    if (i % 20 == 3)
        CHECK_STATUS(spike_auth_client_clear(load->client, NULL), SPIKE_AUTH_STATUS_OK);
}

static void get_whatever_is_there(void *argument)
{
    const struct job *job = argument;
    spike_auth_stats stats;
    for (int i = 0; i < 5; i++)
        (void)get_in_child(job->client, warm_user((7 * job->number + 11 * i) % WARM_USERS));
    stats = stats_of(job->client);
    check_sums(&stats, 5);
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
    start_load(load, client, change_everything);
    fork_in_groups(get_whatever_is_there, client, CHILDREN);
    stop_load(load);
    spike_auth_client_free(client);
}

/* ---- forks of forks --------------------------------------------------------------------------------------- */

enum { DEEPEST = 5 };

/* What each generation but the last asks for before it forks: what it does not ask for goes through it unseen. */
enum asking { ASKS_NOTHING, ASKS_FOR_ONE, ASKS_FOR_ALL };

struct descendant {
    spike_auth_client *client;
    enum asking asking;
    int depth;
    char got[DEEPEST + 1][SPIKE_AUTH_TOKEN_SIZE]; /* by each generation, for itself */
};

static const char *user_of_generation(int depth)
{
    static char user[64];
    snprintf(user, sizeof user, "generation-%d", depth);
    return user;
}

/* Gives how many hits that is. */
static int hit_what_all_before_it_got(const struct descendant *self)
{
    int users = self->depth == DEEPEST || self->asking == ASKS_FOR_ALL ? WARM_USERS : (int)self->asking;
    int earlier = self->asking == ASKS_FOR_ALL ? self->depth - 1 : 0;
    for (int i = 0; i < users; i++)
        check_hit(self->client, i);
    for (int depth = 1; depth <= earlier; depth++)
        CHECK_STR(get_in_child(self->client, user_of_generation(depth)).token, self->got[depth]);
    return users + earlier;
}

static void hit_and_fork_on(void *argument)
{
    struct descendant *self = argument;
    int depth = self->depth, hits = hit_what_all_before_it_got(self), asks_for_all = self->asking == ASKS_FOR_ALL;
    if (asks_for_all)
        strcpy(self->got[depth], get_in_child(self->client, user_of_generation(depth)).token);
    if (depth < DEEPEST) {
        self->depth++;
        check_child(hit_and_fork_on, self);
    }
    CHECK_EQ_INT(stats_of(self->client).forks, depth);
    CHECK_EQ_INT(stats_of(self->client).hits, hits);
    CHECK_EQ_INT(stats_of(self->client).requests, asks_for_all);
    CHECK_EQ_INT(stats_of(self->client).entries, WARM_USERS + (asks_for_all ? depth : 0));
    CHECK_STATUS(spike_auth_client_clear(self->client, NULL), SPIKE_AUTH_STATUS_OK);
    spike_auth_client_free(self->client);
}

static void children_of_children_hit_what_all_before_them_got(void)
{
    static struct descendant first;
    for (int asking = ASKS_NOTHING; asking <= ASKS_FOR_ALL; asking++) {
        first.client = warm_client();
        first.asking = (enum asking)asking;
        first.depth = 1;
        in_round("asking %d", asking);
        check_child(hit_and_fork_on, &first);
        CHECK_STR(peek(first.client, warm_user(0)).token, held[0]);
        CHECK_EQ_INT(stats_of(first.client).entries, WARM_USERS);
        spike_auth_client_free(first.client);
    }
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
    static void (*const DEEDS[])(void *) = {forget_some, report_some, clear_all, hit_and_close, free_at_once,
                                            hit_and_free};
    struct job job = {warm_client(), 0};
    spike_auth_stats before = stats_of(job.client), after;
    for (size_t i = 0; i < COUNT_OF(DEEDS); i++) {
        in_round("deed %zu", i);
        check_child(DEEDS[i], &job);
    }
    after = stats_of(job.client);
    CHECK(memcmp(&before, &after, sizeof after) == 0);
    for (int i = 0; i < WARM_USERS; i++)
        CHECK_STR(get_own(job.client, warm_user(i)).token, held[i]);
    check_child(hit_once, &job); /* and is there for the next child */
    spike_auth_client_free(job.client);
}

/* A child waits here until its parent has closed the other end. */
static int gate[2];

static void hit_after_the_gate(void *argument)
{
    const struct job *job = argument;
    char byte;
    close(gate[1]);
    if (job->number % 2) /* it took over before, or it does so afterwards */
        check_hit(job->client, 0);
    CHECK_EQ_INT(read(gate[0], &byte, 1), 0);
    for (int i = 0; i < WARM_USERS; i++)
        check_hit(job->client, i);
    check_only_hits(job->client, (uint64_t)(WARM_USERS + job->number % 2), 1);
}

static void what_the_parent_drops_stays_in_a_child(void)
{
    struct outcomes outcomes = {0};
    spike_auth_client *client = warm_client();
    pid_t children[GROUP];
    REQUIRE(pipe2(gate, O_CLOEXEC) == 0);
    for (int i = 0; i < GROUP; i++) {
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
    for (int i = 0; i < GROUP; i++)
        wait_for(children[i], &outcomes);
    check_outcomes(&outcomes, GROUP);
}

static void check_closed(void *argument)
{
    const struct job *job = argument;
    CHECK_STATUS(get(job->client, warm_user(1)).status, SPIKE_AUTH_STATUS_CLOSED);
    CHECK_STATUS(peek(job->client, warm_user(1)).status, SPIKE_AUTH_STATUS_CLOSED);
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

#define IN_FLIGHT "fault.stall.x1.in-flight" /* the first request is never answered */

/* It neither waits for what its parent waits for, nor stops it. */
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
    start_callers_of(CALLERS, job.client, IN_FLIGHT, NULL);
    while (stats_of(job.client).coalesced < CALLERS - 1 || counter("in_flight") == 0)
        sleep_ms(1);
    check_child(get_what_the_parent_waits_for, &job);
    CHECK_EQ_INT(requests_for(IN_FLIGHT), 2);
    CHECK(!is_cached(job.client, IN_FLIGHT));
    CHECK_EQ_INT(counter("in_flight"), 1); /* the parent's is where it was */
    for (int i = 0; i < CALLERS; i++)
        spike_auth_call_cancel(callers[i].call);
    end_callers(CALLERS);
    (void)get_own(job.client, IN_FLIGHT);
    spike_auth_client_free(job.client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    begin_children();
    RUN(children_hit_what_their_parent_holds_without_a_request);
    RUN(what_a_child_gets_besides_is_its_own);
    RUN(children_forked_while_threads_change_the_cache_hit_all_the_same);
    RUN(children_forked_while_threads_clear_the_cache_get_their_own_tokens);
    RUN(children_of_children_hit_what_all_before_them_got);
    RUN(what_a_child_drops_stays_in_the_parent);
    RUN(what_the_parent_drops_stays_in_a_child);
    RUN(a_child_of_a_closed_client_has_a_closed_client);
    RUN(a_child_does_not_wait_for_its_parents_exchange);
    return check_summary();
}
