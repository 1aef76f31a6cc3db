/* Reports of spike_auth_client_diagnose(): what they say, what they need, and what ends them.
 *
 * usage: diagnose NAME=ADDRESS... [quick=1]
 */
#define _GNU_SOURCE
#include "children.h"
#include "queue.h"

enum { THREADS = 16, QUICK_MS = 3000 };

static const char *const NAMES[] = {"settings", "key", "proxy", "resolve", "connect", "tls", "exchange", "clock", "store"};

struct report {
    int32_t status;
    char text[SPIKE_AUTH_REPORT_SIZE];
    size_t len;
    spike_auth_error err;
};

static struct report diagnose_by(const spike_auth_client *client, const char *user, const spike_auth_call *call)
{
    struct report report;
    memset(&report, 0xA5, sizeof report);
    report.status = spike_auth_client_diagnose(client, user, user ? NUL_TERMINATED : 0, call, report.text,
                                               sizeof report.text, &report.len, &report.err);
    check_error_is_whole(&report.err, report.status, __FILE__, __LINE__);
    CHECK_EQ_INT(strlen(report.text), report.len);
    return report;
}

/* The part of a report from one check to the next. */
static const char *check_of(const struct report *report, const char *name)
{
    static char part[SPIKE_AUTH_REPORT_SIZE];
    char start[60];
    const char *from, *to;
    snprintf(start, sizeof start, "{\"name\":\"%s\",\"status\":", name);
    from = strstr(report->text, start);
    if (from == NULL)
        return "";
    to = strstr(from + 1, "},{\"name\":\"");
    snprintf(part, sizeof part, "%.*s", (int)(to ? to - from : (long)strlen(from)), from);
    return part;
}

static void expect(const struct report *report, const char *name, const char *status, const char *says)
{
    const char *check = check_of(report, name);
    char start[100];
    snprintf(start, sizeof start, "{\"name\":\"%s\",\"status\":\"%s\"", name, status);
    check_that(strncmp(check, start, strlen(start)) == 0 && strstr(check, says) != NULL, __FILE__, __LINE__,
               "%s is not %s with \"%s\": %s", name, status, says, report->text);
}

/* ---- what it says -------------------------------------------------------------------------------------- */

static void all_is_well(void)
{
    spike_auth_client *client = sandbox_client("https");
    spike_auth_stats stats;
    struct report report = diagnose_by(client, "alice", NULL);
    const char *at = report.text;
    CHECK_EQ_INT(report.status, 0);
    CHECK(strstr(report.text, "\"ok\":true,\"cure\":null,") != NULL);
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        char start[60];
        snprintf(start, sizeof start, "{\"name\":\"%s\",\"status\":", NAMES[i]);
        at = strstr(at, start);
        REQUIRE(at != NULL);
    }
    expect(&report, "key", "ok", "\"length\":");
    expect(&report, "resolve", "ok", "\"addresses\":[\"127.0.0.1\"");
    expect(&report, "connect", "ok", "Connected to 127.0.0.1:");
    expect(&report, "tls", "ok", "TLS 1.3");
    expect(&report, "tls", "ok", "\"issuer\":\"Spike sandbox CA\",\"days_left\":");
    expect(&report, "tls", "ok", "\"roots\":1,\"roots_from\":\"the CA that was set\"");
    expect(&report, "exchange", "ok", "\"http_status\":200");
    expect(&report, "clock", "ok", "\"ahead_s\":");
    expect(&report, "store", "skipped", "No store is set.");
    CHECK(strstr(report.text, "alice") == NULL);
    CHECK_EQ_INT(requests_for("alice"), 1);
    REQUIRE(spike_auth_client_stats(client, &stats, NULL) == 0);
    CHECK_EQ_INT(stats.misses + stats.exchanges + stats.entries, 0);
    spike_auth_client_free(client);
}

static void without_a_user_nothing_is_sent(void)
{
    spike_auth_client *client = sandbox_client("http");
    long before = counter("requests");
    struct report report = diagnose_by(client, NULL, NULL);
    CHECK(strstr(report.text, "\"ok\":true") != NULL);
    expect(&report, "tls", "skipped", "plain http");
    expect(&report, "exchange", "skipped", "No user id was given.");
    CHECK_EQ_INT(diagnose_by(client, "", NULL).status, 0);
    CHECK_EQ_INT(counter("requests"), before);
    spike_auth_client_free(client);
}

