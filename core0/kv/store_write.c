/*
 * store_write.c - appending: conditions, the buffer of the active segment, and its way to the file.
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
#define END_SIZE 64u /* kept free in a segment for the record that ends it */

int namespace_find(struct namespace *ns, const void *key, uint32_t len, struct index_entry *ret)
{
    const uint8_t *id = key;

    if (ns->d.properties.mode == STORE_USER)
        return index_find(ns->index, key, len, ret) ? 1 : 0;
    return slots_find(ns->slots,
                      (uint32_t)id[0] | (uint32_t)id[1] << 8 | (uint32_t)id[2] << 16 |
                          (uint32_t)id[3] << 24,
                      ret);
}

static int entry_put(struct namespace *ns, const void *key, uint32_t len,
                     const struct index_entry *entry)
{
    const uint8_t *id = key;

    if (ns->d.properties.mode == STORE_USER)
        return index_put(ns->index, key, len, entry);
    return slots_put(ns->slots,
                     (uint32_t)id[0] | (uint32_t)id[1] << 8 | (uint32_t)id[2] << 16 |
                         (uint32_t)id[3] << 24,
                     entry);
}

bool entry_is_suspect(const struct namespace *ns, const struct index_entry *entry)
{
    const struct segment *segment;

    if (!ns->has_suspects)
        return false;
    segment = namespace_segment(ns, entry->segment);
    return segment != NULL && (uint64_t)entry->place * 8 < segment->suspect;
}

void namespace_account(struct namespace *ns, struct segment *segment, uint32_t key_len,
                       uint32_t value_len, bool add)
{
    uint64_t on_disk = record_size(key_len, value_len), alive = (uint64_t)key_len + value_len;

    if (add) {
        ns->entries++;
        ns->bytes += alive;
    } else {
        ns->entries--;
        ns->bytes -= alive;
    }
    if (segment != NULL)
        segment->live += add ? on_disk : -on_disk;
}

/* ---- chunks ----------------------------------------------------------------------------------- */

static uint64_t chunk_size(const struct chunk *chunk)
{
    return (uint64_t)chunk->len + chunk->external_len + chunk->pad;
}

static void chunk_free(struct store *store, struct chunk *chunk)
{
    if (chunk->external == NULL) {
        atomic_fetch_sub(&store->cache_bytes, CHUNK_SIZE);
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
                (ns->chunk_end - ns->chunk_first) * sizeof(*ns->chunks));
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
        chunk = malloc(sizeof(*chunk) + (external_head > 0 ? external_head : CHUNK_SIZE));
    if (chunk == NULL)
        return NULL;
    *chunk = (struct chunk){.segment = segment, .start = start};
    if (external_head == 0)
        atomic_fetch_add(&store->cache_bytes, CHUNK_SIZE);
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
        chunk->start + chunk->len == segment->size && chunk->len + size <= CHUNK_SIZE)
        return chunk;
    return chunk_add(ns, segment->id, segment->size, 0);
}

int namespace_append(struct namespace *ns, struct segment *segment, struct record *record,
                     const void *key, const void *value, bool external)
{
    struct record_position at = {
        .identity = ns->d.identity, .segment = segment->id, .offset = segment->size};
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
static void chunks_drop_external(struct namespace *ns)
{
    uint32_t to = ns->chunk_unwritten;

    for (uint32_t i = to; i < ns->chunk_end; i++) {
        if (ns->chunks[i]->external != NULL)
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
        int count = 0, failed;

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
                parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)chunk->external,
                                                .iov_len = chunk->external_len};
                parts[count++] =
                    (struct iovec){.iov_base = chunk->data + chunk->len, .iov_len = chunk->pad};
            }
            len += chunk_size(chunk) - chunk->done;
        }
        if (segment != NULL)
            segment->refs++;
        pthread_mutex_unlock(&ns->lock);
        if (segment == NULL)
            return 0;
        failed = atomic_load(&store->failed) != 0
                     ? -EIO
                     : store->io->write(store->io, segment->fd, parts, count, offset);
        if (failed < 0) {
            char path[PATH_LEN];

            segment_path(ns, segment->id, "seg", path);
            pthread_mutex_lock(&ns->lock);
            chunks_drop_external(ns);
            pthread_mutex_unlock(&ns->lock);
            segment_put(ns, segment);
            return store_fail(store, "write", path, failed);
        }
        atomic_fetch_add(&store->written_bytes, len);
        pthread_mutex_lock(&ns->lock);
        segment->written = offset + len;
        for (uint32_t i = ns->chunk_unwritten; i < last; i++) {
            uint64_t part = chunk_size(ns->chunks[i]) - ns->chunks[i]->done;

            part = part < len ? part : len; /* the last one may have grown meanwhile */
            ns->chunks[i]->done += (uint32_t)part;
            len -= part;
        }
        chunks_drop_external(ns);
        while (ns->chunk_unwritten + 1 < ns->chunk_end &&
               ns->chunks[ns->chunk_unwritten]->done == chunk_size(ns->chunks[ns->chunk_unwritten]))
            ns->chunk_unwritten++;
        chunks_drop(ns, false);
        pthread_mutex_unlock(&ns->lock);
        segment_put(ns, segment);
    }
}

