/* What exchange.c and exchange_curl.c share: the steps, the users, and the warm-up. */

#ifndef EXCHANGE_H
#define EXCHANGE_H

#include "crowd.h"

#include <string.h>

#define WARM_UP 20 /* exchanges of each thread before the clock starts, to open the connections */
#define USER_SIZE 32
#define IN_FLIGHT_MAX 1000

/* Exchanges for one user on thread number `thread`; does not return if it fails. */
static void exchange(int thread, const char *user);

/* Starts exchange number `number` in place `place`, without waiting for it. */
static void start(int place, long number);

/* Waits until exchanges that were started have ended. Returns how many, and their places. */
static int finish(int places[IN_FLIGHT_MAX]);

static void name_user(char user[USER_SIZE], long number)
{
    snprintf(user, USER_SIZE, "my_application_user_%03ld", number % 1000);
}

static void exchange_many(int thread, long count)
{
    char user[USER_SIZE];
    for (long i = 0; i < count; i++) {
        name_user(user, i);
        exchange(thread, user);
    }
}

/* All by this thread. Whenever one ends, the next is started in its place. */
static void exchange_in_flight(int in_flight, long count)
{
    int places[IN_FLIGHT_MAX];
    long started = 0, ended = 0;
    while (started < in_flight && started < count) {
        start((int)started, started);
        started++;
    }
    while (ended < count) {
        int finished = finish(places);
        for (int i = 0; i < finished && started < count; i++)
            start(places[i], started++);
        ended += finished;
    }
}

static void warm_up(int thread)
{
    exchange_many(thread, WARM_UP);
}

static int run_in_flight(int in_flight, long count, int64_t *cpu, int64_t *wall)
{
    if (in_flight < 1 || in_flight > IN_FLIGHT_MAX)
        return 0;
    exchange_in_flight(in_flight, WARM_UP + in_flight);
    int64_t cpu_before = cpu_ns(), wall_before = wall_ns();
    exchange_in_flight(in_flight, count);
    *wall = wall_ns() - wall_before;
    *cpu = cpu_ns() - cpu_before;
    return 1;
}

/* The NAME of a step is the number of threads, or "in_flight:N" for one thread with N exchanges in flight. COUNT is
 * the exchanges of all of them together. */
static int run(const char *name, long count, int64_t *cpu, int64_t *wall)
{
    int in_flight;
    if (sscanf(name, "in_flight:%d", &in_flight) == 1)
        return run_in_flight(in_flight, count, cpu, wall);
    return run_crowd(atoi(name), count, warm_up, exchange_many, cpu, wall);
}

#endif
