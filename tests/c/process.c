/* The library in its host process: signals, descriptors and threads. Against the sandbox.
 *
 * usage: process NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <dirent.h>
#include <signal.h>

/* ---- signals --------------------------------------------------------------------------------------- */

/* SIGPIPE has its default action here, and would end the program. */
static void a_server_that_hangs_up_raises_no_sigpipe(void)
{
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
            (void)exchange(client, "alice"); /* writes to a connection that the server has closed */
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

static void find_open_fds(unsigned char *open)
{
    for (int fd = 0; fd < MOST_FDS; fd++)
        open[fd] = fcntl(fd, F_GETFD) >= 0;
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

/* A joined thread may be in /proc for another moment. */
static int tasks_when_settled(int expected)
{
    for (int i = 0; i < 100 && tasks() != expected; i++)
        sleep_ms(10);
    return tasks();
}

static void check_new_fds_are_close_on_exec(const unsigned char *before)
{
    int found = 0;
    for (int fd = 0; fd < MOST_FDS; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (before[fd] || flags < 0)
            continue;
        found++;
        check_that(flags & FD_CLOEXEC, __FILE__, __LINE__, "descriptor %d would be inherited", fd);
    }
    CHECK(found > 0); /* at least a connection */
}

static void descriptors_are_close_on_exec_and_none_remains(void)
{
    static const char *const WHERE[][2] = {
        {"full", "alice"}, {"silent_tls", "alice"}, {"http", "fault.stall"}, {"https", "fault.stall-mid-body"},
    };
    for (size_t i = 0; i < COUNT_OF(WHERE); i++) {
        static struct running running;
        unsigned char before[MOST_FDS];
        int count = count_fds();
        find_open_fds(before);
        in_round("%s %s", WHERE[i][0], WHERE[i][1]);
        start_exchange(&running, sandbox_client(WHERE[i][0]), WHERE[i][1]);
        sleep_ms(60);
        check_new_fds_are_close_on_exec(before);
        spike_auth_client_close(running.client);
        finish_with(&running, SPIKE_AUTH_STATUS_CLOSED);
        spike_auth_client_free(running.client);
        CHECK_EQ_INT(count_fds(), count);
    }
}

static void failures_leave_no_descriptor(void)
{
    static const char *const PLACES[] = {"refused", "reset", "cut_handshake", "tls_faults.expired", "http", "https"};
    int before = count_fds();
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
            spike_auth_client *client = sandbox_client(PLACES[i]);
            (void)exchange(client, "alice");
            (void)exchange(client, "fault.close-mid-body");
            spike_auth_client_free(client);
        }
    }
    CHECK_EQ_INT(count_fds(), before);
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
    RUN(descriptors_are_close_on_exec_and_none_remains);
    RUN(failures_leave_no_descriptor);
    RUN(a_server_that_hangs_up_raises_no_sigpipe);
    RUN(no_thread_of_the_library_remains);
    RUN(no_signal_handler_was_installed);
    return check_summary();
}
