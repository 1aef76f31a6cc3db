/** @file
 * spike_auth for C++17 and newer: spike_auth.h with owners, strings, exceptions and coroutines. Header only.
 *
 *     spike_auth::config config;
 *     config.load_env();
 *     const spike_auth::client client(config);
 *     std::string token = client.get_token("alice");                      // throws spike_auth::error
 *     if (auto got = client.try_get_token("alice")) use(*got);            // throws nothing
 *     else log(got.message());
 *     std::string later = co_await client.co_get_token(queue, "alice");   // C++20; see class queue
 *
 * spike_auth.h documents what each function does, fails with, and promises to threads, forks and signal
 * handlers. The names here are its names, without the prefix. This header adds:
 *
 * Owners. config, client, call and queue own one handle each. They can be moved, not copied. get() is the
 * handle, for use with a C function. A function of an object that was moved from fails with NULL_POINTER.
 *
 * Failures. A function throws spike_auth::error. The function of the same name with try_ in front is noexcept
 * and returns a result instead: a value, or the detail of the failure. Without exceptions in the compiler
 * (-fno-exceptions) there are only the second ones, and try_make() in the place of constructors. Out of
 * memory, a function with try_ ends the program.
 *
 * Texts go in as std::string_view and come out as std::string. The strings are yours: they are not wiped. A
 * function that returns a token needs 11 KiB more of the stack than the C function.
 */

#ifndef SPIKE_AUTH_HPP
#define SPIKE_AUTH_HPP

#include <spike_auth.h>

#if SPIKE_AUTH_ABI_VERSION != 1 || SPIKE_AUTH_VERSION_NUMBER < 0x000100
#error "spike_auth.hpp needs the spike_auth.h that was installed with it"
#endif

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#if __cplusplus >= 202002L && __has_include(<span>)
#include <span>
#endif
#if defined(__cpp_impl_coroutine)
#include <coroutine>
#endif

