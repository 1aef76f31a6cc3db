/* A real panic in the library ends at the boundary. Needs a library with the feature test-panic. */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>

spike_auth_status_t spike_auth_test_panic(char *out, size_t out_cap, size_t *out_len, spike_auth_error *err);

enum { THREADS = 16, ROUNDS = 50 };

static void check_signing_still_works(void)
{
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    CHECK_STATUS(spike_auth_sign_user(KEY, KEY_LEN, "a", 1, signature, sizeof signature, &len, NULL), 0);
    CHECK_STR(signature, "a8c179bdf15ce1c5e2beab8e4700d0ac66e62b8880870164d9fe2dd0025622f3");
}

static void a_panic_is_a_status_and_leaves_the_outputs_as_any_failure_does(void)
{
    for (size_t cap = 0; cap < 4; cap++) {
        for (int kind = GUARDED; kind <= FENCED; kind++) {
            struct text_out out = text_out_new((enum buffer_kind)kind, cap, 0);
            EXPECT_TEXT(PANIC, out, spike_auth_test_panic(out.at, out.cap, &out.len, err));
            text_out_free(&out);
        }
    }
    check_signing_still_works();
}

static void the_message_calls_it_a_bug_and_hides_the_panics_text(void)
{
    char out[8];
    size_t len;
    spike_auth_error err;
    CHECK_STATUS(spike_auth_test_panic(out, sizeof out, &len, &err), SPIKE_AUTH_STATUS_PANIC);
    CHECK_CONTAINS(err.message, "bug");
    CHECK_LACKS(err.message, "provoked"); /* the panic's text may hold a secret */
    CHECK_EQ_INT(err.retryable, 0);
}

static void null_is_found_before_the_panic(void)
{
    char out[8];
    size_t len;
    EXPECT(NULL_POINTER, spike_auth_test_panic(NULL, 8, &len, err));
    EXPECT(NULL_POINTER, spike_auth_test_panic(out, sizeof out, NULL, err));
}

static void *panic_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        char out[8] = "secret";
        size_t len = 99;
        spike_auth_error err;
        CHECK_STATUS(spike_auth_test_panic(out, sizeof out, &len, &err), SPIKE_AUTH_STATUS_PANIC);
        CHECK_STATUS(err.status, SPIKE_AUTH_STATUS_PANIC);
        CHECK(len == 0 && out[0] == 0);
        check_signing_still_works();
    }
    return NULL;
}

static void panics_in_many_threads_harm_none(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, panic_often, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    RUN(a_panic_is_a_status_and_leaves_the_outputs_as_any_failure_does);
    RUN(the_message_calls_it_a_bug_and_hides_the_panics_text);
    RUN(null_is_found_before_the_panic);
    RUN(panics_in_many_threads_harm_none);
    return check_summary();
}
