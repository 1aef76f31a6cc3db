// spike_auth.hpp alone; with -DTWICE, included twice. Only compiled, and linked as the second file of smoke.cpp.
#include <spike_auth.hpp>
#ifdef TWICE
#include <spike_auth.hpp>
#endif

const char *version_elsewhere();

const char *version_elsewhere()
{
    return spike_auth::version();
}
