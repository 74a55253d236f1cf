/*
 * args.c - the command line: which verb, which options, and the help that the same table gives.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/verbs.h"

static const struct verb_option common[] = {
    {"--json", NULL, "print the result as JSON"},
    {"--chain", "URL", "chain endpoints, separated by commas (CROFT_CHAIN)"},
    {"--chainid", "N", "the chain's id (CROFT_CHAINID)"},
    {"--registry", "ADDRESS", "the registry contract (CROFT_REGISTRY)"},
    {"--key-file", "FILE", "keystore, or private key in hex readable by you only (CROFT_KEY_FILE)"},
    {"--config", "FILE", "instead of ~/.config/croft/croft.toml"},
    {"--help", NULL, "this text"},
    {NULL, NULL, NULL},
};

/* ---- help ---- */

static void print_options(const char *title, const struct verb_option *options)
{
    if (options == NULL || options->name == NULL) {
        return;
    }
    printf("\n%s:\n", title);
    for (; options->name != NULL; options++) {
        char left[40];
        snprintf(left, sizeof(left), "%s%s%s", options->name, options->argument != NULL ? " " : "",
                 options->argument != NULL ? options->argument : "");
        printf("  %-22s %s\n", left, options->help);
    }
}

static void print_usage(const struct verb *verb)
{
    bool options = verb->options != NULL && verb->options->name != NULL &&
                   strstr(verb->arguments, "[options]") == NULL; /* it has a place of its own */
    printf("croft%s%s %s%s%s%s\n", verb->noun[0] != '\0' ? " " : "", verb->noun, verb->name,
           verb->arguments[0] != '\0' ? " " : "", verb->arguments, options ? " [options]" : "");
}

void cli_help(const struct verb_table *const *tables, size_t count, const struct verb *verb)
{
    if (verb != NULL) {
        printf("%s\n\n  ", verb->summary);
        print_usage(verb);
        print_options("Options", verb->options);
        print_options("Common options", common);
        printf("\nExample:\n  %s\n", verb->example);
        return;
    }
    puts("croft - farms, nodes, images and reservations of a Croft grid\n");
    for (size_t t = 0; t < count; t++) {
        for (size_t v = 0; v < tables[t]->count; v++) {
            const struct verb *row = &tables[t]->verbs[v];
            char left[80];
            snprintf(left, sizeof(left), "%s%s%s%s%s", row->noun, row->noun[0] != '\0' ? " " : "",
                     row->name, row->arguments[0] != '\0' ? " " : "", row->arguments);
            printf("  %-44s %s\n", left, row->summary);
        }
    }
    puts(
        "\ncroft NOUN VERB --help says more. Exit status: 0 done, 1 failed, 2 wrong use, 3 refused "
        "by policy or chain, 4 timed out.");
}

void cli_completion(const struct verb_table *const *tables, size_t count)
{
    puts("# bash completion of croft: source <(croft completion)\n_croft() {\n"
         "    local words=\n    case \"${COMP_WORDS[*]:1:COMP_CWORD-1}\" in");
    printf("    '') words='");
    for (size_t t = 0; t < count; t++) {
        const char *last = "";
        for (size_t v = 0; v < tables[t]->count; v++) {
            const struct verb *row = &tables[t]->verbs[v];
            const char *word = row->noun[0] != '\0' ? row->noun : row->name;
            if (strcmp(word, last) != 0) {
                printf("%s ", word);
            }
            last = word;
        }
    }
    puts("';;");
    for (size_t t = 0; t < count; t++) {
        const struct verb *row = tables[t]->verbs;
        if (row->noun[0] != '\0') {
            printf("    %s) words='", row->noun);
            for (size_t v = 0; v < tables[t]->count; v++) {
                printf("%s ", tables[t]->verbs[v].name);
            }
            puts("';;");
        }
        for (size_t v = 0; v < tables[t]->count; v++) {
            row = &tables[t]->verbs[v];
            printf("    '%s%s%s'*) words='", row->noun, row->noun[0] != '\0' ? " " : "", row->name);
            for (const struct verb_option *o = row->options; o != NULL && o->name != NULL; o++) {
                printf("%s ", o->name);
            }
            for (const struct verb_option *o = common; o->name != NULL; o++) {
                printf("%s ", o->name);
            }
            puts("';;");
        }
    }
    puts("    esac\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- "
         "\"${COMP_WORDS[COMP_CWORD]}\")\n"
         "    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default\n}\ncomplete -F _croft croft");
}