/* ---- room ------------------------------------------------------------------------------------- */

/* How far to claim space so that `need` bytes fit: 0 and *ret, or STORE_NO_SPACE. */
static int space_step(struct store *store, uint64_t need, bool is_delete, uint64_t *ret)
{
    uint64_t step = store->options.segment_size / 4, free_bytes, total, reserve;
    int failed = store->io->space(store->io, store->data, &free_bytes, &total);

    if (failed < 0)
        return STORE_DISK_FAILED;
    if (step > (16u << 20))
        step = 16u << 20;
    if (step < need)
        step = need;
    /* A delete may use half of what is kept for compaction: it is how one makes space. */
    reserve = is_delete ? store->options.reserve / 2 : store->options.reserve;
    if (free_bytes < reserve + need)
        return STORE_NO_SPACE;
    *ret = free_bytes < reserve + step ? need : step;
    return 0;
}

/* Claims at least `need` more bytes for a segment. ns->write held. */
static int segment_claim(struct namespace *ns, struct segment *segment, uint64_t need,
                         bool is_delete)
{
    struct store *store = ns->store;
    uint64_t step = 0, from = segment->allocated;
    int failed = space_step(store, need, is_delete, &step);

    if (failed < 0)
        return failed;
    if (from + step > store->options.segment_size && from + need <= store->options.segment_size)
        step = store->options.segment_size - from;
    failed = store->io->allocate(store->io, segment->fd, from, step);
    if (failed == -ENOSPC || failed == -EDQUOT)
        return STORE_NO_SPACE;
    if (failed < 0 && failed != -EOPNOTSUPP) /* without it, the reserve is the margin */
        return STORE_DISK_FAILED;
    pthread_mutex_lock(&ns->lock);
    segment->allocated = from + step;
    pthread_mutex_unlock(&ns->lock);
    return 0;
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
    segment_path(ns, segment->id, "seg", path);
    segment->fd = store->io->open(store->io, path, IO_WRITE | IO_CREATE);
    if (segment->fd < 0) {
        failed =
            segment->fd == -ENOSPC || segment->fd == -EDQUOT ? STORE_NO_SPACE : STORE_DISK_FAILED;
        segment_free(segment);
        return failed;
    }
    failed = segment_claim(ns, segment, need + SEGMENT_HEADER + END_SIZE, is_delete);
    if (failed == 0 && store->io->sync_dir(store->io, ns->folder) < 0)
        failed = STORE_DISK_FAILED;
    if (failed < 0) {
        store->io->close(store->io, segment->fd);
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
    segment_header_encode(segment, ns->d.identity, chunk->data);
    chunk->len = SEGMENT_HEADER;
    segment->size = SEGMENT_HEADER;
    return 0;
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
            ret = segment_claim(
                ns, active,
                need + END_SIZE +
                    (active->allocated > active->size ? active->allocated - active->size : 0),
                is_delete);
        pthread_mutex_unlock(&ns->write);
        return ret;
    }
    pthread_mutex_unlock(&ns->lock);
    ret = segment_create(ns, need, is_delete, &made);
    if (ret == 0) {
        pthread_mutex_lock(&ns->lock);
        ret = segment_begin(ns, made);
        pthread_mutex_unlock(&ns->lock);
        if (ret < 0) {
            store->io->close(store->io, made->fd);
            segment_free(made);
        }
    }
    pthread_mutex_unlock(&ns->write);
    return ret;
}

/* ---- set and delete --------------------------------------------------------------------------- */

/* Whether the namespace takes writes now: 0; 1 after a wait; a negative result. ns->lock held. */
static int may_write(struct namespace *ns)
{
    if (ns->flushing) { /* who has a large value holds ns->write and never comes here */
        pthread_mutex_unlock(&ns->lock);
        pthread_mutex_lock(&ns->write);
        pthread_mutex_unlock(&ns->write);
        pthread_mutex_lock(&ns->lock);
        return 1;
    }
    if (ns->gone)
        return STORE_NO_NAMESPACE;
    if (atomic_load_explicit(&ns->store->failed, memory_order_relaxed) != 0)
        return STORE_READ_ONLY;
    if (ns->d.properties.lock == STORE_FROZEN)
        return STORE_IS_FROZEN;
    return ns->d.properties.lock == STORE_LOCKED ? STORE_IS_LOCKED : 0;
}

