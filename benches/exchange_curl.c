/* The same exchanges with libcurl and OpenSSL: `exchange_curl BASE_URL CA_FILE` (an empty CA_FILE over HTTP).
 * step.h has the protocol, crowd.h the threads. Each thread keeps its own easy handle.
 *
 * In the timed loop: EVP_MAC with the key kept, the JSON body, curl_easy_perform() on a kept connection, and the
 * token cut out of the response by a plain search, which is less work than a program should do.
 */

#include "exchange.h"

#include <sys/epoll.h>

#include <curl/curl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#define REPLY_MAX 65536
#define TOKEN_SIZE 8193
#define BODY_SIZE 256

static struct {
    CURL *easy;
    EVP_MAC_CTX *mac;
    size_t received;
    char body[BODY_SIZE];
    char reply[REPLY_MAX + 1];
} connections[IN_FLIGHT_MAX];

static CURLM *multi;
static int epoll, timer_ms = -1;

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

/* Signs, and sets the body of the next request. */
static void prepare(int thread, const char *user)
{
    char signature[65], *body = connections[thread].body;
    CURL *easy = connections[thread].easy;
    sign(connections[thread].mac, user, signature);
    snprintf(body, BODY_SIZE, "{\"application_id\":9999,\"application_user_id\":\"%s\",\"signature\":\"%s\"}", user,
             signature);
    connections[thread].received = 0;
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
}

static void read_token(int thread, CURLcode code)
{
    static const char member[] = "\"access_token\":\"";
    char token[TOKEN_SIZE];
    long status = 0;
    if (code != CURLE_OK)
        die("libcurl", curl_easy_strerror(code));
    curl_easy_getinfo(connections[thread].easy, CURLINFO_RESPONSE_CODE, &status);
    connections[thread].reply[connections[thread].received] = 0;

    char *start = strstr(connections[thread].reply, member);
    char *end = start ? strchr(start + sizeof member - 1, '"') : NULL;
    if (status != 200 || !end || end - start >= TOKEN_SIZE)
        die("libcurl", "no token in the reply");
    start += sizeof member - 1;
    memcpy(token, start, (size_t)(end - start));
    token[end - start] = 0;
}

static void exchange(int thread, const char *user)
{
    prepare(thread, user);
    read_token(thread, curl_easy_perform(connections[thread].easy));
}

/* --- the multi interface --- */

/* libcurl wants another event of a socket. `is_known`: epoll has it. */
static int watch(CURL *easy, curl_socket_t socket, int what, void *unused, void *is_known)
{
    struct epoll_event event = {.data.fd = socket};
    (void)easy;
    (void)unused;
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (what == CURL_POLL_REMOVE)
        return epoll_ctl(epoll, EPOLL_CTL_DEL, socket, NULL), 0;
    curl_multi_assign(multi, socket, &multi);
    return epoll_ctl(epoll, is_known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event);
}

static int set_timer(CURLM *unused, long timeout_ms, void *where)
{
    (void)unused;
    *(int *)where = (int)timeout_ms;
    return 0;
}

static void start(int place, long number)
{
    char user[USER_SIZE];
    name_user(user, number);
    prepare(place, user);
    curl_multi_add_handle(multi, connections[place].easy);
}

static int finish(int places[IN_FLIGHT_MAX])
{
    struct epoll_event events[256];
    int running, left, count = 0;
    CURLMsg *message;
    int ready = epoll_wait(epoll, events, 256, timer_ms);
    if (ready == 0)
        curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
    for (int i = 0; i < ready; i++)
        curl_multi_socket_action(multi, events[i].data.fd,
                                 (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                     (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                                     (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
                                 &running);
    while ((message = curl_multi_info_read(multi, &left))) {
        char *place;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &place);
        places[count] = (int)(intptr_t)place;
        read_token(places[count++], message->data.result);
        curl_multi_remove_handle(multi, message->easy_handle);
    }
    return count;
}

static void open_multi(void)
{
    multi = curl_multi_init();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!multi || epoll < 0)
        die("libcurl", "the multi interface cannot be set up");
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, &timer_ms);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)IN_FLIGHT_MAX); /* also while few are in flight */
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
    curl_easy_setopt(easy, CURLOPT_PRIVATE, (void *)(intptr_t)thread);
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
    open_multi();
    for (int i = 0; i < IN_FLIGHT_MAX; i++) {
        connections[i].easy = open_easy(i, url, argv[2], headers);
        connections[i].mac = open_mac();
    }
    answer_steps(run);
    curl_multi_cleanup(multi);
    for (int i = 0; i < IN_FLIGHT_MAX; i++) {
        curl_easy_cleanup(connections[i].easy);
        EVP_MAC_CTX_free(connections[i].mac);
    }
    curl_slist_free_all(headers);
    curl_global_cleanup();
    return 0;
}
