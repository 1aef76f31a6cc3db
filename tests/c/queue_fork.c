/* Started calls and fork(2), in a thread and in a signal handler; the threads of the library; and the end of
 * the process. Queues and started calls of a parent are inert in a child. Against the sandbox.
 *
 * usage: queue_fork NAME=ADDRESS... [library=PATH] [nested=1]
 */
#define _GNU_SOURCE
#include "children.h"
#include "queue.h"

#include <dirent.h>
#include <dlfcn.h>

enum { CHILDREN = 200, FEW = 10 };

/* ---- what a child may do --------------------------------------------------------------------------------- */

/* Starts calls with a queue of the child's own. */
static void use_a_queue_of_its_own(spike_auth_client *client, int number, int calls)
{
    spike_auth_queue *queue = new_queue();
    spike_auth_call *started[32];
    uint64_t tags[32];
    REQUIRE(calls <= (int)COUNT_OF(started));
    for (int i = 0; i < calls; i++) {
        char user[64];
        snprintf(user, sizeof user, "child-%d-%d", number, i / 2);
        start_token(client, user, started[i] = new_call(), queue, (uint64_t)i);
    }
    take_all(queue, tags, (size_t)calls);
    for (int i = 0; i < calls; i++) {
        char user[64];
        struct result result = result_of(started[i]);
        snprintf(user, sizeof user, "child-%d-%d", number, i / 2);
        check_own_in_child(&result, user);
        spike_auth_call_free(started[i]);
    }
    CHECK_EQ_INT(stats_of(client).pending, 0);
    spike_auth_queue_free(queue);
}

/* ---- inert things ---------------------------------------------------------------------------------------- */

struct parents {
    spike_auth_client *client;
    spike_auth_queue *queue;
    spike_auth_call *ended, *taken, *pending, *follows, *unused;
};

static void what_the_parent_started_is_inert(void *argument)
{
    struct parents *parents = argument;
    spike_auth_call *all[] = {parents->ended, parents->taken, parents->pending, parents->follows};
    spike_auth_call *fresh = new_call();
    spike_auth_queue *own;
    uint64_t tag;
    CHECK_EQ_INT(spike_auth_queue_fd(parents->queue), -1);
    CHECK_EQ_INT(take(parents->queue, &tag, 1), 0);
    CHECK_EQ_INT(stats_of(parents->client).pending, 0);
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        in_round("call %zu", i);
        CHECK_STATUS(result_of(all[i]).status, SPIKE_AUTH_STATUS_CANCELLED);
    }
    in_round("never started");
    CHECK_STATUS(status_of(parents->unused), SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
    FOR_EACH_STARTER(starter) {
        in_round("%s", starter->name);
        EXPECT(INVALID_ARGUMENT, starter->start(parents->client, "alice", 5, fresh, parents->queue, 1, err));
        EXPECT(INVALID_ARGUMENT, starter->start(parents->client, "alice", 5, parents->ended, parents->queue, 1, err));
    }
    in_round("its handles with a queue of its own");
    own = new_queue();
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        struct result result;
        start_token(parents->client, "bob", all[i], own, i);
        take_one(own, i);
        result = result_of(all[i]);
        check_own_in_child(&result, "bob");
    }
    in_round("cancelled and freed");
    spike_auth_call_cancel(parents->pending);
    CHECK_STATUS(spike_auth_client_start_token(parents->client, "bob", 3, parents->pending, own, 1, NULL),
                 SPIKE_AUTH_STATUS_CANCELLED);
    use_a_queue_of_its_own(parents->client, 0, 20);
    for (size_t i = 0; i < COUNT_OF(all); i++)
        spike_auth_call_free(all[i]);
    spike_auth_call_free(fresh);
    spike_auth_queue_free(own);
    spike_auth_queue_free(parents->queue);
    spike_auth_client_free(parents->client);
    CHECK_EQ_INT(count_threads(), 1);
}

static void free_all_at_once(void *argument)
{
    struct parents *parents = argument;
    spike_auth_client_close(parents->client);
    spike_auth_client_free(parents->client);
    spike_auth_queue_free(parents->queue);
    spike_auth_call_cancel(parents->follows);
    spike_auth_call_free(parents->follows);
    spike_auth_call_free(parents->pending);
    spike_auth_call_free(parents->ended);
    spike_auth_call_free(parents->taken);
    spike_auth_call_free(parents->unused);
}

