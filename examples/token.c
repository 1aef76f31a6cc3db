#include <spike_auth.h>
#include <stdio.h>

int main(int argc, char **argv) {
    const char *user = argc > 1 ? argv[1] : "my_application_user_123";
    spike_auth_error err;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t token_len = 0;
    spike_auth_stats stats;

    /* Reads SPIKE_APPLICATION_ID and SPIKE_HMAC_KEY; everything else has a default. The client caches the
       token: the second call for the same user sends no request. */
    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_load_env(config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_get_token(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL,
                                    token, sizeof token, &token_len, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_get_token(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL,
                                    token, sizeof token, &token_len, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_stats(client, &stats, &err) != SPIKE_AUTH_STATUS_OK)
        fprintf(stderr, "%s: %s\n", spike_auth_status_name(err.status), err.message);
    else
        printf("got a token of %zu characters twice; requests sent: %llu\n", token_len,
               (unsigned long long)stats.requests);

    spike_auth_client_free(client);
    spike_auth_config_free(config);
    return token_len > 0 ? 0 : 1;
}
