/*
 * store_commit.c - from the buffers to the disk: flush, group commit, and the threads that do it.
 *
 * Invariants
 *  C1  A ticket is given while its namespace is on the list of dirty ones. So who reads the highest
 *      ticket, then takes the list and writes out every namespace on it, has written all tickets up to
 *      that one.
 *  C2  `answered` never moves past a ticket whose record is not where the policy wants it.
 *  C3  A sync that failed is never tried again: what it did not save, no later one reports (the kernel
 *      has marked the pages clean). The store is read-only from then on, and `answered` stays.
 */
#include "kv/store_internal.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t store_ticket(struct namespace *ns)
{
    struct store *store = ns->store;

    if (!ns->is_dirty) {
        pthread_mutex_lock(&store->lists);
        ns->is_dirty = true;
        ns->next_dirty = store->dirty;
        store->dirty = store_namespace_ref(ns);
        pthread_mutex_unlock(&store->lists);
    }
    ns->last_ticket = atomic_fetch_add(&store->tickets, 1) + 1;
    return ns->last_ticket;
}

static void answered_raise(struct store *store, uint64_t to)
{
    uint64_t now = atomic_load(&store->answered);

    while (now < to && !atomic_compare_exchange_weak(&store->answered, &now, to)) {
    }
}

static void unsynced_add(struct store *store, struct namespace *ns)
{
    pthread_mutex_lock(&store->lists);
    if (ns->is_unsynced) {
        pthread_mutex_unlock(&store->lists);
        store_namespace_put(ns);
        return;
    }
    ns->is_unsynced = true;
    ns->next_unsynced = store->unsynced;
    store->unsynced = ns; /* with the reference of the other list */
    pthread_mutex_unlock(&store->lists);
}

/* Writes out all that is buffered; *ret: the tickets up to which that is all. */
static int flush_all(struct store *store, uint64_t *ret)
{
    struct namespace *list, *ns;
    uint64_t reached;
    int failed = 0;

    pthread_mutex_lock(&store->submitting);
    reached = atomic_load(&store->tickets);
    pthread_mutex_lock(&store->lists);
    list = store->dirty;
    store->dirty = NULL;
    pthread_mutex_unlock(&store->lists);
    while ((ns = list) != NULL) {
        list = ns->next_dirty;
        /* No longer on the list: under its lock, as store_ticket() looks. */
        pthread_mutex_lock(&ns->lock);
        ns->is_dirty = false;
        pthread_mutex_unlock(&ns->lock);
        pthread_mutex_lock(&ns->write);
        if (failed == 0)
            failed = namespace_write_out(ns);
        pthread_mutex_unlock(&ns->write);
        unsynced_add(store, ns);
    }
    pthread_mutex_unlock(&store->submitting);
    if (failed == 0)
        *ret = reached;
    return failed;
}

/* Syncs what was written so far. */
static int sync_segments(struct namespace *ns)
{
    struct store *store = ns->store;

    for (;;) {
        struct segment *segment = NULL;
        struct timespec start, end;
        uint64_t written = 0;
        bool settled;
        int failed;

        pthread_mutex_lock(&ns->lock);
        for (uint32_t i = ns->segment_count; i > 0; i--) { /* the oldest that is not synced */
            struct segment *before = ns->segments[i - 1];

            if (before->synced < before->written)
                segment = before;
            else if (before->sealed && before->synced == before->size)
                break;
        }
        if (segment == NULL || ns->gone) {
            uint32_t count = ns->segment_count;

            /* Segments are synced in their order: what the one before has, all before it have. */
            ns->earlier_synced =
                count < 2 || ns->segments[count - 2]->synced == ns->segments[count - 2]->size;
            pthread_mutex_unlock(&ns->lock);
            return 0;
        }
        written = segment->written;
        atomic_fetch_add(&segment->refs, 1);
        pthread_mutex_unlock(&ns->lock);
        if (atomic_load(&store->failed) != 0) {
            segment_put(ns, segment);
            return STORE_DISK_FAILED;
        }
        clock_gettime(CLOCK_MONOTONIC, &start);
        failed = store->io->sync(store->io, segment->fd); /* kept open (D2) */
        clock_gettime(CLOCK_MONOTONIC, &end);
        atomic_fetch_add(&store->syncs, 1);
        atomic_fetch_add(&store->sync_usec, (uint64_t)((end.tv_sec - start.tv_sec) * 1000000 +
                                                       (end.tv_nsec - start.tv_nsec) / 1000));
        if (failed < 0) {
            char path[PATH_LEN];

            segment_path(ns, segment->id, "seg", path);
            segment_put(ns, segment);
            return store_fail(store, "sync", path, failed);
        }
        pthread_mutex_lock(&ns->lock);
        if (segment->synced < written)
            segment->synced = written;
        settled = segment->keeps_open && segment->synced == segment->written;
        if (settled)
            segment->keeps_open = false;
        pthread_mutex_unlock(&ns->lock);
        if (settled)
            segment_settle(store, segment);
        segment_put(ns, segment);
    }
}

