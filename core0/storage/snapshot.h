/*
 * snapshot.h - volumes as they were: read-only snapshots, made by hand or on a volume's policy.
 *
 * Those of the volume `v` lie in <pool>/snapshots/v/, where the tenant reads them. They count against the volume's limit: a byte
 * that the volume no longer has, but a snapshot has, is still the volume's. What a snapshot itself costs, one tree block, is not.
 *
 * Invariants. A snapshot is whole or not there: btrfs makes it in one transaction. The volume's quota group is joined after that, and
 * again at every start. The folder carries the policy, so that it outlives storaged and the machine; when the next one is due
 * follows from the age of the last.
 */
#pragma once

#include "storage.h"

struct volume_job;

#define SNAPSHOT_NAME_MAX 63
#define SNAPSHOT_AUTO "auto-" /* what the policy made, and takes away again */

struct snapshot {
    char name[SNAPSHOT_NAME_MAX + 1];
    int64_t time; /* Unix seconds */
    bool automatic;
};

/* The folder that tenants read. */
void snapshot_folder(const struct volume *volume, char *ret_path, size_t size);
/* Fills in what a volume has of snapshots: their number and its policy. */
void snapshot_count(struct volume *volume);
/* The snapshots of a volume, oldest first. *ret_snapshots: free(). Answers 0 or -errno, without a folder 0 and none. */
int snapshot_list(const struct volume *volume, struct snapshot **ret_snapshots, size_t *ret_count);

/* Begins to make one, as what the volume has not on the disk is written first; `done` is called when it has ended, and nobody waits
 * for it before (volume_job.h). `name` NULL: the time of day. `call` is for `done`. */
int snapshot_make(struct storage *storage, const char *key, const char *name,
                  void (*done)(struct storage *storage, const struct volume_job *job, int result),
                  struct varlink_call *call, struct error *err);
/* For `done`, first: makes the snapshot count as it should, and says what became of it. */
int snapshot_made(struct storage *storage, const struct volume_job *job, int result,
                  struct error *err);
int snapshot_remove(struct storage *storage, const char *key, const char *name, struct error *err);
/* The volume becomes what the snapshot is, at once. storage.volume-in-use while a container has it. */
int snapshot_restore(struct storage *storage, const char *key, const char *name, struct error *err);

/* Removes all snapshots of the volume called `name` on disk, and their folder. */
int snapshot_forget(const struct pool *pool, const char *name);
/* After a start: makes all count, and removes those of volumes that are gone. */
void snapshot_recover(const struct pool *pool);

/* ---- snapshot_policy.c ---- */
/* Keeps the policy with the volume and takes away what it no longer keeps. {0, 0}: none. */
int snapshot_policy_set(struct storage *storage, struct volume *volume,
                        const struct snapshot_policy *policy, struct error *err);
/* Makes snapshots when they are due, from now on. */
int snapshot_start(struct storage *storage);
/* Volumes, policies or pools have changed: looks again when the next one is due. */
void snapshot_look(struct storage *storage);
/* Seconds until the next one is due, 0: now. Times that lie ahead of `now`, by a clock set wrong, do not count. */
uint64_t snapshot_due(const struct snapshot_policy *policy, int64_t born,
                      const struct snapshot *snapshots, size_t count, int64_t now);

/* ---- snapshot_methods.c: varlink ---- */
void snapshot_method_make(struct varlink_call *call, yyjson_val *params, void *data);
void snapshot_method_list(struct varlink_call *call, yyjson_val *params, void *data);
void snapshot_method_remove(struct varlink_call *call, yyjson_val *params, void *data);
void snapshot_method_restore(struct varlink_call *call, yyjson_val *params, void *data);
