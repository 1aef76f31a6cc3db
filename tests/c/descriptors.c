/* A host that closes descriptors: its standard streams before a call, or the library's own.
 *
 * usage: descriptors NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* ---- the standard streams -------------------------------------------------------------------------- */

enum { STREAMS = 3, KEPT_FROM = 100 };

/* A bit for each standard stream that is closed, and for each of them that was in use since. */
static atomic_uint closed_streams;
static atomic_uint used_streams;

static int kept_streams[STREAMS];

static void close_streams(unsigned which)
{
    fflush(stdout);
    atomic_store(&used_streams, 0);
    for (int fd = 0; fd < STREAMS; fd++) {
        if (!(which & 1u << fd))
            continue;
        kept_streams[fd] = fcntl(fd, F_DUPFD_CLOEXEC, KEPT_FROM);
        REQUIRE(kept_streams[fd] >= KEPT_FROM && close(fd) == 0);
    }
    atomic_store(&closed_streams, which);
}

/* Returns the streams that were in use. Nothing can be printed while they are closed. */
static unsigned restore_streams(void)
{
    unsigned which = atomic_exchange(&closed_streams, 0);
    for (int fd = 0; fd < STREAMS; fd++)
        if (which & 1u << fd) {
            REQUIRE(dup2(kept_streams[fd], fd) == fd);
            close(kept_streams[fd]);
        }
    return atomic_exchange(&used_streams, 0);
}

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) != -1 || errno != EBADF;
}

/* A new socket gets another number at once; that moment does not count as a use. */
static void look_at_streams(void)
{
    unsigned which = atomic_load(&closed_streams);
    for (int fd = 0; fd < STREAMS; fd++)
        for (int looks = 0; which & 1u << fd && is_open(fd); looks++, sleep_ms(1))
            if (looks == 3) {
                atomic_fetch_or(&used_streams, 1u << fd);
                break;
            }
}

/* The host prints, which must fail. Not while a socket is made. */
static void print_to_streams(void)
{
    unsigned which = atomic_load(&closed_streams);
    for (int fd = 0; fd < STREAMS; fd++)
        if (which & 1u << fd && (write(fd, "host", 4) != -1 || errno != EBADF))
            atomic_fetch_or(&used_streams, 1u << fd);
}

/* Replaces the C library's function: the library reads its files by it. */
ssize_t read(int fd, void *buffer, size_t size)
{
    if (fd >= 0 && fd < STREAMS && atomic_load(&closed_streams) & 1u << fd)
        atomic_fetch_or(&used_streams, 1u << fd);
    return syscall(SYS_read, fd, buffer, size);
}

/* Replaces the C library's function. The caller has made all its descriptors by then. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void)node, (void)service, (void)hints;
    *found = NULL;
    sleep_ms(50);
    look_at_streams();
    print_to_streams();
    return EAI_NONAME;
}

static const unsigned MANY_STREAMS[] = {7, 4, 1, 6};

static void calls_leave_closed_standard_streams_closed(void)
{
    for (size_t i = 0; i < COUNT_OF(MANY_STREAMS); i++)
        for (size_t k = 0; k < COUNT_OF(SCHEMES); k++) {
            spike_auth_client *client = sandbox_client(SCHEMES[k]);
            static struct running first, second;
            unsigned used;
            in_round("streams %u, %s", MANY_STREAMS[i], SCHEMES[k]);
            close_streams(MANY_STREAMS[i]);
            start_exchange(&first, client, "fault.delay.100");
            for (int n = 0; n < 10; n++, sleep_ms(5)) /* while it connects and waits */
                look_at_streams();
            print_to_streams();
            pthread_join(first.thread, NULL);
            look_at_streams(); /* while the connection is kept */
            print_to_streams();
            start_exchange(&second, client, "fault.delay.100");
            sleep_ms(50);
            look_at_streams(); /* while it is used again */
            print_to_streams();
            pthread_join(second.thread, NULL);
            spike_auth_client_free(client);
            used = restore_streams();
            spike_auth_call_free(first.call);
            spike_auth_call_free(second.call);
            CHECK_EQ_INT(used, 0);
            check_own(&first.result, first.user);
            check_own(&second.result, second.user);
        }
}

