/* A process with few file descriptors left: what fails for the lack of one says so, is retryable, and
 * works once there are enough. Names are looked up by the C library's resolver. Against the sandbox.
 *
 * usage: descriptor_limit NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "children.h"
#include "replace.h"

#include <sys/resource.h>

enum { LIMIT = 128, LEFT_MAX = 12 };

/* ---- names ------------------------------------------------------------------------------------------- */

#define HERE "here.example"
#define ALSO_HERE "also-here.example"
#define GONE "gone.example"

REPLACE(getaddrinfo)

/* Any name is looked up as "localhost", which takes a descriptor and
 * no network. HERE is there; ALSO_HERE too, but a failure leaves no errno, as in some resolver modules;
 * GONE is not found. */
int REPLACED(getaddrinfo)(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int code = real_getaddrinfo()("localhost", service, hints, found);
    if (strcmp(node, HERE) == 0)
        return code;
    errno = 0;
    if (strcmp(node, ALSO_HERE) == 0 || code != 0)
        return code;
    freeaddrinfo(*found);
    return EAI_NONAME;
}

/* ---- descriptors ------------------------------------------------------------------------------------- */

static int taken[LIMIT];
static int taken_count;

static void leave_descriptors(int left)
{
    struct rlimit limit = {LIMIT, LIMIT};
    int fd;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while ((fd = dup(STDERR_FILENO)) >= 0)
        taken[taken_count++] = fd;
    REQUIRE(errno == EMFILE && taken_count > left);
    for (int i = 0; i < left; i++)
        close(taken[--taken_count]);
}

static void give_descriptors_back(void)
{
    while (taken_count > 0)
        close(taken[--taken_count]);
}

/* ---- trials ------------------------------------------------------------------------------------------ */

/* A trial with `left` descriptors. `enough` is shared memory, for the parent. */
struct trial {
    int left;
    const spike_auth_client *client;
    const spike_auth_config *config;
    int32_t *enough; /* [LEFT_MAX + 1] */
};

static void check_lack(int32_t status, const spike_auth_error *err)
{
    CHECK_STATUS(status, SPIKE_AUTH_STATUS_INTERNAL);
    CHECK_CONTAINS(err->message, "os error 24");
    CHECK_CONTAINS(err->message, "RLIMIT_NOFILE");
    CHECK_EQ_INT(err->retryable, 1);
    CHECK_EQ_INT(err->attempts, 0);
}

/* Runs `body` with each number of descriptors left: too few at first, enough at the end. */
static void try_each_number(void (*body)(void *), const spike_auth_client *client, const spike_auth_config *config)
{
    size_t size = (LEFT_MAX + 1) * sizeof(int32_t);
    int32_t *enough = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(enough != MAP_FAILED);
    for (int left = 0; left <= LEFT_MAX; left++) {
        struct trial trial = {left, client, config, enough};
        in_round("%d left", left);
        check_child(body, &trial);
        CHECK(left == 0 || enough[left] >= enough[left - 1]);
    }
    CHECK_EQ_INT(enough[0], 0);
    CHECK_EQ_INT(enough[LEFT_MAX], 1);
    munmap(enough, size);
}

static void get_a_token(void *argument)
{
    const struct trial *trial = argument;
    struct result result;
    leave_descriptors(trial->left);
    result = exchange(trial->client, "alice");
    trial->enough[trial->left] = result.status == SPIKE_AUTH_STATUS_OK;
    if (result.status != SPIKE_AUTH_STATUS_OK)
        check_lack(result.status, &result.err);
    give_descriptors_back();
    check_token(trial->client, "alice");
}

static void a_name_is_found_with_enough_descriptors(void)
{
    static const char *const NAMES[] = {HERE, ALSO_HERE};
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        spike_auth_client *client = client_of(config_through_proxy_at(NAMES[i]));
        try_each_number(get_a_token, client, NULL);
        spike_auth_client_free(client);
    }
}

static void a_connection_is_made_with_enough_descriptors(void)
{
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        spike_auth_client *client = sandbox_client(SCHEMES[i]);
        try_each_number(get_a_token, client, NULL);
        spike_auth_client_free(client);
    }
}

static void look_up_a_missing_name(void *argument)
{
    const struct trial *trial = argument;
    struct result result;
    leave_descriptors(trial->left);
    result = exchange(trial->client, "alice");
    trial->enough[trial->left] = result.status == SPIKE_AUTH_STATUS_RESOLVE;
    if (result.status != SPIKE_AUTH_STATUS_RESOLVE)
        check_lack(result.status, &result.err);
    give_descriptors_back();
    result = exchange(trial->client, "alice");
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_RESOLVE);
    CHECK_EQ_INT(result.err.retryable, 0);
}

static void a_missing_name_is_reported_with_enough_descriptors(void)
{
    spike_auth_client *client = client_of(new_config("https://" GONE "/v3"));
    try_each_number(look_up_a_missing_name, client, NULL);
    spike_auth_client_free(client);
}

/* Reads the platform's roots, which the runner sets to the sandbox's CA. */
static void make_a_client(void *argument)
{
    const struct trial *trial = argument;
    spike_auth_client *client;
    spike_auth_error err;
    int32_t status;
    leave_descriptors(trial->left);
    status = spike_auth_client_new(trial->config, &client, &err);
    trial->enough[trial->left] = status == SPIKE_AUTH_STATUS_OK;
    if (status != SPIKE_AUTH_STATUS_OK) {
        CHECK_STATUS(status, SPIKE_AUTH_STATUS_TLS_ROOTS);
        CHECK_CONTAINS(err.message, "os error 24");
    }
    spike_auth_client_free(client);
    give_descriptors_back();
    REQUIRE(spike_auth_client_new(trial->config, &client, &err) == 0);
    check_token(client, "alice");
    spike_auth_client_free(client);
}

static void roots_are_read_with_enough_descriptors(void)
{
    spike_auth_config *config = new_config(address("https"));
    try_each_number(make_a_client, NULL, config);
    spike_auth_config_free(config);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(roots_are_read_with_enough_descriptors);
    RUN(a_connection_is_made_with_enough_descriptors);
    RUN(a_name_is_found_with_enough_descriptors);
    RUN(a_missing_name_is_reported_with_enough_descriptors);
    return check_summary();
}
