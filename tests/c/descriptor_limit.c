/* A process that has hardly a file descriptor left: whatever fails for want of one says so, may be tried again, and
 * works once there are enough. Names are looked up by the C library's own resolver. Against the sandbox.
 *
 * usage: descriptor_limit NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "children.h"
#include "sandbox.h"

#include <dlfcn.h>
#include <netdb.h>
#include <sys/resource.h>

enum { LIMIT = 128, LEFT_MAX = 12 };

/* ---- names ------------------------------------------------------------------------------------------- */

#define HERE "here.example"
#define ALSO_HERE "also-here.example"
#define GONE "gone.example"

/* Takes the place of the C library's, which looks for "localhost" in its tables as for any name: that takes a
 * descriptor, and no network. HERE is where that is; ALSO_HERE too, but a failure leaves no errno, as in modules of
 * the resolver; GONE is nowhere. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    int code;
    memcpy(&real, &symbol, sizeof real);
    code = real("localhost", service, hints, found);
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

/* ---- what is looked for ------------------------------------------------------------------------------ */

/* How a trial with so many descriptors ended, for its parent: in memory that both share. */
struct trial {
    int left;
    const spike_auth_client *client;
    const spike_auth_config *config;
    int32_t *enough; /* [LEFT_MAX + 1]: whether they were enough */
};

static void check_lack(int32_t status, const spike_auth_error *err)
{
    CHECK_STATUS(status, SPIKE_AUTH_STATUS_INTERNAL);
    CHECK_CONTAINS(err->message, "os error 24");
    CHECK_CONTAINS(err->message, "RLIMIT_NOFILE");
    CHECK_EQ_INT(err->retryable, 1);
    CHECK_EQ_INT(err->attempts, 0);
}

/* Runs `body` with each number of descriptors left. They must be too few at first and enough at the end. */
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

/* ---- the trials -------------------------------------------------------------------------------------- */

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

/* The sandbox's certificate bears no such name; its proxy needs none. */
static spike_auth_client *client_through_proxy_at(const char *host)
{
    spike_auth_config *config = sandbox_config("https");
    char proxy[64];
    unsigned port;
    REQUIRE(sscanf(address("proxy"), "http://127.0.0.1:%u", &port) == 1);
    snprintf(proxy, sizeof proxy, "http://%s:%u", host, port);
    REQUIRE(spike_auth_config_set_proxy(config, proxy, NUL_TERMINATED, NULL) == 0);
    return client_of(config);
}

static void a_name_is_found_once_there_are_enough(void)
{
    static const char *const NAMES[] = {HERE, ALSO_HERE};
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        spike_auth_client *client = client_through_proxy_at(NAMES[i]);
        try_each_number(get_a_token, client, NULL);
        spike_auth_client_free(client);
    }
}

static void an_address_is_connected_to_once_there_are_enough(void)
{
    static const char *const PLACES[] = {"http", "https"};
    for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
        spike_auth_client *client = sandbox_client(PLACES[i]);
        try_each_number(get_a_token, client, NULL);
        spike_auth_client_free(client);
    }
}

static void look_for_nobody(void *argument)
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

static void a_name_is_missed_once_there_are_enough(void)
{
    spike_auth_client *client = client_of(new_config("https://" GONE "/v3"));
    try_each_number(look_for_nobody, client, NULL);
    spike_auth_client_free(client);
}

/* Reads the platform's roots, which the runner points to the sandbox's CA. */
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

static void roots_are_read_once_there_are_enough(void)
{
    spike_auth_config *config = new_config(address("https"));
    try_each_number(make_a_client, NULL, config);
    spike_auth_config_free(config);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(roots_are_read_once_there_are_enough);
    RUN(an_address_is_connected_to_once_there_are_enough);
    RUN(a_name_is_found_once_there_are_enough);
    RUN(a_name_is_missed_once_there_are_enough);
    return check_summary();
}