static void a_lookup_leaves_closed_standard_streams_closed(void)
{
    for (size_t i = 0; i < COUNT_OF(MANY_STREAMS); i++) {
        spike_auth_client *client = client_of(new_config("https://shop.example"));
        struct result result;
        in_round("streams %u", MANY_STREAMS[i]);
        close_streams(MANY_STREAMS[i]);
        result = exchange(client, "alice");
        spike_auth_client_free(client);
        CHECK_EQ_INT(restore_streams(), 0);
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_RESOLVE);
    }
}

static void no_key_is_read_through_a_standard_stream(void)
{
    char path[] = "descriptors-key-XXXXXX";
    int file = mkstemp(path);
    REQUIRE(file > 2 && write(file, KEY, KEY_LEN) == (ssize_t)KEY_LEN && close(file) == 0);
    setenv("SPIKE_HMAC_KEY_FILE", path, 1);
    for (size_t i = 0; i < COUNT_OF(MANY_STREAMS); i++) {
        spike_auth_config *config;
        int32_t status;
        in_round("streams %u", MANY_STREAMS[i]);
        REQUIRE(spike_auth_config_new(&config, NULL) == 0);
        close_streams(MANY_STREAMS[i]);
        status = spike_auth_config_load_env(config, NULL);
        CHECK_EQ_INT(restore_streams(), 0);
        CHECK_STATUS(status, SPIKE_AUTH_STATUS_OK);
        spike_auth_config_free(config);
    }
    unsetenv("SPIKE_HMAC_KEY_FILE");
    unlink(path);
}

/* ---- descriptors of the library -------------------------------------------------------------------- */

enum { HOST_FDS = 48, MOST_FDS = 1024 };

/* What the host opens instead; all descriptors block. */
struct occupation {
    int fds[HOST_FDS];
    int count;
};

static void close_all_from_3(void)
{
    for (int fd = 3; fd < MOST_FDS; fd++)
        close(fd);
}

static void occupy_nothing(struct occupation *host)
{
    host->count = 0;
}

static void occupy_pipes(struct occupation *host)
{
    for (host->count = 0; host->count < HOST_FDS; host->count += 2)
        REQUIRE(pipe(host->fds + host->count) == 0);
}

static void fill(int fd)
{
    char bytes[4096] = {0};
    REQUIRE(fcntl(fd, F_SETFL, O_NONBLOCK | O_RDWR) == 0);
    while (write(fd, bytes, sizeof bytes) > 0)
        ;
    REQUIRE(fcntl(fd, F_SETFL, O_RDWR) == 0);
}

static void occupy_full_pipes(struct occupation *host)
{
    occupy_pipes(host);
    for (int i = 1; i < host->count; i += 2)
        fill(host->fds[i]);
}

static void occupy_sockets(struct occupation *host)
{
    for (host->count = 0; host->count < HOST_FDS; host->count += 2)
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, host->fds + host->count) == 0);
}

static void occupy_full_sockets(struct occupation *host)
{
    occupy_sockets(host);
    for (int i = 0; i < host->count; i++)
        fill(host->fds[i]);
}

/* Their peers are closed: a write would raise SIGPIPE. */
static void occupy_closed_sockets(struct occupation *host)
{
    occupy_sockets(host);
    for (int i = 0; i < host->count; i += 2)
        REQUIRE(shutdown(host->fds[i], SHUT_RDWR) == 0);
}

static void occupy_listeners(struct occupation *host)
{
    for (host->count = 0; host->count < HOST_FDS; host->count++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        REQUIRE(fd >= 0 && listen(fd, 1) == 0);
        host->fds[host->count] = fd;
    }
}

static void occupy_files(struct occupation *host)
{
    for (host->count = 0; host->count < HOST_FDS; host->count++)
        REQUIRE((host->fds[host->count] = open("/dev/zero", O_RDWR)) >= 0);
}

