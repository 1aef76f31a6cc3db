/* A process that the system gives no randomness: a filter refuses getrandom(2), and no file can be opened. What can be
 * done without goes on; what cannot fails with INTERNAL, and says what to do. Against the sandbox.
 *
 * usage: random NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "children.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- the filter ------------------------------------------------------------------------------------ */

#define FAIL_WITH(number) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)(number) & SECCOMP_RET_DATA))
#define IF_CALL_IS(call, to) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), (to), 0)

/* From now on getrandom(2) fails with `number` in this thread, and in those that it makes. A filter cannot look at
 * paths: so that /dev/urandom is out of reach, nothing may be opened. */
static void refuse_randomness(int number, int files_too)
{
    struct sock_filter files[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        IF_CALL_IS(SYS_openat, 2),
#ifdef SYS_open
        IF_CALL_IS(SYS_open, 1),
#else
        IF_CALL_IS(SYS_openat, 1),
#endif
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        FAIL_WITH(EACCES),
    };
    struct sock_filter random[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        IF_CALL_IS(SYS_getrandom, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        FAIL_WITH(number),
    };
    struct sock_fprog of_files = {COUNT_OF(files), files}, of_random = {COUNT_OF(random), random};
    unsigned char byte;
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &of_random, 0, 0) == 0);
    REQUIRE(!files_too || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &of_files, 0, 0) == 0);
    REQUIRE(syscall(SYS_getrandom, &byte, 1, 0) == -1 && errno == number);
    REQUIRE((open("/dev/urandom", O_RDONLY | O_CLOEXEC) < 0) == files_too);
}

/* EPERM and ENOSYS send a program on to /dev/urandom; others do not. */
static const int NUMBERS[] = {EPERM, ENOSYS, EACCES};

/* ---- what is looked for ------------------------------------------------------------------------------ */

static void check_no_randomness(int32_t status, const spike_auth_error *err)
{
    CHECK_STATUS(status, SPIKE_AUTH_STATUS_INTERNAL);
    CHECK_CONTAINS(err->message, "randomness");
    CHECK_CONTAINS(err->message, "getrandom");
    CHECK_EQ_INT(err->retryable, 0);
    CHECK_EQ_INT(err->attempts, 0);
}

static void check_no_client(const spike_auth_config *config)
{
    spike_auth_client *client = (void *)&client;
    spike_auth_error err;
    check_no_randomness(spike_auth_client_new(config, &client, &err), &err);
    CHECK(client == NULL);
}

static struct result get_token(const spike_auth_client *client, const char *user)
{
    struct result result;
    memset(&result, 0xA5, sizeof result);
    result.status = spike_auth_client_get_token(client, user, NUL_TERMINATED, NULL, result.token, sizeof result.token,
                                                &result.len, &result.err);
    check_result(&result);
    return result;
}

static void check_got(const struct result *result, const char *user)
{
    check_that(result->status == SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__, "%s: %s", user, result->err.message);
    CHECK(token_is_for(result->token, user));
}

/* ---- before there is a client ------------------------------------------------------------------------ */

struct start {
    int number;
    spike_auth_config *plain, *tls;
};

static void make_no_client(void *argument)
{
    const struct start *start = argument;
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    refuse_randomness(start->number, 1);
    for (int i = 0; i < 2; i++) { /* nothing of the first failure is kept that would change the second */
        check_no_client(start->plain);
        check_no_client(start->tls);
    }
    sign_for("alice", signature); /* which needs none */
}

static void make_a_client_from_the_file(void *argument)
{
    const struct start *start = argument;
    spike_auth_client *client;
    refuse_randomness(start->number, 0);
    client = client_of(start->plain);
    check_token(client, "alice");
    spike_auth_client_free(client);
    client = client_of(start->tls);
    check_token(client, "alice");
    spike_auth_client_free(client);
}

