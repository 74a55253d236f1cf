/*
 * store_buffer.c - the end of the log: records on their way to the active segment's file, and room there.
 *
 *   record --(ns->lock)--> chunk --(store_submit: ns->write)--> file --(commit)--> synced
 *
 * Invariants
 *  W1  Position and number are given under ns->lock, together with the entry in the index: the order of
 *      records in the file is the order in which readers saw them.
 *  W2  Bytes of a chunk do not change once they are appended: they are written without the lock.
 *  W3  A record that was given a place has space claimed for it: a full disk is met before a write
 *      is accepted. When the write fails all the same, memory and disk disagree: store_fail().
 */
#include "kv/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WRITE_PARTS 64
#define STEP_MIN (64u << 10) /* of claiming space */
#define STEP_MAX (16u << 20)
#define STEP_ALWAYS (1u << 20) /* where it is filled with zeros */

/* ---- chunks ----------------------------------------------------------------------------------- */

static uint64_t chunk_size(const struct chunk *chunk)
{
    return (uint64_t)chunk->len + chunk->external_len + chunk->pad;
}

static void chunk_free(struct store *store, struct chunk *chunk)
{
    if (chunk->external == NULL) {
        atomic_fetch_sub(&store->cache_bytes, store->chunk_size);
        pthread_mutex_lock(&store->lists);
        if (store->free_count < sizeof(store->free_chunks) / sizeof(store->free_chunks[0])) {
            store->free_chunks[store->free_count++] = chunk;
            chunk = NULL;
        }
        pthread_mutex_unlock(&store->lists);
    }
    free(chunk);
}

void chunks_drop(struct namespace *ns, bool all)
{
    struct store *store = ns->store;

    if (all && ns->chunk_unwritten + 1 == ns->chunk_end &&
        ns->chunks[ns->chunk_unwritten]->done == chunk_size(ns->chunks[ns->chunk_unwritten]))
        ns->chunk_unwritten++;
    while (ns->chunk_first < ns->chunk_unwritten &&
           (all || atomic_load(&store->cache_bytes) > store->options.cache))
        chunk_free(store, ns->chunks[ns->chunk_first++]);
}

/* A chunk at the end of the list; `external_head` bytes of room, 0: a usual one. */
static struct chunk *chunk_add(struct namespace *ns, uint32_t segment, uint64_t start,
                               uint32_t external_head)
{
    struct store *store = ns->store;
    struct chunk *chunk = NULL;

    if (ns->chunk_end == ns->chunk_room && ns->chunk_first > ns->chunk_room / 2) {
        memmove(ns->chunks, ns->chunks + ns->chunk_first,
                (ns->chunk_end - ns->chunk_first) * sizeof(struct chunk *));
        ns->chunk_end -= ns->chunk_first;
        ns->chunk_unwritten -= ns->chunk_first;
        ns->chunk_first = 0;
    }
    if (ns->chunk_end == ns->chunk_room) {
        uint32_t room = ns->chunk_room * 2 + 8;
        struct chunk **chunks = realloc(ns->chunks, room * sizeof(struct chunk *));

        if (chunks == NULL)
            return NULL;
        ns->chunks = chunks;
        ns->chunk_room = room;
    }
    if (external_head == 0) {
        pthread_mutex_lock(&store->lists);
        if (store->free_count > 0)
            chunk = store->free_chunks[--store->free_count];
        pthread_mutex_unlock(&store->lists);
    }
    if (chunk == NULL)
        chunk = malloc(sizeof(*chunk) + (external_head > 0 ? external_head : store->chunk_size));
    if (chunk == NULL)
        return NULL;
    *chunk = (struct chunk){.segment = segment, .start = start};
    if (external_head == 0)
        atomic_fetch_add(&store->cache_bytes, store->chunk_size);
    ns->chunks[ns->chunk_end++] = chunk;
    return chunk;
}

