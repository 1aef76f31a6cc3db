/* Every function of the header with every kind of wrong argument. Sends nothing. */
#define _GNU_SOURCE
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum {
    SIGNATURE_LEN = SPIKE_AUTH_SIGNATURE_SIZE - 1,
    TOKEN_LEN = SPIKE_AUTH_TOKEN_SIZE - 1,
    AUTHORIZATION_LEN = SPIKE_AUTH_AUTHORIZATION_SIZE - 1
};

/* The known answer, computed with Python and OpenSSL for the key of check.h. */
#define ID "my_application_user_123"
#define ID_LEN (sizeof ID - 1)
#define SIGNATURE "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199"

static spike_auth_client *client; /* complete, at an address without a listener */
static char base_url[64];

/* Binds a port, so that no other process uses it, and does not listen. */
static void choose_an_address_without_a_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    REQUIRE(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    snprintf(base_url, sizeof base_url, "http://127.0.0.1:%u/v3", (unsigned)ntohs(address.sin_port));
}

static void the_macros_equal_the_functions(void)
{
    char version[32];
    unsigned number = SPIKE_AUTH_VERSION_NUMBER;
    CHECK_EQ_INT(spike_auth_abi_version(), SPIKE_AUTH_ABI_VERSION);
    CHECK_EQ_INT(spike_auth_version_number(), SPIKE_AUTH_VERSION_NUMBER);
    CHECK_EQ_INT(spike_auth_signature_size(), SPIKE_AUTH_SIGNATURE_SIZE);
    CHECK_EQ_INT(spike_auth_token_size(), SPIKE_AUTH_TOKEN_SIZE);
    CHECK_EQ_INT(spike_auth_authorization_size(), SPIKE_AUTH_AUTHORIZATION_SIZE);
    snprintf(version, sizeof version, "%u.%u.%u", number >> 16, number >> 8 & 255, number & 255);
    CHECK_STR(spike_auth_version(), version);
}

/* ---- the functions of one user ------------------------------------------------------------------ */

#define SIGN(key, key_len, id, id_len) spike_auth_sign_user(key, key_len, id, id_len, out.at, out.cap, &out.len, err)
#define VERIFY(key, key_len, id, id_len, signature, signature_len) \
    spike_auth_verify_user(key, key_len, id, id_len, signature, signature_len, err)

/* All in one form: what a function does not take is ignored. */
#define ADAPTER(name, made_call)                                                                            \
    static int32_t name(const spike_auth_client *with, const char *id, size_t id_len,                       \
                        const spike_auth_call *call, char *out, size_t cap, size_t *len, spike_auth_error *err) \
    {                                                                                                       \
        (void)with, (void)call, (void)out, (void)cap, (void)len;                                            \
        return made_call;                                                                                   \
    }

ADAPTER(sign, spike_auth_sign_user(KEY, KEY_LEN, id, id_len, out, cap, len, err))
ADAPTER(verify, VERIFY(KEY, KEY_LEN, id, id_len, SIGNATURE, SIGNATURE_LEN))
ADAPTER(client_sign, spike_auth_client_sign_user(with, id, id_len, out, cap, len, err))
ADAPTER(exchange_signature,
        spike_auth_client_exchange_signature(with, id, id_len, SIGNATURE, SIGNATURE_LEN, call, out, cap, len, err))
ADAPTER(invalidate, spike_auth_client_invalidate(with, id, id_len, "token", NUL_TERMINATED, err))
ADAPTER(forget, spike_auth_client_forget(with, id, id_len, err))
ADAPTER(forget_shared, spike_auth_client_forget_shared(with, id, id_len, call, err))

enum { NO_CLIENT = 1, NEEDS_KEY = 2, TAKES_CALL = 4 };

