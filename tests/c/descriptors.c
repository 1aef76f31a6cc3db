/* Descriptors where the host closes some: its standard streams before a call, or those of the library.
 *
 * usage: descriptors NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* ---- the standard streams -------------------------------------------------------------------------- */

enum { STREAMS = 3, KEPT_FROM = 100 };

/* Which standard streams are closed, a bit for each; and which of them have been seen in use since. */
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

/* Nothing can be told while they are closed: what was seen is checked after. */
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

/* A socket is given another number right after it was made: for that moment it is not held to be in use. */
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

/* What the host prints goes nowhere. Not while a socket is being made. */
static void print_to_streams(void)
{
    unsigned which = atomic_load(&closed_streams);
    for (int fd = 0; fd < STREAMS; fd++)
        if (which & 1u << fd && (write(fd, "host", 4) != -1 || errno != EBADF))
            atomic_fetch_or(&used_streams, 1u << fd);
}

/* The library's files are read through this, in place of the C library's. */
ssize_t read(int fd, void *buffer, size_t size)
{
    if (fd >= 0 && fd < STREAMS && atomic_load(&closed_streams) & 1u << fd)
        atomic_fetch_or(&used_streams, 1u << fd);
    return syscall(SYS_read, fd, buffer, size);
}

/* And names are looked up by this. The one who asks has made all that it waits on by then. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void)node, (void)service, (void)hints;
    *found = NULL;
    sleep_ms(50);
    look_at_streams();
    print_to_streams();
    return EAI_NONAME;
}

struct call {
    const spike_auth_client *client;
    const char *user;
    struct result result;
};

static void *run_call(void *argument)
{
    struct call *call = argument;
    call->result = exchange(call->client, call->user);
    return NULL;
}

static pthread_t start_call(struct call *call)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run_call, call) == 0);
    return thread;
}

static const unsigned MANY_STREAMS[] = {7, 4, 1, 6};
static const char *const SCHEMES[] = {"http", "https"};

static void calls_leave_closed_standard_streams_closed(void)
{
    for (size_t i = 0; i < COUNT_OF(MANY_STREAMS); i++)
        for (size_t k = 0; k < COUNT_OF(SCHEMES); k++) {
            spike_auth_client *client = sandbox_client(SCHEMES[k]);
            struct call first = {client, "fault.delay.100", {0}}, second = first;
            pthread_t thread;
            in_round("streams %u, %s", MANY_STREAMS[i], SCHEMES[k]);
            close_streams(MANY_STREAMS[i]);
            thread = start_call(&first);
            for (int n = 0; n < 10; n++, sleep_ms(5)) /* while it connects, and while it waits */
                look_at_streams();
            print_to_streams();
            pthread_join(thread, NULL);
            look_at_streams(); /* while the connection is kept */
            print_to_streams();
            thread = start_call(&second);
            sleep_ms(50);
            look_at_streams(); /* and used again */
            print_to_streams();
            pthread_join(thread, NULL);
            spike_auth_client_free(client);
            CHECK_EQ_INT(restore_streams(), 0);
            CHECK_STATUS(first.result.status, SPIKE_AUTH_STATUS_OK);
            CHECK_STATUS(second.result.status, SPIKE_AUTH_STATUS_OK);
        }
}

static void a_lookup_leaves_them_closed(void)
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

static void no_key_is_read_from_one(void)
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

/* What the host opens in their place: a number of each side, all of them blocking. */
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

/* Those of the other side are closed: a write would raise SIGPIPE. */
static void occupy_sockets_that_have_ended(struct occupation *host)
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

static const struct in_their_place {
    const char *name;
    void (*occupy)(struct occupation *host);
} IN_THEIR_PLACE[] = {
    {"nothing", occupy_nothing},
    {"pipes", occupy_pipes},
    {"full pipes", occupy_full_pipes},
    {"sockets", occupy_sockets},
    {"full sockets", occupy_full_sockets},
    {"sockets that have ended", occupy_sockets_that_have_ended},
    {"listeners", occupy_listeners},
    {"files", occupy_files},
};

/* What the host has put there is open, and nobody wrote to it, read from it, or shut it down. */
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