static const struct replacement {
    const char *name;
    void (*occupy)(struct occupation *host);
} REPLACEMENTS[] = {
    {"nothing", occupy_nothing},
    {"pipes", occupy_pipes},
    {"full pipes", occupy_full_pipes},
    {"sockets", occupy_sockets},
    {"full sockets", occupy_full_sockets},
    {"closed sockets", occupy_closed_sockets},
    {"listeners", occupy_listeners},
    {"files", occupy_files},
};

/* The host's descriptors are open, and nothing was written, read or shut down. */
static void check_untouched(const struct occupation *host, const struct occupation *like)
{
    CHECK_EQ_INT(host->count, like->count);
    for (int i = 0; i < host->count; i++) {
        struct pollfd mine = {host->fds[i], POLLIN | POLLOUT | POLLRDHUP, 0};
        struct pollfd other = {like->fds[i], POLLIN | POLLOUT | POLLRDHUP, 0};
        CHECK(poll(&mine, 1, 0) >= 0 && poll(&other, 1, 0) >= 0);
        CHECK_EQ_INT(mine.revents, other.revents);
    }
}

static void release(const struct occupation *host)
{
    for (int i = 0; i < host->count; i++)
        CHECK(close(host->fds[i]) == 0);
}

/* The host closes all and opens others with the same numbers; and as many more, to compare. */
static void replace_all(const struct replacement *replacement, struct occupation *host, struct occupation *like)
{
    close_all_from_3();
    replacement->occupy(host);
    replacement->occupy(like);
}

static void check_untouched_and_release(const struct occupation *host, const struct occupation *like)
{
    check_untouched(host, like);
    release(host);
    release(like);
}

