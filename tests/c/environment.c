/* spike_auth_config_load_env: all or nothing, and every complaint names its variable.
 *
 * Runs in an empty directory that it may write to, with no SPIKE_* variable set.
 */
#define _GNU_SOURCE
#include "check.h"

#include <sys/stat.h>

#define KNOWN_SIGNATURE "a8c179bdf15ce1c5e2beab8e4700d0ac66e62b8880870164d9fe2dd0025622f3" /* of "a" */

static const char *const VARIABLES[] = {"SPIKE_APPLICATION_ID", "SPIKE_HMAC_KEY", "SPIKE_HMAC_KEY_FILE",
                                        "SPIKE_API_BASE_URL", "SPIKE_TIMEOUT_MS", "SPIKE_CA_FILE"};

static void clear_environment(void)
{
    for (size_t i = 0; i < COUNT_OF(VARIABLES); i++)
        unsetenv(VARIABLES[i]);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    FILE *file = fopen(name, "w");
    REQUIRE(file != NULL);
    fputs(text, file);
    fclose(file);
    REQUIRE(chmod(name, mode) == 0);
}

/* What a client of the environment alone signs "a" with; empty if there is no such client. */
static void sign_by_environment(char *signature)
{
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    spike_auth_error err;
    size_t len;
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    CHECK_STATUS(spike_auth_config_load_env(config, &err), 0);
    check_error_is_whole(&err, 0, __FILE__, __LINE__);
    client = client_of(config);
    CHECK_STATUS(spike_auth_client_sign_user(client, "a", 1, signature, SPIKE_AUTH_SIGNATURE_SIZE, &len, NULL), 0);
    spike_auth_client_free(client);
}

static void an_empty_environment_changes_nothing(void)
{
    spike_auth_config *config = new_config("http://127.0.0.1:1");
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    spike_auth_client *client;
    EXPECT(OK, spike_auth_config_load_env(config, err));
    EXPECT(NULL_POINTER, spike_auth_config_load_env(NULL, err));
    client = client_of(config);
    CHECK_STATUS(spike_auth_client_sign_user(client, "a", 1, signature, sizeof signature, &len, NULL), 0);
    CHECK_STR(signature, KNOWN_SIGNATURE);
    spike_auth_client_free(client);
}

static void the_key_comes_from_the_variable_or_from_its_file(void)
{
    static const char *const CONTENTS[] = {KEY_TEXT, KEY_TEXT "\n", KEY_TEXT "\r\n"};
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    setenv("SPIKE_APPLICATION_ID", APPLICATION_ID, 1);
    setenv("SPIKE_API_BASE_URL", "http://localhost:1/v3/", 1);
    setenv("SPIKE_TIMEOUT_MS", "1500", 1);
    setenv("SPIKE_HMAC_KEY", KEY_TEXT, 1);
    sign_by_environment(signature);
    CHECK_STR(signature, KNOWN_SIGNATURE);
    unsetenv("SPIKE_HMAC_KEY");
    setenv("SPIKE_HMAC_KEY_FILE", "key", 1);
    for (size_t i = 0; i < COUNT_OF(CONTENTS); i++) {
        write_file("key", CONTENTS[i], 0600);
        sign_by_environment(signature);
        CHECK_STR(signature, KNOWN_SIGNATURE);
    }
}

/* Loads a good application id and one bad variable: the second must be named, the first not be set. */
static void check_bad(const char *variable, const char *value, int32_t expected)
{
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    spike_auth_error *err = poisoned_error(0);
    in_round("%s=%.40s", variable, value);
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    CHECK_STATUS(spike_auth_config_set_base_url(config, "http://127.0.0.1:1", NUL_TERMINATED, NULL), 0);
    setenv("SPIKE_APPLICATION_ID", APPLICATION_ID, 1);
    setenv(variable, value, 1);
    CHECK_STATUS(spike_auth_config_load_env(config, err), expected);
    check_error_is_whole(err, expected, __FILE__, __LINE__);
    CHECK_CONTAINS(err->message, variable);
    CHECK_LACKS(err->message, "s3cret");
    CHECK_STATUS(spike_auth_client_new(config, &client, NULL), SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG);
    spike_auth_config_free(config);
    clear_environment();
}

