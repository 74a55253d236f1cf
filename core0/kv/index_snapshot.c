/*
 * index_snapshot.c - the index on disk, so that a start need not read every record.
 *
 * ns-<id>.index in the index folder: blocks of u32 length (bit 31: the last one), u32 CRC32C of the block's
 * place in the file (u64) and its bytes, and at most 64 KiB of bytes. The bytes, joined:
 *     "CROFTIX1", u64 identity, u64 swaps, u32 mode,
 *     u32 segment, u64 offset: where the log goes on, u64 number of the last record before it, u64 next id,
 *     u64 entries (user: about; seq: slots that the slots file has at least),
 *     u32 segments, each: u32 id, u64 first, u64 next, u64 size, u32 marks, each: u64 number, u32 place
 *     user: entries until the end: u16 length of the key, u32 segment, u32 place, u32 length of the value,
 *           u32 check, key
 * seq: the slots file holds the entries, and is synced before this is replaced.
 *
 * Invariants
 *  X1  It is only a saving: one that is missing, does not verify, or is of other segments, is not used.
 *  X2  All that it names is synced before it gets its name. Entries may be newer than its place in the log:
 *      replaying from there on comes to the same.
 */
#include "kv/store_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kv/index_snapshot.h"

#define BLOCK 65536u
#define LAST 0x80000000u
#define ENTRY_FIXED 18u
#define ENTRIES_PER_LOCK 64u
#define ITEMS 128u /* entries given to the reader at once */

static const char magic[8] = {'C', 'R', 'O', 'F', 'T', 'I', 'X', '1'};

static void put(uint8_t *to, uint64_t value, unsigned bytes)
{
    value = htole64(value);
    memcpy(to, &value, bytes);
}

static uint64_t get(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, from, bytes);
    return le64toh(value);
}

/* ---- writing ---------------------------------------------------------------------------------- */

struct out {
    const struct io *io;
    int fd, failed;
    uint64_t offset;
    size_t used;
    uint8_t data[8 + BLOCK];
};

static void out_flush(struct out *out, bool last)
{
    uint8_t place[8];
    uint32_t crc;

    put(place, out->offset, 8);
    crc = record_crc32c(record_crc32c(0, place, 8), out->data + 8, out->used);
    put(out->data, out->used | (last ? LAST : 0), 4);
    put(out->data + 4, crc, 4);
    if (out->failed == 0)
        out->failed = io_write(out->io, out->fd, out->data, 8 + out->used, out->offset);
    out->offset += 8 + out->used;
    out->used = 0;
}

static void out_bytes(struct out *out, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        size_t part = BLOCK - out->used < len ? BLOCK - out->used : len;

        memcpy(out->data + 8 + out->used, from, part);
        out->used += part;
        from += part;
        len -= part;
        if (out->used == BLOCK)
            out_flush(out, false);
    }
}

static void out_number(struct out *out, uint64_t value, unsigned bytes)
{
    uint8_t data[8];

    put(data, value, bytes);
    out_bytes(out, data, bytes);
}

static bool slot_any(void *ctx, const struct index_entry *entry)
{
    (void)ctx;
    (void)entry;
    return true;
}

/* The part that is taken under the lock: where the log goes on, and the segments. */
static void out_head(struct out *out, const struct namespace *ns)
{
    const struct segment *last = ns->segment_count > 0 ? ns->segments[ns->segment_count - 1] : NULL;

    out_bytes(out, magic, sizeof(magic));
    out_number(out, ns->identity, 8);
    out_number(out, ns->d.swaps, 8);
    out_number(out, (uint64_t)ns->d.properties.mode, 4);
    out_number(out, last != NULL ? last->id : 0, 4);
    out_number(out, last != NULL ? last->size : 0, 8);
    out_number(out, ns->number, 8);
    out_number(out, ns->next_id, 8);
    out_number(out, ns->slots != NULL ? slots_extent(ns->slots) : ns->entries, 8);
    out_number(out, ns->segment_count, 4);
    for (uint32_t i = 0; i < ns->segment_count; i++) {
        const struct segment *segment = ns->segments[i];

        out_number(out, segment->id, 4);
        out_number(out, segment->first, 8);
        out_number(out, segment->next, 8);
        out_number(out, segment->size, 8);
        out_number(out, segment->mark_count, 4);
        for (uint32_t k = 0; k < segment->mark_count; k++) {
            out_number(out, segment->marks[k].number, 8);
            out_number(out, segment->marks[k].place, 4);
        }
    }
}

