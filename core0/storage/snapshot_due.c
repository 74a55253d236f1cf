/*
 * snapshot_due.c - when the next snapshot of a policy is due: from nothing but the age of the last one; see snapshot.h.
 */
#include "snapshot.h"

uint64_t snapshot_due(const struct snapshot_policy *policy, int64_t born,
                      const struct snapshot *snapshots, size_t count, int64_t now)
{
    int64_t last = born <= now ? born : 0;
    int64_t every = (int64_t)((policy->every_ms + 999) / 1000);
    for (size_t i = 0; i < count; i++)
        if (snapshots[i].automatic && snapshots[i].time <= now && snapshots[i].time > last)
            last = snapshots[i].time;
    return last + every > now ? (uint64_t)(last + every - now) : 0;
}