static void no_client_is_made_without_randomness(void)
{
    for (size_t i = 0; i < COUNT_OF(NUMBERS); i++) {
        struct start start = {NUMBERS[i], sandbox_config("http"), sandbox_config("https")};
        in_round("%s", strerror(NUMBERS[i]));
        check_child(make_no_client, &start);
        if (NUMBERS[i] != EACCES)
            check_child(make_a_client_from_the_file, &start);
        spike_auth_config_free(start.plain);
        spike_auth_config_free(start.tls);
    }
}

/* ---- under a client ----------------------------------------------------------------------------------- */

struct clients {
    int number;
    spike_auth_client *plain, *tls;
    spike_auth_config *config;
};

static void check_clients(const struct clients *clients)
{
    struct result result;
    int32_t status;
    /* Over http none is needed, not for the wait between two attempts either. */
    check_token(clients->plain, "alice");
    result = get_token(clients->plain, "bob");
    check_got(&result, "bob");
    status = spike_auth_client_invalidate(clients->plain, "bob", NUL_TERMINATED, result.token, result.len, NULL);
    CHECK_STATUS(status, SPIKE_AUTH_STATUS_OK);
    result = get_token(clients->plain, "bob"); /* the same token again */
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_TOKEN_REJECTED);
    result = get_token(clients->plain, "fault.status.503");
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_SERVER_ERROR);
    CHECK_EQ_INT(result.err.attempts, 2);
    /* A token that is kept needs none; a connection over TLS does. */
    result = get_token(clients->tls, "kept");
    check_got(&result, "kept");
    result = exchange(clients->tls, "alice");
    check_no_randomness(result.status, &result.err);
    result = get_token(clients->tls, "alice");
    check_no_randomness(result.status, &result.err);
    check_no_client(clients->config);
}

static void *check_clients_in_thread(void *argument)
{
    check_clients(argument);
    return NULL;
}

static void use_clients(void *argument)
{
    const struct clients *clients = argument;
    refuse_randomness(clients->number, 1);
    check_clients(clients);
}

static void use_clients_in_a_new_thread(void *argument)
{
    struct clients *clients = argument;
    pthread_t thread;
    refuse_randomness(clients->number, 1);
    REQUIRE(pthread_create(&thread, NULL, check_clients_in_thread, clients) == 0);
    pthread_join(thread, NULL);
}

/* The thread that forks never had any randomness itself. */
static void *use_clients_in_a_child_of_a_thread(void *clients)
{
    check_child(use_clients, clients);
    return NULL;
}

static spike_auth_client *client_with_retry(const char *place)
{
    spike_auth_config *config = sandbox_config(place);
    struct result result;
    spike_auth_client *client;
    CHECK_STATUS(spike_auth_config_set_max_attempts(config, 2, NULL), 0);
    client = client_of(config);
    result = get_token(client, "kept");
    check_got(&result, "kept");
    return client;
}

/* Each time in a child, which has none of its parent's connections and so makes its own. */
static void a_client_goes_on_as_far_as_it_can_when_randomness_is_refused(void)
{
    for (size_t i = 0; i < COUNT_OF(NUMBERS); i++) {
        struct clients clients = {NUMBERS[i], client_with_retry("http"), client_with_retry("https"),
                                  sandbox_config("https")};
        pthread_t thread;
        in_round("%s", strerror(NUMBERS[i]));
        check_child(use_clients, &clients);
        check_child(use_clients_in_a_new_thread, &clients);
        REQUIRE(pthread_create(&thread, NULL, use_clients_in_a_child_of_a_thread, &clients) == 0);
        pthread_join(thread, NULL);
        spike_auth_client_free(clients.plain);
        spike_auth_client_free(clients.tls);
        spike_auth_config_free(clients.config);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(no_client_is_made_without_randomness);
    RUN(a_client_goes_on_as_far_as_it_can_when_randomness_is_refused);
    return check_summary();
}
