/* What the C programs share: the protocol with run.py, and clocks.
 *
 * run.py writes lines "NAME COUNT". A program does COUNT operations of the kind NAME and answers with one line
 * "CPU WALL", both in nanoseconds for all of them. So run.py decides what runs when, and all rows of a table take
 * turns within one run. A program that fails says why on stderr and exits.
 */

#ifndef STEP_H
#define STEP_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static inline int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* CPU time of this thread, to the nanosecond. */
static inline int64_t thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* User and system time of the whole process. */
static inline int64_t cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
           ((int64_t)usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static inline void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Answers lines until stdin ends. `run` returns 0 for an unknown name. */
static inline void answer_steps(int (*run)(const char *name, long count, int64_t *cpu, int64_t *wall))
{
    char name[64];
    long count;
    while (scanf("%63s %ld", name, &count) == 2) {
        int64_t cpu = 0, wall = 0;
        if (!run(name, count, &cpu, &wall))
            die(name, "no such operation");
        printf("%lld %lld\n", (long long)cpu, (long long)wall);
        fflush(stdout);
    }
}

#endif
