// The tokens of many users at once, on one thread of boost::asio. C++17. Usage: asio [USER [COUNT]]

#include <spike_auth.hpp>
#include <boost/asio.hpp>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <unistd.h>
#include <utility>

namespace asio = boost::asio;

// Calls a handler in the loop when a token has arrived, or cannot be had.
class Tokens {
public:
    using Handler = std::function<void(const spike_auth::result<std::string> &)>;

    // asio closes its descriptor, so it receives a duplicate.
    Tokens(asio::io_context &loop, const spike_auth::client &client)
        : client_(client), readable_(loop, ::dup(queue_.fd())) {}

    void get(const std::string &user, Handler handler) {
        auto request = std::make_unique<Request>(*this, std::move(handler));
        client_.start_token(user, request->call, queue_, request->tag());
        request.release();  // until it has ended
        ++waiting_;
        wait();
    }

private:
    struct Request final : spike_auth::waiter {
        Request(Tokens &to, Handler then) : tokens(to), handler(std::move(then)) {}
        void ended() override {
            const std::unique_ptr<Request> owned(this);
            --tokens.waiting_;
            handler(call.try_get_token());
        }
        Tokens &tokens;
        Handler handler;
        spike_auth::call call;
    };

    void wait() {
        if (waiting_ == 0 || std::exchange(watched_, true)) return;
        readable_.async_wait(asio::posix::stream_descriptor::wait_read, [this](boost::system::error_code error) {
            watched_ = false;
            if (error) return;
            spike_auth::dispatch(queue_);
            wait();
        });
    }

    spike_auth::queue queue_;
    const spike_auth::client &client_;
    asio::posix::stream_descriptor readable_;
    std::size_t waiting_ = 0;
    bool watched_ = false;
};

int main(int argc, char **argv) try {
    const std::string prefix = argc > 1 ? argv[1] : "my_application_user";
    const std::size_t users = argc > 2 ? std::stoul(argv[2]) : 1000;
    asio::io_context loop;
    const spike_auth::client client(spike_auth::config().load_env());
    Tokens tokens(loop, client);
    std::size_t received = 0;
    for (std::size_t i = 0; i < users; ++i)
        tokens.get(prefix + "-" + std::to_string(i), [&received](const auto &token) {
            if (token) ++received;
            else std::cerr << token.message() << '\n';
        });
    loop.run();
    std::cout << received << " of " << users << " users have a token\n";
    return received == users ? 0 : 1;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
