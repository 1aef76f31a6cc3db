/* Exchanges through the library: `exchange BASE_URL CA_FILE` (an empty CA_FILE over HTTP). step.h has the
 * protocol, crowd.h the threads, which share one client.
 *
 * In the timed loop: spike_auth_client_exchange(), which signs, sends the request and reads the token, on kept
 * connections. With exchanges in flight: spike_auth_client_start_exchange(), poll() on the queue's descriptor,
 * spike_auth_queue_take() and spike_auth_call_get_token(); each place keeps its handle.
 */

#include "exchange.h"

#include <poll.h>

#include <spike_auth.h>

static spike_auth_client *client;
static spike_auth_queue *queue;
static spike_auth_call *calls[IN_FLIGHT_MAX];

/* The whole file as a NUL-terminated text. */
static char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    char *text = malloc(1 << 20);
    if (!file || !text)
        die(path, "cannot be read");
    *len = fread(text, 1, (1 << 20) - 1, file);
    text[*len] = 0;
    fclose(file);
    return text;
}

static void exchange(int thread, const char *user)
{
    spike_auth_error err;
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    (void)thread;
    if (spike_auth_client_exchange(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL, token, sizeof token, &len, &err) !=
        SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
}

static void start(int place, long number)
{
    spike_auth_error err;
    char user[USER_SIZE];
    name_user(user, number);
    if (spike_auth_client_start_exchange(client, user, SPIKE_AUTH_NUL_TERMINATED, calls[place], queue,
                                         (uint64_t)place, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
}

static int finish(int places[IN_FLIGHT_MAX])
{
    spike_auth_error err;
    struct pollfd readable = {spike_auth_queue_fd(queue), POLLIN, 0};
    uint64_t tags[IN_FLIGHT_MAX];
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t count, len;
    poll(&readable, 1, -1);
    if (spike_auth_queue_take(queue, tags, IN_FLIGHT_MAX, &count, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    for (size_t i = 0; i < count; i++) {
        places[i] = (int)tags[i];
        if (spike_auth_call_get_token(calls[tags[i]], token, sizeof token, &len, &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
    }
    return (int)count;
}

int main(int argc, char **argv)
{
    static const char key[] = "HMAC_KEY_FROM_ADMIN_CONSOLE";
    spike_auth_error err;
    spike_auth_config *config = NULL;
    if (argc != 3)
        die("usage", "exchange BASE_URL CA_FILE");
    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_application_id(config, "9999", 4, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_hmac_key(config, (const uint8_t *)key, sizeof key - 1, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_base_url(config, argv[1], SPIKE_AUTH_NUL_TERMINATED, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    if (*argv[2]) {
        size_t len;
        char *pem = read_file(argv[2], &len);
        if (spike_auth_config_set_ca_pem(config, pem, len, &err) != SPIKE_AUTH_STATUS_OK ||
            spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_NONE, &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
        free(pem);
    }
    if (spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_queue_new(&queue, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    spike_auth_config_free(config);
    for (int i = 0; i < IN_FLIGHT_MAX; i++)
        if (spike_auth_call_new(&calls[i], &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
    answer_steps(run);
    for (int i = 0; i < IN_FLIGHT_MAX; i++)
        spike_auth_call_free(calls[i]);
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
    return 0;
}
