/*
 * index_slots.h - the index of a namespace in seq mode: an array of slots in a file, one per id.
 *
 * ns-<id>.slots in the index folder, 16 bytes per id, little-endian: u32 segment, u32 place, u32 length
 * of the value, u32 CRC32C of the id (u32) and the 12 bytes before. Length SLOT_DELETED: the place is
 * that of the record that deleted it. Nothing is kept
 * in memory per id but what is not in the file yet.
 *
 * Invariants
 *  L1  A slot goes to the file only when the record that it names is synced in its segment. So the file
 *      never names a record that a recovery cuts, and replaying the log from any checkpoint on is right
 *      whichever later slots had reached the disk.
 *  L2  The newest slot of an id is the pending one, if there is one, otherwise the file's.
 *
 * Not thread-safe: the namespace's lock holds, also while a slot is read (one small read, nearly always
 * of the page cache).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/index.h"
#include "kv/io.h"

#define SLOT_DELETED UINT32_MAX
#define SLOTS_PENDING_MAX (128u << 10) /* then a writer waits for a sync */

struct slots;

/* Opens the file, or makes a new one when `fresh`. */
int slots_open(const struct io *io, const char *folder, const char *path, bool fresh,
               struct slots **ret);
void slots_close(struct slots *slots);
/* 1; 0: no such id, or deleted; -EBADMSG; -EIO and the like. */
int slots_find(struct slots *slots, uint32_t id, struct index_entry *ret);
/* 0 or -ENOMEM. */
int slots_put(struct slots *slots, uint32_t id, const struct index_entry *entry);
/* Takes back slots_put() of an id that did not exist. */
void slots_forget(struct slots *slots, uint32_t id);
size_t slots_pending(const struct slots *slots);
/* Writes the pending slots for which `may` says yes. Takes the lock away while it writes: see
 * slots_take() and slots_drop(). */
struct slots_batch {
    struct slots_one *list;
    size_t count;
};
/* With the lock: what may be written, sorted by id. 0 or -ENOMEM. */
int slots_take(const struct slots *slots, bool (*may)(void *ctx, const struct index_entry *entry),
               void *ctx, struct slots_batch *ret);
/* Without the lock. 0 or the disk's error. */
int slots_write(const struct slots *slots, const struct slots_batch *batch, bool sync);
/* With the lock: forgets what was written, unless it changed meanwhile. Frees the batch. */
void slots_drop(struct slots *slots, struct slots_batch *batch, bool written);
/* Every slot, deleted ones too, pending ones last. 0, or -EBADMSG where one does not verify or `each`
 * says no. */
int slots_walk(struct slots *slots,
               bool (*each)(void *ctx, uint32_t id, const struct index_entry *entry), void *ctx);
uint64_t slots_memory(const struct slots *slots);
/* The slots that the file has, or will have once all pending ones are written. */
uint64_t slots_extent(const struct slots *slots);
int64_t slots_file_size(const struct slots *slots);
