/* Cached tokens of the library: `cache BASE_URL IDS_FILE`. step.h has the protocol, crowd.h the threads, which share
 * one client. IDS_FILE has the user ids in random order, 23 bytes each, without separators.
 *
 * "fill COUNT" caches the tokens of COUNT users, each by a spike_auth_client_get_token() that makes an exchange;
 * COUNT 0 only opens the connections. "stats 0" answers with the bytes and the entries of
 * spike_auth_client_stats() instead of times. "FUNCTION:hot:THREADS COUNT" asks for one user,
 * "FUNCTION:random:THREADS COUNT" for all in the order of IDS_FILE.
 *
 * In the timed loop: one call with an error struct, which copies the token into the thread's own buffer. Through a
 * queue it is three calls: start_token, take and get_token. Each step checks that no call made an exchange.
 */

#define _GNU_SOURCE
#include "crowd.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include <spike_auth.h>

#define ID_LEN 23
#define FILLING 8 /* threads */
#define ASKING_MAX 2
#define PIECE 256 /* calls that a thread makes before it takes the next piece; COUNTs are multiples */
#define BYTES_PER_ENTRY 1024 /* the cache's bound: more than it needs */

static spike_auth_client *client;
static char *ids;
static size_t users;

static __thread int my_number; /* of this thread */
static spike_auth_queue *queues[ASKING_MAX];
static spike_auth_call *calls[ASKING_MAX];

/* --- the functions that are measured --- */

typedef spike_auth_status_t getter(const char *user, char *out, size_t *len, spike_auth_error *err);

static spike_auth_status_t get_token(const char *user, char *out, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_get_token(client, user, ID_LEN, NULL, out, SPIKE_AUTH_TOKEN_SIZE, len, err);
}

static spike_auth_status_t get_authorization(const char *user, char *out, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_get_authorization(client, user, ID_LEN, NULL, out, SPIKE_AUTH_AUTHORIZATION_SIZE, len,
                                               err);
}

static spike_auth_status_t peek_token(const char *user, char *out, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_peek_token(client, user, ID_LEN, out, SPIKE_AUTH_TOKEN_SIZE, len, err);
}

/* Through the thread's own queue, with its own handle. */
static spike_auth_status_t queue_token(const char *user, char *out, size_t *len, spike_auth_error *err)
{
    spike_auth_call *call = calls[my_number];
    spike_auth_queue *queue = queues[my_number];
    uint64_t tag;
    size_t taken;
    spike_auth_status_t status = spike_auth_client_start_token(client, user, ID_LEN, call, queue, 0, err);
    if (status == SPIKE_AUTH_STATUS_OK)
        status = spike_auth_queue_take(queue, &tag, 1, &taken, err);
    return status == SPIKE_AUTH_STATUS_OK ? spike_auth_call_get_token(call, out, SPIKE_AUTH_TOKEN_SIZE, len, err)
                                          : status;
}

static const struct function {
    const char *name;
    getter *ask;
    const char *before_token;
} functions[] = {
    {"get_token", get_token, ""},
    {"get_authorization", get_authorization, "Bearer "},
    {"peek_token", peek_token, ""},
    {"queue_token", queue_token, ""},
};
#define FUNCTIONS (sizeof functions / sizeof *functions)

/* --- reading cached tokens --- */

static getter *ask;
static int is_random;
static size_t walked;     /* where in the ids the next step starts */
static atomic_long drawn; /* how many pieces of the current step are taken */
static long pieces;       /* how many it has */

static struct share {
    long pieces;
    int64_t cpu, wall;
} shares[ASKING_MAX];

/* How long this thread has waited for a core since it was started. */
static int64_t waited_ns(void)
{
    long long waited = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (!file)
        return 0;
    if (fscanf(file, "%*d %lld", &waited) != 1)
        waited = 0;
    fclose(file);
    return waited;
}

/* One piece of a step, from its place in the ids. */
static void ask_piece(size_t place)
{
    spike_auth_error err;
    char out[SPIKE_AUTH_AUTHORIZATION_SIZE];
    size_t len, step = is_random ? 1 : 0;
    getter *function = ask;
    for (int i = 0; i < PIECE; i++) {
        if (function(ids + place * ID_LEN, out, &len, &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
        place += step;
        if (place == users)
            place = 0;
    }
}

static void ask_pieces(int thread, long count)
{
    struct share mine = {0, 0, 0};
    long piece;
    (void)count;
    mine.wall -= wall_ns();
    mine.wall += waited_ns();
    mine.cpu -= thread_ns();
    while ((piece = atomic_fetch_add(&drawn, 1)) < pieces) {
        ask_piece(is_random ? (walked + (size_t)piece * PIECE) % users : 0);
        mine.pieces++;
    }
    mine.cpu += thread_ns();
    mine.wall -= waited_ns();
    mine.wall += wall_ns();
    shares[thread] = mine;
}

/* Pins each thread: sharing a core for a while would look like waiting for each other. */
static void take_core(int thread)
{
    cpu_set_t all, mine;
    CPU_ZERO(&mine);
    if (sched_getaffinity(0, sizeof all, &all) != 0)
        die("sched_getaffinity", "failed");
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &all) && thread-- == 0)
            CPU_SET(core, &mine);
    if (CPU_COUNT(&mine) > 0 && sched_setaffinity(0, sizeof mine, &mine) != 0)
        die("sched_setaffinity", "failed");
}

static void warm_up(int thread)
{
    my_number = thread;
    take_core(thread);
    ask_piece(0);
}

