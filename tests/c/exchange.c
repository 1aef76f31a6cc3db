/* Exchanges and call handles: buffers, what an error struct carries, and threads.
 * Against the sandbox.
 *
 * usage: exchange NAME=ADDRESS... [quick=1] [without_tls=1]; the checkers use quick.
 */
#define _GNU_SOURCE
#include "sandbox.h"

static int is_left_out(const char *place)
{
    return argument("without_tls") != NULL && strncmp(address(place), "https:", 6) == 0;
}

static spike_auth_call *new_call(uint32_t timeout_ms)
{
    spike_auth_call *call = NULL;
    REQUIRE(spike_auth_call_new(&call, NULL) == SPIKE_AUTH_STATUS_OK);
    REQUIRE(spike_auth_call_set_timeout_ms(call, timeout_ms, NULL) == SPIKE_AUTH_STATUS_OK);
    return call;
}

/* ---- exchanges --------------------------------------------------------------------------------------- */

static void one_handle_serves_many_calls_of_many_clients(void)
{
    static const char *const PLACES[] = {"http", "https", "tls12"};
    spike_auth_call *call = new_call(600000); /* the longest */
    for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
        spike_auth_client *client;
        if (is_left_out(PLACES[i]))
            continue;
        client = sandbox_client(PLACES[i]);
        in_round("%s", PLACES[i]);
        for (int k = 0; k < 5; k++) {
            struct result result = exchange_by(client, "bob.-_9", call);
            check_own(&result, "bob.-_9");
        }
        spike_auth_client_free(client);
    }
    spike_auth_call_free(call);
}

static void inputs_need_no_nul_and_the_longest_token_fits_exactly(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct buffer id = buffer_of_text(FENCED, "alice"), signature = buffer_fenced(SPIKE_AUTH_SIGNATURE_SIZE);
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_TOKEN_SIZE, SPIKE_AUTH_TOKEN_SIZE - 1);
    const char *user = (const char *)id.at;
    sign_for("alice", (char *)signature.at);
    memmove(signature.at + 1, signature.at, signature.size - 1); /* to the end of the page: no NUL follows */
    EXPECT_TEXT(OK, out, spike_auth_client_exchange(client, user, id.size, NULL, out.at, out.cap, &out.len, err));
    CHECK(token_is_for(out.at, "alice"));
    EXPECT_TEXT(OK, out,
                spike_auth_client_exchange_signature(client, user, id.size, (const char *)signature.at + 1,
                                                     signature.size - 1, NULL, out.at, out.cap, &out.len, err));
    CHECK(token_is_for(out.at, "alice"));
    EXPECT_TEXT(OK, out, spike_auth_client_exchange(client, "fault.max-token", NUL_TERMINATED, NULL, out.at, out.cap,
                                                    &out.len, err));
    CHECK_EQ_INT(out.len, SPIKE_AUTH_TOKEN_SIZE - 1);
    text_out_free(&out);
    buffer_free(&signature);
    buffer_free(&id);
    spike_auth_client_free(client);
}

static void nothing_is_sent_if_the_buffer_is_too_small(void)
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
    check_token(client, "alice"); /* the counter works */
    CHECK_EQ_INT(counter("requests"), requests + 1);
    spike_auth_client_free(client);
}

/* ---- what an error struct carries; the statuses of all faults are in tests/faults.rs ------------------ */

