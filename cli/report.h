/* The report of spike_auth_client_diagnose(), as far as the table shows it. docs/doctor.md describes all of it. */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stddef.h>

enum { CHECKS_MAX = 32, SETTINGS_MAX = 128 };

struct setting {
    const char *name;
    const char *value;
    const char *from;
};

struct check {
    const char *name;
    const char *status;
    const char *message;
    const char *cure; /* may be NULL */
    double ms;        /* -1 if it is not known */
};

struct report {
    const char *version;
    const char *cure; /* may be NULL */
    bool ok;
    struct check checks[CHECKS_MAX];
    size_t check_count;
    struct setting settings[SETTINGS_MAX];
    size_t setting_count;
};

/* Reads a report that ends with a NUL. Its texts are decoded in place, and `report` points into it. False if it is
 * no report. */
bool report_read(char *json, struct report *report);

#endif
