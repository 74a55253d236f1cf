/*
 * store_read.c - reading one record: by its key, or by its place.
 *
 * Invariant
 *  G1  Nothing is given out that was not verified in this very read: the header with its position, the
 *      key against the one that was asked for, the value against the header.
 */
#include "kv/store_internal.h"

#include <errno.h>
#include <string.h>

#define READ_PART                                                                                  \
    ((size_t)256 << 10) /* of a value: checksummed while the processor's caches have it */

#define EXPECTED_BYTES ((size_t)256) /* of a record: more the processor fetches by itself */
#define CACHE_LINE 64

/* Notes that a record of this segment does not verify: the segment is kept as it is from now on. */
static int damaged(struct namespace *ns, struct segment *segment)
{
    pthread_mutex_lock(&ns->lock);
    if (!segment->damaged)
        ns->damaged++;
    segment->damaged = true;
    pthread_mutex_unlock(&ns->lock);
    atomic_fetch_add(&ns->store->damaged, 1);
    return STORE_DAMAGED;
}

static int read_exactly(struct namespace *ns, struct segment *segment, void *to, size_t len,
                        uint64_t offset)
{
    int fd = segment_hold(ns, segment);
    int failed = fd < 0 ? fd : io_read_exactly(ns->store->io, fd, to, len, offset);

    if (fd >= 0)
        segment_release(segment);
    if (fd == -ENOENT && segment_is_retired(ns, segment)) /* FLUSH or NSDEL came in between */
        return STORE_NO_KEY;
    if (failed == -EMFILE || failed == -ENFILE)
        return STORE_NO_MEMORY;
    if (failed == -ENODATA || fd == -ENOENT)
        return damaged(ns, segment);
    return failed < 0 ? STORE_DISK_FAILED : 0;
}

/* The value of a record whose header verified, from the file: to the sink, or nowhere. */
static int value_read(struct namespace *ns, struct segment *segment, uint64_t offset,
                      const struct store_sink *sink, struct fetched *ret)
{
    const struct record *record = &ret->record;
    uint64_t from = offset + RECORD_HEADER + record->key_len, left = record->value_len;
    static const uint8_t zeros[8];
    uint8_t *to = NULL, pad[8] = {0};
    uint32_t crc = 0;
    int failed;

    if (sink != NULL) {
        to = sink->reserve(sink->ctx, record->value_len);
        if (to == NULL)
            return STORE_NO_MEMORY;
    }
    while (left > 0) {
        size_t most = to != NULL ? READ_PART : EXTERNAL_MIN;
        size_t part = left < most ? (size_t)left : most;
        uint8_t *here = to != NULL ? to : ret->scratch + RECORD_HEAD_MAX;

        failed = read_exactly(ns, segment, here, part, from);
        if (failed < 0)
            return failed;
        crc = record_crc32c(crc, here, part);
        from += part;
        left -= part;
        to = to != NULL ? to + part : NULL;
    }
    left = record_size(record->key_len, record->value_len) - (from - offset);
    failed = left > 0 ? read_exactly(ns, segment, pad, (size_t)left, from) : 0;
    if (failed < 0)
        return failed;
    return crc == record->body && memcmp(pad, zeros, sizeof(pad)) == 0 ? 0 : damaged(ns, segment);
}

/* `have` bytes of the record are in the scratch buffer. */
static int verify(struct namespace *ns, struct segment *segment, uint64_t offset, size_t have,
                  const void *key, uint32_t key_len, struct fetched *ret)
{
    struct record_position at = {
        .identity = ns->identity, .segment = segment->id, .offset = offset};

    if (record_decode(ret->scratch, have, &at, &ret->record) < 0)
        return damaged(ns, segment);
    ret->key = ret->scratch + RECORD_HEADER;
    if (key != NULL && (ret->record.kind != RECORD_SET || ret->record.key_len != key_len ||
                        memcmp(ret->key, key, key_len) != 0))
        return damaged(ns, segment); /* the index is wrong */
    return 0;
}

