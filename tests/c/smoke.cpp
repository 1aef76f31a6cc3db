// spike_auth.hpp against the sandbox, from C++17 on: every function of it, with and without exceptions.
//
// usage: smoke BASE_URL CA_FILE
#include <spike_auth.hpp>

#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <poll.h>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

/** Of a second file that includes the header. */
const char *version_elsewhere();

namespace {

int passed = 0;
int failed = 0;

void expect(bool holds, const char *what)
{
    ++(holds ? passed : failed);
    if (!holds)
        std::cerr << "FAILED " << what << '\n';
}

template <class Owner> constexpr bool only_moves =
    std::is_nothrow_move_constructible_v<Owner> && std::is_nothrow_move_assignable_v<Owner> &&
    !std::is_copy_constructible_v<Owner> && !std::is_copy_assignable_v<Owner>;
static_assert(only_moves<spike_auth::config> && only_moves<spike_auth::client>);
static_assert(only_moves<spike_auth::call> && only_moves<spike_auth::queue>);
static_assert(std::is_nothrow_copy_constructible_v<spike_auth::error>);

const std::string KEY = "HMAC_KEY_FROM_ADMIN_CONSOLE";
const std::string SIGNATURE_OF_A = "a8c179bdf15ce1c5e2beab8e4700d0ac66e62b8880870164d9fe2dd0025622f3";

std::string read_file(const char *path)
{
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

template <class Until> void loop(const spike_auth::queue &queue, Until until)
{
    while (!until()) {
        pollfd ready{queue.fd(), POLLIN, 0};
        if (poll(&ready, 1, 20'000) != 1)
            return expect(false, "the queue's descriptor becomes readable");
        spike_auth::dispatch(queue);
    }
}

struct Counted final : spike_auth::waiter {
    void ended() override
    {
        ++count;
        delete std::exchange(rival, nullptr);
    }
    int count = 0;
    spike_auth::call call = *spike_auth::call::try_make();
    Counted *rival = nullptr;
};

// ---- without exceptions

spike_auth::config configure(const std::string &url, const std::string &pem)
{
    auto config = *spike_auth::config::try_make();
    expect(config.try_set_application_id("9999").has_value() && config.try_set_hmac_key(KEY).has_value() &&
               config.try_set_base_url(url).has_value() && config.try_set_ca_pem(pem).has_value() &&
               config.try_set_tls_roots(SPIKE_AUTH_TLS_ROOTS_NONE).has_value() &&
               config.try_set_timeout(20s).has_value() && config.try_set_connect_timeout(5s).has_value() &&
               config.try_set_max_attempts(3).has_value() && config.try_set_user_agent("smoke/1").has_value() &&
               config.try_set_proxy("").has_value() && config.try_set_max_concurrency(16).has_value() &&
               config.try_set_max_rate(0).has_value() &&
               config.try_set_cache_capacity(1000).has_value() && config.try_set_cache_max_bytes(0).has_value() &&
               config.try_set_cache_ttl(1h).has_value(),
           "every setter takes a good value");
    for (auto wrong : {-1ms, std::chrono::milliseconds::max(), 600'001ms})
        expect(config.try_set_timeout(wrong).status() == SPIKE_AUTH_STATUS_INVALID_ARGUMENT,
               "a negative or too long time is refused");
    const auto refused = config.try_set_base_url("nonsense");
    expect(!refused && refused.status() == SPIKE_AUTH_STATUS_INVALID_URL && std::strlen(refused.message()) > 0 &&
               std::string(refused.status_name()) == "SPIKE_AUTH_STATUS_INVALID_URL" && !refused.retry_after() &&
               refused.http_status() == 0 && !refused.retryable() && refused.attempts() == 0 && !refused.shared() &&
               refused.renewal_status() == SPIKE_AUTH_STATUS_OK &&
               refused.detail().status == refused.status(),
           "a failure has all fields");
    return config;
}

void without_handle()
{
    expect(spike_auth::abi_version() == SPIKE_AUTH_ABI_VERSION, "the ABI version");
    expect(spike_auth::version_number() >= SPIKE_AUTH_VERSION_NUMBER, "the version");
    expect(spike_auth::version() == version_elsewhere(), "two files can include the header");
    expect(spike_auth::signature_size() == SPIKE_AUTH_SIGNATURE_SIZE &&
               spike_auth::token_size() == SPIKE_AUTH_TOKEN_SIZE &&
               spike_auth::authorization_size() == SPIKE_AUTH_AUTHORIZATION_SIZE,
           "the sizes");
    expect(std::string(spike_auth::status_name(15)) == "SPIKE_AUTH_STATUS_PENDING", "a name of a status");
    expect(std::strlen(spike_auth::status_text(15)) > 0, "a text of a status");
    expect(*spike_auth::try_sign_user(KEY, "a") == SIGNATURE_OF_A, "a signature");
    expect(*spike_auth::try_verify_user(KEY, "a", SIGNATURE_OF_A), "a signature that matches");
    expect(!*spike_auth::try_verify_user(KEY, "b", SIGNATURE_OF_A), "one that does not match is no failure");
    expect(spike_auth::try_verify_user(KEY, "a", "x").status() == SPIKE_AUTH_STATUS_INVALID_SIGNATURE,
           "one that is none is a failure");
}

void sign_many(const spike_auth::client &client)
{
    const std::int64_t offsets[] = {0, 1, 3, 4};
    const auto all = client.try_sign_users("a!!b", offsets, 3);
    expect(all && all->size() == 3 && (*all)[0] == SIGNATURE_OF_A && (*all)[1].empty() && (*all)[2].size() == 64 &&
               all->statuses[1] == SPIKE_AUTH_STATUS_INVALID_USER_ID,
           "many users are signed, an invalid one is told");
    expect(client.try_sign_users("a", offsets, 3).status() == SPIKE_AUTH_STATUS_INVALID_ARGUMENT, "wrong offsets");
    expect(client.try_sign_users({}, nullptr, 0)->size() == 0, "no users");
#if defined(__cpp_lib_span)
    expect((*client.try_sign_users("a!!b", std::span(offsets)))[0] == SIGNATURE_OF_A, "a span of offsets");
#endif
}

void ask(const spike_auth::client &client)
{
    expect(*client.try_sign_user("a") == SIGNATURE_OF_A, "the client signs");
    const auto token = client.try_exchange("alice");
    expect(token && token->size() > 20 && token.attempts() == 1, "an exchange");
    expect(*client.try_exchange_signature("a", SIGNATURE_OF_A) == *client.try_exchange("a"), "one of a signature");
    expect(client.try_peek_token("bob").status() == SPIKE_AUTH_STATUS_NOT_CACHED, "nothing is cached");
    const auto bob = client.try_get_token("bob");
    expect(*client.try_peek_token("bob") == *bob, "a token");
    expect(*client.try_get_authorization("bob") == "Bearer " + *bob, "the value of a header");
    expect(client.try_stats()->hits == 2 && client.try_stats()->entries == 1, "the counters");
    expect(client.try_invalidate("bob", "").status() == SPIKE_AUTH_STATUS_INVALID_ARGUMENT, "an empty report");
    expect(client.try_invalidate("bob", *bob).has_value(), "a report");
    const auto again = client.try_get_token("bob"); // the sandbox has no other
    expect(again.status() == SPIKE_AUTH_STATUS_TOKEN_REJECTED && again.retry_after() > 0ms, "the same token once more");
    expect(client.try_forget("bob").has_value() && client.try_clear().has_value(), "forgotten");
    const auto refused = client.try_exchange("fault.status.401");
    expect(refused.status() == SPIKE_AUTH_STATUS_UNAUTHORIZED && refused.http_status() == 401, "a refusal");

    auto call = *spike_auth::call::try_make();
    expect(call.try_set_timeout(50ms).has_value(), "a deadline");
    const auto late = client.try_get_token("fault.delay.5000", &call);
    expect(late.status() == SPIKE_AUTH_STATUS_TIMEOUT && late.retryable(), "a deadline of a call");
    const std::string user = "fault.delay.5000";
    const auto signature = *client.try_sign_user(user);
    expect(client.try_exchange(user, &call).status() == SPIKE_AUTH_STATUS_TIMEOUT &&
               client.try_exchange_signature(user, signature, &call).status() == SPIKE_AUTH_STATUS_TIMEOUT &&
               client.try_get_authorization(user, &call).status() == SPIKE_AUTH_STATUS_TIMEOUT,
           "of every kind of call");
    std::thread([&] { call.cancel(); }).join();
    expect(client.try_get_token("alice", &call).status() == SPIKE_AUTH_STATUS_CANCELLED, "a cancelled call");
}

void start(const spike_auth::client &client)
{
    const auto queue = *spike_auth::queue::try_make();
    Counted token, exchange, signature, stopped;
    expect(token.call.try_get_token().status() == SPIKE_AUTH_STATUS_INVALID_ARGUMENT, "a call that was never started");
    expect(client.try_start_token("started", token.call, queue, token.tag()).has_value() &&
               client.try_start_exchange("started", exchange.call, queue, exchange.tag()).has_value() &&
               client.try_start_exchange_signature("a", SIGNATURE_OF_A, signature.call, queue, signature.tag()) &&
               client.try_start_token("fault.delay.9000", stopped.call, queue, stopped.tag()).has_value(),
           "calls are started");
    expect(stopped.call.try_get_token().status() == SPIKE_AUTH_STATUS_PENDING, "a call is under way");
    stopped.call.cancel();
    loop(queue, [&] { return token.count + exchange.count + signature.count + stopped.count == 4; });
    expect(*token.call.try_get_token() == *exchange.call.try_get_token(), "started calls get tokens");
    expect(signature.call.try_get_authorization()->size() > 27, "and the value of a header");
    expect(stopped.call.try_get_token().status() == SPIKE_AUTH_STATUS_CANCELLED, "or a failure");

    // Two that have ended, each of which destroys the other: one is told.
    auto *one = new Counted, *other = new Counted;
    one->rival = other;
    other->rival = one;
    expect(client.try_start_token("started", one->call, queue, one->tag()).has_value() &&
               client.try_start_token("started", other->call, queue, other->tag()).has_value(),
           "tokens of the cache are handed out too");
    while (client.try_stats()->pending > 0)
        std::this_thread::sleep_for(1ms);
    expect(spike_auth::dispatch(queue) == 1, "a waiter can destroy another one whose call has ended");
    Counted *left = one->count ? one : other;
    left->rival = nullptr;
    delete left;

    Counted numbers[4];
    for (auto &each : numbers)
        expect(client.try_start_token("started", each.call, queue, 7).has_value(), "a tag can be any number");
    std::size_t count = 0;
    while (client.try_stats()->pending > 0)
        std::this_thread::sleep_for(1ms);
    std::uint64_t tags[3] = {};
    expect(*queue.try_take(tags, 3) == 3 && tags[2] == 7, "a part is taken");
#if defined(__cpp_lib_span)
    count = *queue.try_take(std::span(tags));
#else
    count = *queue.try_take(tags, 3);
#endif
    expect(count == 1, "and the rest");
}

void move_and_own(const spike_auth::config &config)
{
    auto first = *spike_auth::client::try_make(config);
    auto second = std::move(first);
    expect(second.try_get_token("moved").has_value(), "a client moves");
    expect(first.try_get_token("moved").status() == SPIKE_AUTH_STATUS_NULL_POINTER, "what was moved from fails");
    first = std::move(second);
    expect(first.try_get_token("moved").has_value() && first.get() != nullptr && second.get() == nullptr, "and back");
    first.close();
    expect(first.try_stats().status() == SPIKE_AUTH_STATUS_CLOSED, "a closed client");
    const auto none = spike_auth::client::try_make(*spike_auth::config::try_make());
    expect(none.status() == SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG, "an incomplete configuration makes no client");
}

/** A store that cannot be used: no call fails because of it. */
void share(spike_auth::config config)
{
    expect(config.try_set_store("http://localhost").status() == SPIKE_AUTH_STATUS_INVALID_URL &&
               config.try_set_store_timeout(10'001ms).status() == SPIKE_AUTH_STATUS_INVALID_ARGUMENT &&
               config.try_set_store_timeout(-1ms).status() == SPIKE_AUTH_STATUS_INVALID_ARGUMENT,
           "a wrong store is refused");
    const auto none = *spike_auth::client::try_make(config);
    expect(none.try_check_store().status() == SPIKE_AUTH_STATUS_STORE && none.try_forget_shared("alice").has_value(),
           "a client without a store");
    const auto report = none.try_diagnose("alice");
    expect(report.has_value() && report->front() == '{' && report->find("\"ok\":true") != std::string::npos,
           "a report is JSON");
    expect(config.try_set_store("unix:///nowhere.sock").has_value() && config.try_set_store_timeout(5s).has_value(),
           "a store is set");
    const auto client = *spike_auth::client::try_make(config);
    const auto checked = client.try_check_store();
    expect(checked.status() == SPIKE_AUTH_STATUS_STORE && checked.retryable() && std::strlen(checked.message()) > 0,
           "which cannot be used");
    expect(client.try_forget_shared("alice").status() == SPIKE_AUTH_STATUS_STORE &&
               client.try_forget_shared("al ice").status() == SPIKE_AUTH_STATUS_INVALID_USER_ID,
           "nothing is forgotten there");
    expect(client.try_get_token("alice").has_value() && client.try_stats()->store_errors == 3, "a token all the same");
    auto call = *spike_auth::call::try_make();
    call.cancel();
    expect(client.try_check_store(&call).status() == SPIKE_AUTH_STATUS_CANCELLED &&
               client.try_forget_shared("alice", &call).status() == SPIKE_AUTH_STATUS_CANCELLED,
           "a call handle is used");
}

// ---- with exceptions

#if defined(__cpp_exceptions)
template <class Call> spike_auth_status_t status_of(Call call)
{
    try {
        call();
    } catch (const spike_auth::error &failure) {
        return failure.status();
    }
    return SPIKE_AUTH_STATUS_OK;
}

void throwing(const std::string &url, const std::string &pem)
{
    spike_auth::config config;
    config.set_application_id("9999").set_hmac_key(KEY).set_base_url(url).set_ca_pem(pem);
    config.set_tls_roots(SPIKE_AUTH_TLS_ROOTS_NONE).set_timeout(20s).set_connect_timeout(5s).set_max_attempts(3);
    config.set_user_agent("smoke/1").set_proxy("").set_max_concurrency(16).set_max_rate(1000).set_cache_capacity(1000);
    config.set_cache_max_bytes(0).set_cache_ttl(1h).set_store("").set_store_timeout(0ms).load_env();
#if defined(__cpp_lib_span)
    config.set_hmac_key(std::as_bytes(std::span(KEY)));
#endif
    const spike_auth::client client(config);
    expect(spike_auth::sign_user(KEY, "a") == SIGNATURE_OF_A && client.sign_user("a") == SIGNATURE_OF_A &&
               spike_auth::verify_user(KEY, "a", SIGNATURE_OF_A) && !spike_auth::verify_user(KEY, "b", SIGNATURE_OF_A),
           "signatures");
    const std::int64_t offsets[] = {0, 1};
    expect(client.sign_users("a", offsets, 1)[0] == SIGNATURE_OF_A, "many of them");
#if defined(__cpp_lib_span)
    expect(client.sign_users("a", std::span(offsets))[0] == SIGNATURE_OF_A, "by a span");
#endif
    const std::string token = client.exchange("a");
    expect(client.exchange_signature("a", SIGNATURE_OF_A) == token && !client.peek_token("a") &&
               client.get_token("a") == token && *client.peek_token("a") == token &&
               client.get_authorization("a") == "Bearer " + token,
           "tokens");
    expect(client.stats().hits == 2, "the counters");
    client.invalidate("b", token);
    client.forget("b");
    client.forget_shared("b");
    client.set_hmac_key(KEY);
    client.clear();
    expect(status_of([] { spike_auth::config().set_base_url("nonsense"); }) == SPIKE_AUTH_STATUS_INVALID_URL &&
               status_of([] { spike_auth::client{spike_auth::config()}; }) == SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG &&
               status_of([&] { client.peek_token("al ice"); }) == SPIKE_AUTH_STATUS_INVALID_USER_ID &&
               status_of([&] { client.check_store(); }) == SPIKE_AUTH_STATUS_STORE &&
               status_of([&] { client.set_hmac_key(""); }) == SPIKE_AUTH_STATUS_INVALID_KEY &&
               status_of([&] { client.invalidate("a", ""); }) == SPIKE_AUTH_STATUS_INVALID_ARGUMENT &&
               status_of([] { spike_auth::call(-1ms); }) == SPIKE_AUTH_STATUS_INVALID_ARGUMENT,
           "failures are exceptions");
    try {
        client.get_token("fault.status.401");
        expect(false, "a refusal is an exception");
    } catch (const std::exception &failure) {
        const auto *error = dynamic_cast<const spike_auth::error *>(&failure);
        expect(error && error->http_status() == 401 && error->attempts() == 1 && !error->retryable() &&
                   std::string(failure.what()) == error->message(),
               "which has all fields");
    }

    const spike_auth::queue queue;
    spike_auth::call started(10s), exchanged, signed_call;
    client.start_token("s", started, queue, 1);
    client.start_exchange("s", exchanged, queue, 2);
    client.start_exchange_signature("a", SIGNATURE_OF_A, signed_call, queue, 4);
    std::uint64_t sum = 0;
    while (sum < 7) {
        std::uint64_t tag = 0;
        pollfd ready{queue.fd(), POLLIN, 0};
        poll(&ready, 1, 20'000);
#if defined(__cpp_lib_span)
        sum += queue.take(std::span(&tag, 1)) ? tag : 0;
#else
        sum += queue.take(&tag, 1) ? tag : 0;
#endif
    }
    expect(started.get_token() == exchanged.get_token() && signed_call.get_authorization() == "Bearer " + token,
           "started calls");
    started.set_timeout(0ms);
}
#endif

// ---- coroutines

#if defined(__cpp_impl_coroutine)
/** Owns its coroutine, which may be destroyed at any time. */
struct Task {
    struct promise_type {
        Task get_return_object()
        {
            return Task{std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_never initial_suspend() noexcept
        {
            return {};
        }
        std::suspend_always final_suspend() noexcept
        {
            return {};
        }
        void return_void()
        {
        }
        void unhandled_exception()
        {
            std::terminate();
        }
    };

    explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    Task(Task &&other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Task &operator=(Task &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Task()
    {
        if (handle_)
            handle_.destroy();
    }
    bool done() const
    {
        return handle_.done();
    }

private:
    std::coroutine_handle<promise_type> handle_;
};

/** A temporary user id: the call copies it. */
Task one_of_many(const spike_auth::client &client, const spike_auth::queue &queue, int number, int &tokens)
{
    const auto got = co_await client.try_co_get_token(queue, "user-" + std::to_string(number));
    tokens += got ? 1 : 0;
}

Task every_kind(const spike_auth::client &client, const spike_auth::queue &queue)
{
    const auto token = co_await client.try_co_get_token(queue, "co");
    expect(token && token.attempts() == 1, "a token in a coroutine");
    const auto cached = co_await client.try_co_get_authorization(queue, "co");
    expect(cached && *cached == "Bearer " + *token && cached.attempts() == 0, "from the cache");
    expect(*co_await client.try_co_get_authorization(queue, "co-2") == "Bearer " + *client.try_peek_token("co-2"),
           "by an exchange");
    expect(*co_await client.try_co_exchange(queue, "co") == *token, "an exchange in a coroutine");
    expect((co_await client.try_co_exchange_signature(queue, "a", SIGNATURE_OF_A)).has_value(), "of a signature");
    expect((co_await client.try_co_get_token(queue, "a b")).status() == SPIKE_AUTH_STATUS_INVALID_USER_ID,
           "what cannot be started fails");
    expect((co_await client.try_co_get_token(queue, "co-3", -1ms)).status() == SPIKE_AUTH_STATUS_INVALID_ARGUMENT,
           "so does a wrong deadline");
    expect((co_await client.try_co_get_token(queue, "fault.delay.9000", 30ms)).status() == SPIKE_AUTH_STATUS_TIMEOUT,
           "a deadline in a coroutine");
#if defined(__cpp_exceptions)
    expect(co_await client.co_get_token(queue, "co-4") == *client.try_peek_token("co-4") &&
               (co_await client.co_get_authorization(queue, "co-4")).size() > 27 &&
               co_await client.co_exchange(queue, "co") == *token &&
               co_await client.co_exchange_signature(queue, "a", SIGNATURE_OF_A) == *client.try_exchange("a"),
           "with exceptions");
    try {
        co_await client.co_get_token(queue, "fault.status.401");
        expect(false, "a refusal is an exception in a coroutine");
    } catch (const spike_auth::error &failure) {
        expect(failure.status() == SPIKE_AUTH_STATUS_UNAUTHORIZED, "a refusal in a coroutine");
    }
#endif
}

/** Destroys another coroutine, whose call has ended too or is under way. */
Task destroyer(const spike_auth::client &client, const spike_auth::queue &queue, std::vector<Task> &others)
{
    expect((co_await client.try_co_exchange(queue, "destroyer")).has_value(), "the destroyer goes on");
    others.clear();
}

void coroutines(const spike_auth::client &client)
{
    const auto queue = *spike_auth::queue::try_make();
    const Task kinds = every_kind(client, queue);
    loop(queue, [&] { return kinds.done(); });

    int tokens = 0;
    std::vector<Task> many;
    for (int number = 0; number < 1000; ++number)
        many.push_back(one_of_many(client, queue, number % 300, tokens));
    loop(queue, [&] { return tokens == 1000; });
    many.clear();

    // Destroyed while they wait, at all stages.
    expect(client.try_clear().has_value(), "cleared");
    tokens = 0;
    std::vector<Task> others;
    const Task killer = destroyer(client, queue, others);
    for (int number = 0; number < 200; ++number)
        others.push_back(one_of_many(client, queue, number, tokens));
    loop(queue, [&] { return killer.done(); });
    expect(others.empty() && tokens <= 200, "coroutines are destroyed while they wait");
    while (client.try_stats()->pending > 0)
        std::this_thread::sleep_for(1ms);
    expect(spike_auth::dispatch(queue) == 0, "and are not resumed");
}
#endif

void run(const std::string &url, const std::string &pem)
{
    without_handle();
    const auto config = configure(url, pem);
    const auto client = *spike_auth::client::try_make(config);
    sign_many(client);
    ask(client);
    start(client);
    move_and_own(config);
    share(configure(url, pem));
#if defined(__cpp_impl_coroutine)
    coroutines(client);
#endif
#if defined(__cpp_exceptions)
    throwing(url, pem);
#endif
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    run(argv[1], read_file(argv[2]));
    std::cout << passed << " passed, " << failed << " failed\n";
    return failed != 0 || passed == 0;
}