int namespace_sync(struct namespace *ns)
{
    int failed;

    pthread_mutex_lock(&ns->write);
    failed = namespace_write_out(ns);
    pthread_mutex_unlock(&ns->write);
    return failed < 0 ? failed : sync_segments(ns);
}

int store_commit(struct store *store)
{
    struct namespace *list, *ns;
    uint64_t reached = 0;
    int failed;

    pthread_mutex_lock(&store->committing);
    failed = flush_all(store, &reached);
    pthread_mutex_lock(&store->lists);
    list = store->unsynced;
    store->unsynced = NULL;
    for (ns = list; ns != NULL; ns = ns->next_unsynced) {
        ns->next_here = ns->next_unsynced; /* it may go onto the list again meanwhile */
        ns->is_unsynced = false;
    }
    pthread_mutex_unlock(&store->lists);
    for (ns = list; ns != NULL && failed == 0; ns = ns->next_here)
        failed = sync_segments(ns);
    if (atomic_load(&store->failed) != 0)
        failed = STORE_DISK_FAILED;
    if (failed == 0 && reached > atomic_load(&store->answered)) {
        answered_raise(store, reached);
        store_notify_all(store);
    }
    while ((ns = list) != NULL) {
        list = ns->next_here;
        if (failed == 0)
            namespace_prepare(ns);
        store_namespace_put(ns);
    }
    pthread_mutex_unlock(&store->committing);
    return failed < 0 ? STORE_DISK_FAILED : 0;
}

int store_submit(struct store *store)
{
    uint64_t reached;
    int failed;

    if (atomic_load(&store->failed) != 0)
        return STORE_DISK_FAILED;
    if (atomic_load(&store->tickets) == atomic_load(&store->answered))
        return 0;
    if (store->options.sync == STORE_SYNC_ALWAYS) {
        pthread_mutex_lock(&store->wake_lock);
        store->commit_wanted = true;
        pthread_cond_signal(&store->wake_committer);
        pthread_mutex_unlock(&store->wake_lock);
        return 0;
    }
    failed = flush_all(store, &reached);
    if (failed == 0)
        answered_raise(store, reached);
    return failed;
}

int store_answered(struct store *store, uint64_t *ret)
{
    int failed = atomic_load(&store->failed); /* before: what is read afterwards was answered */

    *ret = atomic_load(&store->answered);
    return failed;
}

/* ---- who waits for it ------------------------------------------------------------------------- */

int store_notify(struct store *store, int eventfd)
{
    int failed = 0;

    pthread_mutex_lock(&store->lists);
    if (store->notify_count == NOTIFY_MAX)
        failed = STORE_NO_MEMORY;
    else
        store->notify[store->notify_count++] = eventfd;
    pthread_mutex_unlock(&store->lists);
    return failed;
}

void store_notify_remove(struct store *store, int eventfd)
{
    pthread_mutex_lock(&store->lists);
    for (uint32_t i = 0; i < store->notify_count; i++)
        if (store->notify[i] == eventfd) {
            store->notify[i] = store->notify[--store->notify_count];
            break;
        }
    pthread_mutex_unlock(&store->lists);
}