/* Leaves so many connections that are kept. */
static void keep_connections(const spike_auth_client *client)
{
    struct call calls[KEPT];
    pthread_t threads[KEPT];
    for (int i = 0; i < KEPT; i++) {
        calls[i] = (struct call){client, "fault.delay.50", {0}};
        threads[i] = start_call(&calls[i]);
    }
    for (int i = 0; i < KEPT; i++) {
        pthread_join(threads[i], NULL);
        CHECK_STATUS(calls[i].result.status, SPIKE_AUTH_STATUS_OK);
    }
}

static void check_ended_at_once(const struct result *result, double cpu_before)
{
    CHECK_STATUS(result->status, SPIKE_AUTH_STATUS_INTERNAL);
    CHECK_EQ_INT(result->err.retryable, 1);
    CHECK_CONTAINS(result->err.message, "closed by the program");
    CHECK(cpu_ms() - cpu_before < 500);
}

static void a_host_that_closes_all_descriptors_costs_one_call(void)
{
    for (size_t i = 0; i < COUNT_OF(IN_THEIR_PLACE); i++)
        for (size_t k = 0; k < COUNT_OF(SCHEMES); k++) {
            spike_auth_client *client = client_with_deadline(SCHEMES[k], DEADLINE_MS);
            struct occupation host, like;
            struct result result;
            double cpu;
            in_round("%s, %s", IN_THEIR_PLACE[i].name, SCHEMES[k]);
            keep_connections(client);
            close_all_from_3();
            IN_THEIR_PLACE[i].occupy(&host);
            IN_THEIR_PLACE[i].occupy(&like);
            cpu = cpu_ms();
            result = exchange(client, "alice");
            check_ended_at_once(&result, cpu);
            CHECK(result.took_ms < AT_ONCE_MS);
            CHECK_EQ_INT(result.err.attempts, 0);
            for (int n = 0; n < KEPT + 1; n++)
                check_token(client, "alice");
            spike_auth_client_close(client);
            spike_auth_client_free(client);
            check_untouched(&host, &like);
            release(&host);
            release(&like);
        }
}

static void a_client_that_is_closed_or_freed_after_it_touches_nothing(void)
{
    for (size_t i = 0; i < COUNT_OF(IN_THEIR_PLACE); i++) {
        spike_auth_client *client = client_with_deadline("http", DEADLINE_MS);
        struct occupation host, like;
        in_round("%s", IN_THEIR_PLACE[i].name);
        keep_connections(client);
        close_all_from_3();
        IN_THEIR_PLACE[i].occupy(&host);
        IN_THEIR_PLACE[i].occupy(&like);
        if (i % 2)
            spike_auth_client_close(client);
        spike_auth_client_free(client);
        check_untouched(&host, &like);
        release(&host);
        release(&like);
    }
}

static void wait_until_in_flight(long calls)
{
    while (counter("in_flight") != calls)
        sleep_ms(5);
}

/* What has the numbers now may say nothing, ever: then the deadline ends the wait. */
static void a_call_in_flight_is_ended_by_it_or_by_its_deadline(void)
{
    enum { SHORT_MS = 800 };
    for (size_t i = 0; i < COUNT_OF(IN_THEIR_PLACE); i++)
        for (size_t k = 0; k < COUNT_OF(SCHEMES); k++) {
            spike_auth_client *client = client_with_deadline(SCHEMES[k], SHORT_MS);
            struct call call = {client, "fault.delay.400", {0}};
            pthread_t thread;
            struct occupation host, like;
            double cpu = cpu_ms();
            in_round("%s, %s", IN_THEIR_PLACE[i].name, SCHEMES[k]);
            wait_until_in_flight(0); /* the sandbox may be at the last one still */
            thread = start_call(&call);
            wait_until_in_flight(1);
            close_all_from_3();
            IN_THEIR_PLACE[i].occupy(&host);
            IN_THEIR_PLACE[i].occupy(&like);
            pthread_join(thread, NULL);
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

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    signal(SIGPIPE, SIG_DFL);
    alarm(PROGRAM_SECONDS);
    RUN(calls_leave_closed_standard_streams_closed);
    RUN(a_lookup_leaves_them_closed);
    RUN(no_key_is_read_from_one);
    RUN(a_host_that_closes_all_descriptors_costs_one_call);
    RUN(a_client_that_is_closed_or_freed_after_it_touches_nothing);
    RUN(a_call_in_flight_is_ended_by_it_or_by_its_deadline);
    return check_summary();
}
