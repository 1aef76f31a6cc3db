/* Signing one user id of 23 bytes with HMAC-SHA256, as 64 hex characters: the library through its C ABI, the
 * limit, and the C libraries a program would use instead. All in one process; step.h has the protocol.
 *
 * In the timed loop: 256 different ids in turn, one signature each, into one buffer. The key is prepared before,
 * except in the "_once" rows, which take the raw key in every call. The peers' hex comes from a table of two
 * characters per byte, which is faster than their own functions. Before the first step every kind must give the
 * known answer.
 */

#include "step.h"

#include <string.h>

#include <spike_auth.h>

#ifdef HAVE_OPENSSL
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#endif
#ifdef HAVE_SODIUM
#include <sodium.h>
#endif

#define IDS 256
#define ID_LEN 23
#define BULK 4096 /* ids in one call of bulk signing */
#define HEX_LEN 64

static const char KEY[] = "HMAC_KEY_FROM_ADMIN_CONSOLE";
#define KEY_LEN (sizeof KEY - 1)
static const char ANSWER[] = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";

/* The ids. ANSWER is the signature of the first. */
static char ids[IDS][ID_LEN + 1];
static char out[SPIKE_AUTH_SIGNATURE_SIZE];

static char hex_pairs[256][2];

static inline void put_hex(const unsigned char digest[32])
{
    for (int i = 0; i < 32; i++)
        memcpy(out + 2 * i, hex_pairs[digest[i]], 2);
}

/* --- the library --- */

static spike_auth_client *client;

