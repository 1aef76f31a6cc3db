/* spike_auth_sandbox.h: the start and what prevents it, the environment, faults and counts, and the end.
 *
 * usage: helper SANDBOX
 */
#define _GNU_SOURCE
#include <sys/prctl.h>
#include <sys/stat.h>

#include <spike_auth_sandbox.h>

#include "check.h"

enum { PROGRAM_SECONDS = 110, WITHIN_MS = 20000 };

static const char *program;

static void started(spike_auth_sandbox *sandbox)
{
    if (spike_auth_sandbox_start(sandbox, program, NULL) != 0)
        fprintf(stderr, "%s\n", sandbox->error);
    REQUIRE(sandbox->pid > 0);
}

static int has_children(void)
{
    return waitpid(-1, NULL, WNOHANG) == 0;
}

static int count_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static spike_auth_client *client_of_environment(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    REQUIRE(spike_auth_config_new(&config, NULL) == SPIKE_AUTH_STATUS_OK);
    REQUIRE(spike_auth_config_load_env(config, NULL) == SPIKE_AUTH_STATUS_OK);
    REQUIRE(spike_auth_config_set_max_attempts(config, 1, NULL) == SPIKE_AUTH_STATUS_OK);
    REQUIRE(spike_auth_client_new(config, &client, NULL) == SPIKE_AUTH_STATUS_OK);
    spike_auth_config_free(config);
    return client;
}

static int32_t exchange(const spike_auth_client *client, const char *user)
{
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    return spike_auth_client_exchange(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL, token, sizeof token, &len, NULL);
}

/* ---- the start ----------------------------------------------------------------------------------------- */

static void it_is_found_by_argument_variable_and_path(void)
{
    static const char *const OPTIONS[] = {"--hmac-key", "a \"key\" with \\ and /", "--application-id", "shop-7", NULL};
    char folder[1024];
    spike_auth_sandbox sandbox;
    REQUIRE(spike_auth_sandbox_start(&sandbox, program, OPTIONS) == 0);
    CHECK_STR(sandbox.hmac_key, OPTIONS[1]);
    CHECK_STR(sandbox.application_id, OPTIONS[3]);
    CHECK(strncmp(sandbox.http, "http://127.0.0.1:", 17) == 0 && strncmp(sandbox.https, "https://", 8) == 0);
    spike_auth_sandbox_stop(&sandbox);
    setenv("SPIKE_AUTH_SANDBOX", program, 1);
    CHECK(spike_auth_sandbox_start(&sandbox, NULL, NULL) == 0);
    spike_auth_sandbox_stop(&sandbox);
    setenv("SPIKE_AUTH_SANDBOX", "", 1); /* as if it were not set */
    snprintf(folder, sizeof folder, "%s", program);
    *strrchr(folder, '/') = '\0';
    setenv("PATH", folder, 1);
    CHECK(spike_auth_sandbox_start(&sandbox, NULL, NULL) == 0);
    spike_auth_sandbox_stop(&sandbox);
    setenv("PATH", "/usr/bin:/bin", 1);
    CHECK(!has_children());
}

static void what_prevents_the_start_is_told(void)
{
    static const char *const BAD[] = {"--no-such-option", NULL};
    static const char *const LINE[] = {"not a sandbox", NULL};
    const char *many[80];
    spike_auth_sandbox sandbox;
    const int before = count_fds();
    CHECK_EQ_INT(spike_auth_sandbox_start(&sandbox, "/no/such/program", NULL), -1);
    CHECK_CONTAINS(sandbox.error,
                   "/no/such/program cannot be started: No such file or directory. Pass its path, or set "
                   "SPIKE_AUTH_SANDBOX.");
    CHECK_EQ_INT(spike_auth_sandbox_start(&sandbox, NULL, NULL), -1);
    CHECK_CONTAINS(sandbox.error, "spike-auth-sandbox cannot be started");
    CHECK_EQ_INT(spike_auth_sandbox_start(&sandbox, "/", NULL), -1);
    CHECK_CONTAINS(sandbox.error, "Permission denied");
    CHECK_EQ_INT(spike_auth_sandbox_start(&sandbox, program, BAD), -1);
    CHECK_CONTAINS(sandbox.error, "did not become ready");
    CHECK_EQ_INT(spike_auth_sandbox_start(&sandbox, "cat", NULL), -1); /* it has no input, so it ends */
    CHECK_CONTAINS(sandbox.error, "did not become ready");
    CHECK_EQ_INT(spike_auth_sandbox_start(&sandbox, "echo", LINE), -1);
    CHECK_CONTAINS(sandbox.error, "printed another line");
    for (size_t i = 0; i < COUNT_OF(many); i++)
        many[i] = i + 1 < COUNT_OF(many) ? "--fresh-tokens" : NULL;
    CHECK_EQ_INT(spike_auth_sandbox_start(&sandbox, program, many), -1);
    CHECK_CONTAINS(sandbox.error, "Argument list too long");
    spike_auth_sandbox_stop(&sandbox); /* does nothing */
    CHECK(!has_children());
    CHECK_EQ_INT(count_fds(), before);
}

