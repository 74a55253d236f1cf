/*
 * makers.h - the daemons that provd asks for things, and one request at a time to one of them.
 */
#pragma once

#include <stdint.h>
#include <yyjson.h>

#include "lib/error.h"
#include "lib/loop.h"
#include "lib/varlink.h"

enum maker { MAKER_NODE, MAKER_NET, MAKER_STORAGE, MAKER_IMAGE, MAKER_CONTAINER, MAKER_COUNT };

/* Path of the maker's socket below `run` (/run/croft); a static buffer per maker. */
const char *maker_socket(const char *run, enum maker maker);

/* A lane holds one connection to each maker, made when it is first needed. One request is under way at a time. */
struct lane {
    struct loop *loop;
    const char *run;
    struct varlink_client *clients[MAKER_COUNT];
};

void lane_init(struct lane *lane, struct loop *loop, const char *run);
void lane_done(struct lane *lane); /* callbacks of open requests are not called */
/* parameters is consumed. fn as in varlink.h. */
int lane_call(struct lane *lane, enum maker maker, const char *method, yyjson_mut_doc *parameters,
              unsigned flags, uint64_t timeout_us, varlink_reply_fn *fn, void *data);

/* {} to be filled: *ret_root is its root object. NULL: no memory. */
yyjson_mut_doc *parameters_new(yyjson_mut_val **ret_root);
/* {"reservation":…,"revision":…,"service":…}; service NULL is left out, so is revision 0. */
yyjson_mut_doc *parameters_instance(uint64_t reservation, uint32_t revision, const char *service,
                                    yyjson_mut_val **ret_root);
