/* Calls that are started and wait: `pending BASE_URL TIMEOUT_MS`, on a server that never answers. step.h has the
 * protocol.
 *
 * "start COUNT" starts that many calls for as many users, each with a handle of its own. Then, in the same process,
 * "cancel_oldest COUNT" and "cancel_newest COUNT" answer with the time from before the first is cancelled, the oldest
 * or the newest, until the last was told; "expire COUNT" answers with the greatest delay between a call's deadline
 * and when it was told. A call is told when spike_auth_queue_take() has returned its tag.
 */

#include "step.h"

#include <poll.h>
#include <string.h>

#include <spike_auth.h>

#define TAGS 256 /* taken at once */

static spike_auth_client *client;
static spike_auth_queue *queue;
static spike_auth_call **calls;
static int64_t *deadlines, timeout_ns;

static void start_all(long count)
{
    spike_auth_error err;
    char user[48];
    for (long i = 0; i < count; i++) {
        snprintf(user, sizeof user, "my_application_u%07ld", i);
        deadlines[i] = wall_ns() + timeout_ns;
        if (spike_auth_call_new(&calls[i], &err) != SPIKE_AUTH_STATUS_OK ||
            spike_auth_client_start_token(client, user, SPIKE_AUTH_NUL_TERMINATED, calls[i], queue, (uint64_t)i,
                                          &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
    }
}

static void cancel_all(long count, int newest_first)
{
    for (long i = 0; i < count; i++)
        spike_auth_call_cancel(calls[newest_first ? count - 1 - i : i]);
}

/* Takes all calls, whose result must be `expected`. Returns the greatest delay after a deadline. */
static int64_t take_all(long count, spike_auth_status_t expected)
{
    struct pollfd readable = {spike_auth_queue_fd(queue), POLLIN, 0};
    int64_t latest = 0;
    while (count > 0) {
        spike_auth_error err;
        uint64_t tags[TAGS];
        char token[SPIKE_AUTH_TOKEN_SIZE];
        size_t taken, len;
        poll(&readable, 1, -1);
        if (spike_auth_queue_take(queue, tags, TAGS, &taken, &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
        int64_t now = wall_ns();
        for (size_t i = 0; i < taken; i++) {
            if (now - deadlines[tags[i]] > latest)
                latest = now - deadlines[tags[i]];
            if (spike_auth_call_get_token(calls[tags[i]], token, sizeof token, &len, &err) != expected)
                die("a pending call ended otherwise", err.message);
        }
        count -= (long)taken;
    }
    return latest;
}

static int run(const char *name, long count, int64_t *cpu, int64_t *wall)
{
    if (strcmp(name, "open") == 0) {
        /* Written, so that they are no part of what the calls take. */
        calls = memset(malloc((size_t)count * sizeof *calls), 1, (size_t)count * sizeof *calls);
        deadlines = memset(malloc((size_t)count * sizeof *deadlines), 1, (size_t)count * sizeof *deadlines);
        return 1;
    }
    int64_t cpu_before = cpu_ns(), wall_before = wall_ns(), latest = 0;
    if (strcmp(name, "start") == 0) {
        start_all(count);
    } else if (strncmp(name, "cancel_", 7) == 0) {
        cancel_all(count, strcmp(name, "cancel_newest") == 0);
        take_all(count, SPIKE_AUTH_STATUS_CANCELLED);
    } else if (strcmp(name, "expire") == 0) {
        latest = take_all(count, SPIKE_AUTH_STATUS_TIMEOUT);
    } else {
        return 0;
    }
    *wall = latest ? latest : wall_ns() - wall_before;
    *cpu = cpu_ns() - cpu_before;
    return 1;
}

int main(int argc, char **argv)
{
    static const char key[] = "HMAC_KEY_FROM_ADMIN_CONSOLE";
    spike_auth_error err;
    spike_auth_config *config = NULL;
    if (argc != 3)
        die("usage", "pending BASE_URL TIMEOUT_MS");
    timeout_ns = atoll(argv[2]) * 1000000;
    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_application_id(config, "9999", 4, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_hmac_key(config, (const uint8_t *)key, sizeof key - 1, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_base_url(config, argv[1], SPIKE_AUTH_NUL_TERMINATED, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_timeout_ms(config, (uint32_t)atol(argv[2]), &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_queue_new(&queue, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    spike_auth_config_free(config);
    answer_steps(run);
    return 0; /* the calls end with the process */
}