namespace spike_auth {

// ---- failures

/** What a call has told about itself: the fields of spike_auth_error. */
class outcome {
public:
    /** SPIKE_AUTH_STATUS_OK, or what failed. */
    spike_auth_status_t status() const noexcept { return detail_.status; }
    /** The name of the status, such as "SPIKE_AUTH_STATUS_TIMEOUT". */
    const char *status_name() const noexcept { return spike_auth_status_name(detail_.status); }
    /** The status code of the HTTP response; 0 if there was none. */
    int http_status() const noexcept { return detail_.http_status; }
    /** How long to wait before a retry, if that is known. */
    std::optional<std::chrono::milliseconds> retry_after() const noexcept {
        if (detail_.retry_after_ms < 0) return std::nullopt;
        return std::chrono::milliseconds(detail_.retry_after_ms);
    }
    /** How many requests were sent, also on success. */
    std::uint32_t attempts() const noexcept { return detail_.attempts; }
    /** Whether the same call may succeed later. */
    bool retryable() const noexcept { return detail_.retryable != 0; }
    /** What failed and what to do about it. Never contains a secret or the user id. */
    const char *message() const noexcept { return detail_.message; }
    /** All of it, for C. */
    const spike_auth_error &detail() const noexcept { return detail_; }

protected:
    /** Copies it. */
    explicit outcome(const spike_auth_error &detail) noexcept : detail_(detail) {}

private:
    spike_auth_error detail_;
};

/** What the functions throw. */
class error : public std::exception, public outcome {
public:
    /** Of a failure. */
    explicit error(const spike_auth_error &detail) noexcept : outcome(detail) {}
    /** The same as message(). */
    const char *what() const noexcept override { return message(); }
};

/** What the functions with try_ return: a value, or a failure. */
template <class T> class [[nodiscard]] result : public outcome {
public:
    /** A failure. */
    explicit result(const spike_auth_error &detail) noexcept : outcome(detail) {}
    /** A value, with what its call has told about itself. */
    result(T value, const spike_auth_error &detail) noexcept : outcome(detail), value_(std::move(value)) {}

    /** Whether the call succeeded. */
    bool has_value() const noexcept { return value_.has_value(); }
    /** The same as has_value(). */
    explicit operator bool() const noexcept { return has_value(); }
    /** The value. Only where has_value(). */
    T &operator*() & noexcept { return *value_; }
    /** The value. Only where has_value(). */
    const T &operator*() const & noexcept { return *value_; }
    /** The value. Only where has_value(). */
    T &&operator*() && noexcept { return *std::move(value_); }
    /** The value. Only where has_value(). */
    T *operator->() noexcept { return &*value_; }
    /** The value. Only where has_value(). */
    const T *operator->() const noexcept { return &*value_; }
#if defined(__cpp_exceptions)
    /** The value, or an exception. */
    T value() && {
        if (!has_value()) throw error(detail());
        return *std::move(value_);
    }
#endif

private:
    std::optional<T> value_;
};

/** What a function with try_ returns that has no value: a success, or a failure. */
template <> class [[nodiscard]] result<void> : public outcome {
public:
    /** A success or a failure, by its status. */
    explicit result(const spike_auth_error &detail) noexcept : outcome(detail) {}
    /** Whether the call succeeded. */
    bool has_value() const noexcept { return status() == SPIKE_AUTH_STATUS_OK; }
    /** The same as has_value(). */
    explicit operator bool() const noexcept { return has_value(); }
#if defined(__cpp_exceptions)
    /** Throws the failure. */
    void value() const {
        if (!has_value()) throw error(detail());
    }
#endif
};

/** Not for programs. */
namespace detail {

struct freed {
    void operator()(spike_auth_config *handle) const noexcept { spike_auth_config_free(handle); }
    void operator()(spike_auth_client *handle) const noexcept { spike_auth_client_free(handle); }
    void operator()(spike_auth_call *handle) const noexcept { spike_auth_call_free(handle); }
    void operator()(spike_auth_queue *handle) const noexcept { spike_auth_queue_free(handle); }
};
template <class Handle> using owned = std::unique_ptr<Handle, freed>;

template <class Function, class... Arguments>
result<void> done(Function function, Arguments... arguments) noexcept {
    spike_auth_error err;
    err.status = function(arguments..., &err);
    return result<void>(err);
}

template <class Owner, class Handle, class Function, class... Arguments>
result<Owner> made(Function function, Arguments... arguments) noexcept {
    Handle *handle = nullptr;
    const auto ended = done(function, arguments..., &handle);
    if (!ended) return result<Owner>(ended.detail());
    return result<Owner>(Owner(handle), ended.detail());
}

template <std::size_t Size, class Function, class... Arguments>
result<std::string> text(Function function, Arguments... arguments) noexcept {
    char out[Size];
    std::size_t len = 0;
    spike_auth_error err;
    err.status = function(arguments..., out, Size, &len, &err);
    if (err.status != SPIKE_AUTH_STATUS_OK) return result<std::string>(err);
    result<std::string> copied(std::string(out, len), err);
    void *(*const volatile wipe)(void *, int, std::size_t) = std::memset;  // which no compiler leaves out
    wipe(out, 0, len);
    return copied;
}

/** A negative time, or one that is too long, becomes one that the library refuses. */
inline std::uint32_t milliseconds(std::chrono::milliseconds time) noexcept {
    const auto count = time.count();
    return count < 0 || count > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(count);
}

inline const std::uint8_t *bytes(std::string_view text) noexcept {
    return reinterpret_cast<const std::uint8_t *>(text.data());
}

}  // namespace detail

// ---- functions without a handle

inline std::uint32_t abi_version() noexcept { return spike_auth_abi_version(); }
inline const char *version() noexcept { return spike_auth_version(); }
inline std::uint32_t version_number() noexcept { return spike_auth_version_number(); }
inline std::size_t signature_size() noexcept { return spike_auth_signature_size(); }
inline std::size_t token_size() noexcept { return spike_auth_token_size(); }
inline std::size_t authorization_size() noexcept { return spike_auth_authorization_size(); }
inline const char *status_name(spike_auth_status_t status) noexcept { return spike_auth_status_name(status); }
inline const char *status_text(spike_auth_status_t status) noexcept { return spike_auth_status_text(status); }

/** The key is raw bytes: a literal with a NUL inside needs its length. */
inline result<std::string> try_sign_user(std::string_view key, std::string_view user_id) noexcept {
    return detail::text<SPIKE_AUTH_SIGNATURE_SIZE>(spike_auth_sign_user, detail::bytes(key), key.size(),
                                                   user_id.data(), user_id.size());
}

/** Whether the signature matches. */
inline result<bool> try_verify_user(std::string_view key, std::string_view user_id,
                                    std::string_view signature) noexcept {
    const auto ended = detail::done(spike_auth_verify_user, detail::bytes(key), key.size(), user_id.data(),
                                    user_id.size(), signature.data(), signature.size());
    if (!ended && ended.status() != SPIKE_AUTH_STATUS_SIGNATURE_MISMATCH) return result<bool>(ended.detail());
    return result<bool>(ended.has_value(), ended.detail());
}

#if defined(__cpp_exceptions)
inline std::string sign_user(std::string_view key, std::string_view user_id) {
    return try_sign_user(key, user_id).value();
}
inline bool verify_user(std::string_view key, std::string_view user_id, std::string_view signature) {
    return try_verify_user(key, user_id, signature).value();
}
#endif

// ---- config

/** The settings for a client. The functions that throw return the object: config.set_a(1).set_b(2). */
class config {
public:
    /** Owns a handle of the C functions. */
    explicit config(spike_auth_config *handle) noexcept : handle_(handle) {}
    static result<config> try_make() noexcept {
        return detail::made<config, spike_auth_config>(spike_auth_config_new);
    }

