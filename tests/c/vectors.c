/* The known answers of signing, through every function that signs or verifies.
 *
 * usage: vectors [FILE]; each line of FILE is the key in hex, a tab, the id, a tab, the signature.
 * The runner writes it with Python's own hmac.
 */
#define _GNU_SOURCE
#include "check.h"

#include <ctype.h>

struct answer {
    const char *user_id;
    const char *signature;
};

/* Computed with Python and OpenSSL, key HMAC_KEY_FROM_ADMIN_CONSOLE. The last id is the longest. */
static const struct answer ANSWERS[] = {
    {"my_application_user_123", "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199"},
    {"User1", "387cad859e5c02a67d0a17afee7d6aef95fb3f24dc1e7311ebfe7c98d5531656"},
    {"user1", "269d9708f584a186a5c8a37badf3a7a98ba1234d4f64d6d876816830ae85df16"},
    {"a", "a8c179bdf15ce1c5e2beab8e4700d0ac66e62b8880870164d9fe2dd0025622f3"},
    {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
     "5fd02c04c9fb2fc26e6e351cb2242f411e51c24bd710f8bcadd5ba9859828da5"},
};

enum { SIGNATURE_LEN = SPIKE_AUTH_SIGNATURE_SIZE - 1 };

static const char *vector_file;

/* Nothing is ever sent to it. */
static spike_auth_client *new_client(const uint8_t *key, size_t key_len)
{
    spike_auth_config *config = new_config("http://127.0.0.1:1");
    REQUIRE(spike_auth_config_set_hmac_key(config, key, key_len, NULL) == 0);
    return client_of(config);
}

static void upper(char *to, const char *from)
{
    do
        *to++ = (char)toupper((unsigned char)*from);
    while (*from++);
}

static void sign_user_gives_the_known_answers(void)
{
    for (size_t i = 0; i < COUNT_OF(ANSWERS); i++) {
        const char *id = ANSWERS[i].user_id;
        in_round("answer %zu", i);
        for (int kind = GUARDED; kind <= FENCED; kind++) {
            struct text_out out = text_out_new((enum buffer_kind)kind, SPIKE_AUTH_SIGNATURE_SIZE, SIGNATURE_LEN);
            struct buffer exact = buffer_of_text(FENCED, id); /* no NUL follows */
            const char *bytes = (const char *)exact.at;
            EXPECT_TEXT(OK, out,
                        spike_auth_sign_user(KEY, KEY_LEN, id, NUL_TERMINATED, out.at, out.cap, &out.len, err));
            CHECK_STR(out.at, ANSWERS[i].signature);
            EXPECT_TEXT(OK, out,
                        spike_auth_sign_user(KEY, KEY_LEN, bytes, exact.size, out.at, out.cap, &out.len, err));
            CHECK_STR(out.at, ANSWERS[i].signature);
            buffer_free(&exact);
            text_out_free(&out);
        }
    }
}

static void client_sign_user_gives_the_known_answers(void)
{
    spike_auth_client *client = new_client(KEY, KEY_LEN);
    struct text_out out = text_out_new(FENCED, SPIKE_AUTH_SIGNATURE_SIZE, SIGNATURE_LEN);
    for (size_t i = 0; i < COUNT_OF(ANSWERS); i++) {
        const char *id = ANSWERS[i].user_id;
        struct buffer exact = buffer_of_text(FENCED, id);
        const char *bytes = (const char *)exact.at;
        in_round("answer %zu", i);
        EXPECT_TEXT(OK, out, spike_auth_client_sign_user(client, id, NUL_TERMINATED, out.at, out.cap, &out.len, err));
        CHECK_STR(out.at, ANSWERS[i].signature);
        EXPECT_TEXT(OK, out, spike_auth_client_sign_user(client, bytes, exact.size, out.at, out.cap, &out.len, err));
        CHECK_STR(out.at, ANSWERS[i].signature);
        buffer_free(&exact);
    }
    text_out_free(&out);
    spike_auth_client_free(client);
}

static void sign_users_gives_the_known_answers(void)
{
    spike_auth_client *client = new_client(KEY, KEY_LEN);
    char ids[1024] = "";
    int64_t offsets[COUNT_OF(ANSWERS) + 1] = {0};
    int32_t statuses[COUNT_OF(ANSWERS)];
    struct buffer rows = buffer_new(FENCED, SIGNATURE_LEN * COUNT_OF(ANSWERS));
    for (size_t i = 0; i < COUNT_OF(ANSWERS); i++) {
        strcat(ids, ANSWERS[i].user_id);
        offsets[i + 1] = (int64_t)strlen(ids);
    }
    EXPECT(OK, spike_auth_client_sign_users(client, ids, strlen(ids), offsets, COUNT_OF(ANSWERS), (char *)rows.at,
                                            rows.size, statuses, err));
    for (size_t i = 0; i < COUNT_OF(ANSWERS); i++) {
        in_round("answer %zu", i);
        CHECK(memcmp(rows.at + SIGNATURE_LEN * i, ANSWERS[i].signature, SIGNATURE_LEN) == 0);
        CHECK_STATUS(statuses[i], SPIKE_AUTH_STATUS_OK);
    }
    buffer_free(&rows);
    spike_auth_client_free(client);
}

#define VERIFY(id, signature, signature_len) \
    spike_auth_verify_user(KEY, KEY_LEN, id, NUL_TERMINATED, signature, signature_len, err)