static void a_child_cannot_reach_what_its_parent_started(void)
{
    const char *slow = "fault.delay.1500.parent";
    struct parents parents = {sandbox_client("http"), new_queue(), new_call(), new_call(), new_call(), new_call(),
                              new_call()};
    uint64_t tags[3];
    struct result result;
    REQUIRE(exchange(parents.client, "alice").status == 0);
    start_token(parents.client, "taken", parents.taken, parents.queue, 1);
    take_one(parents.queue, 1);
    start_token(parents.client, "taken", parents.ended, parents.queue, 2);
    start_token(parents.client, slow, parents.pending, parents.queue, 3);
    start_token(parents.client, slow, parents.follows, parents.queue, 4);
    while (requests_for(slow) != 1)
        sleep_ms(1);
    for (int i = 0; i < FEW; i++) {
        check_child(what_the_parent_started_is_inert, &parents);
        check_child(free_all_at_once, &parents);
    }
    CHECK_EQ_INT(stats_of(parents.client).pending, 2);
    take_all(parents.queue, tags, 3);
    CHECK_EQ_INT(tags[0], 2);
    result = result_of(parents.pending);
    check_own(&result, slow);
    result = result_of(parents.follows);
    check_own(&result, slow);
    CHECK_EQ_INT(requests_for(slow), 1);
    free_all_at_once(&parents);
}

/* ---- under load ------------------------------------------------------------------------------------------ */

/* A thread's step: starts calls and takes them. Some are cancelled or freed. */
static void start_and_take_some(struct load *load, long step)
{
    enum { CALLS = 40 };
    spike_auth_queue *queue = new_queue();
    spike_auth_call *calls[CALLS];
    size_t left = 0;
    for (int i = 0; i < CALLS; i++) {
        char user[64];
        snprintf(user, sizeof user, "%s-%d-%ld-%d", load->prefix, load->number, step % 20, i % 8);
        calls[i] = new_call();
        if (spike_auth_client_start_token(load->client, user, NUL_TERMINATED, calls[i], queue, (uint64_t)i, NULL) == 0)
            left++;
        if (i % 5 == 1)
            spike_auth_call_cancel(calls[i]);
        if (i % 8 == 7)
            (void)!spike_auth_client_forget(load->client, user, NUL_TERMINATED, NULL);
    }
    while (left > 0 && is_readable(queue, 20000)) {
        uint64_t tags[16];
        left -= take(queue, tags, COUNT_OF(tags));
    }
    CHECK_EQ_INT(left, 0);
    for (int i = 0; i < CALLS; i++)
        spike_auth_call_free(calls[i]);
    spike_auth_queue_free(queue);
}

static void be_a_child_under_load(void *argument)
{
    const struct job *job = argument;
    use_a_queue_of_its_own(job->client, job->number, 16);
}

static void children_of_a_busy_parent_have_queues_of_their_own(void)
{
    struct load load[LOAD_THREADS];
    spike_auth_client *client = sandbox_client("http");
    start_load(load, client, start_and_take_some, "fault.delay.1.load");
    fork_in_groups(be_a_child_under_load, client, CHILDREN);
    stop_load(load);
    spike_auth_client_free(client);
}

/* ---- in a signal handler --------------------------------------------------------------------------------- */

static volatile sig_atomic_t forked;

/* The child returns from here into whatever its thread was doing. */
static void fork_in_handler(int number)
{
    (void)number;
    forked = fork_child();
    if (forked != 0)
        return;
    atomic_store(&check_failed, 0);
    alarm(CHILD_SECONDS);
}

/* The signal comes while the thread waits: fork(2) in the middle of malloc(3) hangs in the C library. */
static void *interrupt_once_it_follows(void *argument)
{
    const struct running *running = argument;
    while (stats_of(running->client).coalesced == 0)
        sleep_ms(1);
    sleep_ms(5);
    pthread_kill(running->thread, SIGUSR1);
    return NULL;
}

static void end_as_a_child_of_a_handler(spike_auth_client *client, spike_auth_call *const *calls, size_t count,
                                        spike_auth_queue *queue, int number)
{
    uint64_t tag;
    CHECK_EQ_INT(spike_auth_queue_fd(queue), -1);
    CHECK_EQ_INT(take(queue, &tag, 1), 0);
    for (size_t i = 0; i < count; i++)
        CHECK_STATUS(status_of(calls[i]), SPIKE_AUTH_STATUS_CANCELLED);
    use_a_queue_of_its_own(client, number, 8);
    for (size_t i = 0; i < count; i++)
        spike_auth_call_free(calls[i]);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
    _exit(atomic_load(&check_failed) ? CHILD_FAILED : CHILD_GOOD);
}

