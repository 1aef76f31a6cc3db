/* The HMAC key of a client changes while it is used: by spike_auth_client_set_hmac_key(), or in the file that
 * SPIKE_HMAC_KEY_FILE names.
 *
 * usage: rotation NAME=ADDRESS... [quick=1]; runs in an empty writable directory.
 */
#define _GNU_SOURCE
#include "sandbox.h"

#include <sys/stat.h>
#include <sys/wait.h>

#define FILE_NAME "key"
enum { THREADS = 64 };

static void write_key(const char *key, mode_t mode)
{
    FILE *file = fopen(FILE_NAME ".new", "we");
    REQUIRE(file != NULL);
    fputs(key, file);
    fclose(file);
    REQUIRE(chmod(FILE_NAME ".new", mode) == 0);
    REQUIRE(rename(FILE_NAME ".new", FILE_NAME) == 0);
}

/* A client whose key is in the file. */
static spike_auth_client *client_with_file(const char *key)
{
    spike_auth_config *config = sandbox_config("http");
    write_key(key, 0600);
    setenv("SPIKE_HMAC_KEY_FILE", FILE_NAME, 1);
    EXPECT(OK, spike_auth_config_load_env(config, err));
    unsetenv("SPIKE_HMAC_KEY_FILE");
    return client_of(config);
}

static int32_t set_key(const spike_auth_client *client, const char *key)
{
    return spike_auth_client_set_hmac_key(client, (const uint8_t *)key, strlen(key), NULL);
}

static uint64_t changes(const spike_auth_client *client)
{
    spike_auth_stats stats;
    REQUIRE(spike_auth_client_stats(client, &stats, NULL) == 0);
    return stats.key_changes;
}

static long refused(void)
{
    return counter("requests") - counter("tokens");
}

/* ---- under load ------------------------------------------------------------------------------------ */

static struct load {
    spike_auth_client *client;
    atomic_int is_over;
    atomic_int calls;
    atomic_int failed;
    atomic_int next;
} load;

static void *use(void *unused)
{
    (void)unused;
    char user[32];
    while (!atomic_load(&load.is_over)) {
        int number = atomic_fetch_add(&load.next, 1);
        snprintf(user, sizeof user, "user-%d", number);
        struct result result =
            number % 2 ? exchange(load.client, user) : make_call(spike_auth_client_get_token, load.client, user, NULL);
        atomic_fetch_add(&load.calls, 1);
        if (result.status != 0 || !token_is_for(result.token, user))
            atomic_fetch_add(&load.failed, 1);
    }
    return NULL;
}

static void wait_for_calls(int more)
{
    int from = atomic_load(&load.calls);
    for (double start = now_ms(); atomic_load(&load.calls) < from + more && now_ms() - start < 20000;)
        sleep_ms(1);
}

/* While 64 threads use the client its key changes, and then the sandbox refuses the old one. No call fails. */
static void check_under_load(spike_auth_client *client, void (*change)(spike_auth_client *), const char *next)
{
    pthread_t threads[THREADS];
    long refused_before = refused();
    memset(&load, 0, sizeof load);
    load.client = client;
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, use, NULL) == 0);
    wait_for_calls(200);
    set_sandbox_key(next, 1);
    change(client);
    wait_for_calls(200);
    set_sandbox_key(next, 0);
    wait_for_calls(500);
    atomic_store(&load.is_over, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&load.calls) >= 900);
    CHECK_EQ_INT(atomic_load(&load.failed), 0);
    CHECK_EQ_INT(changes(client), 1);
    /* Calls that were under way: one for each thread. */
    CHECK(refused() - refused_before <= THREADS);
    spike_auth_client_free(client);
}

static void replace_file(spike_auth_client *client)
{
    (void)client;
    write_key("a new key in the file\n", 0600);
}

static void the_file_is_replaced_under_load(void)
{
    set_sandbox_key(KEY_TEXT, 0);
    check_under_load(client_with_file(KEY_TEXT), replace_file, "a new key in the file");
}

static void set_new(spike_auth_client *client)
{
    CHECK_STATUS(set_key(client, "a new key"), 0);
}

static void the_key_is_set_under_load(void)
{
    set_sandbox_key(KEY_TEXT, 0);
    check_under_load(sandbox_client("http"), set_new, "a new key");
}

