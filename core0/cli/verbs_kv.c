/*
 * verbs_kv.c - croft kv …: key-value namespaces of the node that the command line runs on.
 */
#include <errno.h>
#include <stdio.h>

#include "cli/gate.h"
#include "cli/node_call.h"
#include "cli/reservation.h"
#include "cli/tables.h"
#include "lib/file.h"

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

/*
 * The gate proves the node's registered key; the certificate that it gives is that key's, and has signed those of the node's
 * key-value servers. So who trusts it talks to that node and to nobody else, whatever the address.
 */
static int kv_certificate(struct cli *cli, struct error *err)
{
    const char *output = cli_option(cli, "--output");
    struct reservation reservation;
    struct grid grid;
    struct gate gate;
    yyjson_doc *answer = NULL;
    uint64_t id;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &id, err);
    if (ret < 0 || (ret = grid_open(cli, GRID_KEY, &grid, err)) < 0) {
        return ret;
    }
    ret = reservation_read(&grid, id, &reservation, err);
    if (ret == 0 && (ret = gate_init(&gate, cli, &grid, reservation.node, id, err)) == 0) {
        ret = gate_call(&gate, "status", "/v1/status", NULL, &answer, err);
        gate_done(&gate);
    }
    grid_close(&grid);
    if (ret < 0) {
        return ret;
    }
    yyjson_val *pem = yyjson_obj_get(yyjson_doc_get_root(answer), "certificate");
    if (!yyjson_is_str(pem)) {
        ret = error_set(err, EBADMSG, "gate.bad-answer", "the node may be of an older version",
                        "the node tells no certificate");
    } else if (output != NULL) {
        ret = file_write_atomic(output, yyjson_get_str(pem), yyjson_get_len(pem), 0644);
        if (ret < 0) {
            error_set(err, -ret, "cli.failed", "", "%s cannot be written", output);
        }
    } else if (cli->json) {
        yyjson_mut_val *root;
        yyjson_mut_doc *doc = grid_json(&root);
        yyjson_mut_obj_add_strcpy(doc, root, "certificate", yyjson_get_str(pem));
        ret = cli_print_json(doc);
    } else {
        fputs(yyjson_get_str(pem), stdout);
    }
    yyjson_doc_free(answer);
    return ret;
}

static const struct verb_option certificate_options[] = {
    {"--output", "FILE", "write it there"},
    GATE_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb_option options[] = {
    NODE_CALL_OPTION,
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"kv", "list", "", "the key-value namespaces on the node's disks", "croft kv list --json",
     options, 0, 0, false, kv_list},
    {"kv", "certificate", "RESERVATION",
     "what a client trusts to reach its namespaces by TLS: the node's own certificate",
     "croft kv certificate 12 --output node.pem && redis-cli --tls --cacert node.pem -h NODE -p "
     "9900",
     certificate_options, 1, 1, false, kv_certificate},
    {"kv", "show", "KEY", "one of them, with what it holds",
     "croft kv show kv/0x00000000000000000000000000000000000000aa/shop/cache", options, 1, 1, false,
     kv_show},
};

const struct verb_table verbs_kv = {verbs, sizeof(verbs) / sizeof(verbs[0])};
