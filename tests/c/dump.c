/* A client that was used, and then the program aborts: tests/test_dumps.py searches the core.
 *
 *     dump marker=MASKED key=FILE [MODE=VALUE]...
 *
 * The settings come from the environment; the file has the same key. Threads sign and fetch tokens, and stay, each
 * after another call, so that no later one overwrites what it left on the stack. All secrets that this program passes
 * on are wiped. Modes:
 *
 *     next=FILE   changes the key to that in the file, and the threads go on
 *     exposed=1   makes all memory part of the core
 *     child=1     aborts in a forked child, which signs first
 *     wait=1      waits for a debugger, which takes the core
 */
#define _GNU_SOURCE /* explicit_bzero, MADV_DODUMP */
#include "sandbox.h"

#include <inttypes.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { ROUNDS = 3, STACK_SIZE = 256 * 1024, MASK = 0xa5 };

static spike_auth_client *client;
static pthread_barrier_t begin, end;
static char *volatile marker;

/* ---- use of a client ------------------------------------------------------------------------------- */

static void sign(const char *user)
{
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    CHECK_STATUS(spike_auth_client_sign_user(client, user, NUL_TERMINATED, signature, sizeof signature, &len, NULL), 0);
    explicit_bzero(signature, sizeof signature);
}

static void sign_column(void)
{
    static const char ids[] = "alicebobcarol";
    static const int64_t offsets[] = {0, 5, 8, 13};
    char signatures[3 * (SPIKE_AUTH_SIGNATURE_SIZE - 1)];
    CHECK_STATUS(spike_auth_client_sign_users(client, ids, sizeof ids - 1, offsets, 3, signatures, sizeof signatures,
                                              NULL, NULL), 0);
    explicit_bzero(signatures, sizeof signatures);
}

static void fetch(text_call *call, const char *user)
{
    struct result result = make_call(call, client, user, NULL);
    check_own(&result, user);
    explicit_bzero(&result, sizeof result);
}

/* ids of one and of three blocks */
static void sign_short(void)
{
    sign("bob");
}

static void sign_long(void)
{
    char id[129] = {0};
    memset(id, 'x', sizeof id - 1);
    sign(id);
}

static void exchange_one(void)
{
    fetch(spike_auth_client_exchange, "alice");
}

static void get_kept(void)
{
    fetch(spike_auth_client_get_token, "kept");
}

/* Without stdio, whose buffer would keep the key. */
static size_t read_key(const char *path, uint8_t *key, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, key, size);
    REQUIRE(len > 0);
    close(fd);
    return (size_t)len;
}

static void sign_once(void)
{
    uint8_t key[128];
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t key_len = read_key(argument("key"), key, sizeof key), len;
    CHECK_STATUS(spike_auth_sign_user(key, key_len, "alice", 5, signature, sizeof signature, &len, NULL), 0);
    CHECK_STATUS(spike_auth_verify_user(key, key_len, "alice", 5, signature, len, NULL), 0);
    explicit_bzero(key, sizeof key);
    explicit_bzero(signature, sizeof signature);
}

static void configure(void)
{
    uint8_t key[128];
    size_t key_len = read_key(argument("key"), key, sizeof key);
    spike_auth_config *config = NULL;
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    CHECK_STATUS(spike_auth_config_set_hmac_key(config, key, key_len, NULL), 0);
    explicit_bzero(key, sizeof key);
    spike_auth_config_free(config);
}

typedef void work(void);
static work *const WORKS[] = {sign_short, sign_long, sign_column, exchange_one, get_kept, sign_once, configure};
enum { THREADS = COUNT_OF(WORKS) };

/* `last` comes last. */
static void use_client(work *last)
{
    for (size_t i = 0; i < COUNT_OF(WORKS); i++)
        WORKS[i]();
    last();
}

static void *in_thread(void *last)
{
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&begin);
        use_client(*(work *const *)last);
        pthread_barrier_wait(&end);
    }
    pthread_barrier_wait(&begin); /* stays: the program aborts */
    return NULL;
}

static void start_threads(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    REQUIRE(pthread_barrier_init(&begin, NULL, THREADS + 1) == 0 && pthread_barrier_init(&end, NULL, THREADS + 1) == 0);
    REQUIRE(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, STACK_SIZE) == 0);
    for (size_t i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&thread, &attributes, in_thread, (void *)&WORKS[i]) == 0);
}