    result<void> try_load_env() noexcept { return set(spike_auth_config_load_env); }
    result<void> try_set_application_id(std::string_view id) noexcept {
        return set(spike_auth_config_set_application_id, id.data(), id.size());
    }
    result<void> try_set_hmac_key(std::string_view key) noexcept {
        return set(spike_auth_config_set_hmac_key, detail::bytes(key), key.size());
    }
    result<void> try_set_base_url(std::string_view url) noexcept {
        return set(spike_auth_config_set_base_url, url.data(), url.size());
    }
    result<void> try_set_timeout(std::chrono::milliseconds total) noexcept {
        return set(spike_auth_config_set_timeout_ms, detail::milliseconds(total));
    }
    result<void> try_set_connect_timeout(std::chrono::milliseconds time) noexcept {
        return set(spike_auth_config_set_connect_timeout_ms, detail::milliseconds(time));
    }
    result<void> try_set_max_attempts(std::uint32_t count) noexcept {
        return set(spike_auth_config_set_max_attempts, count);
    }
    result<void> try_set_ca_pem(std::string_view pem) noexcept {
        return set(spike_auth_config_set_ca_pem, pem.data(), pem.size());
    }
    /** SPIKE_AUTH_TLS_ROOTS_PLATFORM, _BUNDLED or _NONE. */
    result<void> try_set_tls_roots(std::int32_t roots) noexcept {
        return set(spike_auth_config_set_tls_roots, roots);
    }
    result<void> try_set_user_agent(std::string_view suffix) noexcept {
        return set(spike_auth_config_set_user_agent, suffix.data(), suffix.size());
    }
    result<void> try_set_proxy(std::string_view url) noexcept {
        return set(spike_auth_config_set_proxy, url.data(), url.size());
    }
    result<void> try_set_max_concurrency(std::uint32_t count) noexcept {
        return set(spike_auth_config_set_max_concurrency, count);
    }
    result<void> try_set_max_rate(std::uint32_t per_second) noexcept {
        return set(spike_auth_config_set_max_rate, per_second);
    }
    result<void> try_set_cache_capacity(std::uint32_t entries) noexcept {
        return set(spike_auth_config_set_cache_capacity, entries);
    }
    result<void> try_set_cache_max_bytes(std::uint64_t bytes) noexcept {
        return set(spike_auth_config_set_cache_max_bytes, bytes);
    }
    result<void> try_set_store(std::string_view url) noexcept {
        return set(spike_auth_config_set_store, url.data(), url.size());
    }
    result<void> try_set_store_timeout(std::chrono::milliseconds time) noexcept {
        return set(spike_auth_config_set_store_timeout_ms, detail::milliseconds(time));
    }
    /** A negative time is no limit, as 0 is. */
    result<void> try_set_cache_ttl(std::chrono::milliseconds age) noexcept {
        const auto count = age.count() < 0 ? 0 : age.count();
        return set(spike_auth_config_set_cache_ttl_ms, static_cast<std::uint64_t>(count));
    }
#if defined(__cpp_lib_span)
    /** For keys that are not text: std::as_bytes(std::span(key)). */
    result<void> try_set_hmac_key(std::span<const std::byte> key) noexcept {
        return set(spike_auth_config_set_hmac_key, reinterpret_cast<const std::uint8_t *>(key.data()),
                   key.size());
    }
#endif

#if defined(__cpp_exceptions)
    config() : config(try_make().value()) {}

