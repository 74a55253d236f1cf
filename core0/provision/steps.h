/*
 * steps.h - the table of provd's steps.
 *
 * A step either asks a maker (maker, method, ask, got) or is a condition (check). Before and after each is a
 * fault point, <name>.before and <name>.after (lib/fault.h).
 */
#pragma once

#include "provision/deployment.h"

struct step {
    const char *name;
    enum maker maker;
    const char *method; /* NULL: check */
    uint64_t timeout_us;
    unsigned flags;
    /* The parameters; NULL with *err set, or NULL alone: nothing to ask, go on. */
    yyjson_mut_doc *(*ask)(struct deployment *, const struct plan_item *, struct error *);
    /* The answer; may be NULL. 0 or -errno with *err. */
    int (*got)(struct deployment *, const struct plan_item *, yyjson_val *, struct error *);
    /* 1: go on, 0: wait, -errno with *err: failed. */
    int (*check)(struct deployment *, const struct plan_item *, struct error *);
};

enum step_id {
    STEP_FETCH,
    STEP_OPEN,
    STEP_PULL,
    STEP_DEPLOYING,
    STEP_NETWORK,
    STEP_VOLUME,
    STEP_DISK,
    STEP_SPACE,
    STEP_SCRATCH,
    STEP_PREPARE,
    STEP_ATTACH,
    STEP_MOUNT,
    STEP_NAMES,
    STEP_DEPENDS,
    STEP_QUIESCE,
    STEP_PLUG,
    STEP_START,
    STEP_HEALTHY,
    STEP_EXPOSE,
    STEP_SETTLE,
    STEP_SETTLE_DISK,
    STEP_SETTLE_SPACE,
    STEP_ACTIVE,
    STEP_RESUME,
    STEP_FAILED,
    STEP_COUNT
};

extern const struct step steps[STEP_COUNT];

/* A reason that passes: the step is tried again instead of failing the revision. */
bool step_error_passes(const char *code);
/* Whether a service that shall run mounts the virtual disk `key` as `holder` (steps_disk.c). */
bool disk_is_held(const struct provision *provision, const char *key, const char *holder);
/* How many ranges of user ids there are: STORE_SLOTS_MAX, or what a test leaves of them (lib/fault.h). */
uint32_t step_uid_ranges(void);