void store_notify_all(struct store *store)
{
    pthread_mutex_lock(&store->lists);
    for (uint32_t i = 0; i < store->notify_count; i++) {
        uint64_t one = 1;
        ssize_t n = write(store->notify[i], &one, sizeof(one)); /* full: it is readable already */

        (void)n;
    }
    pthread_mutex_unlock(&store->lists);
}

/* ---- threads ---------------------------------------------------------------------------------- */

static struct timespec in_a_second(void)
{
    struct timespec when;

    clock_gettime(CLOCK_MONOTONIC, &when);
    when.tv_sec++;
    return when;
}

/* Lets those who have just been answered come back, so that one sync serves all of them: until there are as
 * many as last time, but not longer than an eighth of what a sync takes. wake_lock held. */
static void gather(struct store *store, uint64_t last_count, uint64_t last_usec)
{
    uint64_t wait = last_usec / 8 > 1000 ? 1000 : last_usec / 8;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(wait * 1000);
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (!store->stopping &&
           atomic_load(&store->tickets) - atomic_load(&store->answered) < last_count &&
           pthread_cond_timedwait(&store->wake_committer, &store->wake_lock, &until) == 0) {
    }
}

static void *committer_run(void *ctx)
{
    struct store *store = ctx;
    bool always = store->options.sync == STORE_SYNC_ALWAYS;
    struct timespec due = in_a_second();
    uint64_t last_count = 0, last_usec = 0;

    pthread_mutex_lock(&store->wake_lock);
    while (!store->stopping) {
        uint64_t answered, usec;

        if (always && !store->commit_wanted) {
            pthread_cond_wait(&store->wake_committer, &store->wake_lock);
            continue;
        }
        if (!always &&
            pthread_cond_timedwait(&store->wake_committer, &store->wake_lock, &due) != ETIMEDOUT)
            continue;
        if (always && last_count > 1)
            gather(store, last_count, last_usec);
        store->commit_wanted = false;
        pthread_mutex_unlock(&store->wake_lock);
        answered = atomic_load(&store->answered);
        usec = atomic_load(&store->sync_usec);
        store_commit(store); /* its failure is sticky, and told by store_answered() */
        last_count = atomic_load(&store->answered) - answered;
        last_usec = atomic_load(&store->sync_usec) - usec;
        due = in_a_second();
        pthread_mutex_lock(&store->wake_lock);
    }
    pthread_mutex_unlock(&store->wake_lock);
    return NULL;
}

void store_keep_soon(struct store *store)
{
    pthread_mutex_lock(&store->wake_lock);
    store->keep_wanted = true;
    pthread_cond_signal(&store->wake_keeper);
    pthread_mutex_unlock(&store->wake_lock);
}

static void *keeper_run(void *ctx)
{
    struct store *store = ctx;
    struct timespec due = in_a_second();

    pthread_mutex_lock(&store->wake_lock);
    while (!store->stopping) {
        if (!store->keep_wanted &&
            pthread_cond_timedwait(&store->wake_keeper, &store->wake_lock, &due) != ETIMEDOUT)
            continue;
        store->keep_wanted = false;
        pthread_mutex_unlock(&store->wake_lock);
        store_tick(store);
        due = in_a_second();
        pthread_mutex_lock(&store->wake_lock);
    }
    pthread_mutex_unlock(&store->wake_lock);
    return NULL;
}

int store_threads_start(struct store *store)
{
    int failed = 0;

    if (store->options.sync != STORE_SYNC_NONE) {
        failed = pthread_create(&store->committer, NULL, committer_run, store);
        store->has_committer = failed == 0;
    }
    if (failed == 0) {
        failed = pthread_create(&store->keeper, NULL, keeper_run, store);
        store->has_keeper = failed == 0;
    }
    if (failed != 0)
        store_threads_stop(store);
    return -failed;
}

void store_threads_stop(struct store *store)
{
    pthread_mutex_lock(&store->wake_lock);
    store->stopping = true;
    pthread_cond_broadcast(&store->wake_committer);
    pthread_cond_broadcast(&store->wake_keeper);
    pthread_mutex_unlock(&store->wake_lock);
    if (store->has_committer)
        pthread_join(store->committer, NULL);
    if (store->has_keeper)
        pthread_join(store->keeper, NULL);
    store->has_committer = store->has_keeper = false;
}
