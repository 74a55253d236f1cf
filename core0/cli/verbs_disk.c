/*
 * verbs_disk.c - croft disk …: the disks of the node that the command line runs on.
 */
#include <errno.h>

#include "cli/node_call.h"
#include "cli/tables.h"

static int disk_list(struct cli *cli, struct error *err)
{
    if (cli_flag(cli, "--check")) {
        yyjson_doc *reply;
        int ret = node_call(cli, "storaged", "org.croft.storage.CheckDisks", NULL, &reply, err);
        if (ret < 0) {
            return ret;
        }
        yyjson_doc_free(reply);
    }
    return node_call_show(cli, "storaged", "org.croft.storage.GetStatus", NULL, "disks", err);
}

static int disk_wipe(struct cli *cli, struct error *err)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "name", cli->args[0]);
    yyjson_mut_obj_add_strcpy(doc, root, "serial", cli->args[1]);
    yyjson_mut_obj_add_bool(doc, root, "force", cli_flag(cli, "--force"));
    return node_call_show(cli, "storaged", "org.croft.storage.WipeDisk", doc, NULL, err);
}

static const struct verb_option list_options[] = {
    {"--check", NULL, "ask every disk for its health now"},
    NODE_CALL_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb_option wipe_options[] = {
    {"--force", NULL, "even with volumes on it: they are lost"},
    NODE_CALL_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"disk", "list", "", "the node's disks with class, state and health", "croft disk list --json",
     list_options, 0, 0, false, disk_list},
    {"disk", "wipe", "NAME SERIAL", "make a disk of the node empty, and a pool of it",
     "croft disk wipe sdb WD-WX31A1234567", wipe_options, 2, 2, false, disk_wipe},
};

const struct verb_table verbs_disk = {verbs, sizeof(verbs) / sizeof(verbs[0])};
