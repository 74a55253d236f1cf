/*
 * namespace.h - the descriptor of a namespace: the one file that says what it is, and which of the
 * segments in its folder are its own.
 *
 * Folder ns-<id, 8 hex digits> of the data folder: `descriptor`, segments <id>.seg, outputs of a
 * compaction <id>.new. The descriptor is replaced whole (temporary name, sync, rename, sync of the
 * folder), so a power cut leaves the old or the new one.
 *
 *   no descriptor, no segment --(create)--> ALIVE --(set, swap)--> ALIVE --(delete)--> DELETED --> nothing
 *
 * A *swap* replaces segments by others (compaction, flush). It is one descriptor: the moment that it is
 * on disk is the moment of the swap. It names the old ones (`retire`), which are removed then, and the
 * new ones (`adopt`), which lose the ending .new then; recovery finishes what was not done.
 *
 * Invariants
 *  N1  A folder without descriptor but with segments is damage, never an unfinished creation: the first
 *      segment is made after the descriptor is durable.
 *  N2  A segment whose id is below `floor` or in `retire` is not the namespace's, whatever it contains.
 *  N3  A file *.new that is not in `adopt` is not the namespace's.
 *  N4  `swaps` rises with every swap: an index snapshot of another count is not used.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/store.h"

#define NAMESPACE_SWAP_MAX 64
#define NAMESPACE_DESCRIPTOR_MAX 2048

struct namespace_descriptor {
    uint32_t id;
    uint64_t identity; /* random; part of every record's checksum */
    bool deleted;
    uint64_t created; /* seconds since 1970 */
    char name[STORE_NAME_MAX + 1];
    struct store_properties properties;
    uint32_t floor;        /* ids of segments below it are gone */
    uint64_t base;         /* number at which the first segment begins */
    uint64_t next_id;      /* seq: no id from here on was given out when this was written */
    uint64_t compacted_to; /* deletions before this number may have been dropped */
    uint64_t swaps;
    uint32_t retire_count, adopt_count;
    uint32_t retire[NAMESPACE_SWAP_MAX], adopt[NAMESPACE_SWAP_MAX];
};

bool namespace_name_is_good(const char *name, size_t len);
/* Returns the length. */
size_t namespace_encode(const struct namespace_descriptor *descriptor,
                        uint8_t out[NAMESPACE_DESCRIPTOR_MAX]);
/* 0 or -EBADMSG: any other bytes than namespace_encode() writes. */
int namespace_decode(const void *data, size_t len, struct namespace_descriptor *ret);
