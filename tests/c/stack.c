/* The stack that calls need: every function and each kind of call, in a thread with 64 KiB.
 *
 * usage: stack NAME=ADDRESS... long_chain=URL long_chain_tls12=URL long_chain_ca=FILE
 */
#define _GNU_SOURCE
#include "children.h"

#include <poll.h>

/* ---- the measured stack ---------------------------------------------------------------------------- */

/* The thread's stack, and the need that the README and the header state. It is 48 KiB with the chain of
 * this test, and 51 with keys of 8192 bits, which take too long to make here. The C library uses some
 * KiB of the stack for the thread's struct and variables. */
enum { STACK_KIB = 64, PROMISED_KIB = 52 };

enum { STACK_SIZE = STACK_KIB * 1024, FILL = 0xA5 };

static unsigned char *stack; /* directly above an inaccessible page */

/* What runs on it, and where the frames begin. */
static const char *running;
static void (*body)(void);
static unsigned char *begin;

/* The largest need, in this process and its children. */
static struct measure {
    size_t bytes;
    char name[120];
} *most;

static void make_stack(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *map = mmap(NULL, STACK_SIZE + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(map != MAP_FAILED);
    REQUIRE(mprotect(map, page, PROT_NONE) == 0);
    stack = map + page;
    most = mmap(NULL, sizeof *most, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(most != MAP_FAILED);
}

static void measure(void)
{
    size_t untouched = 0, used;
    while (untouched < STACK_SIZE && stack[untouched] == FILL)
        untouched++;
    used = (size_t)(begin - stack) - untouched;
    printf("%6.1f KiB  %s\n", (double)used / 1024, running);
    CHECK(used <= PROMISED_KIB * 1024);
    if (used > most->bytes) {
        most->bytes = used;
        snprintf(most->name, sizeof most->name, "%s", running);
    }
}

static void overflowed(int number)
{
    (void)number;
    dprintf(2, "FAILED: a stack of %d KiB is not enough for: %s\n", STACK_KIB, running);
    _exit(1);
}

static void watch_for_overflow(void)
{
    static unsigned char other[65536];
    stack_t where = {.ss_sp = other, .ss_size = sizeof other};
    struct sigaction action = {.sa_handler = overflowed, .sa_flags = SA_ONSTACK};
    REQUIRE(sigaltstack(&where, NULL) == 0);
    REQUIRE(sigaction(SIGSEGV, &action, NULL) == 0);
}

__attribute__((noinline)) static void call_body(void)
{
    begin = __builtin_frame_address(0);
    body();
}

static void *run_body(void *nothing)
{
    watch_for_overflow();
    call_body();
    return nothing;
}

static void on_the_stack(const char *name, void (*what)(void))
{
    pthread_attr_t attributes;
    pthread_t thread;
    in_round("%s", name);
    running = name;
    body = what;
    memset(stack, FILL, STACK_SIZE);
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstack(&attributes, stack, STACK_SIZE) == 0);
    REQUIRE(pthread_create(&thread, &attributes, run_body, NULL) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    pthread_attr_destroy(&attributes);
    measure();
}

/* The outputs of a call. They are not on the measured stack. */
static struct {
    char text[SPIKE_AUTH_AUTHORIZATION_SIZE];
    size_t len;
    spike_auth_error err;
} outputs;

#define OUT outputs.text, sizeof outputs.text, &outputs.len, &outputs.err

/* ---- without a server ------------------------------------------------------------------------------ */

static void constants(void)
{
    CHECK_EQ_INT(spike_auth_abi_version(), SPIKE_AUTH_ABI_VERSION);
    CHECK(spike_auth_version()[0]);
    CHECK_EQ_INT(spike_auth_version_number(), SPIKE_AUTH_VERSION_NUMBER);
    CHECK_EQ_INT(spike_auth_signature_size(), SPIKE_AUTH_SIGNATURE_SIZE);
    CHECK_EQ_INT(spike_auth_token_size(), SPIKE_AUTH_TOKEN_SIZE);
    CHECK_EQ_INT(spike_auth_authorization_size(), SPIKE_AUTH_AUTHORIZATION_SIZE);
    for (int32_t status = -1; status < 100; status++)
        CHECK(spike_auth_status_name(status)[0] && spike_auth_status_text(status)[0]);
}

static void sign_without_a_client(void)
{
    CHECK_STATUS(spike_auth_sign_user(KEY, KEY_LEN, "alice", 5, OUT), 0);
    CHECK_STATUS(spike_auth_verify_user(KEY, KEY_LEN, "alice", 5, outputs.text, 64, &outputs.err), 0);
    CHECK_STATUS(spike_auth_verify_user(KEY, KEY_LEN, "bob", 3, outputs.text, 64, &outputs.err),
                 SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH);
    CHECK_STATUS(spike_auth_verify_user(KEY, KEY_LEN, "not valid", 9, outputs.text, 64, &outputs.err),
                 SPIKE_AUTH_STATUS_INVALID_USER_ID);
}

/* As many certificates as a system store has. */
static char many_pem[1 << 20];
static size_t many_pem_len;

static void make_many_pem(void)
{
    enum { CERTIFICATES = 150 };
    static char one[4096];
    size_t len = read_file(address("ca_file"), one, sizeof one);
    REQUIRE(len * CERTIFICATES < sizeof many_pem);
    for (int i = 0; i < CERTIFICATES; i++)
        memcpy(many_pem + (size_t)i * len, one, len);
    many_pem_len = len * CERTIFICATES;
}

#define SET_TEXT(name, value) CHECK_STATUS(spike_auth_config_set_##name(config, value, NUL_TERMINATED, err), 0)
#define SET(name, value) CHECK_STATUS(spike_auth_config_set_##name(config, value, err), 0)

static void all_settings(void)
{
    spike_auth_error *err = &outputs.err;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    CHECK_STATUS(spike_auth_config_new(&config, err), 0);
    CHECK_STATUS(spike_auth_config_set_hmac_key(config, KEY, KEY_LEN, err), 0);
    SET_TEXT(application_id, APPLICATION_ID);
    SET_TEXT(base_url, address("https"));
    SET_TEXT(user_agent, "stack/1.0");
    SET_TEXT(proxy, "http://user:pass@127.0.0.1:1");
    SET(timeout_ms, 5000);
    SET(connect_timeout_ms, 2000);
    SET(max_attempts, 2);
    SET(max_concurrency, 4);
    SET(max_rate, 100000);
    SET(cache_capacity, 1000);
    SET(cache_max_bytes, 1 << 20);
    SET(cache_ttl_ms, 1000);
    SET_TEXT(store, "rediss://user:pass@localhost:1/2");
    SET(store_timeout_ms, 100);
    CHECK_STATUS(spike_auth_config_set_base_url(config, "https://user:pass@[::1", NUL_TERMINATED, err),
                 SPIKE_AUTH_STATUS_INVALID_URL);
    CHECK_STATUS(spike_auth_config_set_ca_pem(config, "no PEM", 6, err), SPIKE_AUTH_STATUS_TLS_ROOTS);
    CHECK_STATUS(spike_auth_config_set_ca_pem(config, many_pem, many_pem_len, err), 0);
    for (int32_t roots = SPIKE_AUTH_TLS_ROOTS_PLATFORM; roots <= SPIKE_AUTH_TLS_ROOTS_NONE; roots++) {
        SET(tls_roots, roots);
        CHECK_STATUS(spike_auth_client_new(config, &client, err), 0);
        spike_auth_client_free(client);
    }
    spike_auth_config_free(config);
}

static void settings_of_the_environment(void)
{
    const char *const VARIABLES[][2] = {
        {"SPIKE_APPLICATION_ID", APPLICATION_ID}, {"SPIKE_HMAC_KEY_FILE", "key"},
        {"SPIKE_API_BASE_URL", address("https")}, {"SPIKE_TIMEOUT_MS", "1500"},
        {"SPIKE_CA_FILE", address("ca_file")},    {"https_proxy", address("proxy")},
        {"no_proxy", "10.0.0.0/8,.example.com,[::1]"},
    };
    spike_auth_config *config = NULL;
    int file = open("key", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(write(file, KEY, KEY_LEN) == (ssize_t)KEY_LEN);
    close(file);
    for (size_t i = 0; i < COUNT_OF(VARIABLES); i++)
        setenv(VARIABLES[i][0], VARIABLES[i][1], 1);
    CHECK_STATUS(spike_auth_config_new(&config, NULL), 0);
    CHECK_STATUS(spike_auth_config_load_env(config, &outputs.err), 0);
    setenv("SPIKE_TIMEOUT_MS", "soon", 1);
    CHECK_STATUS(spike_auth_config_load_env(config, &outputs.err), SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT);
    spike_auth_config_free(config);
    for (size_t i = 0; i < COUNT_OF(VARIABLES); i++)
        unsetenv(VARIABLES[i][0]);
}

/* ---- calls ----------------------------------------------------------------------------------------- */

/* The arguments of a round's calls. The main thread, with its large stack, makes the client. */
static spike_auth_client *client;
static const char *user;
static int32_t expected; /* a status, or ANY_BUT_OURS if it depends on the machine */

enum { ANY_BUT_OURS = -1 };

static void check_outcome(int32_t status)
{
    if (expected == ANY_BUT_OURS)
        CHECK(status < SPIKE_AUTH_STATUS_INTERNAL);
    else
        check_that(status == expected, __FILE__, __LINE__, "%s, not %s: %s", spike_auth_status_name(status),
                   spike_auth_status_name(expected), outputs.err.message);
    CHECK_EQ_INT(outputs.err.status, status);
}

static void exchange_here(void)
{
    check_outcome(spike_auth_client_exchange(client, user, NUL_TERMINATED, NULL, OUT));
}

static void diagnose_here(void)
{
    static char report[SPIKE_AUTH_REPORT_SIZE];
    size_t len;
    CHECK_STATUS(spike_auth_client_diagnose(client, user, NUL_TERMINATED, NULL, report, sizeof report, &len,
                                            &outputs.err), 0);
}

static void exchange_a_signature(void)
{
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    CHECK_STATUS(spike_auth_client_sign_user(client, user, NUL_TERMINATED, signature, sizeof signature, &len, NULL), 0);
    check_outcome(spike_auth_client_exchange_signature(client, user, NUL_TERMINATED, signature, len, NULL,
                                                             OUT));
}

static void get_token(void)
{
    check_outcome(spike_auth_client_get_token(client, user, NUL_TERMINATED, NULL, OUT));
}

static void get_authorization(void)
{
    check_outcome(spike_auth_client_get_authorization(client, user, NUL_TERMINATED, NULL, OUT));
}

static void all_that_only_uses_the_cache(void)
{
    spike_auth_stats stats;
    spike_auth_error *err = &outputs.err;
    CHECK_STATUS(spike_auth_client_peek_token(client, "alice", 5, OUT), 0);
    CHECK_STATUS(spike_auth_client_invalidate(client, "alice", 5, outputs.text, outputs.len, err), 0);
    CHECK_STATUS(spike_auth_client_forget(client, "alice", 5, err), 0);
    CHECK_STATUS(spike_auth_client_set_hmac_key(client, KEY, KEY_LEN, err), 0);
    CHECK_STATUS(spike_auth_client_stats(client, &stats, err), 0);
    CHECK_EQ_INT(stats.invalidations, 1);
    CHECK_STATUS(spike_auth_client_clear(client, err), 0);
    CHECK_STATUS(spike_auth_client_peek_token(client, "alice", 5, OUT),
                 SPIKE_AUTH_STATUS_NOT_CACHED);
}

enum { MANY = 2000 };

static void sign_many(void)
{
    static char ids[2 * MANY], signatures[64 * MANY];
    static int64_t offsets[MANY + 1];
    static int32_t statuses[MANY];
    memset(ids, 'a', sizeof ids);
    for (int i = 0; i <= MANY; i++)
        offsets[i] = 2 * i;
    CHECK_STATUS(spike_auth_client_sign_users(client, ids, sizeof ids, offsets, MANY, signatures, sizeof signatures,
                                              statuses, &outputs.err), 0);
    ids[MANY] = ' ';
    CHECK_STATUS(spike_auth_client_sign_users(client, ids, sizeof ids, offsets, MANY, signatures, sizeof signatures,
                                              statuses, &outputs.err), SPIKE_AUTH_STATUS_INVALID_USER_ID);
}

static void cancel_a_call(void)
{
    spike_auth_call *call = NULL;
    CHECK_STATUS(spike_auth_call_new(&call, &outputs.err), 0);
    CHECK_STATUS(spike_auth_call_set_timeout_ms(call, 1000, &outputs.err), 0);
    spike_auth_call_cancel(call);
    CHECK_STATUS(spike_auth_client_exchange(client, "alice", 5, call, OUT), SPIKE_AUTH_STATUS_CANCELLED);
    spike_auth_call_free(call);
}

static void started_calls(void)
{
    enum { CALLS = 4 };
    spike_auth_error *err = &outputs.err;
    spike_auth_queue *queue = NULL;
    spike_auth_call *calls[CALLS];
    uint64_t tag;
    size_t count;
    CHECK_STATUS(spike_auth_queue_new(&queue, err), 0);
    for (int i = 0; i < CALLS; i++)
        CHECK_STATUS(spike_auth_call_new(&calls[i], err), 0);
    sign_for("dave", outputs.text);
    CHECK_STATUS(spike_auth_client_start_token(client, "carol", 5, calls[0], queue, 0, err), 0);
    CHECK_STATUS(spike_auth_client_start_exchange(client, "dave", 4, calls[1], queue, 1, err), 0);
    CHECK_STATUS(spike_auth_client_start_exchange_signature(client, "dave", 4, outputs.text, 64, calls[2], queue, 2,
                                                            err), 0);
    CHECK_STATUS(spike_auth_client_start_token(client, "fault.stall", 11, calls[3], queue, 3, err), 0);
    spike_auth_call_cancel(calls[3]);
    for (int taken = 0; taken < CALLS; taken += (int)count) {
        struct pollfd fd = {.fd = spike_auth_queue_fd(queue), .events = POLLIN};
        REQUIRE(poll(&fd, 1, 10000) == 1);
        CHECK_STATUS(spike_auth_queue_take(queue, &tag, 1, &count, err), 0);
        if (count == 1)
            CHECK_STATUS(spike_auth_call_get_authorization(calls[tag], OUT), tag == 3 ? SPIKE_AUTH_STATUS_CANCELLED : 0);
    }
    CHECK_STATUS(spike_auth_client_start_token(client, "carol", 5, calls[0], queue, 0, err), 0); /* a hit */
    CHECK_STATUS(spike_auth_call_get_token(calls[0], OUT), 0);
    for (int i = 0; i < CALLS; i++)
        spike_auth_call_free(calls[i]);
    spike_auth_queue_free(queue);
}

static void close_and_free(void)
{
    spike_auth_client_close(client);
    spike_auth_client_free(client);
}

/* ---- with the sandbox ------------------------------------------------------------------------------ */

static spike_auth_config *quick_config(const char *place)
{
    spike_auth_config *config = sandbox_config(place);
    REQUIRE(spike_auth_config_set_timeout_ms(config, 10000, NULL) == 0);
    return config;
}

static void round_of(spike_auth_client *with, const char *for_user, int32_t status, const char *name,
                     void (*what)(void))
{
    client = with;
    user = for_user;
    expected = status;
    on_the_stack(name, what);
}

static void every_call_over_http_and_https(void)
{
    static const char *const PLACES[] = {"http", "https", "tls12"};
    for (size_t i = 0; i < COUNT_OF(PLACES); i++) {
        spike_auth_client *with = client_of(quick_config(PLACES[i]));
        char name[100];
#define NAMED(what) (snprintf(name, sizeof name, "%s: %s", PLACES[i], what), name)
        round_of(with, "alice", 0, NAMED("the first exchange"), exchange_here);
        round_of(with, "alice", 0, NAMED("on a kept connection"), exchange_here);
        round_of(with, "fault.max-token", 0, NAMED("the longest token"), exchange_here);
        round_of(with, "alice", 0, NAMED("a signature"), exchange_a_signature);
        round_of(with, "alice", 0, NAMED("a miss"), get_token);
        round_of(with, "alice", 0, NAMED("a hit"), get_authorization);
        round_of(with, "bob", 0, NAMED("a miss, for a header"), get_authorization);
        round_of(with, "alice", 0, NAMED("a report"), diagnose_here);
        round_of(with, NULL, 0, NAMED("the cache"), all_that_only_uses_the_cache);
        round_of(with, NULL, 0, NAMED("many signatures"), sign_many);
        round_of(with, NULL, 0, NAMED("a cancelled call"), cancel_a_call);
        round_of(with, NULL, 0, NAMED("started calls"), started_calls);
        round_of(with, NULL, 0, NAMED("close and free"), close_and_free);
#undef NAMED
    }
}

static void check_the_store(void)
{
    CHECK_STATUS(spike_auth_client_check_store(client, NULL, &outputs.err), expected);
}

static void forget_in_the_store(void)
{
    CHECK_STATUS(spike_auth_client_forget_shared(client, user, NUL_TERMINATED, NULL, &outputs.err), expected);
}

static void a_store(void)
{
    const char *const STORES[] = {address("store"), "unix:///nowhere.sock"};
    for (int fails = 0; fails < 2; fails++) {
        int32_t status = fails ? SPIKE_AUTH_STATUS_STORE : 0;
        spike_auth_client *with[2];
        for (int i = 0; i < 2; i++) {
            spike_auth_config *config = quick_config("https");
            REQUIRE(spike_auth_config_set_store(config, STORES[fails], NUL_TERMINATED, NULL) == 0);
            with[i] = client_of(config);
        }
        round_of(with[0], "carol", status, fails ? "no store" : "a check of the store", check_the_store);
        round_of(with[0], "carol", status, fails ? "a report without the store" : "a report", diagnose_here);
        round_of(with[0], "fault.max-token", 0, "a miss in the store", get_token);
        round_of(with[1], "fault.max-token", 0, "a hit in the store", get_token);
        round_of(with[1], "carol", status, "forgetting in the store", forget_in_the_store);
        spike_auth_client_free(with[0]);
        spike_auth_client_free(with[1]);
    }
}

static void renewal(void)
{
    spike_auth_config *config = quick_config("https");
    spike_auth_client *with;
    REQUIRE(spike_auth_config_set_cache_ttl_ms(config, 200, NULL) == 0);
    with = client_of(config);
    round_of(with, "alice", 0, "a token that is kept for 200 ms", get_token);
    sleep_ms(250);
    round_of(with, "alice", 0, "its renewal", get_token);
    spike_auth_client_free(with);
}

static void waiting_for_anothers_exchange(void)
{
    static struct running leader;
    spike_auth_client *with = sandbox_client("https");
    spike_auth_stats stats = {0};
    start(&leader, spike_auth_client_get_token, with, "fault.delay.500");
    while (stats.misses == 0)
        REQUIRE(spike_auth_client_stats(with, &stats, NULL) == 0);
    round_of(with, "fault.delay.500", 0, "waiting for another's exchange", get_token);
    finish_with(&leader, SPIKE_AUTH_STATUS_OK);
    spike_auth_client_free(with);
}

static void the_ways_to_the_service(void)
{
    static const char *const PROXIES[] = {"proxy", "proxy_auth", "proxy_refusing"};
    char host[256], url[400];
    for (size_t i = 0; i < COUNT_OF(PROXIES); i++) {
        spike_auth_config *config = quick_config("https");
        REQUIRE(spike_auth_config_set_proxy(config, address(PROXIES[i]), NUL_TERMINATED, NULL) == 0);
        client = client_of(config);
        round_of(client, "alice", i ? SPIKE_AUTH_STATUS_PROXY : 0, PROXIES[i], exchange_here);
        round_of(client, "alice", 0, "a report about it", diagnose_here);
        spike_auth_client_free(client);
    }
    REQUIRE(gethostname(host, sizeof host) == 0);
    snprintf(url, sizeof url, "https://%s:9/v3", host);
    for (int known = 0; known < 2; known++) {
        spike_auth_config *config = new_config(known ? url : "https://spike-auth.invalid/v3");
        trust_the_sandbox(config);
        REQUIRE(spike_auth_config_set_timeout_ms(config, 3000, NULL) == 0);
        client = client_of(config);
        round_of(client, "alice", ANY_BUT_OURS, known ? "the name of this machine" : "a name that does not exist",
                 exchange_here);
        spike_auth_client_free(client);
    }
}

/* The deepest: a chain is followed by recursion, and its RSA signatures are checked at the bottom. */
static void a_long_chain_of_certificates(void)
{
    static const char *const PLACES[] = {"long_chain", "long_chain_tls12"};
    static char pem[65536];
    size_t len = read_file(address("long_chain_ca"), pem, sizeof pem);
    for (size_t i = 0; i < 2 * COUNT_OF(PLACES); i++) {
        const char *place = PLACES[i / 2];
        int trusted = i % 2;
        spike_auth_config *config = quick_config(place);
        char name[100];
        if (trusted)
            REQUIRE(spike_auth_config_set_ca_pem(config, pem, len, NULL) == 0);
        snprintf(name, sizeof name, "%s, %s", place, trusted ? "trusted" : "not trusted");
        client = client_of(config);
        round_of(client, "alice", trusted ? 0 : SPIKE_AUTH_STATUS_TLS, name, get_authorization);
        round_of(client, "alice", 0, "a report about it", diagnose_here);
        spike_auth_client_free(client);
    }
}

static void failures(void)
{
    static const struct {
        const char *place, *user;
    } ROWS[] = {
        {"http", "fault.status.400"}, {"https", "fault.status.401"}, {"https", "fault.status.503"},
        {"https", "fault.status.429.and.retry-after.70"}, {"https", "fault.html"}, {"https", "fault.bad-json"},
        {"http", "fault.bad-json"}, {"https", "fault.echo.400"}, {"https", "fault.echo.422"},
        {"https", "fault.redirect"}, {"https", "fault.close-before"}, {"https", "fault.close-mid-body"},
        {"http", "fault.reset-mid"}, {"https", "fault.endless-headers"}, {"https", "fault.endless-body"},
        {"https", "fault.endless-header-line"}, {"https", "fault.stall"}, {"http", "fault.drip.20"},
        {"https", "not valid"}, {"refused", "alice"}, {"reset", "alice"}, {"full", "alice"}, {"silent_tls", "alice"},
        {"cut_handshake", "alice"}, {"tls_faults.expired", "alice"}, {"tls_faults.not_yet_valid", "alice"},
        {"tls_faults.wrong_host", "alice"}, {"tls_faults.self_signed", "alice"}, {"tls_faults.untrusted", "alice"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        spike_auth_config *config = sandbox_config(ROWS[i].place);
        char name[100];
        REQUIRE(spike_auth_config_set_max_attempts(config, 2, NULL) == 0);
        REQUIRE(spike_auth_config_set_timeout_ms(config, 300, NULL) == 0);
        client = client_of(config);
        snprintf(name, sizeof name, "%s, %s", ROWS[i].place, ROWS[i].user);
        round_of(client, ROWS[i].user, ANY_BUT_OURS, name, get_token);
        spike_auth_client_free(client);
    }
}

/* ---- in a child of fork ---------------------------------------------------------------------------- */

static void use_all_anew(void *nothing)
{
    (void)nothing;
    get_token();
    exchange_here();
    spike_auth_client_free(client);
    measure();
}

/* The child uses the stack of the thread that forked. */
static void fork_here(void)
{
    check_child(use_all_anew, NULL);
}

static void a_child_of_fork(void)
{
    spike_auth_client *with = sandbox_client("https");
    round_of(with, "alice", 0, "before a fork", get_token);
    round_of(with, "alice", 0, "in a child of fork, and the fork", fork_here);
    spike_auth_client_free(with);
}

static void make_a_client(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *made = NULL;
    int32_t status;
    CHECK_STATUS(spike_auth_config_new(&config, &outputs.err), 0);
    CHECK_STATUS(spike_auth_config_set_application_id(config, APPLICATION_ID, NUL_TERMINATED, &outputs.err), 0);
    status = spike_auth_client_new(config, &made, &outputs.err);
    CHECK(status == SPIKE_AUTH_STATUS_OK || status == SPIKE_AUTH_STATUS_TLS_ROOTS);
    spike_auth_client_free(made);
    spike_auth_config_free(config);
}

static void with_the_roots_of_the_platform(void *nothing)
{
    (void)nothing;
    unsetenv("SSL_CERT_FILE");
    unsetenv("SSL_CERT_DIR");
    on_the_stack("the first client, which loads the platform's roots", make_a_client);
}

/* They are loaded once per process: this runs first, in a process of its own. */
static void the_first_client_of_a_process(void)
{
    check_child(with_the_roots_of_the_platform, NULL);
}

static void without_a_server(void)
{
    on_the_stack("constants", constants);
    on_the_stack("signing without a client", sign_without_a_client);
    on_the_stack("all settings, and a client for each kind of roots", all_settings);
    on_the_stack("settings of the environment", settings_of_the_environment);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    setvbuf(stdout, NULL, _IOLBF, 0); /* so that a child inherits no buffered line */
    make_stack();
    make_many_pem();
    RUN(the_first_client_of_a_process);
    RUN(without_a_server);
    RUN(every_call_over_http_and_https);
    RUN(a_store);
    RUN(renewal);
    RUN(waiting_for_anothers_exchange);
    RUN(the_ways_to_the_service);
    RUN(a_long_chain_of_certificates);
    RUN(failures);
    RUN(a_child_of_fork);
    printf("at most %.1f KiB: %s\n", (double)most->bytes / 1024, most->name);
    return check_summary();
}
