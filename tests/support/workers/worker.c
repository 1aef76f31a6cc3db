/* A process of a fleet. Each line of its input is "get USER" or "replace USER TOKEN", which reports TOKEN as rejected
 * first. It answers with "STATUS MILLISECONDS TOKEN". Its settings are in the environment. */
#define _POSIX_C_SOURCE 200809L
#include <spike_auth.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void check(spike_auth_status_t status, const spike_auth_error *err)
{
    if (status == SPIKE_AUTH_STATUS_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

int main(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    spike_auth_error err;
    char line[SPIKE_AUTH_TOKEN_SIZE + 256], user[200], rejected[SPIKE_AUTH_TOKEN_SIZE], token[SPIKE_AUTH_TOKEN_SIZE];
    check(spike_auth_config_new(&config, &err), &err);
    check(spike_auth_config_load_env(config, &err), &err);
    check(spike_auth_client_new(config, &client, &err), &err);
    spike_auth_config_free(config);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        double start = now_ms();
        size_t length;
        spike_auth_status_t status;
        if (sscanf(line, "replace %199s %8192s", user, rejected) == 2)
            check(spike_auth_client_invalidate(client, user, SPIKE_AUTH_NUL_TERMINATED, rejected,
                                               SPIKE_AUTH_NUL_TERMINATED, &err), &err);
        else if (sscanf(line, "get %199s", user) != 1)
            return 2;
        status = spike_auth_client_get_token(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL, token, sizeof token,
                                             &length, &err);
        printf("%d %.3f %s\n", (int)status, now_ms() - start, status == SPIKE_AUTH_STATUS_OK ? token : "-");
        fflush(stdout);
    }
    spike_auth_client_free(client);
    return 0;
}
