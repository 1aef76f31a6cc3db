/* A client over fork(2): the parent and every child continue at once, whatever the parent's threads were
 * doing, and none uses another's connection, call or token.
 *
 * usage: fork NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "children.h"
#include "replace.h"

/* ---- names ----------------------------------------------------------------------------------------- */

#define SLOW_NAME "slow.example"

/* How long a lookup of SLOW_NAME takes. 0 in a child, which does not wait for its parent's lookup. */
static atomic_long lookup_ms;

REPLACE(getaddrinfo)

int REPLACED(getaddrinfo)(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    if (node != NULL && strcmp(node, SLOW_NAME) == 0) {
        sleep_ms(atomic_load(&lookup_ms));
        node = "127.0.0.1";
    }
    return real_getaddrinfo()(node, service, hints, found);
}

static void find_names_at_once(void)
{
    atomic_store(&lookup_ms, 0);
}

static void check_token_in_child(const spike_auth_client *client, const char *user)
{
    struct result result = exchange(client, user);
    check_own_in_child(&result, user);
}

/* ---- under load ------------------------------------------------------------------------------------ */

enum { CHILDREN = 600 };

static void exchange_for_another(struct load *load, long i)
{
    char user[64];
    snprintf(user, sizeof user, "%sparent-%d-%ld", load->prefix, load->number, i);
    check_token(load->client, user);
}

static void exchange_up_to_three_times(void *argument)
{
    const struct job *job = argument;
    char user[64];
    for (int i = 0; i <= job->number % 3; i++) {
        snprintf(user, sizeof user, "child-%d-%d", job->number, i);
        check_token_in_child(job->client, user);
    }
}

/* Returns the number of connections that parent and children have made. */
static long check_children_under_load(const char *place, const char *prefix, int children)
{
    spike_auth_client *client = sandbox_client(place);
    static struct load load[LOAD_THREADS];
    long connections = counter("connections");
    in_round("%s %s", place, prefix);
    start_load(load, client, exchange_for_another, prefix);
    fork_in_groups(exchange_up_to_three_times, client, children);
    stop_load(load);
    connections = counter("connections") - connections;
    spike_auth_client_free(client);
    return connections;
}

static void children_forked_under_load_each_get_their_own_token(void)
{
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        long made = check_children_under_load(SCHEMES[i], "", CHILDREN);
        /* One for each child. One more for the parent would mean that a child disturbed one. */
        check_that(made > CHILDREN && made <= CHILDREN + LOAD_THREADS, __FILE__, __LINE__,
                   "%d children and %d threads made %ld connections", CHILDREN, LOAD_THREADS, made);
    }
}

/* The threads then make sockets, shake hands and keep session tickets. */
static void children_forked_while_threads_connect_each_get_their_own_token(void)
{
    (void)check_children_under_load("http", "fault.http10.", CHILDREN / 3);
    (void)check_children_under_load("https", "fault.http10.", CHILDREN / 3);
}

/* ---- pairs, right after a connection was pooled ------------------------------------------------------ */

enum { PAIRS = 100 };

static void exchange_slowly(void *argument)
{
    const struct job *job = argument;
    char user[64];
    /* Long enough for the requests of both children to be under way before one is answered. */
    snprintf(user, sizeof user, "fault.delay.5.child-%d", job->number);
    check_token_in_child(job->client, user);
}

static void check_pairs(const char *place)
{
    spike_auth_client *client = sandbox_client(place);
    long connections = counter("connections");
    in_round("%s", place);
    check_token(client, "parent");
    for (int i = 0; i < PAIRS; i++) {
        struct job jobs[2] = {{client, 2 * i}, {client, 2 * i + 1}};
        pid_t pair[2] = {start_child(exchange_slowly, &jobs[0]), start_child(exchange_slowly, &jobs[1])};
        check_children(pair, 2);
    }
    check_token(client, "parent");
    CHECK_EQ_INT(counter("connections") - connections, 1 + 2 * PAIRS); /* the parent's is unchanged */
    spike_auth_client_free(client);
}

