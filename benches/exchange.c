/* Exchanges through the library: `exchange BASE_URL CA_FILE` (an empty CA_FILE over HTTP). step.h has the
 * protocol, crowd.h the threads, which share one client.
 *
 * In the timed loop: spike_auth_client_exchange(), which signs, sends the request and reads the token, on kept
 * connections.
 */

#include "exchange.h"

#include <spike_auth.h>

static spike_auth_client *client;

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
    if (spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    spike_auth_config_free(config);
    answer_steps(run);
    spike_auth_client_free(client);
    return 0;
}
