/* What exchange.c and exchange_curl.c share: N threads that exchange, timed from when all of them are warm. */

#ifndef CROWD_H
#define CROWD_H

#include "step.h"

#include <pthread.h>

#define THREADS_MAX 8
#define WARM_UP 20 /* exchanges of each thread before the clock starts: connections stand then */
#define USER_SIZE 32

/* Exchanges for one user on thread number `thread`; does not return if it fails. */
static void exchange(int thread, const char *user);

static struct {
    int threads;
    long each;
    pthread_barrier_t barrier;
} crowd;

static void exchange_many(int thread, long count)
{
    char user[USER_SIZE];
    for (long i = 0; i < count; i++) {
        snprintf(user, sizeof user, "my_application_user_%03ld", i % 1000);
        exchange(thread, user);
    }
}

static void *member(void *number)
{
    int thread = (int)(intptr_t)number;
    exchange_many(thread, WARM_UP);
    pthread_barrier_wait(&crowd.barrier); /* all are warm */
    pthread_barrier_wait(&crowd.barrier); /* the clocks are read */
    exchange_many(thread, crowd.each);
    pthread_barrier_wait(&crowd.barrier); /* all are done */
    return NULL;
}

/* The NAME of a step is the number of threads, COUNT the exchanges of all of them together. */
static int run(const char *name, long count, int64_t *cpu, int64_t *wall)
{
    pthread_t ids[THREADS_MAX];
    crowd.threads = atoi(name);
    if (crowd.threads < 1 || crowd.threads > THREADS_MAX)
        return 0;
    crowd.each = count / crowd.threads;
    pthread_barrier_init(&crowd.barrier, NULL, (unsigned)crowd.threads + 1);
    for (int i = 0; i < crowd.threads; i++)
        if (pthread_create(&ids[i], NULL, member, (void *)(intptr_t)i) != 0)
            die("pthread_create", "failed");
    pthread_barrier_wait(&crowd.barrier);
    int64_t cpu_before = cpu_ns(), wall_before = wall_ns();
    pthread_barrier_wait(&crowd.barrier);
    pthread_barrier_wait(&crowd.barrier);
    *wall = wall_ns() - wall_before;
    *cpu = cpu_ns() - cpu_before;
    for (int i = 0; i < crowd.threads; i++)
        pthread_join(ids[i], NULL);
    pthread_barrier_destroy(&crowd.barrier);
    return 1;
}

#endif