    config &load_env() { return kept(try_load_env()); }
    config &set_application_id(std::string_view id) { return kept(try_set_application_id(id)); }
    config &set_hmac_key(std::string_view key) { return kept(try_set_hmac_key(key)); }
    config &set_base_url(std::string_view url) { return kept(try_set_base_url(url)); }
    config &set_timeout(std::chrono::milliseconds total) { return kept(try_set_timeout(total)); }
    config &set_connect_timeout(std::chrono::milliseconds time) { return kept(try_set_connect_timeout(time)); }
    config &set_max_attempts(std::uint32_t count) { return kept(try_set_max_attempts(count)); }
    config &set_ca_pem(std::string_view pem) { return kept(try_set_ca_pem(pem)); }
    config &set_tls_roots(std::int32_t roots) { return kept(try_set_tls_roots(roots)); }
    config &set_user_agent(std::string_view suffix) { return kept(try_set_user_agent(suffix)); }
    config &set_proxy(std::string_view url) { return kept(try_set_proxy(url)); }
    config &set_max_concurrency(std::uint32_t count) { return kept(try_set_max_concurrency(count)); }
    config &set_max_rate(std::uint32_t per_second) { return kept(try_set_max_rate(per_second)); }
    config &set_cache_capacity(std::uint32_t entries) { return kept(try_set_cache_capacity(entries)); }
    config &set_cache_max_bytes(std::uint64_t bytes) { return kept(try_set_cache_max_bytes(bytes)); }
    config &set_cache_ttl(std::chrono::milliseconds age) { return kept(try_set_cache_ttl(age)); }
    config &set_store(std::string_view url) { return kept(try_set_store(url)); }
    config &set_store_timeout(std::chrono::milliseconds time) { return kept(try_set_store_timeout(time)); }
#if defined(__cpp_lib_span)
    config &set_hmac_key(std::span<const std::byte> key) { return kept(try_set_hmac_key(key)); }
#endif
#endif

    /** The handle, for a C function. It stays the object's. */
    spike_auth_config *get() const noexcept { return handle_.get(); }

private:
    template <class Setter, class... Arguments> result<void> set(Setter setter, Arguments... arguments) noexcept {
        return detail::done(setter, get(), arguments...);
    }
#if defined(__cpp_exceptions)
    config &kept(const result<void> &ended) {
        ended.value();
        return *this;
    }
#endif

    detail::owned<spike_auth_config> handle_;
};

// ---- call

/** The deadline and the cancellation of one call, and the result of a started one. Its destructor ends a
    started call, which is handed out no more. */
class call {
public:
    /** Owns a handle of the C functions. */
    explicit call(spike_auth_call *handle) noexcept : handle_(handle) {}
    static result<call> try_make() noexcept { return detail::made<call, spike_auth_call>(spike_auth_call_new); }

    /** 0 is the client's deadline. A negative time fails with INVALID_ARGUMENT. */
    result<void> try_set_timeout(std::chrono::milliseconds time) noexcept {
        return detail::done(spike_auth_call_set_timeout_ms, get(), detail::milliseconds(time));
    }
    void cancel() noexcept { spike_auth_call_cancel(get()); }
    result<std::string> try_get_token() const noexcept {
        return detail::text<SPIKE_AUTH_TOKEN_SIZE>(spike_auth_call_get_token, get());
    }
    result<std::string> try_get_authorization() const noexcept {
        return detail::text<SPIKE_AUTH_AUTHORIZATION_SIZE>(spike_auth_call_get_authorization, get());
    }

#if defined(__cpp_exceptions)
    call() : call(try_make().value()) {}
    explicit call(std::chrono::milliseconds timeout) : call() { set_timeout(timeout); }

    void set_timeout(std::chrono::milliseconds time) { try_set_timeout(time).value(); }
    std::string get_token() const { return try_get_token().value(); }
    std::string get_authorization() const { return try_get_authorization().value(); }
#endif

    /** The handle, for a C function. It stays the object's. */
    spike_auth_call *get() const noexcept { return handle_.get(); }

private:
    detail::owned<spike_auth_call> handle_;
};

// ---- queue

/** Hands out started calls that have ended. Let your loop watch fd(), and when it is readable call
    dispatch(), or take() if your tags are not those of waiters. */
class queue {
public:
    /** Owns a handle of the C functions. */
    explicit queue(spike_auth_queue *handle) noexcept : handle_(handle) {}
    static result<queue> try_make() noexcept {
        return detail::made<queue, spike_auth_queue>(spike_auth_queue_new);
    }

    int fd() const noexcept { return spike_auth_queue_fd(get()); }

    /** Returns how many tags were written. Less than `cap`: nothing is left. */
    result<std::size_t> try_take(std::uint64_t *tags, std::size_t cap) const noexcept {
        std::size_t count = 0;
        const auto ended = detail::done(spike_auth_queue_take, get(), tags, cap, &count);
        if (!ended) return result<std::size_t>(ended.detail());
        return result<std::size_t>(count, ended.detail());
    }
#if defined(__cpp_lib_span)
    result<std::size_t> try_take(std::span<std::uint64_t> tags) const noexcept {
        return try_take(tags.data(), tags.size());
    }
#endif

#if defined(__cpp_exceptions)
    queue() : queue(try_make().value()) {}

