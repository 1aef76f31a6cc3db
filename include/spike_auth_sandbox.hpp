/** @file
 * spike_auth_sandbox.h for C++17: a sandbox that ends with its scope.
 *
 *     spike_auth::sandbox sandbox;
 *     sandbox.setenv();
 *     const spike_auth::client client(spike_auth::config().load_env());
 */
#ifndef SPIKE_AUTH_SANDBOX_HPP
#define SPIKE_AUTH_SANDBOX_HPP

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include <spike_auth_sandbox.h>

namespace spike_auth {

/** The functions of spike_auth_sandbox.h. What fails throws std::runtime_error. */
class sandbox {
  public:
    /** Starts it, see spike_auth_sandbox_start(). */
    explicit sandbox(std::initializer_list<const char *> arguments = {}, const char *program = nullptr)
    {
        std::vector<const char *> words(arguments);
        words.push_back(nullptr);
        checked(spike_auth_sandbox_start(&running, program, words.data()));
    }
    ~sandbox()
    {
        spike_auth_sandbox_stop(&running);
    }
    sandbox(const sandbox &) = delete;
    sandbox &operator=(const sandbox &) = delete;

    /** Its addresses and settings. */
    const spike_auth_sandbox &get() const noexcept
    {
        return running;
    }
    void setenv()
    {
        checked(spike_auth_sandbox_setenv(&running));
    }
    /** Of everyone, see spike_auth_sandbox_fault(). */
    void fault(const std::string &faults)
    {
        checked(spike_auth_sandbox_fault(&running, nullptr, faults.c_str()));
    }
    void fault(const std::string &faults, const std::string &user)
    {
        checked(spike_auth_sandbox_fault(&running, user.c_str(), faults.c_str()));
    }
    /** Of everyone, good or bad, see spike_auth_sandbox_requests(). */
    long requests()
    {
        return checked(spike_auth_sandbox_requests(&running, nullptr));
    }
    long requests(const std::string &user)
    {
        return checked(spike_auth_sandbox_requests(&running, user.c_str()));
    }

  private:
    long checked(long result) const
    {
        if (result < 0)
            throw std::runtime_error(running.error);
        return result;
    }

    spike_auth_sandbox running{};
};

} // namespace spike_auth

#endif