const uint8_t *chunk_find(const struct namespace *ns, uint32_t segment, uint64_t offset,
                          uint64_t size)
{
    uint32_t low = ns->chunk_first, high = ns->chunk_end;
    const struct chunk *chunk;

    while (low < high) { /* the first chunk behind the offset: ids of active segments rise */
        uint32_t middle = low + (high - low) / 2;

        chunk = ns->chunks[middle];
        if (chunk->segment > segment || (chunk->segment == segment && chunk->start > offset))
            high = middle;
        else
            low = middle + 1;
    }
    if (low == ns->chunk_first)
        return NULL;
    chunk = ns->chunks[low - 1];
    if (chunk->segment != segment || chunk->external != NULL ||
        offset + size > chunk->start + chunk->len)
        return NULL;
    return chunk->data + (offset - chunk->start);
}

/* ---- appending -------------------------------------------------------------------------------- */

static struct chunk *chunk_for(struct namespace *ns, struct segment *segment, uint64_t size)
{
    struct chunk *chunk = ns->chunk_end > ns->chunk_first ? ns->chunks[ns->chunk_end - 1] : NULL;

    if (chunk != NULL && chunk->segment == segment->id && chunk->external == NULL &&
        chunk->start + chunk->len == segment->size && chunk->len + size <= ns->store->chunk_size)
        return chunk;
    return chunk_add(ns, segment->id, segment->size, 0);
}

int namespace_append(struct namespace *ns, struct segment *segment, struct record *record,
                     const void *key, const void *value, bool external)
{
    struct record_position at = {
        .identity = ns->identity, .segment = segment->id, .offset = segment->size};
    uint64_t size = record_size(record->key_len, record->value_len);
    uint32_t pad = (uint32_t)(size - RECORD_HEADER - record->key_len - record->value_len);
    struct chunk *chunk;
    uint8_t *out;

    chunk = external ? chunk_add(ns, segment->id, segment->size, RECORD_HEAD_MAX + 8)
                     : chunk_for(ns, segment, size);
    if (chunk == NULL)
        return -ENOMEM;
    record->synced = (uint32_t)(segment->synced / 8);
    record->earlier_synced = ns->earlier_synced;
    out = chunk->data + chunk->len;
    record_encode(record, key, &at, out);
    if (record->key_len > 0)
        memcpy(out + RECORD_HEADER, key, record->key_len);
    if (external) {
        chunk->external = value;
        chunk->external_len = record->value_len;
        chunk->pad = pad;
        chunk->len = RECORD_HEADER + record->key_len;
        memset(chunk->data + chunk->len, 0, 8);
    } else {
        if (record->value_len > 0)
            memcpy(out + RECORD_HEADER + record->key_len, value, record->value_len);
        memset(out + size - pad, 0, pad);
        chunk->len += (uint32_t)size;
    }
    segment_note(segment, record->number, segment->size);
    segment->size += size;
    ns->marked = record->kind >= RECORD_MARK;
    ns->number = record->number;
    ns->since_snapshot += size;
    ns->idle_ticks = 0;
    return 0;
}

/* The caller's memory ends with its call: only who holds ns->write has a chunk that points to it. */
static void chunks_drop_external(struct namespace *ns, bool only_written)
{
    uint32_t to = ns->chunk_unwritten;

    for (uint32_t i = to; i < ns->chunk_end; i++) {
        const struct chunk *chunk = ns->chunks[i];

        if (chunk->external != NULL && (!only_written || chunk->done == chunk_size(chunk)))
            chunk_free(ns->store, ns->chunks[i]);
        else
            ns->chunks[to++] = ns->chunks[i];
    }
    ns->chunk_end = to;
}