/* A lump of entries; false at the end. The lock is taken for each lump. */
static bool out_entries(struct out *out, struct namespace *ns, uint64_t *at, uint8_t *lump)
{
    size_t used = 0;
    bool more = true;

    pthread_mutex_lock(&ns->lock);
    for (unsigned i = 0; i < ENTRIES_PER_LOCK && more && ns->index != NULL; i++) {
        struct index_entry entry;
        uint32_t len;
        const void *key = index_walk(ns->index, at, &len, &entry);

        more = key != NULL;
        if (!more)
            break;
        put(lump + used, len, 2);
        put(lump + used + 2, entry.segment, 4);
        put(lump + used + 6, entry.place, 4);
        put(lump + used + 10, entry.value_len, 4);
        put(lump + used + 14, entry.check, 4);
        memcpy(lump + used + ENTRY_FIXED, key, len);
        used += ENTRY_FIXED + len;
    }
    more = more && ns->index != NULL && !ns->gone;
    pthread_mutex_unlock(&ns->lock);
    out_bytes(out, lump, used);
    return more;
}

static int out_all(struct out *out, struct namespace *ns)
{
    uint8_t *lump = malloc((size_t)ENTRIES_PER_LOCK * (ENTRY_FIXED + RECORD_KEY_MAX));
    struct slots_batch batch = {0};
    uint64_t at = 0;
    bool is_seq;
    int failed = 0;

    if (lump == NULL)
        return -ENOMEM;
    pthread_mutex_lock(&ns->slot_lock);
    pthread_mutex_lock(&ns->lock);
    is_seq = ns->slots != NULL;
    out_head(out, ns);
    if (is_seq)
        failed = slots_take(ns->slots, slot_any, NULL, &batch);
    pthread_mutex_unlock(&ns->lock);
    while (!is_seq && out->failed == 0 && out_entries(out, ns, &at, lump)) {
    }
    free(lump);
    out_flush(out, true);
    if (failed == 0)
        failed = out->failed;
    if (failed == 0 && namespace_sync(ns) < 0) /* X2 */
        failed = -EIO;
    if (is_seq) {
        if (failed == 0)
            failed = slots_write(ns->slots, &batch, true);
        pthread_mutex_lock(&ns->lock);
        slots_drop(ns->slots, &batch, failed == 0);
        pthread_mutex_unlock(&ns->lock);
    }
    pthread_mutex_unlock(&ns->slot_lock);
    return failed;
}

/* While the new one is written the old one lies beside it; what stands in memory is about what it takes. Without room in the
 * namespace's own share it is not saved: the segments are read instead at the next start. */
static bool has_share(struct namespace *ns)
{
    bool has;

    pthread_mutex_lock(&ns->lock);
    has = ns->d.properties.maxdisk == 0 || ns->index == NULL ||
          namespace_claimed(ns) + index_memory(ns->index) <= ns->d.properties.maxdisk;
    pthread_mutex_unlock(&ns->lock);
    return has;
}

int snapshot_save(struct namespace *ns)
{
    struct store *store = ns->store;
    const struct io *io = store->io;
    struct out *out = malloc(sizeof(*out));
    char path[PATH_LEN], temporary[PATH_LEN + 8];
    int failed;

    if (out == NULL || atomic_load(&store->failed) != 0 || ns->descriptor_damaged ||
        ns->has_suspects || !has_share(ns)) {
        free(out);
        return 0;
    }
    index_path(ns, "index", path);
    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    failed = io->unlink(io, temporary);
    out->io = io;
    out->fd =
        failed < 0 && failed != -ENOENT ? failed : io->open(io, temporary, IO_WRITE | IO_CREATE);
    out->failed = 0;
    out->offset = out->used = 0;
    if (out->fd < 0) {
        failed = out->fd;
        free(out);
        return failed;
    }
    failed = out_all(out, ns);
    if (failed == 0)
        failed = io->sync(io, out->fd);
    io->close(io, out->fd);
    if (failed == 0)
        failed = io->rename(io, temporary, path);
    if (failed == 0) {
        failed = io->sync_dir(io, store->index);
        pthread_mutex_lock(&ns->lock);
        ns->index_disk = out->offset;
        ns->since_snapshot = 0;
        ns->swapped = false;
        ns->snapshot_ticks = 0;
        pthread_mutex_unlock(&ns->lock);
    } else {
        io->unlink(io, temporary);
    }
    free(out);
    return failed;
}