static void open_client(void)
{
    spike_auth_error err;
    spike_auth_config *config = NULL;
    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_application_id(config, "9999", 4, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_hmac_key(config, (const uint8_t *)KEY, KEY_LEN, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_set_base_url(config, "http://127.0.0.1:9/v3", SPIKE_AUTH_NUL_TERMINATED, &err) !=
            SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
    spike_auth_config_free(config);
}

static void spike(long count)
{
    spike_auth_error err;
    size_t len;
    for (long i = 0; i < count; i++)
        if (spike_auth_client_sign_user(client, ids[i % IDS], ID_LEN, out, sizeof out, &len, &err) !=
            SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
}

static void spike_without_err(long count)
{
    size_t len;
    for (long i = 0; i < count; i++)
        if (spike_auth_client_sign_user(client, ids[i % IDS], ID_LEN, out, sizeof out, &len, NULL) !=
            SPIKE_AUTH_STATUS_OK)
            die("spike_auth", "failed");
}

static void spike_once(long count)
{
    spike_auth_error err;
    size_t len;
    for (long i = 0; i < count; i++)
        if (spike_auth_sign_user((const uint8_t *)KEY, KEY_LEN, ids[i % IDS], ID_LEN, out, sizeof out, &len, &err) !=
            SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
}

/* COUNT is rounded up to whole calls of BULK ids; run.py asks for multiples. */
static void spike_bulk(long count)
{
    static char column[BULK * ID_LEN];
    static int64_t offsets[BULK + 1];
    static char signatures[BULK * HEX_LEN];
    spike_auth_error err;
    if (offsets[BULK] == 0)
        for (int i = 0; i < BULK; i++) {
            memcpy(column + i * ID_LEN, ids[i % IDS], ID_LEN);
            offsets[i + 1] = (i + 1) * ID_LEN;
        }
    for (long done = 0; done < count; done += BULK)
        if (spike_auth_client_sign_users(client, column, sizeof column, offsets, BULK, signatures,
                                         sizeof signatures, NULL, &err) != SPIKE_AUTH_STATUS_OK)
            die("spike_auth", err.message);
    memcpy(out, signatures + (BULK - IDS) * HEX_LEN, HEX_LEN); /* the first id again, for the check */
}

/* --- the limit: two compressions and nothing else (limit/src/lib.rs) --- */

typedef uint32_t state[8];
typedef unsigned char block[64];
void limit_two_compressions(const state *inner, const state *outer, const block *id, state *to);
void limit_two_compressions_of_eight(const state *inner, const state *outer, const block *eight_ids, state *to);

/* SHA-256 takes the same time from any state. These replace the two states of a key. */
static const state inner = {1, 2, 3, 4, 5, 6, 7, 8};
static const state outer = {9, 10, 11, 12, 13, 14, 15, 16};
static block blocks[IDS];
static state digests[8];

static void limit(long count)
{
    for (long i = 0; i < count; i++)
        limit_two_compressions(&inner, &outer, (const block *)&blocks[i % IDS], &digests[0]);
}

static void limit_of_eight(long count)
{
    for (long i = 0; i < count; i += 8)
        limit_two_compressions_of_eight(&inner, &outer, (const block *)&blocks[i % IDS], digests);
}

/* --- OpenSSL --- */

#ifdef HAVE_OPENSSL
static EVP_MAC *mac;
static EVP_MAC_CTX *keyed;

static void open_openssl(void)
{
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0),
                           OSSL_PARAM_construct_end()};
    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    keyed = mac ? EVP_MAC_CTX_new(mac) : NULL;
    if (!keyed || !EVP_MAC_init(keyed, (const unsigned char *)KEY, KEY_LEN, params))
        die("OpenSSL", "EVP_MAC cannot be set up");
}

/* One context, restarted with its key. */
static void openssl_init(long count)
{
    unsigned char digest[32];
    size_t len;
    for (long i = 0; i < count; i++) {
        if (!EVP_MAC_init(keyed, NULL, 0, NULL) ||
            !EVP_MAC_update(keyed, (const unsigned char *)ids[i % IDS], ID_LEN) ||
            !EVP_MAC_final(keyed, digest, &len, sizeof digest))
            die("OpenSSL", "EVP_MAC failed");
        put_hex(digest);
    }
}

/* A copy of a keyed context for each signature: several threads can do this at once. */
static void openssl_dup(long count)
{
    unsigned char digest[32];
    size_t len;
    if (!EVP_MAC_init(keyed, NULL, 0, NULL))
        die("OpenSSL", "EVP_MAC failed");
    for (long i = 0; i < count; i++) {
        EVP_MAC_CTX *copy = EVP_MAC_CTX_dup(keyed);
        if (!copy || !EVP_MAC_update(copy, (const unsigned char *)ids[i % IDS], ID_LEN) ||
            !EVP_MAC_final(copy, digest, &len, sizeof digest))
            die("OpenSSL", "EVP_MAC failed");
        EVP_MAC_CTX_free(copy);
        put_hex(digest);
    }
}

static void openssl_once(long count)
{
    unsigned char digest[32];
    unsigned int len;
    for (long i = 0; i < count; i++) {
        if (!HMAC(EVP_sha256(), KEY, KEY_LEN, (const unsigned char *)ids[i % IDS], ID_LEN, digest, &len))
            die("OpenSSL", "HMAC failed");
        put_hex(digest);
    }
}
#endif

/* --- libsodium --- */

#ifdef HAVE_SODIUM
static crypto_auth_hmacsha256_state sodium_keyed;

static void open_sodium(void)
{
    if (sodium_init() < 0)
        die("libsodium", "sodium_init failed");
    crypto_auth_hmacsha256_init(&sodium_keyed, (const unsigned char *)KEY, KEY_LEN);
}

static void sodium_copied(long count)
{
    unsigned char digest[32];
    for (long i = 0; i < count; i++) {
        crypto_auth_hmacsha256_state copy = sodium_keyed;
        crypto_auth_hmacsha256_update(&copy, (const unsigned char *)ids[i % IDS], ID_LEN);
        crypto_auth_hmacsha256_final(&copy, digest);
        put_hex(digest);
    }
}

static void sodium_once(long count)
{
    unsigned char digest[32];
    for (long i = 0; i < count; i++) {
        crypto_auth_hmacsha256_state fresh;
        crypto_auth_hmacsha256_init(&fresh, (const unsigned char *)KEY, KEY_LEN);
        crypto_auth_hmacsha256_update(&fresh, (const unsigned char *)ids[i % IDS], ID_LEN);
        crypto_auth_hmacsha256_final(&fresh, digest);
        put_hex(digest);
    }
}
#endif

static const struct kind {
    const char *name;
    void (*run)(long count);
    int signs; /* gives the known answer */
} kinds[] = {
    {"spike", spike, 1},
    {"spike_without_err", spike_without_err, 1},
    {"spike_once", spike_once, 1},
    {"spike_bulk", spike_bulk, 1},
    {"limit", limit, 0},
    {"limit_of_eight", limit_of_eight, 0},
#ifdef HAVE_OPENSSL
    {"openssl_init", openssl_init, 1},
    {"openssl_dup", openssl_dup, 1},
    {"openssl_once", openssl_once, 1},
#endif
#ifdef HAVE_SODIUM
    {"sodium_copied", sodium_copied, 1},
    {"sodium_once", sodium_once, 1},
#endif
};
#define KINDS (sizeof kinds / sizeof *kinds)

static int run(const char *name, long count, int64_t *cpu, int64_t *wall)
{
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) {
            int64_t cpu_before = thread_ns(), wall_before = wall_ns();
            kinds[i].run(count);
            *wall = wall_ns() - wall_before;
            *cpu = thread_ns() - cpu_before;
            return 1;
        }
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 256; i++) {
        hex_pairs[i][0] = "0123456789abcdef"[i >> 4];
        hex_pairs[i][1] = "0123456789abcdef"[i & 15];
    }
    for (int i = 0; i < IDS; i++) {
        snprintf(ids[i], sizeof ids[i], "my_application_user_%03d", (i + 123) % 1000);
        memcpy(blocks[i], ids[i], ID_LEN);
        blocks[i][ID_LEN] = 0x80;
    }
    open_client();
#ifdef HAVE_OPENSSL
    open_openssl();
#endif
#ifdef HAVE_SODIUM
    open_sodium();
#endif
    if (argc == 2 && strcmp(argv[1], "--versions") == 0) {
        printf("libspike_auth %s\n", spike_auth_version());
#ifdef HAVE_OPENSSL
        printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
#endif
#ifdef HAVE_SODIUM
        printf("libsodium %s\n", sodium_version_string());
#endif
        return 0;
    }
    for (size_t i = 0; i < KINDS; i++) {
        memset(out, 0, sizeof out);
        kinds[i].run(1);
        if (kinds[i].signs && memcmp(out, ANSWER, HEX_LEN) != 0)
            die(kinds[i].name, "not the known answer");
    }
    answer_steps(run);
    return 0;
}