/* Statuses, dates and headers of the service: what is wrong, and that a request is not repeated. */
static void replies_of_the_service(void)
{
    static const struct {
        const char *user, *check, *status, *says;
    } CASES[] = {
        {"fault.status.500", "exchange", "failed", "\"http_status\":500"},
        {"fault.status.401", "exchange", "failed", "Check the application id and the HMAC key"},
        {"fault.status.404", "exchange", "failed", "Check the base URL"},
        {"fault.status.418", "exchange", "failed", "\"http_status\":418"},
        {"fault.date-skew.86400", "clock", "failed", "behind the service's"},
        {"fault.date-skew.-86400", "clock", "failed", "ahead of the service's"},
        {"fault.date-skew.-200", "clock", "warning", "Correct this machine's clock"},
        {"fault.no-date", "clock", "skipped", "No reply with a date"},
        {"fault.date-garbage", "clock", "skipped", "No reply with a date"},
    };
    spike_auth_client *client = sandbox_client("http");
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct report report = diagnose_by(client, CASES[i].user, NULL);
        CHECK_EQ_INT(report.status, 0);
        expect(&report, CASES[i].check, CASES[i].status, CASES[i].says);
        CHECK((strcmp(CASES[i].status, "failed") == 0) == (strstr(report.text, "\"ok\":false,\"cure\":\"") != NULL));
        CHECK_EQ_INT(requests_for(CASES[i].user), 1);
    }
    spike_auth_client_free(client);
}

static void a_service_that_cannot_be_reached(void)
{
    spike_auth_config *config = new_config("https://127.0.0.1:1/v3");
    spike_auth_client *client = client_of(config);
    struct report report = diagnose_by(client, "alice", NULL);
    expect(&report, "resolve", "ok", "127.0.0.1");
    expect(&report, "connect", "failed", "Check the base URL");
    expect(&report, "tls", "skipped", "not reached");
    expect(&report, "exchange", "skipped", "not reached");
    expect(&report, "clock", "skipped", "No reply");
    CHECK(strstr(report.text, "\"ok\":false,\"cure\":\"Check the base URL") != NULL);
    spike_auth_client_free(client);
}

static void the_proxy(void)
{
    spike_auth_config *config = sandbox_config("https");
    spike_auth_client *client;
    struct report report;
    REQUIRE(spike_auth_config_set_proxy(config, address("proxy_refusing"), NUL_TERMINATED, NULL) == 0);
    client = client_of(config);
    report = diagnose_by(client, "alice", NULL);
    expect(&report, "proxy", "ok", "The program set it.");
    expect(&report, "connect", "failed", "The proxy refused with");
    spike_auth_client_free(client);
    config = sandbox_config("https");
    REQUIRE(spike_auth_config_set_proxy(config, address("proxy"), NUL_TERMINATED, NULL) == 0);
    client = client_of(config);
    report = diagnose_by(client, "alice", NULL);
    expect(&report, "connect", "ok", "made a tunnel to");
    expect(&report, "exchange", "ok", "");
    spike_auth_client_free(client);
}

static void a_key_that_looks_wrong_comes_first(void)
{
    spike_auth_client *client = sandbox_client("http");
    struct report report;
    REQUIRE(spike_auth_client_set_hmac_key(client, (const uint8_t *)"the wrong key\n", 14, NULL) == 0);
    report = diagnose_by(client, "alice", NULL);
    expect(&report, "key", "warning", "a newline is at its end");
    expect(&report, "exchange", "failed", "\"http_status\":401");
    CHECK(strstr(report.text, "\"ok\":false,\"cure\":\"Remove the newline at the end of the key (from set_hmac_key).\"") != NULL);
    spike_auth_client_free(client);
}

/* ---- arguments ------------------------------------------------------------------------------------------- */