static spike_auth_stats stats(void)
{
    spike_auth_error err;
    spike_auth_stats stats;
    if (spike_auth_client_stats(client, &stats, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    return stats;
}

/* A step continues where the previous one ended, so each token was last used long ago.
 *
 * The threads take pieces until none is left, so that none waits for a slower core at the end. Each reads its own
 * clocks: the CPU time of the process would lack what threads on other cores have used since the last tick, which
 * is much of such a short step. Its wall time excludes the waiting for a core that another process used. WALL is
 * for all calls at the sum of the threads' rates. */
static int run_getter(const struct function *function, const char *which, int threads, long count, int64_t *cpu,
                      int64_t *wall)
{
    uint64_t exchanges = stats().exchanges;
    double rate = 0; /* pieces per nanosecond */
    if (threads < 1 || threads > ASKING_MAX)
        return 0;
    ask = function->ask;
    is_random = strcmp(which, "random") == 0;
    pieces = count / PIECE;
    atomic_store(&drawn, 0);
    run_crowd(threads, count, warm_up, ask_pieces, cpu, wall);
    *cpu = 0;
    for (int i = 0; i < threads; i++) {
        *cpu += shares[i].cpu;
        rate += (double)shares[i].pieces / (double)shares[i].wall;
    }
    *wall = (int64_t)((double)pieces / rate);
    if (is_random)
        walked = (walked + (size_t)count) % users;
    if (stats().exchanges != exchanges)
        die("spike_auth", "a token was not in the cache");
    return 1;
}

/* --- filling --- */

static void connect_one(int thread)
{
    spike_auth_error err;
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    (void)thread;
    if (spike_auth_client_exchange(client, "nobody", 6, NULL, token, sizeof token, &len, &err) !=
        SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
}

static void fill(int thread, long count)
{
    spike_auth_error err;
    char user[ID_LEN + 1], token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    for (long i = 0; i < count; i++) {
        snprintf(user, sizeof user, "my_application_u%07ld", thread * count + i);
        if (get_token(user, token, &len, &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
    }
}

/* Each function must return the token that an exchange for the same user returns. */
static void check_functions(void)
{
    spike_auth_error err;
    char token[SPIKE_AUTH_TOKEN_SIZE], out[SPIKE_AUTH_AUTHORIZATION_SIZE];
    size_t len;
    if (spike_auth_client_exchange(client, ids, ID_LEN, NULL, token, sizeof token, &len, &err) !=
        SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    for (size_t i = 0; i < FUNCTIONS; i++) {
        size_t before = strlen(functions[i].before_token);
        if (functions[i].ask(ids, out, &len, &err) != SPIKE_AUTH_STATUS_OK)
            die(functions[i].name, err.message);
        if (len != before + strlen(token) || memcmp(out, functions[i].before_token, before) != 0 ||
            strcmp(out + before, token) != 0)
            die(functions[i].name, "not the user's token");
    }
}

static int run_filling(long count, int64_t *cpu, int64_t *wall)
{
    run_crowd(FILLING, count, connect_one, fill, cpu, wall);
    if (count > 0) {
        if (stats().entries != users)
            die("spike_auth", "not all tokens are cached");
        check_functions();
    }
    return 1;
}

static int run(const char *name, long count, int64_t *cpu, int64_t *wall)
{
    char function[32], which[32];
    int threads;
    if (strcmp(name, "fill") == 0)
        return run_filling(count, cpu, wall);
    if (strcmp(name, "stats") == 0) {
        spike_auth_stats now = stats();
        *cpu = (int64_t)now.bytes;
        *wall = (int64_t)now.entries;
        return 1;
    }
    if (sscanf(name, "%31[^:]:%31[^:]:%d", function, which, &threads) == 3)
        for (size_t i = 0; i < FUNCTIONS; i++)
            if (strcmp(functions[i].name, function) == 0)
                return run_getter(&functions[i], which, threads, count, cpu, wall);
    return 0;
}

static void read_ids(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size;
    if (!file || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < ID_LEN || fseek(file, 0, SEEK_SET) != 0)
        die(path, "cannot be read");
    users = (size_t)size / ID_LEN;
    ids = malloc((size_t)size);
    if (!ids || fread(ids, 1, (size_t)size, file) != (size_t)size)
        die(path, "cannot be read");
    fclose(file);
}

int main(int argc, char **argv)
{
    static const char key[] = "HMAC_KEY_FROM_ADMIN_CONSOLE";
    spike_auth_error err;
    spike_auth_config *config = NULL;
    if (argc != 3)
        die("usage", "cache BASE_URL IDS_FILE");
    read_ids(argv[2]);
    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_application_id(config, "9999", 4, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_hmac_key(config, (const uint8_t *)key, sizeof key - 1, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_base_url(config, argv[1], SPIKE_AUTH_NUL_TERMINATED, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_cache_capacity(config, (uint32_t)users, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_cache_max_bytes(config, users * BYTES_PER_ENTRY, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    spike_auth_config_free(config);
    for (int i = 0; i < ASKING_MAX; i++)
        if (spike_auth_queue_new(&queues[i], &err) != SPIKE_AUTH_STATUS_OK ||
            spike_auth_call_new(&calls[i], &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
    answer_steps(run);
    for (int i = 0; i < ASKING_MAX; i++) {
        spike_auth_call_free(calls[i]);
        spike_auth_queue_free(queues[i]);
    }
    spike_auth_client_free(client);
    free(ids);
    return 0;
}
