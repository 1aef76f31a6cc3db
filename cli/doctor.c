/* spike-auth doctor: gets the library's report, and shows it. The Python package prints the same table. */
#define _POSIX_C_SOURCE 200809L /* open_memstream, clock_gettime */
#include "cli.h"
#include "report.h"
#include "screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the report */

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void put_json(FILE *out, const char *text)
{
    for (; *text; text++)
        fprintf(out, (unsigned char)*text < 0x20 ? "\\u%04x" : strchr("\"\\", *text) ? "\\%c" : "%c", *text);
}

/* A report of the same shape where no client can be made: the message says what is wrong and what to do. */
static char *report_of_no_client(const char *cure, double ms)
{
    char *json = NULL;
    size_t len;
    FILE *out = open_memstream(&json, &len);
    if (!out)
        return NULL;
    fprintf(out, "{\"version\":\"%s\",\"ok\":false,\"cure\":\"", spike_auth_version());
    put_json(out, cure);
    fprintf(out,
            "\",\"checks\":[{\"name\":\"settings\",\"status\":\"failed\",\"ms\":%.3f,"
            "\"message\":\"No client can be made from the settings.\",\"cure\":\"",
            ms);
    put_json(out, cure);
    fputs("\"}]}", out);
    return fclose(out) == 0 ? json : NULL;
}

static char *report_of(const spike_auth_client *client, struct user user, spike_auth_error *err)
{
    char *json = malloc(SPIKE_AUTH_REPORT_SIZE);
    size_t len;
    if (json && spike_auth_client_diagnose(client, user.id, user.len, NULL, json, SPIKE_AUTH_REPORT_SIZE, &len, err) !=
                    SPIKE_AUTH_STATUS_OK) {
        free(json);
        json = NULL;
    }
    return json;
}

/* ---- the table */

/* The column in which the messages begin. */
enum { NAME_WIDTH = 10, INDENT = 25, SETTING_WIDTH = 20, VALUE_WIDTH = 34 };

static const struct kind {
    const char *status, *utf8, *ascii, *colour;
} KINDS[] = {
    {"ok", "✓", "+", "32"},
    {"warning", "!", "!", "33"},
    {"failed", "✗", "x", "31"},
    {"skipped", "–", "-", "2"},
    {NULL, "?", "?", "2"}, /* of a newer library */
};

static const struct kind *kind_of(const char *status)
{
    const struct kind *kind = KINDS;
    while (kind->status && strcmp(kind->status, status) != 0)
        kind++;
    return kind;
}

static void show_check(const struct check *check)
{
    const struct kind *kind = kind_of(check->status);
    screen_mark(kind->utf8, kind->ascii, kind->colour);
    screen_put("", 1);
    screen_put(check->name, NAME_WIDTH);
    if (check->ms >= 0 && check->ms < 1e7 && strcmp(check->status, "skipped") != 0)
        printf("%8.1f ms  ", check->ms);
    else
        screen_put("", 13);
    screen_put(check->message, 0);
    putchar('\n');
    /* A message that does not part what failed from its cure is both. */
    if (check->cure && strcmp(check->cure, check->message) != 0) {
        screen_put("", INDENT);
        screen_mark("→ ", "> ", kind->colour);
        screen_put(check->cure, 0);
        putchar('\n');
    }
}

static void show_setting(const struct setting *setting)
{
    screen_put("", 4);
    screen_put(setting->name, SETTING_WIDTH);
    screen_put(setting->value, VALUE_WIDTH);
    screen_put("  ", 0);
    screen_put(setting->from, 0);
    putchar('\n');
}

/* The one thing to do first, and the check that it belongs to: a cure may begin with "It". */
static void show_cure(const struct report *report)
{
    const struct check *check = report->checks, *end = check + report->check_count;
    while (check < end && !(report->cure && check->cure && strcmp(report->cure, check->cure) == 0))
        check++;
    screen_mark("Do this first", "Do this first", "1");
    if (check < end) {
        screen_put(" (", 0);
        screen_put(check->name, 0);
        screen_put(")", 0);
    }
    screen_put(": ", 0);
    screen_put(report->cure ? report->cure : "Look at what failed.", 0);
    putchar('\n');
}

static bool has_warning(const struct report *report)
{
    for (size_t i = 0; i < report->check_count; i++)
        if (strcmp(report->checks[i].status, "warning") == 0)
            return true;
    return false;
}

static void show(const struct report *report)
{
    screen_look();
    screen_put("spike_auth ", 0);
    screen_put(report->version, 0);
    printf(" (ABI %u), ", (unsigned)spike_auth_abi_version());
    screen_put(library_path(), 0);
    fputs("\n\n", stdout);
    for (size_t i = 0; i < report->check_count; i++) {
        show_check(&report->checks[i]);
        if (strcmp(report->checks[i].name, "settings") == 0)
            for (size_t j = 0; j < report->setting_count; j++)
                show_setting(&report->settings[j]);
    }
    putchar('\n');
    if (!report->ok)
        show_cure(report);
    else
        puts(has_warning(report) ? "It works. Look at the warnings." : "It works.");
}

/* The library cannot know its own file, so that is added here. */
static void print_json(const char *json)
{
    char *path = NULL;
    size_t len;
    FILE *out = open_memstream(&path, &len);
    if (out) {
        put_json(out, library_path());
        fclose(out);
    }
    printf("{\"library\":\"%s\",%s\n", path ? path : "unknown", strchr(json, '{') + 1);
    free(path);
}

int doctor(bool as_json, struct user user)
{
    if (user.id && user.len == 0)
        return complain("USER is empty. Leave it out to try no exchange.");
    spike_auth_client *client;
    spike_auth_error err = {0};
    double start = now_ms();
    char *json = open_client(&client, &err) ? report_of(client, user, &err)
                                            : report_of_no_client(err.message, now_ms() - start);
    spike_auth_client_free(client);
    if (!json)
        return complain("%s", err.message[0] ? err.message : "no memory is left");
    static struct report report;
    char *copy = strdup(json); /* the reader changes it */
    int code = FAILED;
    if (!copy || !report_read(copy, &report))
        complain("the library's report cannot be read: this program and the library do not fit together");
    else {
        as_json ? print_json(json) : show(&report);
        code = report.ok ? DONE : FAILED;
    }
    free(copy);
    free(json);
    return code;
}