static const struct function {
    const char *name;
    text_call *make;
    size_t needed; /* the length that BUFFER_TOO_SMALL reports; 0: it writes no text */
    int32_t status; /* with good arguments and no listener */
    int traits;
} FUNCTIONS[] = {
    {"sign_user", sign, SIGNATURE_LEN, SPIKE_AUTH_STATUS_OK, NO_CLIENT},
    {"verify_user", verify, 0, SPIKE_AUTH_STATUS_OK, NO_CLIENT},
    {"client_sign_user", client_sign, SIGNATURE_LEN, SPIKE_AUTH_STATUS_OK, NEEDS_KEY},
    {"client_exchange", spike_auth_client_exchange, TOKEN_LEN, SPIKE_AUTH_STATUS_CONNECT, NEEDS_KEY | TAKES_CALL},
    {"client_exchange_signature", exchange_signature, TOKEN_LEN, SPIKE_AUTH_STATUS_CONNECT, TAKES_CALL},
    {"client_get_token", spike_auth_client_get_token, TOKEN_LEN, SPIKE_AUTH_STATUS_CONNECT, NEEDS_KEY | TAKES_CALL},
    {"client_get_authorization", spike_auth_client_get_authorization, AUTHORIZATION_LEN, SPIKE_AUTH_STATUS_CONNECT,
     NEEDS_KEY | TAKES_CALL},
    {"client_peek_token", peek_token, TOKEN_LEN, SPIKE_AUTH_STATUS_NOT_CACHED, 0},
    {"client_invalidate", invalidate, 0, SPIKE_AUTH_STATUS_OK, 0},
    {"client_forget", forget, 0, SPIKE_AUTH_STATUS_OK, 0},
    {"client_forget_shared", forget_shared, 0, SPIKE_AUTH_STATUS_OK, NEEDS_KEY},
};

#define FOR_EACH(function) \
    for (const struct function *function = FUNCTIONS; function < FUNCTIONS + COUNT_OF(FUNCTIONS); function++)

/* Calls with outputs of this capacity. */
static void expect_within(const struct function *function, enum buffer_kind kind, size_t cap, int32_t status,
                          const spike_auth_client *with, const char *id, size_t id_len, const spike_auth_call *call)
{
    struct text_out out = text_out_new(kind, cap, function->needed);
    in_round("%s, %s, length %zu, capacity %zu, %s", function->name, id ? id : "NULL", id_len, cap,
             kind == FENCED ? "fenced" : "guarded");
    if (function->needed)
        EXPECT_TEXT_STATUS(status, out, function->make(with, id, id_len, call, out.at, out.cap, &out.len, err));
    else
        EXPECT_STATUS(status, function->make(with, id, id_len, NULL, NULL, 0, NULL, err));
    text_out_free(&out);
}

static void expect(const struct function *function, int32_t status, const spike_auth_client *with, const char *id,
                   size_t id_len, const spike_auth_call *call)
{
    expect_within(function, FENCED, function->needed + 1, status, with, id, id_len, call);
}

static void every_capacity_is_honoured(void)
{
    FOR_EACH(function) {
        size_t n = function->needed + 1;
        const size_t capacities[] = {0, 1, 2, n / 2, n - 2, n - 1, n, n + 1, 2 * n};
        for (size_t i = 0; function->needed && i < COUNT_OF(capacities); i++) {
            /* If nothing is cached, no room is needed. */
            int fits = capacities[i] >= n || function->status == SPIKE_AUTH_STATUS_NOT_CACHED;
            int32_t status = fits ? function->status : SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL;
            for (int kind = GUARDED; kind <= FENCED; kind++)
                expect_within(function, (enum buffer_kind)kind, capacities[i], status, client, ID, ID_LEN, NULL);
        }
    }
}

static void outputs_are_required_and_may_be_uninitialised(void)
{
    FOR_EACH(function)
        if (function->needed) {
            in_round("%s", function->name);
            check_outputs_are_required(function->make, client, ID);
            check_outputs_may_be_uninitialised(function->make, client, ID, function->status);
        }
}

static void every_function_checks_the_user_id_and_its_length(void)
{
    static const struct {
        const char *id;
        size_t len;
    } BAD[] = {{NULL, 0}, {ID, 0}, {"", NUL_TERMINATED}, {"a b", 3}, {"al\0ce", 5}, {"alice\n", NUL_TERMINATED}};
    FOR_EACH(function) {
        expect(function, SPIKE_AUTH_STATUS_NULL_POINTER, client, NULL, 5, NULL);
        expect(function, SPIKE_AUTH_STATUS_NULL_POINTER, client, NULL, NUL_TERMINATED, NULL);
        for (size_t i = 0; i < COUNT_OF(BAD); i++)
            expect(function, SPIKE_AUTH_STATUS_INVALID_USER_ID, client, BAD[i].id, BAD[i].len, NULL);
        for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++) {
            expect(function, SPIKE_AUTH_STATUS_INVALID_ARGUMENT, client, ID, IMPOSSIBLE_LENGTHS[i], NULL);
            expect(function, SPIKE_AUTH_STATUS_NULL_POINTER, client, NULL, IMPOSSIBLE_LENGTHS[i], NULL);
        }
    }
}

