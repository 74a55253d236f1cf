/*
 * verbs_disk.c - croft disk …: the disks of the node that the command line runs on.
 */
#include <errno.h>

#include "cli/node_call.h"
#include "cli/tables.h"

static int disk_list(struct cli *cli, struct error *err)
{
    return node_call_show(cli, "storaged", "org.croft.storage.GetStatus", NULL, "disks", err);
}

static const struct verb_option list_options[] = {
    NODE_CALL_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"disk", "list", "", "the node's disks with class, state and health", "croft disk list --json",
     list_options, 0, 0, false, disk_list},
};

const struct verb_table verbs_disk = {verbs, sizeof(verbs) / sizeof(verbs[0])};
