/* A chain of children: in the last generation a client costs as much as in the first.
 *
 * usage: generations NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "cache.h"
#include "children.h"

#include <malloc.h>
#include <sys/mman.h>

enum { GENERATIONS = 64, USERS = 10000 };

/* What a generation measures. */
struct row {
    size_t heap; /* bytes in use */
    int fds;
    double hit_ns; /* of CPU time, the least of many batches */
    uint64_t entries;
};

/* Shared by all generations. The first is the process that made the client. */
static struct row *rows;
static spike_auth_client *client;

static const char *user_of(int number)
{
    static char user[32];
    snprintf(user, sizeof user, "user-%d", number);
    return user;
}

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* The least of many short batches: other programs can only add to it. */
static double measure_hit(void)
{
    enum { BATCHES = 200, HITS = 200 };
    static char token[SPIKE_AUTH_TOKEN_SIZE];
    double least = 1e18;
    size_t len;
    for (int batch = 0; batch < BATCHES; batch++) {
        double start = cpu_ns(), took;
        for (int i = 0; i < HITS; i++)
            CHECK_STATUS(spike_auth_client_get_token(client, "user-7", NUL_TERMINATED, NULL, token, sizeof token, &len,
                                                     NULL), SPIKE_AUTH_STATUS_OK);
        took = (cpu_ns() - start) / HITS;
        least = took < least ? took : least;
    }
    return least;
}

static void live(void *argument)
{
    int generation = *(const int *)argument, next = generation + 1;
    char user[32];
    struct row *row = &rows[generation];
    /* It hits its ancestors' tokens, gets one token of its own, and so has a connection. */
    (void)get_own(client, user_of((generation * 37) % USERS));
    if (generation > 0) {
        snprintf(user, sizeof user, "generation-%d", generation - 1);
        CHECK_STATUS(peek(client, user).status, SPIKE_AUTH_STATUS_OK);
    }
    snprintf(user, sizeof user, "generation-%d", generation);
    (void)get_own(client, user);
    CHECK_EQ_INT(stats_of(client).forks, generation);
    CHECK_EQ_INT(stats_of(client).requests, generation == 0 ? USERS + 1 : 1);
    row->hit_ns = measure_hit();
    row->entries = stats_of(client).entries;
    row->fds = count_fds();
    row->heap = mallinfo2().uordblks;
    if (next <= GENERATIONS)
        check_child(live, &next);
}

static void check_generations(const char *place)
{
    int first = 0;
    struct row *second = &rows[1], *last = &rows[GENERATIONS];
    in_round("%s", place);
    client = sandbox_client(place);
    for (int i = 0; i < USERS; i++)
        (void)get_own(client, user_of(i));
    live(&first);
    printf("%s: bytes on the heap in generation 0: %zu, 1: %zu, %d: %zu; a hit: %.0f, %.0f, %.0f ns\n", place,
           rows[0].heap, second->heap, GENERATIONS, last->heap, rows[0].hit_ns, second->hit_ns, last->hit_ns);
    CHECK((double)last->heap < 1.2 * (double)rows[0].heap);
    CHECK(last->hit_ns < 1.3 * rows[0].hit_ns);
    CHECK_EQ_INT(last->entries, USERS + 1 + GENERATIONS);
    CHECK_EQ_INT(last->fds, rows[0].fds);
    spike_auth_client_free(client);
}

static void the_last_generation_costs_as_much_as_the_first(void)
{
    rows = mmap(NULL, (GENERATIONS + 1) * sizeof *rows, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(rows != MAP_FAILED);
    check_generations("http");
    check_generations("https");
}

static void free_and_measure(void *argument)
{
    (void)argument;
    spike_auth_client_free(client);
    rows[1].heap = mallinfo2().uordblks;
}

/* A child that never used the client frees its memory, tokens included. */
static void a_child_that_frees_a_client_frees_its_memory(void)
{
    size_t before = mallinfo2().uordblks, held;
    client = sandbox_client("http");
    for (int i = 0; i < 1000; i++)
        (void)get_own(client, user_of(i));
    held = mallinfo2().uordblks - before;
    CHECK(held > 1000 * 200);
    check_child(free_and_measure, NULL);
    CHECK(rows[1].heap < before + held / 10);
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    begin_children();
    RUN(the_last_generation_costs_as_much_as_the_first);
    RUN(a_child_that_frees_a_client_frees_its_memory);
    return check_summary();
}
