/** @file
 * Starts spike-auth-sandbox, a stand-in for the service, for the tests of a program, in C11 or C++. For C++17 see
 * spike_auth_sandbox.hpp.
 *
 *     spike_auth_sandbox sandbox;
 *     if (spike_auth_sandbox_start(&sandbox, NULL, NULL) != 0) {
 *         fprintf(stderr, "%s\n", sandbox.error);
 *         return 1;
 *     }
 *     spike_auth_sandbox_setenv(&sandbox); // spike_auth_config_load_env now leads to it
 *     ...
 *     spike_auth_sandbox_stop(&sandbox);
 *
 * A header without a library, for POSIX. It needs neither spike_auth.h nor a link flag. No argument may be NULL unless
 * that is said. What can fail returns 0, or -1 with the reason and what to do in `error`. A sandbox is for one thread
 * at a time.
 *
 * The sandbox is not the service: what it accepts or refuses proves nothing about Spike. `spike-auth-sandbox --help`
 * documents its options, its faults and the line that it prints; docs/testing.md has an example.
 */
#ifndef SPIKE_AUTH_SANDBOX_H
#define SPIKE_AUTH_SANDBOX_H

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_MONOTONIC
#error "spike_auth_sandbox.h needs POSIX.1-2008: compile with -std=gnu11 or -D_GNU_SOURCE"
#endif

/** A sandbox that runs, or why it does not. */
typedef struct spike_auth_sandbox {
    char http[64];            /**< the base URL */
    char https[64];           /**< the other; its certificate is by the CA of ca_file */
    char ca_file[1024];       /**< a file in PEM */
    char application_id[128]; /**< which it accepts */
    char hmac_key[512];       /**< with which it checks signatures */
    char control[64];         /**< where faults are set and counts are read */
    char error[256];          /**< what failed, and what to do */
    pid_t pid;                /**< 0: it does not run */
    pid_t owner;              /**< the process that may stop it */
} spike_auth_sandbox;

/** Starts a sandbox and waits until it is ready, at most 30 s.
 *
 * `program` is its path; NULL stands for the variable SPIKE_AUTH_SANDBOX, or for spike-auth-sandbox in the PATH.
 * `arguments` are its options, such as "--fresh-tokens", with a NULL after the last; NULL stands for none.
 *
 * It ends with spike_auth_sandbox_stop, and by itself within a second of the end of this process. */
static inline int spike_auth_sandbox_start(spike_auth_sandbox *sandbox, const char *program,
                                           const char *const *arguments);

/** Sets the variables that spike_auth_config_load_env reads, with the base URL `http`, and removes those that would
 * conflict with them or lead to a store. For https set SPIKE_API_BASE_URL to `https` afterwards. */
static inline int spike_auth_sandbox_setenv(spike_auth_sandbox *sandbox);

/** Sets the faults that a user's requests meet from now on, or with the user NULL everyone's, such as "status:503*2" or
 * "delay:200+status:429+retry-after:2". "" removes them. */
static inline int spike_auth_sandbox_fault(spike_auth_sandbox *sandbox, const char *user, const char *faults);

/** The number of requests, or with a user the number of well-formed requests for that user; or -1. */
static inline long spike_auth_sandbox_requests(spike_auth_sandbox *sandbox, const char *user);

/** Ends the sandbox and waits for its end. Of a sandbox that does not run, or in a forked child, it does nothing. */
static inline void spike_auth_sandbox_stop(spike_auth_sandbox *sandbox);

/* ---- From here on nothing is for callers. ---- */
/** @cond */

#ifdef __cplusplus
#define SPIKE_AUTH_SANDBOX_CAST(type, value) static_cast<type>(value)
#define SPIKE_AUTH_SANDBOX_ARGV(words) const_cast<char *const *>(words)
#else
#define SPIKE_AUTH_SANDBOX_CAST(type, value) ((type)(value))
#define SPIKE_AUTH_SANDBOX_ARGV(words) ((char *const *)(words))
#endif