/* ---- parsing ---- */

static int wrong(struct error *err, const char *what, const char *word)
{
    return error_set(err, EINVAL, "cli.wrong-use", "croft --help lists what there is", "%s: %s",
                     what, word);
}

static const struct verb *find_verb(const struct verb_table *const *tables, size_t count, int argc,
                                    char **argv, int *ret_used)
{
    for (size_t t = 0; t < count; t++) {
        for (size_t v = 0; v < tables[t]->count; v++) {
            const struct verb *row = &tables[t]->verbs[v];
            if (row->noun[0] == '\0' && argc > 1 && strcmp(argv[1], row->name) == 0) {
                *ret_used = 2;
                return row;
            }
            if (row->noun[0] != '\0' && argc > 2 && strcmp(argv[1], row->noun) == 0 &&
                strcmp(argv[2], row->name) == 0) {
                *ret_used = 3;
                return row;
            }
        }
    }
    return NULL;
}

static const struct verb_option *find_option(const struct verb_option *options, const char *name,
                                             size_t len)
{
    for (; options != NULL && options->name != NULL; options++) {
        if (strlen(options->name) == len && strncmp(options->name, name, len) == 0) {
            return options;
        }
    }
    return NULL;
}

/* --name value, --name=value, --flag. Returns how many words were used. */
static int take_option(struct cli *cli, int argc, char **argv, int at, struct error *err)
{
    const char *word = argv[at];
    size_t len = strcspn(word, "=");
    const struct verb_option *option = find_option(cli->verb->options, word, len);

    option = option != NULL ? option : find_option(common, word, len);
    if (option == NULL) {
        return wrong(err, "no such option here", word);
    }
    if (cli->option_count == CLI_OPTIONS_MAX) {
        return wrong(err, "too many options", word);
    }
    bool given = word[len] == '=';
    if (option->argument == NULL) {
        cli->options[cli->option_count].name = option->name;
        cli->options[cli->option_count++].value = "";
        return given ? wrong(err, "takes no value", option->name) : 1;
    }
    if (!given && at + 1 >= argc) {
        return wrong(err, "wants a value", option->name);
    }
    cli->options[cli->option_count].name = option->name;
    cli->options[cli->option_count++].value = given ? word + len + 1 : argv[at + 1];
    return given ? 1 : 2;
}

/* -t, -it: flags of one letter. Only where the verb has some; elsewhere such a word is an argument. */
static bool has_letters(const struct verb *verb)
{
    for (const struct verb_option *o = verb->options; o != NULL && o->name != NULL; o++) {
        if (o->name[1] != '-') {
            return true;
        }
    }
    return false;
}

static int take_letters(struct cli *cli, const char *word, struct error *err)
{
    for (size_t i = 1; word[i] != '\0'; i++) {
        char name[3] = {'-', word[i], '\0'};
        const struct verb_option *option = find_option(cli->verb->options, name, 2);
        if (option == NULL || cli->option_count == CLI_OPTIONS_MAX) {
            return wrong(err, "no such option here", word);
        }
        cli->options[cli->option_count].name = option->name;
        cli->options[cli->option_count++].value = "";
    }
    return 0;
}

