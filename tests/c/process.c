/* What the library does to its host process: time, threads, signals, descriptors. Against the sandbox.
 *
 * usage: process NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

/* A busy machine may be late by itself: a limit holds if one of so many tries keeps it. A library
 * that breaks it does so every time. */
enum { TRIES = 4 };

/* ---- deadlines ------------------------------------------------------------------------------------- */

enum { DEADLINE_MS = 300, GRACE_MS = 200 };

static const struct slow {
    const char *place;
    const char *user;
    int32_t status;
} SLOW[] = {
    {"full", "alice", SPIKE_AUTH_STATUS_TIMEOUT},
    {"silent", "alice", SPIKE_AUTH_STATUS_TIMEOUT},
    {"silent_tls", "alice", SPIKE_AUTH_STATUS_TIMEOUT},
    {"http", "fault.stall", SPIKE_AUTH_STATUS_TIMEOUT},
    {"https", "fault.stall", SPIKE_AUTH_STATUS_TIMEOUT},
    {"http", "fault.stall-mid-head", SPIKE_AUTH_STATUS_TIMEOUT},
    {"https", "fault.stall-mid-body", SPIKE_AUTH_STATUS_TIMEOUT},
    {"http", "fault.drip.20", SPIKE_AUTH_STATUS_TIMEOUT},
    {"https", "fault.drip.20", SPIKE_AUTH_STATUS_TIMEOUT},
    {"http", "fault.drip-body.20", SPIKE_AUTH_STATUS_TIMEOUT},
    {"http", "fault.delay.5000", SPIKE_AUTH_STATUS_TIMEOUT},
    {"http", "fault.endless-headers", SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE},
    {"http", "fault.endless-header-line", SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE},
    {"https", "fault.endless-body", SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE},
    {"http", "fault.endless-body.close", SPIKE_AUTH_STATUS_RESPONSE_TOO_LARGE},
};

static double exchange_with_deadline(const struct slow *slow)
{
    spike_auth_config *config = sandbox_config(slow->place);
    spike_auth_client *client;
    struct result result;
    CHECK_STATUS(spike_auth_config_set_timeout_ms(config, DEADLINE_MS, NULL), 0);
    client = client_of(config);
    result = exchange(client, slow->user);
    CHECK_STATUS(result.status, slow->status);
    CHECK(result.err.attempts <= 1); /* none where it did not come to a request */
    if (slow->status == SPIKE_AUTH_STATUS_TIMEOUT) {
        CHECK_EQ_INT(result.err.retryable, 1);
        CHECK(result.took_ms > DEADLINE_MS - 5);
    }
    spike_auth_client_free(client);
    return result.took_ms;
}

static void the_deadline_holds_whatever_the_server_does(void)
{
    for (size_t i = 0; i < COUNT_OF(SLOW); i++) {
        double took = DEADLINE_MS + GRACE_MS + 1;
        in_round("%s %s", SLOW[i].place, SLOW[i].user);
        for (int k = 0; k < TRIES && took > DEADLINE_MS + GRACE_MS; k++)
            took = exchange_with_deadline(&SLOW[i]);
        check_that(took <= DEADLINE_MS + GRACE_MS, __FILE__, __LINE__, "took %.0f ms", took);
    }
}

static void the_connect_timeout_is_a_deadline_of_its_own(void)
{
    double took = 1e9;
    for (int i = 0; i < TRIES && took > DEADLINE_MS + GRACE_MS; i++) {
        spike_auth_config *config = sandbox_config("full");
        spike_auth_client *client;
        struct result result;
        CHECK_STATUS(spike_auth_config_set_connect_timeout_ms(config, DEADLINE_MS, NULL), 0);
        client = client_of(config);
        result = exchange(client, "alice");
        took = result.took_ms;
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_CONNECT); /* the call's own deadline is far */
        spike_auth_client_free(client);
    }
    check_that(took <= DEADLINE_MS + GRACE_MS, __FILE__, __LINE__, "took %.0f ms", took);
}

/* ---- close ----------------------------------------------------------------------------------------- */

struct call {
    spike_auth_client *client;
    const char *user;
    struct result result;
    double ended_at;
};

static void *run_call(void *argument)
{
    struct call *call = argument;
    call->result = exchange(call->client, call->user);
    call->ended_at = now_ms();
    return NULL;
}

static double close_during_call(const char *place, const char *user)
{
    struct call call = {sandbox_client(place), user, {0}, 0};
    pthread_t thread;
    double closed_at;
    REQUIRE(pthread_create(&thread, NULL, run_call, &call) == 0);
    sleep_ms(100);
    closed_at = now_ms();
    spike_auth_client_close(call.client);
    pthread_join(thread, NULL);
    CHECK_STATUS(call.result.status, SPIKE_AUTH_STATUS_CLOSED);
    for (int i = 0; i < 3; i++)
        spike_auth_client_close(call.client);
    CHECK_STATUS(exchange(call.client, "alice").status, SPIKE_AUTH_STATUS_CLOSED);
    spike_auth_client_free(call.client);
    return call.ended_at - closed_at;
}

