/* A client over fork(2): the parent and every child go on at once, whatever the parent's threads were
 * doing at the time, and none of them meets another's connection, call, or token.
 *
 * usage: fork NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "children.h"
#include "sandbox.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>

/* ---- a name server of our own ---------------------------------------------------------------------- */

#define SLOW_NAME "slow.example"

/* How long SLOW_NAME takes to be found. Nothing in a child, which then shows that it does not wait for
 * its parent's lookup. */
static atomic_long lookup_ms;

/* Takes the place of the C library's, for the library under test too. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&real, &symbol, sizeof real);
    if (node != NULL && strcmp(node, SLOW_NAME) == 0) {
        sleep_ms(atomic_load(&lookup_ms));
        node = "127.0.0.1";
    }
    return real(node, service, hints, found);
}

/* ---- children -------------------------------------------------------------------------------------- */

static void find_names_at_once(void)
{
    atomic_store(&lookup_ms, 0);
}

/* A wrong token ends the child with its own exit code, so that it is not counted as just a failure. */
static void check_token_in_child(const spike_auth_client *client, const char *user)
{
    struct result result = exchange(client, user);
    if (result.status == SPIKE_AUTH_STATUS_OK && !token_is_for(result.token, user))
        _exit(CHILD_GOT_ANOTHERS);
    check_that(result.status == SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__, "%s: %s", user, result.err.message);
}

static struct result exchange_by(const spike_auth_client *client, const char *user, const spike_auth_call *call)
{
    struct result result;
    double start = now_ms();
    memset(&result, 0xA5, sizeof result);
    result.status = spike_auth_client_exchange(client, user, NUL_TERMINATED, call, result.token, sizeof result.token,
                                               &result.len, &result.err);
    result.took_ms = now_ms() - start;
    check_result(&result);
    return result;
}

/* ---- under load ------------------------------------------------------------------------------------ */

enum { LOAD_THREADS = 4, CHILDREN = 600, GROUP = 10 };

struct load {
    const spike_auth_client *client;
    const char *prefix; /* of the users: may ask for a fault */
    int number;
    atomic_int stop;
    atomic_long calls;
    pthread_t thread;
};

static void *call_until_stopped(void *argument)
{
    struct load *load = argument;
    char user[64];
    for (long i = 0; !atomic_load(&load->stop); i++) {
        snprintf(user, sizeof user, "%sparent-%d-%ld", load->prefix, load->number, i);
        check_token(load->client, user);
        atomic_fetch_add(&load->calls, 1);
    }
    return NULL;
}

static void start_load(struct load *load, const spike_auth_client *client, const char *prefix)
{
    for (int i = 0; i < LOAD_THREADS; i++) {
        load[i].client = client;
        load[i].prefix = prefix;
        load[i].number = i;
        atomic_store(&load[i].stop, 0);
        atomic_store(&load[i].calls, 0);
        REQUIRE(pthread_create(&load[i].thread, NULL, call_until_stopped, &load[i]) == 0);
    }
    for (int i = 0; i < LOAD_THREADS; i++)
        while (atomic_load(&load[i].calls) == 0)
            sleep_ms(1);
}

static void stop_load(struct load *load)
{
    for (int i = 0; i < LOAD_THREADS; i++)
        atomic_store(&load[i].stop, 1);
    for (int i = 0; i < LOAD_THREADS; i++)
        pthread_join(load[i].thread, NULL);
}

struct job {
    spike_auth_client *client;
    int number;
};

static void exchange_up_to_three_times(void *argument)
{
    const struct job *job = argument;
    char user[64];
    for (int i = 0; i <= job->number % 3; i++) {
        snprintf(user, sizeof user, "child-%d-%d", job->number, i);
        check_token_in_child(job->client, user);
    }
}

static void fork_in_groups(spike_auth_client *client, int children, struct outcomes *outcomes)
{
    for (int done = 0; done < children; done += GROUP) {
        pid_t group[GROUP];
        for (int i = 0; i < GROUP; i++) {
            struct job job = {client, done + i};
            group[i] = start_child(exchange_up_to_three_times, &job);
        }
        for (int i = 0; i < GROUP; i++)
            wait_for(group[i], outcomes);
    }
}

