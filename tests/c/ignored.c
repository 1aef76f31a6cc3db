/* Must NOT compile with -Werror: the last line drops a status. */
#include <spike_auth.h>

void drop(spike_auth_config *config);

void drop(spike_auth_config *config)
{
#ifdef KEPT /* the same without the mistake: the rest of this file compiles */
    int32_t status = spike_auth_config_set_timeout_ms(config, 1, NULL);
    if (status != SPIKE_AUTH_STATUS_OK)
        spike_auth_config_free(config);
#else
    spike_auth_config_set_timeout_ms(config, 1, NULL);
#endif
}
