/* The tokens of many users at once, from one thread and one epoll loop. Usage: epoll [USER [COUNT]] */
#include <spike_auth.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* Starts the call of one user and returns at once. The tag tells the loop whose call has ended. */
static spike_auth_call *start(const spike_auth_client *client, const spike_auth_queue *queue, const char *user,
                              uint64_t tag) {
    spike_auth_error err;
    spike_auth_call *call = NULL;
    if (spike_auth_call_new(&call, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_start_token(client, user, SPIKE_AUTH_NUL_TERMINATED, call, queue, tag, &err) !=
            SPIKE_AUTH_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", user, err.message);
        spike_auth_call_free(call);
        return NULL;
    }
    return call;
}

int main(int argc, char **argv) {
    const char *prefix = argc > 1 ? argv[1] : "my_application_user";
    const size_t users = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    spike_auth_error err;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    spike_auth_queue *queue = NULL;
    spike_auth_call **calls = calloc(users + 1, sizeof *calls);
    struct epoll_event event = {.events = EPOLLIN};
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    size_t waiting = 0, tokens = 0;

    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_load_env(config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_queue_new(&queue, &err) != SPIKE_AUTH_STATUS_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    if (calls == NULL || epoll_ctl(epoll, EPOLL_CTL_ADD, spike_auth_queue_fd(queue), &event) != 0) {
        perror("epoll");
        return 1;
    }
    for (size_t i = 0; i < users; i++) {
        char user[SPIKE_AUTH_USER_ID_MAX + 1];
        snprintf(user, sizeof user, "%s-%zu", prefix, i);
        calls[i] = start(client, queue, user, i);
        waiting += calls[i] != NULL;
    }
    printf("%zu calls are started\n", waiting);

    /* An event of another descriptor would be handled here too: nothing below waits. */
    while (waiting > 0 && epoll_wait(epoll, &event, 1, -1) == 1) {
        uint64_t tags[64];
        size_t ended = 0;
        if (spike_auth_queue_take(queue, tags, 64, &ended, &err) != SPIKE_AUTH_STATUS_OK) break;
        for (size_t i = 0; i < ended; i++, waiting--) {
            char token[SPIKE_AUTH_TOKEN_SIZE];
            size_t len = 0;
            if (spike_auth_call_get_token(calls[tags[i]], token, sizeof token, &len, &err) == SPIKE_AUTH_STATUS_OK)
                tokens++;
            else
                fprintf(stderr, "user %llu: %s\n", (unsigned long long)tags[i], err.message);
            spike_auth_call_free(calls[tags[i]]);
        }
    }
    printf("%zu of %zu users have a token\n", tokens, users);

    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
    spike_auth_config_free(config);
    free(calls);
    return tokens == users ? 0 : 1;
}
