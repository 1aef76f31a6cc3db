/* The tokens of many users at once, in the loop of libuv. Usage: libuv [USER [COUNT]] */
#include <spike_auth.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static spike_auth_queue *queue;
static size_t waiting, tokens;

/* libuv calls it as long as there is something to take, so it takes a part, and other events have their turn. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    uint64_t tags[64];
    size_t ended = 0;
    spike_auth_error err;
    (void)status, (void)events;
    if (spike_auth_queue_take(queue, tags, 64, &ended, &err) != SPIKE_AUTH_STATUS_OK) return;
    for (size_t i = 0; i < ended; i++, waiting--) {
        spike_auth_call *call = (spike_auth_call *)(uintptr_t)tags[i];
        char token[SPIKE_AUTH_TOKEN_SIZE];
        size_t len = 0;
        if (spike_auth_call_get_token(call, token, sizeof token, &len, &err) == SPIKE_AUTH_STATUS_OK)
            tokens++;
        else
            fprintf(stderr, "%s\n", err.message);
        spike_auth_call_free(call);
    }
    if (waiting == 0) uv_close((uv_handle_t *)poll, NULL); /* the descriptor stays open: it is the queue's */
}

int main(int argc, char **argv) {
    const char *prefix = argc > 1 ? argv[1] : "my_application_user";
    const size_t users = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    spike_auth_error err;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    uv_poll_t poll;

    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_load_env(config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_queue_new(&queue, &err) != SPIKE_AUTH_STATUS_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < users; i++) {
        char user[SPIKE_AUTH_USER_ID_MAX + 1];
        spike_auth_call *call = NULL;
        snprintf(user, sizeof user, "%s-%zu", prefix, i);
        /* The tag is the handle. */
        if (spike_auth_call_new(&call, &err) == SPIKE_AUTH_STATUS_OK &&
            spike_auth_client_start_token(client, user, SPIKE_AUTH_NUL_TERMINATED, call, queue,
                                          (uint64_t)(uintptr_t)call, &err) == SPIKE_AUTH_STATUS_OK)
            waiting++;
        else {
            fprintf(stderr, "%s: %s\n", user, err.message);
            spike_auth_call_free(call);
        }
    }
    printf("%zu calls are started\n", waiting);

    if (waiting > 0) {
        uv_poll_init(uv_default_loop(), &poll, spike_auth_queue_fd(queue));
        uv_poll_start(&poll, UV_READABLE, on_readable);
        uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    }
    uv_loop_close(uv_default_loop());
    printf("%zu of %zu users have a token\n", tokens, users);

    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
    spike_auth_config_free(config);
    return tokens == users ? 0 : 1;
}
