/*
 * claim.h - one disk from its name to a mounted pool, in a child process.
 *
 * A dying disk can hold whoever reads it for minutes, in the kernel, beyond reach of any signal. So each disk is looked
 * at by a child of its own, all at once, and the boot goes on without one that does not answer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "class.h"
#include "disk.h"
#include "gpt.h"
#include "smart.h"

#define CLAIM_POOLS "/run/croft/pools"

enum claim_state { CLAIM_POOL, CLAIM_FOREIGN, CLAIM_EMPTY, CLAIM_FAILED, CLAIM_IGNORED };

struct claim {
    enum claim_state state;
    char detail[160];         /* what was found, or why it is not used */
    char uuid[GPT_GUID_TEXT]; /* CLAIM_POOL: mounted at CLAIM_POOLS/<uuid> */
    char device[DISK_NAME_MAX];
    bool created;           /* the pool was made now */
    bool rotational;        /* class.h: as it was decided once and is kept in the pool */
    char basis[CLASS_TEXT]; /* what that came from; "" where nothing was asked */
    struct smart smart;
};

const char *claim_state_name(enum claim_state state);
/*
 * What a child is for: to take what the rules give, to make a pool of it whatever it holds (but not of what the machine
 * booted from), or only to ask for its health.
 */
enum claim_purpose { CLAIM_BY_RULES, CLAIM_WIPE, CLAIM_HEALTH };
/* Starts the child. *ret_fd gives one struct claim and then ends; it and the child are the caller's. */
int claim_start(const struct disk *disk, const struct disk_rules *rules, enum claim_purpose purpose,
                pid_t *ret_pid, int *ret_fd);
/* Makes a file system on a whole device and mounts it as a pool: for zram. single: keep one copy of metadata. */
int claim_make_pool(const char *device, const char *options, bool single, struct claim *ret_claim);
