/*
 * index_snapshot.h - reading the file that index_snapshot.c writes, piece by piece.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kv/index.h"
#include "kv/io.h"
#include "kv/segment.h"

struct snapshot_head {
    uint64_t identity, swaps;
    uint32_t mode;
    uint32_t segment; /* where the log goes on */
    uint64_t offset, number, next_id;
    uint64_t entries; /* about; not to be relied on */
    uint32_t segments;
};

/* Who is given what was read and verified; `false` and errors end the reading. */
struct snapshot_reader {
    bool (*head)(void *ctx, const struct snapshot_head *head);
    bool (*segment)(void *ctx, const struct segment *segment, bool last);
    void (*mark)(void *ctx, uint64_t number, uint64_t offset); /* of the segment given last */
    /* Some entries; their keys last as long as the call. */
    int (*entries)(void *ctx, const struct index_item *items, size_t count);
    void *ctx;
};

/* 0; -ENOENT; -EBADMSG: it does not verify, or the reader did not want it; what `entries` returned. */
int snapshot_read(const struct io *io, const char *path, const struct snapshot_reader *reader,
                  struct snapshot_head *ret);