static void a_bad_value_is_named_and_nothing_is_changed(void)
{
    static char long_key[5000];
    memset(long_key, 'k', sizeof long_key - 1);
    for (size_t i = 0; i < COUNT_OF(VARIABLES); i++) /* set and empty is bad too */
        check_bad(VARIABLES[i], "", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_APPLICATION_ID", "99 99", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_HMAC_KEY", long_key, SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_API_BASE_URL", "http://example.com", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_API_BASE_URL", "https://user:s3cret@example.com", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_TIMEOUT_MS", "-1", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_TIMEOUT_MS", "+1", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_TIMEOUT_MS", "1.5", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_TIMEOUT_MS", "600001", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_TIMEOUT_MS", "99999999999999999999", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
}

static void a_bad_file_is_named_and_nothing_is_changed(void)
{
    write_file("open-key", "s3cret", 0660);
    write_file("empty", "", 0600);
    REQUIRE(mkfifo("pipe", 0600) == 0);
    check_bad("SPIKE_HMAC_KEY_FILE", "no-such-file", SPIKE_AUTH_STATUS_FILE);
    check_bad("SPIKE_HMAC_KEY_FILE", ".", SPIKE_AUTH_STATUS_FILE);
    check_bad("SPIKE_HMAC_KEY_FILE", "/dev/zero", SPIKE_AUTH_STATUS_FILE);
    check_bad("SPIKE_HMAC_KEY_FILE", "pipe", SPIKE_AUTH_STATUS_FILE); /* must not block */
    check_bad("SPIKE_HMAC_KEY_FILE", "open-key", SPIKE_AUTH_STATUS_FILE);
    check_bad("SPIKE_HMAC_KEY_FILE", "empty", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_CA_FILE", "no-such-file", SPIKE_AUTH_STATUS_FILE);
    check_bad("SPIKE_CA_FILE", "empty", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
}

static void two_keys_are_one_too_many(void)
{
    write_file("key", KEY_TEXT, 0600);
    setenv("SPIKE_HMAC_KEY_FILE", "key", 1);
    check_bad("SPIKE_HMAC_KEY", KEY_TEXT, SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
}

/* What is wrong with a proxy is said by the function that would use it. */
static void a_bad_proxy_is_the_clients_failure_and_only_where_it_is_used(void)
{
    spike_auth_config *config = new_config("https://example.com");
    spike_auth_client *client = NULL;
    spike_auth_error *failure = poisoned_error(0);
    CHECK_STATUS(spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_BUNDLED, NULL), 0);
    setenv("all_proxy", "socks5h://user:s3cret@127.0.0.1:1080", 1);
    EXPECT(OK, spike_auth_config_load_env(config, err));
    unsetenv("all_proxy");
    memset(&client, 0xA5, sizeof client);
    CHECK_STATUS(spike_auth_client_new(config, &client, failure), SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_error_is_whole(failure, SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT, __FILE__, __LINE__);
    CHECK(client == NULL);
    CHECK_CONTAINS(failure->message, "all_proxy");
    CHECK_LACKS(failure->message, "s3cret");
    CHECK_STATUS(spike_auth_config_set_proxy(config, "", 0, NULL), 0);
    spike_auth_client_free(client_of(config));
}

/* No variable of ours, but read all the same: the platform's name for its trusted roots. */
static void a_store_of_roots_that_is_named_and_not_there_makes_no_client(void)
{
    spike_auth_config *config = new_config("https://example.com");
    spike_auth_client *client = NULL;
    setenv("SSL_CERT_FILE", "no-such-file", 1);
    EXPECT_AROUND(TLS_ROOTS, spike_auth_client_new(config, &client, err), memset(&client, 0xA5, sizeof client),
                  CHECK(client == NULL));
    CHECK_STATUS(spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_BUNDLED, NULL), 0);
    spike_auth_client_free(client_of(config)); /* does not look there */
    unsetenv("SSL_CERT_FILE");
}

int main(void)
{
    clear_environment();
    RUN(a_store_of_roots_that_is_named_and_not_there_makes_no_client);
    RUN(an_empty_environment_changes_nothing);
    RUN(the_key_comes_from_the_variable_or_from_its_file);
    clear_environment();
    RUN(a_bad_value_is_named_and_nothing_is_changed);
    RUN(a_bad_file_is_named_and_nothing_is_changed);
    RUN(two_keys_are_one_too_many);
    RUN(a_bad_proxy_is_the_clients_failure_and_only_where_it_is_used);
    return check_summary();
}
