/* The sandbox as a C program sees it: its addresses, counters and tokens, and calls to it. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include "check.h"

/* The program's arguments: NAME=VALUE for each address of the sandbox. */
static char **sandbox_arguments;

static inline const char *argument(const char *name)
{
    size_t len = strlen(name);
    for (char **at = sandbox_arguments; *at; at++)
        if (strncmp(*at, name, len) == 0 && (*at)[len] == '=')
            return *at + len + 1;
    return NULL;
}

static inline const char *address(const char *name)
{
    const char *value = argument(name);
    if (value == NULL)
        fprintf(stderr, "the argument %s=... is missing\n", name);
    REQUIRE(value != NULL);
    return value;
}

static const char *const SCHEMES[] = {"http", "https"};

/* ---- time ------------------------------------------------------------------------------------------ */

static inline double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static inline void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* ---- control and counters -------------------------------------------------------------------------- */

/* A request to {control}/name, without the library under test. The reply is cut to size - 1 bytes. */
static inline void ask_control(const char *method, const char *name, const char *body, char *reply, size_t size)
{
    char host[64], path[64], request[600];
    unsigned port;
    size_t used = 0;
    ssize_t got;
    struct sockaddr_in to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(sscanf(address("control"), "http://%63[^:]:%u%63s", host, &port, path) == 3);
    to.sin_port = htons((uint16_t)port);
    REQUIRE(inet_pton(AF_INET, host, &to.sin_addr) == 1);
    REQUIRE(connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    snprintf(request, sizeof request,
             "%s %s/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n%s", method, path, name, host, strlen(body), body);
    REQUIRE(send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request));
    while (used + 1 < size && (got = recv(fd, reply + used, size - 1 - used, 0)) > 0)
        used += (size_t)got;
    reply[used] = 0;
    close(fd);
}

/* POST {control}/name, which must succeed. */
static inline void control(const char *name, const char *body)
{
    char reply[256];
    ask_control("POST", name, body, reply, sizeof reply);
    REQUIRE(strlen(reply) > 12 && reply[9] == '2');
}

/* The sandbox's key from now on. It refuses signatures by the one before, unless that is kept. */
static inline void set_sandbox_key(const char *key, int keeps_old)
{
    char body[256];
    snprintf(body, sizeof body, "{\"hmac_key\":\"%s\",\"keep_old\":%s}", key, keeps_old ? "true" : "false");
    control("key", body);
}

/* The sandbox's count of this name, or -1. */
static inline long find_counter(const char *name)
{
    enum { SIZE = 1 << 20 };
    char *reply = malloc(SIZE); /* static thread-local memory would be a part of a stack that may be small */
    char member[160];
    const char *found;
    long count;
    REQUIRE(reply != NULL);
    ask_control("GET", "counters", "", reply, SIZE);
    snprintf(member, sizeof member, "\"%s\":", name);
    found = strstr(reply, member);
    count = found ? strtol(found + strlen(member), NULL, 10) : -1;
    free(reply);
    return count;
}

static inline long counter(const char *name)
{
    long count = find_counter(name);
    REQUIRE(count >= 0);
    return count;
}

/* The number of requests for a user. */
static inline long requests_for(const char *user)
{
    long count = find_counter(user);
    return count < 0 ? 0 : count;
}

static inline void wait_until_in_flight(long calls)
{
    while (counter("in_flight") != calls)
        sleep_ms(1);
}

/* ---- tokens ---------------------------------------------------------------------------------------- */

static inline int base64url_value(char digit)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *at = digit ? strchr(DIGITS, digit) : NULL;
    return at ? (int)(at - DIGITS) : -1;
}

/* Whether the token's claims name this user. The sandbox's tokens are JWTs with "iss" and "sub". */
static inline int token_is_for(const char *token, const char *user)
{
    char claims[1024], subject[256];
    const char *at = strchr(token, '.');
    unsigned bits = 0;
    int count = 0;
    size_t len = 0;
    for (at = at ? at + 1 : ""; base64url_value(*at) >= 0 && len + 1 < sizeof claims; at++) {
        bits = bits << 6 | (unsigned)base64url_value(*at);
        count += 6;
        if (count >= 8) {
            count -= 8;
            claims[len++] = (char)(bits >> count & 255);
        }
    }
    claims[len] = 0;
    snprintf(subject, sizeof subject, "\"sub\":\"%s\"", user);
    return strstr(claims, subject) != NULL;
}