static void the_error_struct_holds_all_that_is_known_of_a_call(void)
{
    static const struct {
        const char *place, *user;
        int32_t status, http_status;
        uint32_t attempts, retryable;
        int64_t retry_after_ms;
    } ROWS[] = {
        {"http", "fault.status.500.x1", SPIKE_AUTH_STATUS_OK, 0, 2, 0, -1},
        {"http", "fault.status.422", SPIKE_AUTH_STATUS_REFUSED, 422, 1, 0, -1},
        {"http", "fault.status.500", SPIKE_AUTH_STATUS_SERVER_ERROR, 500, 2, 1, -1},
        {"https", "fault.status.429.and.retry-after.60", SPIKE_AUTH_STATUS_RATE_LIMITED, 429, 1, 1, 60000},
        {"https", "fault.no-token", SPIKE_AUTH_STATUS_INVALID_RESPONSE, 200, 1, 0, -1},
        {"https", "fault.close-mid-body", SPIKE_AUTH_STATUS_CONNECTION_LOST, 200, 2, 1, -1},
        {"http", "fault.endless-headers", SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE, 0, 1, 0, -1},
        {"refused", "alice", SPIKE_AUTH_STATUS_CONNECT, 0, 0, 1, -1},
        {"tls_faults.untrusted", "alice", SPIKE_AUTH_STATUS_TLS, 0, 0, 0, -1},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        spike_auth_config *config;
        spike_auth_client *client;
        struct result result;
        if (is_left_out(ROWS[i].place))
            continue;
        config = sandbox_config(ROWS[i].place);
        REQUIRE(spike_auth_config_set_max_attempts(config, 2, NULL) == 0);
        client = client_of(config);
        in_round("%s %s", ROWS[i].place, ROWS[i].user);
        result = exchange(client, ROWS[i].user);
        CHECK_STATUS(result.status, ROWS[i].status);
        CHECK_EQ_INT(result.err.http_status, ROWS[i].http_status);
        CHECK_EQ_INT(result.err.attempts, ROWS[i].attempts);
        CHECK_EQ_INT(result.err.retryable, ROWS[i].retryable);
        CHECK_EQ_INT(result.err.retry_after_ms, ROWS[i].retry_after_ms);
        spike_auth_client_free(client);
    }
}

/* ---- handles in threads ------------------------------------------------------------------------------ */

static void the_timeout_of_a_handle_ends_its_call(void)
{
    spike_auth_client *client = sandbox_client("silent");
    spike_auth_call *call = new_call(100);
    struct result result = exchange_by(client, "alice", call);
    CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_TIMEOUT);
    CHECK_EQ_INT(result.err.retryable, 1);
    CHECK(result.took_ms >= 99 && result.took_ms < 5000); /* the client's is ten seconds */
    spike_auth_call_free(call);
    spike_auth_client_free(client);
}

enum { CALLS = 64, CANCELLERS = 8 };

struct crowd {
    struct running calls[CALLS];
    int count;
    atomic_int is_over;
};

static void *cancel_often(void *argument)
{
    struct crowd *crowd = argument;
    while (!atomic_load(&crowd->is_over)) {
        for (int i = 0; i < crowd->count; i += 2)
            spike_auth_call_cancel(crowd->calls[i].call);
        sleep_ms(1);
    }
    return NULL;
}

/* Half of the calls end by a cancel only; the others must not be affected. */
static void many_threads_cancel_half_of_many_calls(void)
{
    static struct crowd crowd;
    spike_auth_config *config = sandbox_config("http");
    spike_auth_client *client;
    pthread_t cancellers[CANCELLERS];
    crowd.count = argument("quick") ? CALLS / 8 : CALLS;
    CHECK_STATUS(spike_auth_config_set_max_concurrency(config, (uint32_t)crowd.count * 3 / 4, NULL), 0); /* some wait */
    CHECK_STATUS(spike_auth_config_set_timeout_ms(config, 30000, NULL), 0);
    client = client_of(config);
    for (int i = 0; i < crowd.count; i++)
        start_exchange(&crowd.calls[i], client, i % 2 ? "fault.delay.300" : "fault.stall");
    sleep_ms(100);
    for (int i = 0; i < CANCELLERS; i++)
        REQUIRE(pthread_create(&cancellers[i], NULL, cancel_often, &crowd) == 0);
    for (int i = 0; i < crowd.count; i++)
        pthread_join(crowd.calls[i].thread, NULL);
    atomic_store(&crowd.is_over, 1);
    for (int i = 0; i < CANCELLERS; i++)
        pthread_join(cancellers[i], NULL);
    for (int i = 0; i < crowd.count; i++) {
        in_round("call %d", i);
        CHECK_STATUS(crowd.calls[i].result.status, i % 2 ? SPIKE_AUTH_STATUS_OK : SPIKE_AUTH_STATUS_CANCELLED);
        spike_auth_call_free(crowd.calls[i].call);
    }
    check_token(client, "alice");
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(one_handle_serves_many_calls_of_many_clients);
    RUN(inputs_need_no_nul_and_the_longest_token_fits_exactly);
    RUN(nothing_is_sent_if_the_buffer_is_too_small);
    RUN(the_error_struct_holds_all_that_is_known_of_a_call);
    RUN(the_timeout_of_a_handle_ends_its_call);
    RUN(many_threads_cancel_half_of_many_calls);
    return check_summary();
}