/* ---- one call at a time ---------------------------------------------------------------------------- */

static void a_rotated_file_costs_one_401(void)
{
    spike_auth_client *client;
    set_sandbox_key("first", 0);
    client = client_with_file("first\n");
    check_token(client, "alice");
    write_key("second\r\n", 0400);
    check_token(client, "alice"); /* the service still takes the old one, so the file is not read */
    CHECK_EQ_INT(changes(client), 0);
    set_sandbox_key("second", 0);
    long before = refused();
    check_token(client, "bob");
    check_token(client, "carol");
    CHECK_EQ_INT(refused() - before, 1);
    CHECK_EQ_INT(changes(client), 1);
    spike_auth_client_free(client);
}

static void a_file_without_a_usable_key_changes_nothing(void)
{
    static const struct {
        const char *key;
        mode_t mode;
    } BAD[] = {{"", 0600}, {"\n", 0600}, {"second", 0620}, {"first", 0600}};
    for (size_t i = 0; i < COUNT_OF(BAD) + 1; i++) {
        set_sandbox_key("first", 0);
        spike_auth_client *client = client_with_file("first");
        in_round("case %zu", i);
        if (i < COUNT_OF(BAD))
            write_key(BAD[i].key, BAD[i].mode);
        else
            unlink(FILE_NAME);
        set_sandbox_key("second", 0);
        CHECK_STATUS(exchange(client, "alice").status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
        CHECK_EQ_INT(changes(client), 0);
        set_sandbox_key("first", 0);
        check_token(client, "alice"); /* the key that it had */
        spike_auth_client_free(client);
    }
}

static void the_file_is_read_at_most_once_in_five_seconds(void)
{
    set_sandbox_key("first", 0);
    spike_auth_client *client = client_with_file("first");
    set_sandbox_key("second", 0);
    CHECK_STATUS(exchange(client, "alice").status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
    double looked = now_ms();
    write_key("second", 0600);
    CHECK_STATUS(exchange(client, "alice").status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
    CHECK(now_ms() - looked < 4000);
    sleep_ms(5100 - (long)(now_ms() - looked));
    check_token(client, "alice");
    spike_auth_client_free(client);
}

static void a_key_that_was_set_is_not_replaced_by_the_files(void)
{
    set_sandbox_key("first", 0);
    spike_auth_client *client = client_with_file("first");
    CHECK_STATUS(set_key(client, "set"), 0);
    set_sandbox_key("second", 0);
    write_key("second", 0600);
    CHECK_STATUS(exchange(client, "alice").status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
    set_sandbox_key("set", 0);
    check_token(client, "alice");
    spike_auth_client_free(client);
}

static void a_signature_made_elsewhere_is_not_made_anew(void)
{
    char signature[SPIKE_AUTH_SIGNATURE_SIZE], token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    set_sandbox_key("second", 0);
    spike_auth_client *client = client_with_file("first");
    write_key("second", 0600);
    sign_for("alice", signature);
    long before = counter("requests");
    EXPECT(UNAUTHORIZED, spike_auth_client_exchange_signature(client, "alice", NUL_TERMINATED, signature, 64, NULL,
                                                              token, sizeof token, &len, err));
    CHECK(counter("requests") - before <= 4); /* EXPECT calls it more than once */
    CHECK_EQ_INT(changes(client), 0);
    spike_auth_client_free(client);
}

static void a_new_key_ends_the_pause_after_refusals(void)
{
    static const char *const USERS[] = {"a", "b", "c", "d", "e", "f"};
    set_sandbox_key(KEY_TEXT, 0);
    spike_auth_client *client = sandbox_client("http");
    CHECK_STATUS(set_key(client, "wrong"), 0);
    for (size_t i = 0; i < COUNT_OF(USERS); i++)
        CHECK_STATUS(make_call(spike_auth_client_get_token, client, USERS[i], NULL).status,
                     SPIKE_AUTH_STATUS_UNAUTHORIZED);
    CHECK_STATUS(set_key(client, "wrong"), 0); /* the same again changes nothing */
    long before = counter("requests");
    CHECK_STATUS(make_call(spike_auth_client_get_token, client, "g", NULL).status, SPIKE_AUTH_STATUS_UNAUTHORIZED);
    CHECK_EQ_INT(counter("requests"), before);
    CHECK_STATUS(set_key(client, KEY_TEXT), 0);
    struct result result = make_call(spike_auth_client_get_token, client, "g", NULL);
    check_own(&result, "g");
    CHECK_EQ_INT(changes(client), 2);
    spike_auth_client_free(client);
}

static void kept_tokens_stay(void)
{
    set_sandbox_key(KEY_TEXT, 0);
    spike_auth_client *client = sandbox_client("http");
    struct result before = make_call(spike_auth_client_get_token, client, "alice", NULL);
    CHECK_STATUS(set_key(client, "another"), 0);
    struct result after = make_call(spike_auth_client_get_token, client, "alice", NULL);
    CHECK_STATUS(after.status, 0);
    CHECK_STR(after.token, before.token);
    spike_auth_client_free(client);
}

static void a_client_without_a_key_gets_one(void)
{
    spike_auth_config *config = NULL;
    char signature[SPIKE_AUTH_SIGNATURE_SIZE], expected[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    REQUIRE(spike_auth_config_set_application_id(config, APPLICATION_ID, NUL_TERMINATED, NULL) == 0);
    spike_auth_client *client = client_of(config);
    EXPECT(KEY_REQUIRED,
           spike_auth_client_sign_user(client, "alice", NUL_TERMINATED, signature, sizeof signature, &len, err));
    CHECK_STATUS(set_key(client, KEY_TEXT), 0);
    EXPECT(OK, spike_auth_client_sign_user(client, "alice", NUL_TERMINATED, signature, sizeof signature, &len, err));
    sign_for("alice", expected);
    CHECK_STR(signature, expected);
    spike_auth_client_free(client);
}

static void bad_keys_are_refused_and_change_nothing(void)
{
    static uint8_t longest[4097];
    spike_auth_client *client = sandbox_client("http");
    memset(longest, 'k', sizeof longest);
    EXPECT(NULL_POINTER, spike_auth_client_set_hmac_key(NULL, KEY, KEY_LEN, err));
    EXPECT(NULL_POINTER, spike_auth_client_set_hmac_key(client, NULL, KEY_LEN, err));
    EXPECT(INVALID_KEY, spike_auth_client_set_hmac_key(client, KEY, 0, err));
    EXPECT(INVALID_KEY, spike_auth_client_set_hmac_key(client, longest, sizeof longest, err));
    EXPECT(INVALID_ARGUMENT, spike_auth_client_set_hmac_key(client, KEY, NUL_TERMINATED, err));
    CHECK_EQ_INT(changes(client), 0);
    EXPECT(OK, spike_auth_client_set_hmac_key(client, longest, sizeof longest - 1, err));
    spike_auth_client_close(client);
    EXPECT(CLOSED, spike_auth_client_set_hmac_key(client, KEY, KEY_LEN, err));
    spike_auth_client_free(client);
}

static int is_token(const spike_auth_client *client, const char *user)
{
    struct result result = exchange(client, user);
    return result.status == 0 && token_is_for(result.token, user);
}

static void parent_and_child_each_find_the_new_key(void)
{
    int status;
    set_sandbox_key("first", 0);
    spike_auth_client *client = client_with_file("first");
    check_token(client, "alice");
    write_key("second", 0600);
    set_sandbox_key("second", 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        _exit(is_token(client, "bob") && changes(client) == 1 ? 0 : 1);
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check_token(client, "carol");
    CHECK_EQ_INT(changes(client), 1);
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    RUN(a_rotated_file_costs_one_401);
    RUN(a_file_without_a_usable_key_changes_nothing);
    RUN(a_key_that_was_set_is_not_replaced_by_the_files);
    RUN(a_signature_made_elsewhere_is_not_made_anew);
    RUN(a_new_key_ends_the_pause_after_refusals);
    RUN(kept_tokens_stay);
    RUN(a_client_without_a_key_gets_one);
    RUN(bad_keys_are_refused_and_change_nothing);
    RUN(parent_and_child_each_find_the_new_key);
    RUN(the_key_is_set_under_load);
    RUN(the_file_is_replaced_under_load);
    if (argument("quick") == NULL)
        RUN(the_file_is_read_at_most_once_in_five_seconds);
    return check_summary();
}
