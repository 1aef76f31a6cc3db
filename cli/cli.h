/* What the files of spike-auth share. */
#ifndef CLI_H
#define CLI_H

#include <spike_auth.h>
#include <stdbool.h>
#include <stddef.h>

/* The exit codes. */
enum { DONE = 0, FAILED = 1, USAGE = 2 };

/* `id` is NULL if none is given. */
struct user {
    const char *id;
    size_t len;
};

/* Prints a message to stderr and returns FAILED. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Makes a client from the environment, or describes in `err` why there is none. */
bool open_client(spike_auth_client **client, spike_auth_error *err);

/* Returns the file of the library; "static" if it is part of this program. */
const char *library_path(void);

int doctor(bool as_json, struct user user);

#endif