static void bad_arguments(void)
{
    spike_auth_client *client = sandbox_client("http");
    long before = counter("requests");
    struct text_out out = text_out_new(GUARDED, SPIKE_AUTH_REPORT_SIZE - 1, SPIKE_AUTH_REPORT_SIZE - 1);
    check_outputs_are_required(spike_auth_client_diagnose, client, "alice");
    EXPECT_TEXT(BUFFER_TOO_SMALL, out, spike_auth_client_diagnose(client, "alice", 5, NULL, out.at, out.cap, &out.len, err));
    text_out_free(&out);
    out = text_out_new(GUARDED, SPIKE_AUTH_REPORT_SIZE, 0);
    EXPECT_TEXT(NULL_POINTER, out, spike_auth_client_diagnose(NULL, "alice", 5, NULL, out.at, out.cap, &out.len, err));
    EXPECT_TEXT(INVALID_USER_ID, out, spike_auth_client_diagnose(client, "not valid", 9, NULL, out.at, out.cap, &out.len, err));
    EXPECT_TEXT(INVALID_ARGUMENT, out,
                spike_auth_client_diagnose(client, "alice", (size_t)PTRDIFF_MAX + 1, NULL, out.at, out.cap, &out.len, err));
    text_out_free(&out);
    CHECK_EQ_INT(counter("requests"), before);
    spike_auth_client_free(client);
}

/* ---- what ends it ---------------------------------------------------------------------------------------- */

static void a_deadline_ends_it_with_a_report(void)
{
    spike_auth_client *client = sandbox_client("https");
    spike_auth_call *call = new_call();
    double start = now_ms();
    struct report report;
    REQUIRE(spike_auth_call_set_timeout_ms(call, 300, NULL) == 0);
    report = diagnose_by(client, "fault.delay.20000", call);
    CHECK_EQ_INT(report.status, 0);
    expect(&report, "tls", "ok", "");
    expect(&report, "exchange", "failed", "300 ms");
    expect(&report, "clock", "skipped", "No reply");
    CHECK(now_ms() - start < QUICK_MS);
    spike_auth_call_free(call);
    spike_auth_client_free(client);
}

static void *cancel_soon(void *call)
{
    wait_until_in_flight(1);
    spike_auth_call_cancel(call);
    return NULL;
}

static void it_can_be_cancelled_and_closed(void)
{
    spike_auth_client *client = sandbox_client("https");
    spike_auth_call *call = new_call();
    pthread_t thread;
    double start = now_ms();
    REQUIRE(pthread_create(&thread, NULL, cancel_soon, call) == 0);
    CHECK_EQ_INT(diagnose_by(client, "fault.delay.20000", call).status, SPIKE_AUTH_STATUS_CANCELLED);
    CHECK(now_ms() - start < QUICK_MS);
    pthread_join(thread, NULL);
    CHECK_EQ_INT(diagnose_by(client, "alice", call).status, SPIKE_AUTH_STATUS_CANCELLED);
    spike_auth_client_close(client);
    CHECK_EQ_INT(diagnose_by(client, "alice", NULL).status, SPIKE_AUTH_STATUS_CLOSED);
    spike_auth_call_free(call);
    spike_auth_client_free(client);
}

static void *diagnose_beside_others(void *client)
{
    for (int i = 0; i < 4; i++) {
        struct report report = diagnose_by(client, "alice", NULL);
        CHECK(strstr(report.text, "\"ok\":true") != NULL);
        check_token(client, "bob");
    }
    return NULL;
}

static void diagnose_in_a_child(void *client)
{
    diagnose_beside_others(client);
}

static void threads_and_children(void)
{
    spike_auth_client *client = sandbox_client("https");
    pthread_t threads[THREADS];
    int fds;
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, diagnose_beside_others, client) == 0);
    check_child(diagnose_in_a_child, client);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    fds = count_fds();
    diagnose_by(client, "alice", NULL);
    CHECK_EQ_INT(count_fds(), fds);
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    begin_children();
    RUN(all_is_well);
    RUN(without_a_user_nothing_is_sent);
    RUN(replies_of_the_service);
    RUN(a_service_that_cannot_be_reached);
    RUN(the_proxy);
    RUN(a_key_that_looks_wrong_comes_first);
    RUN(bad_arguments);
    RUN(a_deadline_ends_it_with_a_report);
    RUN(it_can_be_cancelled_and_closed);
    RUN(threads_and_children);
    return check_summary();
}
