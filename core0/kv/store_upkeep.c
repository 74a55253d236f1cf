/*
 * store_upkeep.c - what is done once a second: compaction where it pays, slots and snapshots, marks.
 */
#include "kv/store_internal.h"

#define SNAPSHOT_MIN (64ull << 20) /* bytes of log that are worth a new snapshot */

/* Complete segments that nobody has synced: without a policy that syncs, that is done here. */
static bool has_unsynced_end(const struct namespace *ns)
{
    for (uint32_t i = ns->segment_count; i > 0; i--) {
        const struct segment *segment = ns->segments[i - 1];

        if (segment->sealed)
            return segment->synced < segment->size; /* they are synced in their order */
    }
    return false;
}

static void upkeep(struct namespace *ns)
{
    uint64_t since, cost;
    bool idle, is_old, is_unsynced;

    pthread_mutex_lock(&ns->lock);
    since = ns->since_snapshot;
    cost = ns->index != NULL ? index_count(ns->index) * 40 : 0;
    idle = ++ns->idle_ticks > 60;
    is_old = ns->swapped && ++ns->snapshot_ticks > 60; /* the last one is of no use any more */
    /* A writer that waits for compaction waits for this too. */
    is_unsynced =
        (ns->store->options.sync == STORE_SYNC_NONE || ns->crowded) && has_unsynced_end(ns);
    if (idle) /* its newest records leave the memory to others */
        chunks_drop(ns, true);
    pthread_mutex_unlock(&ns->lock);
    if (is_unsynced)
        namespace_sync(ns);
    namespace_compact_best(ns);
    slots_flush(ns, false);
    if (is_old || (since > SNAPSHOT_MIN && since > 4 * cost))
        snapshot_save(ns);
}

int store_tick(struct store *store)
{
    uint32_t after = 0;

    if (atomic_load(&store->failed) != 0)
        return STORE_DISK_FAILED;
    for (;;) {
        struct namespace *ns = store_namespace_after(store, after);

        if (ns == NULL)
            break;
        after = ns->d.id;
        if (!ns->descriptor_damaged && pthread_mutex_trylock(&ns->upkeep) == 0) {
            upkeep(ns);
            pthread_mutex_unlock(&ns->upkeep);
        }
        store_mark(ns);
        store_namespace_put(ns);
        if (store->stopping)
            break;
    }
    return atomic_load(&store->failed);
}