int snapshot_remove(struct namespace *ns)
{
    char path[PATH_LEN];
    int failed;

    index_path(ns, "index", path);
    failed = ns->store->io->unlink(ns->store->io, path);
    if (failed == 0 || failed == -ENOENT)
        ns->index_disk = 0;
    if (failed == 0)
        failed = ns->store->io->sync_dir(ns->store->io, ns->store->index);
    return failed == -ENOENT ? 0 : failed;
}

/* ---- reading ---------------------------------------------------------------------------------- */

struct in {
    const struct io *io;
    int fd, failed;
    uint64_t offset; /* of the next block */
    size_t at, have;
    bool last;
    uint8_t data[8 + BLOCK];
};

/* The next block; -EBADMSG where it does not verify. */
static void in_fill(struct in *in)
{
    uint8_t place[8];
    ssize_t n;
    size_t len;

    in->at = in->have = 0;
    if (in->failed != 0 || in->last) {
        in->failed = in->failed != 0 ? in->failed : -EBADMSG;
        return;
    }
    n = in->io->read(in->io, in->fd, in->data, sizeof(in->data), in->offset);
    len = n >= 8 ? (size_t)get(in->data, 4) & ~LAST : 0;
    put(place, in->offset, 8);
    if (n < 8 || len > BLOCK || len + 8 > (size_t)n ||
        get(in->data + 4, 4) != record_crc32c(record_crc32c(0, place, 8), in->data + 8, len)) {
        in->failed = n < 0 ? (int)n : -EBADMSG;
        return;
    }
    in->last = (get(in->data, 4) & LAST) != 0;
    in->have = len;
    in->offset += 8 + len;
}

static bool in_ends(struct in *in)
{
    while (in->failed == 0 && in->at == in->have && !in->last)
        in_fill(in);
    return in->failed != 0 || in->at == in->have;
}

static void in_bytes(struct in *in, void *to, size_t len)
{
    uint8_t *out = to;

    while (len > 0) {
        size_t part;

        if (in_ends(in)) {
            if (in->failed == 0)
                in->failed = -EBADMSG;
            memset(out, 0, len);
            return;
        }
        part = in->have - in->at < len ? in->have - in->at : len;
        memcpy(out, in->data + 8 + in->at, part);
        in->at += part;
        out += part;
        len -= part;
    }
}

static uint64_t in_number(struct in *in, unsigned bytes)
{
    uint8_t data[8] = {0};

    in_bytes(in, data, bytes);
    return get(data, bytes);
}

static void in_segment(struct in *in, const struct snapshot_reader *reader, bool last)
{
    struct segment read = {.id = (uint32_t)in_number(in, 4)};
    uint32_t marks;

    read.first = in_number(in, 8);
    read.next = in_number(in, 8);
    read.size = in_number(in, 8);
    marks = (uint32_t)in_number(in, 4);
    if (in->failed == 0 && !reader->segment(reader->ctx, &read, last))
        in->failed = -EBADMSG;
    for (uint32_t i = 0; i < marks && in->failed == 0; i++) {
        uint64_t number = in_number(in, 8);
        uint64_t offset = in_number(in, 4) * 8;

        if (in->failed == 0)
            reader->mark(reader->ctx, number, offset);
    }
}

static uint32_t item_read(const uint8_t *fixed, struct index_item *item)
{
    *item = (struct index_item){.key = fixed + ENTRY_FIXED,
                                .len = (uint32_t)get(fixed, 2),
                                .entry = {.segment = (uint32_t)get(fixed + 2, 4),
                                          .place = (uint32_t)get(fixed + 6, 4),
                                          .value_len = (uint32_t)get(fixed + 10, 4),
                                          .check = (uint32_t)get(fixed + 14, 4)}};
    return item->len;
}

