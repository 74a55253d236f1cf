/*
 * segment.h - a file of records in the order of their numbers, and walking through one.
 *
 * A file begins with 64 bytes: "CROFTSG1", u32 id, u32 zero, u64 identity of the namespace, u64 first,
 * u64 next, zero bytes, and at 60 their u32 CRC32C. Records follow (record.h). `first` is the lowest
 * number it may hold. `next` is 0 in a segment that is appended to; a compaction knows beforehand that
 * its output holds nothing from `next` on.
 *
 *   (create) --> ACTIVE --(full: END appended)--> SEALED --(compaction, flush)--> RETIRED --> removed
 *   (compaction: <id>.new, written, synced, verified) --(swap)--> SEALED
 *
 * Invariants
 *  S1  A namespace's segments, sorted by `first`, tile the numbers: each ends where the next begins.
 *      A gap is a segment that is missing.
 *  S2  Numbers rise within a segment. Ids rise with the time of creation and are never used twice.
 *  S3  Only the last segment is ACTIVE. Bytes once written are never written again.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/io.h"
#include "kv/record.h"

#define SEGMENT_HEADER 64u
#define SEGMENT_SIZE_MAX ((uint64_t)16 << 30)
#define SEGMENT_MARK_EVERY (256u << 10)

/* Every so many bytes, the number of a record and its place: where a search begins. */
struct segment_mark {
    uint64_t number;
    uint32_t place;
};

struct segment {
    uint32_t id;
    uint64_t first, next; /* numbers [first, next); next 0 while active */
    uint64_t size;        /* end of its last record */
    uint64_t written;     /* of these, in the file */
    uint64_t synced;      /* of these, synced */
    uint64_t allocated;   /* space that was claimed */
    uint64_t live;        /* bytes of records that hold a key's value */
    uint64_t kept;        /* bytes of deletions that a compaction had to keep */
    uint64_t suspect; /* entries below this offset may have been overwritten by a damaged record */
    bool sealed;
    bool damaged;   /* met damage: never compacted, never removed but by flush and delete */
    _Atomic int fd; /* -1: not open; see segment_file.c for this and the next ones */
    atomic_uint holds;
    atomic_bool used; /* since the clock's hand came by */
    bool keeps_open;  /* unsynced bytes hold the descriptor; under the namespace's lock */
    struct segment *ring_next, *ring_before; /* of those with a descriptor */
    atomic_uint refs; /* of the namespace (until retired) and of readers; taken under its lock */
    struct segment_mark *marks;
    uint32_t mark_count, mark_room;
};

struct segment *segment_new(uint32_t id);
void segment_free(struct segment *segment); /* does not close */
void segment_header_encode(const struct segment *segment, uint64_t identity,
                           uint8_t out[SEGMENT_HEADER]);
/* -EBADMSG: not the header of this segment. Writes first and next. */
int segment_header_decode(const uint8_t data[SEGMENT_HEADER], uint64_t identity,
                          struct segment *segment);
/* Notes a record for later searches; without memory the search is only longer. */
void segment_note(struct segment *segment, uint64_t number, uint64_t offset);
/* An offset at or before the first record with at least this number. */
uint64_t segment_seek(const struct segment *segment, uint64_t number);
/* Of the last mark before `offset`: where a backward walk begins. */
uint64_t segment_seek_back(const struct segment *segment, uint64_t offset);

/* Reads records one after another, through a buffer. */
struct segment_walker {
    const struct io *io;
    int fd;
    struct record_position at; /* of the record that was given last, or that did not verify */
    uint64_t next, end;        /* where to go on, where the bytes end */
    uint8_t *buffer;
    size_t room;
    uint64_t from; /* offset of the buffer's first byte */
    size_t have;
};

/* 0 or -ENOMEM. `done` in any case. */
int segment_walker_init(struct segment_walker *walker, const struct io *io, int fd,
                        uint64_t identity, uint32_t segment, uint64_t offset, uint64_t end);
void segment_walker_done(struct segment_walker *walker);
/* The next record: 1; 0 at the end; -EBADMSG where the bytes are no record (the walker stays there);
 * -EIO and the like. *ret_value is NULL for a value that the buffer does not hold. */
int segment_walker_next(struct segment_walker *walker, struct record *ret, const uint8_t **ret_key,
                        const uint8_t **ret_value);
/* Behind a place that does not verify: moves to the next record that does, or to the end. */
int segment_walker_resync(struct segment_walker *walker);
/* Whether the value of the record given last verifies: 1 or 0, or -EIO and the like. */
int segment_walker_check(struct segment_walker *walker, const struct record *record,
                         const uint8_t *value);

enum segment_walk_flags {
    SEGMENT_CHECK_VALUES = 1, /* a value that does not verify is damage, too */
    SEGMENT_SKIP_DAMAGE = 2,  /* go on with the next record that verifies */
    SEGMENT_TELL_DAMAGE = 4,  /* and call `visit` with a record of NULL once it is found */
};

/* A walk through the bytes [from, end) of a segment. */
struct segment_walk {
    uint64_t from, end;
    unsigned flags;
    /* Each record: 1 go on, 0 enough, or a negative result. It lies at walker->at; key and value are
     * valid until the walker reads on. The value is NULL where the buffer does not hold it, and with
     * SEGMENT_CHECK_VALUES so is its key. The end may be moved (walker->end). */
    int (*visit)(void *ctx, struct segment_walker *walker, const struct record *record,
                 const uint8_t *key, const uint8_t *value);
};

/* 0 when it came to its end; -EBADMSG at damage, unless that is skipped; what `visit` returned; -EIO and
 * the like. */
int segment_walk(struct segment_walker *walker, const struct segment_walk *walk, void *ctx);
