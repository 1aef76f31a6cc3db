/* The exchange: tokens, and what each misbehaviour of a server comes to. Against the sandbox.
 *
 * usage: exchange NAME=ADDRESS... [quick=1] [without_tls=1]; quick leaves out most rows, for memcheck.
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <ctype.h>

static int is_quick(void)
{
    return argument("quick") != NULL;
}

static int is_left_out(const char *place)
{
    return argument("without_tls") != NULL && strncmp(address(place), "https:", 6) == 0;
}

/* ---- tokens ---------------------------------------------------------------------------------------- */

static void every_user_gets_a_token_over_http_and_https(void)
{
    static const char *const PLACES[] = {"http", "https", "tls12"};
    for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
        spike_auth_client *client;
        if (is_left_out(PLACES[i]))
            continue;
        client = sandbox_client(PLACES[i]);
        in_round("%s", PLACES[i]);
        check_token(client, "alice");
        check_token(client, "bob.-_9");
        spike_auth_client_free(client);
    }
}

/* The runner points SSL_CERT_FILE to the sandbox's CA. */
static void the_platforms_roots_are_those_of_ssl_cert_file(void)
{
    spike_auth_client *client = client_of(new_config(address("https")));
    check_token(client, "alice");
    spike_auth_client_free(client);
}

static void a_ca_that_is_not_given_is_not_trusted(void)
{
    spike_auth_config *config = new_config(address("https"));
    spike_auth_client *client;
    struct result result;
    CHECK_STATUS(spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_BUNDLED, NULL), 0);
    client = client_of(config);
    result = exchange(client, "alice");
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_TLS);
    spike_auth_client_free(client);
}

static void a_user_id_needs_no_nul_and_a_token_fits_exactly(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct buffer id = buffer_of_text(FENCED, "alice");
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_TOKEN_SIZE, SPIKE_AUTH_TOKEN_SIZE - 1);
    EXPECT_TEXT(OK, out,
                spike_auth_client_exchange(client, (char *)id.at, id.size, NULL, out.at, out.cap, &out.len, err));
    CHECK(token_is_for(out.at, "alice"));
    EXPECT_TEXT(OK, out, spike_auth_client_exchange(client, "fault.max-token", NUL_TERMINATED, NULL, out.at, out.cap,
                                                    &out.len, err));
    CHECK_EQ_INT(out.len, SPIKE_AUTH_TOKEN_SIZE - 1);
    text_out_free(&out);
    buffer_free(&id);
    spike_auth_client_free(client);
}

static void a_signature_made_elsewhere_is_exchanged_in_either_case(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *keyless;
    struct result result;
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    CHECK_STATUS(spike_auth_config_set_application_id(config, APPLICATION_ID, NUL_TERMINATED, NULL), 0);
    CHECK_STATUS(spike_auth_config_set_base_url(config, address("http"), NUL_TERMINATED, NULL), 0);
    keyless = client_of(config);
    sign_for("alice", signature);
    result = exchange_signature(keyless, "alice", signature);
    CHECK(result.status == 0 && token_is_for(result.token, "alice"));
    for (char *at = signature; *at; at++)
        *at = (char)toupper((unsigned char)*at);
    result = exchange_signature(keyless, "alice", signature);
    CHECK(result.status == 0 && token_is_for(result.token, "alice"));
    sign_for("bob", signature);
    result = exchange_signature(keyless, "alice", signature);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
    CHECK_EQ_INT(result.err.http_status, 401);
    spike_auth_client_free(keyless);
}

/* ---- nothing is sent ------------------------------------------------------------------------------- */

static void too_small_a_buffer_sends_nothing(void)
{
    spike_auth_client *client = sandbox_client("http");
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    long requests = counter("requests"), connections = counter("connections");
    static const size_t CAPS[] = {0, 1, 100, SPIKE_AUTH_TOKEN_SIZE - 1};
    sign_for("alice", signature);
    for (size_t i = 0; i < COUNT_OF(CAPS); i++) {
        struct text_out out = text_out_new(FENCED, CAPS[i], SPIKE_AUTH_TOKEN_SIZE - 1);
        in_round("capacity %zu", CAPS[i]);
        EXPECT_TEXT(BUFFER_TOO_SMALL, out,
                    spike_auth_client_exchange(client, "alice", 5, NULL, out.at, out.cap, &out.len, err));
        EXPECT_TEXT(BUFFER_TOO_SMALL, out,
                    spike_auth_client_exchange_signature(client, "alice", 5, signature, NUL_TERMINATED, NULL, out.at,
                                                         out.cap, &out.len, err));
        text_out_free(&out);
    }
    CHECK_EQ_INT(counter("requests"), requests);
    CHECK_EQ_INT(counter("connections"), connections);
    check_token(client, "alice"); /* the counter does count */
    CHECK_EQ_INT(counter("requests"), requests + 1);
    spike_auth_client_free(client);
}