/* Gives how many connections parent and children have made. */
static long check_children_under_load(const char *place, const char *prefix, int children)
{
    spike_auth_client *client = sandbox_client(place);
    static struct load load[LOAD_THREADS];
    struct outcomes outcomes = {0};
    long connections = counter("connections");
    in_round("%s %s", place, prefix);
    start_load(load, client, prefix);
    fork_in_groups(client, children, &outcomes);
    stop_load(load);
    check_outcomes(&outcomes, children);
    connections = counter("connections") - connections;
    spike_auth_client_free(client);
    return connections;
}

static void children_forked_under_load_each_get_their_own_token(void)
{
    static const char *const SCHEMES[] = {"http", "https"};
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        long made = check_children_under_load(SCHEMES[i], "", CHILDREN);
        /* One of each child's own. One more than that for the parent means that a child disturbed one. */
        check_that(made > CHILDREN && made <= CHILDREN + LOAD_THREADS, __FILE__, __LINE__,
                   "%d children and %d threads made %ld connections", CHILDREN, LOAD_THREADS, made);
    }
}

/* The threads are in other places then: making sockets, shaking hands, keeping session tickets. */
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
    /* Long enough for the requests of both children to be on their way before either is answered. */
    snprintf(user, sizeof user, "fault.delay.5.child-%d", job->number);
    check_token_in_child(job->client, user);
}

static void check_pairs(const char *place)
{
    spike_auth_client *client = sandbox_client(place);
    struct outcomes outcomes = {0};
    long connections = counter("connections");
    in_round("%s", place);
    check_token(client, "parent");
    for (int i = 0; i < PAIRS; i++) {
        struct job jobs[2] = {{client, 2 * i}, {client, 2 * i + 1}};
        pid_t first = start_child(exchange_slowly, &jobs[0]);
        pid_t second = start_child(exchange_slowly, &jobs[1]);
        wait_for(first, &outcomes);
        wait_for(second, &outcomes);
    }
    check_token(client, "parent");
    check_outcomes(&outcomes, 2 * PAIRS);
    CHECK_EQ_INT(counter("connections") - connections, 1 + 2 * PAIRS); /* the parent's is as it was */
    spike_auth_client_free(client);
}

static void pairs_of_children_do_not_share_the_pooled_connection(void)
{
    check_pairs("http");
    check_pairs("https");
}

/* ---- close, free and cancel on either side ----------------------------------------------------------- */

/* A call in a thread. */
struct flight {
    spike_auth_client *client;
    spike_auth_call *call;
    char user[64];
    struct result result;
    pthread_t thread;
    atomic_int over;
};

static void *fly(void *argument)
{
    struct flight *flight = argument;
    flight->result = exchange_by(flight->client, flight->user, flight->call);
    atomic_store(&flight->over, 1);
    return NULL;
}

static void start_flight(struct flight *flight, spike_auth_client *client, const char *user)
{
    flight->client = client;
    snprintf(flight->user, sizeof flight->user, "%s", user);
    atomic_store(&flight->over, 0);
    REQUIRE(spike_auth_call_new(&flight->call, NULL) == 0);
    REQUIRE(pthread_create(&flight->thread, NULL, fly, flight) == 0);
}

static void end_flight(struct flight *flight)
{
    pthread_join(flight->thread, NULL);
    spike_auth_call_free(flight->call);
}

static void check_flight_went_well(struct flight *flight)
{
    end_flight(flight);
    check_that(flight->result.status == SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__, "%s: %s", flight->user,
               flight->result.err.message);
    CHECK(token_is_for(flight->result.token, flight->user));
}

static void cancel_the_parents_call(void *argument)
{
    struct flight *flight = argument;
    spike_auth_call_cancel(flight->call);
    /* In this process the handle is cancelled, and the client is as good as ever. */
    CHECK_STATUS(exchange_by(flight->client, "child", flight->call).status, SPIKE_AUTH_STATUS_CANCELLED);
    check_token_in_child(flight->client, "child");
}

