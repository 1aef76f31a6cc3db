// The tokens of many users at once, a coroutine for each, on one thread. C++20. Usage: coroutine [USER [COUNT]]

#include <spike_auth.hpp>

#include <coroutine>
#include <exception>
#include <iostream>
#include <string>
#include <sys/epoll.h>
#include <unistd.h>
#include <utility>
#include <vector>

// Runs at once until it waits. Destroying it ends it, wherever it is.
class Task {
public:
    struct promise_type {
        Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };

    explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    Task(Task &&other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    ~Task() {
        if (handle_) handle_.destroy();
    }

private:
    std::coroutine_handle<promise_type> handle_;
};

struct Count {
    std::size_t waiting = 0;
    std::size_t tokens = 0;
};

Task serve(const spike_auth::client &client, const spike_auth::queue &queue, std::string user, Count &count) {
    ++count.waiting;
    try {
        const std::string authorization = co_await client.co_get_authorization(queue, user);
        ++count.tokens;  // here the request of the user would be sent
    } catch (const spike_auth::error &error) {
        std::cerr << user << ": " << error.what() << '\n';
    }
    --count.waiting;
}

int main(int argc, char **argv) try {
    const std::string prefix = argc > 1 ? argv[1] : "my_application_user";
    const std::size_t users = argc > 2 ? std::stoul(argv[2]) : 1000;
    const spike_auth::client client(spike_auth::config().load_env());
    const spike_auth::queue queue;
    Count count;
    std::vector<Task> tasks;
    for (std::size_t i = 0; i < users; ++i)
        tasks.push_back(serve(client, queue, prefix + "-" + std::to_string(i), count));
    std::cout << count.waiting << " coroutines wait\n";

    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, queue.fd(), &event) != 0) return 1;
    while (count.waiting > 0 && epoll_wait(epoll, &event, 1, -1) == 1) spike_auth::dispatch(queue);
    close(epoll);
    std::cout << count.tokens << " of " << users << " users have a token\n";
    return count.tokens == users ? 0 : 1;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