int namespace_write_out(struct namespace *ns)
{
    struct store *store = ns->store;

    for (;;) {
        struct iovec parts[WRITE_PARTS];
        struct segment *segment = NULL;
        uint64_t offset = 0, len = 0;
        uint32_t last;
        int count = 0, fd, failed;

        pthread_mutex_lock(&ns->lock);
        for (last = ns->chunk_unwritten; last < ns->chunk_end && count + 3 <= WRITE_PARTS; last++) {
            struct chunk *chunk = ns->chunks[last];

            if (chunk->done == chunk_size(chunk))
                continue;
            if (segment == NULL) {
                segment = namespace_segment(ns, chunk->segment);
                offset = chunk->start + chunk->done;
            } else if (segment->id != chunk->segment) {
                break;
            }
            parts[count++] = (struct iovec){.iov_base = chunk->data + chunk->done,
                                            .iov_len = chunk->len - chunk->done};
            if (chunk->external != NULL) {
                parts[count++] = (struct iovec){.iov_base = io_base(chunk->external),
                                                .iov_len = chunk->external_len};
                parts[count++] =
                    (struct iovec){.iov_base = chunk->data + chunk->len, .iov_len = chunk->pad};
            }
            len += chunk_size(chunk) - chunk->done;
        }
        if (segment != NULL)
            atomic_fetch_add(&segment->refs, 1);
        pthread_mutex_unlock(&ns->lock);
        if (segment == NULL)
            return 0;
        fd = segment_hold(ns, segment);
        failed = fd < 0 ? fd : atomic_load(&store->failed) != 0 ? -EIO : 0;
        if (failed == 0)
            failed = store->io->write(store->io, fd, parts, count, offset);
        if (failed < 0) {
            char path[PATH_LEN];

            if (fd >= 0)
                segment_release(segment);
            segment_path(ns, segment->id, "seg", path);
            pthread_mutex_lock(&ns->lock);
            chunks_drop_external(ns, false);
            pthread_mutex_unlock(&ns->lock);
            segment_put(ns, segment);
            return store_fail(store, "write", path, failed);
        }
        atomic_fetch_add(&store->written_bytes, len);
        pthread_mutex_lock(&ns->lock);
        segment->written = offset + len;
        if (segment->keeps_open)
            segment_release(segment);
        segment->keeps_open = true; /* until it is synced */
        for (uint32_t i = ns->chunk_unwritten; i < last; i++) {
            uint64_t part = chunk_size(ns->chunks[i]) - ns->chunks[i]->done;

            part = part < len ? part : len; /* the last one may have grown meanwhile */
            ns->chunks[i]->done += (uint32_t)part;
            len -= part;
        }
        chunks_drop_external(ns, true);
        while (ns->chunk_unwritten + 1 < ns->chunk_end &&
               ns->chunks[ns->chunk_unwritten]->done == chunk_size(ns->chunks[ns->chunk_unwritten]))
            ns->chunk_unwritten++;
        chunks_drop(ns, false);
        pthread_mutex_unlock(&ns->lock);
        segment_put(ns, segment);
    }
}

/* ---- room ------------------------------------------------------------------------------------- */

uint64_t namespace_claimed(const struct namespace *ns)
{
    uint64_t sum = ns->slots != NULL ? (uint64_t)slots_file_size(ns->slots) : ns->index_disk;

    for (uint32_t i = 0; i < ns->segment_count; i++) {
        const struct segment *segment = ns->segments[i];

        sum += segment->allocated > segment->size ? segment->allocated : segment->size;
    }
    return sum;
}

uint64_t namespace_share(const struct namespace *ns, bool is_delete)
{
    uint64_t whole = ns->d.properties.maxdisk, segment = ns->store->options.segment_size;
    uint64_t kept = is_delete ? segment : segment + segment / 2;

    return whole - (kept < whole / 2 ? kept : whole / 2);
}

/* How much of a step the namespace's own share allows: at least `need`, or why not. */
static int share_step(struct namespace *ns, uint64_t need, bool is_delete, uint64_t *step)
{
    uint64_t claimed, share;
    bool can = false;

    pthread_mutex_lock(&ns->lock);
    share = ns->d.properties.maxdisk == 0 ? UINT64_MAX : namespace_share(ns, is_delete);
    claimed = share == UINT64_MAX ? 0 : namespace_claimed(ns);
    if (claimed > share || need > share - claimed) {
        ns->crowded = true;
        can = namespace_can_compact(ns);
    }
    pthread_mutex_unlock(&ns->lock);
    if (claimed > share || need > share - claimed) {
        if (can)
            store_keep_soon(ns->store);
        return can ? STORE_CROWDED : STORE_NO_SPACE;
    }
    if (*step > share - claimed)
        *step = need;
    return 0;
}

/* How far to claim space so that `need` bytes fit: 0 and *ret, or STORE_NO_SPACE. As much again as the
 * segment has: a small namespace takes little, and a large one asks seldom. */
