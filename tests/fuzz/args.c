// Arguments of `croft`, parted by NUL bytes: whatever is taken keeps what the verb's row promises.
// sources: core0/cli/args.c
// packages: yyjson
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/verbs.h"

#define WORDS_MAX 200

static int run(struct cli *cli, struct error *err)
{
    (void)cli;
    (void)err;
    return 0;
}

static const struct verb_option options[] = {{"--node", "N", "a number"},
                                             {"--set", "KEY=VALUE", "repeated"},
                                             {"--follow", NULL, "a flag"},
                                             {NULL, NULL, NULL}};
static const struct verb verbs[] = {
    {"farm", "create", "NAME", "one argument", "croft farm create x", options, 1, 1, false, run},
    {"farm", "list", "", "none", "croft farm list", NULL, 0, 0, false, run},
    {"", "exec", "RESERVATION [SERVICE]", "many", "croft exec 1", options, 1, 3, false, run},
    {"", "relay", "", "passes on", "croft relay --farm 1", NULL, 0, 64, true, run},
};
static const struct verb_table table = {verbs, sizeof(verbs) / sizeof(verbs[0])};
static const struct verb_table *const tables[] = {&table};

static void check(const struct cli *cli)
{
    struct error err = {0};
    uint64_t number;

    if (cli->verb == NULL || cli->arg_count < cli->verb->args_min ||
        cli->arg_count > cli->verb->args_max)
        abort();
    for (size_t i = 0; i < cli->option_count; i++) {
        if (cli->options[i].name == NULL || cli->options[i].value == NULL)
            abort();
    }
    if (cli_option_uint(cli, "--node", 1, 1000, 7, &number, &err) == 0 &&
        (number < 1 || number > 1000))
        abort();
    for (size_t i = 0; i < cli->arg_count; i++) {
        struct error arg_err = {0};
        if (cli_arg_uint(cli, i, 0, UINT64_MAX, &number, &arg_err) < 0 && !error_is_set(&arg_err))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int null = -1;
    char *text = malloc(size + 1), *words[WORDS_MAX + 2] = {(char *)"croft"};
    struct cli cli;
    struct error err = {0};
    int count = 1;

    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    for (size_t at = 0; at < size && count <= WORDS_MAX; at += strlen(text + at) + 1)
        words[count++] = text + at;
    /* Help goes to standard output. */
    if (null < 0)
        null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    fflush(stdout);
    int out = dup(STDOUT_FILENO);
    dup2(null, STDOUT_FILENO);
    int ret = cli_parse(tables, 1, count, words, &cli, &err);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    if (ret == 0)
        check(&cli);
    else if (ret < 0 && !error_is_set(&err))
        abort();
    free(text);
    return 0;
}
