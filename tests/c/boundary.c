/* Every function of the header against everything that a caller can get wrong. Sends nothing. */
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

#define ID "alice"
#define SIGNATURE "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199"

static spike_auth_client *client; /* complete, at an address where nobody listens */
static char base_url[64];

/* A port that is taken, so that nobody else gets it, and that nobody listens on. */
static void choose_an_address_where_nobody_listens(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    REQUIRE(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    snprintf(base_url, sizeof base_url, "http://127.0.0.1:%u/v3", (unsigned)ntohs(address.sin_port));
}

/* ---- library ----------------------------------------------------------------------------------- */

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

struct status {
    int32_t number;
    const char *name;
};

#define STATUS(number, name) {number, "SPIKE_AUTH_STATUS_" #name}

/* The numbers once more, by hand: they must never change. */
static const struct status STATUSES[] = {
    STATUS(0, OK), STATUS(1, NULL_POINTER), STATUS(2, INVALID_ARGUMENT), STATUS(3, INVALID_USER_ID),
    STATUS(4, INVALID_APPLICATION_ID), STATUS(5, INVALID_KEY), STATUS(6, INVALID_SIGNATURE),
    STATUS(7, INVALID_URL), STATUS(8, BUFFER_TOO_SMALL), STATUS(9, KEY_REQUIRED),
    STATUS(10, SIGNATURE_MISMATCH), STATUS(11, INCOMPLETE_CONFIG), STATUS(12, NOT_CACHED),
    STATUS(13, INVALID_ENVIRONMENT), STATUS(14, CLOSED), STATUS(20, TLS_ROOTS), STATUS(21, FILE),
    STATUS(40, RESOLVE), STATUS(41, CONNECT), STATUS(42, TLS), STATUS(43, TIMEOUT),
    STATUS(44, CONNECTION_LOST), STATUS(45, PROXY), STATUS(46, CANCELLED), STATUS(60, REFUSED),
    STATUS(61, UNAUTHORIZED), STATUS(62, FORBIDDEN), STATUS(63, RATE_LIMITED), STATUS(64, SERVER_ERROR),
    STATUS(65, UNEXPECTED_STATUS), STATUS(66, INVALID_RESPONSE), STATUS(67, RESPONSE_TOO_LARGE),
    STATUS(68, TOKEN_REJECTED), STATUS(90, INTERNAL), STATUS(91, PANIC),
};

static const char *known_name(int32_t number)
{
    for (size_t i = 0; i < COUNT_OF(STATUSES); i++)
        if (STATUSES[i].number == number)
            return STATUSES[i].name;
    return NULL;
}

static void every_status_has_its_name_and_every_other_number_none(void)
{
    const char *unknown_text = spike_auth_status_text(INT32_MIN);
    static const int32_t EXTREMES[] = {INT32_MIN, INT32_MIN + 1, INT32_MAX - 1, INT32_MAX};
    CHECK(strlen(unknown_text) > 10);
    for (int32_t number = -300; number <= 300; number++) {
        const char *name = known_name(number);
        in_round("status %d", (int)number);
        CHECK_STR(spike_auth_status_name(number), name ? name : "unknown");
        CHECK((strcmp(spike_auth_status_text(number), unknown_text) == 0) == (name == NULL));
        CHECK(strlen(spike_auth_status_text(number)) > 5);
    }
    for (size_t i = 0; i < COUNT_OF(EXTREMES); i++) {
        CHECK_STR(spike_auth_status_name(EXTREMES[i]), "unknown");
        CHECK_STR(spike_auth_status_text(EXTREMES[i]), unknown_text);
    }
}

/* ---- the functions that write a text ------------------------------------------------------------ */

typedef int32_t text_function(char *out, size_t cap, size_t *len, spike_auth_error *err);

static int32_t sign(char *out, size_t cap, size_t *len, spike_auth_error *err)
{
    return spike_auth_sign_user(KEY, KEY_LEN, ID, NUL_TERMINATED, out, cap, len, err);
}

static int32_t client_sign(char *out, size_t cap, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_sign_user(client, ID, NUL_TERMINATED, out, cap, len, err);
}

static int32_t exchange(char *out, size_t cap, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_exchange(client, ID, NUL_TERMINATED, NULL, out, cap, len, err);
}

static int32_t exchange_signature(char *out, size_t cap, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_exchange_signature(client, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED, NULL, out, cap,
                                                len, err);
}

static int32_t get_token(char *out, size_t cap, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_get_token(client, ID, NUL_TERMINATED, NULL, out, cap, len, err);
}

static int32_t get_authorization(char *out, size_t cap, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_get_authorization(client, ID, NUL_TERMINATED, NULL, out, cap, len, err);
}

static int32_t peek_token(char *out, size_t cap, size_t *len, spike_auth_error *err)
{
    return spike_auth_client_peek_token(client, ID, NUL_TERMINATED, out, cap, len, err);
}

/* With a token in the cache the last three are in cache.c. */
static const struct writer {
    const char *name;
    text_function *call;
    size_t needed; /* the length that BUFFER_TOO_SMALL reports */
    int32_t status; /* what comes of it where the buffer is large enough: those that send find nobody who listens */
} WRITERS[] = {
    {"sign_user", sign, SIGNATURE_LEN, SPIKE_AUTH_STATUS_OK},
    {"client_sign_user", client_sign, SIGNATURE_LEN, SPIKE_AUTH_STATUS_OK},
    {"client_exchange", exchange, TOKEN_LEN, SPIKE_AUTH_STATUS_CONNECT},
    {"client_exchange_signature", exchange_signature, TOKEN_LEN, SPIKE_AUTH_STATUS_CONNECT},
    {"client_get_token", get_token, TOKEN_LEN, SPIKE_AUTH_STATUS_CONNECT},
    {"client_get_authorization", get_authorization, AUTHORIZATION_LEN, SPIKE_AUTH_STATUS_CONNECT},
    {"client_peek_token", peek_token, TOKEN_LEN, SPIKE_AUTH_STATUS_NOT_CACHED},
};

static void check_capacity(const struct writer *writer, enum buffer_kind kind, size_t cap)
{
    struct text_out out = text_out_new(kind, cap, writer->needed);
    in_round("%s, capacity %zu, %s", writer->name, cap, kind == FENCED ? "fenced" : "guarded");
    if (writer->status == SPIKE_AUTH_STATUS_NOT_CACHED) /* what is not there needs no room */
        EXPECT_TEXT(NOT_CACHED, out, writer->call(out.at, out.cap, &out.len, err));
    else if (cap <= writer->needed)
        EXPECT_TEXT(BUFFER_TOO_SMALL, out, writer->call(out.at, out.cap, &out.len, err));
    else if (writer->status == SPIKE_AUTH_STATUS_CONNECT)
        EXPECT_TEXT(CONNECT, out, writer->call(out.at, out.cap, &out.len, err));
    else
        EXPECT_TEXT(OK, out, writer->call(out.at, out.cap, &out.len, err));
    text_out_free(&out);
}

static void every_capacity_is_honoured(void)
{
    for (size_t i = 0; i < COUNT_OF(WRITERS); i++) {
        size_t n = WRITERS[i].needed + 1;
        const size_t capacities[] = {0, 1, 2, n / 2, n - 2, n - 1, n, n + 1, 2 * n};
        for (size_t k = 0; k < COUNT_OF(capacities); k++) {
            check_capacity(&WRITERS[i], GUARDED, capacities[k]);
            check_capacity(&WRITERS[i], FENCED, capacities[k]);
        }
    }
}

static void both_output_pointers_are_required(void)
{
    for (size_t i = 0; i < COUNT_OF(WRITERS); i++) {
        struct text_out out = text_out_new(FENCED, SPIKE_AUTH_TOKEN_SIZE, 0);
        in_round("%s", WRITERS[i].name);
        EXPECT_AROUND(NULL_POINTER, WRITERS[i].call(NULL, out.cap, &out.len, err), out.len = 7,
                      CHECK_EQ_INT(out.len, 0));
        EXPECT_AROUND(NULL_POINTER, WRITERS[i].call(NULL, 0, &out.len, err), out.len = 7, CHECK_EQ_INT(out.len, 0));
        EXPECT_AROUND(NULL_POINTER, WRITERS[i].call(out.at, out.cap, NULL, err), text_out_poison(&out),
                      CHECK_EQ_INT(out.at[0], 0));
        EXPECT(NULL_POINTER, WRITERS[i].call(out.at, 0, NULL, err));
        EXPECT(NULL_POINTER, WRITERS[i].call(NULL, 0, NULL, err));
        text_out_free(&out);
    }
}

static void an_impossible_capacity_is_an_invalid_argument(void)
{
    for (size_t i = 0; i < COUNT_OF(WRITERS); i++) {
        struct text_out out = text_out_new(GUARDED, SPIKE_AUTH_TOKEN_SIZE, 0);
        in_round("%s", WRITERS[i].name);
        EXPECT_TEXT(INVALID_ARGUMENT, out, WRITERS[i].call(out.at, SIZE_MAX, &out.len, err));
        for (size_t k = 0; k < COUNT_OF(IMPOSSIBLE_LENGTHS); k++)
            EXPECT_TEXT(INVALID_ARGUMENT, out, WRITERS[i].call(out.at, IMPOSSIBLE_LENGTHS[k], &out.len, err));
        text_out_free(&out);
    }
}

/* Under memcheck this fails if an uninitialised byte is read, or if one is left where it must not be. */
static void caller_memory_may_be_uninitialised(void)
{
    for (size_t i = 0; i < COUNT_OF(WRITERS); i++) {
        struct buffer out = buffer_guarded(SPIKE_AUTH_AUTHORIZATION_SIZE);
        struct buffer len = buffer_guarded(sizeof(size_t));
        struct buffer error = buffer_guarded(sizeof(spike_auth_error));
        size_t *len_at = (size_t *)(void *)len.at;
        spike_auth_error *err = (spike_auth_error *)(void *)error.at;
        int32_t status = WRITERS[i].call((char *)out.at, out.size, len_at, err);
        in_round("%s", WRITERS[i].name);
        CHECK_STATUS(status, WRITERS[i].status);
        CHECK_EQ_INT(strlen((char *)out.at), *len_at);
        CHECK(!all_bytes_are(err, sizeof *err, 0x77)); /* looks at every byte */
        check_error_is_whole(err, status, __FILE__, __LINE__);
        CHECK(buffer_is_intact(&out) && buffer_is_intact(&len) && buffer_is_intact(&error));
        buffer_free(&out);
        buffer_free(&len);
        buffer_free(&error);
    }
}

/* ---- step 1 -------------------------------------------------------------------------------------- */

#define SIGN(key, key_len, id, id_len) \
    spike_auth_sign_user(key, key_len, id, id_len, out.at, out.cap, &out.len, err)
#define VERIFY(key, key_len, id, id_len, signature, signature_len) \
    spike_auth_verify_user(key, key_len, id, id_len, signature, signature_len, err)

static void sign_user_checks_each_input(void)
{
    static uint8_t long_key[4097];
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_SIGNATURE_SIZE, SIGNATURE_LEN);
    EXPECT_TEXT(NULL_POINTER, out, SIGN(NULL, KEY_LEN, ID, NUL_TERMINATED));
    EXPECT_TEXT(NULL_POINTER, out, SIGN(KEY, KEY_LEN, NULL, 5));
    EXPECT_TEXT(NULL_POINTER, out, SIGN(KEY, KEY_LEN, NULL, NUL_TERMINATED));
    EXPECT_TEXT(INVALID_KEY, out, SIGN(NULL, 0, ID, NUL_TERMINATED));
    EXPECT_TEXT(INVALID_KEY, out, SIGN(KEY, 0, ID, NUL_TERMINATED));
    EXPECT_TEXT(INVALID_KEY, out, SIGN(long_key, 4097, ID, NUL_TERMINATED));
    EXPECT_TEXT(OK, out, SIGN(long_key, 4096, ID, NUL_TERMINATED));
    EXPECT_TEXT(OK, out, SIGN(long_key, 1, ID, NUL_TERMINATED));
    EXPECT_TEXT(INVALID_ARGUMENT, out, SIGN(KEY, SIZE_MAX, ID, NUL_TERMINATED)); /* a key is no text */
    EXPECT_TEXT(INVALID_USER_ID, out, SIGN(KEY, KEY_LEN, NULL, 0));
    EXPECT_TEXT(INVALID_USER_ID, out, SIGN(KEY, KEY_LEN, ID, 0));
    EXPECT_TEXT(INVALID_USER_ID, out, SIGN(KEY, KEY_LEN, "", NUL_TERMINATED));
    for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++) {
        EXPECT_TEXT(INVALID_ARGUMENT, out, SIGN(KEY, IMPOSSIBLE_LENGTHS[i], ID, NUL_TERMINATED));
        EXPECT_TEXT(INVALID_ARGUMENT, out, SIGN(KEY, KEY_LEN, ID, IMPOSSIBLE_LENGTHS[i]));
        EXPECT_TEXT(NULL_POINTER, out, SIGN(KEY, KEY_LEN, NULL, IMPOSSIBLE_LENGTHS[i]));
    }
    text_out_free(&out);
}