static void bad_input_sends_nothing(void)
{
    static const char *const BAD_IDS[] = {"", " alice", "alice\n", "al/ice", "\xc3\xa9", "alice "};
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client = sandbox_client("http");
    long requests = counter("requests"), connections = counter("connections");
    for (size_t i = 0; i < COUNT_OF(BAD_IDS); i++)
        CHECK_STATUS(exchange(client, BAD_IDS[i]).status, SPIKE_AUTH_STATUS_INVALID_USER_ID);
    CHECK_STATUS(exchange_signature(client, "alice", "00").status, SPIKE_AUTH_STATUS_INVALID_SIGNATURE);
    CHECK_STATUS(spike_auth_config_set_hmac_key(config, KEY, 0, NULL), SPIKE_AUTH_STATUS_INVALID_KEY);
    CHECK_STATUS(spike_auth_config_set_base_url(config, "http://example.com", NUL_TERMINATED, NULL),
                 SPIKE_AUTH_STATUS_INVALID_URL);
    CHECK_STATUS(spike_auth_config_set_application_id(config, "", 0, NULL), SPIKE_AUTH_STATUS_INVALID_APPLICATION_ID);
    CHECK_STATUS(spike_auth_config_set_ca_pem(config, "nothing", 7, NULL), SPIKE_AUTH_STATUS_TLS_ROOTS);
    CHECK_EQ_INT(counter("requests"), requests);
    CHECK_EQ_INT(counter("connections"), connections);
    spike_auth_config_free(config);
    spike_auth_client_free(client);
}

/* ---- what each reply comes to ---------------------------------------------------------------------- */

struct row {
    const char *what; /* a fault, or an address of the sandbox */
    int32_t status;
    int32_t http_status;
    uint32_t retryable;
    int64_t retry_after_ms;
};

#define ROW(what, status, http_status, retryable) {what, SPIKE_AUTH_STATUS_##status, http_status, retryable, -1}
#define WAIT(what, status, http_status, ms) {what, SPIKE_AUTH_STATUS_##status, http_status, 1, ms}

static const struct row REPLIES[] = {
    ROW("status.400", REFUSED, 400, 0), ROW("status.404", REFUSED, 404, 0), ROW("status.405", REFUSED, 405, 0),
    ROW("status.413", REFUSED, 413, 0), ROW("status.415", REFUSED, 415, 0), ROW("status.422", REFUSED, 422, 0),
    ROW("status.401", UNAUTHORIZED, 401, 0), ROW("status.403", FORBIDDEN, 403, 0),
    ROW("status.429", RATE_LIMITED, 429, 1), ROW("status.408", SERVER_ERROR, 408, 1),
    ROW("status.425", SERVER_ERROR, 425, 1), ROW("status.500", SERVER_ERROR, 500, 1),
    ROW("status.502", SERVER_ERROR, 502, 1), ROW("status.503", SERVER_ERROR, 503, 1),
    ROW("status.504", SERVER_ERROR, 504, 1), ROW("status.501", SERVER_ERROR, 501, 0),
    ROW("status.599", SERVER_ERROR, 599, 0), ROW("status.201", UNEXPECTED_STATUS, 201, 0),
    ROW("status.204", UNEXPECTED_STATUS, 204, 0), ROW("status.301", UNEXPECTED_STATUS, 301, 0),
    ROW("status.302", UNEXPECTED_STATUS, 302, 0), ROW("status.307", UNEXPECTED_STATUS, 307, 0),
    ROW("status.418", UNEXPECTED_STATUS, 418, 0), WAIT("retry-after.7", SERVER_ERROR, 503, 7000),
    WAIT("status.429.and.retry-after.2", RATE_LIMITED, 429, 2000), ROW("html-error", SERVER_ERROR, 502, 1),
    ROW("problem-huge", REFUSED, 422, 0), ROW("problem-garbage", REFUSED, 422, 0),
    ROW("problem-control", REFUSED, 422, 0), ROW("html", INVALID_RESPONSE, 200, 0),
    ROW("empty", INVALID_RESPONSE, 200, 0), ROW("bad-json", INVALID_RESPONSE, 200, 0),
    ROW("no-token", INVALID_RESPONSE, 200, 0), ROW("null-token", INVALID_RESPONSE, 200, 0),
    ROW("empty-token", INVALID_RESPONSE, 200, 0), ROW("crlf-token", INVALID_RESPONSE, 200, 0),
    ROW("nul-token", INVALID_RESPONSE, 200, 0), ROW("duplicate-token", INVALID_RESPONSE, 200, 0),
    ROW("huge-token", INVALID_RESPONSE, 200, 0), ROW("garbage", INVALID_RESPONSE, 0, 0),
    ROW("bad-status-line", INVALID_RESPONSE, 0, 0), ROW("bad-header.nul", INVALID_RESPONSE, 0, 0),
    ROW("close-before", CONNECTION_LOST, 0, 1), ROW("close-mid-head", CONNECTION_LOST, 0, 1),
    ROW("close-mid-body", CONNECTION_LOST, 200, 1), ROW("reset-before", CONNECTION_LOST, 0, 1),
    ROW("reset-mid", CONNECTION_LOST, 200, 1), ROW("endless-headers", RESPONSE_TOO_LARGE, 0, 0),
    ROW("big-header", RESPONSE_TOO_LARGE, 0, 0), ROW("endless-body", RESPONSE_TOO_LARGE, 200, 0),
    ROW("huge-content-length", RESPONSE_TOO_LARGE, 200, 0),
};

