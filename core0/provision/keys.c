/*
 * keys.c - see keys.h.
 */
#include "provision/keys.h"

#include <inttypes.h>
#include <stdlib.h>

#include "lib/log.h"

#define KEYS_AGAIN_US ((uint64_t)60 * 1000 * 1000)

static void on_kept(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct provision *provision = data;

    (void)more;
    provision->keys_busy = false;
    if (parameters == NULL) {
        log_error(err, "old sealing keys");
        provision->keys_told = 0; /* again after the next round */
        return;
    }
    uint64_t destroyed = yyjson_get_uint(yyjson_obj_get(parameters, "destroyed"));
    if (destroyed > 0) {
        log_info("%" PRIu64 " sealing keys that nothing needs any more are destroyed", destroyed);
    }
}

void keys_tell(struct provision *provision)
{
    struct watch_status status = {0};
    uint64_t now = loop_clock();
    uint32_t *epochs = NULL;
    size_t count;
    yyjson_mut_val *root;

    if (provision->watch == NULL || provision->keys_busy) {
        return;
    }
    watch_status(provision->watch, &status);
    const struct ledger *latest = watch_latest(provision->watch);
    bool changed =
        latest->sequence != provision->keys_sequence || status.key_epoch != provision->keys_epoch;
    if ((!changed && now - provision->keys_told < KEYS_AGAIN_US && provision->keys_told != 0) ||
        keys_needed(latest, watch_final(provision->watch), &status, &epochs, &count) < 0) {
        return;
    }
    yyjson_mut_doc *doc = parameters_new(&root);
    if (doc != NULL) {
        yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "epochs");
        for (size_t i = 0; i < count; i++) {
            yyjson_mut_arr_add_uint(doc, list, epochs[i]);
        }
        yyjson_mut_obj_add_uint(doc, root, "current", status.key_epoch);
        provision->keys_busy = true;
        provision->keys_told = now;
        provision->keys_sequence = latest->sequence;
        provision->keys_epoch = status.key_epoch;
        if (lane_call(&provision->keys_lane, MAKER_NODE, "org.croft.node.KeepKeys", doc, 0,
                      30 * (uint64_t)1000 * 1000, on_kept, provision) < 0) {
            provision->keys_busy = false;
            provision->keys_told = 0;
        }
    }
    free(epochs);
}

void keys_stop(struct provision *provision)
{
    lane_done(&provision->keys_lane);
}