static void pairs_of_children_do_not_share_the_pooled_connection(void)
{
    check_pairs("http");
    check_pairs("https");
}

/* ---- close, free and cancel on either side ----------------------------------------------------------- */

static void cancel_the_parents_call(void *argument)
{
    struct running *running = argument;
    spike_auth_call_cancel(running->call);
    /* In this process the handle is cancelled, and the client works. */
    CHECK_STATUS(exchange_by(running->client, "child", running->call).status, SPIKE_AUTH_STATUS_CANCELLED);
    check_token_in_child(running->client, "child");
}

static void close_the_parents_client(void *argument)
{
    struct running *running = argument;
    spike_auth_client_close(running->client);
    CHECK_STATUS(exchange(running->client, "child").status, SPIKE_AUTH_STATUS_CLOSED);
}

static void close_the_parents_client_after_a_call(void *argument)
{
    struct running *running = argument;
    check_token_in_child(running->client, "child");
    close_the_parents_client(argument);
}

static void free_what_the_parent_uses(void *argument)
{
    struct running *running = argument;
    spike_auth_client_free(running->client);
    spike_auth_call_free(running->call);
}

static void free_what_the_parent_uses_after_a_call(void *argument)
{
    struct running *running = argument;
    struct result result = exchange_by(running->client, "child", running->call);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
    free_what_the_parent_uses(argument);
}

/* Starts an exchange and waits until the sandbox has its request. */
static void start_and_arrive(struct running *running, spike_auth_client *client, const char *user)
{
    long before = requests_for(user);
    start_exchange(running, client, user);
    while (requests_for(user) == before)
        sleep_ms(1);
}

/* A child stops a call of its own in each way that could affect its parent's by mistake. */
static void stop_a_call_of_its_own(void *argument)
{
    struct running *parents = argument;
    static struct running own;
    start_and_arrive(&own, parents->client, "fault.stall.child");
    spike_auth_call_cancel(own.call);
    finish_with(&own, SPIKE_AUTH_STATUS_CANCELLED);
    start_and_arrive(&own, parents->client, "fault.stall.child");
    spike_auth_client_close(own.client);
    finish_with(&own, SPIKE_AUTH_STATUS_CLOSED);
}

static void check_child_cannot_reach_the_parents_call(const char *place)
{
    static void (*const ACTIONS[])(void *) = {
        cancel_the_parents_call,   close_the_parents_client,
        free_what_the_parent_uses, close_the_parents_client_after_a_call,
        stop_a_call_of_its_own,    free_what_the_parent_uses_after_a_call,
    };
    spike_auth_client *client = sandbox_client(place);
    static struct running running;
    pid_t children[COUNT_OF(ACTIONS)];
    long connections;
    in_round("%s", place);
    check_token(client, "parent");
    connections = counter("connections");
    start_and_arrive(&running, client, "fault.delay.1500.parent");
    for (size_t i = 0; i < COUNT_OF(ACTIONS); i++)
        children[i] = start_child(ACTIONS[i], &running);
    check_children(children, COUNT_OF(ACTIONS));
    CHECK(!atomic_load(&running.is_over)); /* it was in flight all the time */
    finish_with(&running, SPIKE_AUTH_STATUS_OK);
    check_token(client, "parent");
    /* Those of the children: three actions make one each, one makes two. None is the parent's. */
    CHECK_EQ_INT(counter("connections") - connections, 5);
    spike_auth_client_free(client);
}

static void what_a_child_stops_or_frees_continues_in_the_parent(void)
{
    check_child_cannot_reach_the_parents_call("http");
    check_child_cannot_reach_the_parents_call("https");
}

static void exchange_by_the_shared_handle(void *argument)
{
    struct running *running = argument;
    struct result result = exchange_by(running->client, "fault.delay.300.child", running->call);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
    check_token_in_child(running->client, "child");
}

