/*
 * keys.h - which sealing keys the node still needs; noded destroys the others.
 *
 * A key is needed while a revision that is not final was sealed to it, or while the contract takes proposals that are: the current
 * epoch, and the one before until 24 h after the change. Both are said only of what nobody can take back: when everything that is
 * known of the list is final, and by the time of a final block.
 */
#pragma once

#include <stdbool.h>

#include "provision/provision.h"

#define KEYS_PREVIOUS_S ((uint64_t)24 * 3600) /* GridRegistry.KEY_GRACE */

/* The epochs below `status->key_epoch` that are still needed, rising, each once. -EAGAIN: not to be said now. */
int keys_needed(const struct ledger *latest, const struct ledger *final,
                const struct watch_status *status, uint32_t **ret_epochs, size_t *ret_count);
/* Tells noded, at most once in KEYS_AGAIN_US unless something changed. After every round of the chain. */
void keys_tell(struct provision *provision);
void keys_stop(struct provision *provision);