static void a_handler_may_fork_while_a_loop_waits_for_its_queue(void)
{
    enum { TIMES = 50, CALLS = 4 };
    struct load load[LOAD_THREADS];
    spike_auth_client *client = sandbox_client("http");
    sigset_t usr1, none;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigemptyset(&none);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    start_load(load, client, start_and_take_some, "fault.delay.1.load");
    for (int time = 0; time < TIMES; time++) {
        spike_auth_queue *queue = new_queue();
        struct pollfd fd = {.fd = spike_auth_queue_fd(queue), .events = POLLIN};
        spike_auth_call *calls[CALLS];
        uint64_t tags[CALLS];
        pid_t child;
        sigaction(SIGUSR1, &(struct sigaction){.sa_handler = fork_in_handler}, NULL);
        for (uint64_t i = 0; i < CALLS; i++) {
            char user[64];
            snprintf(user, sizeof user, "fault.delay.%d.handler-%d", 1 + time % 3 * 10, time * 2 + (int)i % 2);
            start_token(client, user, calls[i] = new_call(), queue, i);
        }
        raise(SIGUSR1); /* pending until the wait */
        CHECK(ppoll(&fd, 1, NULL, &none) < 0 && errno == EINTR);
        if (forked == 0)
            end_as_a_child_of_a_handler(client, calls, CALLS, queue, time);
        child = forked;
        take_all(queue, tags, CALLS);
        for (int i = 0; i < CALLS; i++) {
            char user[64];
            struct result result = result_of(calls[i]);
            snprintf(user, sizeof user, "fault.delay.%d.handler-%d", 1 + time % 3 * 10, time * 2 + i % 2);
            check_own(&result, user);
            spike_auth_call_free(calls[i]);
        }
        check_children(&child, 1);
        spike_auth_queue_free(queue);
    }
    stop_load(load);
    spike_auth_client_free(client);
    pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
}

/* A thread waits in the library for the flight of a call that was started. */
static void a_handler_may_fork_while_a_thread_follows_a_started_call(void)
{
    struct running running = {.make = spike_auth_client_get_token, .user = "fault.delay.300.followed"};
    spike_auth_queue *queue = new_queue();
    spike_auth_call *call = new_call();
    pthread_t other;
    pid_t child;
    set_signal(SIGUSR1, fork_in_handler);
    running.client = sandbox_client("http");
    running.thread = pthread_self();
    start_token(running.client, running.user, call, queue, 1);
    REQUIRE(pthread_create(&other, NULL, interrupt_once_it_follows, &running) == 0);
    running.result = get(running.client, running.user);
    if (forked == 0) {
        CHECK_STATUS(running.result.status, SPIKE_AUTH_STATUS_CANCELLED);
        end_as_a_child_of_a_handler(running.client, &call, 1, queue, 1);
    }
    child = forked;
    pthread_join(other, NULL);
    check_own(&running.result, running.user);
    take_one(queue, 1);
    running.result = result_of(call);
    check_own(&running.result, running.user);
    check_children(&child, 1);
    spike_auth_call_free(call);
    spike_auth_queue_free(queue);
    spike_auth_client_free(running.client);
}

/* ---- the library's threads ------------------------------------------------------------------------------- */

static void read_line(const char *task, const char *file, const char *name, char *line, int size)
{
    char path[300];
    FILE *opened;
    snprintf(path, sizeof path, "/proc/self/task/%s/%s", task, file);
    line[0] = 0;
    if ((opened = fopen(path, "re")) == NULL)
        return; /* it has ended */
    while (fgets(line, size, opened))
        if (strncmp(line, name, strlen(name)) == 0)
            break;
    fclose(opened);
}

/* Looks at all threads but this one; returns how many. */
static int check_threads(void)
{
    int count = 0;
    char self[64] = "";
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");
    REQUIRE(tasks != NULL && readlink("/proc/thread-self", self, sizeof self - 1) > 0); /* PID/task/ID */
    while ((entry = readdir(tasks))) {
        char line[256];
        unsigned long long blocked = 0;
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, strrchr(self, '/') + 1) == 0)
            continue;
        read_line(entry->d_name, "comm", "", line, sizeof line);
        if (line[0] == 0)
            continue;
        count++;
        CHECK_STR(line, "spike_auth\n");
        read_line(entry->d_name, "status", "SigBlk:", line, sizeof line);
        if (line[0] == 0)
            continue;
        REQUIRE(sscanf(line, "SigBlk: %llx", &blocked) == 1);
        /* All but SIGKILL and SIGSTOP, which cannot be blocked, and the two of the C library. */
        for (int number = 1; number <= 64; number++)
            CHECK((blocked >> (number - 1) & 1) || number == SIGKILL || number == SIGSTOP ||
                  (number >= 32 && number < SIGRTMIN));
    }
    closedir(tasks);
    return count;
}

/* Not memcmp(3): musl fills only a part of a set. */
static int same_signals(const sigset_t *one, const sigset_t *other)
{
    for (int number = 1; number <= SIGRTMAX; number++)
        if (sigismember(one, number) != sigismember(other, number))
            return 0;
    return 1;
}