static void a_user_id_of_1_to_128_bytes_needs_no_nul(void)
{
    static const size_t LENGTHS[] = {1, 2, 63, 64, 127, SPIKE_AUTH_USER_ID_MAX, SPIKE_AUTH_USER_ID_MAX + 1, 1000};
    FOR_EACH(function)
        for (size_t i = 0; i < COUNT_OF(LENGTHS); i++) {
            struct buffer id = buffer_fenced(LENGTHS[i]);
            struct text_out out = text_out_new(GUARDED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
            int32_t status = function->make == verify ? SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH : function->status;
            if (LENGTHS[i] > SPIKE_AUTH_USER_ID_MAX)
                status = SPIKE_AUTH_STATUS_INVALID_USER_ID;
            memset(id.at, 'x', id.size);
            in_round("%s, length %zu", function->name, LENGTHS[i]);
            EXPECT_STATUS(status, function->make(client, (const char *)id.at, id.size, NULL, out.at, out.cap, &out.len,
                                                 err));
            text_out_free(&out);
            buffer_free(&id);
        }
}

/* ---- signing --------------------------------------------------------------------------------------- */

static void every_function_signs_and_verifies_the_known_answer(void)
{
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_SIGNATURE_SIZE, SIGNATURE_LEN);
    struct buffer signature = buffer_of_text(FENCED, SIGNATURE), row = buffer_guarded(SIGNATURE_LEN);
    static const int64_t OFFSETS[] = {0, ID_LEN};
    EXPECT_TEXT(OK, out, SIGN(KEY, KEY_LEN, ID, NUL_TERMINATED));
    CHECK_STR(out.at, SIGNATURE);
    EXPECT_TEXT(OK, out, client_sign(client, ID, NUL_TERMINATED, NULL, out.at, out.cap, &out.len, err));
    CHECK_STR(out.at, SIGNATURE);
    EXPECT(OK, spike_auth_client_sign_users(client, ID, ID_LEN, OFFSETS, 1, (char *)row.at, row.size, NULL, err));
    CHECK(memcmp(row.at, SIGNATURE, SIGNATURE_LEN) == 0);
    EXPECT(OK, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
    EXPECT(OK, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, (const char *)signature.at, signature.size));
    EXPECT(SIGNATURE_MISMATCH, VERIFY(KEY, KEY_LEN - 1, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
    /* Each bit of each digit counts: by its exclusive or with '0' to '9' and 'a' to 'f'. */
    for (size_t bit = 0; bit < 4 * SIGNATURE_LEN; bit++) {
        static const char DIGITS[] = "0123456789abcdef";
        char *digit = (char *)signature.at + bit / 4, before = *digit;
        *digit = DIGITS[(strchr(DIGITS, before) - DIGITS) ^ (1 << bit % 4)];
        in_round("bit %zu", bit);
        EXPECT(SIGNATURE_MISMATCH, VERIFY(KEY, KEY_LEN, ID, ID_LEN, (const char *)signature.at, signature.size));
        *digit = before;
    }
    buffer_free(&row);
    buffer_free(&signature);
    text_out_free(&out);
}

static void sign_user_and_verify_user_check_the_key(void)
{
    static uint8_t long_key[SPIKE_AUTH_TOKEN_SIZE];
    static const struct {
        const uint8_t *key;
        size_t len;
        int32_t status;
    } KEYS[] = {
        {NULL, KEY_LEN, SPIKE_AUTH_STATUS_NULL_POINTER},
        {NULL, 0, SPIKE_AUTH_STATUS_INVALID_KEY},
        {KEY, 0, SPIKE_AUTH_STATUS_INVALID_KEY},
        {long_key, 4097, SPIKE_AUTH_STATUS_INVALID_KEY},
        {long_key, 4096, SPIKE_AUTH_STATUS_OK},
        {long_key, 1, SPIKE_AUTH_STATUS_OK},
        {KEY, SIZE_MAX, SPIKE_AUTH_STATUS_INVALID_ARGUMENT}, /* a key is not a text */
        {KEY, (size_t)PTRDIFF_MAX + 1, SPIKE_AUTH_STATUS_INVALID_ARGUMENT},
    };
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_SIGNATURE_SIZE, SIGNATURE_LEN);
    for (size_t i = 0; i < COUNT_OF(KEYS); i++) {
        int32_t status = KEYS[i].status, mismatch = status ? status : SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH;
        in_round("key %zu", i);
        EXPECT_TEXT_STATUS(status, out, SIGN(KEYS[i].key, KEYS[i].len, ID, NUL_TERMINATED));
        EXPECT_STATUS(mismatch, VERIFY(KEYS[i].key, KEYS[i].len, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
    }
    text_out_free(&out);
}

/* For verify_user, NULL is a pointer that is missing; for exchange_signature, a signature that is. */
static void a_missing_or_malformed_signature_is_refused(void)
{
    static const struct {
        const char *signature;
        size_t len;
        int32_t verified, exchanged;
    } ROWS[] = {
        {NULL, 64, SPIKE_AUTH_STATUS_NULL_POINTER, SPIKE_AUTH_STATUS_INVALID_SIGNATURE},
        {NULL, NUL_TERMINATED, SPIKE_AUTH_STATUS_NULL_POINTER, SPIKE_AUTH_STATUS_INVALID_SIGNATURE},
        {NULL, 0, SPIKE_AUTH_STATUS_INVALID_SIGNATURE, SPIKE_AUTH_STATUS_INVALID_SIGNATURE},
        {SIGNATURE, 0, SPIKE_AUTH_STATUS_INVALID_SIGNATURE, SPIKE_AUTH_STATUS_INVALID_SIGNATURE},
        {"", NUL_TERMINATED, SPIKE_AUTH_STATUS_INVALID_SIGNATURE, SPIKE_AUTH_STATUS_INVALID_SIGNATURE},
        {SIGNATURE, 63, SPIKE_AUTH_STATUS_INVALID_SIGNATURE, SPIKE_AUTH_STATUS_INVALID_SIGNATURE},
        {SIGNATURE "0", NUL_TERMINATED, SPIKE_AUTH_STATUS_INVALID_SIGNATURE, SPIKE_AUTH_STATUS_INVALID_SIGNATURE},
        {"g", NUL_TERMINATED, SPIKE_AUTH_STATUS_INVALID_SIGNATURE, SPIKE_AUTH_STATUS_INVALID_SIGNATURE},
        {SIGNATURE, (size_t)PTRDIFF_MAX + 1, SPIKE_AUTH_STATUS_INVALID_ARGUMENT, SPIKE_AUTH_STATUS_INVALID_ARGUMENT},
        {SIGNATURE, SIZE_MAX - 1, SPIKE_AUTH_STATUS_INVALID_ARGUMENT, SPIKE_AUTH_STATUS_INVALID_ARGUMENT},
    };
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_TOKEN_SIZE, 0);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        const char *signature = ROWS[i].signature;
        size_t len = ROWS[i].len;
        in_round("signature %zu", i);
        EXPECT_STATUS(ROWS[i].verified, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, signature, len));
        EXPECT_TEXT_STATUS(ROWS[i].exchanged, out,
                           spike_auth_client_exchange_signature(client, ID, ID_LEN, signature, len, NULL, out.at,
                                                                out.cap, &out.len, err));
    }
    text_out_free(&out);
}

