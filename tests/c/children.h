/* Children of fork(2). The exit code says what happened, and an alarm ends a child that hangs. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <errno.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "sandbox.h"

enum { CHILD_SECONDS = 15, PROGRAM_SECONDS = 90 };

/* The exit codes of a child. */
enum { CHILD_GOOD = 0, CHILD_FAILED = 1, CHILD_GOT_ANOTHERS = 2, CHILD_HUNG = 3 };

struct outcomes {
    int good;
    int failed;
    int got_anothers;
    int hung;
};

/* fork(2). With nested=1 the child begins a PID namespace, and its id is 1 as its parent's. */
static inline pid_t fork_child(void)
{
    pid_t child;
    int own;
    if (!argument("nested"))
        return fork();
    REQUIRE((own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC)) >= 0);
    REQUIRE(unshare(CLONE_NEWPID) == 0);
    child = fork();
    REQUIRE(child != 0 || getpid() == 1);
    REQUIRE(child <= 0 || setns(own, CLONE_NEWPID) == 0);
    close(own);
    return child;
}

static inline void on_alarm(int number)
{
    (void)number;
    _exit(CHILD_HUNG);
}

static inline void end_after(unsigned seconds)
{
    set_signal(SIGALRM, on_alarm); /* by default the first process of a namespace ignores it */
    alarm(seconds);
}

static inline pid_t start_child(void (*body)(void *), void *argument)
{
    pid_t child;
    set_signal(SIGCHLD, SIG_DFL); /* if it is ignored, waitpid(2) finds no child */
    child = fork_child();
    REQUIRE(child >= 0);
    if (child > 0)
        return child;
    end_after(CHILD_SECONDS);
    atomic_store(&check_failed, 0);
    body(argument);
    /* Without exit handlers, as a server's worker exits. */
    _exit(atomic_load(&check_failed) ? CHILD_FAILED : CHILD_GOOD);
}

static inline void wait_for(pid_t child, struct outcomes *outcomes)
{
    int status = 0;
    pid_t waited;
    while ((waited = waitpid(child, &status, 0)) < 0 && errno == EINTR)
        ;
    REQUIRE(waited == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_HUNG)
        outcomes->hung++;
    else if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_GOOD)
        outcomes->good++;
    else if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_GOT_ANOTHERS)
        outcomes->got_anothers++;
    else
        outcomes->failed++;
}

static inline void check_outcomes(const struct outcomes *outcomes, int children)
{
    CHECK_EQ_INT(outcomes->hung, 0);
    CHECK_EQ_INT(outcomes->got_anothers, 0);
    CHECK_EQ_INT(outcomes->failed, 0);
    CHECK_EQ_INT(outcomes->good, children);
}

static inline void check_children(const pid_t *children, int count)
{
    struct outcomes outcomes = {0};
    for (int i = 0; i < count; i++)
        wait_for(children[i], &outcomes);
    check_outcomes(&outcomes, count);
}

static inline void check_child(void (*body)(void *), void *argument)
{
    pid_t child = start_child(body, argument);
    check_children(&child, 1);
}

/* A program with children calls this first. With nested=1 the program continues in a child. */
static inline void begin_children(void)
{
    pid_t child;
    int status = 0;
    set_signal(SIGCHLD, SIG_DFL);
    if (argument("nested") && (child = fork_child()) > 0) {
        REQUIRE(waitpid(child, &status, 0) == child);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : CHILD_FAILED);
    }
    end_after(PROGRAM_SECONDS);
}

/* A token of another user ends the child with an exit code of its own. */
static inline void check_own_in_child(const struct result *result, const char *user)
{
    if (result->status == SPIKE_AUTH_STATUS_OK && !token_is_for(result->token, user))
        _exit(CHILD_GOT_ANOTHERS);
    check_own(result, user);
}

/* ---- many children ------------------------------------------------------------------------------------ */

struct job {
    spike_auth_client *client;
    int number;
};

/* Each child gets a job with a number of its own. */
static inline void fork_in_groups(void (*body)(void *), spike_auth_client *client, int children)
{
    enum { GROUP = 10 };
    for (int done = 0; done < children; done += GROUP) {
        pid_t group[GROUP];
        for (int i = 0; i < GROUP; i++) {
            struct job job = {client, done + i};
            group[i] = start_child(body, &job);
        }
        check_children(group, GROUP);
    }
}

/* ---- threads that work while the program forks --------------------------------------------------------- */

enum { LOAD_THREADS = 4 };

struct load {
    const spike_auth_client *client;
    void (*step)(struct load *load, long i);
    const char *prefix; /* of the users; it may ask for a fault */
    int number;
    atomic_int stop;
    atomic_long steps;
    pthread_t thread;
};

static inline void *step_until_stopped(void *argument)
{
    struct load *load = argument;
    for (long i = 0; !atomic_load(&load->stop); i++) {
        load->step(load, i);
        atomic_fetch_add(&load->steps, 1);
    }
    return NULL;
}

/* Returns when each thread has done a step. */
static inline void start_load(struct load *load, const spike_auth_client *client,
                              void (*step)(struct load *load, long i), const char *prefix)
{
    for (int i = 0; i < LOAD_THREADS; i++) {
        load[i].client = client;
        load[i].step = step;
        load[i].prefix = prefix;
        load[i].number = i;
        atomic_store(&load[i].stop, 0);
        atomic_store(&load[i].steps, 0);
        REQUIRE(pthread_create(&load[i].thread, NULL, step_until_stopped, &load[i]) == 0);
    }
    for (int i = 0; i < LOAD_THREADS; i++)
        while (atomic_load(&load[i].steps) == 0)
            sleep_ms(1);
}

static inline void stop_load(struct load *load)
{
    for (int i = 0; i < LOAD_THREADS; i++)
        atomic_store(&load[i].stop, 1);
    for (int i = 0; i < LOAD_THREADS; i++)
        pthread_join(load[i].thread, NULL);
}

/* ---- names --------------------------------------------------------------------------------------------- */

/* An https client through the sandbox's proxy, which is found by this name. */
static inline spike_auth_config *config_through_proxy_at(const char *host)
{
    spike_auth_config *config = sandbox_config("https");
    char proxy[64];
    unsigned port;
    REQUIRE(sscanf(address("proxy"), "http://127.0.0.1:%u", &port) == 1);
    snprintf(proxy, sizeof proxy, "http://%s:%u", host, port);
    REQUIRE(spike_auth_config_set_proxy(config, proxy, NUL_TERMINATED, NULL) == 0);
    return config;
}

#endif