static int take_words(struct cli *cli, int argc, char **argv, int at, struct error *err)
{
    bool only_args = (cli->verb->flags & VERB_PASS_THROUGH) != 0;
    bool letters = has_letters(cli->verb);

    while (at < argc) {
        if (!only_args && strcmp(argv[at], "--") == 0) {
            only_args = cli->dashes = true;
            cli->before_dashes = cli->arg_count;
            at++;
        } else if (!only_args && letters && argv[at][0] == '-' && argv[at][1] != '-' &&
                   argv[at][1] != '\0') {
            int ret = take_letters(cli, argv[at++], err);
            if (ret < 0) {
                return ret;
            }
        } else if (!only_args && strncmp(argv[at], "--", 2) == 0) {
            int used = take_option(cli, argc, argv, at, err);
            if (used < 0) {
                return used;
            }
            at += used;
        } else {
            if (cli->arg_count == CLI_ARGS_MAX) {
                return wrong(err, "too many arguments", argv[at]);
            }
            cli->args[cli->arg_count++] = argv[at++];
        }
    }
    if (!cli->dashes) {
        cli->before_dashes = cli->arg_count;
    }
    return 0;
}

int cli_parse(const struct verb_table *const *tables, size_t count, int argc, char **argv,
              struct cli *ret_cli, struct error *err)
{
    struct cli cli = {.terminal = isatty(STDERR_FILENO) == 1 && getenv("NO_COLOR") == NULL};
    int used = 0;

    *ret_cli = cli;
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        cli_help(tables, count, NULL);
        return argc < 2 ? CLI_USAGE : 1;
    }
    cli.verb = find_verb(tables, count, argc, argv, &used);
    if (cli.verb == NULL) {
        return wrong(err, "no such command", argc > 2 ? argv[2] : argv[1]);
    }
    int ret = take_words(&cli, argc, argv, used, err);
    if (ret < 0) {
        *ret_cli = cli;
        return ret;
    }
    cli.json = cli_flag(&cli, "--json");
    *ret_cli = cli;
    if (cli_flag(&cli, "--help")) {
        cli_help(tables, count, cli.verb);
        return 1;
    }
    if (cli.arg_count < cli.verb->args_min || cli.arg_count > cli.verb->args_max) {
        return error_set(err, EINVAL, "cli.wrong-use", cli.verb->example, "croft %s %s takes: %s",
                         cli.verb->noun, cli.verb->name,
                         cli.verb->arguments[0] != '\0' ? cli.verb->arguments : "no argument");
    }
    return 0;
}

/* ---- reading ---- */

const char *cli_option_at(const struct cli *cli, const char *name, size_t index)
{
    for (size_t i = 0; i < cli->option_count; i++) {
        if (strcmp(cli->options[i].name, name) == 0 && index-- == 0) {
            return cli->options[i].value;
        }
    }
    return NULL;
}

const char *cli_option(const struct cli *cli, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < cli->option_count; i++) {
        value = strcmp(cli->options[i].name, name) == 0 ? cli->options[i].value : value;
    }
    return value;
}

bool cli_flag(const struct cli *cli, const char *name)
{
    return cli_option(cli, name) != NULL;
}

static int parse_uint(const char *what, const char *text, uint64_t min, uint64_t max,
                      uint64_t *ret_value, struct error *err)
{
    char *end;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < min ||
        value > max) {
        return error_set(err, EINVAL, "cli.bad-option", "",
                         "%s is to be a number from %llu to %llu, not \"%s\"", what,
                         (unsigned long long)min, (unsigned long long)max, text);
    }
    *ret_value = value;
    return 0;
}

int cli_option_uint(const struct cli *cli, const char *name, uint64_t min, uint64_t max,
                    uint64_t fallback, uint64_t *ret_value, struct error *err)
{
    const char *text = cli_option(cli, name);
    if (text == NULL) {
        *ret_value = fallback;
        return 0;
    }
    return parse_uint(name, text, min, max, ret_value, err);
}

int cli_arg_uint(const struct cli *cli, size_t index, uint64_t min, uint64_t max,
                 uint64_t *ret_value, struct error *err)
{
    return parse_uint("the argument", cli->args[index], min, max, ret_value, err);
}
