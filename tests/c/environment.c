/* What the library reads from the process's environment: all or nothing, and an error names the
 * variable. The values that each variable takes are in src/config/environment.rs.
 *
 * Runs in an empty writable directory, without SPIKE_* variables.
 */
#define _GNU_SOURCE
#include "check.h"

#include <sys/stat.h>

/* Of "a". */
#define KNOWN_SIGNATURE "a8c179bdf15ce1c5e2beab8e4700d0ac66e62b8880870164d9fe2dd0025622f3"

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

/* Signs "a" with a client of this configuration, which must have the known key. */
static void check_signs(spike_auth_config *config)
{
    spike_auth_client *client = client_of(config);
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    CHECK_STATUS(spike_auth_client_sign_user(client, "a", 1, signature, sizeof signature, &len, NULL), 0);
    CHECK_STR(signature, KNOWN_SIGNATURE);
    spike_auth_client_free(client);
}

static void check_signs_by_the_environment(void)
{
    spike_auth_config *config = NULL;
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    EXPECT(OK, spike_auth_config_load_env(config, err));
    check_signs(config);
}

static void an_empty_environment_changes_nothing(void)
{
    spike_auth_config *config = new_config("http://127.0.0.1:1");
    EXPECT(OK, spike_auth_config_load_env(config, err));
    check_signs(config);
}

static void the_key_comes_from_the_variable_or_from_its_file(void)
{
    setenv("SPIKE_APPLICATION_ID", APPLICATION_ID, 1);
    setenv("SPIKE_API_BASE_URL", "http://localhost:1/v3/", 1);
    setenv("SPIKE_TIMEOUT_MS", "1500", 1);
    setenv("SPIKE_HMAC_KEY", KEY_TEXT, 1);
    check_signs_by_the_environment();
    unsetenv("SPIKE_HMAC_KEY");
    setenv("SPIKE_HMAC_KEY_FILE", "key", 1);
    write_file("key", KEY_TEXT "\n", 0600);
    check_signs_by_the_environment();
    clear_environment();
}

/* Loads a good application id and a bad variable: the error names the variable, and the id is not set. */
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

static void a_bad_value_is_named_and_changes_nothing(void)
{
    for (size_t i = 0; i < COUNT_OF(VARIABLES); i++) /* an empty value is bad too */
        check_bad(VARIABLES[i], "", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_API_BASE_URL", "https://user:s3cret@example.com", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_TIMEOUT_MS", "+1", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    check_bad("SPIKE_TIMEOUT_MS", "1.5", SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    write_file("open-key", "s3cret", 0660);
    check_bad("SPIKE_HMAC_KEY_FILE", "open-key", SPIKE_AUTH_STATUS_FILE);
    check_bad("SPIKE_HMAC_KEY_FILE", "/dev/zero", SPIKE_AUTH_STATUS_FILE);
    check_bad("SPIKE_CA_FILE", "no-such-file", SPIKE_AUTH_STATUS_FILE);
}

/* The function that would use a bad proxy fails. */
static void a_bad_proxy_makes_no_client_that_would_use_it(void)
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

/* The platform's variable for its trusted roots is read too. */
static void a_missing_store_of_roots_makes_no_client(void)
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
    RUN(a_missing_store_of_roots_makes_no_client);
    RUN(an_empty_environment_changes_nothing);
    RUN(the_key_comes_from_the_variable_or_from_its_file);
    RUN(a_bad_value_is_named_and_changes_nothing);
    RUN(a_bad_proxy_makes_no_client_that_would_use_it);
    return check_summary();
}
