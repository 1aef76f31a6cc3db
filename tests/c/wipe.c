/* Searches the memory of a process for what a client left behind.
 *
 *     wipe BASE_URL CA_FILE MASKED_KEY MASKED_PROXY_URL [NAME=MASKED_NEEDLE]... -- USER...
 *
 * Exchanges for each user, caches and drops the tokens, frees everything, and searches for the needles
 * twice: in each heap block when it is freed or moved, and in all writable memory at the end, except the
 * stack. The key, the proxy's URL (empty for none) and the needles come in hex with each byte masked,
 * and are unmasked only while they are passed on, so that a find is not this program's own copy. Each
 * find is one line, "freed NAME ..." or "left NAME ...". The needle called control is left on purpose.
 */
#define _GNU_SOURCE /* explicit_bzero */

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <spike_auth.h>

/* The allocator overwrites the first bytes of a freed block: a secret is searched piece by piece. */
#define PIECE 16
#define MASK 0xa5
#define NEEDLES_MAX 16
#define NEEDLE_MAX 8192

typedef struct {
    const char *name;
    size_t len;
    unsigned char masked[NEEDLE_MAX];
} needle;

static needle needles[NEEDLES_MAX];
static size_t needle_count;
static int watching; /* whether freed blocks are searched */

static int holds(const unsigned char *at, const unsigned char *masked)
{
    for (size_t i = 0; i < PIECE; i++)
        if ((unsigned char)(at[i] ^ MASK) != masked[i])
            return 0;
    return 1;
}

static void look_for(const needle *sought, const unsigned char *memory, size_t len, const char *what, const char *where)
{
    for (size_t piece = 0; piece + PIECE <= sought->len; piece += PIECE) {
        const unsigned char *masked = sought->masked + piece;
        const unsigned char *at = memory, *end = memory + len;
        while ((size_t)(end - at) >= PIECE && (at = memchr(at, masked[0] ^ MASK, (size_t)(end - at) - PIECE + 1))) {
            if (holds(at, masked)) {
                /* No allocation: this may run inside free. */
                char line[256];
                int written = snprintf(line, sizeof line, "%s %s: bytes %zu to %zu, at %zu of %zu in %s\n", what,
                                       sought->name, piece, piece + PIECE, (size_t)(at - memory), len, where);
                fwrite(line, 1, written < 0 ? 0 : (size_t)written, stdout);
                break;
            }
            at++;
        }
    }
}

static void look(const void *memory, size_t len, const char *what, const char *where)
{
    for (size_t i = 0; i < needle_count; i++)
        look_for(&needles[i], memory, len, what, where);
}

/* ---- the allocator: these functions replace the C library's */

void __libc_free(void *block);
void *__libc_malloc(size_t size);

static void look_at_block(void *block)
{
    if (watching && block) {
        watching = 0; /* writing may allocate */
        look(block, malloc_usable_size(block), "freed", "a block");
        watching = 1;
    }
}

void free(void *block)
{
    int kept = errno;
    look_at_block(block);
    __libc_free(block);
    errno = kept;
}

/* Always moves, as any realloc may. */
void *realloc(void *block, size_t size)
{
    void *moved = __libc_malloc(size);
    if (moved && block) {
        size_t old = malloc_usable_size(block);
        memcpy(moved, block, old < size ? old : size);
        free(block);
    }
    return moved;
}

/* ---- all writable memory */

static void look_everywhere(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) {
        puts("failed: /proc/self/maps cannot be read");
        exit(1);
    }
    while (fgets(line, sizeof line, maps)) {
        uintptr_t start, end;
        char rights[5], path[256] = "no file";
        int fields = sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %*s %255s", &start, &end, rights, path);
        if (fields < 3 || strncmp(rights, "rw", 2) != 0)
            continue;
        if (strcmp(path, "[stack]") == 0) /* the library cannot wipe what the compiler leaves there */
            continue;
        look((const void *)start, end - start, "left", path); /* NOLINT: maps has addresses */
    }
    fclose(maps);
}

/* ---- the calls */

static size_t decode(const char *hex, unsigned char *out, size_t capacity)
{
    size_t len = 0;
    unsigned byte;
    while (len < capacity && sscanf(hex + 2 * len, "%2x", &byte) == 1)
        out[len++] = (unsigned char)byte;
    return len;
}

static void check(spike_auth_status_t status, const spike_auth_error *err, const char *what)
{
    if (status != SPIKE_AUTH_STATUS_OK) {
        printf("failed: %s: %s\n", what, err->message);
        exit(1);
    }
}

static size_t unmask(const char *masked_hex, unsigned char *out, size_t capacity)
{
    size_t len = decode(masked_hex, out, capacity);
    for (size_t i = 0; i < len; i++)
        out[i] ^= MASK;
    return len;
}

