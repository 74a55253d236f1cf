/*
 * verbs_kv.c - croft kv …: key-value namespaces of the node that the command line runs on.
 */
#include "cli/node_call.h"
#include "cli/tables.h"

static int kv_list(struct cli *cli, struct error *err)
{
    return node_call_show(cli, "storaged", "org.croft.storage.ListSpaces", NULL, "spaces", err);
}

static int kv_show(struct cli *cli, struct error *err)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "key", cli->args[0]);
    return node_call_show(cli, "storaged", "org.croft.storage.GetSpace", doc, "space", err);
}

static const struct verb_option options[] = {
    NODE_CALL_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"kv", "list", "", "the key-value namespaces on the node's disks", "croft kv list --json",
     options, 0, 0, false, kv_list},
    {"kv", "show", "KEY", "one of them, with what it holds",
     "croft kv show kv/0x00000000000000000000000000000000000000aa/shop/cache", options, 1, 1, false,
     kv_show},
};

const struct verb_table verbs_kv = {verbs, sizeof(verbs) / sizeof(verbs[0])};