    std::size_t take(std::uint64_t *tags, std::size_t cap) const { return try_take(tags, cap).value(); }
#if defined(__cpp_lib_span)
    std::size_t take(std::span<std::uint64_t> tags) const { return try_take(tags).value(); }
#endif
#endif

    /** The handle, for a C function. It stays the object's. */
    spike_auth_queue *get() const noexcept { return handle_.get(); }

private:
    detail::owned<spike_auth_queue> handle_;
};

/** Whom dispatch() tells that a call has ended. Derive from it, start the call with the tag() of the object,
    and keep the object in its place until the call has been handed out or destroyed. */
class waiter {
public:
    /** The call has ended; its result can be read. May destroy any waiter, also this one. */
    virtual void ended() = 0;
    /** The tag to start its call with. */
    std::uint64_t tag() noexcept { return static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this)); }

protected:
    waiter() = default;
    /** For classes that derive from it. */
    waiter(const waiter &) = default;
    /** For classes that derive from it. */
    waiter &operator=(const waiter &) = default;
    ~waiter() = default;
};

/** Tells the waiters of calls that have ended, at most `most` of them, and resumes coroutines. Returns how many;
    less than `most`: nothing is left. Every call of this queue must have been started with the tag of a waiter.
    Destroy waiters, and coroutines that wait, on the thread that calls dispatch(). An exception of a waiter
    leaves the others in the queue. */
inline std::size_t dispatch(const queue &from, std::size_t most = 256) {
    std::size_t count = 0;
    std::uint64_t tag = 0;
    // One at a time: a waiter may destroy another one whose call has ended too.
    for (; count < most; ++count) {
#if defined(__cpp_exceptions)
        if (from.take(&tag, 1) == 0) break;
#else
        const auto taken = from.try_take(&tag, 1);
        if (!taken || *taken == 0) break;
#endif
        reinterpret_cast<waiter *>(static_cast<std::uintptr_t>(tag))->ended();
    }
    return count;
}

// ---- client

/** The signatures of many users. */
struct signatures {
    /** 64 characters for each id; 64 NUL bytes for an invalid one. */
    std::string text;
    /** OK or INVALID_USER_ID for each id. */
    std::vector<spike_auth_status_t> statuses;

    /** How many ids there were. */
    std::size_t size() const noexcept { return statuses.size(); }
    /** Empty for an invalid id. */
    std::string_view operator[](std::size_t index) const noexcept {
        if (statuses[index] != SPIKE_AUTH_STATUS_OK) return {};
        return std::string_view(text).substr(index * 64, 64);
    }
};

#if defined(__cpp_impl_coroutine)
template <bool Throws> class awaited;
#endif

/** Signs user ids, exchanges signatures for access tokens, and caches the tokens. Make one and keep it. */
class client {
public:
    /** Owns a handle of the C functions. */
    explicit client(spike_auth_client *handle) noexcept : handle_(handle) {}
    static result<client> try_make(const config &settings) noexcept {
        return detail::made<client, spike_auth_client, decltype(&spike_auth_client_new), const spike_auth_config *>(
            spike_auth_client_new, settings.get());
    }

    void close() const noexcept { spike_auth_client_close(get()); }

    // Signing.
    result<std::string> try_sign_user(std::string_view user_id) const noexcept {
        return detail::text<SPIKE_AUTH_SIGNATURE_SIZE>(spike_auth_client_sign_user, get(), user_id.data(),
                                                       user_id.size());
    }
    /** All ids in one text, and count + 1 offsets into it. An invalid id is no failure: its status tells. */
    result<signatures> try_sign_users(std::string_view ids, const std::int64_t *offsets,
                                      std::size_t count) const noexcept {
        signatures all{std::string(count * 64, '\0'), std::vector<spike_auth_status_t>(count)};
        auto ended = detail::done(spike_auth_client_sign_users, get(), ids.data(), ids.size(), offsets, count,
                                  all.text.data(), all.text.size(), all.statuses.data());
        if (!ended && ended.status() != SPIKE_AUTH_STATUS_INVALID_USER_ID)
            return result<signatures>(ended.detail());
        return result<signatures>(std::move(all), ended.detail());
    }