static bool item_is_good(const struct index_item *item)
{
    return item->len > 0 && item->len <= RECORD_KEY_MAX && item->entry.place != 0 &&
           item->entry.value_len <= RECORD_VALUE_MAX;
}

/* The entries that lie whole in this block, and then the one that goes on in the next. */
static void in_entries(struct in *in, const struct snapshot_reader *reader)
{
    struct index_item items[ITEMS];
    uint8_t copy[ENTRY_FIXED + RECORD_KEY_MAX];
    size_t count = 0;

    while (in->failed == 0 && count < ITEMS && in->have - in->at >= ENTRY_FIXED &&
           in->have - in->at >= ENTRY_FIXED + item_read(in->data + 8 + in->at, &items[count])) {
        if (!item_is_good(&items[count]))
            in->failed = -EBADMSG;
        in->at += ENTRY_FIXED + items[count++].len;
    }
    if (in->failed == 0 && count == 0) {
        in_bytes(in, copy, ENTRY_FIXED);
        item_read(copy, &items[count++]);
        if (in->failed == 0 && !item_is_good(&items[0]))
            in->failed = -EBADMSG;
        if (in->failed == 0)
            in_bytes(in, copy + ENTRY_FIXED, items[0].len);
    }
    if (in->failed == 0)
        in->failed = reader->entries(reader->ctx, items, count);
}

int snapshot_read(const struct io *io, const char *path, const struct snapshot_reader *reader,
                  struct snapshot_head *ret)
{
    struct in *in = malloc(sizeof(*in));
    struct snapshot_head head;
    uint8_t start[8];
    int failed;

    if (in == NULL)
        return -ENOMEM;
    *in = (struct in){.io = io, .fd = io->open(io, path, 0)};
    if (in->fd < 0) {
        failed = in->fd;
        free(in);
        return failed;
    }
    in_bytes(in, start, sizeof(start));
    head.identity = in_number(in, 8);
    head.swaps = in_number(in, 8);
    head.mode = (uint32_t)in_number(in, 4);
    head.segment = (uint32_t)in_number(in, 4);
    head.offset = in_number(in, 8);
    head.number = in_number(in, 8);
    head.next_id = in_number(in, 8);
    head.entries = in_number(in, 8);
    head.segments = (uint32_t)in_number(in, 4);
    if (in->failed == 0 &&
        (memcmp(start, magic, sizeof(magic)) != 0 || !reader->head(reader->ctx, &head)))
        in->failed = -EBADMSG;
    for (uint32_t i = 0; i < head.segments && in->failed == 0; i++)
        in_segment(in, reader, i + 1 == head.segments);
    while (in->failed == 0 && !in_ends(in))
        in_entries(in, reader);
    failed = in->failed;
    io->close(io, in->fd);
    free(in);
    if (failed == 0)
        *ret = head;
    return failed;
}

/* ---- into a namespace that is being loaded ---------------------------------------------------- */

struct loading {
    struct namespace *ns;
    struct segment *segment; /* whose marks are read */
    struct snapshot_head head;
    uint32_t seen;
};

static bool load_head(void *ctx, const struct snapshot_head *head)
{
    struct loading *loading = ctx;
    const struct namespace *ns = loading->ns;

    loading->head = *head;
    if (ns->index != NULL &&
        head->entries < 1u << 30) /* what memory it takes, the entries take, too */
        index_expect(ns->index, head->entries);
    return head->identity == ns->identity && head->swaps == ns->d.swaps &&
           head->mode == (uint32_t)ns->d.properties.mode && head->segments <= ns->segment_count;
}

/* It must be there, as it was; the last one may have grown or been sealed since. */
static bool load_segment(void *ctx, const struct segment *read, bool last)
{
    struct loading *loading = ctx;
    struct segment *has = namespace_segment(loading->ns, read->id);

    loading->seen++;
    loading->segment = has;
    if (has == NULL || has->first != read->first || has->damaged)
        return false;
    if (last)
        return read->id == loading->head.segment && loading->head.offset == read->size &&
               has->size >= read->size;
    if (has->size < read->size)
        return false;
    has->size = has->written = has->allocated =
        read->size; /* behind it is space that was not used */
    return true;
}

static void load_mark(void *ctx, uint64_t number, uint64_t offset)
{
    struct loading *loading = ctx;

    segment_note(loading->segment, number, offset);
}

