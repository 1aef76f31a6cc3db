/* A reader of JSON that is just large enough for a report, and that no text can lead astray: every step either moves
 * forward, or marks the reader as broken, which ends all loops. */
#include "report.h"

#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 16 };

struct reader {
    char *at;
    bool broken;
};

static void skip_blanks(struct reader *reader)
{
    reader->at += strspn(reader->at, " \t\r\n");
}

static bool take(struct reader *reader, const char *word)
{
    skip_blanks(reader);
    size_t len = strlen(word);
    if (strncmp(reader->at, word, len) != 0)
        return false;
    reader->at += len;
    return true;
}

static void expect(struct reader *reader, const char *word)
{
    if (!take(reader, word))
        reader->broken = true;
}

/* Whether another element follows in an array or object, which `close` ends. */
static bool next(struct reader *reader, const char *close, bool *is_first)
{
    if (reader->broken || take(reader, close))
        return false;
    if (!*is_first)
        expect(reader, ",");
    *is_first = false;
    return !reader->broken;
}

/* ---- texts */

static unsigned read_hex(struct reader *reader)
{
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        static const char DIGITS[] = "0123456789abcdef0123456789ABCDEF";
        const char *digit = *reader->at ? strchr(DIGITS, *reader->at) : NULL;
        if (!digit) {
            reader->broken = true;
            return '?';
        }
        code = code << 4 | (unsigned)((digit - DIGITS) & 15);
        reader->at++;
    }
    /* A NUL would cut the text; half of a surrogate pair is no character. */
    return code == 0 || (code >= 0xd800 && code < 0xe000) ? '?' : code;
}

static char *put_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

static char *read_escape(struct reader *reader, char *out)
{
    static const char LETTERS[] = "\"\\/bfnrt", MEANT[] = "\"\\/\b\f\n\r\t";
    reader->at++; /* the backslash */
    const char *letter = *reader->at ? strchr(LETTERS, *reader->at) : NULL;
    if (letter) {
        reader->at++;
        *out++ = MEANT[letter - LETTERS];
        return out;
    }
    if (*reader->at == 'u')
        reader->at++;
    else
        reader->broken = true;
    return put_utf8(out, read_hex(reader));
}

/* In place: no escape is shorter than what it stands for. */
static const char *read_string(struct reader *reader)
{
    expect(reader, "\"");
    char *start = reader->at, *out = start;
    while (!reader->broken && *reader->at != '"') {
        if (*reader->at == '\\')
            out = read_escape(reader, out);
        else if (*reader->at)
            *out++ = *reader->at++;
        else
            reader->broken = true;
    }
    if (reader->broken)
        return "";
    reader->at++;
    *out = '\0';
    return start;
}

/* ---- values */

/* Also takes what is no number in JSON, such as 007: a report that has it is still worth showing. */
static double read_number(struct reader *reader)
{
    size_t len = strspn(reader->at, "+-.0123456789eE");
    char *end;
    double value = strtod(reader->at, &end);
    if (len == 0 || end != reader->at + len)
        reader->broken = true;
    else
        reader->at = end;
    return value;
}

static void skip_value(struct reader *reader, int depth)
{
    bool is_first = true;
    skip_blanks(reader);
    if (depth > DEEPEST) {
        reader->broken = true;
    } else if (*reader->at == '"') {
        read_string(reader);
    } else if (take(reader, "[")) {
        while (next(reader, "]", &is_first))
            skip_value(reader, depth + 1);
    } else if (take(reader, "{")) {
        while (next(reader, "}", &is_first)) {
            read_string(reader);
            expect(reader, ":");
            skip_value(reader, depth + 1);
        }
    } else if (!take(reader, "null") && !take(reader, "true") && !take(reader, "false")) {
        read_number(reader);
    }
}

/* Returns a number, or -1 for another value. */
static double read_amount(struct reader *reader)
{
    skip_blanks(reader);
    if (*reader->at && strchr("-0123456789", *reader->at))
        return read_number(reader);
    skip_value(reader, 0);
    return -1;
}

/* Returns a text, or NULL for another value. */
static const char *read_text(struct reader *reader)
{
    skip_blanks(reader);
    if (*reader->at == '"')
        return read_string(reader);
    skip_value(reader, 0);
    return NULL;
}

static const char *read_name(struct reader *reader)
{
    const char *name = read_string(reader);
    expect(reader, ":");
    return name;
}

/* ---- the report */

static void read_setting(struct reader *reader, struct report *report)
{
    struct setting setting = {"", "", ""};
    bool is_first = true;
    expect(reader, "{");
    while (next(reader, "}", &is_first)) {
        const char *name = read_name(reader), *text = read_text(reader);
        const char **member = strcmp(name, "name") == 0    ? &setting.name
                              : strcmp(name, "value") == 0 ? &setting.value
                              : strcmp(name, "from") == 0  ? &setting.from
                                                           : NULL;
        if (member && text)
            *member = text;
    }
    if (report->setting_count == SETTINGS_MAX)
        reader->broken = true;
    else
        report->settings[report->setting_count++] = setting;
}

static void read_settings(struct reader *reader, struct report *report)
{
    bool is_first = true;
    expect(reader, "[");
    while (next(reader, "]", &is_first))
        read_setting(reader, report);
}

static void read_check(struct reader *reader, struct report *report)
{
    struct check check = {NULL, NULL, NULL, NULL, -1};
    bool is_first = true;
    expect(reader, "{");
    while (next(reader, "}", &is_first)) {
        const char *name = read_name(reader);
        if (strcmp(name, "name") == 0)
            check.name = read_text(reader);
        else if (strcmp(name, "status") == 0)
            check.status = read_text(reader);
        else if (strcmp(name, "message") == 0)
            check.message = read_text(reader);
        else if (strcmp(name, "cure") == 0)
            check.cure = read_text(reader);
        else if (strcmp(name, "settings") == 0)
            read_settings(reader, report);
        else if (strcmp(name, "ms") == 0)
            check.ms = read_amount(reader);
        else
            skip_value(reader, 0);
    }
    if (!check.name || !check.status || !check.message || report->check_count == CHECKS_MAX)
        reader->broken = true;
    else
        report->checks[report->check_count++] = check;
}

static void read_checks(struct reader *reader, struct report *report)
{
    bool is_first = true;
    expect(reader, "[");
    while (next(reader, "]", &is_first))
        read_check(reader, report);
}

bool report_read(char *json, struct report *report)
{
    struct reader reader = {json, false};
    bool is_first = true, has_verdict = false;
    memset(report, 0, sizeof *report);
    expect(&reader, "{");
    while (next(&reader, "}", &is_first)) {
        const char *name = read_name(&reader);
        if (strcmp(name, "version") == 0)
            report->version = read_text(&reader);
        else if (strcmp(name, "cure") == 0)
            report->cure = read_text(&reader);
        else if (strcmp(name, "checks") == 0)
            read_checks(&reader, report);
        else if (strcmp(name, "ok") == 0) {
            report->ok = take(&reader, "true");
            has_verdict = report->ok || take(&reader, "false");
            reader.broken |= !has_verdict;
        } else
            skip_value(&reader, 0);
    }
    skip_blanks(&reader);
    return !reader.broken && *reader.at == '\0' && has_verdict && report->version && report->check_count > 0;
}
