/*
 * btrfs.h - what storaged asks of btrfs: subvolumes and their size limits, by ioctl (linux/btrfs.h).
 *
 * A limit hangs on a quota group of level 1 that holds the subvolume. With simple quotas (Linux 6.7) a subvolume that
 * is made inside it joins the same group, so that nothing made within a volume escapes its limit. A byte counts for the
 * subvolume that wrote it, also after that is gone, as long as anything (a snapshot) still has it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Bytes that a snapshot of anything costs at once: the root of its tree. */
#define BTRFS_SNAPSHOT_COST ((uint64_t)16384)

/* Answers 0 or -errno, like everything here. Already on: 0. */
int btrfs_quota_enable(int pool_fd);

/* Makes the subvolume `name` in the folder dir_fd. -EEXIST when there is one. */
int btrfs_subvolume_create(int dir_fd, const char *name);
/* Removes the subvolume `name` and those inside it. Its space is freed in the background. -ENOENT, -ENOTTY: none. */
int btrfs_subvolume_remove(int dir_fd, const char *name);
/* The id of the subvolume whose root is open as fd. -ENOTTY: fd is not a subvolume's root. */
int btrfs_subvolume_id(int fd, uint64_t *ret_id);

/*
 * Makes a snapshot of the subvolume open as source_fd. It belongs to no group yet: Linux 6.8 to 6.12 count a tree block twice
 * when the group is named here (qgroup_snapshot_quick_inherit), so that it has to join afterwards.
 */
int btrfs_snapshot_create(int source_fd, int dir_fd, const char *name, bool read_only);
/* When it was made: Unix seconds. */
int btrfs_subvolume_time(int fd, int64_t *ret_time);

/* The group with the limit of the subvolume `id`. -ENOENT: it has none. */
int btrfs_group_find(int pool_fd, uint64_t id, uint64_t *ret_group);
/* Makes a snapshot count under that limit. Again: 0. */
int btrfs_group_join(int pool_fd, uint64_t id, uint64_t group);
/* Limits what the subvolume `id` and all inside it may hold. `bytes` is a volume's size as its user counts it. */
int btrfs_limit_set(int pool_fd, uint64_t id, uint64_t bytes);
/* Bytes used under the limit, and the limit as it was given to btrfs_limit_set. -ENOENT: no such group. */
int btrfs_limit_get(int pool_fd, uint64_t id, uint64_t *ret_used, uint64_t *ret_limit);
/* Bytes that all subvolumes of the pool hold, the removed ones with what is left of them included. */
int btrfs_used(int pool_fd, uint64_t *ret_used);
/* All changes of folders, descriptions and groups so far are on the disk. Unlike syncfs(2) it waits for nobody's data: a file that
 * is not written yet is a file that is not written yet. */
int btrfs_commit(int fd);
/* Lets the space of removed subvolumes be freed now, and removes groups of those that are gone for good. */
int btrfs_limit_sweep(int pool_fd);
