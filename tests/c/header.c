/* The header alone, as C or as C++ of any standard; with -DTWICE, included twice. Only compiled.
 *
 * Sizes and offsets never change; C99 can check them too.
 */
#include <spike_auth.h>
#ifdef TWICE
#include <spike_auth.h>
#endif

#define HOLDS(name, condition) typedef char name[(condition) ? 1 : -1]

HOLDS(the_error_has_512_bytes, sizeof(spike_auth_error) == 512);
HOLDS(status_is_at_0, offsetof(spike_auth_error, status) == 0);
HOLDS(http_status_is_at_4, offsetof(spike_auth_error, http_status) == 4);
HOLDS(retry_after_ms_is_at_8, offsetof(spike_auth_error, retry_after_ms) == 8);
HOLDS(attempts_is_at_16, offsetof(spike_auth_error, attempts) == 16);
HOLDS(retryable_is_at_20, offsetof(spike_auth_error, retryable) == 20);
HOLDS(message_is_at_24, offsetof(spike_auth_error, message) == 24);
HOLDS(shared_is_at_448, offsetof(spike_auth_error, shared) == 448);
HOLDS(renewal_status_is_at_452, offsetof(spike_auth_error, renewal_status) == 452);
HOLDS(reserved_is_at_456, offsetof(spike_auth_error, reserved) == 456);
HOLDS(a_status_has_32_bits, sizeof(spike_auth_status_t) == 4);
HOLDS(a_status_is_signed, (spike_auth_status_t)-1 < 0);
HOLDS(a_user_id_has_at_most_128_bytes, SPIKE_AUTH_USER_ID_MAX == 128);
HOLDS(a_signature_takes_65_bytes, SPIKE_AUTH_SIGNATURE_SIZE == 65);
HOLDS(a_token_takes_8193_bytes, SPIKE_AUTH_TOKEN_SIZE == 8193);
HOLDS(an_authorization_takes_8200_bytes, SPIKE_AUTH_AUTHORIZATION_SIZE == 8200);
HOLDS(nul_terminated_is_size_max, SPIKE_AUTH_NUL_TERMINATED == SIZE_MAX);
HOLDS(ok_is_0, SPIKE_AUTH_STATUS_OK == 0);

/* The typedefs need no `struct`, and the functions have exactly these types. */
typedef spike_auth_status_t make_config(spike_auth_config **, spike_auth_error *);
typedef spike_auth_status_t make_client(const spike_auth_config *, spike_auth_client **, spike_auth_error *);
typedef spike_auth_status_t exchange(const spike_auth_client *, const char *, size_t, const spike_auth_call *, char *,
                                     size_t, size_t *, spike_auth_error *);
extern make_config *const first;
extern make_client *const second;
extern exchange *const third;
make_config *const first = spike_auth_config_new;
make_client *const second = spike_auth_client_new;
exchange *const third = spike_auth_client_exchange;
