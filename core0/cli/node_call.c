/*
 * node_call.c - see node_call.h.
 */
#include "cli/node_call.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/varlink.h"

#define RUN "/run/croft"

int node_call(const struct cli *cli, const char *program, const char *method,
              yyjson_mut_doc *parameters, yyjson_doc **ret_reply, struct error *err)
{
    struct error cause = {0};
    char path[64];
    const char *socket = cli_option(cli, "--socket");

    snprintf(path, sizeof(path), RUN "/%s", program);
    socket = socket != NULL ? socket : path;
    int ret =
        varlink_call_blocking(socket, method, parameters, NODE_CALL_TIMEOUT_MS, ret_reply, &cause);
    if (ret == -ENOENT || ret == -ECONNREFUSED) {
        return error_set(err, -ret, "cli.no-daemon",
                         "run it on the node itself, or give its socket with --socket",
                         "%s does not listen at %s", program, socket);
    }
    if (ret < 0) {
        *err = cause;
    }
    return ret;
}

yyjson_val *node_call_parameters(yyjson_doc *reply)
{
    return yyjson_obj_get(yyjson_doc_get_root(reply), "parameters");
}

int node_call_show(const struct cli *cli, const char *program, const char *method,
                   yyjson_mut_doc *parameters, const char *member, struct error *err)
{
    yyjson_doc *reply;

    int ret = node_call(cli, program, method, parameters, &reply, err);
    if (ret < 0) {
        return ret;
    }
    yyjson_val *value = node_call_parameters(reply);
    if (member != NULL) {
        value = yyjson_obj_get(value, member);
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (member != NULL && value == NULL) {
        ret = error_set(err, EPROTO, "varlink.message", "croft and the node are of two versions",
                        "the answer of %s has no %s", method, member);
        yyjson_mut_doc_free(doc);
    } else {
        yyjson_mut_val *root =
            value != NULL ? yyjson_val_mut_copy(doc, value) : yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        ret = cli_print_result(cli, doc);
    }
    yyjson_doc_free(reply);
    return ret;
}