static void verify_user_takes_the_known_answers_in_either_case(void)
{
    for (size_t i = 0; i < COUNT_OF(ANSWERS); i++) {
        const char *id = ANSWERS[i].user_id;
        char shout[SPIKE_AUTH_SIGNATURE_SIZE], mixed[SPIKE_AUTH_SIGNATURE_SIZE];
        struct buffer exact = buffer_of_text(FENCED, ANSWERS[i].signature);
        in_round("answer %zu", i);
        upper(shout, ANSWERS[i].signature);
        memcpy(mixed, shout, sizeof mixed);
        memcpy(mixed, ANSWERS[i].signature, SIGNATURE_LEN / 2);
        EXPECT(OK, VERIFY(id, ANSWERS[i].signature, NUL_TERMINATED));
        EXPECT(OK, VERIFY(id, (const char *)exact.at, exact.size));
        EXPECT(OK, VERIFY(id, shout, NUL_TERMINATED));
        EXPECT(OK, VERIFY(id, mixed, NUL_TERMINATED));
        EXPECT(SIGNATURE_MISMATCH, VERIFY("somebody-else", shout, NUL_TERMINATED));
        EXPECT(SIGNATURE_MISMATCH,
               spike_auth_verify_user(KEY, KEY_LEN - 1, id, NUL_TERMINATED, shout, NUL_TERMINATED, err));
        buffer_free(&exact);
    }
}

static unsigned hex_value(char digit)
{
    return (unsigned)(strchr("0123456789abcdef", digit) - "0123456789abcdef");
}

static void verify_user_sees_each_single_bit(void)
{
    for (size_t bit = 0; bit < 4 * SIGNATURE_LEN; bit++) {
        char flipped[SPIKE_AUTH_SIGNATURE_SIZE];
        char *digit = &flipped[bit / 4];
        in_round("bit %zu", bit);
        memcpy(flipped, ANSWERS[0].signature, sizeof flipped);
        *digit = "0123456789abcdef"[hex_value(*digit) ^ (1u << bit % 4)];
        EXPECT(SIGNATURE_MISMATCH, VERIFY(ANSWERS[0].user_id, flipped, NUL_TERMINATED));
    }
}

static void verify_user_refuses_what_is_not_64_hex_characters(void)
{
    const char *id = ANSWERS[0].user_id, *good = ANSWERS[0].signature;
    static const char NOT_HEX[] = "gGzZ/:@`{ \n-.+\x01\x7f\x80\xff";
    char bad[2 * SIGNATURE_LEN];
    for (size_t len = 0; len < sizeof bad; len++) {
        in_round("length %zu", len);
        memset(bad, '0', sizeof bad);
        if (len != SIGNATURE_LEN)
            EXPECT(INVALID_SIGNATURE, VERIFY(id, bad, len));
    }
    for (size_t place = 0; place < SIGNATURE_LEN; place++) {
        for (size_t i = 0; i < sizeof NOT_HEX; i++) { /* the NUL at its end too */
            in_round("character %zu at %zu", i, place);
            memcpy(bad, good, SIGNATURE_LEN);
            bad[place] = NOT_HEX[i];
            EXPECT(INVALID_SIGNATURE, VERIFY(id, bad, SIGNATURE_LEN));
        }
    }
}

static size_t unhex(uint8_t *to, const char *from)
{
    size_t len = strlen(from) / 2;
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(hex_value(from[2 * i]) << 4 | hex_value(from[2 * i + 1]));
    return len;
}

static void check_line(const char *hex_key, const char *id, const char *signature)
{
    uint8_t key[4096];
    size_t key_len = unhex(key, hex_key);
    int64_t offsets[2] = {0, (int64_t)strlen(id)};
    char row[SIGNATURE_LEN];
    spike_auth_client *client = new_client(key, key_len);
    struct text_out out = text_out_new(GUARDED, SPIKE_AUTH_SIGNATURE_SIZE, SIGNATURE_LEN);
    EXPECT_TEXT(OK, out, spike_auth_sign_user(key, key_len, id, NUL_TERMINATED, out.at, out.cap, &out.len, err));
    CHECK_STR(out.at, signature);
    EXPECT_TEXT(OK, out, spike_auth_client_sign_user(client, id, NUL_TERMINATED, out.at, out.cap, &out.len, err));
    CHECK_STR(out.at, signature);
    EXPECT(OK, spike_auth_client_sign_users(client, id, strlen(id), offsets, 1, row, sizeof row, NULL, err));
    CHECK(memcmp(row, signature, sizeof row) == 0);
    EXPECT(OK, spike_auth_verify_user(key, key_len, id, NUL_TERMINATED, signature, NUL_TERMINATED, err));
    text_out_free(&out);
    spike_auth_client_free(client);
}

static void every_line_of_the_file_is_signed_as_it_says(void)
{
    static char line[16384], key[8193], id[129], signature[65];
    FILE *file = fopen(vector_file, "r");
    unsigned lines = 0;
    REQUIRE(file != NULL);
    while (fgets(line, sizeof line, file)) {
        lines++;
        in_round("line %u", lines);
        REQUIRE(sscanf(line, "%8192s\t%128s\t%64s", key, id, signature) == 3);
        check_line(key, id, signature);
    }
    CHECK(lines > 100);
    fclose(file);
}

int main(int argc, char **argv)
{
    RUN(sign_user_gives_the_known_answers);
    RUN(client_sign_user_gives_the_known_answers);
    RUN(sign_users_gives_the_known_answers);
    RUN(verify_user_takes_the_known_answers_in_either_case);
    RUN(verify_user_sees_each_single_bit);
    RUN(verify_user_refuses_what_is_not_64_hex_characters);
    if (argc > 1) {
        vector_file = argv[1];
        RUN(every_line_of_the_file_is_signed_as_it_says);
    }
    return check_summary();
}