int namespace_fetch(struct namespace *ns, struct segment *segment, uint64_t offset, const void *key,
                    uint32_t key_len, uint32_t value_len, unsigned flags,
                    const struct store_sink *sink, struct fetched *ret)
{
    uint64_t total = key != NULL ? record_size(key_len, value_len) : 0;
    bool whole = key != NULL && total <= SCRATCH_SIZE && (flags & FETCH_HEAD) == 0;
    size_t want = whole ? (size_t)total : key != NULL ? RECORD_HEADER + key_len : RECORD_HEAD_MAX;
    const uint8_t *memory =
        (flags & FETCH_DISK) == 0 ? chunk_find(ns, segment->id, offset, want) : NULL;
    uint64_t written = segment->written;
    int failed = 0;

    if (memory != NULL)
        memcpy(ret->scratch, memory, want);
    atomic_fetch_add(&segment->refs, 1);
    pthread_mutex_unlock(&ns->lock);
    if (memory == NULL && offset + (total > 0 ? total : 1) > written) {
        /* A large value on its way: its writer holds ns->write until it is in the file. */
        pthread_mutex_lock(&ns->write);
        pthread_mutex_lock(&ns->lock);
        written = segment->written;
        pthread_mutex_unlock(&ns->lock);
        pthread_mutex_unlock(&ns->write);
        if (offset + (total > 0 ? total : 1) > written)
            failed = STORE_DISK_FAILED;
    }
    if (failed == 0 && memory == NULL) {
        if (want > written - offset)
            want = (size_t)(written - offset);
        failed = read_exactly(ns, segment, ret->scratch, want, offset);
    }
    if (failed == 0)
        failed = verify(ns, segment, offset, want, key, key_len, ret);
    if (failed == 0 && key != NULL && ret->record.value_len != value_len)
        failed = damaged(ns, segment);
    ret->value = NULL;
    if (failed == 0 && whole) {
        ret->value = ret->scratch + RECORD_HEADER + key_len;
        if (!record_value_is_good(&ret->record, ret->value,
                                  (size_t)total - RECORD_HEADER - key_len - value_len))
            failed = damaged(ns, segment);
        if (failed == 0 && sink != NULL) {
            void *to = sink->reserve(sink->ctx, value_len);

            if (to == NULL)
                failed = STORE_NO_MEMORY;
            else if (value_len > 0)
                memcpy(to, ret->value, value_len);
        }
    } else if (failed == 0 && (flags & FETCH_HEAD) == 0) {
        failed = value_read(ns, segment, offset, sink, ret);
    }
    segment_put(ns, segment);
    return failed;
}

/* ---- by key ----------------------------------------------------------------------------------- */

/* The segment of a key's record; ns->lock held. */
static int look_up(struct namespace *ns, const void *key, uint32_t len, struct index_entry *entry,
                   struct segment **ret_segment)
{
    bool is_seq = ns->d.properties.mode == STORE_SEQ;
    int found;

    if (ns->gone)
        return STORE_NO_NAMESPACE;
    if (ns->d.properties.lock == STORE_FROZEN)
        return STORE_IS_FROZEN;
    if (len > STORE_KEY_MAX)
        return STORE_TOO_LARGE;
    if (is_seq ? len != STORE_SEQ_KEY : len == 0)
        return STORE_INVALID;
    found = namespace_find(ns, key, len, entry);
    if (found < 0)
        return found == -EBADMSG ? STORE_DAMAGED : STORE_DISK_FAILED;
    if (found == 0)
        return ns->has_suspects ? STORE_DAMAGED : STORE_NO_KEY;
    *ret_segment = namespace_segment(ns, entry->segment);
    if (*ret_segment == NULL || entry_is_suspect(ns, entry))
        return STORE_DAMAGED;
    return 0;
}

/* What the answer of a read has to wait for; ns->lock held. */
static uint64_t ticket_of(const struct namespace *ns, const struct segment *segment,
                          const struct index_entry *entry)
{
    uint64_t settled =
        ns->store->options.sync == STORE_SYNC_ALWAYS ? segment->synced : segment->written;

    return (uint64_t)entry->place * 8 < settled ? 0 : ns->last_ticket;
}

static struct store_value value_of(const struct record *record, uint32_t segment, uint64_t offset,
                                   uint64_t ticket)
{
    return (struct store_value){
        .version = record->number,
        .ticket = ticket,
        .len = record->value_len,
        .time = record->time,
        .cursor = {.number = record->number, .hint = (uint64_t)segment << 32 | offset / 8}};
}