static void close_the_parents_client(void *argument)
{
    struct flight *flight = argument;
    spike_auth_client_close(flight->client);
    CHECK_STATUS(exchange(flight->client, "child").status, SPIKE_AUTH_STATUS_CLOSED);
}

static void close_the_parents_client_after_a_call(void *argument)
{
    struct flight *flight = argument;
    check_token_in_child(flight->client, "child");
    close_the_parents_client(argument);
}

static void free_what_the_parent_uses(void *argument)
{
    struct flight *flight = argument;
    spike_auth_client_free(flight->client);
    spike_auth_call_free(flight->call);
}

static void free_what_the_parent_uses_after_a_call(void *argument)
{
    struct flight *flight = argument;
    struct result result = exchange_by(flight->client, "child", flight->call);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
    free_what_the_parent_uses(argument);
}

/* A child stops its own call, in the ways in which it could reach its parent's by mistake. */
static void stop_a_call_of_its_own(void *argument)
{
    struct flight *parents = argument;
    static struct flight own;
    start_flight(&own, parents->client, "fault.stall.child");
    sleep_ms(50);
    spike_auth_call_cancel(own.call);
    end_flight(&own);
    CHECK_STATUS(own.result.status, SPIKE_AUTH_STATUS_CANCELLED);
    start_flight(&own, parents->client, "fault.stall.child");
    sleep_ms(50);
    spike_auth_client_close(own.client);
    end_flight(&own);
    CHECK_STATUS(own.result.status, SPIKE_AUTH_STATUS_CLOSED);
}

static void check_child_cannot_reach_the_parents_call(const char *place)
{
    static void (*const DEEDS[])(void *) = {
        cancel_the_parents_call,   close_the_parents_client,
        free_what_the_parent_uses, close_the_parents_client_after_a_call,
        stop_a_call_of_its_own,    free_what_the_parent_uses_after_a_call,
    };
    spike_auth_client *client = sandbox_client(place);
    static struct flight flight;
    struct outcomes outcomes = {0};
    pid_t children[COUNT_OF(DEEDS)];
    long connections;
    in_round("%s", place);
    check_token(client, "parent");
    connections = counter("connections");
    start_flight(&flight, client, "fault.delay.1500.parent");
    sleep_ms(50);
    for (size_t i = 0; i < COUNT_OF(DEEDS); i++)
        children[i] = start_child(DEEDS[i], &flight);
    for (size_t i = 0; i < COUNT_OF(DEEDS); i++)
        wait_for(children[i], &outcomes);
    CHECK(!atomic_load(&flight.over)); /* it was in flight all the time */
    check_flight_went_well(&flight);
    check_outcomes(&outcomes, COUNT_OF(DEEDS));
    check_token(client, "parent");
    /* Those of the children: three deeds make one each, one makes two. None is the parent's. */
    CHECK_EQ_INT(counter("connections") - connections, 5);
    spike_auth_client_free(client);
}

static void what_a_child_stops_or_frees_goes_on_in_the_parent(void)
{
    check_child_cannot_reach_the_parents_call("http");
    check_child_cannot_reach_the_parents_call("https");
}

static void exchange_by_the_shared_handle(void *argument)
{
    struct flight *flight = argument;
    struct result result = exchange_by(flight->client, "fault.delay.300.child", flight->call);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
    check_token_in_child(flight->client, "child");
}

static void what_the_parent_stops_goes_on_in_a_child(void)
{
    static const char *const SCHEMES[] = {"http", "https"};
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        static struct flight flight;
        struct outcomes outcomes = {0};
        pid_t child;
        in_round("%s", SCHEMES[i]);
        start_flight(&flight, sandbox_client(SCHEMES[i]), "fault.stall.parent");
        sleep_ms(30);
        child = start_child(exchange_by_the_shared_handle, &flight);
        sleep_ms(100);
        spike_auth_call_cancel(flight.call);
        end_flight(&flight);
        CHECK_STATUS(flight.result.status, SPIKE_AUTH_STATUS_CANCELLED);
        spike_auth_client_close(flight.client);
        spike_auth_client_free(flight.client);
        wait_for(child, &outcomes);
        check_outcomes(&outcomes, 1);
    }
}