static void what_the_parent_stops_continues_in_a_child(void)
{
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        static struct running running;
        pid_t child;
        in_round("%s", SCHEMES[i]);
        start_and_arrive(&running, sandbox_client(SCHEMES[i]), "fault.stall.parent");
        child = start_child(exchange_by_the_shared_handle, &running);
        sleep_ms(100);
        spike_auth_call_cancel(running.call);
        finish_with(&running, SPIKE_AUTH_STATUS_CANCELLED);
        spike_auth_client_close(running.client);
        spike_auth_client_free(running.client);
        check_children(&child, 1);
    }
}

/* ---- threads of the parent in every state -------------------------------------------------------------- */

enum { PARENT_MS = 1500, STUCK_MS = 10000 };

/* Where a call of the parent is at the fork. */
static const struct state {
    const char *name;
    const char *place;
    const char *user;
    uint32_t max_concurrency; /* 0: the default */
    int ends;                 /* with success; otherwise only a cancel ends it */
    int childs_ends;          /* likewise for a child's call by the same client */
    int behind_slow_name;
} STATES[] = {
    {"connect", "full", "connect", 0, 0, 0, 0},
    {"handshake", "silent_tls", "handshake", 0, 0, 0, 0},
    {"body", "http", "fault.stall-mid-body", 0, 0, 1, 0},
    {"back-off", "http", "fault.status.503.and.retry-after.1.x1", 0, 1, 1, 0},
    {"a permit, HTTP", "http", "fault.delay.1500", 1, 1, 1, 0},
    {"a permit, HTTPS", "https", "fault.delay.1500", 1, 1, 1, 0},
    {"reply", "https", "fault.delay.1500", 0, 1, 1, 0},
    {"name lookup", "https", "lookup", 0, 1, 1, 1},
};

enum { STATE_COUNT = COUNT_OF(STATES) };

static struct running in_state[STATE_COUNT];
static struct running waiting_for_a_permit[STATE_COUNT];
/* A child stays until its parent has closed the other end; until then its inherited descriptors stay open. */
static int gate[2];

static spike_auth_client *client_in(const struct state *state)
{
    /* A proxy may be on any host; plain HTTP may not. */
    spike_auth_config *config =
        state->behind_slow_name ? config_through_proxy_at(SLOW_NAME) : sandbox_config(state->place);
    REQUIRE(spike_auth_config_set_max_concurrency(config, state->max_concurrency, NULL) == 0);
    REQUIRE(spike_auth_config_set_max_attempts(config, 2, NULL) == 0); /* so that there is a back-off */
    REQUIRE(spike_auth_config_set_timeout_ms(config, STUCK_MS, NULL) == 0);
    REQUIRE(spike_auth_config_set_connect_timeout_ms(config, STUCK_MS, NULL) == 0);
    return client_of(config);
}

static void use_the_client_of_a_state(const struct state *state, spike_auth_client *client)
{
    if (state->childs_ends) {
        char user[64];
        snprintf(user, sizeof user, "child-of-%d", (int)(state - STATES));
        check_token_in_child(client, user);
    } else {
        static struct running own;
        start_exchange(&own, client, "child");
        sleep_ms(20);
        spike_auth_call_cancel(own.call);
        finish_with(&own, SPIKE_AUTH_STATUS_CANCELLED);
    }
}

static void use_every_client_at_once_and_stay(void *argument)
{
    double began = now_ms();
    char byte;
    (void)argument;
    close(gate[1]);
    for (size_t i = 0; i < STATE_COUNT; i++) {
        in_round("child, parent waits for: %s", STATES[i].name);
        use_the_client_of_a_state(&STATES[i], in_state[i].client);
    }
    check_that(now_ms() - began < STUCK_MS / 2, __FILE__, __LINE__, "took %.0f ms", now_ms() - began);
    for (size_t i = 0; i < STATE_COUNT; i++)
        spike_auth_client_free(in_state[i].client);
    CHECK_EQ_INT(read(gate[0], &byte, 1), 0);
}