static const struct row PLACES[] = {
    ROW("refused", CONNECT, 0, 1), ROW("cut_handshake", TLS, 0, 1),
    ROW("tls_faults.expired", TLS, 0, 0), ROW("tls_faults.not_yet_valid", TLS, 0, 0),
    ROW("tls_faults.wrong_host", TLS, 0, 0), ROW("tls_faults.self_signed", TLS, 0, 0),
    ROW("tls_faults.untrusted", TLS, 0, 0),
};

static void check_row(const struct row *row, const struct result *result)
{
    CHECK_STATUS(result->status, row->status);
    CHECK_EQ_INT(result->err.http_status, row->http_status);
    /* One request was sent, or none where no connection could be made. */
    CHECK(result->err.attempts == 1 || (result->err.attempts == 0 && result->err.http_status == 0));
    CHECK_EQ_INT(result->err.retryable, row->retryable);
    CHECK_EQ_INT(result->err.retry_after_ms, row->retry_after_ms);
}

static void every_reply_has_its_status(void)
{
    static const char *const SCHEMES[] = {"http", "https"};
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        spike_auth_client *client;
        if (is_left_out(SCHEMES[i]))
            continue;
        client = sandbox_client(SCHEMES[i]);
        for (size_t k = 0; k < COUNT_OF(REPLIES); k += is_quick() ? 8 : 1) {
            char user[129];
            struct result result;
            snprintf(user, sizeof user, "fault.%s", REPLIES[k].what);
            in_round("%s %s", SCHEMES[i], user);
            result = exchange(client, user);
            check_row(&REPLIES[k], &result);
            if (REPLIES[k].retry_after_ms > 0) { /* it holds the client */
                spike_auth_client_free(client);
                client = sandbox_client(SCHEMES[i]);
            }
        }
        spike_auth_client_free(client);
    }
    CHECK_EQ_INT(counter("followed_redirects"), 0);
}

static void every_unusable_place_has_its_status(void)
{
    for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
        spike_auth_client *client;
        struct result result;
        if (is_left_out(PLACES[i].what))
            continue;
        client = sandbox_client(PLACES[i].what);
        in_round("%s", PLACES[i].what);
        result = exchange(client, "alice");
        check_row(&PLACES[i], &result);
        spike_auth_client_free(client);
    }
}

/* Whether the reset comes before or after connect() is over is a matter of microseconds. */
static void a_reset_of_a_new_connection_is_a_failure_to_connect_or_a_loss(void)
{
    spike_auth_client *client = sandbox_client("reset");
    for (int i = 0; i < 10; i++) {
        struct result result = exchange(client, "alice");
        CHECK(result.status == SPIKE_AUTH_STATUS_CONNECT || result.status == SPIKE_AUTH_STATUS_CONNECTION_LOST);
        CHECK_EQ_INT(result.err.http_status, 0);
        CHECK(result.err.attempts <= 1);
        CHECK_EQ_INT(result.err.retryable, 1);
    }
    spike_auth_client_free(client);
}