static void it_needs_no_standard_descriptor_and_no_signal(void)
{
    spike_auth_sandbox sandbox;
    sigset_t all, before;
    int kept[2] = {dup(0), dup(1)};
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    close(0);
    close(1);
    started(&sandbox);
    spike_auth_sandbox_stop(&sandbox);
    dup2(kept[0], 0);
    dup2(kept[1], 1);
    close(kept[0]);
    close(kept[1]);
    sigprocmask(SIG_SETMASK, &before, NULL);
    CHECK(!has_children());
    set_signal(SIGCHLD, SIG_IGN);
    started(&sandbox);
    spike_auth_sandbox_stop(&sandbox);
    set_signal(SIGCHLD, SIG_DFL);
    CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}

/* ---- while it runs ------------------------------------------------------------------------------------- */

static void the_environment_leads_to_it(void)
{
    spike_auth_sandbox sandbox;
    spike_auth_client *client;
    setenv("SPIKE_HMAC_KEY_FILE", "/no/such/file", 1);
    setenv("SPIKE_STORE_URL", "redis://127.0.0.1:1", 1);
    setenv("SPIKE_STORE_URL_FILE", "/no/such/file", 1);
    started(&sandbox);
    CHECK_EQ_INT(spike_auth_sandbox_setenv(&sandbox), 0);
    client = client_of_environment();
    CHECK_STATUS(exchange(client, "alice"), SPIKE_AUTH_STATUS_OK);
    spike_auth_client_free(client);
    setenv("SPIKE_API_BASE_URL", sandbox.https, 1);
    client = client_of_environment();
    CHECK_STATUS(exchange(client, "alice"), SPIKE_AUTH_STATUS_OK);
    spike_auth_client_free(client);
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, NULL), 2);
    spike_auth_sandbox_stop(&sandbox);
}

static void faults_are_set_and_requests_are_counted(void)
{
    spike_auth_sandbox sandbox;
    spike_auth_client *client;
    char user[200];
    started(&sandbox);
    spike_auth_sandbox_setenv(&sandbox);
    client = client_of_environment();
    CHECK_EQ_INT(spike_auth_sandbox_fault(&sandbox, "alice", "status:403*1"), 0);
    CHECK_STATUS(exchange(client, "alice"), SPIKE_AUTH_STATUS_FORBIDDEN);
    CHECK_STATUS(exchange(client, "alice"), SPIKE_AUTH_STATUS_OK);
    CHECK_EQ_INT(spike_auth_sandbox_fault(&sandbox, NULL, "delay:50+bad-json"), 0);
    CHECK_STATUS(exchange(client, "requests"), SPIKE_AUTH_STATUS_INVALID_RESPONSE);
    CHECK_EQ_INT(spike_auth_sandbox_fault(&sandbox, NULL, ""), 0);
    for (int i = 0; i < 300; i++) { /* more than one read of counts */
        snprintf(user, sizeof user, "user-%d-%s", i, "a-long-tail-that-fills-the-buffers-of-a-small-reader");
        CHECK_STATUS(exchange(client, user), SPIKE_AUTH_STATUS_OK);
    }
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, NULL), 303);
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, "alice"), 2);
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, "requests"), 1);
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, user), 1);
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, "nobody"), 0);
    spike_auth_client_free(client);
    spike_auth_sandbox_stop(&sandbox);
}

