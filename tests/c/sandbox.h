/* What a program needs to talk to the sandbox: its addresses, its counters, its tokens. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include "check.h"

/* The arguments of the program: NAME=VALUE for each address of the sandbox's ready line. */
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

/* ---- counters -------------------------------------------------------------------------------------- */

/* GET {control}/counters, by hand: the library is what is being tested. */
static inline void get_counters(char *reply, size_t size)
{
    char host[64], path[64], request[256];
    unsigned port;
    size_t used = 0;
    ssize_t got;
    struct sockaddr_in to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(sscanf(address("control"), "http://%63[^:]:%u%63s", host, &port, path) == 3);
    to.sin_port = htons((uint16_t)port);
    REQUIRE(inet_pton(AF_INET, host, &to.sin_addr) == 1);
    REQUIRE(connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    snprintf(request, sizeof request, "GET %s/counters HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host);
    REQUIRE(send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request));
    while (used + 1 < size && (got = recv(fd, reply + used, size - 1 - used, 0)) > 0)
        used += (size_t)got;
    reply[used] = 0;
    close(fd);
}

static inline long counter(const char *name)
{
    enum { SIZE = 1 << 20 };
    char *reply = malloc(SIZE); /* a thread's own variables would be a part of its stack, which may be this small */
    char member[64];
    const char *found;
    long count;
    REQUIRE(reply != NULL);
    get_counters(reply, SIZE);
    snprintf(member, sizeof member, "\"%s\":", name);
    found = strstr(reply, member);
    REQUIRE(found != NULL);
    count = strtol(found + strlen(member), NULL, 10);
    free(reply);
    return count;
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

static inline void trust_the_sandbox(spike_auth_config *config)
{
    static char pem[65536];
    FILE *file = fopen(address("ca_file"), "re");
    size_t len;
    REQUIRE(file != NULL);
    len = fread(pem, 1, sizeof pem, file);
    fclose(file);
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

/* What an exchange has come to. */
struct result {
    int32_t status;
    char token[SPIKE_AUTH_TOKEN_SIZE];
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

static inline struct result exchange_with(const spike_auth_client *client, const char *user, spike_auth_call *call)
{
    struct result result;
    double start = now_ms();
    memset(&result, 0xA5, sizeof result);
    result.status = spike_auth_client_exchange(client, user, NUL_TERMINATED, call, result.token, sizeof result.token,
                                               &result.len, &result.err);
    result.took_ms = now_ms() - start;
    check_result(&result);
    return result;
}

static inline struct result exchange(const spike_auth_client *client, const char *user)
{
    return exchange_with(client, user, NULL);
}

static inline struct result exchange_signature(const spike_auth_client *client, const char *user, const char *signature)
{
    struct result result;
    memset(&result, 0xA5, sizeof result);
    result.status = spike_auth_client_exchange_signature(client, user, NUL_TERMINATED, signature, NUL_TERMINATED, NULL,
                                                         result.token, sizeof result.token, &result.len, &result.err);
    check_result(&result);
    return result;
}

static inline void check_token(const spike_auth_client *client, const char *user)
{
    struct result result = exchange(client, user);
    check_that(result.status == SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__, "%s: %s", user, result.err.message);
    check_that(token_is_for(result.token, user), __FILE__, __LINE__, "not the token of %s", user);
}

static inline void sign_for(const char *user, char *signature)
{
    size_t len, cap = SPIKE_AUTH_SIGNATURE_SIZE;
    REQUIRE(spike_auth_sign_user(KEY, KEY_LEN, user, NUL_TERMINATED, signature, cap, &len, NULL) == 0);
}

#endif
