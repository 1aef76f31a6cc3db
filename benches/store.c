/* Tokens that processes share, through the library: `store BASE_URL UNIX_URL TCP_URL`, the last two of one store.
 * step.h has the protocol. All steps run in this thread. A NAME is "STEP:WHERE"; WHERE is alone (a client without a
 * store), unix or tcp.
 *
 * "exchange": spike_auth_client_exchange() on a kept connection.
 * "hit": spike_auth_client_get_token() for users whose tokens stand in the store, and not in the client's cache.
 * "cold": the same for users whose tokens nobody has asked for yet: with a store a look, an exchange, and a put.
 * "cached": the same for one user whose token is in the client's cache.
 *
 * Each step checks that the tokens came from where it says.
 */

#include "step.h"

#include <string.h>

#include <spike_auth.h>

#define WARM_UP 20     /* calls before the clock starts, to open the connections */
#define HIT_USERS 2000 /* the greatest COUNT of "hit" */
#define USER_SIZE 32
#define STORE_TIMEOUT_MS 10000 /* a busy machine fails no step */

enum { ALONE, UNIX_SOCKET, TCP, PLACES };
static const char *const places[PLACES] = {"alone", "unix", "tcp"};
static spike_auth_client *clients[PLACES];

static void must(spike_auth_status_t status, const spike_auth_error *err)
{
    if (status != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err->message);
}

static spike_auth_client *new_client(const char *base_url, const char *store)
{
    static const char key[] = "HMAC_KEY_FROM_ADMIN_CONSOLE";
    spike_auth_error err;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    must(spike_auth_config_new(&config, &err), &err);
    must(spike_auth_config_set_application_id(config, "9999", 4, &err), &err);
    must(spike_auth_config_set_hmac_key(config, (const uint8_t *)key, sizeof key - 1, &err), &err);
    must(spike_auth_config_set_base_url(config, base_url, SPIKE_AUTH_NUL_TERMINATED, &err), &err);
    must(spike_auth_config_set_store(config, store, SPIKE_AUTH_NUL_TERMINATED, &err), &err);
    must(spike_auth_config_set_store_timeout_ms(config, STORE_TIMEOUT_MS, &err), &err);
    must(spike_auth_client_new(config, &client, &err), &err);
    if (*store)
        must(spike_auth_client_check_store(client, NULL, &err), &err);
    spike_auth_config_free(config);
    return client;
}

static spike_auth_stats stats(const spike_auth_client *client)
{
    spike_auth_error err;
    spike_auth_stats stats;
    must(spike_auth_client_stats(client, &stats, &err), &err);
    return stats;
}

/* --- the steps --- */

typedef void caller(const spike_auth_client *client, long number);

static void get(const spike_auth_client *client, const char *user)
{
    spike_auth_error err;
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    must(spike_auth_client_get_token(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL, token, sizeof token, &len, &err),
         &err);
}

static void get_hit(const spike_auth_client *client, long number)
{
    char user[USER_SIZE];
    snprintf(user, sizeof user, "my_application_u%07ld", number % HIT_USERS);
    get(client, user);
}

static void get_cold(const spike_auth_client *client, long number)
{
    static long users;
    char user[USER_SIZE];
    (void)number;
    snprintf(user, sizeof user, "my_application_c%07ld", users++);
    get(client, user);
}

static void get_cached(const spike_auth_client *client, long number)
{
    (void)number;
    get(client, "my_application_user_123");
}

static void exchange(const spike_auth_client *client, long number)
{
    spike_auth_error err;
    char user[USER_SIZE], token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    snprintf(user, sizeof user, "my_application_u%07ld", number % HIT_USERS);
    must(spike_auth_client_exchange(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL, token, sizeof token, &len, &err),
         &err);
}

static void repeat(caller *call, const spike_auth_client *client, long count)
{
    for (long i = 0; i < count; i++)
        call(client, i);
}

/* Puts the tokens of "hit" into the store, once. */
static void put_all(void)
{
    static int is_done;
    if (!is_done)
        repeat(get_hit, clients[UNIX_SOCKET], HIT_USERS);
    is_done = 1;
}

static const struct step {
    const char *name;
    caller *call;
    void (*prepare)(void);
    int exchanges, hits; /* of each call; statistics do not count spike_auth_client_exchange() */
} steps[] = {
    {"exchange", exchange, NULL, 0, 0},
    {"hit", get_hit, put_all, 0, 1},
    {"cold", get_cold, NULL, 1, 0},
    {"cached", get_cached, NULL, 0, 0},
};

static void run_step(const struct step *step, spike_auth_client *client, long count, int64_t *cpu, int64_t *wall)
{
    spike_auth_error err;
    if (step->prepare)
        step->prepare();
    repeat(step->call, client, WARM_UP);
    if (step->hits)
        must(spike_auth_client_clear(client, &err), &err);
    spike_auth_stats before = stats(client);
    int64_t cpu_before = thread_ns(), wall_before = wall_ns();
    repeat(step->call, client, count);
    *wall = wall_ns() - wall_before;
    *cpu = thread_ns() - cpu_before;
    spike_auth_stats after = stats(client);
    if (after.exchanges - before.exchanges != (uint64_t)(step->exchanges * count) ||
        after.store_hits - before.store_hits != (uint64_t)(step->hits * count) ||
        after.store_errors != 0 || after.store_skipped != 0) {
        fprintf(stderr, "%ld calls: %llu from the store, %llu exchanges, %llu errors of the store\n", count,
                (unsigned long long)(after.store_hits - before.store_hits),
                (unsigned long long)(after.exchanges - before.exchanges), (unsigned long long)after.store_errors);
        die(step->name, "the tokens came from somewhere else");
    }
}

static int run(const char *name, long count, int64_t *cpu, int64_t *wall)
{
    char what[32], where[32];
    if (sscanf(name, "%31[^:]:%31s", what, where) != 2)
        return 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        for (int place = 0; place < PLACES; place++)
            if (strcmp(steps[i].name, what) == 0 && strcmp(places[place], where) == 0) {
                run_step(&steps[i], clients[place], count, cpu, wall);
                return 1;
            }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        die("usage", "store BASE_URL UNIX_URL TCP_URL");
    for (int place = 0; place < PLACES; place++)
        clients[place] = new_client(argv[1], place == ALONE ? "" : argv[place + 1]);
    answer_steps(run);
    for (int place = 0; place < PLACES; place++)
        spike_auth_client_free(clients[place]);
    return 0;
}