/* ---- configuration -------------------------------------------------------------------------------- */

/* A `_new` that fails sets its handle to NULL, whatever it was. */
#define EXPECT_NO_HANDLE(name, handle, call) \
    EXPECT_AROUND(name, call, memset(&(handle), 0xA5, sizeof(handle)), CHECK((handle) == NULL))

static void new_needs_a_place_for_the_handle_and_free_takes_null(void)
{
    spike_auth_config *config = NULL;
    spike_auth_call *call = NULL;
    EXPECT(NULL_POINTER, spike_auth_config_new(NULL, err));
    EXPECT(NULL_POINTER, spike_auth_call_new(NULL, err));
    EXPECT_AROUND(OK, spike_auth_config_new(&config, err), memset(&config, 0xA5, sizeof config),
                  spike_auth_config_free(config));
    EXPECT_AROUND(OK, spike_auth_call_new(&call, err), memset(&call, 0xA5, sizeof call), spike_auth_call_free(call));
    spike_auth_config_free(NULL);
    spike_auth_call_cancel(NULL);
    spike_auth_call_free(NULL);
    spike_auth_client_close(NULL);
    spike_auth_client_free(NULL);
}

typedef int32_t text_setter(spike_auth_config *config, const char *text, size_t len, spike_auth_error *err);