static void verify_user_checks_each_input(void)
{
    EXPECT(NULL_POINTER, VERIFY(NULL, KEY_LEN, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
    EXPECT(NULL_POINTER, VERIFY(KEY, KEY_LEN, NULL, 5, SIGNATURE, NUL_TERMINATED));
    EXPECT(NULL_POINTER, VERIFY(KEY, KEY_LEN, NULL, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
    EXPECT(NULL_POINTER, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, NULL, 64));
    EXPECT(NULL_POINTER, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, NULL, NUL_TERMINATED));
    EXPECT(INVALID_KEY, VERIFY(NULL, 0, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
    EXPECT(INVALID_ARGUMENT, VERIFY(KEY, SIZE_MAX, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
    EXPECT(INVALID_USER_ID, VERIFY(KEY, KEY_LEN, NULL, 0, SIGNATURE, NUL_TERMINATED));
    EXPECT(INVALID_SIGNATURE, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, NULL, 0));
    EXPECT(INVALID_SIGNATURE, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, "", NUL_TERMINATED));
    EXPECT(SIGNATURE_MISMATCH, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
    for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++) {
        size_t len = IMPOSSIBLE_LENGTHS[i];
        EXPECT(INVALID_ARGUMENT, VERIFY(KEY, len, ID, NUL_TERMINATED, SIGNATURE, NUL_TERMINATED));
        EXPECT(INVALID_ARGUMENT, VERIFY(KEY, KEY_LEN, ID, len, SIGNATURE, NUL_TERMINATED));
        EXPECT(INVALID_ARGUMENT, VERIFY(KEY, KEY_LEN, ID, NUL_TERMINATED, SIGNATURE, len));
    }
}

static int is_allowed(int byte)
{
    return byte != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", byte) != NULL;
}

static void a_user_id_takes_exactly_the_documented_characters(void)
{
    struct text_out out = text_out_new(GUARDED, SPIKE_AUTH_SIGNATURE_SIZE, SIGNATURE_LEN);
    for (int byte = 0; byte < 256; byte++) {
        const char id[3] = {'a', (char)byte, 'b'};
        in_round("byte %d", byte);
        if (is_allowed(byte))
            EXPECT_TEXT(OK, out, SIGN(KEY, KEY_LEN, id, 3));
        else
            EXPECT_TEXT(INVALID_USER_ID, out, SIGN(KEY, KEY_LEN, id, 3));
    }
    text_out_free(&out);
}

static void a_user_id_has_1_to_128_bytes_and_not_one_more_is_read(void)
{
    struct text_out out = text_out_new(GUARDED, SPIKE_AUTH_SIGNATURE_SIZE, SIGNATURE_LEN);
    for (size_t len = 1; len <= 130; len++) {
        struct buffer id = buffer_fenced(len);
        const char *text = (const char *)id.at;
        memset(id.at, 'x', len);
        in_round("length %zu", len);
        if (len <= SPIKE_AUTH_USER_ID_MAX)
            EXPECT_TEXT(OK, out, SIGN(KEY, KEY_LEN, text, len));
        else
            EXPECT_TEXT(INVALID_USER_ID, out, SIGN(KEY, KEY_LEN, text, len));
        buffer_free(&id);
    }
    text_out_free(&out);
}

/* ---- configuration -------------------------------------------------------------------------------- */

static void config_new_needs_a_place_for_the_handle(void)
{
    spike_auth_error *err = poisoned_error(0);
    spike_auth_config *config = NULL;
    EXPECT(NULL_POINTER, spike_auth_config_new(NULL, err));
    memset(&config, 0xA5, sizeof config);
    CHECK_STATUS(spike_auth_config_new(&config, err), SPIKE_AUTH_STATUS_OK);
    check_error_is_whole(err, SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__);
    spike_auth_config_free(config);
    CHECK_STATUS(spike_auth_config_new(&config, NULL), SPIKE_AUTH_STATUS_OK);
    spike_auth_config_free(config);
    spike_auth_config_free(NULL);
}

typedef int32_t text_setter(spike_auth_config *config, const char *text, size_t len, spike_auth_error *err);

static int32_t set_key(spike_auth_config *config, const char *text, size_t len, spike_auth_error *err)
{
    return spike_auth_config_set_hmac_key(config, (const uint8_t *)text, len, err);
}

static const struct setter {
    const char *name;
    text_setter *call;
    const char *good;
    int32_t empty; /* what an empty value is */
    int is_text;   /* takes SPIKE_AUTH_NUL_TERMINATED */
} SETTERS[] = {
    {"application_id", spike_auth_config_set_application_id, "9999", SPIKE_AUTH_STATUS_INVALID_APPLICATION_ID, 1},
    {"hmac_key", set_key, KEY_TEXT, SPIKE_AUTH_STATUS_INVALID_KEY, 0},
    {"base_url", spike_auth_config_set_base_url, "https://example.com/v3", SPIKE_AUTH_STATUS_INVALID_URL, 1},
    {"user_agent", spike_auth_config_set_user_agent, "shop/1.2", SPIKE_AUTH_STATUS_OK, 1},
    {"proxy", spike_auth_config_set_proxy, "http://user:pass@proxy.example:3128", SPIKE_AUTH_STATUS_OK, 1},
    {"ca_pem", spike_auth_config_set_ca_pem, NULL, SPIKE_AUTH_STATUS_TLS_ROOTS, 0},
};

/* As EXPECT, for a status that is only known at run time. */
static void check_setter(const struct setter *setter, spike_auth_config *config, const char *text, size_t len,
                         int32_t expected)
{
    spike_auth_error *first = poisoned_error(0), *second = poisoned_error(1);
    in_round("%s, length %zu", setter->name, len);
    CHECK_STATUS(setter->call(config, text, len, NULL), expected);
    CHECK_STATUS(setter->call(config, text, len, first), expected);
    CHECK_STATUS(setter->call(config, text, len, second), expected);
    check_error_is_whole(first, expected, __FILE__, __LINE__);
    CHECK(memcmp(first, second, sizeof *first) == 0);
}

static void check_good_value(const struct setter *setter, spike_auth_config *config)
{
    struct buffer exact = buffer_of_text(FENCED, setter->good); /* no NUL follows */
    int32_t terminated = setter->is_text ? SPIKE_AUTH_STATUS_OK : SPIKE_AUTH_STATUS_INVALID_ARGUMENT;
    check_setter(setter, config, (const char *)exact.at, exact.size, SPIKE_AUTH_STATUS_OK);
    check_setter(setter, config, setter->good, NUL_TERMINATED, terminated);
    check_setter(setter, NULL, setter->good, exact.size, SPIKE_AUTH_STATUS_NULL_POINTER);
    buffer_free(&exact);
}

static void setters_take_null_only_with_length_0_and_refuse_impossible_lengths(void)
{
    spike_auth_config *config = new_config(base_url);
    for (size_t i = 0; i < COUNT_OF(SETTERS); i++) {
        const struct setter *setter = &SETTERS[i];
        check_setter(setter, config, NULL, 0, setter->empty);
        check_setter(setter, config, "x", 0, setter->empty);
        check_setter(setter, config, NULL, 4, SPIKE_AUTH_STATUS_NULL_POINTER);
        check_setter(setter, config, NULL, NUL_TERMINATED, SPIKE_AUTH_STATUS_NULL_POINTER);
        check_setter(setter, NULL, NULL, 0, SPIKE_AUTH_STATUS_NULL_POINTER);
        for (size_t k = 0; k < COUNT_OF(IMPOSSIBLE_LENGTHS); k++)
            check_setter(setter, config, "text", IMPOSSIBLE_LENGTHS[k], SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
        if (!setter->is_text)
            check_setter(setter, config, "text", SIZE_MAX, SPIKE_AUTH_STATUS_INVALID_ARGUMENT);
        if (setter->good)
            check_good_value(setter, config);
    }
    spike_auth_config_free(config);
}

#define SET(what, value) spike_auth_config_set_##what(config, value, NUL_TERMINATED, err)

static void bad_texts_are_refused(void)
{
    spike_auth_config *config = new_config(base_url);
    static char long_text[5000];
    static const char *const BAD_URLS[] = {
        "example.com", "ftp://example.com", "http://example.com", "http://127.0.0.1.evil.com",
        "http://0x7f000001", "http://[::ffff:127.0.0.1]", "https://user:password@example.com", "https://",
        "https://example.com:0", "https://example.com:65536", "https://example.com/?a", "https://example.com/#a",
        "https://exa mple.com", " https://example.com", "https://example.com\r\n", "https://[::1", "https://ex\xffmple",
    };
    static const char *const GOOD_URLS[] = {
        "https://example.com", "https://example.com:8443/v3/", "http://localhost:8080", "http://127.1.2.3",
        "http://[::1]:80/v3", "HTTPS://EXAMPLE.COM",
    };
    memset(long_text, 'a', sizeof long_text - 1);
    for (size_t i = 0; i < COUNT_OF(BAD_URLS); i++) {
        in_round("%s", BAD_URLS[i]);
        EXPECT(INVALID_URL, SET(base_url, BAD_URLS[i]));
    }
    for (size_t i = 0; i < COUNT_OF(GOOD_URLS); i++) {
        in_round("%s", GOOD_URLS[i]);
        EXPECT(OK, SET(base_url, GOOD_URLS[i]));
    }
    in_round("%s", "long and odd texts");
    EXPECT(INVALID_URL, SET(base_url, long_text));
    EXPECT(INVALID_APPLICATION_ID, SET(application_id, " 9999"));
    EXPECT(INVALID_APPLICATION_ID, SET(application_id, "99\n"));
    EXPECT(INVALID_APPLICATION_ID, SET(application_id, long_text));
    EXPECT(INVALID_APPLICATION_ID, spike_auth_config_set_application_id(config, "1\0", 2, err));
    EXPECT(INVALID_APPLICATION_ID, spike_auth_config_set_application_id(config, long_text, 65, err));
    EXPECT(OK, spike_auth_config_set_application_id(config, long_text, 64, err));
    EXPECT(INVALID_ARGUMENT, SET(user_agent, "a\r\nX-Evil: 1"));
    EXPECT(INVALID_ARGUMENT, spike_auth_config_set_user_agent(config, long_text, 257, err));
    EXPECT(OK, spike_auth_config_set_user_agent(config, long_text, 256, err));
    EXPECT(INVALID_KEY, spike_auth_config_set_hmac_key(config, (uint8_t *)long_text, 4097, err));
    spike_auth_config_free(config);
}

static void a_proxy_is_an_http_url_of_a_host_or_nothing(void)
{
    spike_auth_config *config = new_config(base_url);
    static const char *const BAD[] = {
        "socks5://proxy.example:1080", "socks4://proxy.example", "https://proxy.example", "ftp://proxy.example",
        "http://", "http://proxy.example:65536", "http://proxy.example:0", "http://pro xy.example",
        " http://proxy.example", "http://proxy.example\r\n", "http://[::1", "http://pro\xffxy",
    };
    static const char *const GOOD[] = {"http://proxy.example", "http://127.0.0.1:3128", "http://[::1]:3128",
                                       "http://user:p%40ss@proxy.example:80", ""};
    for (size_t i = 0; i < COUNT_OF(BAD); i++) {
        in_round("%s", BAD[i]);
        EXPECT(INVALID_URL, SET(proxy, BAD[i]));
    }
    for (size_t i = 0; i < COUNT_OF(GOOD); i++) {
        in_round("%s", GOOD[i]);
        EXPECT(OK, SET(proxy, GOOD[i]));
    }
    spike_auth_config_free(config);
}

static void a_pem_that_holds_no_certificate_is_refused(void)
{
    spike_auth_config *config = new_config(base_url);
    static const char *const BAD[] = {
        "nothing", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "\xff\xfe",
    };
    for (size_t i = 0; i < COUNT_OF(BAD); i++) {
        struct buffer exact = buffer_of_text(FENCED, BAD[i]);
        in_round("pem %zu", i);
        EXPECT(TLS_ROOTS, spike_auth_config_set_ca_pem(config, (char *)exact.at, exact.size, err));
        buffer_free(&exact);
    }
    spike_auth_config_free(config);
}

static void numbers_have_bounds(void)
{
    spike_auth_config *config = new_config(base_url);
    static const uint32_t GOOD[] = {0, 1, 600000}, BAD[] = {600001, 0x7FFFFFFF, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(GOOD); i++) {
        EXPECT(OK, spike_auth_config_set_timeout_ms(config, GOOD[i], err));
        EXPECT(OK, spike_auth_config_set_connect_timeout_ms(config, GOOD[i], err));
        EXPECT(NULL_POINTER, spike_auth_config_set_timeout_ms(NULL, GOOD[i], err));
        EXPECT(NULL_POINTER, spike_auth_config_set_connect_timeout_ms(NULL, GOOD[i], err));
    }
    for (size_t i = 0; i < COUNT_OF(BAD); i++) {
        EXPECT(INVALID_ARGUMENT, spike_auth_config_set_timeout_ms(config, BAD[i], err));
        EXPECT(INVALID_ARGUMENT, spike_auth_config_set_connect_timeout_ms(config, BAD[i], err));
    }
    spike_auth_config_free(config);
}

typedef int32_t count_setter(spike_auth_config *config, uint32_t n, spike_auth_error *err);

static void check_count_setter(count_setter *set, const char *name, uint32_t most)
{
    spike_auth_config *config = new_config(base_url);
    const uint32_t good[] = {0, 1, most - 1, most}, bad[] = {most + 1, 0x7FFFFFFF, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        in_round("%s %u", name, (unsigned)good[i]);
        EXPECT(OK, set(config, good[i], err));
        EXPECT(NULL_POINTER, set(NULL, good[i], err));
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        in_round("%s %u", name, (unsigned)bad[i]);
        EXPECT(INVALID_ARGUMENT, set(config, bad[i], err));
    }
    spike_auth_config_free(config);
}

static void counts_have_bounds(void)
{
    check_count_setter(spike_auth_config_set_max_attempts, "max_attempts", 10);
    check_count_setter(spike_auth_config_set_max_concurrency, "max_concurrency", 1024);
}

static int32_t set_cache_capacity(spike_auth_config *config, uint64_t n, spike_auth_error *err)
{
    return spike_auth_config_set_cache_capacity(config, (uint32_t)n, err);
}

typedef int32_t any_number_setter(spike_auth_config *config, uint64_t n, spike_auth_error *err);

static void what_a_cache_may_hold_has_no_bounds(void)
{
    static any_number_setter *const SETTERS_OF_ANY[] = {set_cache_capacity, spike_auth_config_set_cache_max_bytes,
                                                        spike_auth_config_set_cache_ttl_ms};
    static const uint64_t NUMBERS[] = {0, 1, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
    spike_auth_config *config = new_config(base_url);
    for (size_t i = 0; i < COUNT_OF(SETTERS_OF_ANY); i++) {
        for (size_t k = 0; k < COUNT_OF(NUMBERS); k++) {
            in_round("setter %zu, %llu", i, (unsigned long long)NUMBERS[k]);
            EXPECT(OK, SETTERS_OF_ANY[i](config, NUMBERS[k], err));
            EXPECT(NULL_POINTER, SETTERS_OF_ANY[i](NULL, NUMBERS[k], err));
        }
    }
    spike_auth_config_free(config);
}

static void load_env_needs_a_configuration(void)
{
    EXPECT(NULL_POINTER, spike_auth_config_load_env(NULL, err)); /* what it reads is in environment.c */
}

static void unknown_tls_roots_are_refused(void)
{
    spike_auth_config *config = new_config(base_url);
    static const int32_t BAD[] = {-1, 3, 4, 256, 0x10000, INT32_MIN, INT32_MAX};
    for (int32_t good = 0; good <= 2; good++)
        EXPECT(OK, spike_auth_config_set_tls_roots(config, good, err));
    CHECK_EQ_INT(SPIKE_AUTH_TLS_ROOTS_PLATFORM, 0);
    CHECK_EQ_INT(SPIKE_AUTH_TLS_ROOTS_BUNDLED, 1);
    CHECK_EQ_INT(SPIKE_AUTH_TLS_ROOTS_NONE, 2);
    for (size_t i = 0; i < COUNT_OF(BAD); i++) {
        in_round("roots %d", (int)BAD[i]);
        EXPECT(INVALID_ARGUMENT, spike_auth_config_set_tls_roots(config, BAD[i], err));
    }
    EXPECT(NULL_POINTER, spike_auth_config_set_tls_roots(NULL, 0, err));
    spike_auth_config_free(config);
}

static void a_setter_that_fails_changes_nothing(void)
{
    spike_auth_config *config = new_config(base_url);
    spike_auth_client *unchanged;
    char before[SPIKE_AUTH_SIGNATURE_SIZE], after[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    EXPECT(INVALID_KEY, spike_auth_config_set_hmac_key(config, NULL, 0, err));
    EXPECT(INVALID_APPLICATION_ID, SET(application_id, ""));
    EXPECT(INVALID_URL, SET(base_url, "nonsense"));
    unchanged = client_of(config); /* needs the application id, and no roots for its http URL */
    CHECK_STATUS(sign(before, sizeof before, &len, NULL), 0);
    CHECK_STATUS(spike_auth_client_sign_user(unchanged, ID, NUL_TERMINATED, after, sizeof after, &len, NULL), 0);
    CHECK_STR(after, before);
    spike_auth_client_free(unchanged);
}

/* ---- client ---------------------------------------------------------------------------------------- */

/* A `_new` that fails sets its handle to NULL, whatever was there. */
#define EXPECT_NO_CLIENT(name, config)                                                              \
    EXPECT_AROUND(name, spike_auth_client_new(config, &made, err), memset(&made, 0xA5, sizeof made), \
                  CHECK(made == NULL))

static void client_new_fails_with_null_in_the_handle(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *made = NULL;
    CHECK_STATUS(spike_auth_config_new(&config, NULL), 0);
    EXPECT_NO_CLIENT(NULL_POINTER, NULL);
    EXPECT(NULL_POINTER, spike_auth_client_new(config, NULL, err));
    EXPECT(NULL_POINTER, spike_auth_client_new(NULL, NULL, err));
    EXPECT_NO_CLIENT(INCOMPLETE_CONFIG, config);
    CHECK_STATUS(spike_auth_config_set_application_id(config, "1", 1, NULL), 0);
    CHECK_STATUS(spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_NONE, NULL), 0);
    EXPECT_NO_CLIENT(TLS_ROOTS, config); /* https, and no roots at all */
    CHECK_STATUS(spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_BUNDLED, NULL), 0);
    CHECK_STATUS(spike_auth_config_set_timeout_ms(config, 100, NULL), 0);
    CHECK_STATUS(spike_auth_config_set_connect_timeout_ms(config, 101, NULL), 0);
    EXPECT_NO_CLIENT(INVALID_ARGUMENT, config);
    spike_auth_config_free(config);
}

static void one_config_makes_many_clients_that_outlive_it(void)
{
    enum { CLIENTS = 20 };
    spike_auth_client *made[CLIENTS];
    spike_auth_config *config = new_config(base_url);
    char signature[SPIKE_AUTH_SIGNATURE_SIZE], expected[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    for (int i = 0; i < CLIENTS; i++)
        REQUIRE(spike_auth_client_new(config, &made[i], NULL) == 0);
    CHECK_STATUS(spike_auth_config_set_hmac_key(config, (const uint8_t *)"other", 5, NULL), 0);
    spike_auth_config_free(config);
    CHECK_STATUS(sign(expected, sizeof expected, &len, NULL), 0);
    for (int i = 0; i < CLIENTS; i++) {
        CHECK_STATUS(spike_auth_client_sign_user(made[i], ID, 5, signature, sizeof signature, &len, NULL), 0);
        CHECK_STR(signature, expected);
        spike_auth_client_free(made[i]);
    }
}

static void bulk_signing_needs_a_client(void)
{
    static const int64_t OFFSETS[] = {0, 5};
    char signatures[64];
    EXPECT(NULL_POINTER, spike_auth_client_sign_users(NULL, ID, 5, OFFSETS, 1, signatures, sizeof signatures, NULL,
                                                      err)); /* the rest is in bulk.c */
}

static void close_and_free_take_null(void)
{
    spike_auth_client_close(NULL);
    spike_auth_client_free(NULL);
    spike_auth_config_free(NULL);
    CHECK(1);
}

#define CLIENT_SIGN(handle, id, id_len) \
    spike_auth_client_sign_user(handle, id, id_len, out.at, out.cap, &out.len, err)
#define EXCHANGE(handle, id, id_len, call) \
    spike_auth_client_exchange(handle, id, id_len, call, out.at, out.cap, &out.len, err)
#define EXCHANGE_SIGNATURE(handle, id, id_len, signature, signature_len, call)                                    \
    spike_auth_client_exchange_signature(handle, id, id_len, signature, signature_len, call, out.at, out.cap,     \
                                         &out.len, err)

#define GET_TOKEN(handle, id, id_len, call) \
    spike_auth_client_get_token(handle, id, id_len, call, out.at, out.cap, &out.len, err)
#define GET_AUTHORIZATION(handle, id, id_len, call) \
    spike_auth_client_get_authorization(handle, id, id_len, call, out.at, out.cap, &out.len, err)
#define PEEK(handle, id, id_len) \
    spike_auth_client_peek_token(handle, id, id_len, out.at, out.cap, &out.len, err)
#define INVALIDATE(handle, id, id_len, token, token_len) \
    spike_auth_client_invalidate(handle, id, id_len, token, token_len, err)
#define FORGET(handle, id, id_len) spike_auth_client_forget(handle, id, id_len, err)

static void a_client_checks_each_user_id(void)
{
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_TOKEN_SIZE, 0);
    EXPECT_TEXT(NULL_POINTER, out, CLIENT_SIGN(NULL, ID, 5));
    EXPECT_TEXT(NULL_POINTER, out, EXCHANGE(NULL, ID, 5, NULL));
    EXPECT_TEXT(NULL_POINTER, out, EXCHANGE_SIGNATURE(NULL, ID, 5, SIGNATURE, 64, NULL));
    EXPECT_TEXT(NULL_POINTER, out, CLIENT_SIGN(client, NULL, 5));
    EXPECT_TEXT(NULL_POINTER, out, EXCHANGE(client, NULL, NUL_TERMINATED, NULL));
    EXPECT_TEXT(NULL_POINTER, out, EXCHANGE_SIGNATURE(client, NULL, 5, SIGNATURE, 64, NULL));
    EXPECT_TEXT(INVALID_USER_ID, out, CLIENT_SIGN(client, NULL, 0));
    EXPECT_TEXT(INVALID_USER_ID, out, EXCHANGE(client, NULL, 0, NULL));
    EXPECT_TEXT(INVALID_USER_ID, out, EXCHANGE(client, "a b", 3, NULL));
    EXPECT_TEXT(INVALID_USER_ID, out, EXCHANGE_SIGNATURE(client, "", NUL_TERMINATED, SIGNATURE, 64, NULL));
    for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++) {
        size_t len = IMPOSSIBLE_LENGTHS[i];
        EXPECT_TEXT(INVALID_ARGUMENT, out, CLIENT_SIGN(client, ID, len));
        EXPECT_TEXT(INVALID_ARGUMENT, out, EXCHANGE(client, ID, len, NULL));
        EXPECT_TEXT(INVALID_ARGUMENT, out, EXCHANGE_SIGNATURE(client, ID, len, SIGNATURE, 64, NULL));
        EXPECT_TEXT(INVALID_ARGUMENT, out, EXCHANGE_SIGNATURE(client, ID, 5, SIGNATURE, len, NULL));
    }
    text_out_free(&out);
}

static void a_cache_checks_each_user_id(void)
{
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
    static const struct {
        const char *id;
        size_t len;
    } BAD[] = {{NULL, 0}, {ID, 0}, {"", NUL_TERMINATED}, {"a b", 3}, {"al\0ce", 5}, {"alice\n", NUL_TERMINATED}};
    static const size_t LENGTHS[] = {5, NUL_TERMINATED};
    EXPECT_TEXT(NULL_POINTER, out, GET_TOKEN(NULL, ID, 5, NULL));
    EXPECT_TEXT(NULL_POINTER, out, GET_AUTHORIZATION(NULL, ID, 5, NULL));
    EXPECT_TEXT(NULL_POINTER, out, PEEK(NULL, ID, 5));
    EXPECT(NULL_POINTER, INVALIDATE(NULL, ID, 5, "token", 5));
    EXPECT(NULL_POINTER, FORGET(NULL, ID, 5));
    for (size_t i = 0; i < COUNT_OF(LENGTHS); i++) {
        size_t len = LENGTHS[i];
        EXPECT_TEXT(NULL_POINTER, out, GET_TOKEN(client, NULL, len, NULL));
        EXPECT_TEXT(NULL_POINTER, out, GET_AUTHORIZATION(client, NULL, len, NULL));
        EXPECT_TEXT(NULL_POINTER, out, PEEK(client, NULL, len));
        EXPECT(NULL_POINTER, INVALIDATE(client, NULL, len, "token", 5));
        EXPECT(NULL_POINTER, INVALIDATE(client, ID, 5, NULL, len));
        EXPECT(NULL_POINTER, FORGET(client, NULL, len));
    }
    for (size_t i = 0; i < COUNT_OF(BAD); i++) {
        in_round("id %zu", i);
        EXPECT_TEXT(INVALID_USER_ID, out, GET_TOKEN(client, BAD[i].id, BAD[i].len, NULL));
        EXPECT_TEXT(INVALID_USER_ID, out, GET_AUTHORIZATION(client, BAD[i].id, BAD[i].len, NULL));
        EXPECT_TEXT(INVALID_USER_ID, out, PEEK(client, BAD[i].id, BAD[i].len));
        EXPECT(INVALID_USER_ID, INVALIDATE(client, BAD[i].id, BAD[i].len, "token", 5));
        EXPECT(INVALID_USER_ID, FORGET(client, BAD[i].id, BAD[i].len));
    }
    for (size_t i = 0; i < COUNT_OF(IMPOSSIBLE_LENGTHS); i++) {
        size_t len = IMPOSSIBLE_LENGTHS[i];
        in_round("length %zu", len);
        EXPECT_TEXT(INVALID_ARGUMENT, out, GET_TOKEN(client, ID, len, NULL));
        EXPECT_TEXT(INVALID_ARGUMENT, out, GET_AUTHORIZATION(client, ID, len, NULL));
        EXPECT_TEXT(INVALID_ARGUMENT, out, PEEK(client, ID, len));
        EXPECT(INVALID_ARGUMENT, INVALIDATE(client, ID, len, "token", 5));
        EXPECT(INVALID_ARGUMENT, INVALIDATE(client, ID, 5, "token", len));
        EXPECT(INVALID_ARGUMENT, FORGET(client, ID, len));
    }
    text_out_free(&out);
}

/* What can be no token at all is in cache.c. */
static void what_is_not_in_the_cache_can_be_reported_and_forgotten(void)
{
    struct buffer token = buffer_of_text(FENCED, "token");
    EXPECT(INVALID_ARGUMENT, INVALIDATE(client, ID, 5, NULL, 0));
    EXPECT(INVALID_ARGUMENT, INVALIDATE(client, ID, 5, "token", 0));
    EXPECT(INVALID_ARGUMENT, INVALIDATE(client, ID, 5, "", NUL_TERMINATED));
    EXPECT(OK, INVALIDATE(client, ID, 5, (char *)token.at, token.size));
    EXPECT(OK, INVALIDATE(client, ID, NUL_TERMINATED, "token", NUL_TERMINATED));
    EXPECT(OK, FORGET(client, ID, 5));
    EXPECT(OK, FORGET(client, ID, NUL_TERMINATED));
    EXPECT(OK, spike_auth_client_clear(client, err));
    EXPECT(NULL_POINTER, spike_auth_client_clear(NULL, err));
    buffer_free(&token);
}

static void stats_need_a_place_and_are_zero_where_there_are_none(void)
{
    for (size_t shift = 0; shift < 8; shift++) { /* aligned and not */
        struct buffer place = buffer_fenced(sizeof(spike_auth_stats) + 8);
        spike_auth_stats *stats = (void *)(place.at + shift), copy;
        in_round("shift %zu", shift);
        EXPECT(NULL_POINTER, spike_auth_client_stats(client, NULL, err));
        EXPECT(NULL_POINTER, spike_auth_client_stats(NULL, NULL, err));
        EXPECT_AROUND(NULL_POINTER, spike_auth_client_stats(NULL, stats, err), memset(place.at, 0xEE, place.size),
                      CHECK(all_bytes_are(place.at + shift, sizeof copy, 0)));
        EXPECT_AROUND(OK, spike_auth_client_stats(client, stats, err), memset(place.at, 0xEE, place.size),
                      memcpy(&copy, place.at + shift, sizeof copy));
        CHECK(copy.misses > 0 && copy.exchanges > 0 && copy.failures == copy.exchanges); /* those of the calls above */
        CHECK_EQ_INT(copy.hits + copy.coalesced + copy.requests + copy.retries + copy.invalidations, 0);
        CHECK_EQ_INT(copy.evictions + copy.entries + copy.bytes + copy.forks, 0);
        CHECK(all_bytes_are(copy.reserved, sizeof copy.reserved, 0));
        CHECK(all_bytes_are(place.at, shift, 0xEE));
        CHECK(all_bytes_are(place.at + shift + sizeof copy, 8 - shift, 0xEE));
        CHECK(buffer_is_intact(&place));
        buffer_free(&place);
    }
}

static void a_signature_that_is_missing_or_malformed_is_refused(void)
{
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_TOKEN_SIZE, 0);
    static const size_t LENGTHS[] = {0, 64, SIZE_MAX};
    for (size_t i = 0; i < COUNT_OF(LENGTHS); i++)
        EXPECT_TEXT(INVALID_SIGNATURE, out, EXCHANGE_SIGNATURE(client, ID, 5, NULL, LENGTHS[i], NULL));
    EXPECT_TEXT(INVALID_SIGNATURE, out, EXCHANGE_SIGNATURE(client, ID, 5, SIGNATURE, 0, NULL));
    EXPECT_TEXT(INVALID_SIGNATURE, out, EXCHANGE_SIGNATURE(client, ID, 5, SIGNATURE, 63, NULL));
    EXPECT_TEXT(INVALID_SIGNATURE, out, EXCHANGE_SIGNATURE(client, ID, 5, SIGNATURE "0", NUL_TERMINATED, NULL));
    EXPECT_TEXT(INVALID_SIGNATURE, out, EXCHANGE_SIGNATURE(client, ID, 5, "g", NUL_TERMINATED, NULL));
    text_out_free(&out);
}

/* ---- calls ----------------------------------------------------------------------------------------- */

static spike_auth_call *new_call(void)
{
    spike_auth_call *call = NULL;
    REQUIRE(spike_auth_call_new(&call, NULL) == SPIKE_AUTH_STATUS_OK);
    return call;
}

static void call_new_needs_a_place_for_the_handle(void)
{
    spike_auth_error *err = poisoned_error(0);
    spike_auth_call *call = NULL;
    EXPECT(NULL_POINTER, spike_auth_call_new(NULL, err));
    memset(&call, 0xA5, sizeof call);
    CHECK_STATUS(spike_auth_call_new(&call, err), SPIKE_AUTH_STATUS_OK);
    check_error_is_whole(err, SPIKE_AUTH_STATUS_OK, __FILE__, __LINE__);
    spike_auth_call_free(call);
    CHECK_STATUS(spike_auth_call_new(&call, NULL), SPIKE_AUTH_STATUS_OK);
    spike_auth_call_free(call);
}

static void a_calls_timeout_has_bounds(void)
{
    spike_auth_call *call = new_call();
    static const uint32_t GOOD[] = {0, 1, 600000}, BAD[] = {600001, 0x7FFFFFFF, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(GOOD); i++) {
        EXPECT(OK, spike_auth_call_set_timeout_ms(call, GOOD[i], err));
        EXPECT(NULL_POINTER, spike_auth_call_set_timeout_ms(NULL, GOOD[i], err));
    }
    for (size_t i = 0; i < COUNT_OF(BAD); i++)
        EXPECT(INVALID_ARGUMENT, spike_auth_call_set_timeout_ms(call, BAD[i], err));
    spike_auth_call_free(call);
}

static void cancel_and_free_take_null(void)
{
    spike_auth_call_cancel(NULL);
    spike_auth_call_free(NULL);
    CHECK(1);
}

static void a_call_takes_a_handle_and_a_cancelled_one_ends_it(void)
{
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
    struct text_out small = text_out_new(FENCED, SPIKE_AUTH_TOKEN_SIZE - 1, SPIKE_AUTH_TOKEN_SIZE - 1);
    spike_auth_call *call = new_call();
    EXPECT_TEXT(CONNECT, out, EXCHANGE(client, ID, 5, call)); /* nobody listens */
    EXPECT_TEXT(CONNECT, out, EXCHANGE_SIGNATURE(client, ID, 5, SIGNATURE, 64, call));
    EXPECT_TEXT(CONNECT, out, GET_TOKEN(client, ID, 5, call));
    EXPECT_TEXT(CONNECT, out, GET_AUTHORIZATION(client, ID, 5, call));
    for (int i = 0; i < 2; i++) {
        spike_auth_call_cancel(call);
        EXPECT_TEXT(CANCELLED, out, EXCHANGE(client, ID, 5, call));
        EXPECT_TEXT(CANCELLED, out, EXCHANGE_SIGNATURE(client, ID, 5, SIGNATURE, 64, call));
        EXPECT_TEXT(CANCELLED, out, GET_TOKEN(client, ID, 5, call));
        EXPECT_TEXT(CANCELLED, out, GET_AUTHORIZATION(client, ID, 5, call));
    }
    /* What is wrong with the arguments is said first, and the timeout can still be set. */
    EXPECT_TEXT(INVALID_USER_ID, out, EXCHANGE(client, "", 0, call));
    EXPECT_TEXT(NULL_POINTER, out, EXCHANGE(NULL, ID, 5, call));
    EXPECT_TEXT(INVALID_SIGNATURE, out, EXCHANGE_SIGNATURE(client, ID, 5, NULL, 0, call));
    EXPECT_TEXT(INVALID_USER_ID, out, GET_TOKEN(client, "", 0, call));
    EXPECT_TEXT(NULL_POINTER, out, GET_AUTHORIZATION(NULL, ID, 5, call));
    EXPECT_TEXT(BUFFER_TOO_SMALL, small,
                spike_auth_client_exchange(client, ID, 5, call, small.at, small.cap, &small.len, err));
    EXPECT(OK, spike_auth_call_set_timeout_ms(call, 1, err));
    EXPECT_TEXT(CANCELLED, out, EXCHANGE(client, ID, 5, call));
    spike_auth_call_free(call);
    text_out_free(&small);
    text_out_free(&out);
}

static void a_client_without_a_key_cannot_sign(void)
{
    spike_auth_config *config = NULL;
    spike_auth_client *keyless;
    spike_auth_stats stats;
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
    REQUIRE(spike_auth_config_new(&config, NULL) == 0);
    CHECK_STATUS(spike_auth_config_set_application_id(config, "1", 1, NULL), 0);
    CHECK_STATUS(spike_auth_config_set_base_url(config, base_url, NUL_TERMINATED, NULL), 0);
    keyless = client_of(config);
    EXPECT_TEXT(KEY_REQUIRED, out, CLIENT_SIGN(keyless, ID, 5));
    EXPECT_TEXT(KEY_REQUIRED, out, EXCHANGE(keyless, ID, 5, NULL));
    EXPECT_TEXT(KEY_REQUIRED, out, GET_TOKEN(keyless, ID, 5, NULL));
    EXPECT_TEXT(KEY_REQUIRED, out, GET_AUTHORIZATION(keyless, ID, 5, NULL));
    EXPECT_TEXT(CONNECT, out, EXCHANGE_SIGNATURE(keyless, ID, 5, SIGNATURE, 64, NULL));
    EXPECT_TEXT(NOT_CACHED, out, PEEK(keyless, ID, 5)); /* what needs no signature needs no key */
    EXPECT(OK, INVALIDATE(keyless, ID, 5, "token", 5));
    EXPECT(OK, FORGET(keyless, ID, 5));
    EXPECT(OK, spike_auth_client_clear(keyless, err));
    EXPECT(OK, spike_auth_client_stats(keyless, &stats, err));
    text_out_free(&out);
    spike_auth_client_free(keyless);
}

static void a_closed_client_says_so_to_every_call(void)
{
    spike_auth_client *closed = client_of(new_config(base_url));
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_AUTHORIZATION_SIZE, 0);
    spike_auth_stats stats;
    for (int i = 0; i < 3; i++)
        spike_auth_client_close(closed);
    EXPECT_TEXT(CLOSED, out, CLIENT_SIGN(closed, ID, 5));
    EXPECT_TEXT(CLOSED, out, EXCHANGE(closed, ID, 5, NULL));
    EXPECT_TEXT(CLOSED, out, EXCHANGE_SIGNATURE(closed, ID, 5, SIGNATURE, 64, NULL));
    EXPECT_TEXT(CLOSED, out, GET_TOKEN(closed, ID, 5, NULL));
    EXPECT_TEXT(CLOSED, out, GET_AUTHORIZATION(closed, ID, 5, NULL));
    EXPECT_TEXT(CLOSED, out, PEEK(closed, ID, 5));
    EXPECT(CLOSED, INVALIDATE(closed, ID, 5, "token", 5));
    EXPECT(CLOSED, FORGET(closed, ID, 5));
    EXPECT(CLOSED, spike_auth_client_clear(closed, err));
    EXPECT_AROUND(CLOSED, spike_auth_client_stats(closed, &stats, err), memset(&stats, 0xEE, sizeof stats),
                  CHECK(all_bytes_are(&stats, sizeof stats, 0)));
    text_out_free(&out);
    out = text_out_new(FENCED, 4, 0); /* even where the buffer is too small besides */
    EXPECT_TEXT(CLOSED, out, CLIENT_SIGN(closed, ID, 5));
    EXPECT_TEXT(CLOSED, out, EXCHANGE(closed, ID, 5, NULL));
    EXPECT_TEXT(CLOSED, out, GET_TOKEN(closed, ID, 5, NULL));
    EXPECT_TEXT(CLOSED, out, PEEK(closed, ID, 5));
    text_out_free(&out);
    spike_auth_client_free(closed);
}

static void no_message_shows_the_key_the_signature_or_the_user_id(void)
{
    static const char SECRET_ID[] = "erika mustermann"; /* the space makes it invalid */
    char out[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    spike_auth_error err;
    CHECK_STATUS(spike_auth_client_exchange(client, SECRET_ID, NUL_TERMINATED, NULL, out, sizeof out, &len, &err),
                 SPIKE_AUTH_STATUS_INVALID_USER_ID);
    CHECK_LACKS(err.message, "erika");
    CHECK_CONTAINS(err.message, "5"); /* the position */
    CHECK_STATUS(spike_auth_verify_user(KEY, KEY_LEN, ID, 5, SIGNATURE, 64, &err),
                 SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH);
    CHECK_LACKS(err.message, "e070ea58");
    CHECK_STATUS(spike_auth_verify_user(KEY, KEY_LEN, ID, 5, SIGNATURE, 63, &err), SPIKE_AUTH_STATUS_INVALID_SIGNATURE);
    CHECK_LACKS(err.message, "e070ea58");
    CHECK_LACKS(err.message, KEY_TEXT);
}

int main(void)
{
    choose_an_address_where_nobody_listens();
    client = client_of(new_config(base_url));
    RUN(the_macros_equal_the_functions);
    RUN(every_status_has_its_name_and_every_other_number_none);
    RUN(every_capacity_is_honoured);
    RUN(both_output_pointers_are_required);
    RUN(an_impossible_capacity_is_an_invalid_argument);
    RUN(caller_memory_may_be_uninitialised);
    RUN(sign_user_checks_each_input);
    RUN(verify_user_checks_each_input);
    RUN(a_user_id_takes_exactly_the_documented_characters);
    RUN(a_user_id_has_1_to_128_bytes_and_not_one_more_is_read);
    RUN(config_new_needs_a_place_for_the_handle);
    RUN(setters_take_null_only_with_length_0_and_refuse_impossible_lengths);
    RUN(bad_texts_are_refused);
    RUN(a_pem_that_holds_no_certificate_is_refused);
    RUN(a_proxy_is_an_http_url_of_a_host_or_nothing);
    RUN(numbers_have_bounds);
    RUN(counts_have_bounds);
    RUN(what_a_cache_may_hold_has_no_bounds);
    RUN(load_env_needs_a_configuration);
    RUN(unknown_tls_roots_are_refused);
    RUN(a_setter_that_fails_changes_nothing);
    RUN(client_new_fails_with_null_in_the_handle);
    RUN(one_config_makes_many_clients_that_outlive_it);
    RUN(bulk_signing_needs_a_client);
    RUN(close_and_free_take_null);
    RUN(a_client_checks_each_user_id);
    RUN(a_cache_checks_each_user_id);
    RUN(what_is_not_in_the_cache_can_be_reported_and_forgotten);
    RUN(stats_need_a_place_and_are_zero_where_there_are_none);
    RUN(a_signature_that_is_missing_or_malformed_is_refused);
    RUN(call_new_needs_a_place_for_the_handle);
    RUN(a_calls_timeout_has_bounds);
    RUN(cancel_and_free_take_null);
    RUN(a_call_takes_a_handle_and_a_cancelled_one_ends_it);
    RUN(a_client_without_a_key_cannot_sign);
    RUN(a_closed_client_says_so_to_every_call);
    RUN(no_message_shows_the_key_the_signature_or_the_user_id);
    spike_auth_client_free(client);
    return check_summary();
}