static void use_in_all_threads(void)
{
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&end);
}

static void change_key(const char *path)
{
    static uint8_t key[4096];
    spike_auth_error err;
    size_t len = read_key(path, key, sizeof key);
    if (spike_auth_client_set_hmac_key(client, key, len, &err) != 0)
        fprintf(stderr, "%s\n", err.message);
    explicit_bzero(key, sizeof key);
    CHECK_STATUS(err.status, 0);
}

/* Without memory for the key a call fails, and the old key stays. */
static void check_no_memory(const char *path)
{
    static uint8_t key[4096];
    size_t len = read_key(path, key, sizeof key);
    spike_auth_config *config = NULL;
    struct rlimit before, none;
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
    none = (struct rlimit){0, before.rlim_max};
    free(malloc(64 * 1024)); /* the heap cannot grow */
    setenv("SPIKE_HMAC_KEY_FILE", path, 1);
    unsetenv("SPIKE_HMAC_KEY");
    REQUIRE(setrlimit(RLIMIT_AS, &none) == 0);
    EXPECT(INTERNAL, spike_auth_client_set_hmac_key(client, key, len, err));
    EXPECT(INTERNAL, spike_auth_config_set_hmac_key(config, key, len, err));
    EXPECT(INTERNAL, spike_auth_config_load_env(config, err));
    REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
    spike_auth_config_free(config);
    explicit_bzero(key, sizeof key);
    exchange_one();
}

/* ---- the core -------------------------------------------------------------------------------------- */

/* Puts memory that is marked for no dump back into it. */
static void expose(void)
{
    char line[512];
    uintptr_t from = 0, to = 0, first, second;
    FILE *maps = fopen("/proc/self/smaps", "re");
    int exposed = 0;
    REQUIRE(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &first, &second) == 2) {
            from = first;
            to = second;
        }
        if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " dd") && strstr(line, " wr") &&
            madvise((void *)from, to - from, MADV_DODUMP) == 0) /* NOLINT */
            exposed++;
    }
    fclose(maps);
    printf("exposed %d mappings\n", exposed);
}

/* The core shows that it has the heap. */
static void leave_marker(const char *masked)
{
    size_t len = strlen(masked) / 2;
    marker = malloc(len);
    REQUIRE(marker != NULL);
    for (size_t i = 0; i < len; i++) {
        unsigned byte;
        REQUIRE(sscanf(masked + 2 * i, "%2x", &byte) == 1);
        marker[i] = (char)(byte ^ MASK);
    }
}

/* The default filter: private and anonymous memory. */
static void allow_core(void)
{
    struct rlimit limit;
    FILE *filter = fopen("/proc/self/coredump_filter", "we");
    REQUIRE(filter != NULL && fputs("0x33", filter) >= 0 && fclose(filter) == 0);
    REQUIRE(getrlimit(RLIMIT_CORE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    REQUIRE(setrlimit(RLIMIT_CORE, &limit) == 0);
}

static void crash(void)
{
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* fails where nothing forbids to attach */
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    if (argument("wait"))
        pause();
    abort();
}

static void crash_in_child(void)
{
    pid_t child = fork();
    int status;
    REQUIRE(child >= 0);
    if (child == 0) {
        sign("child");
        sign_column();
        crash();
    }
    REQUIRE(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    _exit(0);
}

int main(int argc, char **argv)
{
    spike_auth_config *config = NULL;
    (void)argc;
    sandbox_arguments = argv + 1;
    allow_core();
    leave_marker(address("marker"));
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    EXPECT(OK, spike_auth_config_load_env(config, err));
    REQUIRE(spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_NONE, NULL) == 0);
    REQUIRE(spike_auth_client_new(config, &client, NULL) == 0);
    start_threads();
    use_in_all_threads();
    if (argument("next")) {
        spike_auth_config_free(config); /* it has the old key */
        check_no_memory(argument("next"));
        change_key(argument("next"));
        use_in_all_threads();
    }
    use_in_all_threads();
    if (argument("exposed"))
        expose();
    if (check_summary() != 0)
        return 1;
    if (argument("child"))
        crash_in_child();
    crash();
}