static void closing_ends_a_call_at_once_wherever_it_is(void)
{
    static const char *const WHERE[][2] = {
        {"full", "alice"},                 /* connecting */
        {"silent_tls", "alice"},           /* in the TLS handshake */
        {"silent", "alice"},               /* waiting for the head */
        {"http", "fault.stall-mid-body"},  /* in the body */
        {"https", "fault.stall-mid-body"}, /* in the body, over TLS */
        {"https", "fault.drip.20"},        /* while bytes keep coming */
    };
    for (size_t i = 0; i < COUNT_OF(WHERE); i++) {
        double took = 1e9;
        in_round("%s %s", WHERE[i][0], WHERE[i][1]);
        for (int k = 0; k < TRIES && took >= 100; k++)
            took = close_during_call(WHERE[i][0], WHERE[i][1]);
        check_that(took < 100, __FILE__, __LINE__, "took %.0f ms", took);
    }
}

static void closing_ends_all_calls_at_once(void)
{
    enum { CALLS = 16 };
    spike_auth_client *client = sandbox_client("silent");
    static struct call calls[CALLS];
    pthread_t threads[CALLS];
    double closed_at;
    for (int i = 0; i < CALLS; i++) {
        calls[i].client = client;
        calls[i].user = "alice";
        REQUIRE(pthread_create(&threads[i], NULL, run_call, &calls[i]) == 0);
    }
    sleep_ms(100);
    closed_at = now_ms();
    spike_auth_client_close(client);
    for (int i = 0; i < CALLS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_STATUS(calls[i].result.status, SPIKE_AUTH_STATUS_CLOSED);
    }
    CHECK(now_ms() - closed_at < 1000);
    spike_auth_client_free(client);
}

/* ---- many threads ---------------------------------------------------------------------------------- */

struct worker {
    const spike_auth_client *client;
    int number;
    int rounds;
};

static void *exchange_often(void *argument)
{
    const struct worker *worker = argument;
    for (int i = 0; i < worker->rounds; i++) {
        char user[64];
        snprintf(user, sizeof user, "user-%d-%d", worker->number, i);
        check_token(worker->client, user);
    }
    return NULL;
}

static void check_many_threads(const char *place, int rounds)
{
    enum { THREADS = 32 };
    spike_auth_client *client = sandbox_client(place);
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    long before = counter("requests");
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){client, i, rounds};
        REQUIRE(pthread_create(&threads[i], NULL, exchange_often, &workers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    spike_auth_client_free(client); /* right after: nothing is to be waited for */
    CHECK_EQ_INT(counter("requests") - before, THREADS * rounds);
}

static void many_threads_share_a_client_and_each_gets_its_own_users_token(void)
{
    check_many_threads("http", 200);
    check_many_threads("https", 25);
}

static void *sign_until_closed(void *argument)
{
    const struct worker *worker = argument;
    char user[64], expected[SPIKE_AUTH_SIGNATURE_SIZE], signature[SPIKE_AUTH_SIGNATURE_SIZE];
    int32_t status = SPIKE_AUTH_STATUS_OK;
    size_t len;
    snprintf(user, sizeof user, "user-%d", worker->number);
    sign_for(user, expected);
    for (int i = 0; i < worker->rounds && status == SPIKE_AUTH_STATUS_OK; i++) {
        status = spike_auth_client_sign_user(worker->client, user, NUL_TERMINATED, signature, sizeof signature, &len,
                                             NULL);
        CHECK(status == SPIKE_AUTH_STATUS_CLOSED || (status == 0 && strcmp(signature, expected) == 0));
    }
    CHECK_STATUS(status, SPIKE_AUTH_STATUS_CLOSED); /* or it would have gone on for minutes */
    return NULL;
}

static void threads_sign_side_by_side_until_another_one_closes_the_client(void)
{
    enum { THREADS = 16, MANY = 100000000 };
    spike_auth_client *client = sandbox_client("http");
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){client, i, MANY};
        REQUIRE(pthread_create(&threads[i], NULL, sign_until_closed, &workers[i]) == 0);
    }
    sleep_ms(50);
    spike_auth_client_close(client);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    spike_auth_client_free(client);
}

/* ---- signals --------------------------------------------------------------------------------------- */

/* SIGPIPE has its default action here: one would end the program. */
static void a_server_that_hangs_up_raises_no_sigpipe(void)
{
    static const char *const SCHEMES[] = {"http", "https"};
    static const char *const FAULTS[] = {"close-idle", "close-next", "close-before", "reset-before", "reset-mid",
                                         "close-delimited-abrupt"};
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        for (size_t k = 0; k < COUNT_OF(FAULTS); k++) {
            spike_auth_client *client = sandbox_client(SCHEMES[i]);
            char user[64];
            snprintf(user, sizeof user, "fault.%s", FAULTS[k]);
            in_round("%s %s", SCHEMES[i], user);
            (void)exchange(client, user);
            sleep_ms(10);
            (void)exchange(client, "alice"); /* writes to a connection that the server has left */
            check_token(client, "alice");
            (void)exchange(client, user);
            sleep_ms(10);
            spike_auth_client_free(client); /* may write a close_notify there */
        }
    }
}

