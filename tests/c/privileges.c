/* A program with raised privileges takes nothing from its environment.
 *
 * usage: privileges NAME=ADDRESS... raised=0|1; SSL_CERT_FILE and SSL_CERT_DIR name the sandbox's CA,
 * and the SPIKE_* variables are complete. Exits with 77 if the kernel did not raise the privileges.
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <sys/auxv.h>

enum { NOT_AS_MEANT = 77 };

static int is_raised(void)
{
    return address("raised")[0] == '1';
}

static void its_settings_are_not_those_of_the_environment(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    spike_auth_error err;
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    if (is_raised()) {
        EXPECT(INVALID_ENVIRONMENT, spike_auth_config_load_env(config, err));
        CHECK_STATUS(spike_auth_config_load_env(config, &err), SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
        CHECK_CONTAINS(err.message, "raised privileges");
        CHECK_STATUS(spike_auth_client_new(config, &client, NULL), SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG);
    } else {
        EXPECT(OK, spike_auth_config_load_env(config, err));
        CHECK_STATUS(spike_auth_client_new(config, &client, NULL), 0);
    }
    spike_auth_client_free(client);
    spike_auth_config_free(config);
}

static void its_trusted_roots_are_not_those_of_the_environment(void)
{
    spike_auth_client *client = client_of(new_config(address("https")));
    struct result result = exchange(client, "alice");
    if (is_raised()) {
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_TLS);
        CHECK_CONTAINS(result.err.message, "trusted");
    } else {
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_OK);
    }
    spike_auth_client_free(client);
}

static void its_own_settings_are_used(void)
{
    spike_auth_client *client = sandbox_client("https");
    check_token(client, "alice");
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    if ((getauxval(AT_SECURE) != 0) != is_raised())
        return NOT_AS_MEANT;
    RUN(its_settings_are_not_those_of_the_environment);
    RUN(its_trusted_roots_are_not_those_of_the_environment);
    RUN(its_own_settings_are_used);
    return check_summary();
}