static void check_closed(void *argument)
{
    const struct job *job = argument;
    CHECK_STATUS(exchange(job->client, "child").status, SPIKE_AUTH_STATUS_CLOSED);
    spike_auth_client_free(job->client);
}

static void a_child_of_a_closed_client_has_a_closed_client(void)
{
    static const int USED[] = {0, 1};
    for (size_t i = 0; i < COUNT_OF(USED); i++) {
        struct job job = {sandbox_client("http"), 0};
        if (USED[i])
            check_token(job.client, "parent");
        spike_auth_client_close(job.client);
        check_child(check_closed, &job);
        spike_auth_client_free(job.client);
    }
}

/* ---- threads of the parent in every state -------------------------------------------------------------- */

enum { PARENT_MS = 1500, STUCK_MS = 10000 };

/* Where a call of the parent is when the fork comes. */
static const struct state {
    const char *name;
    const char *place;
    const char *user;
    uint32_t max_concurrency; /* 0: the default */
    int ends;                 /* well; or it can only be cancelled */
    int childs_ends;          /* likewise a child's, by the same client */
    int behind_slow_name;
} STATES[] = {
    {"connect", "full", "connect", 0, 0, 0, 0},
    {"handshake", "silent_tls", "handshake", 0, 0, 0, 0},
    {"body", "http", "fault.stall-mid-body", 0, 0, 1, 0},
    {"back-off", "http", "fault.status.503.and.retry-after.1.x1", 0, 1, 1, 0},
    {"its turn, HTTP", "http", "fault.delay.1500", 1, 1, 1, 0},
    {"its turn, HTTPS", "https", "fault.delay.1500", 1, 1, 1, 0},
    {"reply", "https", "fault.delay.1500", 0, 1, 1, 0},
    {"name lookup", "https", "lookup", 0, 1, 1, 1},
};

enum { STATE_COUNT = COUNT_OF(STATES) };

static struct flight in_state[STATE_COUNT];
static struct flight waiting_for_turn[STATE_COUNT];
/* A child stays until its parent has closed the other end: what it inherited stays open too. */
static int gate[2];

static spike_auth_client *client_in(const struct state *state)
{
    spike_auth_config *config = sandbox_config(state->place);
    if (state->behind_slow_name) {
        /* A proxy may be on any host, where plain HTTP may not. */
        char proxy[64];
        const char *port = strrchr(address("proxy"), ':');
        REQUIRE(port != NULL);
        snprintf(proxy, sizeof proxy, "http://%s:%d", SLOW_NAME, atoi(port + 1));
        REQUIRE(spike_auth_config_set_proxy(config, proxy, NUL_TERMINATED, NULL) == 0);
    }
    REQUIRE(spike_auth_config_set_max_concurrency(config, state->max_concurrency, NULL) == 0);
    REQUIRE(spike_auth_config_set_max_attempts(config, 2, NULL) == 0); /* so that there is a back-off */
    REQUIRE(spike_auth_config_set_timeout_ms(config, STUCK_MS, NULL) == 0);
    REQUIRE(spike_auth_config_set_connect_timeout_ms(config, STUCK_MS, NULL) == 0);
    return client_of(config);
}

/* A call that must succeed, or one that can only be cancelled, which must work as well. */
static void use_the_client_of_a_state(const struct state *state, const spike_auth_client *client)
{
    if (state->childs_ends) {
        char user[64];
        snprintf(user, sizeof user, "child-of-%d", (int)(state - STATES));
        check_token_in_child(client, user);
    } else {
        static struct flight own;
        start_flight(&own, (spike_auth_client *)(uintptr_t)client, "child");
        sleep_ms(20);
        spike_auth_call_cancel(own.call);
        end_flight(&own);
        CHECK_STATUS(own.result.status, SPIKE_AUTH_STATUS_CANCELLED);
    }
}

