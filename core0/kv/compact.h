/*
 * compact.h - one compaction, as its parts share it. What it does and keeps stands in compact.c.
 */
#pragma once

#include "kv/store_internal.h"

#include <time.h>

#define COMPACTION_RUN_MAX 32u
#define COMPACTION_BUFFER ((size_t)1 << 20) /* bytes per write */

struct compaction {
    struct namespace *ns;
    struct segment *run[COMPACTION_RUN_MAX]; /* with a reference each */
    uint32_t run_count;
    uint32_t held;       /* of the run: descriptors that stay open */
    bool from_the_first; /* nothing lies before the run */
    uint64_t sequence;   /* of the namespace's compactions */
    bool dropped;        /* a deletion after which its key was not written again */
    struct segment *out;
    uint8_t *buffer;
    size_t used;
    uint64_t written, offset; /* offset: of the next record of the output */
    uint64_t kept;
    struct move *moves;
    size_t move_count, move_room;
    uint64_t records;
    uint64_t since_rest;
    struct timespec rest_from;
};

/* Gives others the disk: half of the time, unless nobody else runs. `done`: bytes since the last call. */
void compaction_rest(struct compaction *c, size_t done);
/* Copies what is needed of the run into c->out, and syncs it. 0 or -errno: -EBADMSG at damage, -ENXIO when
 * the namespace went. */
int compaction_copy(struct compaction *c);
/* Reads the copy back: every record verifies, and there are as many as were copied. */
int compaction_verify(struct compaction *c);
