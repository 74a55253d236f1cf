/*
 * kv_disk.h - a disk in memory beneath kvd's engine that fails, loses and tears as real ones do.
 *
 * What it knows of a file is what the program sees (the page cache) and what would be there after a
 * power cut: the state of the last sync, and the list of writes since then. A power cut keeps any
 * subset of the 512-byte sectors of these writes, and any of the unsynced changes of names. A sync
 * that fails drops its pages as the kernel does: they still read back, and no later sync saves them.
 * Everything random comes from one seed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/io.h"

#define DISK_SECTOR 512

enum disk_fault {
    DISK_NO_FAULT,
    DISK_ONCE,    /* this one call fails */
    DISK_FOREVER, /* and every one after it that the kind of fault concerns */
};

struct disk;

struct disk *disk_new(uint64_t seed);
void disk_free(struct disk *disk);
const struct io *disk_io(struct disk *disk);

/* The power goes at the n-th call from now that changes something (1: the next; 0: never). That call
 * may have had its effect, or part of it. Every call after it fails with -EIO. */
void disk_cut_at(struct disk *disk, uint64_t n);
bool disk_is_cut(const struct disk *disk);
/* Decides what survived, and switches on again without faults. Works with the power on, too: then it
 * is a cut between two calls. */
void disk_reboot(struct disk *disk);
/* The n-th call from now (of all calls; with -ENOSPC only of those that want space) fails. */
void disk_fail_at(struct disk *disk, uint64_t n, int error, enum disk_fault fault);
bool disk_has_failed(const struct disk *disk); /* since the last disk_fail_at() */
/* Calls so far: those that change something, and all. */
uint64_t disk_changes(const struct disk *disk);
uint64_t disk_calls(const struct disk *disk);
void disk_limit(struct disk *disk, uint64_t bytes); /* size of the disk; 0: 1 TiB */
uint64_t disk_used(const struct disk *disk);

/* Bytes of a file as the program sees them. disk_poke() changes the disk itself beneath. */
int64_t disk_size(struct disk *disk, const char *path);
uint8_t disk_peek(struct disk *disk, const char *path, uint64_t offset);
void disk_poke(struct disk *disk, const char *path, uint64_t offset, uint8_t value);
void disk_chop(struct disk *disk, const char *path, uint64_t size); /* a shorter file, beneath */
void disk_remove(struct disk *disk, const char *path);
/* The path of the n-th file whose name ends so, in the order of names; NULL: there are fewer. */
const char *disk_find(struct disk *disk, const char *suffix, unsigned n);
int disk_open_files(const struct disk *disk);
/* A copy of everything as it is now, with the same seed: crash tests start from it again and again. */
struct disk *disk_copy(const struct disk *disk, uint64_t seed);

uint64_t disk_random(struct disk *disk);