static spike_auth_client *make_client(const char *base_url, const char *ca_pem, const char *masked_key,
                                      const char *masked_proxy)
{
    static unsigned char secret[4096];
    spike_auth_error err;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    size_t len;
    check(spike_auth_config_new(&config, &err), &err, "config_new");
    check(spike_auth_config_set_application_id(config, "9999", 4, &err), &err, "application id");
    len = unmask(masked_key, secret, sizeof secret);
    check(spike_auth_config_set_hmac_key(config, secret, len, &err), &err, "key");
    len = unmask(masked_proxy, secret, sizeof secret);
    check(spike_auth_config_set_proxy(config, (const char *)secret, len, &err), &err, "proxy");
    explicit_bzero(secret, sizeof secret);
    check(spike_auth_config_set_base_url(config, base_url, SPIKE_AUTH_NUL_TERMINATED, &err), &err, "base URL");
    check(spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_NONE, &err), &err, "roots");
    check(spike_auth_config_set_ca_pem(config, ca_pem, strlen(ca_pem), &err), &err, "CA");
    check(spike_auth_config_set_max_attempts(config, 2, &err), &err, "attempts");
    check(spike_auth_config_set_timeout_ms(config, 600, &err), &err, "timeout");
    check(spike_auth_config_set_cache_capacity(config, 2, &err), &err, "cache capacity");
    check(spike_auth_client_new(config, &client, &err), &err, "client_new");
    spike_auth_config_free(config);
    return client;
}

static char token[SPIKE_AUTH_TOKEN_SIZE], header[SPIKE_AUTH_AUTHORIZATION_SIZE];

static void exchange(const spike_auth_client *client, const char *user)
{
    static char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len = 0;
    spike_auth_error err;
    check(spike_auth_client_sign_user(client, user, SPIKE_AUTH_NUL_TERMINATED, signature, sizeof signature, &len, &err),
          &err, "sign_user");
    explicit_bzero(signature, sizeof signature);
    spike_auth_status_t status = spike_auth_client_exchange(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL, token,
                                                            sizeof token, &len, &err);
    printf("%s: %s\n", user, spike_auth_status_name(status));
    explicit_bzero(token, sizeof token);
}

/* Whether there is a token, which is cached from then on. */
static int get(const spike_auth_client *client, const char *user, size_t *len)
{
    spike_auth_error err;
    return spike_auth_client_get_token(client, user, SPIKE_AUTH_NUL_TERMINATED, NULL, token, sizeof token, len, &err) ==
           SPIKE_AUTH_STATUS_OK;
}

/* The token is evicted by the next user's, or freed with the client. */
static void keep(const spike_auth_client *client, const char *user)
{
    size_t len = 0;
    if (get(client, user, &len))
        explicit_bzero(token, sizeof token);
}

/* Drops the token in every other way. */
static void drop(const spike_auth_client *client, const char *user)
{
    size_t len = 0;
    spike_auth_error err;
    if (!get(client, user, &len))
        return;
    check(spike_auth_client_forget(client, user, SPIKE_AUTH_NUL_TERMINATED, &err), &err, "forget");
    if (get(client, user, &len))
        check(spike_auth_client_clear(client, &err), &err, "clear");
    if (get(client, user, &len))
        check(spike_auth_client_invalidate(client, user, strlen(user), token, len, &err), &err, "invalidate");
    spike_auth_status_t again =
        spike_auth_client_get_authorization(client, user, strlen(user), NULL, header, sizeof header, &len, &err);
    /* The service always gives the same token. */
    check(again == SPIKE_AUTH_STATUS_TOKEN_REJECTED ? SPIKE_AUTH_STATUS_OK : again, &err, "get_authorization");
    explicit_bzero(token, sizeof token);
    explicit_bzero(header, sizeof header);
}

/* Leaves the control needle behind in each way, to show that it is found. */
static void leave_control(void)
{
    for (size_t i = 0; i < needle_count; i++) {
        if (strcmp(needles[i].name, "control") != 0)
            continue;
        for (int copy = 0; copy < 2; copy++) {
            unsigned char *block = malloc(needles[i].len);
            static unsigned char *volatile kept;
            for (size_t at = 0; block && at < needles[i].len; at++)
                block[at] = needles[i].masked[at] ^ MASK;
            kept = block;
            if (copy == 0)
                free(kept);
        }
    }
}

static char *read_text(const char *path)
{
    static char text[65536];
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    size_t len = fread(text, 1, sizeof text - 1, file);
    text[len] = '\0';
    fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    static char buffer[65536];
    int arg = 5;
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    for (; arg < argc && strcmp(argv[arg], "--") != 0 && needle_count < NEEDLES_MAX; arg++) {
        char *equals = strchr(argv[arg], '=');
        needle *next = &needles[needle_count];
        if (!equals)
            return 2;
        *equals = '\0';
        next->name = argv[arg];
        next->len = decode(equals + 1, next->masked, sizeof next->masked);
        needle_count++;
    }
    const char *ca_pem = argc > 4 ? read_text(argv[2]) : NULL;
    if (!ca_pem || arg >= argc)
        return 2;
    watching = 1;
    leave_control();
    spike_auth_client *client = make_client(argv[1], ca_pem, argv[3], argv[4]);
    for (int round = 0; round < 2; round++)
        for (int i = arg + 1; i < argc; i++)
            exchange(client, argv[i]);
    for (int i = arg + 1; i < argc; i++)
        keep(client, argv[i]);
    spike_auth_client_free(client);
    client = make_client(argv[1], ca_pem, argv[3], argv[4]);
    for (int i = arg + 1; i < argc; i++)
        drop(client, argv[i]);
    spike_auth_client_free(client);
    watching = 0;
    look_everywhere();
    puts("done");
    return 0;
}
