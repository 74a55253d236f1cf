/*
 * config.h - what provd needs of /run/croft/boot.json (docs/contracts.md).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"

enum run_mode { RUN_MODE_PROD, RUN_MODE_TEST, RUN_MODE_DEV }; /* numbers as in IGridRegistry.sol */

struct config {
    char *chain; /* endpoints, separated by commas; NULL: none */
    uint64_t chain_id;
    uint8_t registry[20];
    uint64_t farm;
    uint8_t boot_id[16]; /* of this boot, as reports carry it */
    enum run_mode run_mode;
    char trust[16]; /* the mode of croft.trust: what makes a header believed */
    char *hubs[8];  /* croft.hub: tried before a reservation's own */
    size_t hub_count;
};

/* What forbids to run anything is an error with its code: boot parameters that were wrong, no farm, no chain, a trust mode that
 * is not built (chain.trust-unsupported) or not allowed in this run mode (chain.trust-refused). */
int config_read(const char *path, struct config *ret_config, struct error *err);
void config_done(struct config *config);