/* ---- clients --------------------------------------------------------------------------------------- */

static inline size_t read_file(const char *path, char *into, size_t size)
{
    FILE *file = fopen(path, "re");
    size_t len;
    REQUIRE(file != NULL);
    len = fread(into, 1, size, file);
    fclose(file);
    REQUIRE(len > 0 && len < size);
    return len;
}

static inline void trust_the_sandbox(spike_auth_config *config)
{
    static char pem[65536];
    size_t len = read_file(address("ca_file"), pem, sizeof pem);
    REQUIRE(spike_auth_config_set_ca_pem(config, pem, len, NULL) == 0);
    REQUIRE(spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_NONE, NULL) == 0);
}

static inline spike_auth_config *sandbox_config(const char *place)
{
    spike_auth_config *config = new_config(address(place));
    trust_the_sandbox(config);
    return config;
}

static inline spike_auth_client *sandbox_client(const char *place)
{
    return client_of(sandbox_config(place));
}

/* ---- calls ----------------------------------------------------------------------------------------- */

struct result {
    int32_t status;
    char token[SPIKE_AUTH_AUTHORIZATION_SIZE];
    size_t len;
    spike_auth_error err;
    double took_ms;
};

static inline void check_result(const struct result *result)
{
    check_error_is_whole(&result->err, result->status, __FILE__, __LINE__);
    CHECK_EQ_INT(strlen(result->token), result->len);
    CHECK((result->status == SPIKE_AUTH_STATUS_OK) == (result->len > 0));
}

static inline struct result make_call(text_call *make, const spike_auth_client *client, const char *user,
                                      const spike_auth_call *call)
{
    struct result result;
    double start = now_ms();
    memset(&result, 0xA5, sizeof result);
    result.status = make(client, user, NUL_TERMINATED, call, result.token, sizeof result.token, &result.len,
                         &result.err);
    result.took_ms = now_ms() - start;
    check_result(&result);
    return result;
}

static inline struct result exchange_by(const spike_auth_client *client, const char *user, const spike_auth_call *call)
{
    return make_call(spike_auth_client_exchange, client, user, call);
}

static inline struct result exchange(const spike_auth_client *client, const char *user)
{
    return exchange_by(client, user, NULL);
}

/* The result must be this user's token. */
static inline void check_own(const struct result *result, const char *user)
{
    check_that(result->status == SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__, "%s: %s", user, result->err.message);
    check_that(token_is_for(result->token, user), __FILE__, __LINE__, "not the token of %s", user);
}

static inline void check_token(const spike_auth_client *client, const char *user)
{
    struct result result = exchange(client, user);
    check_own(&result, user);
}

static inline void sign_for(const char *user, char *signature)
{
    size_t len, cap = SPIKE_AUTH_SIGNATURE_SIZE;
    REQUIRE(spike_auth_sign_user(KEY, KEY_LEN, user, NUL_TERMINATED, signature, cap, &len, NULL) == 0);
}

/* A call in a thread of its own, with a handle of its own. */
struct running {
    text_call *make;
    spike_auth_client *client;
    spike_auth_call *call;
    char user[129];
    struct result result;
    atomic_int is_over;
    pthread_t thread;
};

static inline void *run(void *argument)
{
    struct running *running = argument;
    running->result = make_call(running->make, running->client, running->user, running->call);
    atomic_store(&running->is_over, 1);
    return NULL;
}

static inline void start(struct running *running, text_call *make, spike_auth_client *client, const char *user)
{
    running->make = make;
    running->client = client;
    snprintf(running->user, sizeof running->user, "%s", user);
    atomic_store(&running->is_over, 0);
    REQUIRE(spike_auth_call_new(&running->call, NULL) == SPIKE_AUTH_STATUS_OK);
    REQUIRE(pthread_create(&running->thread, NULL, run, running) == 0);
}

static inline void start_exchange(struct running *running, spike_auth_client *client, const char *user)
{
    start(running, spike_auth_client_exchange, client, user);
}

static inline void finish(struct running *running)
{
    pthread_join(running->thread, NULL);
    spike_auth_call_free(running->call);
}

static inline void finish_with(struct running *running, int32_t expected)
{
    finish(running);
    CHECK_STATUS(running->result.status, expected);
    if (expected == SPIKE_AUTH_STATUS_OK)
        check_own(&running->result, running->user);
}

static inline int count_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

#endif