static bool has_room(const struct namespace *ns, uint64_t need)
{
    const struct segment *active = namespace_active(ns);

    return active != NULL && active->size + need + END_SIZE <= active->allocated &&
           active->size + need + END_SIZE <= ns->store->options.segment_size;
}

static int slots_make_room(struct namespace *ns)
{
    int failed = namespace_sync(ns);

    return failed < 0 ? failed : slots_flush(ns, false);
}

/* The comparison with what is stored; ns->lock is held and given up. */
struct comparison {
    uint8_t *copy; /* of what is stored */
};

static void *compare_reserve(void *ctx, uint32_t len)
{
    struct comparison *comparison = ctx;

    comparison->copy = malloc((size_t)len + 1);
    return comparison->copy;
}

/* 1: the stored value is the same; 0: it is not, or cannot be read; its number in *ret_version. */
static int compare_stored(struct namespace *ns, const struct index_entry *entry,
                          const struct store_write *write, const void *key, uint32_t key_len,
                          uint64_t *ret_version)
{
    struct comparison comparison = {0};
    struct store_sink sink = {.reserve = compare_reserve, .ctx = &comparison};
    struct segment *segment = namespace_segment(ns, entry->segment);
    struct fetched fetched FETCH_UNINITIALIZED;
    int ret;

    if (segment == NULL) {
        pthread_mutex_unlock(&ns->lock);
        return 0;
    }
    ret = namespace_fetch(ns, segment, (uint64_t)entry->place * 8, key, key_len, entry->value_len,
                          0, &sink, &fetched);
    if (ret == 0) {
        ret = memcmp(comparison.copy, write->value, write->value_len) == 0 ? 1 : 0;
        *ret_version = fetched.record.number;
    } else if (ret != STORE_NO_MEMORY) {
        ret = 0; /* damaged: writing it anew heals it */
    }
    free(comparison.copy);
    return ret;
}

/* The version of what is stored; ns->lock is held and given up. */
static int version_stored(struct namespace *ns, const struct index_entry *entry, const void *key,
                          uint32_t key_len, uint64_t *ret_version)
{
    struct segment *segment = namespace_segment(ns, entry->segment);
    struct fetched fetched FETCH_UNINITIALIZED;
    int ret;

    if (segment == NULL) {
        pthread_mutex_unlock(&ns->lock);
        return STORE_DAMAGED;
    }
    ret = namespace_fetch(ns, segment, (uint64_t)entry->place * 8, key, key_len, entry->value_len,
                          FETCH_HEAD, NULL, &fetched);
    if (ret == 0)
        *ret_version = fetched.record.number;
    return ret;
}

static bool same_place(const struct index_entry *a, const struct index_entry *b)
{
    return a->segment == b->segment && a->place == b->place;
}

struct set {
    struct namespace *ns;
    const struct store_write *write;
    const void *key; /* seq: maybe a new id */
    uint32_t key_len;
    uint8_t id[STORE_SEQ_KEY];
    uint32_t body;
    uint64_t size;
    bool external;        /* ns->write is held */
    bool known, compared; /* what was learnt without the lock, and of which record */
    struct index_entry known_at, compared_at;
    uint64_t version;
};

/* One try; ns->lock is held, and held when it returns. 0 done; 1 once more, with the lock given up in
 * between; a negative result. */
