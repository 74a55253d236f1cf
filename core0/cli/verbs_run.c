/*
 * verbs_run.c - croft status, croft relay.
 */
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/grid.h"
#include "cli/tables.h"

static int count_of(const struct grid *grid, const uint8_t contract[20], const char *signature,
                    const char *name, yyjson_mut_doc *doc, yyjson_mut_val *root, struct error *err)
{
    struct abi_decoded decoded;
    int ret = grid_view(grid, contract, signature, NULL, 0, "(uint64)", &decoded, err);
    if (ret == 0) {
        yyjson_mut_obj_add_uint(doc, root, name, grid_uint(&decoded.values[0]));
        abi_decoded_done(&decoded);
    }
    return ret;
}

static int status(struct cli *cli, struct error *err)
{
    struct grid grid;
    uint64_t block;
    yyjson_mut_val *root;

    int ret = grid_open(cli, GRID_SNAPSHOT, &grid, err);
    if (ret < 0) {
        return ret;
    }
    yyjson_mut_doc *doc = grid_json(&root);
    yyjson_mut_obj_add_strcpy(doc, root, "chain", eth_rpc_endpoint(grid.rpc, 0));
    yyjson_mut_obj_add_uint(doc, root, "chainId", grid.chain_id);
    grid_json_address(doc, root, "registry", grid.registry);
    grid_json_address(doc, root, "reservations", grid.reservations);
    if ((ret = grid_block_number(&grid, &block, err)) == 0) {
        yyjson_mut_obj_add_uint(doc, root, "block", block);
    }
    if (ret == 0) {
        ret = count_of(&grid, grid.registry, "farmCount()", "farms", doc, root, err);
    }
    if (ret == 0) {
        ret = count_of(&grid, grid.registry, "nodeCount()", "nodes", doc, root, err);
    }
    if (ret == 0) {
        ret = count_of(&grid, grid.reservations, "reservationCount()", "reservationsMade", doc,
                       root, err);
    }
    grid_close(&grid);
    if (ret < 0) {
        yyjson_mut_doc_free(doc);
        return ret;
    }
    return cli_print_result(cli, doc);
}

/* The relay is a program of its own, beside this one. */
static int relay(struct cli *cli, struct error *err)
{
    char self[PATH_MAX], program[PATH_MAX + 16];
    const char *argv[CLI_ARGS_MAX + 2];
    size_t count = 0;
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (len < 0) {
        return error_set(err, errno, "cli.failed", "", "this program's own path is unknown");
    }
    self[len] = '\0';
    snprintf(program, sizeof(program), "%s/croft-relay", dirname(self));
    argv[count++] = "croft relay";
    for (size_t i = 0; i < cli->arg_count; i++) {
        argv[count++] = cli->args[i];
    }
    argv[count] = NULL;
    execv(program, (char *const *)argv);
    return error_set(err, errno, "cli.no-relay", "install croft-relay beside croft",
                     "%s cannot be started: %s", program, strerror(errno));
}

static const struct verb verbs[] = {
    {"", "status", "", "the chain, its contracts and how much there is", "croft status", NULL, 0, 0,
     false, status},
    {"", "relay", "", "submit the signed reports of a farm's nodes",
     "croft relay --farm 1 --listen 0.0.0.0:7000 --state /var/lib/croft-relay", NULL, 0,
     CLI_ARGS_MAX, VERB_PASS_THROUGH, relay},
};

const struct verb_table verbs_run = {verbs, sizeof(verbs) / sizeof(verbs[0])};
