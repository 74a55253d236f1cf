/*
 * main.c - croft: the command line of farmers, tenants and developers.
 */
#include <stdio.h>
#include <string.h>

#include "cli/codes.h"
#include "cli/grid.h"
#include "cli/tables.h"
#include "lib/daemon.h"

static int run_completion(struct cli *cli, struct error *err);
static int run_version(struct cli *cli, struct error *err);
static int run_codes(struct cli *cli, struct error *err);

static const struct verb own_verbs[] = {
    {"", "completion", "", "print completion for bash", "source <(croft completion)", NULL, 0, 0,
     false, run_completion},
    {"", "codes", "", "what each error code means and what to do", "croft codes --json", NULL, 0, 0,
     false, run_codes},
    {"", "version", "", "print the version", "croft version", NULL, 0, 0, false, run_version},
};

static const struct verb_table *const tables[] = {
    &verbs_farm,
    &verbs_node,
    &verbs_image,
    &verbs_deploy,
    &verbs_reservation,
    &verbs_gate,
    &verbs_disk,
    &verbs_volume,
    &verbs_kv,
    &verbs_run,
    &(const struct verb_table){own_verbs, sizeof(own_verbs) / sizeof(own_verbs[0])},
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

static int run_codes(struct cli *cli, struct error *err)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = grid_json(&root);

    (void)err;
    for (size_t i = 0; i < code_count; i++) {
        yyjson_mut_val *entry = yyjson_mut_obj(doc);
        yyjson_mut_obj_add_str(doc, entry, "message", codes[i].message);
        yyjson_mut_obj_add_str(doc, entry, "hint", codes[i].hint);
        yyjson_mut_obj_add(root, yyjson_mut_str(doc, codes[i].code), entry);
    }
    return cli_print_result(cli, doc);
}

int main(int argc, char **argv)
{
    struct cli cli;
    struct error err = {0};

    int ret = cli_parse(tables, TABLES, argc, argv, &cli, &err);
    if (ret > 0) {
        return ret == CLI_USAGE ? CLI_USAGE : CLI_DONE;
    }
    bool own = cli.verb != NULL && (cli.verb->flags & VERB_OWN_STATUS) != 0;
    if (ret == 0 && cli.verb != NULL) {
        ret = cli.verb->run(&cli, &err);
    }
    if (ret > 0) {
        return ret;
    }
    if (ret < 0) {
        error_set(&err, -ret, "cli.failed", "", "%s", strerror(-ret));
        cli_print_error(&cli, &err);
    }
    return own && ret < 0 ? CLI_EXEC_FAILED : (int)cli_status_of(ret, &err);
}