static int32_t set_key(spike_auth_config *config, const char *text, size_t len, spike_auth_error *err)
{
    return spike_auth_config_set_hmac_key(config, (const uint8_t *)text, len, err);
}

static const struct setter {
    const char *name;
    text_setter *set;
    const char *good, *bad;
    int32_t refusal; /* the status of a bad value */
    int32_t empty;   /* the status of an empty value */
    int is_text;     /* takes SPIKE_AUTH_NUL_TERMINATED */
    size_t most;     /* the longest value, if there is a limit */
} SETTERS[] = {
    {"application_id", spike_auth_config_set_application_id, "9999", " 9999", SPIKE_AUTH_STATUS_INVALID_APPLICATION_ID,
     SPIKE_AUTH_STATUS_INVALID_APPLICATION_ID, 1, 64},
    {"hmac_key", set_key, KEY_TEXT, NULL, SPIKE_AUTH_STATUS_INVALID_KEY, SPIKE_AUTH_STATUS_INVALID_KEY, 0, 4096},
    {"base_url", spike_auth_config_set_base_url, "https://example.com/v3", "http://example.com",
     SPIKE_AUTH_STATUS_INVALID_URL, SPIKE_AUTH_STATUS_INVALID_URL, 1, 0},
    {"user_agent", spike_auth_config_set_user_agent, "shop/1.2", "a\r\nX-Evil: 1", SPIKE_AUTH_STATUS_INVALID_ARGUMENT,
     SPIKE_AUTH_STATUS_OK, 1, 256},
    {"proxy", spike_auth_config_set_proxy, "http://user:pass@proxy.example:3128", "socks5://proxy.example",
     SPIKE_AUTH_STATUS_INVALID_URL, SPIKE_AUTH_STATUS_OK, 1, 0},
    {"store", spike_auth_config_set_store, "redis://user:pass@store.example:6380/1", "http://store.example",
     SPIKE_AUTH_STATUS_INVALID_URL, SPIKE_AUTH_STATUS_OK, 1, 0},
    {"ca_pem", spike_auth_config_set_ca_pem, NULL, "nothing", SPIKE_AUTH_STATUS_TLS_ROOTS, SPIKE_AUTH_STATUS_TLS_ROOTS,
     0, 0},
};

static void check_setter(const struct setter *setter, spike_auth_config *config, const char *text, size_t len,
                         int32_t expected)
{
    in_round("%s, length %zu", setter->name, len);
    EXPECT_STATUS(expected, setter->set(config, text, len, err));
}

