<?php

// The library in PHP, by its FFI: one client, whose settings are in the environment. Keep it as long as the process lives.
final class Spike
{
    private const DECLARATIONS = <<<'C'
        typedef struct { int32_t status, http_status; int64_t retry_after_ms; uint32_t attempts, retryable;
                         char message[424]; uint64_t reserved[8]; } spike_auth_error;
        int32_t spike_auth_config_new(void **config, spike_auth_error *err);
        int32_t spike_auth_config_load_env(void *config, spike_auth_error *err);
        void spike_auth_config_free(void *config);
        int32_t spike_auth_client_new(void *config, void **client, spike_auth_error *err);
        void spike_auth_client_free(void *client);
        int32_t spike_auth_client_sign_user(void *client, const char *user, size_t user_len,
                                            char *out, size_t cap, size_t *len, spike_auth_error *err);
        int32_t spike_auth_client_get_token(void *client, const char *user, size_t user_len, void *call,
                                            char *out, size_t cap, size_t *len, spike_auth_error *err);
        int32_t spike_auth_client_invalidate(void *client, const char *user, size_t user_len,
                                             const char *token, size_t token_len, spike_auth_error *err);
        C;

    private FFI $library;
    private FFI\CData $client;

    public function __construct()
    {
        $this->library = FFI::cdef(self::DECLARATIONS, 'libspike_auth.so.1');
        [$config, $this->client] = [$this->library->new('void *'), $this->library->new('void *')];
        $this->call('config_new', FFI::addr($config));
        try {
            $this->call('config_load_env', $config);
            $this->call('client_new', $config, FFI::addr($this->client));
        } finally {
            $this->library->spike_auth_config_free($config);
        }
    }

    public function __destruct()
    {
        $this->library->spike_auth_client_free($this->client);
    }

    public function sign(string $userId): string
    {
        return $this->text(65, 'client_sign_user', $this->client, $userId, strlen($userId));
    }

    public function token(string $userId): string
    {
        return $this->text(8193, 'client_get_token', $this->client, $userId, strlen($userId), null);
    }

    // The service refused the token: the next call returns another.
    public function invalidate(string $userId, #[SensitiveParameter] string $token): void
    {
        $this->call('client_invalidate', $this->client, $userId, strlen($userId), $token, strlen($token));
    }

    private function text(int $size, string $function, #[SensitiveParameter] mixed ...$inputs): string
    {
        [$out, $length] = [$this->library->new("char[$size]"), $this->library->new('size_t')];
        $this->call($function, ...$inputs, ...[$out, $size, FFI::addr($length)]);
        $text = FFI::string($out, $length->cdata);
        FFI::memset($out, 0, $size);
        return $text;
    }

    private function call(string $function, #[SensitiveParameter] mixed ...$arguments): void
    {
        $error = $this->library->new('spike_auth_error');
        if ($this->library->{"spike_auth_$function"}(...$arguments, ...[FFI::addr($error)]) !== 0) {
            throw new RuntimeException(FFI::string($error->message), $error->status);
        }
    }
}