static void threads_have_a_name_no_signals_and_a_short_life(void)
{
    enum { CALLS = 12, CONCURRENCY = 5, TIMES = 5 };
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client;
    spike_auth_queue *queue = new_queue();
    sigset_t before, after;
    double longest = 0;
    REQUIRE(spike_auth_config_set_max_concurrency(config, CONCURRENCY, NULL) == 0);
    client = client_of(config);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    for (int time = 0; time < TIMES; time++) {
        spike_auth_call *calls[CALLS];
        uint64_t tags[CALLS];
        double start;
        CHECK_EQ_INT(check_threads(), 0);
        for (uint64_t i = 0; i < CALLS; i++) {
            char user[64];
            snprintf(user, sizeof user, "fault.delay.60.life-%d-%d", time, (int)i);
            start_token(client, user, calls[i] = new_call(), queue, i);
        }
        sleep_ms(20);
        CHECK_EQ_INT(check_threads(), CONCURRENCY + 1);
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        CHECK(same_signals(&before, &after));
        take_all(queue, tags, CALLS);
        start = now_ms();
        CHECK(becomes_single_threaded(500));
        if (now_ms() - start > longest)
            longest = now_ms() - start;
        for (int i = 0; i < CALLS; i++)
            spike_auth_call_free(calls[i]);
    }
    printf("threads gone at most %.0f ms after the last call\n", longest);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
}

/* ---- the end of the process ------------------------------------------------------------------------------ */

/* Ends with calls in every state, by exit(3) or by returning. */
static void exit_at_some_moment(void *argument)
{
    const struct job *job = argument;
    spike_auth_client *client = job->number % 2 ? job->client : sandbox_client("http");
    spike_auth_queue *queue = new_queue();
    for (int i = 0; i < 30; i++) {
        char user[64];
        snprintf(user, sizeof user, "%s-%d-%d", i % 3 ? "exit" : "fault.delay.2.exit", job->number, i % 20);
        start_token(client, user, new_call(), queue, (uint64_t)i);
    }
    nanosleep(&(struct timespec){0, job->number % 50 * 100000}, NULL);
    if (job->number % 3 == 0)
        spike_auth_client_close(client);
    fclose(stdout); /* no line of the parent is written twice */
    exit(atomic_load(&check_failed) ? CHILD_FAILED : CHILD_GOOD);
}

static void a_process_may_exit_at_any_moment(void)
{
    spike_auth_client *client = sandbox_client("http");
    fflush(stdout);
    fork_in_groups(exit_at_some_moment, client, CHILDREN);
    spike_auth_client_free(client);
}

/* ---- loaded at run time ---------------------------------------------------------------------------------- */

#define LOAD(name)                                     \
    __typeof__(&name) load_##name;                     \
    do {                                               \
        void *symbol = dlsym(library, #name);          \
        REQUIRE(symbol != NULL);                       \
        memcpy(&load_##name, &symbol, sizeof symbol);  \
    } while (0)

/* The library stays in memory, because its threads may still run. */
static void a_library_may_be_closed_while_its_calls_run(void *unused)
{
    (void)unused;
    for (int i = 0; i < FEW; i++) {
        void *library = dlopen(argument("library"), RTLD_NOW | RTLD_LOCAL);
        spike_auth_config *config = sandbox_config("http");
        spike_auth_client *client = NULL;
        spike_auth_queue *queue = NULL;
        spike_auth_call *call = NULL;
        REQUIRE(library != NULL);
        LOAD(spike_auth_client_new);
        LOAD(spike_auth_queue_new);
        LOAD(spike_auth_call_new);
        LOAD(spike_auth_client_start_token);
        REQUIRE(load_spike_auth_client_new(config, &client, NULL) == 0);
        REQUIRE(load_spike_auth_queue_new(&queue, NULL) == 0 && load_spike_auth_call_new(&call, NULL) == 0);
        REQUIRE(load_spike_auth_client_start_token(client, "fault.delay.10.x", NUL_TERMINATED, call, queue, 1, NULL)
                == 0);
        REQUIRE(dlclose(library) == 0);
        sleep_ms(40);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    begin_children();
    RUN(threads_have_a_name_no_signals_and_a_short_life);
    RUN(a_child_cannot_reach_what_its_parent_started);
    RUN(children_of_a_busy_parent_have_queues_of_their_own);
    RUN(a_handler_may_fork_while_a_loop_waits_for_its_queue);
    RUN(a_handler_may_fork_while_a_thread_follows_a_started_call);
    RUN(a_process_may_exit_at_any_moment);
    if (argument("library"))
        check_child(a_library_may_be_closed_while_its_calls_run, NULL);
    return check_summary();
}
