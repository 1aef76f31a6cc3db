// The two steps separately, in C++17: sign the user id, then exchange the signature for the token.

#include <spike_auth.hpp>

#include <exception>
#include <iostream>
#include <string>

int main(int argc, char **argv) {
    const std::string user = argc > 1 ? argv[1] : "my_application_user_123";
    try {
        const spike_auth::client client(spike_auth::config().load_env());
        const std::string signature = client.sign_user(user);
        // The signature never expires, so it is as secret as a password: print only its length.
        std::cout << "signed the user id: " << signature.size() << " hex characters\n";
        const std::string token = client.exchange_signature(user, signature);
        std::cout << "exchanged it for a token of " << token.size() << " characters\n";
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    return 0;
}
