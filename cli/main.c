/* spike-auth: the library from the shell. spike-auth.1 is its manual. */
#define _GNU_SOURCE /* dladdr */
#include "cli.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "spike-auth: Spike access tokens from the shell\n"
    "\n"
    "USAGE\n"
    "  spike-auth sign USER               print the signature of a user id; sends nothing\n"
    "  spike-auth token [--header] USER   print the user's access token\n"
    "  spike-auth doctor [--json] [USER]  look at everything that a token needs, and name a cure for what is broken\n"
    "\n"
    "OPTIONS\n"
    "  --header       print the whole header line, \"Authorization: Bearer TOKEN\"\n"
    "  --json         print the report as JSON, not as a table\n"
    "  -h, --help     print this text\n"
    "  -V, --version  print the versions of this program and of the library\n"
    "  --             what follows is USER, also if it begins with -\n"
    "\n"
    "USER is 1 to 128 of A-Z a-z 0-9 . _ - ; the single character - reads it from stdin.\n"
    "SPIKE_APPLICATION_ID, SPIKE_HMAC_KEY or SPIKE_HMAC_KEY_FILE, and the other variables of the library set it up.\n"
    "The exit code is 0, or 1 for a failure, 2 for bad arguments.\n";

int complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("spike-auth: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return FAILED;
}

bool open_client(spike_auth_client **client, spike_auth_error *err)
{
    spike_auth_config *config = NULL;
    *client = NULL;
    bool opened = spike_auth_config_new(&config, err) == SPIKE_AUTH_STATUS_OK &&
                  spike_auth_config_load_env(config, err) == SPIKE_AUTH_STATUS_OK &&
                  spike_auth_client_new(config, client, err) == SPIKE_AUTH_STATUS_OK;
    spike_auth_config_free(config);
    return opened;
}

const char *library_path(void)
{
#ifdef SPIKE_AUTH_STATIC
    return "static";
#else
    Dl_info found;
    if (!dladdr((void *)(uintptr_t)spike_auth_version, &found))
        return "unknown";
    static char path[PATH_MAX];
    return realpath(found.dli_fname, path) ? path : found.dli_fname;
#endif
}

static int sign(bool unused, struct user user)
{
    (void)unused;
    spike_auth_client *client;
    spike_auth_error err;
    char signature[SPIKE_AUTH_SIGNATURE_SIZE];
    size_t len;
    bool signed_it = open_client(&client, &err) &&
                     spike_auth_client_sign_user(client, user.id, user.len, signature, sizeof signature, &len, &err) ==
                         SPIKE_AUTH_STATUS_OK;
    spike_auth_client_free(client);
    if (!signed_it)
        return complain("%s", err.message);
    puts(signature);
    return DONE;
}

static int token(bool as_header, struct user user)
{
    spike_auth_client *client;
    spike_auth_error err;
    char text[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    bool got_it = open_client(&client, &err) &&
                  spike_auth_client_get_token(client, user.id, user.len, NULL, text, sizeof text, &len, &err) ==
                      SPIKE_AUTH_STATUS_OK;
    spike_auth_client_free(client);
    if (!got_it)
        return complain("%s", err.message);
    printf("%s%s\n", as_header ? "Authorization: Bearer " : "", text);
    return DONE;
}

static int print_version(void)
{
    unsigned number = SPIKE_AUTH_VERSION_NUMBER;
    printf("spike-auth %u.%u.%u\n", number >> 16, number >> 8 & 0xff, number & 0xff);
    printf("libspike_auth %s (ABI %u), %s\n", spike_auth_version(), (unsigned)spike_auth_abi_version(),
           library_path());
    return DONE;
}

static int print_help(void)
{
    fputs(HELP, stdout);
    return DONE;
}

static const struct command {
    const char *name;
    const char *option; /* the only one that it has */
    bool needs_user;
    int (*run)(bool has_option, struct user user);
} COMMANDS[] = {{"sign", NULL, true, sign}, {"token", "--header", true, token}, {"doctor", "--json", false, doctor}};

static int misused(const char *what, const char *argument)
{
    complain("%s%s\nTry spike-auth --help.", what, argument);
    return USAGE;
}

/* Longer than any user id: the library refuses what fills it. */
static char input[2 * SPIKE_AUTH_USER_ID_MAX];

/* Reads a user id from stdin, without one newline at its end. */
static int run_on_stdin(const struct command *command, bool has_option)
{
    struct user user = {input, fread(input, 1, sizeof input, stdin)};
    if (ferror(stdin))
        return complain("cannot read stdin: %s", strerror(errno));
    if (user.len > 0 && input[user.len - 1] == '\n')
        user.len--;
    return command->run(has_option, user);
}

static int run_command(const struct command *command, char **arguments)
{
    const char *user = NULL;
    bool has_option = false, options_end = false, from_stdin = false;
    for (; *arguments; arguments++) {
        const char *argument = *arguments;
        if (!options_end && argument[0] == '-' && argument[1] != '\0') {
            if (strcmp(argument, "--") == 0)
                options_end = true;
            else if (command->option && strcmp(argument, command->option) == 0)
                has_option = true;
            else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0)
                return print_help();
            else
                return misused("unknown option ", argument);
        } else if (user) {
            return misused("more than one USER", "");
        } else {
            user = argument;
            from_stdin = !options_end && strcmp(argument, "-") == 0;
        }
    }
    if (!user && command->needs_user)
        return misused("USER is missing", "");
    if (from_stdin)
        return run_on_stdin(command, has_option);
    return command->run(has_option, (struct user){user, user ? strlen(user) : 0});
}

static int run(char **arguments)
{
    const char *name = *arguments;
    if (!name)
        return misused("a command is missing", "");
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return print_help();
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        return print_version();
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++)
        if (strcmp(name, COMMANDS[i].name) == 0)
            return run_command(&COMMANDS[i], arguments + 1);
    return misused("unknown command ", name);
}

/* Whether all output has been written. A full disk or a closed stdout may show only now. */
static bool is_written(void)
{
    bool lost = ferror(stdout);
    errno = 0;
    lost |= fflush(stdout) != 0;
    if (lost)
        complain("cannot write to stdout: %s", errno ? strerror(errno) : "some of it is lost");
    return !lost;
}

int main(int count, char **arguments)
{
    int code = run(count > 0 ? arguments + 1 : arguments);
    return is_written() ? code : FAILED;
}
