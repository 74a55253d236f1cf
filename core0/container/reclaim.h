/*
 * reclaim.h - memory cgroups that were removed, and that the kernel keeps for a page in its caches.
 *
 * A removed memory cgroup lives on ("dying") until the last page that is charged to it leaves the caches. Pages of files leave them only when
 * memory is short, and blocks of btrfs's trees not even when caches are dropped by hand: on a node that has memory to spare one stays
 * behind for every few changes, at some 29 KB each. So contd looks once a minute, and when there are more than may be, has the
 * kernel reclaim a little from all of ours. That may also take pages of who is alive, but never more than was asked for: they are
 * read again (kernel: Documentation/admin-guide/cgroup-v2.rst, memory.reclaim and nr_dying_subsys_<name>).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "container/worker.h"

#define RECLAIM_EVERY_US ((uint64_t)60 * 1000000)
#define RECLAIM_KEPT 16                   /* so many removed ones may stay */
#define RECLAIM_BYTES ((size_t)512 << 10) /* of one time: all that it may cost who is alive */

struct reclaim;

/* folder: of the cgroup below which all of ours are; it lives as long as the result. 0 or -errno. */
int reclaim_start(struct loop *loop, const char *folder, struct reclaim **ret_reclaim);
/* Number of removed cgroups in the text of a cgroup.stat; 0 where the kernel does not tell. */
uint64_t reclaim_dying(const char *stat);