    // Tokens. The calls wait; `with` has their deadline and cancels them.
    result<std::string> try_exchange(std::string_view user_id, const call *with = nullptr) const noexcept {
        return detail::text<SPIKE_AUTH_TOKEN_SIZE>(spike_auth_client_exchange, get(), user_id.data(), user_id.size(),
                                                   handle(with));
    }
    result<std::string> try_exchange_signature(std::string_view user_id, std::string_view signature,
                                               const call *with = nullptr) const noexcept {
        return detail::text<SPIKE_AUTH_TOKEN_SIZE>(spike_auth_client_exchange_signature, get(), user_id.data(),
                                                   user_id.size(), signature.data(), signature.size(), handle(with));
    }
    result<std::string> try_get_token(std::string_view user_id, const call *with = nullptr) const noexcept {
        return detail::text<SPIKE_AUTH_TOKEN_SIZE>(spike_auth_client_get_token, get(), user_id.data(), user_id.size(),
                                                   handle(with));
    }
    result<std::string> try_get_authorization(std::string_view user_id, const call *with = nullptr) const noexcept {
        return detail::text<SPIKE_AUTH_AUTHORIZATION_SIZE>(spike_auth_client_get_authorization, get(), user_id.data(),
                                                           user_id.size(), handle(with));
    }
    /** Does not wait. NOT_CACHED if there is no token. */
    result<std::string> try_peek_token(std::string_view user_id) const noexcept {
        return detail::text<SPIKE_AUTH_TOKEN_SIZE>(spike_auth_client_peek_token, get(), user_id.data(),
                                                   user_id.size());
    }

    // Started calls. `started` must have nothing under way; the queue hands out `tag` when it has ended.
    result<void> try_start_token(std::string_view user_id, call &started, const queue &to,
                                 std::uint64_t tag) const noexcept {
        return detail::done(spike_auth_client_start_token, get(), user_id.data(), user_id.size(), started.get(),
                            to.get(), tag);
    }
    result<void> try_start_exchange(std::string_view user_id, call &started, const queue &to,
                                    std::uint64_t tag) const noexcept {
        return detail::done(spike_auth_client_start_exchange, get(), user_id.data(), user_id.size(), started.get(),
                            to.get(), tag);
    }
    result<void> try_start_exchange_signature(std::string_view user_id, std::string_view signature, call &started,
                                              const queue &to, std::uint64_t tag) const noexcept {
        return detail::done(spike_auth_client_start_exchange_signature, get(), user_id.data(), user_id.size(),
                            signature.data(), signature.size(), started.get(), to.get(), tag);
    }

    // The cache.
    result<void> try_invalidate(std::string_view user_id, std::string_view rejected) const noexcept {
        return detail::done(spike_auth_client_invalidate, get(), user_id.data(), user_id.size(), rejected.data(),
                            rejected.size());
    }
    result<void> try_forget(std::string_view user_id) const noexcept {
        return detail::done(spike_auth_client_forget, get(), user_id.data(), user_id.size());
    }
    result<void> try_clear() const noexcept { return detail::done(spike_auth_client_clear, get()); }
    result<void> try_set_hmac_key(std::string_view key) const noexcept {
        return detail::done(spike_auth_client_set_hmac_key, get(), detail::bytes(key), key.size());
    }
    result<void> try_check_store(const call *with = nullptr) const noexcept {
        return detail::done(spike_auth_client_check_store, get(), handle(with));
    }
    /** A report in JSON: see spike_auth_client_diagnose(). An empty user id: no exchange is tried. */
    result<std::string> try_diagnose(std::string_view user_id, const call *with = nullptr) const noexcept {
        return detail::text<SPIKE_AUTH_REPORT_SIZE>(spike_auth_client_diagnose, get(), user_id.data(), user_id.size(),
                                                    handle(with));
    }
    result<void> try_forget_shared(std::string_view user_id, const call *with = nullptr) const noexcept {
        return detail::done(spike_auth_client_forget_shared, get(), user_id.data(), user_id.size(),
                            handle(with));
    }
    result<spike_auth_stats> try_stats() const noexcept {
        spike_auth_stats counters;
        const auto ended = detail::done(spike_auth_client_stats, get(), &counters);
        if (!ended) return result<spike_auth_stats>(ended.detail());
        return result<spike_auth_stats>(counters, ended.detail());
    }

#if defined(__cpp_exceptions)
    explicit client(const config &settings) : client(try_make(settings).value()) {}