static void use_every_client_at_once_and_stay(void *argument)
{
    double start = now_ms();
    char byte;
    (void)argument;
    close(gate[1]);
    for (size_t i = 0; i < STATE_COUNT; i++) {
        in_round("child, parent waits for: %s", STATES[i].name);
        use_the_client_of_a_state(&STATES[i], in_state[i].client);
    }
    check_that(now_ms() - start < STUCK_MS / 2, __FILE__, __LINE__, "took %.0f ms", now_ms() - start);
    for (size_t i = 0; i < STATE_COUNT; i++)
        spike_auth_client_free(in_state[i].client);
    CHECK_EQ_INT(read(gate[0], &byte, 1), 0);
}

static void start_all_states(void)
{
    atomic_store(&lookup_ms, PARENT_MS);
    for (size_t i = 0; i < STATE_COUNT; i++) {
        const struct state *state = &STATES[i];
        start_flight(&in_state[i], client_in(state), state->user);
    }
    sleep_ms(150);
    for (size_t i = 0; i < STATE_COUNT; i++)
        if (STATES[i].max_concurrency == 1)
            start_flight(&waiting_for_turn[i], in_state[i].client, "waiting");
    sleep_ms(150);
}

static void check_well_and_in_time(struct flight *flight)
{
    check_flight_went_well(flight);
    check_that(flight->result.took_ms < STUCK_MS / 2, __FILE__, __LINE__, "a child kept it for %.0f ms",
               flight->result.took_ms);
}

static void end_all_states(void)
{
    for (size_t i = 0; i < STATE_COUNT; i++) {
        in_round("parent waited for: %s", STATES[i].name);
        if (STATES[i].ends) {
            if (STATES[i].max_concurrency == 1)
                check_well_and_in_time(&waiting_for_turn[i]);
            check_well_and_in_time(&in_state[i]);
        } else {
            CHECK(!atomic_load(&in_state[i].over)); /* still where it was */
            spike_auth_call_cancel(in_state[i].call);
            end_flight(&in_state[i]);
            CHECK_STATUS(in_state[i].result.status, SPIKE_AUTH_STATUS_CANCELLED);
        }
    }
}

static void a_fork_disturbs_no_call_wherever_it_is_and_the_child_works_at_once(void)
{
    enum { FORKS = 4 };
    struct outcomes outcomes = {0};
    pid_t children[FORKS];
    REQUIRE(pipe2(gate, O_CLOEXEC) == 0);
    start_all_states();
    for (int i = 0; i < FORKS; i++)
        children[i] = start_child(use_every_client_at_once_and_stay, NULL);
    end_all_states();
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < FORKS; i++)
        wait_for(children[i], &outcomes);
    in_round("children");
    check_outcomes(&outcomes, FORKS);
    for (size_t i = 0; i < STATE_COUNT; i++)
        spike_auth_client_free(in_state[i].client);
    atomic_store(&lookup_ms, 0);
}

/* ---- forks of forks ------------------------------------------------------------------------------------ */

enum { DEEPEST = 4 };

struct ancestor {
    spike_auth_client *client;
    int depth;
    int number; /* each process its own: twice the parent's, or that and one */
};

static void exchange_and_fork_on(void *argument)
{
    const struct ancestor *ancestor = argument;
    struct outcomes outcomes = {0};
    pid_t children[2];
    char user[64];
    snprintf(user, sizeof user, "fault.delay.5.process-%d", ancestor->number);
    check_token_in_child(ancestor->client, user);
    if (ancestor->depth < DEEPEST) {
        for (int i = 0; i < 2; i++) {
            struct ancestor child = {ancestor->client, ancestor->depth + 1, 2 * ancestor->number + i};
            children[i] = start_child(exchange_and_fork_on, &child);
        }
        check_token_in_child(ancestor->client, user);
        for (int i = 0; i < 2; i++)
            wait_for(children[i], &outcomes);
        check_outcomes(&outcomes, 2);
    }
    check_token_in_child(ancestor->client, user);
    spike_auth_client_free(ancestor->client);
}