static void check_value(const struct setter *setter, spike_auth_config *config, const char *value, int32_t expected)
{
    struct buffer exact = buffer_of_text(FENCED, value); /* no NUL follows */
    check_setter(setter, config, (const char *)exact.at, exact.size, expected);
    check_setter(setter, config, value, NUL_TERMINATED,
                 setter->is_text ? expected : SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
    check_setter(setter, NULL, value, exact.size, SPIKE_AUTH_STATUS_NULL_POINTER);
    buffer_free(&exact);
}

static void setters_take_null_only_with_length_0_and_refuse_impossible_lengths(void)
{
    spike_auth_config *config = new_config(base_url);
    for (const struct setter *setter = SETTERS; setter < SETTERS + COUNT_OF(SETTERS); setter++) {
        check_setter(setter, config, NULL, 0, setter->empty);
        check_setter(setter, config, "x", 0, setter->empty);
        check_setter(setter, config, NULL, 4, SPIKE_AUTH_STATUS_NULL_POINTER);
        check_setter(setter, config, NULL, NUL_TERMINATED, SPIKE_AUTH_STATUS_NULL_POINTER);
        check_setter(setter, NULL, NULL, 0, SPIKE_AUTH_STATUS_NULL_POINTER);
        for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++)
            check_setter(setter, config, "text", IMPOSSIBLE_LENGTHS[i], SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
        if (setter->good)
            check_value(setter, config, setter->good, SPIKE_AUTH_STATUS_OK);
        if (setter->bad)
            check_value(setter, config, setter->bad, setter->refusal);
        for (size_t len = setter->most; setter->most && len <= setter->most + 1; len++) {
            static char text[5000];
            memset(text, 'a', len);
            check_setter(setter, config, text, len, len == setter->most ? SPIKE_AUTH_STATUS_OK : setter->refusal);
        }
    }
    EXPECT(NULL_POINTER, spike_auth_config_load_env(NULL, err)); /* the rest is in environment.c */
    spike_auth_config_free(config);
}

static void numbers_have_bounds(void)
{
    static const struct {
        const char *name;
        int32_t (*set)(spike_auth_config *config, uint32_t n, spike_auth_error *err);
        uint32_t most;
    } ROWS[] = {
        {"timeout_ms", spike_auth_config_set_timeout_ms, 600000},
        {"connect_timeout_ms", spike_auth_config_set_connect_timeout_ms, 600000},
        {"max_attempts", spike_auth_config_set_max_attempts, 10},
        {"max_concurrency", spike_auth_config_set_max_concurrency, 1024},
        {"store_timeout_ms", spike_auth_config_set_store_timeout_ms, 10000},
        {"max_rate", spike_auth_config_set_max_rate, UINT32_MAX},
        {"cache_capacity", spike_auth_config_set_cache_capacity, UINT32_MAX},
    };
    static const uint64_t SIZES[] = {0, 1, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
    static const int32_t BAD_ROOTS[] = {-1, 3, 256, 0x10000, INT32_MIN, INT32_MAX};
    spike_auth_config *config = new_config(base_url);
    spike_auth_call *call = NULL;
    REQUIRE(spike_auth_call_new(&call, NULL) == SPIKE_AUTH_STATUS_OK);
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        const uint32_t most = ROWS[i].most;
        const uint32_t numbers[] = {0, 1, most - 1, most, most + 1, 0x7FFFFFFF, 0x80000000, UINT32_MAX};
        for (size_t k = 0; k < COUNT_OF(numbers); k++) {
            uint32_t number = numbers[k];
            int32_t status = number <= most ? SPIKE_AUTH_STATUS_OK : SPIKE_AUTH_STATUS_INVALID_ARGUMENT;
            in_round("%s %u", ROWS[i].name, (unsigned)number);
            EXPECT_STATUS(status, ROWS[i].set(config, number, err));
            EXPECT(NULL_POINTER, ROWS[i].set(NULL, number, err));
            if (i == 0) /* a call's timeout has the same bounds */
                EXPECT_STATUS(status, spike_auth_call_set_timeout_ms(call, number, err));
            EXPECT(NULL_POINTER, spike_auth_call_set_timeout_ms(NULL, number, err));
        }
    }
    for (size_t i = 0; i < COUNT_OF(SIZES); i++) {
        in_round("size %llu", (unsigned long long)SIZES[i]);
        EXPECT(OK, spike_auth_config_set_cache_max_bytes(config, SIZES[i], err));
        EXPECT(OK, spike_auth_config_set_cache_ttl_ms(config, SIZES[i], err));
    }
    EXPECT(NULL_POINTER, spike_auth_config_set_cache_max_bytes(NULL, 1, err));
    EXPECT(NULL_POINTER, spike_auth_config_set_cache_ttl_ms(NULL, 1, err));
    CHECK_EQ_INT(SPIKE_AUTH_TLS_ROOTS_PLATFORM, 0);
    CHECK_EQ_INT(SPIKE_AUTH_TLS_ROOTS_BUNDLED, 1);
    CHECK_EQ_INT(SPIKE_AUTH_TLS_ROOTS_NONE, 2);
    for (int32_t roots = 0; roots <= 2; roots++)
        EXPECT(OK, spike_auth_config_set_tls_roots(config, roots, err));
    for (size_t i = 0; i < COUNT_OF(BAD_ROOTS); i++)
        EXPECT(INVALID_ARGUMENT, spike_auth_config_set_tls_roots(config, BAD_ROOTS[i], err));
    EXPECT(NULL_POINTER, spike_auth_config_set_tls_roots(NULL, 0, err));
    spike_auth_call_free(call);
    spike_auth_config_free(config);
}

/* ---- client ---------------------------------------------------------------------------------------- */

static void check_signs_the_known_answer(spike_auth_client *with)
{
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    CHECK_STATUS(spike_auth_client_sign_user(with, ID, NUL_TERMINATED, signature, sizeof signature, &len, NULL), 0);
    CHECK_STR(signature, SIGNATURE);
    spike_auth_client_free(with);
}

static void a_setter_that_fails_changes_nothing(void)
{
    spike_auth_config *config = new_config(base_url);
    EXPECT(INVALID_KEY, spike_auth_config_set_hmac_key(config, NULL, 0, err));
    EXPECT(INVALID_APPLICATION_ID, spike_auth_config_set_application_id(config, "", NUL_TERMINATED, err));
    EXPECT(INVALID_URL, spike_auth_config_set_base_url(config, "nonsense", NUL_TERMINATED, err));
    check_signs_the_known_answer(client_of(config)); /* the application id is still set, and the http URL */
}

static void client_new_fails_with_null_in_the_handle(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *made = NULL;
    CHECK_STATUS(spike_auth_config_new(&config, NULL), 0);
    EXPECT_NO_HANDLE(NULL_POINTER, made, spike_auth_client_new(NULL, &made, err));
    EXPECT(NULL_POINTER, spike_auth_client_new(config, NULL, err));
    EXPECT(NULL_POINTER, spike_auth_client_new(NULL, NULL, err));
    EXPECT_NO_HANDLE(INCOMPLETE_CONFIG, made, spike_auth_client_new(config, &made, err));
    spike_auth_config_free(config);
}

static void one_config_makes_many_clients_that_outlive_it(void)
{
    enum { CLIENTS = 20 };
    spike_auth_client *made[CLIENTS];
    spike_auth_config *config = new_config(base_url);
    for (int i = 0; i < CLIENTS; i++)
        REQUIRE(spike_auth_client_new(config, &made[i], NULL) == 0);
    CHECK_STATUS(spike_auth_config_set_hmac_key(config, (const uint8_t *)"other", 5, NULL), 0);
    spike_auth_config_free(config);
    for (int i = 0; i < CLIENTS; i++)
        check_signs_the_known_answer(made[i]);
}

/* With no client, a client without a key, a closed client, and a cancelled call. */
static void the_state_of_the_handles_decides(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *keyless, *closed = client_of(new_config(base_url));
    spike_auth_call *call = NULL;
    REQUIRE(spike_auth_call_new(&call, NULL) == SPIKE_AUTH_STATUS_OK);
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    CHECK_STATUS(spike_auth_config_set_application_id(config, "1", 1, NULL), 0);
    CHECK_STATUS(spike_auth_config_set_base_url(config, base_url, NUL_TERMINATED, NULL), 0);
    keyless = client_of(config);
    for (int i = 0; i < 3; i++)
        spike_auth_client_close(closed);
    FOR_EACH(function) {
        int32_t without_key = function->traits & NEEDS_KEY ? SPIKE_AUTH_STATUS_KEY_REQUIRED : function->status;
        if (function->traits & NO_CLIENT)
            continue;
        expect(function, SPIKE_AUTH_STATUS_NULL_POINTER, NULL, ID, 5, NULL);
        expect(function, without_key, keyless, ID, NUL_TERMINATED, NULL);
        expect(function, SPIKE_AUTH_STATUS_CLOSED, closed, ID, NUL_TERMINATED, NULL);
        expect_within(function, FENCED, 4, SPIKE_AUTH_STATUS_CLOSED, closed, ID, NUL_TERMINATED, NULL);
        if (function->traits & TAKES_CALL)
            expect(function, function->status, client, ID, NUL_TERMINATED, call);
    }
    for (int i = 0; i < 2; i++)
        spike_auth_call_cancel(call);
    FOR_EACH(function)
        if (function->traits & TAKES_CALL) {
            expect(function, SPIKE_AUTH_STATUS_CANCELLED, client, ID, NUL_TERMINATED, call);
            /* Wrong arguments are reported first. */
            expect(function, SPIKE_AUTH_STATUS_INVALID_USER_ID, client, "", 0, call);
            expect(function, SPIKE_AUTH_STATUS_NULL_POINTER, NULL, ID, NUL_TERMINATED, call);
            if (function->make == spike_auth_client_exchange)
                expect_within(function, FENCED, 4, SPIKE_AUTH_STATUS_BUFFER_TOO_SMALL, client, ID, ID_LEN, call);
        }
    EXPECT(OK, spike_auth_call_set_timeout_ms(call, 1, err));
    spike_auth_call_free(call);
    spike_auth_client_free(closed);
    spike_auth_client_free(keyless);
}

static void a_token_to_invalidate_is_required_and_need_not_be_cached(void)
{
#define INVALIDATE(token, token_len) spike_auth_client_invalidate(client, ID, 5, token, token_len, err)
    struct buffer token = buffer_of_text(FENCED, "token");
    EXPECT(NULL_POINTER, INVALIDATE(NULL, 5));
    EXPECT(NULL_POINTER, INVALIDATE(NULL, NUL_TERMINATED));
    EXPECT(INVALID_ARGUMENT, INVALIDATE(NULL, 0));
    EXPECT(INVALID_ARGUMENT, INVALIDATE("token", 0));
    EXPECT(INVALID_ARGUMENT, INVALIDATE("", NUL_TERMINATED));
    EXPECT(INVALID_ARGUMENT, INVALIDATE("to\0ken", 6));
    for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++)
        EXPECT(INVALID_ARGUMENT, INVALIDATE("token", IMPOSSIBLE_LENGTHS[i]));
    EXPECT(OK, INVALIDATE((char *)token.at, token.size));
    EXPECT(OK, INVALIDATE("token", NUL_TERMINATED));
#undef INVALIDATE
    buffer_free(&token);
}