static void start_all_states(void)
{
    atomic_store(&lookup_ms, PARENT_MS);
    for (size_t i = 0; i < STATE_COUNT; i++)
        start_exchange(&in_state[i], client_in(&STATES[i]), STATES[i].user);
    sleep_ms(150);
    for (size_t i = 0; i < STATE_COUNT; i++)
        if (STATES[i].max_concurrency == 1)
            start_exchange(&waiting_for_a_permit[i], in_state[i].client, "waiting");
    sleep_ms(150);
}

static void finish_in_time(struct running *running)
{
    finish_with(running, SPIKE_AUTH_STATUS_OK);
    check_that(running->result.took_ms < STUCK_MS / 2, __FILE__, __LINE__, "a child delayed it for %.0f ms",
               running->result.took_ms);
}

static void finish_all_states(void)
{
    for (size_t i = 0; i < STATE_COUNT; i++) {
        in_round("parent waited for: %s", STATES[i].name);
        if (STATES[i].ends) {
            if (STATES[i].max_concurrency == 1)
                finish_in_time(&waiting_for_a_permit[i]);
            finish_in_time(&in_state[i]);
        } else {
            CHECK(!atomic_load(&in_state[i].is_over));
            spike_auth_call_cancel(in_state[i].call);
            finish_with(&in_state[i], SPIKE_AUTH_STATUS_CANCELLED);
        }
    }
}

static void a_fork_disturbs_no_call_in_any_state_and_the_child_works_at_once(void)
{
    enum { FORKS = 4 };
    pid_t children[FORKS];
    REQUIRE(pipe2(gate, O_CLOEXEC) == 0);
    start_all_states();
    for (int i = 0; i < FORKS; i++)
        children[i] = start_child(use_every_client_at_once_and_stay, NULL);
    finish_all_states();
    close(gate[0]);
    close(gate[1]);
    in_round("children");
    check_children(children, FORKS);
    for (size_t i = 0; i < STATE_COUNT; i++)
        spike_auth_client_free(in_state[i].client);
    atomic_store(&lookup_ms, 0);
}

/* ---- forks of forks ------------------------------------------------------------------------------------ */

enum { DEEPEST = 4 };

struct ancestor {
    spike_auth_client *client;
    int depth;
    int number; /* unique: twice the parent's, or one more */
};

static void exchange_and_fork(void *argument)
{
    const struct ancestor *ancestor = argument;
    pid_t children[2];
    char user[64];
    snprintf(user, sizeof user, "fault.delay.5.process-%d", ancestor->number);
    check_token_in_child(ancestor->client, user);
    if (ancestor->depth < DEEPEST) {
        for (int i = 0; i < 2; i++) {
            struct ancestor child = {ancestor->client, ancestor->depth + 1, 2 * ancestor->number + i};
            children[i] = start_child(exchange_and_fork, &child);
        }
        check_token_in_child(ancestor->client, user);
        check_children(children, 2);
    }
    check_token_in_child(ancestor->client, user);
    spike_auth_client_free(ancestor->client);
}

static void children_of_children_work(void)
{
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        struct ancestor first = {sandbox_client(SCHEMES[i]), 1, 1};
        long connections = counter("connections");
        in_round("%s", SCHEMES[i]);
        check_token(first.client, "parent");
        check_child(exchange_and_fork, &first);
        check_token(first.client, "parent");
        CHECK_EQ_INT(counter("connections") - connections, 1 << DEEPEST); /* one of each process */
        spike_auth_client_free(first.client);
    }
}

/* ---- a fork inside a call ----------------------------------------------------------------------------- */

static volatile sig_atomic_t forked = -1;

static void fork_here(int number)
{
    (void)number;
    forked = fork_child();
    if (forked != 0)
        return;
    atomic_store(&check_failed, 0);
    alarm(CHILD_SECONDS);
}

