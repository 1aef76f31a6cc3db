/* For a program that replaces a function of the C library, for the library under test too, and calls the C library's own.
 *
 *     REPLACE(getaddrinfo)
 *     int REPLACED(getaddrinfo)(...) { ... real_getaddrinfo()(...) ... }
 *
 * The loader takes the program's function before the C library's. A static program has no loader to ask for the next one
 * of that name: there the linker renames both (--wrap, which run.py passes for each name that it finds in REPLACE).
 */
#ifndef REPLACE_H
#define REPLACE_H

#ifdef FULLY_STATIC
#define REPLACED(name) __wrap_##name
#define REPLACE(name)                              \
    __typeof__(name) __wrap_##name, __real_##name; \
    static __typeof__(name) *real_##name(void)     \
    {                                              \
        return __real_##name;                      \
    }
#else
#include <dlfcn.h>
#include <string.h>
#define REPLACED(name) name
#define REPLACE(name)                             \
    static __typeof__(name) *real_##name(void)    \
    {                                             \
        __typeof__(name) *real;                   \
        void *symbol = dlsym(RTLD_NEXT, #name);   \
        memcpy(&real, &symbol, sizeof real);      \
        return real;                              \
    }
#endif

#endif
