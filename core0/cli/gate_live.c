/*
 * gate_live.c - see gate_live.h.
 */
#include "cli/gate_live.h"

#define PATIENCE_US                                                                                \
    ((uint64_t)5 * 1000000) /* a node that is off must not hold up what the chain knows */

void gate_live_add(const struct cli *cli, const struct grid *grid, uint64_t node,
                   uint64_t reservation, const char *method, const char *path, yyjson_mut_doc *doc,
                   yyjson_mut_val *root)
{
    struct gate gate;
    struct error err = {0};
    yyjson_doc *answer = NULL;

    int ret = gate_init(&gate, cli, grid, node, reservation, &err);
    if (ret == 0) {
        gate.patience_us = gate.answer_us = PATIENCE_US;
        ret = gate_call(&gate, method, path, NULL, &answer, &err);
        gate_done(&gate);
    }
    if (ret == 0) {
        yyjson_mut_obj_add_val(doc, root, "live",
                               yyjson_val_mut_copy(doc, yyjson_doc_get_root(answer)));
        yyjson_doc_free(answer);
        return;
    }
    yyjson_mut_val *live = yyjson_mut_obj_add_obj(doc, root, "live");
    yyjson_mut_val *error = yyjson_mut_obj_add_obj(doc, live, "error");
    yyjson_mut_obj_add_strcpy(doc, error, "code", err.code);
    yyjson_mut_obj_add_strcpy(doc, error, "message", err.message);
}
