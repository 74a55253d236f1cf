/*
 * keys_needed.c - the rule by which old sealing keys stay; see keys.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "provision/keys.h"

static int rising(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int keys_needed(const struct ledger *latest, const struct ledger *final,
                const struct watch_status *status, uint32_t **ret_epochs, size_t *ret_count)
{
    /* A proposal sealed to an older key may stand in any block up to the one that took the current key (the one before: up to a
     * day after that); a final block of that time or later means that the list has them all. */
    if (status->key_epoch == 0 || status->final_time < status->key_since ||
        latest->sequence != final->sequence) {
        return -EAGAIN;
    }
    uint32_t *epochs = calloc(latest->count + 1, sizeof(*epochs));
    size_t count = 0, kept = 0;
    if (epochs == NULL) {
        return -ENOMEM;
    }
    if (status->key_epoch > 1 && status->final_time < status->key_since + KEYS_PREVIOUS_S) {
        epochs[count++] = status->key_epoch - 1;
    }
    for (size_t i = 0; i < latest->count; i++) {
        const struct ledger_revision *entry = &latest->revisions[i];
        if (chain_state_final(entry->state)) {
            continue;
        }
        if (entry->content == NULL) { /* sealed to we do not know which */
            free(epochs);
            return -EAGAIN;
        }
        if (entry->content->key_epoch < status->key_epoch) {
            epochs[count++] = entry->content->key_epoch;
        }
    }
    qsort(epochs, count, sizeof(*epochs), rising);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || epochs[kept - 1] != epochs[i]) {
            epochs[kept++] = epochs[i];
        }
    }
    *ret_epochs = epochs;
    *ret_count = kept;
    return 0;
}
