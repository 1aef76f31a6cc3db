/* Children of fork(2) that check something: each says by its exit code how it went, and none hangs for ever. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "sandbox.h"

/* What hangs is ended by an alarm, so that it is a failed test and not a test without an end. */
enum { CHILD_SECONDS = 15, PROGRAM_SECONDS = 90 };

/* What a child says with its exit code. */
enum { CHILD_GOOD = 0, CHILD_FAILED = 1, CHILD_GOT_ANOTHERS = 2, CHILD_HUNG = 3 };

struct outcomes {
    int good;
    int failed;
    int got_anothers;
    int hung;
};

/* fork(2). With the argument nested=1 the child begins a PID namespace: its process id is that of its parent, 1. */
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
    set_signal(SIGCHLD, SIG_DFL); /* where it is ignored, waitpid(2) finds no child */
    child = fork_child();
    REQUIRE(child >= 0);
    if (child > 0)
        return child;
    end_after(CHILD_SECONDS);
    atomic_store(&check_failed, 0);
    body(argument);
    /* No exit handlers, as a worker does that belongs to a server. */
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

static inline void check_child(void (*body)(void *), void *argument)
{
    struct outcomes outcomes = {0};
    wait_for(start_child(body, argument), &outcomes);
    check_outcomes(&outcomes, 1);
}

/* To be called first by a program with children. With nested=1 the program goes on in a child. */
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

#endif
