/* The same exchanges with libcurl and OpenSSL: `exchange_curl BASE_URL CA_FILE` (an empty CA_FILE over HTTP).
 * step.h has the protocol, crowd.h the threads. Each thread keeps its own easy handle.
 *
 * In the timed loop: EVP_MAC with the key kept, the JSON body, curl_easy_perform() on a kept connection, and the
 * token cut out of the response by a plain search, which is less work than a program should do.
 */

#include "exchange.h"

#include <string.h>

#include <curl/curl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#define REPLY_MAX 65536
#define TOKEN_SIZE 8193

static struct {
    CURL *easy;
    EVP_MAC_CTX *mac;
    size_t received;
    char reply[REPLY_MAX + 1];
} connections[THREADS_MAX];

static size_t receive(char *data, size_t size, size_t count, void *where)
{
    int thread = (int)(intptr_t)where;
    size_t len = size * count;
    if (len > REPLY_MAX - connections[thread].received)
        return 0;
    memcpy(connections[thread].reply + connections[thread].received, data, len);
    connections[thread].received += len;
    return len;
}

static EVP_MAC_CTX *open_mac(void)
{
    static const char key[] = "HMAC_KEY_FROM_ADMIN_CONSOLE";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *keyed = mac ? EVP_MAC_CTX_new(mac) : NULL;
    if (!keyed || !EVP_MAC_init(keyed, (const unsigned char *)key, sizeof key - 1, params))
        die("OpenSSL", "EVP_MAC cannot be set up");
    EVP_MAC_free(mac);
    return keyed;
}

static void sign(EVP_MAC_CTX *mac, const char *user, char signature[65])
{
    unsigned char digest[32];
    size_t len;
    if (!EVP_MAC_init(mac, NULL, 0, NULL) || !EVP_MAC_update(mac, (const unsigned char *)user, strlen(user)) ||
        !EVP_MAC_final(mac, digest, &len, sizeof digest))
        die("OpenSSL", "EVP_MAC failed");
    for (int i = 0; i < 32; i++) {
        signature[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        signature[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    signature[64] = 0;
}

static void exchange(int thread, const char *user)
{
    static const char member[] = "\"access_token\":\"";
    char signature[65], body[256], token[TOKEN_SIZE];
    CURL *easy = connections[thread].easy;
    long status = 0;

    sign(connections[thread].mac, user, signature);
    snprintf(body, sizeof body, "{\"application_id\":9999,\"application_user_id\":\"%s\",\"signature\":\"%s\"}", user,
             signature);
    connections[thread].received = 0;
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    CURLcode code = curl_easy_perform(easy);
    if (code != CURLE_OK)
        die("libcurl", curl_easy_strerror(code));
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    connections[thread].reply[connections[thread].received] = 0;

    char *start = strstr(connections[thread].reply, member);
    char *end = start ? strchr(start + sizeof member - 1, '"') : NULL;
    if (status != 200 || !end || end - start >= TOKEN_SIZE)
        die("libcurl", "no token in the reply");
    start += sizeof member - 1;
    memcpy(token, start, (size_t)(end - start));
    token[end - start] = 0;
}

static CURL *open_easy(int thread, const char *url, const char *ca_file, struct curl_slist *headers)
{
    CURL *easy = curl_easy_init();
    if (!easy)
        die("libcurl", "curl_easy_init failed");
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 10000L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, (void *)(intptr_t)thread);
    if (*ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
    return easy;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--versions") == 0) {
        printf("%s\n", curl_version());
        return 0;
    }
    if (argc != 3)
        die("usage", "exchange_curl BASE_URL CA_FILE");
    char url[512];
    snprintf(url, sizeof url, "%s/auth/hmac", argv[1]);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Accept: application/json");
    for (int i = 0; i < THREADS_MAX; i++) {
        connections[i].easy = open_easy(i, url, argv[2], headers);
        connections[i].mac = open_mac();
    }
    answer_steps(run);
    for (int i = 0; i < THREADS_MAX; i++) {
        curl_easy_cleanup(connections[i].easy);
        EVP_MAC_CTX_free(connections[i].mac);
    }
    curl_slist_free_all(headers);
    curl_global_cleanup();
    return 0;
}
