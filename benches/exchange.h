/* What exchange.c and exchange_curl.c share: the users, and the warm-up. */

#ifndef EXCHANGE_H
#define EXCHANGE_H

#include "crowd.h"

#define WARM_UP 20 /* exchanges of each thread before the clock starts, to open the connections */
#define USER_SIZE 32

/* Exchanges for one user on thread number `thread`; does not return if it fails. */
static void exchange(int thread, const char *user);

static void exchange_many(int thread, long count)
{
    char user[USER_SIZE];
    for (long i = 0; i < count; i++) {
        snprintf(user, sizeof user, "my_application_user_%03ld", i % 1000);
        exchange(thread, user);
    }
}

static void warm_up(int thread)
{
    exchange_many(thread, WARM_UP);
}

/* The NAME of a step is the number of threads, COUNT the exchanges of all of them together. */
static int run(const char *name, long count, int64_t *cpu, int64_t *wall)
{
    return run_crowd(atoi(name), count, warm_up, exchange_many, cpu, wall);
}

#endif
