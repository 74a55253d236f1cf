/*
 * verbs.h - the table of everything `croft` can do, and what a verb is given.
 *
 * A new verb is one row in the table of its noun's file (verbs_farm.c, verbs_image.c, …) and, for a new noun, one line in
 * main.c. Help, completion, options and the number of arguments all come from the row. A verb that does not work is not there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/error.h"

/* Exit status (interfaces.md). */
enum cli_status {
    CLI_DONE = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_REFUSED = 3,
    CLI_TIMED_OUT = 4,
};

/* What `croft exec` itself ends with when it fails: every other status is the command's. */
#define CLI_EXEC_FAILED 125

#define CLI_ARGS_MAX 256
#define CLI_OPTIONS_MAX 128

struct verb_option {
    const char *name;     /* "--farm"; or "-t", a flag that may be joined with others: "-it" */
    const char *argument; /* "N"; NULL: a flag */
    const char *help;
};

struct cli;

#define VERB_PASS_THROUGH 1u /* everything behind the verb is an argument, options too (relay) */
#define VERB_OWN_STATUS 2u   /* its status is a command's: own failures are CLI_EXEC_FAILED */

struct verb {
    const char *noun;      /* "farm"; "" for verbs that stand alone (deploy, status) */
    const char *name;      /* "create" */
    const char *arguments; /* "NAME" as help shows it; "" if none */
    const char *summary;   /* one line, no full stop */
    const char *example;   /* one whole command line */
    const struct verb_option
        *options; /* ended by name NULL; may be NULL. The common ones are in args.c */
    size_t args_min, args_max;
    unsigned flags; /* VERB_…, or false */
    /* 0, or -errno with *err (the exit status follows from both, cli_status_of), or a positive exit status. */
    int (*run)(struct cli *cli, struct error *err);
};

struct verb_table {
    const struct verb *verbs;
    size_t count;
};

struct cli {
    const struct verb *verb;
    const char *args[CLI_ARGS_MAX];
    size_t arg_count;
    size_t before_dashes; /* how many of them stand before "--"; all when there is none */
    bool dashes;
    struct {
        const char *name;
        const char *value; /* "" for a flag */
    } options[CLI_OPTIONS_MAX];
    size_t option_count;
    bool json;
    bool terminal; /* standard error is one, and NO_COLOR is not set */
};

/* The last value given, or NULL. */
const char *cli_option(const struct cli *cli, const char *name);
/* The i-th value of a repeated option, or NULL. */
const char *cli_option_at(const struct cli *cli, const char *name, size_t index);
bool cli_flag(const struct cli *cli, const char *name);
/* A number within [min, max]; absent: fallback. -EINVAL with cli.bad-option. */
int cli_option_uint(const struct cli *cli, const char *name, uint64_t min, uint64_t max,
                    uint64_t fallback, uint64_t *ret_value, struct error *err);
int cli_arg_uint(const struct cli *cli, size_t index, uint64_t min, uint64_t max,
                 uint64_t *ret_value, struct error *err);

/* args.c: finds the verb and its options. On a wrong use the error is set and -EINVAL returned; help that was asked for
 * is printed and 1 returned. */
int cli_parse(const struct verb_table *const *tables, size_t count, int argc, char **argv,
              struct cli *ret_cli, struct error *err);
void cli_help(const struct verb_table *const *tables, size_t count, const struct verb *verb);
void cli_completion(const struct verb_table *const *tables, size_t count); /* a bash script */

/* status.c: the exit status of a verb that returned ret with *err; the code decides. */
enum cli_status cli_status_of(int ret, const struct error *err);

/* output.c. Results go to standard output, everything else to standard error. */
int cli_print_json(yyjson_mut_doc *doc); /* consumed; one line */
int cli_print_result(
    const struct cli *cli,
    yyjson_mut_doc *doc); /* --json: as it is; else as lines "name: value". Consumed */
void cli_print_error(const struct cli *cli, const struct error *err);
/* A step under way: on a terminal the line is redrawn, elsewhere a new one is printed when the text changed. */
__attribute__((format(printf, 2, 3))) void cli_progress(const struct cli *cli, const char *fmt,
                                                        ...);
void cli_progress_end(const struct cli *cli);
/* Sizes and shares as people write them; a static ring of buffers. */
const char *cli_bytes(uint64_t bytes);
const char *cli_cores(uint64_t milli_cores);