static struct sigaction actions_before[NSIG];

static void note_signal_actions(void)
{
    for (int number = 1; number < NSIG; number++)
        sigaction(number, NULL, &actions_before[number]);
}

static void no_signal_handler_was_installed(void)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction now;
        in_round("signal %d", number);
        memset(&now, 0, sizeof now);
        sigaction(number, NULL, &now);
        CHECK(now.sa_handler == actions_before[number].sa_handler);
    }
}

/* ---- descriptors and threads ----------------------------------------------------------------------- */

enum { MOST_FDS = 1024 };

struct fds {
    unsigned char open[MOST_FDS];
    int count;
};

static struct fds open_fds(void)
{
    struct fds fds = {{0}, 0};
    for (int fd = 0; fd < MOST_FDS; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        fds.open[fd] = 1;
        fds.count++;
    }
    return fds;
}

static int tasks(void)
{
    DIR *directory = opendir("/proc/self/task");
    int count = 0;
    REQUIRE(directory != NULL);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 2; /* . and .. */
}

/* A thread that has been joined, or a name lookup's helper, may take a moment to leave /proc. */
static int tasks_when_settled(int expected)
{
    for (int i = 0; i < 100 && tasks() != expected; i++)
        sleep_ms(10);
    return tasks();
}

static void check_new_fds_are_close_on_exec(const struct fds *before)
{
    int found = 0;
    for (int fd = 0; fd < MOST_FDS; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (before->open[fd] || flags < 0)
            continue;
        found++;
        check_that(flags & FD_CLOEXEC, __FILE__, __LINE__, "descriptor %d would be inherited", fd);
    }
    CHECK(found > 0); /* there is a connection at least */
}

static void descriptors_are_close_on_exec_and_none_is_left(void)
{
    static const char *const WHERE[][2] = {
        {"full", "alice"}, {"silent_tls", "alice"}, {"http", "fault.stall"}, {"https", "fault.stall-mid-body"},
    };
    for (size_t i = 0; i < COUNT_OF(WHERE); i++) {
        struct fds before = open_fds();
        struct call call = {sandbox_client(WHERE[i][0]), WHERE[i][1], {0}, 0};
        pthread_t thread;
        in_round("%s %s", WHERE[i][0], WHERE[i][1]);
        REQUIRE(pthread_create(&thread, NULL, run_call, &call) == 0);
        sleep_ms(60);
        check_new_fds_are_close_on_exec(&before);
        spike_auth_client_close(call.client);
        pthread_join(thread, NULL);
        spike_auth_client_free(call.client);
        CHECK_EQ_INT(open_fds().count, before.count);
    }
}

static void failures_leave_no_descriptor_either(void)
{
    static const char *const PLACES[] = {"refused", "reset", "cut_handshake", "tls_faults.expired", "http", "https"};
    int before = open_fds().count;
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
            spike_auth_client *client = sandbox_client(PLACES[i]);
            (void)exchange(client, "alice");
            (void)exchange(client, "fault.close-mid-body");
            spike_auth_client_free(client);
        }
    }
    CHECK_EQ_INT(open_fds().count, before);
}

static void no_thread_of_the_library_remains(void)
{
    int before = tasks_when_settled(1);
    spike_auth_client *client = sandbox_client("https");
    CHECK_EQ_INT(before, 1);
    CHECK_EQ_INT(tasks(), 1);
    check_token(client, "alice");
    CHECK_EQ_INT(tasks_when_settled(1), 1); /* a client with a connection keeps no thread */
    spike_auth_client_free(client);
    CHECK_EQ_INT(tasks_when_settled(1), 1);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    set_signal(SIGPIPE, SIG_DFL);
    note_signal_actions();
    RUN(no_thread_of_the_library_remains);
    RUN(descriptors_are_close_on_exec_and_none_is_left);
    RUN(failures_leave_no_descriptor_either);
    RUN(a_server_that_hangs_up_raises_no_sigpipe);
    RUN(closing_ends_a_call_at_once_wherever_it_is);
    RUN(closing_ends_all_calls_at_once);
    RUN(the_deadline_holds_whatever_the_server_does);
    RUN(the_connect_timeout_is_a_deadline_of_its_own);
    RUN(many_threads_share_a_client_and_each_gets_its_own_users_token);
    RUN(threads_sign_side_by_side_until_another_one_closes_the_client);
    RUN(no_thread_of_the_library_remains);
    RUN(no_signal_handler_was_installed);
    return check_summary();
}
