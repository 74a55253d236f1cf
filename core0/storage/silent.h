/*
 * silent.h - a pool whose disk has stopped answering while it was mounted. Whoever touches such a pool stands in the kernel until the disk
 * answers, so storaged must not: the pool leaves the list, as one that was pulled does, but stays mounted, and comes back with the
 * disk's answer.
 *
 *   pool ── every SILENT_LOOK_US a child reads a block of its disk ──► it ended: the disk answers
 *                                            ├── not within SILENT_LATE_US: late; what would write there is storage.busy
 *                                            └── not within SILENT_PATIENCE_US: the pool is silent until it ends
 *
 * What is asked of storaged in the seconds before it is late may still stand (docs/decisions/0129-a-pool-that-falls-silent.md).
 */
#pragma once

#include "storage.h"

#define SILENT_LOOK_US ((uint64_t)5 * 1000000)
#define SILENT_LATE_US ((uint64_t)3 * 1000000)
#define SILENT_PATIENCE_US ((uint64_t)60 * 1000000)

int silent_start(struct storage *storage);
/* Whether its disk has owed an answer for SILENT_LATE_US: it is not to be written to, as who does may stand. */
bool silent_late(const struct storage *storage, const struct pool *pool);
/* storage.busy, if so. */
int silent_check(const struct storage *storage, const struct pool *pool, struct error *err);
/* The silent pool of that UUID, or NULL. It is not to be touched, only named. */
const struct pool *silent_pool(const struct storage *storage, const char *uuid);
/* Whether that disk's pool is one. */
bool silent_disk(const struct storage *storage, const char *disk);
/* A disk is gone: its pool, should it be silent, is one of the list again, to be lost as any other. */
void silent_end(struct storage *storage, const char *disk);
