/* Threads that do the same work at once, timed from when all have warmed up. */

#ifndef CROWD_H
#define CROWD_H

#include "step.h"

#include <pthread.h>

#define THREADS_MAX 8

static struct {
    void (*warm_up)(int thread);
    void (*work)(int thread, long count);
    long each;
    pthread_barrier_t barrier;
} crowd;

static void *member(void *number)
{
    int thread = (int)(intptr_t)number;
    crowd.warm_up(thread);
    pthread_barrier_wait(&crowd.barrier); /* all are warm */
    pthread_barrier_wait(&crowd.barrier); /* the clocks are read */
    crowd.work(thread, crowd.each);
    pthread_barrier_wait(&crowd.barrier); /* all are done */
    return NULL;
}

/* `count` operations of all threads together. Returns 0 for an invalid number of threads. */
static int run_crowd(int threads, long count, void (*warm_up)(int thread), void (*work)(int thread, long count),
                     int64_t *cpu, int64_t *wall)
{
    pthread_t ids[THREADS_MAX];
    if (threads < 1 || threads > THREADS_MAX)
        return 0;
    crowd.warm_up = warm_up;
    crowd.work = work;
    crowd.each = count / threads;
    pthread_barrier_init(&crowd.barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, member, (void *)(intptr_t)i) != 0)
            die("pthread_create", "failed");
    pthread_barrier_wait(&crowd.barrier);
    int64_t cpu_before = cpu_ns(), wall_before = wall_ns();
    pthread_barrier_wait(&crowd.barrier);
    pthread_barrier_wait(&crowd.barrier);
    *wall = wall_ns() - wall_before;
    *cpu = cpu_ns() - cpu_before;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    pthread_barrier_destroy(&crowd.barrier);
    return 1;
}

#endif