static int set_try(struct set *set, struct store_written *ret)
{
    struct namespace *ns = set->ns;
    const struct store_write *write = set->write;
    bool is_seq = ns->d.properties.mode == STORE_SEQ;
    struct index_entry old, entry;
    struct record record = {.kind = RECORD_SET,
                            .value_len = write->value_len,
                            .body = set->body,
                            .time = write->time != 0 ? write->time : store_now()};
    struct segment *active;
    uint64_t before = 0;
    bool has, unsure;
    int found = may_write(ns);

    if (found != 0)
        return found;
    if (is_seq ? write->key_len != 0 && write->key_len != STORE_SEQ_KEY : write->key_len == 0)
        return STORE_INVALID;
    if (is_seq && write->key_len == 0) {
        if (ns->next_id > UINT32_MAX)
            return STORE_NO_SPACE;
        for (unsigned i = 0; i < STORE_SEQ_KEY; i++)
            set->id[i] = (uint8_t)(ns->next_id >> (8 * i));
        set->key = set->id;
        set->key_len = STORE_SEQ_KEY;
        found = 0;
    } else {
        found = namespace_find(ns, set->key, set->key_len, &old);
        if (found < 0)
            return found == -EBADMSG ? STORE_DAMAGED : STORE_DISK_FAILED;
        if (is_seq && found == 0)
            return STORE_NO_KEY;
    }
    has = found > 0;
    unsure = ns->has_suspects && (!has || entry_is_suspect(ns, &old));
    if (unsure && write->condition != STORE_SET_ALWAYS)
        return STORE_DAMAGED;
    if (has && write->condition == STORE_SET_NX)
        return STORE_CONDITION;
    if (!has && write->condition == STORE_SET_XX)
        return STORE_CONDITION;
    if (write->condition == STORE_SET_IFEQ) {
        if (has != (write->version != 0))
            return STORE_CONDITION;
        if (has && !(set->known && same_place(&set->known_at, &old))) {
            int failed = version_stored(ns, &old, set->key, set->key_len, &set->version);

            pthread_mutex_lock(&ns->lock);
            set->known = true;
            set->known_at = old;
            return failed < 0 ? failed : 1;
        }
        if (has && set->version != write->version)
            return STORE_CONDITION;
    }
    /* Different checksums are different values; the same checksum is not yet the same value. */
    if (has && !unsure && old.value_len == write->value_len &&
        (is_seq || old.check == (set->body & INDEX_CHECK_MASK)) &&
        !(set->compared && same_place(&set->compared_at, &old))) {
        uint64_t version = 0;
        int same = compare_stored(ns, &old, write, set->key, set->key_len, &version);

        pthread_mutex_lock(&ns->lock);
        if (same < 0)
            return same;
        if (same > 0) {
            *ret = (struct store_written){
                .version = version, .ticket = ns->last_ticket, .unchanged = true};
            if (is_seq)
                memcpy(ret->key, set->key, STORE_SEQ_KEY);
            return 0;
        }
        set->compared = true;
        set->compared_at = old;
        return 1;
    }
    if (has && ns->d.properties.worm)
        return STORE_WORM;
    if (has)
        before = (uint64_t)set->key_len + old.value_len;
    if (ns->d.properties.maxsize > 0 &&
        ns->bytes - before + set->key_len + write->value_len > ns->d.properties.maxsize &&
        (uint64_t)set->key_len + write->value_len > before)
        return STORE_OVER_QUOTA;
    if (write->number != 0 && write->number <= ns->number)
        return STORE_INVALID;
    if (!has_room(ns, set->size)) {
        int failed;

        pthread_mutex_unlock(&ns->lock);
        if (set->external)
            pthread_mutex_unlock(&ns->write);
        failed = namespace_make_room(ns, set->size, false);
        if (set->external)
            pthread_mutex_lock(&ns->write);
        pthread_mutex_lock(&ns->lock);
        return failed < 0 ? failed : 1;
    }
    if (is_seq && slots_pending(ns->slots) >= SLOTS_PENDING_MAX) {
        int failed;

        pthread_mutex_unlock(&ns->lock);
        if (set->external)
            pthread_mutex_unlock(&ns->write);
        failed = slots_make_room(ns);
        if (set->external)
            pthread_mutex_lock(&ns->write);
        pthread_mutex_lock(&ns->lock);
        return failed < 0 ? failed : 1;
    }
    active = namespace_active(ns);
    record.key_len = (uint16_t)set->key_len;
    record.number = write->number != 0 ? write->number : ns->number + 1;
    if (has) {
        record.previous_segment = old.segment;
        record.previous_place = old.place;
    }
    /* The entry first, as it may fail: then nothing has happened. */
    entry = (struct index_entry){.segment = active->id,
                                 .place = (uint32_t)(active->size / 8),
                                 .value_len = write->value_len,
                                 .check = set->body & INDEX_CHECK_MASK};
    if (entry_put(ns, set->key, set->key_len, &entry) < 0)
        return STORE_NO_MEMORY;
    if (namespace_append(ns, active, &record, set->key, write->value, set->external) < 0) {
        if (has)
            entry_put(ns, set->key, set->key_len, &old);
        else if (is_seq)
            slots_forget(ns->slots, (uint32_t)ns->next_id);
        else
            index_remove(ns->index, set->key, set->key_len);
        return STORE_NO_MEMORY;
    }
    if (has)
        namespace_account(ns, namespace_segment(ns, old.segment), set->key_len, old.value_len,
                          false);
    namespace_account(ns, active, set->key_len, write->value_len, true);
    if (is_seq && write->key_len == 0)
        ns->next_id++;
    *ret = (struct store_written){.version = record.number, .ticket = store_ticket(ns)};
    if (is_seq)
        memcpy(ret->key, set->key, STORE_SEQ_KEY);
    return 0;
}

