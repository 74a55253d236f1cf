/*
 * main.c - croft: the command line of farmers, tenants and developers.
 */
#include <stdio.h>
#include <string.h>

#include "cli/tables.h"
#include "lib/daemon.h"

static int run_completion(struct cli *cli, struct error *err);
static int run_version(struct cli *cli, struct error *err);

static const struct verb own_verbs[] = {
    {"", "completion", "", "print completion for bash", "source <(croft completion)", NULL, 0, 0,
     false, run_completion},
    {"", "version", "", "print the version", "croft version", NULL, 0, 0, false, run_version},
};

static struct verb_table tables[] = {
    {own_verbs, sizeof(own_verbs) / sizeof(own_verbs[0])}, /* moved to the end of help by main() */
    {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0},
};
#define TABLES (sizeof(tables) / sizeof(tables[0]))

static int run_completion(struct cli *cli, struct error *err)
{
    (void)cli;
    (void)err;
    cli_completion(tables, TABLES);
    return 0;
}

static int run_version(struct cli *cli, struct error *err)
{
    (void)cli;
    (void)err;
    puts(daemon_version());
    return 0;
}

int main(int argc, char **argv)
{
    struct cli cli;
    struct error err = {0};

    tables[0] = verbs_farm;
    tables[1] = verbs_node;
    tables[2] = verbs_image;
    tables[3] = verbs_deploy;
    tables[4] = verbs_reservation;
    tables[5] = verbs_run;
    tables[6] = (struct verb_table){own_verbs, sizeof(own_verbs) / sizeof(own_verbs[0])};
    int ret = cli_parse(tables, TABLES, argc, argv, &cli, &err);
    if (ret > 0) {
        return ret == CLI_USAGE ? CLI_USAGE : CLI_DONE;
    }
    if (ret == 0) {
        ret = cli.verb->run(&cli, &err);
    }
    if (ret > 0) {
        return ret;
    }
    if (ret < 0) {
        error_set(&err, -ret, "cli.failed", "", "%s", strerror(-ret));
        cli_print_error(&cli, &err);
    }
    return (int)cli_status_of(ret, &err);
}
