/*
 * verbs_volume.c - croft volume …: volumes of the node that the command line runs on, and their snapshots.
 */
#include <errno.h>

#include "cli/compose.h"
#include "cli/node_call.h"
#include "cli/tables.h"

#define STORAGE "org.croft.storage."

static int volume_list(struct cli *cli, struct error *err)
{
    return node_call_show(cli, "storaged", STORAGE "ListVolumes", NULL, "volumes", err);
}

/* {"key": the first argument}; ret_doc belongs to the call that it is made for. */
static yyjson_mut_val *of_volume(const struct cli *cli, yyjson_mut_doc **ret_doc)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "key", cli->args[0]);
    *ret_doc = doc;
    return root;
}

static int volume_snapshot(struct cli *cli, struct error *err)
{
    static const struct {
        const char *option, *method;
    } others[] = {{"--remove", STORAGE "RemoveSnapshot"}, {"--restore", STORAGE "RestoreSnapshot"}};
    const char *method = STORAGE "SnapshotVolume", *name = cli_option(cli, "--name");
    int asked = (name != NULL) + cli_flag(cli, "--list");
    yyjson_mut_doc *doc;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (cli_option(cli, others[i].option) != NULL) {
            method = others[i].method;
            name = cli_option(cli, others[i].option);
            asked++;
        }
    }
    if (asked > 1) {
        return error_set(err, EINVAL, "cli.wrong-use", "",
                         "--name, --list, --remove and --restore exclude one another");
    }
    yyjson_mut_val *root = of_volume(cli, &doc);
    if (cli_flag(cli, "--list")) {
        return node_call_show(cli, "storaged", STORAGE "ListSnapshots", doc, "snapshots", err);
    }
    if (name != NULL) {
        yyjson_mut_obj_add_strcpy(doc, root, "name", name);
    }
    return node_call_show(cli, "storaged", method, doc, NULL, err);
}

static int volume_resize(struct cli *cli, struct error *err)
{
    uint64_t size;
    yyjson_mut_doc *doc;

    if (compose_size(cli->args[1], &size) < 0) {
        return error_set(err, EINVAL, "cli.wrong-use", "", "'%s' is no size such as 10G",
                         cli->args[1]);
    }
    yyjson_mut_val *root = of_volume(cli, &doc);
    yyjson_mut_obj_add_uint(doc, root, "size", size);
    return node_call_show(cli, "storaged", STORAGE "ResizeVolume", doc, NULL, err);
}

static const struct verb_option options[] = {
    NODE_CALL_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb_option snapshot_options[] = {
    {"--name", "NAME", "how it is called; without it the time of day"},
    {"--list", NULL, "only show those that there are"},
    {"--remove", "NAME", "remove that one instead"},
    {"--restore", "NAME", "make the volume what that one is; its containers are stopped first"},
    NODE_CALL_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"volume", "list", "", "the node's volumes with size, use and snapshots",
     "croft volume list --json", options, 0, 0, false, volume_list},
    {"volume", "snapshot", "KEY", "make, list, remove or restore a snapshot of a volume",
     "croft volume snapshot volume/0x12…/shop/data --name before-update", snapshot_options, 1, 1,
     false, volume_snapshot},
    {"volume", "resize", "KEY SIZE", "give a volume another size, until its project is updated",
     "croft volume resize volume/0x12…/shop/data 20G", options, 2, 2, false, volume_resize},
};

const struct verb_table verbs_volume = {verbs, sizeof(verbs) / sizeof(verbs[0])};
