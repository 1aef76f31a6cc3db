// spike_auth.hpp alone; with -DTWICE, included twice. With -DDROPPED it must NOT compile with -Werror. The second file of
// smoke.cpp.
#include <spike_auth.hpp>
#ifdef TWICE
#include <spike_auth.hpp>
#endif

const char *version_elsewhere();

const char *version_elsewhere()
{
    return spike_auth::version();
}

#ifdef DROPPED
void drop(spike_auth::config &config);

void drop(spike_auth::config &config)
{
    config.try_load_env();
}
#endif