    std::string sign_user(std::string_view user_id) const { return try_sign_user(user_id).value(); }
    signatures sign_users(std::string_view ids, const std::int64_t *offsets, std::size_t count) const {
        return try_sign_users(ids, offsets, count).value();
    }
    std::string exchange(std::string_view user_id, const call *with = nullptr) const {
        return try_exchange(user_id, with).value();
    }
    std::string exchange_signature(std::string_view user_id, std::string_view signature,
                                   const call *with = nullptr) const {
        return try_exchange_signature(user_id, signature, with).value();
    }
    std::string get_token(std::string_view user_id, const call *with = nullptr) const {
        return try_get_token(user_id, with).value();
    }
    std::string get_authorization(std::string_view user_id, const call *with = nullptr) const {
        return try_get_authorization(user_id, with).value();
    }
    /** Nothing if there is no token in the cache. */
    std::optional<std::string> peek_token(std::string_view user_id) const {
        auto got = try_peek_token(user_id);
        if (got.status() == SPIKE_AUTH_STATUS_NOT_CACHED) return std::nullopt;
        return std::move(got).value();
    }
    void start_token(std::string_view user_id, call &started, const queue &to, std::uint64_t tag) const {
        try_start_token(user_id, started, to, tag).value();
    }
    void start_exchange(std::string_view user_id, call &started, const queue &to, std::uint64_t tag) const {
        try_start_exchange(user_id, started, to, tag).value();
    }
    void start_exchange_signature(std::string_view user_id, std::string_view signature, call &started,
                                  const queue &to, std::uint64_t tag) const {
        try_start_exchange_signature(user_id, signature, started, to, tag).value();
    }
    void invalidate(std::string_view user_id, std::string_view rejected) const {
        try_invalidate(user_id, rejected).value();
    }
    void forget(std::string_view user_id) const { try_forget(user_id).value(); }
    void clear() const { try_clear().value(); }
    void set_hmac_key(std::string_view key) const { try_set_hmac_key(key).value(); }
    void check_store(const call *with = nullptr) const { try_check_store(with).value(); }
    std::string diagnose(std::string_view user_id, const call *with = nullptr) const {
        return try_diagnose(user_id, with).value();
    }
    void forget_shared(std::string_view user_id, const call *with = nullptr) const {
        try_forget_shared(user_id, with).value();
    }
    spike_auth_stats stats() const { return try_stats().value(); }
#endif

#if defined(__cpp_lib_span)
    /** All ids in one text, and the offsets of their beginnings, and of the last one's end. */
    result<signatures> try_sign_users(std::string_view ids, std::span<const std::int64_t> offsets) const noexcept {
        return try_sign_users(ids, offsets.data(), offsets.empty() ? 0 : offsets.size() - 1);
    }
#if defined(__cpp_exceptions)
    signatures sign_users(std::string_view ids, std::span<const std::int64_t> offsets) const {
        return try_sign_users(ids, offsets).value();
    }
#endif
#endif

#if defined(__cpp_impl_coroutine)
    // For co_await, in one expression with it: the arguments are used when the coroutine begins to wait.
    // dispatch() resumes the coroutine. One that is destroyed while it waits ends its call. A token that is in the
    // cache is returned at once, without the queue. A timeout of 0 is the client's.
    awaited<false> try_co_get_token(const queue &on, std::string_view user_id,
                                    std::chrono::milliseconds timeout = {}) const noexcept;
    awaited<false> try_co_get_authorization(const queue &on, std::string_view user_id,
                                            std::chrono::milliseconds timeout = {}) const noexcept;
    awaited<false> try_co_exchange(const queue &on, std::string_view user_id,
                                   std::chrono::milliseconds timeout = {}) const noexcept;
    awaited<false> try_co_exchange_signature(const queue &on, std::string_view user_id, std::string_view signature,
                                             std::chrono::milliseconds timeout = {}) const noexcept;
#if defined(__cpp_exceptions)
    awaited<true> co_get_token(const queue &on, std::string_view user_id,
                               std::chrono::milliseconds timeout = {}) const noexcept;
    awaited<true> co_get_authorization(const queue &on, std::string_view user_id,
                                       std::chrono::milliseconds timeout = {}) const noexcept;
    awaited<true> co_exchange(const queue &on, std::string_view user_id,
                              std::chrono::milliseconds timeout = {}) const noexcept;
    awaited<true> co_exchange_signature(const queue &on, std::string_view user_id, std::string_view signature,
                                        std::chrono::milliseconds timeout = {}) const noexcept;
#endif
#endif

    /** The handle, for a C function. It stays the object's. */
    spike_auth_client *get() const noexcept { return handle_.get(); }

private:
    static const spike_auth_call *handle(const call *with) noexcept { return with ? with->get() : nullptr; }

    detail::owned<spike_auth_client> handle_;
};

// ---- coroutines

#if defined(__cpp_impl_coroutine)

