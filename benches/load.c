/* What loading a library costs a process: `load spike|curl LIBRARY BASE_URL CA_FILE`, one run per figure.
 *
 * Timed: dlopen() of LIBRARY and its dependencies with RTLD_NOW, in a process with nothing but libc; then the first
 * exchange with all its parts (the trusted root is read, a connection opened, the TLS handshake made). Memory is
 * what /proc shows for the process, less its value before the library was loaded: the resident size, and the part
 * of it that was written to, which is shared with no other process.
 *
 * Prints lines "NAME VALUE", and "object PATH" for every shared object that was loaded with the library.
 */

#define _GNU_SOURCE
#include "step.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include <spike_auth.h>

#ifdef HAVE_CURL
#include <curl/curl.h>
#endif

#define TEXT_MAX 65536
#define OBJECTS_MAX 256

struct memory {
    long resident, written; /* KiB */
};

static struct memory memory(void)
{
    struct memory now = {0, 0};
    char line[256];
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    if (!file)
        die("/proc/self/smaps_rollup", "cannot be read");
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "Rss: %ld", &now.resident);
        sscanf(line, "Private_Dirty: %ld", &now.written);
    }
    fclose(file);
    return now;
}

static void show(const char *when, struct memory before)
{
    struct memory now = memory();
    printf("resident_%s %ld\nwritten_%s %ld\n", when, now.resident - before.resident, when,
           now.written - before.written);
}

static void *library;

/* A function of the library. POSIX asks for the cast. */
#define FIND(name) __typeof__(&name) p_##name = (__typeof__(&name))find(#name)

static void *find(const char *name)
{
    void *found = dlsym(library, name);
    if (!found)
        die("dlsym", dlerror());
    return found;
}

static const char *read_ca(const char *path, size_t *len)
{
    static char text[TEXT_MAX];
    FILE *file = fopen(path, "rb");
    if (!file)
        die(path, "cannot be read");
    *len = fread(text, 1, sizeof text, file);
    fclose(file);
    return text;
}

/* Signing is not measured here: this signature was made elsewhere. */
static const char SIGNATURE[] = "387cad859e5c02a67d0a17afee7d6aef95fb3f24dc1e7311ebfe7c98d5531656";

static void exchange_spike(const char *base_url, const char *ca_file)
{
    FIND(spike_auth_config_new);
    FIND(spike_auth_config_set_application_id);
    FIND(spike_auth_config_set_base_url);
    FIND(spike_auth_config_set_ca_pem);
    FIND(spike_auth_config_set_tls_roots);
    FIND(spike_auth_client_new);
    FIND(spike_auth_client_exchange_signature);
    spike_auth_error err;
    spike_auth_config *config;
    spike_auth_client *client;
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len, pem_len;
    const char *pem = read_ca(ca_file, &pem_len);
    if (p_spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        p_spike_auth_config_set_application_id(config, "9999", 4, &err) != SPIKE_AUTH_STATUS_OK ||
        p_spike_auth_config_set_base_url(config, base_url, SPIKE_AUTH_NUL_TERMINATED, &err) != SPIKE_AUTH_STATUS_OK ||
        p_spike_auth_config_set_ca_pem(config, pem, pem_len, &err) != SPIKE_AUTH_STATUS_OK ||
        p_spike_auth_config_set_tls_roots(config, SPIKE_AUTH_TLS_ROOTS_NONE, &err) != SPIKE_AUTH_STATUS_OK ||
        p_spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK ||
        p_spike_auth_client_exchange_signature(client, "User1", 5, SIGNATURE, 64, NULL, token, sizeof token, &len,
                                               &err) != SPIKE_AUTH_STATUS_OK)
        die("spike_auth", err.message);
}

#ifdef HAVE_CURL
static size_t receive(char *data, size_t size, size_t count, void *reply)
{
    strncat(reply, data, size * count < 4096 ? size * count : 4096);
    return size * count;
}

static void exchange_curl(const char *base_url, const char *ca_file)
{
    FIND(curl_global_init);
    FIND(curl_slist_append);
    FIND(curl_easy_init);
    FIND(curl_easy_setopt);
    FIND(curl_easy_perform);
    FIND(curl_easy_strerror);
    static char reply[TEXT_MAX];
    char url[512], body[256];
    snprintf(url, sizeof url, "%s/auth/hmac", base_url);
    snprintf(body, sizeof body, "{\"application_id\":9999,\"application_user_id\":\"User1\",\"signature\":\"%s\"}",
             SIGNATURE);
    p_curl_global_init(CURL_GLOBAL_DEFAULT);
    CURL *easy = p_curl_easy_init();
    struct curl_slist *headers = p_curl_slist_append(NULL, "Content-Type: application/json");
    p_curl_easy_setopt(easy, CURLOPT_URL, url);
    p_curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    p_curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 10000L);
    p_curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    p_curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
    p_curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    p_curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    p_curl_easy_setopt(easy, CURLOPT_WRITEDATA, reply);
    CURLcode code = p_curl_easy_perform(easy);
    if (code != CURLE_OK)
        die("libcurl", p_curl_easy_strerror(code));
    if (!strstr(reply, "access_token"))
        die("libcurl", "no token in the reply");
}
#endif

/* The paths of all shared objects of the process. */
struct objects {
    int count;
    char *paths[OBJECTS_MAX];
};

static int note_object(struct dl_phdr_info *info, size_t size, void *where)
{
    struct objects *objects = where;
    (void)size;
    if (objects->count < OBJECTS_MAX)
        objects->paths[objects->count++] = strdup(info->dlpi_name);
    return 0;
}

int main(int argc, char **argv)
{
    static struct objects before, after;
    if (argc != 5)
        die("usage", "load spike|curl LIBRARY BASE_URL CA_FILE");
    dl_iterate_phdr(note_object, &before);
    struct memory at_start = memory();

    int64_t start = wall_ns();
    library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    int64_t loaded = wall_ns();
    if (!library)
        die("dlopen", dlerror());
    printf("dlopen_ns %lld\n", (long long)(loaded - start));
    show("after_load", at_start);

    start = wall_ns();
    if (strcmp(argv[1], "spike") == 0)
        exchange_spike(argv[3], argv[4]);
#ifdef HAVE_CURL
    else if (strcmp(argv[1], "curl") == 0)
        exchange_curl(argv[3], argv[4]);
#endif
    else
        die(argv[1], "no such library");
    printf("first_exchange_ns %lld\n", (long long)(wall_ns() - start));
    show("after_exchange", at_start);

    dl_iterate_phdr(note_object, &after);
    for (int i = before.count; i < after.count; i++)
        printf("object %s\n", after.paths[i]);
    return 0;
}