static void what_cannot_be_asked_is_told(void)
{
    spike_auth_sandbox sandbox;
    char longest[1100];
    started(&sandbox);
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CHECK_EQ_INT(spike_auth_sandbox_fault(&sandbox, NULL, "no-such-fault"), -1);
    CHECK_CONTAINS(sandbox.error, "refuses the fault, see spike-auth-sandbox --help: no-such-fault");
    CHECK_EQ_INT(spike_auth_sandbox_fault(&sandbox, "a\",\"b", "html"), -1);
    CHECK_CONTAINS(sandbox.error, "quotation mark");
    CHECK_EQ_INT(spike_auth_sandbox_fault(&sandbox, NULL, "html\\"), -1);
    CHECK_CONTAINS(sandbox.error, "quotation mark");
    CHECK_EQ_INT(spike_auth_sandbox_fault(&sandbox, longest, "html"), -1);
    CHECK_CONTAINS(sandbox.error, "too long");
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, longest), 0);
    spike_auth_sandbox_stop(&sandbox);
    CHECK_EQ_INT(spike_auth_sandbox_fault(&sandbox, NULL, "html"), -1);
    CHECK_CONTAINS(sandbox.error, "does not answer");
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, NULL), -1);
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static void nothing_is_left_after_the_stop(void)
{
    struct stat found;
    spike_auth_sandbox sandbox;
    const int before = count_fds();
    pid_t pid;
    started(&sandbox);
    pid = sandbox.pid;
    CHECK(stat(sandbox.ca_file, &found) == 0);
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, NULL), 0);
    spike_auth_sandbox_stop(&sandbox);
    CHECK(kill(pid, 0) < 0 && errno == ESRCH);
    CHECK(stat(sandbox.ca_file, &found) < 0);
    CHECK_EQ_INT(count_fds(), before);
    spike_auth_sandbox_stop(&sandbox);
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

/* Its id may be another process's by then: here this one's. */
static void one_that_was_reaped_elsewhere_gets_no_signal(void)
{
    spike_auth_sandbox sandbox;
    started(&sandbox);
    kill(sandbox.pid, SIGTERM);
    REQUIRE(waitpid(sandbox.pid, NULL, 0) == sandbox.pid);
    set_signal(SIGTERM, on_signal);
    sandbox.pid = getpid();
    spike_auth_sandbox_stop(&sandbox);
    CHECK_EQ_INT(signals, 0);
    set_signal(SIGTERM, SIG_DFL);
}

static void one_that_hangs_is_not_waited_for(void)
{
    spike_auth_sandbox sandbox;
    started(&sandbox);
    kill(sandbox.pid, SIGSTOP);
    REQUIRE(waitpid(sandbox.pid, NULL, WUNTRACED) == sandbox.pid); /* all of its threads have stopped */
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, NULL), -1);
    CHECK_CONTAINS(sandbox.error, "does not answer");
    spike_auth_sandbox_stop(&sandbox);
    CHECK(!has_children());
    remove(sandbox.ca_file); /* it was killed */
    *strrchr(sandbox.ca_file, '/') = '\0';
    remove(sandbox.ca_file);
}

static void a_forked_child_does_not_stop_it(void)
{
    spike_auth_sandbox sandbox;
    pid_t child;
    started(&sandbox);
    if ((child = fork()) == 0) {
        spike_auth_sandbox_stop(&sandbox);
        _exit(0);
    }
    REQUIRE(waitpid(child, NULL, 0) == child);
    CHECK_EQ_INT(spike_auth_sandbox_requests(&sandbox, NULL), 0);
    spike_auth_sandbox_stop(&sandbox);
}

/* At whatever moment of the start its parent is killed. The sandbox then comes to this process, which reaps it. */
static void it_does_not_outlive_a_process_that_is_killed(void)
{
    static const useconds_t MOMENTS[] = {0, 300, 600, 1000, 1500, 2000, 3000, 5000, 10000, 30000, 100000, 1000000};
    for (size_t i = 0; i < COUNT_OF(MOMENTS); i++) {
        const long start = spike_auth_sandbox_now_ms();
        pid_t child;
        in_round("killed after %u us", (unsigned)MOMENTS[i]);
        if ((child = fork()) == 0) {
            spike_auth_sandbox sandbox;
            dup2(open("/dev/null", O_WRONLY), 2); /* a sandbox that cannot write its line says so */
            spike_auth_sandbox_start(&sandbox, program, NULL);
            for (;;)
                pause();
        }
        usleep(MOMENTS[i]);
        kill(child, SIGKILL);
        while (waitpid(-1, NULL, WNOHANG) >= 0 && spike_auth_sandbox_now_ms() - start < WITHIN_MS)
            usleep(5000);
        if (!CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD))
            break;
    }
}

int main(int argc, char **argv)
{
    REQUIRE(argc == 2);
    program = argv[1];
    alarm(PROGRAM_SECONDS);
    REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    RUN(it_is_found_by_argument_variable_and_path);
    RUN(what_prevents_the_start_is_told);
    RUN(it_needs_no_standard_descriptor_and_no_signal);
    RUN(the_environment_leads_to_it);
    RUN(faults_are_set_and_requests_are_counted);
    RUN(what_cannot_be_asked_is_told);
    RUN(nothing_is_left_after_the_stop);
    RUN(one_that_was_reaped_elsewhere_gets_no_signal);
    RUN(one_that_hangs_is_not_waited_for);
    RUN(a_forked_child_does_not_stop_it);
    RUN(it_does_not_outlive_a_process_that_is_killed);
    return check_summary();
}