extern char **environ;

static inline int spike_auth_sandbox_fail(spike_auth_sandbox *sandbox, const char *what, const char *detail)
{
    snprintf(sandbox->error, sizeof sandbox->error, "%.150s%.100s", what, detail);
    return -1;
}

static inline long spike_auth_sandbox_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return SPIKE_AUTH_SANDBOX_CAST(long, now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

/* The text of a member of the ready line, without its escapes. Returns -1 if it is not there or does not fit. */
static inline int spike_auth_sandbox_member(const char *line, const char *name, char *into, size_t size)
{
    char label[32];
    const char *at;
    size_t len = 0;
    snprintf(label, sizeof label, "\"%s\":\"", name);
    at = strstr(line, label);
    if (at == NULL)
        return -1;
    for (at += strlen(label); *at != '"' && *at != '\0'; at++) {
        if (*at == '\\' && (*++at == '\0' || strchr("\"\\/", *at) == NULL))
            return -1; /* a control character */
        if (len + 1 >= size)
            return -1;
        into[len++] = *at;
    }
    into[len] = '\0';
    return *at == '"' ? 0 : -1;
}

/* Reads a line. Returns 0, or -1 if none comes in time. */
static inline int spike_auth_sandbox_read_line(int fd, char *line, size_t size)
{
    const long deadline = spike_auth_sandbox_now_ms() + 30000;
    size_t len = 0;
    while (len + 1 < size) {
        struct pollfd ready;
        const long left = deadline - spike_auth_sandbox_now_ms();
        ssize_t got;
        ready.fd = fd;
        ready.events = POLLIN;
        ready.revents = 0;
        if (left <= 0)
            return -1;
        if (poll(&ready, 1, SPIKE_AUTH_SANDBOX_CAST(int, left)) <= 0)
            continue; /* a signal, or the deadline */
        got = read(fd, line + len, size - 1 - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        len += SPIKE_AUTH_SANDBOX_CAST(size_t, got);
        line[len] = '\0';
        if (line[len - 1] == '\n')
            return 0;
    }
    return -1;
}

/* Starts the program with no input, its output in a pipe, and no signal blocked. Returns an error number. */
static inline int spike_auth_sandbox_spawn(spike_auth_sandbox *sandbox, const char *program,
                                           const char *const *arguments, int output)
{
    enum { MOST = 64 };
    const char *words[MOST + 2];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    size_t count = 0;
    int failed;
    words[count++] = program;
    while (arguments != NULL && *arguments != NULL && count <= MOST)
        words[count++] = *arguments++;
    words[count] = NULL;
    if (arguments != NULL && *arguments != NULL)
        return E2BIG;
    if ((failed = posix_spawn_file_actions_init(&files)) != 0)
        return failed;
    if ((failed = posix_spawnattr_init(&attributes)) != 0) {
        posix_spawn_file_actions_destroy(&files);
        return failed;
    }
    sigemptyset(&none);
    if ((failed = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0)) == 0 &&
        (failed = posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO)) == 0 &&
        (failed = posix_spawnattr_setsigmask(&attributes, &none)) == 0 &&
        (failed = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK)) == 0)
        failed = posix_spawnp(&sandbox->pid, program, &files, &attributes, SPIKE_AUTH_SANDBOX_ARGV(words), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

/* Reads the line that the sandbox prints when it is ready. */
static inline int spike_auth_sandbox_read_ready(spike_auth_sandbox *sandbox, int fd)
{
    char line[8192];
    if (spike_auth_sandbox_read_line(fd, line, sizeof line) != 0)
        return spike_auth_sandbox_fail(sandbox, "The sandbox did not become ready. Its message, if any, is on stderr.",
                                       "");
    if (spike_auth_sandbox_member(line, "http", sandbox->http, sizeof sandbox->http) != 0 ||
        spike_auth_sandbox_member(line, "https", sandbox->https, sizeof sandbox->https) != 0 ||
        spike_auth_sandbox_member(line, "control", sandbox->control, sizeof sandbox->control) != 0 ||
        spike_auth_sandbox_member(line, "ca_file", sandbox->ca_file, sizeof sandbox->ca_file) != 0 ||
        spike_auth_sandbox_member(line, "hmac_key", sandbox->hmac_key, sizeof sandbox->hmac_key) != 0 ||
        spike_auth_sandbox_member(line, "application_id", sandbox->application_id, sizeof sandbox->application_id) != 0)
        return spike_auth_sandbox_fail(sandbox,
                                       "The program printed another line than a sandbox, or a setting is too long "
                                       "or has control characters.",
                                       "");
    return 0;
}

static inline int spike_auth_sandbox_start(spike_auth_sandbox *sandbox, const char *program,
                                           const char *const *arguments)
{
    int ends[2], failed;
    memset(sandbox, 0, sizeof *sandbox);
    sandbox->owner = getpid();
    if (program == NULL)
        program = getenv("SPIKE_AUTH_SANDBOX");
    if (program == NULL || *program == '\0')
        program = "spike-auth-sandbox";
    if (pipe(ends) != 0)
        return spike_auth_sandbox_fail(sandbox, "No pipe for the sandbox: ", strerror(errno));
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    failed = spike_auth_sandbox_spawn(sandbox, program, arguments, ends[1]);
    close(ends[1]);
    if (failed != 0) {
        sandbox->pid = 0;
        snprintf(sandbox->error, sizeof sandbox->error,
                 "%.100s cannot be started: %.80s. Pass its path, or set SPIKE_AUTH_SANDBOX.", program,
                 strerror(failed));
    } else if ((failed = spike_auth_sandbox_read_ready(sandbox, ends[0])) != 0) {
        spike_auth_sandbox_stop(sandbox);
    }
    close(ends[0]); /* a sandbox that is not ready when this process ends fails to write its line, and ends */
    return failed == 0 ? 0 : -1;
}

static inline int spike_auth_sandbox_setenv(spike_auth_sandbox *sandbox)
{
    if (setenv("SPIKE_APPLICATION_ID", sandbox->application_id, 1) != 0 ||
        setenv("SPIKE_HMAC_KEY", sandbox->hmac_key, 1) != 0 || setenv("SPIKE_API_BASE_URL", sandbox->http, 1) != 0 ||
        setenv("SPIKE_CA_FILE", sandbox->ca_file, 1) != 0 || unsetenv("SPIKE_HMAC_KEY_FILE") != 0 ||
        unsetenv("SPIKE_STORE_URL") != 0 || unsetenv("SPIKE_STORE_URL_FILE") != 0)
        return spike_auth_sandbox_fail(sandbox, "The environment cannot be set: ", strerror(errno));
    return 0;
}

/* A connection to the control address, or -1. */
static inline int spike_auth_sandbox_connect(const spike_auth_sandbox *sandbox)
{
    char host[32], port[8];
    struct addrinfo hints, *found = NULL;
    int fd = -1;
    if (sscanf(sandbox->control, "http://%31[0-9.]:%7[0-9]", host, port) != 2)
        return -1;
    memset(&hints, 0, sizeof hints);
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd >= 0) {
        const struct timeval patience = {5, 0};
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* Sends a request to a control address. Returns the whole response, to be freed, or NULL. */
static inline char *spike_auth_sandbox_ask(const spike_auth_sandbox *sandbox, const char *method, const char *name,
                                           const char *body)
{
    char request[2048];
    size_t size = 4096, len = 0;
    char *reply = SPIKE_AUTH_SANDBOX_CAST(char *, malloc(size));
    const int fd = spike_auth_sandbox_connect(sandbox);
    const char *path = strchr(sandbox->control + sizeof "http://" - 1, '/');
    const int asked = snprintf(
        request, sizeof request,
        "%s %s/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", method,
        path == NULL ? "" : path, name, strlen(body), body);
    ssize_t got = -1;
    if (reply != NULL && fd >= 0 && send(fd, request, SPIKE_AUTH_SANDBOX_CAST(size_t, asked), MSG_NOSIGNAL) == asked) {
        while ((got = recv(fd, reply + len, size - 1 - len, 0)) > 0 || (got < 0 && errno == EINTR)) {
            char *larger;
            if (got < 0 || (len += SPIKE_AUTH_SANDBOX_CAST(size_t, got)) + 1 < size)
                continue;
            larger = SPIKE_AUTH_SANDBOX_CAST(char *, realloc(reply, size *= 2));
            if (larger == NULL)
                break;
            reply = larger;
        }
    }
    if (fd >= 0)
        close(fd);
    if (got == 0) {
        reply[len] = '\0';
        return reply;
    }
    free(reply);
    return NULL;
}

static inline int spike_auth_sandbox_fault(spike_auth_sandbox *sandbox, const char *user, const char *faults)
{
    char body[1024];
    char *reply;
    int len;
    int done;
    if (strpbrk(faults, "\"\\") != NULL || (user != NULL && strpbrk(user, "\"\\") != NULL))
        return spike_auth_sandbox_fail(sandbox, "A user id or a fault with a quotation mark or a backslash.", "");
    len = user == NULL ? snprintf(body, sizeof body, "{\"user\":null,\"spec\":\"%s\"}", faults)
                       : snprintf(body, sizeof body, "{\"user\":\"%s\",\"spec\":\"%s\"}", user, faults);
    if (len < 0 || SPIKE_AUTH_SANDBOX_CAST(size_t, len) >= sizeof body)
        return spike_auth_sandbox_fail(sandbox, "A user id or a fault is too long.", "");
    reply = spike_auth_sandbox_ask(sandbox, "POST", "faults", body);
    done = reply != NULL && strlen(reply) > 12 && reply[9] == '2';
    if (reply == NULL)
        spike_auth_sandbox_fail(sandbox, "The sandbox does not answer. Is it started?", "");
    else if (!done)
        spike_auth_sandbox_fail(sandbox, "The sandbox refuses the fault, see spike-auth-sandbox --help: ", faults);
    free(reply);
    return done ? 0 : -1;
}

static inline long spike_auth_sandbox_requests(spike_auth_sandbox *sandbox, const char *user)
{
    char label[256];
    const char *at;
    long count = 0;
    const int len = snprintf(label, sizeof label, "\"%s\":", user == NULL ? "requests" : user);
    char *reply = spike_auth_sandbox_ask(sandbox, "GET", "counters", "");
    if (reply == NULL)
        return spike_auth_sandbox_fail(sandbox, "The sandbox does not answer. Is it started?", "");
    at = strstr(reply, user == NULL ? "{\"requests\":" : "\"users\":{");
    if (at != NULL && len < SPIKE_AUTH_SANDBOX_CAST(int, sizeof label) && (at = strstr(at, label)) != NULL)
        count = strtol(at + len, NULL, 10);
    free(reply);
    return count;
}

static inline void spike_auth_sandbox_stop(spike_auth_sandbox *sandbox)
{
    const struct timespec pause = {0, 2000000};
    const long patience = spike_auth_sandbox_now_ms() + 5000;
    const pid_t pid = sandbox->pid;
    pid_t ended;
    if (pid <= 0 || sandbox->owner != getpid())
        return;
    sandbox->pid = 0;
    /* Asked before each signal: if something else has reaped it, its id may be another process's. */
    ended = waitpid(pid, NULL, WNOHANG);
    if (ended == 0)
        kill(pid, SIGTERM); /* it removes its files */
    while (ended == 0 && spike_auth_sandbox_now_ms() < patience) {
        nanosleep(&pause, NULL);
        ended = waitpid(pid, NULL, WNOHANG);
    }
    if (ended != 0)
        return;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/** @endcond */
#endif