int store_set(struct namespace *ns, const struct store_write *write, struct store_written *ret)
{
    struct store *store = ns->store;
    struct store_written written = {0};
    struct set set = {.ns = ns, .write = write, .key = write->key, .key_len = write->key_len};
    int result;

    atomic_fetch_add_explicit(&store->sets, 1, memory_order_relaxed);
    if (write->key_len > STORE_KEY_MAX || write->value_len > store->options.max_value)
        return STORE_TOO_LARGE;
    set.body = record_crc32c(0, write->value, write->value_len);
    set.size = record_size(write->key_len != 0 ? write->key_len : STORE_SEQ_KEY, write->value_len);
    set.external = write->value_len >= EXTERNAL_MIN;
    if (set.external)
        pthread_mutex_lock(&ns->write);
    pthread_mutex_lock(&ns->lock);
    do
        result = set_try(&set, &written);
    while (result > 0);
    pthread_mutex_unlock(&ns->lock);
    if (set.external) {
        /* Its chunk points to the caller's memory: it is written before the call returns. */
        if (result == 0 && !written.unchanged && namespace_write_out(ns) < 0)
            result = STORE_DISK_FAILED;
        pthread_mutex_unlock(&ns->write);
    }
    if (result < 0)
        return result;
    if (written.unchanged)
        atomic_fetch_add_explicit(&store->unchanged, 1, memory_order_relaxed);
    *ret = written;
    return 0;
}

/* One try; as set_try(). */
static int del_try(struct namespace *ns, const void *key, uint32_t len, uint64_t number,
                   struct store_written *ret)
{
    bool is_seq = ns->d.properties.mode == STORE_SEQ;
    struct record record = {.kind = RECORD_DEL, .key_len = (uint16_t)len, .time = store_now()};
    struct index_entry old, gone;
    struct segment *active;
    int found = may_write(ns), failed;

    if (found != 0)
        return found;
    if (is_seq ? len != STORE_SEQ_KEY : len == 0)
        return STORE_INVALID;
    found = namespace_find(ns, key, len, &old);
    if (found < 0)
        return found == -EBADMSG ? STORE_DAMAGED : STORE_DISK_FAILED;
    if (found == 0)
        return ns->has_suspects ? STORE_DAMAGED : STORE_NO_KEY;
    if (ns->d.properties.worm)
        return STORE_WORM;
    if (number != 0 && number <= ns->number)
        return STORE_INVALID;
    if (!has_room(ns, record_size(len, 0))) {
        pthread_mutex_unlock(&ns->lock);
        failed = namespace_make_room(ns, record_size(len, 0), true);
        pthread_mutex_lock(&ns->lock);
        return failed < 0 ? failed : 1;
    }
    if (is_seq && slots_pending(ns->slots) >= SLOTS_PENDING_MAX) {
        pthread_mutex_unlock(&ns->lock);
        failed = slots_make_room(ns);
        pthread_mutex_lock(&ns->lock);
        return failed < 0 ? failed : 1;
    }
    active = namespace_active(ns);
    record.number = number != 0 ? number : ns->number + 1;
    record.previous_segment = old.segment;
    record.previous_place = old.place;
    gone = (struct index_entry){
        .segment = active->id, .place = (uint32_t)(active->size / 8), .value_len = SLOT_DELETED};
    if (is_seq && entry_put(ns, key, len, &gone) < 0)
        return STORE_NO_MEMORY;
    if (namespace_append(ns, active, &record, key, NULL, false) < 0) {
        if (is_seq)
            entry_put(ns, key, len, &old);
        return STORE_NO_MEMORY;
    }
    if (!is_seq)
        index_remove(ns->index, key, len);
    namespace_account(ns, namespace_segment(ns, old.segment), len, old.value_len, false);
    *ret = (struct store_written){.version = record.number, .ticket = store_ticket(ns)};
    return 0;
}

int store_del(struct namespace *ns, const void *key, uint32_t len, uint64_t number,
              struct store_written *ret)
{
    int result;

    if (len > STORE_KEY_MAX)
        return STORE_TOO_LARGE;
    atomic_fetch_add_explicit(&ns->store->dels, 1, memory_order_relaxed);
    pthread_mutex_lock(&ns->lock);
    do
        result = del_try(ns, key, len, number, ret);
    while (result > 0);
    pthread_mutex_unlock(&ns->lock);
    return result;
}
