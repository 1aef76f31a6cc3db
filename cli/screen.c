#include "screen.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static bool is_utf8, is_coloured;

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value;
}

/* By the variables, as setlocale(3) reads them: a static program finds no locale. */
static bool locale_is_utf8(void)
{
    const char *variable = is_set("LC_ALL") ? "LC_ALL" : is_set("LC_CTYPE") ? "LC_CTYPE" : "LANG";
    const char *locale = getenv(variable), *charset = locale ? strchr(locale, '.') : NULL;
    return charset && (strncasecmp(charset, ".utf-8", 6) == 0 || strncasecmp(charset, ".utf8", 5) == 0);
}

void screen_look(void)
{
    const char *terminal = getenv("TERM");
    is_utf8 = locale_is_utf8();
    bool is_able = terminal && *terminal && strcmp(terminal, "dumb") != 0;
    is_coloured = is_able && isatty(STDOUT_FILENO) && !is_set("NO_COLOR");
}

/* Returns a character and moves behind it; -1 for a byte that begins none. */
static long take_character(const char **at)
{
    static const long SMALLEST[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *bytes = (const unsigned char *)*at;
    int more = bytes[0] < 0x80 ? 0 : bytes[0] < 0xc0 ? -1 : bytes[0] < 0xe0 ? 1 : bytes[0] < 0xf0 ? 2 : 3;
    long code = more <= 0 ? bytes[0] : bytes[0] & (0x3f >> more);
    for (int i = 1; i <= more; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            more = -1;
            break;
        }
        code = code << 6 | (bytes[i] & 0x3f);
    }
    if (more < 0 || code < SMALLEST[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        (*at)++;
        return -1;
    }
    *at += more + 1;
    return code;
}

/* No control characters, and none that change the direction or the line. */
static bool may_be_shown(long code)
{
    if (code < 0x80 || !is_utf8)
        return code >= 0x20 && code < 0x7f;
    return code >= 0xa0 && code != 0x200e && code != 0x200f && !(code >= 0x2028 && code <= 0x202e) &&
           !(code >= 0x2066 && code <= 0x2069);
}

void screen_put(const char *text, size_t width)
{
    size_t count = 0;
    for (; *text; count++) {
        const char *start = text;
        if (may_be_shown(take_character(&text)))
            fwrite(start, 1, (size_t)(text - start), stdout);
        else
            putchar('?');
    }
    for (; count < width; count++)
        putchar(' ');
}

void screen_mark(const char *utf8, const char *ascii, const char *colour)
{
    printf(is_coloured ? "\033[%sm%s\033[0m" : "%.0s%s", colour, is_utf8 ? utf8 : ascii);
}