/** What co_await waits for. `co_await` gives a std::string and throws, or with try_ gives a result of one. */
template <bool Throws> class [[nodiscard]] awaited final : private waiter {
public:
    awaited(const awaited &) = delete;
    awaited &operator=(const awaited &) = delete;
    ~awaited() = default;

    /** For co_await. */
    bool await_ready() noexcept {
        if (kind_ != kind::token && kind_ != kind::authorization) return false;
        auto got = client_.try_peek_token(user_id_);
        if (!got) return false;  // starting it tells why
        if (kind_ == kind::authorization) got->insert(0, "Bearer ");
        early_.emplace(std::move(got));
        return true;
    }

    /** For co_await. */
    bool await_suspend(std::coroutine_handle<> waiting) noexcept {
        waiting_ = waiting;
        const auto begun = begin();
        // Started: another thread may have resumed the coroutine by now, so nothing of it may be touched.
        if (begun) return true;
        early_.emplace(begun.detail());
        return false;
    }

    /** For co_await. */
    auto await_resume() noexcept(!Throws) {
        auto got = early_ ? *std::move(early_) : kind_ == kind::authorization ? call_.try_get_authorization()
                                                                              : call_.try_get_token();
        if constexpr (Throws) return std::move(got).value();
        else return got;
    }

private:
    friend class client;
    enum class kind { token, authorization, exchange, signature };

    awaited(kind what, const client &from, const queue &on, std::string_view user_id, std::string_view signature,
            std::chrono::milliseconds timeout) noexcept
        : client_(from), queue_(on), user_id_(user_id), signature_(signature), timeout_(timeout), kind_(what) {}

    result<void> begin() noexcept {
        auto made = call::try_make();
        if (!made) return result<void>(made.detail());
        call_ = *std::move(made);
        auto set = call_.try_set_timeout(timeout_);
        if (!set) return set;
        if (kind_ == kind::signature)
            return client_.try_start_exchange_signature(user_id_, signature_, call_, queue_, tag());
        if (kind_ == kind::exchange) return client_.try_start_exchange(user_id_, call_, queue_, tag());
        return client_.try_start_token(user_id_, call_, queue_, tag());
    }

    void ended() override { waiting_.resume(); }

    const client &client_;
    const queue &queue_;
    std::string_view user_id_;
    std::string_view signature_;
    std::chrono::milliseconds timeout_;
    std::coroutine_handle<> waiting_;
    /** A token from the cache, or why nothing was started. */
    std::optional<result<std::string>> early_;
    /** Ends with this object, which is part of the coroutine. */
    call call_{static_cast<spike_auth_call *>(nullptr)};
    kind kind_;
};

inline awaited<false> client::try_co_get_token(const queue &on, std::string_view user_id,
                                               std::chrono::milliseconds timeout) const noexcept {
    return {awaited<false>::kind::token, *this, on, user_id, {}, timeout};
}
inline awaited<false> client::try_co_get_authorization(const queue &on, std::string_view user_id,
                                                       std::chrono::milliseconds timeout) const noexcept {
    return {awaited<false>::kind::authorization, *this, on, user_id, {}, timeout};
}
inline awaited<false> client::try_co_exchange(const queue &on, std::string_view user_id,
                                              std::chrono::milliseconds timeout) const noexcept {
    return {awaited<false>::kind::exchange, *this, on, user_id, {}, timeout};
}
inline awaited<false> client::try_co_exchange_signature(const queue &on, std::string_view user_id,
                                                        std::string_view signature,
                                                        std::chrono::milliseconds timeout) const noexcept {
    return {awaited<false>::kind::signature, *this, on, user_id, signature, timeout};
}

#if defined(__cpp_exceptions)
inline awaited<true> client::co_get_token(const queue &on, std::string_view user_id,
                                          std::chrono::milliseconds timeout) const noexcept {
    return {awaited<true>::kind::token, *this, on, user_id, {}, timeout};
}
inline awaited<true> client::co_get_authorization(const queue &on, std::string_view user_id,
                                                  std::chrono::milliseconds timeout) const noexcept {
    return {awaited<true>::kind::authorization, *this, on, user_id, {}, timeout};
}
inline awaited<true> client::co_exchange(const queue &on, std::string_view user_id,
                                         std::chrono::milliseconds timeout) const noexcept {
    return {awaited<true>::kind::exchange, *this, on, user_id, {}, timeout};
}
inline awaited<true> client::co_exchange_signature(const queue &on, std::string_view user_id,
                                                   std::string_view signature,
                                                   std::chrono::milliseconds timeout) const noexcept {
    return {awaited<true>::kind::signature, *this, on, user_id, signature, timeout};
}
#endif
#endif

}  // namespace spike_auth

#endif  // SPIKE_AUTH_HPP
