// The two steps separately, in C++11: sign the user id, then exchange the signature for the token.

#include <spike_auth.h>

#include <array>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

struct Free {
    void operator()(spike_auth_config *config) const { spike_auth_config_free(config); }
    void operator()(spike_auth_client *client) const { spike_auth_client_free(client); }
};

using Config = std::unique_ptr<spike_auth_config, Free>;
using Client = std::unique_ptr<spike_auth_client, Free>;

void check(spike_auth_status_t status, const spike_auth_error &err) {
    if (status != SPIKE_AUTH_STATUS_OK) throw std::runtime_error(err.message);
}

Client client_from_environment() {
    spike_auth_error err;
    spike_auth_config *config = nullptr;
    check(spike_auth_config_new(&config, &err), err);
    const Config owned_config(config);
    check(spike_auth_config_load_env(config, &err), err);
    spike_auth_client *client = nullptr;
    check(spike_auth_client_new(config, &client, &err), err);
    return Client(client);
}

std::string sign(const spike_auth_client *client, const std::string &user) {
    spike_auth_error err;
    std::array<char, SPIKE_AUTH_SIGNATURE_SIZE> signature;
    std::size_t len = 0;
    check(spike_auth_client_sign_user(client, user.data(), user.size(), signature.data(),
                                      signature.size(), &len, &err), err);
    return std::string(signature.data(), len);
}

std::string exchange(const spike_auth_client *client, const std::string &user,
                     const std::string &signature) {
    spike_auth_error err;
    std::array<char, SPIKE_AUTH_TOKEN_SIZE> token;
    std::size_t len = 0;
    check(spike_auth_client_exchange_signature(client, user.data(), user.size(), signature.data(),
                                               signature.size(), nullptr, token.data(),
                                               token.size(), &len, &err), err);
    return std::string(token.data(), len);
}

}  // namespace

int main(int argc, char **argv) {
    const std::string user = argc > 1 ? argv[1] : "my_application_user_123";
    try {
        const Client client = client_from_environment();
        const std::string signature = sign(client.get(), user);
        // The signature never expires, so it is as secret as a password: print only its length.
        std::cout << "signed the user id: " << signature.size() << " hex characters\n";
        const std::string token = exchange(client.get(), user, signature);
        std::cout << "exchanged it for a token of " << token.size() << " characters\n";
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    return 0;
}