static double cpu_ms(void)
{
    struct rusage usage;
    REQUIRE(getrusage(RUSAGE_SELF, &usage) == 0);
    return 1e3 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-3 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static spike_auth_client *client_with_deadline(const char *place, uint32_t ms)
{
    spike_auth_config *config = sandbox_config(place);
    REQUIRE(spike_auth_config_set_timeout_ms(config, ms, NULL) == 0);
    return client_of(config);
}

enum { DEADLINE_MS = 5000, AT_ONCE_MS = 1000, KEPT = 3, PROGRAM_SECONDS = 90 };

/* Leaves KEPT idle connections. */
static void keep_connections(spike_auth_client *client)
{
    static struct running calls[KEPT];
    for (int i = 0; i < KEPT; i++)
        start_exchange(&calls[i], client, "fault.delay.50");
    for (int i = 0; i < KEPT; i++)
        finish_with(&calls[i], SPIKE_AUTH_STATUS_OK);
}

static void check_ended_at_once(const struct result *result, double cpu_before)
{
    CHECK_STATUS(result->status, SPIKE_AUTH_STATUS_INTERNAL);
    CHECK_EQ_INT(result->err.retryable, 1);
    CHECK_CONTAINS(result->err.message, "closed by the program");
    CHECK(cpu_ms() - cpu_before < 500);
}

static void after_the_host_closed_all_descriptors_one_call_fails(void)
{
    for (size_t i = 0; i < COUNT_OF(REPLACEMENTS); i++)
        for (size_t k = 0; k < COUNT_OF(SCHEMES); k++) {
            spike_auth_client *client = client_with_deadline(SCHEMES[k], DEADLINE_MS);
            struct occupation host, like;
            struct result result;
            double cpu;
            in_round("%s, %s", REPLACEMENTS[i].name, SCHEMES[k]);
            keep_connections(client);
            replace_all(&REPLACEMENTS[i], &host, &like);
            cpu = cpu_ms();
            result = exchange(client, "alice");
            check_ended_at_once(&result, cpu);
            CHECK(result.took_ms < AT_ONCE_MS);
            CHECK_EQ_INT(result.err.attempts, 0);
            for (int n = 0; n < KEPT + 1; n++)
                check_token(client, "alice");
            spike_auth_client_close(client);
            spike_auth_client_free(client);
            check_untouched_and_release(&host, &like);
        }
}

static void a_client_closed_or_freed_afterwards_touches_nothing(void)
{
    for (size_t i = 0; i < COUNT_OF(REPLACEMENTS); i++) {
        spike_auth_client *client = client_with_deadline("http", DEADLINE_MS);
        struct occupation host, like;
        in_round("%s", REPLACEMENTS[i].name);
        keep_connections(client);
        replace_all(&REPLACEMENTS[i], &host, &like);
        if (i % 2)
            spike_auth_client_close(client);
        spike_auth_client_free(client);
        check_untouched_and_release(&host, &like);
    }
}

/* If the new descriptors never become ready, the deadline ends the wait. */
static void a_call_in_flight_fails_at_once_or_at_its_deadline(void)
{
    enum { SHORT_MS = 800 };
    for (size_t i = 0; i < COUNT_OF(REPLACEMENTS); i++)
        for (size_t k = 0; k < COUNT_OF(SCHEMES); k++) {
            spike_auth_client *client = client_with_deadline(SCHEMES[k], SHORT_MS);
            static struct running call;
            struct occupation host, like;
            double cpu = cpu_ms();
            in_round("%s, %s", REPLACEMENTS[i].name, SCHEMES[k]);
            wait_until_in_flight(0); /* the sandbox may not have finished the last one */
            start_exchange(&call, client, "fault.delay.400");
            wait_until_in_flight(1);
            replace_all(&REPLACEMENTS[i], &host, &like);
            finish(&call);
            if (host.count == 0)
                check_ended_at_once(&call.result, cpu);
            CHECK(call.result.status != SPIKE_AUTH_STATUS_OK);
            CHECK(call.result.took_ms < SHORT_MS + AT_ONCE_MS);
            CHECK(cpu_ms() - cpu < 500);
            check_token(client, "alice");
            spike_auth_client_free(client);
            release(&host);
            release(&like);
        }
}

/* The call ends while the queue's descriptor is the host's. */
static void a_queue_touches_nothing_and_serves_no_more(void)
{
    for (size_t i = 0; i < COUNT_OF(REPLACEMENTS); i++) {
        spike_auth_client *client = client_with_deadline("http", DEADLINE_MS);
        spike_auth_call *call = NULL;
        spike_auth_queue *queue = NULL;
        struct occupation host, like;
        struct result result;
        uint64_t tag;
        size_t count;
        in_round("%s", REPLACEMENTS[i].name);
        REQUIRE(spike_auth_queue_new(&queue, NULL) == 0 && spike_auth_call_new(&call, NULL) == 0);
        REQUIRE(spike_auth_client_start_token(client, "fault.stall", NUL_TERMINATED, call, queue, 1, NULL) == 0);
        replace_all(&REPLACEMENTS[i], &host, &like);
        spike_auth_call_cancel(call);
        do /* a worker may be about to hand it out */
            CHECK_STATUS(spike_auth_queue_take(queue, &tag, 1, &count, NULL), SPIKE_AUTH_STATUS_OK);
        while (count == 0);
        CHECK_EQ_INT(spike_auth_queue_fd(queue), -1);
        spike_auth_call_free(call);
        REQUIRE(spike_auth_call_new(&call, NULL) == 0);
        result.status = spike_auth_client_start_token(client, "alice", NUL_TERMINATED, call, queue, 2, &result.err);
        CHECK_STATUS(result.status, SPIKE_AUTH_STATUS_INTERNAL);
        CHECK(strstr(result.err.message, "closed by the program"));
        spike_auth_client_free(client);
        spike_auth_call_free(call);
        spike_auth_queue_free(queue);
        check_untouched_and_release(&host, &like);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    signal(SIGPIPE, SIG_DFL);
    alarm(PROGRAM_SECONDS);
    RUN(calls_leave_closed_standard_streams_closed);
    RUN(a_lookup_leaves_closed_standard_streams_closed);
    RUN(no_key_is_read_through_a_standard_stream);
    RUN(after_the_host_closed_all_descriptors_one_call_fails);
    RUN(a_client_closed_or_freed_afterwards_touches_nothing);
    RUN(a_call_in_flight_fails_at_once_or_at_its_deadline);
    RUN(a_queue_touches_nothing_and_serves_no_more);
    return check_summary();
}