static int space_step(struct namespace *ns, uint64_t has, uint64_t need, bool is_delete,
                      uint64_t *ret)
{
    struct store *store = ns->store;
    uint64_t step = has < STEP_MIN ? STEP_MIN : has, free_bytes, total, reserve;
    uint64_t most = store->options.sync == STORE_SYNC_ALWAYS ? STEP_ALWAYS : STEP_MAX;
    int failed = store->io->space(store->io, store->data, &free_bytes, &total);

    if (failed < 0)
        return STORE_DISK_FAILED;
    if (step > most)
        step = most;
    if (step > store->options.segment_size / 4)
        step = store->options.segment_size / 4;
    if (step < need)
        step = need;
    /* A delete may use half of what is kept for compaction: it is how one makes space. */
    reserve = is_delete ? store->options.reserve / 2 : store->options.reserve;
    if (free_bytes < reserve + need)
        return STORE_NO_SPACE;
    *ret = free_bytes < reserve + step ? need : step;
    return share_step(ns, need, is_delete, ret);
}

/* Fills claimed space with zeros, so that a sync of records in it need not change the file's map and size:
 * 3 to 5 times as fast (docs/decisions/0085). */
static int zero_ahead(struct namespace *ns, const struct segment *segment, int fd, uint64_t from,
                      uint64_t len)
{
    static const uint8_t zeros[65536];
    struct store *store = ns->store;
    char path[PATH_LEN];
    int failed = 0;

    while (len > 0 && failed == 0) {
        struct iovec parts[16];
        uint64_t part = 0;
        int count = 0;

        for (; count < 16 && part < len; count++) {
            uint64_t size = len - part < sizeof(zeros) ? len - part : sizeof(zeros);

            parts[count] = (struct iovec){.iov_base = io_base(zeros), .iov_len = (size_t)size};
            part += size;
        }
        failed = store->io->write(store->io, fd, parts, count, from);
        from += part;
        len -= part;
    }
    if (failed == -ENOSPC || failed == -EDQUOT)
        return failed;
    if (failed == 0)
        failed = store->io->sync(store->io, fd);
    if (failed == 0)
        return 0;
    /* What a failed sync lost may be records that were written before. */
    segment_path(ns, segment->id, "seg", path);
    return store_fail(store, "writing ahead", path, failed);
}

/* Claims at least `need` more bytes for a segment. ns->write held. */
static int segment_claim(struct namespace *ns, struct segment *segment, uint64_t need,
                         bool is_delete)
{
    struct store *store = ns->store;
    uint64_t step = 0, from = segment->allocated;
    int failed = space_step(ns, from, need, is_delete, &step), fd;

    if (failed < 0)
        return failed;
    if (from + step > store->options.segment_size && from + need <= store->options.segment_size)
        step = store->options.segment_size - from;
    fd = segment_hold(ns, segment);
    if (fd < 0)
        return STORE_DISK_FAILED;
    failed = store->io->allocate(store->io, fd, from, step);
    if (failed == -EOPNOTSUPP) /* without it, the reserve is the margin */
        failed = 0;
    /* For a large record it would be the same bytes twice. */
    if (failed == 0 && store->options.sync == STORE_SYNC_ALWAYS && need <= CHUNK_SIZE)
        failed = zero_ahead(ns, segment, fd, from, step);
    segment_release(segment);
    if (failed == -ENOSPC || failed == -EDQUOT)
        return STORE_NO_SPACE;
    if (failed < 0)
        return STORE_DISK_FAILED;
    pthread_mutex_lock(&ns->lock);
    segment->allocated = from + step;
    pthread_mutex_unlock(&ns->lock);
    return 0;
}

void namespace_prepare(struct namespace *ns)
{
    struct store *store = ns->store;
    struct segment *active;
    bool is_short;

    if (store->options.sync != STORE_SYNC_ALWAYS)
        return;
    pthread_mutex_lock(&ns->write);
    pthread_mutex_lock(&ns->lock);
    active = ns->gone ? NULL : namespace_active(ns);
    is_short = active != NULL && active->allocated < store->options.segment_size &&
               active->allocated <
                   active->size + (active->size < STEP_ALWAYS ? active->size / 2 : STEP_ALWAYS / 2);
    pthread_mutex_unlock(&ns->lock);
    if (is_short) /* a full disk is told to the writer that meets it */
        segment_claim(ns, active, END_SIZE, false);
    pthread_mutex_unlock(&ns->write);
}