static void children_of_children_work_as_well(void)
{
    static const char *const SCHEMES[] = {"http", "https"};
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        struct ancestor first = {sandbox_client(SCHEMES[i]), 1, 1};
        long connections = counter("connections");
        in_round("%s", SCHEMES[i]);
        check_token(first.client, "parent");
        check_child(exchange_and_fork_on, &first);
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
    if (forked == 0)
        alarm(CHILD_SECONDS);
}

static void *interrupt_the_call(void *argument)
{
    while (counter("in_flight") == 0)
        sleep_ms(5);
    pthread_kill(*(const pthread_t *)argument, SIGUSR1);
    return NULL;
}

/* Both would wait for one reply, and read it in pieces. The parent goes on; the child is told, and works. */
static void a_child_that_a_signal_handler_forked_leaves_the_call_to_its_parent(void)
{
    static const char *const SCHEMES[] = {"http", "https"};
    struct sigaction action = {.sa_handler = fork_here}, before;
    pthread_t self = pthread_self(), other;
    REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        spike_auth_client *client = sandbox_client(SCHEMES[i]);
        struct outcomes outcomes = {0};
        struct result result;
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
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
        CHECK(token_is_for(result.token, "fault.delay.500.forking"));
        wait_for(forked, &outcomes);
        check_outcomes(&outcomes, 1);
        spike_auth_client_free(client);
    }
    REQUIRE(sigaction(SIGUSR1, &before, NULL) == 0);
}

/* ---- the first client, in the middle of forks ------------------------------------------------------------ */

static void make_a_client_and_use_it(void *argument)
{
    const char *place = argument;
    spike_auth_client *client = sandbox_client(place);
    struct job job = {client, 0};
    check_token_in_child(client, "child");
    check_child(exchange_up_to_three_times, &job);
    spike_auth_client_free(client);
}

/* Must come first: later there has been a client in this process already. */
static void the_first_client_may_be_made_in_a_child(void)
{
    check_child(make_a_client_and_use_it, (void *)(uintptr_t) "http");
    check_child(make_a_client_and_use_it, (void *)(uintptr_t) "https");
}

/* ---- exec -------------------------------------------------------------------------------------------- */

static int count_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Becomes this program anew, which then counts the descriptors that it was given. */
static void exec_and_count(void *argument)
{
    char expected[32];
    snprintf(expected, sizeof expected, "expect_fds=%d", *(const int *)argument);
    execl("/proc/self/exe", "fork", expected, (char *)NULL);
    _exit(CHILD_FAILED);
}

static void no_descriptor_goes_through_exec(void)
{
    enum { EXECS = 40 };
    int before = count_fds();
    struct outcomes outcomes = {0};
    spike_auth_client *clients[2] = {sandbox_client("http"), sandbox_client("https")};
    static struct load load[2][LOAD_THREADS];
    start_load(load[0], clients[0], "");
    start_load(load[1], clients[1], "fault.http10.");
    CHECK(count_fds() > before); /* there are some that could be inherited */
    for (int i = 0; i < EXECS; i++)
        wait_for(start_child(exec_and_count, &before), &outcomes);
    for (int i = 0; i < 2; i++) {
        stop_load(load[i]);
        spike_auth_client_free(clients[i]);
    }
    check_outcomes(&outcomes, EXECS);
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
    RUN(what_a_child_stops_or_frees_goes_on_in_the_parent);
    RUN(what_the_parent_stops_goes_on_in_a_child);
    RUN(a_child_of_a_closed_client_has_a_closed_client);
    RUN(a_fork_disturbs_no_call_wherever_it_is_and_the_child_works_at_once);
    RUN(children_of_children_work_as_well);
    RUN(a_child_that_a_signal_handler_forked_leaves_the_call_to_its_parent);
    RUN(no_descriptor_goes_through_exec);
    return check_summary();
}
