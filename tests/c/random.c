/* A process without randomness: a filter refuses getrandom(2), and no file can be opened. What needs
 * none works; the rest fails with INTERNAL and a cure. Against the sandbox.
 *
 * usage: random NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "cache.h"
#include "children.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- the filter ------------------------------------------------------------------------------------ */

#define FAIL_WITH(number) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)(number) & SECCOMP_RET_DATA))
#define IF_CALL_IS(call, to) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), (to), 0)

/* From now on getrandom(2) fails with `number` in this thread and the threads that it makes. A filter
 * cannot read paths: to keep /dev/urandom out of reach, no file may be opened. */
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

/* After EPERM and ENOSYS a program tries /dev/urandom; after others it does not. */
static const int NUMBERS[] = {EPERM, ENOSYS, EACCES};

/* ---- failures ---------------------------------------------------------------------------------------- */

static void check_no_randomness(int32_t status, const spike_auth_error *err)
{
    CHECK_STATUS(status, SPIKE_AUTH_STATUS_INTERNAL);
    CHECK_CONTAINS(err->message, "random numbers");
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
    for (int i = 0; i < 2; i++) { /* the first failure does not affect the second */
        check_no_client(start->plain);
        check_no_client(start->tls);
    }
    sign_for("alice", signature); /* needs none */
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
    /* HTTP needs none, nor does the wait between two attempts. */
    check_token(clients->plain, "alice");
    result = get_own(clients->plain, "bob");
    CHECK_STATUS(report(clients->plain, "bob", result.token), SPIKE_AUTH_STATUS_OK);
    result = get(clients->plain, "bob"); /* the same token again */
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_TOKEN_REJECTED);
    result = get(clients->plain, "fault.status.503");
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_SERVER_ERROR);
    CHECK_EQ_INT(result.err.attempts, 2);
    /* A cached token needs none; a TLS connection does. */
    (void)get_own(clients->tls, "kept");
    result = exchange(clients->tls, "alice");
    check_no_randomness(result.status, &result.err);
    result = get(clients->tls, "alice");
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

/* The thread that forks never had randomness. */
static void *use_clients_in_a_child_of_a_thread(void *clients)
{
    check_child(use_clients, clients);
    return NULL;
}

static spike_auth_client *client_with_retry(const char *place)
{
    spike_auth_config *config = sandbox_config(place);
    spike_auth_client *client;
    CHECK_STATUS(spike_auth_config_set_max_attempts(config, 2, NULL), 0);
    client = client_of(config);
    (void)get_own(client, "kept");
    return client;
}

/* Each time in a child, which makes its own connections. */
static void a_client_continues_without_randomness_as_far_as_it_can(void)
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
    RUN(a_client_continues_without_randomness_as_far_as_it_can);
    return check_summary();
}
