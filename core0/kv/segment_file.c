/*
 * segment_file.c - the descriptors of segments: open while somebody needs them, and a bounded number beyond.
 *
 * A store may have more segments than a process may have descriptors. So the descriptor of a segment is
 * opened when it is needed, and closed again when too many are open and nobody holds it: the one that was not
 * used since the hand of the clock came by last.
 *
 * Invariants
 *  D1  Who reads or writes a segment's file holds it. A hold costs one atomic addition while the
 *      descriptor is open.
 *  D2  Bytes that were written and are not synced keep a hold (`keeps_open`): a descriptor that is closed before its
 *      sync would lose the kernel's word of what failed.
 *  D3  A compaction holds what it will unlink for as long as readers may have a reference. FLUSH and NSDEL do
 *      not: their readers may find -ENOENT, and then the segment no longer in the namespace.
 */
#include "kv/store_internal.h"

#include <errno.h>

#define CLOSING 0x80000000u /* in `holds`: the descriptor is being closed, under files->lock */

static void ring_add(struct segment_files *files, struct segment *segment)
{
    if (files->hand == NULL) {
        segment->ring_next = segment->ring_before = segment;
        files->hand = segment;
    } else {
        segment->ring_next = files->hand;
        segment->ring_before = files->hand->ring_before;
        segment->ring_before->ring_next = segment;
        files->hand->ring_before = segment;
    }
    files->count++;
}

static void ring_remove(struct segment_files *files, struct segment *segment)
{
    segment->ring_before->ring_next = segment->ring_next;
    segment->ring_next->ring_before = segment->ring_before;
    if (files->hand == segment)
        files->hand = segment->ring_next == segment ? NULL : segment->ring_next;
    files->count--;
}

/* Closes what nobody holds until fewer than `most` are open, or all are held. files->lock held. */
static void make_room(struct store *store, uint32_t most)
{
    struct segment_files *files = &store->files;

    for (uint32_t looks = files->count * 2;
         looks > 0 && files->hand != NULL && files->count >= most; looks--) {
        struct segment *segment = files->hand;
        unsigned nobody = 0;

        files->hand = segment->ring_next;
        if (atomic_exchange(&segment->used, false) ||
            !atomic_compare_exchange_strong(&segment->holds, &nobody, CLOSING))
            continue;
        ring_remove(files, segment);
        store->io->close(store->io, segment->fd);
        segment->fd = -1;
        atomic_fetch_sub(&segment->holds, CLOSING);
    }
}

static int open_file(struct namespace *ns, struct segment *segment)
{
    struct store *store = ns->store;
    char path[PATH_LEN];
    int fd;

    make_room(store, store->files.limit);
    segment_path(ns, segment->id, "seg", path);
    fd = store->io->open(store->io, path, IO_WRITE);
    if (fd == -EMFILE || fd == -ENFILE) { /* others have them: with fewer of ours it may do */
        make_room(store, store->files.count / 2 + 1);
        fd = store->io->open(store->io, path, IO_WRITE);
    }
    if (fd >= 0) {
        segment->fd = fd;
        ring_add(&store->files, segment);
    }
    return fd;
}

int segment_hold(struct namespace *ns, struct segment *segment)
{
    unsigned before = atomic_fetch_add(&segment->holds, 1);
    int fd = segment->fd;

    if (!atomic_load_explicit(&segment->used, memory_order_relaxed))
        atomic_store_explicit(&segment->used, true, memory_order_relaxed);
    if ((before & CLOSING) == 0 && fd >= 0)
        return fd;
    pthread_mutex_lock(&ns->store->files.lock);
    fd = segment->fd >= 0 ? segment->fd : open_file(ns, segment);
    pthread_mutex_unlock(&ns->store->files.lock);
    if (fd < 0)
        segment_release(segment);
    return fd;
}

void segment_release(struct segment *segment)
{
    atomic_fetch_sub(&segment->holds, 1);
}

void segment_settle(struct store *store, struct segment *segment)
{
    segment_release(segment);
    pthread_mutex_lock(&store->files.lock);
    make_room(store, store->files.limit + 1);
    pthread_mutex_unlock(&store->files.lock);
}

int segment_create_file(struct namespace *ns, struct segment *segment, const char *ending)
{
    struct store *store = ns->store;
    char path[PATH_LEN];
    int fd;

    segment_path(ns, segment->id, ending, path);
    pthread_mutex_lock(&store->files.lock);
    make_room(store, store->files.limit);
    fd = store->io->open(store->io, path, IO_WRITE | IO_CREATE);
    if (fd >= 0) {
        atomic_fetch_add(&segment->holds, 1);
        segment->fd = fd;
        ring_add(&store->files, segment);
    }
    pthread_mutex_unlock(&store->files.lock);
    return fd;
}

void segment_close(struct store *store, struct segment *segment)
{
    int fd;

    pthread_mutex_lock(&store->files.lock);
    fd = segment->fd;
    if (fd >= 0)
        ring_remove(&store->files, segment);
    segment->fd = -1;
    pthread_mutex_unlock(&store->files.lock);
    /* Not under the lock, which a writer wants for its next segment: the last close of a file that was unlinked frees all that
     * the page cache has of it, milliseconds for each 16 MiB. */
    if (fd >= 0)
        store->io->close(store->io, fd);
}

bool segment_is_retired(struct namespace *ns, const struct segment *segment)
{
    bool is_retired;

    pthread_mutex_lock(&ns->lock);
    is_retired = ns->gone || namespace_segment(ns, segment->id) != segment;
    pthread_mutex_unlock(&ns->lock);
    return is_retired;
}