/* Makes the file of a new active segment: named durably, its header not yet written. */
static int segment_create(struct namespace *ns, uint64_t need, bool is_delete, struct segment **ret)
{
    struct store *store = ns->store;
    struct segment *segment;
    char path[PATH_LEN];
    int failed;

    pthread_mutex_lock(&ns->lock);
    segment = segment_new(ns->next_segment++);
    pthread_mutex_unlock(&ns->lock);
    if (segment == NULL)
        return STORE_NO_MEMORY;
    failed = segment_create_file(ns, segment, "seg");
    if (failed < 0) {
        segment_free(segment);
        return failed == -ENOSPC || failed == -EDQUOT ? STORE_NO_SPACE : STORE_DISK_FAILED;
    }
    segment->keeps_open = true;
    failed = segment_claim(ns, segment, need + SEGMENT_HEADER + END_SIZE, is_delete);
    if (failed == 0 && store->io->sync_dir(store->io, ns->folder) < 0)
        failed = STORE_DISK_FAILED;
    if (failed < 0) {
        segment_close(store, segment);
        segment_path(ns, segment->id, "seg", path);
        store->io->unlink(store->io, path);
        segment_free(segment);
        return failed;
    }
    *ret = segment;
    return 0;
}

/* The file becomes the active segment; the one before it ends. ns->lock held. */
static int segment_begin(struct namespace *ns, struct segment *segment)
{
    struct segment *before = namespace_active(ns);
    struct record end = {.kind = RECORD_END, .number = ns->number, .time = store_now()};
    struct chunk *chunk;

    segment->first = ns->number + 1;
    if (namespace_segment_add(ns, segment) < 0)
        return STORE_NO_MEMORY;
    if (before != NULL) {
        if (namespace_append(ns, before, &end, NULL, NULL, false) < 0) {
            namespace_segment_remove(ns, segment);
            return STORE_NO_MEMORY;
        }
        before->sealed = true;
        before->next = segment->first;
        ns->earlier_synced = false;
    }
    chunk = chunk_add(ns, segment->id, 0, 0);
    if (chunk == NULL) { /* without a header it cannot be used; the next try makes another */
        namespace_segment_remove(ns, segment);
        return STORE_NO_MEMORY;
    }
    segment_header_encode(segment, ns->identity, chunk->data);
    chunk->len = SEGMENT_HEADER;
    segment->size = SEGMENT_HEADER;
    return 0;
}

/* Gives back what was claimed and not used; only space is lost without. */
static void cut_claimed(struct namespace *ns, struct segment *segment)
{
    const struct io *io = ns->store->io;
    int fd = segment_hold(ns, segment);

    if (fd < 0)
        return;
    if (io->truncate(io, fd, segment->size) == 0) {
        pthread_mutex_lock(&ns->lock);
        segment->allocated = segment->size;
        pthread_mutex_unlock(&ns->lock);
    }
    segment_release(segment);
}

int namespace_make_room(struct namespace *ns, uint64_t need, bool is_delete)
{
    struct store *store = ns->store;
    struct segment *active, *made = NULL;
    int ret = 0;

    pthread_mutex_lock(&ns->write);
    pthread_mutex_lock(&ns->lock);
    active = namespace_active(ns);
    if (active != NULL && active->size + need + END_SIZE <= store->options.segment_size) {
        bool has = active->size + need + END_SIZE <= active->allocated;

        pthread_mutex_unlock(&ns->lock);
        /* Only who holds ns->write appends past what is claimed, or changes what is active. */
        if (!has)
            ret = segment_claim(ns, active, need + END_SIZE, is_delete);
        pthread_mutex_unlock(&ns->write);
        return ret;
    }
    pthread_mutex_unlock(&ns->lock);
    ret = segment_create(ns, need, is_delete, &made);
    if (ret == 0) {
        pthread_mutex_lock(&ns->lock);
        ret = segment_begin(ns, made);
        pthread_mutex_unlock(&ns->lock);
        if (ret == 0 && active != NULL && active->allocated > active->size)
            cut_claimed(ns, active);
        if (ret < 0) {
            segment_close(store, made);
            segment_free(made);
        }
    }
    pthread_mutex_unlock(&ns->write);
    return ret;
}