static int get(struct namespace *ns, const void *key, uint32_t len, unsigned flags,
               const struct store_sink *sink, struct store_value *ret)
{
    struct fetched fetched FETCH_UNINITIALIZED;
    struct segment *segment;
    struct index_entry entry;
    uint64_t ticket;
    int failed;

    pthread_mutex_lock(&ns->lock);
    failed = look_up(ns, key, len, &entry, &segment);
    if (failed < 0) {
        pthread_mutex_unlock(&ns->lock);
        return failed;
    }
    ticket = ticket_of(ns, segment, &entry);
    failed = namespace_fetch(ns, segment, (uint64_t)entry.place * 8, key, len, entry.value_len,
                             flags, sink, &fetched);
    if (failed == 0 && ret != NULL)
        *ret = value_of(&fetched.record, entry.segment, (uint64_t)entry.place * 8, ticket);
    return failed;
}

void store_expect(struct namespace *ns, const struct store_key *keys, unsigned count)
{
    struct index_entry entries[STORE_EXPECT_MAX];
    struct index_key wanted[STORE_EXPECT_MAX];
    unsigned wanting = 0, found;

    for (unsigned i = 0; i < count; i++)
        if (keys[i].len > 0 && keys[i].len <= STORE_KEY_MAX)
            wanted[wanting++] = (struct index_key){.key = keys[i].key, .len = keys[i].len};
    pthread_mutex_lock(&ns->lock);
    if (ns->gone || ns->d.properties.mode != STORE_USER)
        wanting = 0;
    found = index_find_all(ns->index, wanted, wanting, entries);
    for (unsigned i = 0; i < found; i++) {
        const struct index_entry *entry = &entries[i];
        size_t size = RECORD_HEADER + entry->value_len < EXPECTED_BYTES
                          ? RECORD_HEADER + entry->value_len
                          : EXPECTED_BYTES;
        const uint8_t *at = chunk_find(ns, entry->segment, (uint64_t)entry->place * 8, size);

        for (size_t line = 0; at != NULL && line < size; line += CACHE_LINE)
            __builtin_prefetch(at + line);
    }
    pthread_mutex_unlock(&ns->lock);
}

int store_get(struct namespace *ns, const void *key, uint32_t len, const struct store_sink *sink,
              struct store_value *ret)
{
    int failed = get(ns, key, len, 0, sink, ret);

    atomic_fetch_add_explicit(&ns->store->gets, 1, memory_order_relaxed);
    if (failed == 0)
        atomic_fetch_add_explicit(&ns->store->hits, 1, memory_order_relaxed);
    return failed;
}

int store_stat(struct namespace *ns, const void *key, uint32_t len, struct store_value *ret)
{
    return get(ns, key, len, FETCH_HEAD, NULL, ret);
}

int store_exists(struct namespace *ns, const void *key, uint32_t len, uint64_t *ret_ticket)
{
    struct segment *segment;
    struct index_entry entry;
    int failed;

    pthread_mutex_lock(&ns->lock);
    failed = look_up(ns, key, len, &entry, &segment);
    if (failed == 0)
        *ret_ticket = ticket_of(ns, segment, &entry);
    pthread_mutex_unlock(&ns->lock);
    return failed;
}

/* All that was appended is in the file afterwards. */
static int settle(struct namespace *ns)
{
    int failed;

    pthread_mutex_lock(&ns->write);
    failed = namespace_write_out(ns);
    pthread_mutex_unlock(&ns->write);
    return failed;
}

int store_check(struct namespace *ns, const void *key, uint32_t len)
{
    int failed = settle(ns);

    return failed < 0 ? failed : get(ns, key, len, FETCH_DISK, NULL, NULL);
}

/* ---- by place --------------------------------------------------------------------------------- */

static int at_place(struct namespace *ns, uint32_t id, uint64_t offset, unsigned flags,
                    const struct store_sink *sink, struct fetched *ret)
{
    struct segment *segment;

    pthread_mutex_lock(&ns->lock);
    segment = namespace_segment(ns, id);
    if (ns->gone || segment == NULL || offset < SEGMENT_HEADER || offset >= segment->written) {
        pthread_mutex_unlock(&ns->lock);
        return ns->gone ? STORE_NO_NAMESPACE : STORE_NO_KEY;
    }
    return namespace_fetch(ns, segment, offset, NULL, 0, 0, flags | FETCH_DISK, sink, ret);
}

