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

void check(spike_auth_status_t status, const spike_auth_error &error)
{
    if (status != SPIKE_AUTH_STATUS_OK)
        throw Failure(error);
}

class Config {
public:
    Config() : handle_(make(), spike_auth_config_free) {}

    Config &application_id(const std::string &id)
    {
        spike_auth_error error;
        check(spike_auth_config_set_application_id(handle_.get(), id.data(), id.size(), &error), error);
        return *this;
    }

    Config &hmac_key(const std::string &key)
    {
        spike_auth_error error;
        const auto *bytes = reinterpret_cast<const std::uint8_t *>(key.data());
        check(spike_auth_config_set_hmac_key(handle_.get(), bytes, key.size(), &error), error);
        return *this;
    }

    Config &base_url(const std::string &url)
    {
        spike_auth_error error;
        check(spike_auth_config_set_base_url(handle_.get(), url.data(), url.size(), &error), error);
        return *this;
    }

    Config &only_ca(const std::string &pem)
    {
        spike_auth_error error;
        check(spike_auth_config_set_ca_pem(handle_.get(), pem.data(), pem.size(), &error), error);
        check(spike_auth_config_set_tls_roots(handle_.get(), SPIKE_AUTH_TLS_ROOTS_NONE, &error), error);
        return *this;
    }

    const spike_auth_config *get() const { return handle_.get(); }

private:
    static spike_auth_config *make()
    {
        spike_auth_config *handle = nullptr;
        spike_auth_error error;
        check(spike_auth_config_new(&handle, &error), error);
        return handle;
    }

    std::unique_ptr<spike_auth_config, decltype(&spike_auth_config_free)> handle_;
};

class Client {
public:
    explicit Client(const Config &config) : handle_(make(config), spike_auth_client_free) {}

    std::string sign(const std::string &user) const
    {
        char text[SPIKE_AUTH_SIGNATURE_SIZE];
        std::size_t len = 0;
        spike_auth_error error;
        check(spike_auth_client_sign_user(handle_.get(), user.data(), user.size(), text, sizeof text, &len, &error),
              error);
        return std::string(text, len);
    }

    std::string exchange(const std::string &user) const
    {
        std::vector<char> text(SPIKE_AUTH_TOKEN_SIZE);
        std::size_t len = 0;
        spike_auth_error error;
        check(spike_auth_client_exchange(handle_.get(), user.data(), user.size(), nullptr, text.data(), text.size(),
                                         &len, &error),
              error);
        return std::string(text.data(), len);
    }

    std::string token(const std::string &user) const
    {
        std::vector<char> text(SPIKE_AUTH_TOKEN_SIZE);
        std::size_t len = 0;
        spike_auth_error error;
        check(spike_auth_client_get_token(handle_.get(), user.data(), user.size(), nullptr, text.data(), text.size(),
                                          &len, &error),
              error);
        return std::string(text.data(), len);
    }

    std::string authorization(const std::string &user) const
    {
        std::vector<char> text(SPIKE_AUTH_AUTHORIZATION_SIZE);
        std::size_t len = 0;
        spike_auth_error error;
        check(spike_auth_client_get_authorization(handle_.get(), user.data(), user.size(), nullptr, text.data(),
                                                  text.size(), &len, &error),
              error);
        return std::string(text.data(), len);
    }

    void invalidate(const std::string &user, const std::string &rejected) const
    {
        spike_auth_error error;
        check(spike_auth_client_invalidate(handle_.get(), user.data(), user.size(), rejected.data(), rejected.size(),
                                           &error),
              error);
    }

    spike_auth_stats stats() const
    {
        spike_auth_stats stats;
        spike_auth_error error;
        check(spike_auth_client_stats(handle_.get(), &stats, &error), error);
        return stats;
    }

private:
    static spike_auth_client *make(const Config &config)
    {
        spike_auth_client *handle = nullptr;
        spike_auth_error error;
        check(spike_auth_client_new(config.get(), &handle, &error), error);
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
    expect(client.authorization("bob") == "Bearer " + token, "the same token in a header's value");
    expect(client.stats().hits == 2 && client.stats().entries == 1, "it is counted");
    expect(status_of([&] { client.invalidate("bob", ""); }) == SPIKE_AUTH_STATUS_INVALID_ARGUMENT,
           "a report of nothing is an exception");
    client.invalidate("bob", token);
    expect(client.stats().invalidations == 1 && client.stats().entries == 0, "a token that is reported is dropped");
    expect(status_of([&] { client.token("bob"); }) == SPIKE_AUTH_STATUS_TOKEN_REJECTED,
           "the same token once more is an exception"); // this sandbox has no other
}

void run(const std::string &url, const std::string &pem)
{
    Config config;
    config.application_id("9999").hmac_key("HMAC_KEY_FROM_ADMIN_CONSOLE").base_url(url).only_ca(pem);
    const Client client(config);
    expect(client.sign("a") == "a8c179bdf15ce1c5e2beab8e4700d0ac66e62b8880870164d9fe2dd0025622f3",
           "it signs the known answer");
    const std::string token = client.exchange("alice");
    expect(token.size() > 20 && token.find_first_of(" \r\n") == std::string::npos, "a token may stand in a header");
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