static int load_entries(void *ctx, const struct index_item *items, size_t count)
{
    struct loading *loading = ctx;

    if (loading->ns->index == NULL)
        return -EBADMSG;
    return index_put_all(loading->ns->index, items, count);
}

/* Segments before the last one are not replayed: what that would say of them. */
static void load_tiles(struct namespace *ns, uint32_t last)
{
    for (uint32_t i = 0; i + 1 < ns->segment_count && ns->segments[i]->id != last; i++) {
        ns->segments[i]->sealed = true;
        ns->segments[i]->next = ns->segments[i + 1]->first;
    }
}

static uint64_t file_size(const struct io *io, const char *path)
{
    int fd = io->open(io, path, 0);
    int64_t size = fd < 0 ? 0 : io->size(io, fd);

    if (fd >= 0)
        io->close(io, fd);
    return size > 0 ? (uint64_t)size : 0;
}

int snapshot_load(struct namespace *ns, uint32_t *ret_segment, uint64_t *ret_offset)
{
    struct loading loading = {.ns = ns};
    struct snapshot_reader reader = {.head = load_head,
                                     .segment = load_segment,
                                     .mark = load_mark,
                                     .entries = load_entries,
                                     .ctx = &loading};
    struct snapshot_head head;
    char path[PATH_LEN];
    int failed;

    index_path(ns, "index", path);
    failed = snapshot_read(ns->store->io, path, &reader, &head);
    if (failed == 0 && (head.segments == 0) != (ns->segment_count == 0))
        failed = -EBADMSG;
    if (failed == 0 && head.segments > 0 && loading.seen != head.segments)
        failed = -EBADMSG;
    /* Beyond its end the slots file says that there is no such id: that must be true. */
    if (failed == 0 && ns->slots != NULL && slots_extent(ns->slots) < head.entries)
        failed = -EBADMSG;
    if (failed == 0) {
        ns->index_disk = file_size(ns->store->io, path);
        load_tiles(ns, head.segment);
        ns->number = head.number > ns->number ? head.number : ns->number;
        ns->next_id = head.next_id > ns->next_id ? head.next_id : ns->next_id;
        *ret_segment = head.segment;
        *ret_offset = head.offset;
        return 1;
    }
    for (uint32_t i = 0; i < ns->segment_count; i++) /* the replay makes them again */
        ns->segments[i]->mark_count = 0;
    /* A snapshot of this very state that names more than there is: records are missing. */
    if (failed == -EBADMSG && loading.head.identity == ns->identity &&
        loading.head.swaps == ns->d.swaps)
        ns->expected_number = loading.head.number;
    if (ns->index != NULL)
        index_clear(ns->index);
    return failed == -ENOMEM ? -ENOMEM : 0;
}

static bool slot_is_synced(void *ctx, const struct index_entry *entry)
{
    const struct namespace *ns = ctx;
    const struct segment *segment = namespace_segment(ns, entry->segment);

    return segment == NULL || (uint64_t)entry->place * 8 < segment->synced;
}

int slots_flush(struct namespace *ns, bool sync)
{
    struct slots_batch batch = {0};
    int failed = 0;

    pthread_mutex_lock(&ns->slot_lock);
    pthread_mutex_lock(&ns->lock);
    if (ns->slots == NULL || slots_pending(ns->slots) == 0) {
        pthread_mutex_unlock(&ns->lock);
        pthread_mutex_unlock(&ns->slot_lock);
        return 0;
    }
    failed = slots_take(ns->slots, slot_is_synced, ns, &batch);
    pthread_mutex_unlock(&ns->lock);
    if (failed == 0)
        failed = slots_write(ns->slots, &batch, sync);
    pthread_mutex_lock(&ns->lock);
    slots_drop(ns->slots, &batch, failed == 0);
    pthread_mutex_unlock(&ns->lock);
    pthread_mutex_unlock(&ns->slot_lock);
    if (failed == -ENOMEM)
        return STORE_NO_MEMORY;
    if (failed == -ENOSPC || failed == -EDQUOT)
        return STORE_NO_SPACE;
    return failed < 0 ? store_fail(ns->store, "write", "the slots file", failed) : 0;
}