/* At every alignment. */
static void stats_are_written_completely_and_are_zero_after_a_failure(void)
{
    spike_auth_client *closed = client_of(new_config(base_url));
    spike_auth_client_close(closed);
    EXPECT(OK, spike_auth_client_clear(client, err));
    EXPECT(CLOSED, spike_auth_client_clear(closed, err));
    EXPECT(NULL_POINTER, spike_auth_client_clear(NULL, err));
    EXPECT(NULL_POINTER, spike_auth_client_stats(client, NULL, err));
    EXPECT(NULL_POINTER, spike_auth_client_stats(NULL, NULL, err));
    for (size_t shift = 0; shift < 8; shift++) {
        struct buffer place = buffer_fenced(sizeof(spike_auth_stats) + 8);
        spike_auth_stats *stats = (void *)(place.at + shift), copy;
        in_round("shift %zu", shift);
        EXPECT_AROUND(NULL_POINTER, spike_auth_client_stats(NULL, stats, err), memset(place.at, 0xEE, place.size),
                      CHECK(all_bytes_are(place.at + shift, sizeof copy, 0)));
        EXPECT_AROUND(CLOSED, spike_auth_client_stats(closed, stats, err), memset(place.at, 0xEE, place.size),
                      CHECK(all_bytes_are(place.at + shift, sizeof copy, 0)));
        EXPECT_AROUND(OK, spike_auth_client_stats(client, stats, err), memset(place.at, 0xEE, place.size),
                      memcpy(&copy, place.at + shift, sizeof copy));
        CHECK(copy.misses > 0 && copy.exchanges > 0 && copy.failures == copy.exchanges); /* of the calls above */
        CHECK_EQ_INT(copy.hits + copy.coalesced + copy.requests + copy.retries + copy.invalidations, 0);
        CHECK_EQ_INT(copy.evictions + copy.entries + copy.bytes + copy.forks, 0);
        CHECK(all_bytes_are(copy.reserved, sizeof copy.reserved, 0));
        CHECK(all_bytes_are(place.at, shift, 0xEE));
        CHECK(all_bytes_are(place.at + shift + sizeof copy, 8 - shift, 0xEE));
        CHECK(buffer_is_intact(&place));
        buffer_free(&place);
    }
    spike_auth_client_free(closed);
}

int main(void)
{
    choose_an_address_without_a_listener();
    client = client_of(new_config(base_url));
    RUN(the_macros_equal_the_functions);
    RUN(every_capacity_is_honoured);
    RUN(outputs_are_required_and_may_be_uninitialised);
    RUN(every_function_checks_the_user_id_and_its_length);
    RUN(a_user_id_of_1_to_128_bytes_needs_no_nul);
    RUN(every_function_signs_and_verifies_the_known_answer);
    RUN(sign_user_and_verify_user_check_the_key);
    RUN(a_missing_or_malformed_signature_is_refused);
    RUN(new_needs_a_place_for_the_handle_and_free_takes_null);
    RUN(setters_take_null_only_with_length_0_and_refuse_impossible_lengths);
    RUN(numbers_have_bounds);
    RUN(a_setter_that_fails_changes_nothing);
    RUN(client_new_fails_with_null_in_the_handle);
    RUN(one_config_makes_many_clients_that_outlive_it);
    RUN(the_state_of_the_handles_decides);
    RUN(a_token_to_invalidate_is_required_and_need_not_be_cached);
    RUN(stats_are_written_completely_and_are_zero_after_a_failure);
    spike_auth_client_free(client);
    return check_summary();
}
