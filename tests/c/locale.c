/* A host in a locale that is not UTF-8: the C library's texts are in its language and encoding, and the
 * library's messages are UTF-8 with the same status. Against the sandbox.
 *
 * usage: locale locale=NAME texts=DIRECTORY NAME=ADDRESS...; the locale is in LOCPATH.
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <libintl.h>
#include <locale.h>
#include <netdb.h>

#define GONE "gone.example"
#define FORBIDDEN "forbidden.example"

/* Replaces the C library's function, also for the library under test. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void)service, (void)hints, (void)found;
    errno = EACCES;
    return strcmp(node, FORBIDDEN) == 0 ? EAI_SYSTEM : EAI_NONAME;
}

/* The number of bytes that follow this one in a character; -1 if no character begins with it. */
static int bytes_to_follow(unsigned char first)
{
    if (first < 0x80)
        return 0;
    if (first < 0xC2 || first > 0xF4)
        return -1;
    return first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
}

static int is_utf8(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        int more = bytes_to_follow(*at++);
        if (more < 0)
            return 0;
        for (; more > 0; more--)
            if ((*at++ & 0xC0) != 0x80)
                return 0;
    }
    return 1;
}

static void check_failure(int32_t status, int32_t expected, const spike_auth_error *err, unsigned retryable)
{
    CHECK_STATUS(status, expected);
    CHECK_EQ_INT(err->retryable, retryable);
    check_that(is_utf8(err->message), __FILE__, __LINE__, "not UTF-8: %s", err->message);
}

static void the_locale_is_in_force(void)
{
    const char *name = setlocale(LC_ALL, argument("locale"));
    check_that(name != NULL, __FILE__, __LINE__, "there is no locale %s", argument("locale"));
    /* The C library's own domain too: so its texts are there on every machine. */
    REQUIRE(bindtextdomain("libc", argument("texts")) != NULL);
    CHECK(!is_utf8(gai_strerror(EAI_NONAME)));
    CHECK(!is_utf8(strerror(ECONNREFUSED)));
    CHECK(!is_utf8(strerror(ENOENT)));
    CHECK(is_utf8("\xc3\xbc") && !is_utf8("\xfc") && !is_utf8("\xc3"));
}

static void failed_lookups_are_reported_as_in_any_locale(void)
{
    static const struct {
        const char *url, *text;
        unsigned retryable;
    } NAMES[] = {
        {"https://" GONE "/v3", "there is no such host", 0},
        {"https://" FORBIDDEN "/v3", "(os error 13)", 1},
    };
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        spike_auth_client *client = client_of(new_config(NAMES[i].url));
        struct result result = exchange(client, "alice");
        in_round("%s", NAMES[i].url);
        check_failure(result.status, SPIKE_AUTH_STATUS_RESOLVE, &result.err, NAMES[i].retryable);
        CHECK_CONTAINS(result.err.message, NAMES[i].text);
        spike_auth_client_free(client);
    }
}

static void failed_connections_are_reported_in_utf8(void)
{
    static const struct {
        const char *place;
        int32_t status;
    } PLACES[] = {
        {"refused", SPIKE_AUTH_STATUS_CONNECT},
        {"cut_handshake", SPIKE_AUTH_STATUS_TLS},
    };
    for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
        spike_auth_client *client = sandbox_client(PLACES[i].place);
        struct result result = exchange(client, "alice");
        in_round("%s", PLACES[i].place);
        check_failure(result.status, PLACES[i].status, &result.err, 1);
        spike_auth_client_free(client);
    }
}

static void unreadable_files_are_reported_in_utf8(void)
{
    spike_auth_config *config = new_config(address("https"));
    spike_auth_client *client;
    spike_auth_error err;
    REQUIRE(setenv("SPIKE_CA_FILE", "/nowhere/ca.pem", 1) == 0);
    check_failure(spike_auth_config_load_env(config, &err), SPIKE_AUTH_STATUS_FILE, &err, 0);
    REQUIRE(unsetenv("SPIKE_CA_FILE") == 0);
    REQUIRE(setenv("SSL_CERT_FILE", "/nowhere/ca.pem", 1) == 0); /* and not the runner's */
    check_failure(spike_auth_client_new(config, &client, &err), SPIKE_AUTH_STATUS_TLS_ROOTS, &err, 0);
    REQUIRE(setenv("SSL_CERT_FILE", address("ca_file"), 1) == 0);
    spike_auth_config_free(config);
}

static void a_token_is_received_as_in_any_locale(void)
{
    spike_auth_client *client = sandbox_client("http");
    check_token(client, "alice");
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(the_locale_is_in_force);
    RUN(unreadable_files_are_reported_in_utf8);
    RUN(failed_lookups_are_reported_as_in_any_locale);
    RUN(failed_connections_are_reported_in_utf8);
    RUN(a_token_is_received_as_in_any_locale);
    return check_summary();
}
