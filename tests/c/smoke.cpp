// The library from C++11 on: handles as unique_ptr, failures as exceptions. Against the sandbox.
//
// usage: smoke BASE_URL CA_FILE
#include <spike_auth.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Failure : std::runtime_error {
    explicit Failure(const spike_auth_error &error) : std::runtime_error(error.message), status(error.status) {}
    spike_auth_status_t status;
};

// Calls with an error struct at the end, and throws what it says.
template <class Function, class... Arguments> void check(Function function, Arguments... arguments)
{
    spike_auth_error error;
    if (function(arguments..., &error) != SPIKE_AUTH_STATUS_OK)
        throw Failure(error);
}

class Config {
public:
    Config() : handle_(make(), spike_auth_config_free) {}

    Config &application_id(const std::string &id)
    {
        return set(spike_auth_config_set_application_id, id.data(), id.size());
    }

    Config &base_url(const std::string &url)
    {
        return set(spike_auth_config_set_base_url, url.data(), url.size());
    }

    Config &hmac_key(const std::string &key)
    {
        return set(spike_auth_config_set_hmac_key, reinterpret_cast<const std::uint8_t *>(key.data()), key.size());
    }

    Config &only_ca(const std::string &pem)
    {
        set(spike_auth_config_set_ca_pem, pem.data(), pem.size());
        return set(spike_auth_config_set_tls_roots, SPIKE_AUTH_TLS_ROOTS_NONE);
    }

    const spike_auth_config *get() const { return handle_.get(); }

private:
    template <class Setter, class... Arguments> Config &set(Setter setter, Arguments... arguments)
    {
        check(setter, handle_.get(), arguments...);
        return *this;
    }

    static spike_auth_config *make()
    {
        spike_auth_config *handle = nullptr;
        check(spike_auth_config_new, &handle);
        return handle;
    }

    std::unique_ptr<spike_auth_config, decltype(&spike_auth_config_free)> handle_;
};

class Client {
public:
    explicit Client(const Config &config) : handle_(make(config), spike_auth_client_free) {}

    std::string sign(const std::string &user) const
    {
        return text<SPIKE_AUTH_SIGNATURE_SIZE>(spike_auth_client_sign_user, user);
    }

    std::string exchange(const std::string &user) const
    {
        return text<SPIKE_AUTH_TOKEN_SIZE>(spike_auth_client_exchange, user, nullptr);
    }

    std::string token(const std::string &user) const
    {
        return text<SPIKE_AUTH_TOKEN_SIZE>(spike_auth_client_get_token, user, nullptr);
    }

    std::string authorization(const std::string &user) const
    {
        return text<SPIKE_AUTH_AUTHORIZATION_SIZE>(spike_auth_client_get_authorization, user, nullptr);
    }

    void invalidate(const std::string &user, const std::string &rejected) const
    {
        check(spike_auth_client_invalidate, handle_.get(), user.data(), user.size(), rejected.data(), rejected.size());
    }

    spike_auth_stats stats() const
    {
        spike_auth_stats stats;
        check(spike_auth_client_stats, handle_.get(), &stats);
        return stats;
    }

private:
    template <std::size_t Size, class Function, class... Arguments>
    std::string text(Function function, const std::string &user, Arguments... arguments) const
    {
        std::vector<char> out(Size);
        std::size_t len = 0;
        check(function, handle_.get(), user.data(), user.size(), arguments..., out.data(), out.size(), &len);
        return std::string(out.data(), len);
    }

    static spike_auth_client *make(const Config &config)
    {
        spike_auth_client *handle = nullptr;
        check(spike_auth_client_new, config.get(), &handle);
        return handle;
    }

    std::unique_ptr<spike_auth_client, decltype(&spike_auth_client_free)> handle_;
};

int passed = 0;
int failed = 0;

void expect(bool holds, const char *what)
{
    ++(holds ? passed : failed);
    if (!holds)
        std::cerr << "FAILED " << what << '\n';
}

template <class Call> spike_auth_status_t status_of(Call call)
{
    try {
        call();
    } catch (const Failure &failure) {
        return failure.status;
    }
    return SPIKE_AUTH_STATUS_OK;
}

std::string read_file(const char *path)
{
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

void run_cache(const Client &client)
{
    const std::string token = client.token("bob");
    expect(client.token("bob") == token && client.stats().requests == 1, "a second token makes no request");
    expect(client.authorization("bob") == "Bearer " + token, "the same token as the value of a header");
    expect(client.stats().hits == 2 && client.stats().entries == 1, "it is counted");
    expect(status_of([&] { client.invalidate("bob", ""); }) == SPIKE_AUTH_STATUS_INVALID_ARGUMENT,
           "a report of an empty token is an exception");
    client.invalidate("bob", token);
    expect(client.stats().invalidations == 1 && client.stats().entries == 0, "a reported token is dropped");
    expect(status_of([&] { client.token("bob"); }) == SPIKE_AUTH_STATUS_TOKEN_REJECTED,
           "the same token once more is an exception"); // the sandbox has no other
}

void run(const std::string &url, const std::string &pem)
{
    Config config;
    config.application_id("9999").hmac_key("HMAC_KEY_FROM_ADMIN_CONSOLE").base_url(url).only_ca(pem);
    const Client client(config);
    expect(client.sign("a") == "a8c179bdf15ce1c5e2beab8e4700d0ac66e62b8880870164d9fe2dd0025622f3",
           "it signs the known answer");
    const std::string token = client.exchange("alice");
    expect(token.size() > 20 && token.find_first_of(" \r\n") == std::string::npos, "a token fits into a header");
    expect(status_of([&] { client.exchange("al ice"); }) == SPIKE_AUTH_STATUS_INVALID_USER_ID,
           "a bad user id is an exception");
    expect(status_of([&] { client.exchange("fault.status.401"); }) == SPIKE_AUTH_STATUS_UNAUTHORIZED,
           "a refusal is an exception");
    expect(status_of([] { Config().base_url("nonsense"); }) == SPIKE_AUTH_STATUS_INVALID_URL,
           "a bad URL is an exception");
    expect(status_of([] { Client{Config()}; }) == SPIKE_AUTH_STATUS_INCOMPLETE_CONFIG,
           "an incomplete configuration makes no client");
    std::string other;
    std::thread([&] { other = client.exchange("alice"); }).join();
    expect(other == token, "another thread gets the same user's token");
    run_cache(client);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    try {
        run(argv[1], read_file(argv[2]));
    } catch (const std::exception &failure) {
        expect(false, failure.what());
    }
    std::cout << passed << " passed, " << failed << " failed\n";
    return failed != 0 || passed == 0;
}