/* The name ends in .invalid, which never exists; without any resolver it is not found either. */
static void a_host_that_does_not_exist_is_not_found(void)
{
    spike_auth_config *config = new_config("https://spike-auth.invalid/v3");
    spike_auth_client *client;
    struct result result;
    trust_the_sandbox(config);
    CHECK_STATUS(spike_auth_config_set_timeout_ms(config, 2000, NULL), 0);
    client = client_of(config);
    result = exchange(client, "alice");
    CHECK(result.status == SPIKE_AUTH_STATUS_RESOLVE || result.status == SPIKE_AUTH_STATUS_TIMEOUT);
    spike_auth_client_free(client);
}

/* ---- secrets --------------------------------------------------------------------------------------- */

static void no_message_shows_a_secret_whatever_the_server_echoes(void)
{
    static const char *const FAULTS[] = {"echo", "echo.400", "echo.403", "echo.422", "echo.500", "echo-ok"};
    spike_auth_client *client = sandbox_client("http");
    for (size_t i = 0; i < COUNT_OF(FAULTS); i++) {
        char user[129], signature[SPIKE_AUTH_SIGNATURE_SIZE];
        struct result result;
        snprintf(user, sizeof user, "fault.%s.my_application_user_123", FAULTS[i]);
        in_round("%s", user);
        sign_for(user, signature);
        result = exchange(client, user);
        CHECK(result.status != SPIKE_AUTH_STATUS_OK);
        CHECK_LACKS(result.err.message, KEY_TEXT);
        CHECK_LACKS(result.err.message, signature);
        CHECK_LACKS(result.err.message, user);
        CHECK_LACKS(result.err.message, "my_application_user_123");
        CHECK_LACKS(result.err.message, "compat-canary-"); /* the second credential */
        CHECK_LACKS(result.err.message, "eyJ");            /* what every token begins with */
    }
    spike_auth_client_free(client);
}

static void control_characters_do_not_reach_the_message(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct result result = exchange(client, "fault.problem-control");
    for (const char *at = result.err.message; *at; at++)
        CHECK(!iscntrl((unsigned char)*at));
    spike_auth_client_free(client);
}

/* ---- connections ----------------------------------------------------------------------------------- */

static void a_connection_is_used_again(void)
{
    spike_auth_client *client = sandbox_client(is_left_out("https") ? "http" : "https");
    long before = counter("connections");
    for (int i = 0; i < 10; i++)
        check_token(client, "alice");
    CHECK_EQ_INT(counter("connections"), before + 1);
    spike_auth_client_free(client);
}

static void a_connection_that_died_while_idle_is_replaced(void)
{
    static const char *const SCHEMES[] = {"http", "https"};
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        spike_auth_client *client;
        if (is_left_out(SCHEMES[i]))
            continue;
        client = sandbox_client(SCHEMES[i]);
        in_round("%s", SCHEMES[i]);
        for (int k = 0; k < 3; k++) {
            check_token(client, "fault.close-idle");
            sleep_ms(20);
            check_token(client, "alice");
        }
        spike_auth_client_free(client);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(every_user_gets_a_token_over_http_and_https);
    if (!is_left_out("https")) {
        RUN(the_platforms_roots_are_those_of_ssl_cert_file);
        RUN(a_ca_that_is_not_given_is_not_trusted);
        RUN(a_host_that_does_not_exist_is_not_found);
    }
    RUN(a_user_id_needs_no_nul_and_a_token_fits_exactly);
    RUN(a_signature_made_elsewhere_is_exchanged_in_either_case);
    RUN(too_small_a_buffer_sends_nothing);
    RUN(bad_input_sends_nothing);
    RUN(every_reply_has_its_status);
    RUN(every_unusable_place_has_its_status);
    RUN(a_reset_of_a_new_connection_is_a_failure_to_connect_or_a_loss);
    RUN(no_message_shows_a_secret_whatever_the_server_echoes);
    RUN(control_characters_do_not_reach_the_message);
    RUN(a_connection_is_used_again);
    RUN(a_connection_that_died_while_idle_is_replaced);
    return check_summary();
}