int store_history(struct namespace *ns, const void *key, uint32_t len, struct store_cursor *cursor,
                  const struct store_sink *sink, struct store_value *ret)
{
    struct fetched fetched FETCH_UNINITIALIZED, before FETCH_UNINITIALIZED;
    struct store_cursor next = {0, 0};
    struct store_value value;
    struct segment *segment;
    struct index_entry entry;
    int failed = settle(ns);

    if (failed < 0)
        return failed;
    if (cursor->number == 0) {
        pthread_mutex_lock(&ns->lock);
        failed = look_up(ns, key, len, &entry, &segment);
        pthread_mutex_unlock(&ns->lock);
        if (failed < 0)
            return failed;
        *cursor = (struct store_cursor){.hint = (uint64_t)entry.segment << 32 | entry.place};
    }
    failed = at_place(ns, (uint32_t)(cursor->hint >> 32), (cursor->hint & UINT32_MAX) * 8,
                      FETCH_HEAD, NULL, &before);
    if (failed < 0)
        return failed;
    if (before.record.kind != RECORD_SET || before.record.key_len != len ||
        memcmp(before.key, key, len) != 0 ||
        (cursor->number != 0 && before.record.number != cursor->number))
        return STORE_NO_KEY;
    failed = at_place(ns, (uint32_t)(cursor->hint >> 32), (cursor->hint & UINT32_MAX) * 8, 0, sink,
                      &fetched);
    if (failed < 0)
        return failed;
    value = value_of(&fetched.record, (uint32_t)(cursor->hint >> 32),
                     (cursor->hint & UINT32_MAX) * 8, 0);
    if (fetched.record.previous_segment != 0) {
        failed = at_place(ns, fetched.record.previous_segment,
                          (uint64_t)fetched.record.previous_place * 8, FETCH_HEAD, NULL, &before);
        if (failed == STORE_DAMAGED) /* the next call says so */
            next.number = value.version - 1;
        else if (failed == 0 && before.record.number < value.version)
            next.number = before.record.number;
        if (next.number != 0)
            next.hint =
                (uint64_t)fetched.record.previous_segment << 32 | fetched.record.previous_place;
    }
    *ret = value;
    *cursor = next;
    return 0;
}

int store_raw(struct namespace *ns, uint32_t segment, uint64_t offset, void *key,
              struct store_item *ret_item, const struct store_sink *sink, struct store_value *ret)
{
    struct fetched fetched FETCH_UNINITIALIZED;
    int failed = offset % 8 != 0 ? STORE_INVALID : settle(ns);

    if (failed == 0)
        failed = at_place(ns, segment, offset, FETCH_HEAD, NULL, &fetched);
    if (failed == 0 && fetched.record.kind > RECORD_DEL)
        failed = STORE_NO_KEY;
    // cppcheck-suppress uninitvar
    if (failed == 0 && fetched.record.kind == RECORD_SET)
        failed = at_place(ns, segment, offset, 0, sink, &fetched);
    if (failed != 0)
        return failed;
    *ret = value_of(&fetched.record, segment, offset, 0);
    memcpy(key, fetched.key, fetched.record.key_len);
    *ret_item = (struct store_item){.key = key,
                                    .key_len = fetched.record.key_len,
                                    .value_len = fetched.record.value_len,
                                    .time = fetched.record.time,
                                    .deleted = fetched.record.kind == RECORD_DEL,
                                    .cursor = ret->cursor};
    return 0;
}

int store_get_at(struct namespace *ns, const struct store_cursor *cursor,
                 const struct store_sink *sink, struct store_value *ret)
{
    struct fetched fetched FETCH_UNINITIALIZED;
    struct store_place place;
    int failed;

    /* A compaction may move it between looking for it and reading it: then it is found again. */
    do {
        failed = store_locate(ns, cursor, &place);
        if (failed != 0)
            return failed;
        failed = at_place(ns, place.segment, place.offset, FETCH_HEAD, NULL, &fetched);
        if (failed == 0 && fetched.record.number == cursor->number)
            failed = at_place(ns, place.segment, place.offset, 0, sink, &fetched);
    } while (failed == STORE_NO_KEY);
    if (failed == 0 && fetched.record.number != cursor->number)
        failed = STORE_NO_KEY;
    if (failed == 0)
        *ret = value_of(&fetched.record, place.segment, place.offset, 0);
    return failed;
}
