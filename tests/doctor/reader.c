/* The program's reader of reports with every beginning of a report, and with every byte of it replaced by each other
 * one: it answers, and touches nothing outside of the text. To be built with sanitizers. Prints how many beginnings are
 * reports. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A copy of just that size, so that a step beyond its end is seen. */
static bool is_report(const char *text, size_t len)
{
    static struct report report;
    char *copy = malloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    bool is_one = report_read(copy, &report);
    size_t total = 0;
    for (size_t i = 0; is_one && i < report.check_count; i++)
        total += strlen(report.checks[i].name) + strlen(report.checks[i].message);
    free(copy);
    return is_one && total > 0;
}

int main(void)
{
    static char text[1 << 16];
    size_t len = fread(text, 1, sizeof text, stdin), beginnings = 0;
    for (size_t part = 0; part <= len; part++)
        beginnings += is_report(text, part);
    for (size_t i = 0; i < len; i++) {
        char kept = text[i];
        for (int byte = 0; byte < 256; byte++) {
            text[i] = (char)byte;
            is_report(text, len);
        }
        text[i] = kept;
    }
    printf("%zu\n", beginnings);
    return 0;
}