static void *interrupt_the_call(void *argument)
{
    wait_until_in_flight(1);
    pthread_kill(*(const pthread_t *)argument, SIGUSR1);
    return NULL;
}

/* Otherwise both would read one reply. The child's call is cancelled, and its client works. */
static void a_child_that_a_signal_handler_forked_leaves_the_call_to_its_parent(void)
{
    struct sigaction action = {.sa_handler = fork_here}, before;
    pthread_t self = pthread_self(), other;
    REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        spike_auth_client *client = sandbox_client(SCHEMES[i]);
        struct result result;
        pid_t child;
        in_round("%s", SCHEMES[i]);
        check_token(client, "parent");
        REQUIRE(pthread_create(&other, NULL, interrupt_the_call, &self) == 0);
        result = exchange(client, "fault.delay.500.forking");
        if (forked == 0) {
            CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_CANCELLED);
            check_token_in_child(client, "child");
            _exit(atomic_load(&check_failed) ? CHILD_FAILED : CHILD_GOOD);
        }
        pthread_join(other, NULL);
        check_own(&result, "fault.delay.500.forking");
        child = forked;
        check_children(&child, 1);
        spike_auth_client_free(client);
    }
    REQUIRE(sigaction(SIGUSR1, &before, NULL) == 0);
}

/* ---- the first client --------------------------------------------------------------------------------- */

static void make_a_client_and_use_it(void *argument)
{
    const char *place = argument;
    spike_auth_client *client = sandbox_client(place);
    struct job job = {client, 0};
    check_token_in_child(client, "child");
    check_child(exchange_up_to_three_times, &job);
    spike_auth_client_free(client);
}

/* Runs first, before this process has made a client. */
static void the_first_client_may_be_made_in_a_child(void)
{
    check_child(make_a_client_and_use_it, (void *)(uintptr_t) "http");
    check_child(make_a_client_and_use_it, (void *)(uintptr_t) "https");
}

/* ---- exec -------------------------------------------------------------------------------------------- */

/* Executes this program again, which then counts its descriptors. */
static void exec_and_count(void *argument)
{
    char expected[32];
    snprintf(expected, sizeof expected, "expect_fds=%d", *(const int *)argument);
    execl("/proc/self/exe", "fork", expected, (char *)NULL);
    _exit(CHILD_FAILED);
}

static void no_descriptor_survives_exec(void)
{
    enum { EXECS = 40 };
    int before = count_fds();
    spike_auth_client *clients[2] = {sandbox_client("http"), sandbox_client("https")};
    static struct load load[2][LOAD_THREADS];
    start_load(load[0], clients[0], exchange_for_another, "");
    start_load(load[1], clients[1], exchange_for_another, "fault.http10.");
    CHECK(count_fds() > before); /* there are descriptors to inherit */
    for (int i = 0; i < EXECS; i++)
        check_child(exec_and_count, &before);
    for (int i = 0; i < 2; i++) {
        stop_load(load[i]);
        spike_auth_client_free(clients[i]);
    }
    CHECK_EQ_INT(count_fds(), before);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    if (argument("expect_fds"))
        return count_fds() == atoi(argument("expect_fds")) ? CHILD_GOOD : CHILD_FAILED;
    begin_children();
    REQUIRE(pthread_atfork(NULL, NULL, find_names_at_once) == 0);
    RUN(the_first_client_may_be_made_in_a_child);
    RUN(pairs_of_children_do_not_share_the_pooled_connection);
    RUN(children_forked_under_load_each_get_their_own_token);
    RUN(children_forked_while_threads_connect_each_get_their_own_token);
    RUN(what_a_child_stops_or_frees_continues_in_the_parent);
    RUN(what_the_parent_stops_continues_in_a_child);
    RUN(a_fork_disturbs_no_call_in_any_state_and_the_child_works_at_once);
    RUN(children_of_children_work);
    RUN(a_child_that_a_signal_handler_forked_leaves_the_call_to_its_parent);
    RUN(no_descriptor_survives_exec);
    return check_summary();
}
