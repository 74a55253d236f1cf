/*
 * makers.c - sockets and requests of the makers; see makers.h.
 */
#include "provision/makers.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

static const char *const names[MAKER_COUNT] = {
    [MAKER_NODE] = "noded",   [MAKER_NET] = "netd",        [MAKER_STORAGE] = "storaged",
    [MAKER_IMAGE] = "imaged", [MAKER_CONTAINER] = "contd",
};

const char *maker_socket(const char *run, enum maker maker)
{
    static char paths[MAKER_COUNT][PATH_MAX];
    snprintf(paths[maker], PATH_MAX, "%s/%s", run, names[maker]);
    return paths[maker];
}

void lane_init(struct lane *lane, struct loop *loop, const char *run)
{
    *lane = (struct lane){.loop = loop, .run = run};
}

void lane_done(struct lane *lane)
{
    for (size_t i = 0; i < MAKER_COUNT; i++) {
        varlink_client_free(lane->clients[i]);
        lane->clients[i] = NULL;
    }
}

int lane_call(struct lane *lane, enum maker maker, const char *method, yyjson_mut_doc *parameters,
              unsigned flags, uint64_t timeout_us, varlink_reply_fn *fn, void *data)
{
    if (lane->clients[maker] == NULL) {
        int ret =
            varlink_client_new(lane->loop, maker_socket(lane->run, maker), &lane->clients[maker]);
        if (ret < 0) {
            yyjson_mut_doc_free(parameters);
            return ret;
        }
    }
    return varlink_client_call(lane->clients[maker], method, parameters, flags, timeout_us, fn,
                               data);
}

yyjson_mut_doc *parameters_new(yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL) {
        return NULL;
    }
    *ret_root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, *ret_root);
    return doc;
}

yyjson_mut_doc *parameters_instance(uint64_t reservation, uint32_t revision, const char *service,
                                    yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = parameters_new(ret_root);
    if (doc == NULL) {
        return NULL;
    }
    yyjson_mut_obj_add_uint(doc, *ret_root, "reservation", reservation);
    if (revision != 0) {
        yyjson_mut_obj_add_uint(doc, *ret_root, "revision", revision);
    }
    if (service != NULL) {
        yyjson_mut_obj_add_strcpy(doc, *ret_root, "service", service);
    }
    return doc;
}
