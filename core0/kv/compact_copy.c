/*
 * compact_copy.c - writes what lives of a run of segments into one, and reads it back.
 *
 * K1, K2 and K4 of compact.c are kept here.
 */
#include "kv/compact.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PACE_BYTES (4u << 20) /* a rest after so much */

/* Gives others the disk: half of the time, unless nobody else runs. */
void compaction_rest(struct compaction *c, size_t done)
{
    struct timespec now;
    int64_t busy;

    c->since_rest += done;
    if (c->since_rest < PACE_BYTES || c->ns->store->options.manual)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    busy = (now.tv_sec - c->rest_from.tv_sec) * 1000000000 + now.tv_nsec - c->rest_from.tv_nsec;
    if (busy > 100000000)
        busy = 100000000;
    now = (struct timespec){.tv_nsec = busy > 0 ? busy : 0};
    nanosleep(&now, NULL);
    clock_gettime(CLOCK_MONOTONIC, &c->rest_from);
    c->since_rest = 0;
}

static int write_buffer(struct compaction *c)
{
    const struct io *io = c->ns->store->io;
    int failed = c->used == 0 ? 0 : io_write(io, c->out->fd, c->buffer, c->used, c->written);

    compaction_rest(c, c->used);
    c->written += c->used;
    c->used = 0;
    return failed;
}

static int put(struct compaction *c, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        size_t part = COMPACTION_BUFFER - c->used < len ? COMPACTION_BUFFER - c->used : len;
        int failed;

        memcpy(c->buffer + c->used, from, part);
        c->used += part;
        from += part;
        len -= part;
        failed = c->used == COMPACTION_BUFFER ? write_buffer(c) : 0;
        if (failed < 0)
            return failed;
    }
    return 0;
}

/* A value that the walker's buffer does not hold. */
static int put_from_file(struct compaction *c, const struct segment *from, uint64_t offset,
                         uint64_t len)
{
    const struct io *io = c->ns->store->io;

    while (len > 0) {
        size_t part;
        int failed = c->used == COMPACTION_BUFFER ? write_buffer(c) : 0;

        part = COMPACTION_BUFFER - c->used < len ? COMPACTION_BUFFER - c->used : (size_t)len;
        if (failed == 0)
            failed = io_read_exactly(io, from->fd, c->buffer + c->used, part, offset);
        if (failed < 0)
            return failed;
        c->used += part;
        offset += part;
        len -= part;
    }
    return c->used == COMPACTION_BUFFER ? write_buffer(c) : 0;
}

static int note_move(struct compaction *c, const struct segment *from, uint64_t offset)
{
    if (c->move_count == c->move_room) {
        size_t room = c->move_room * 2 + 1024;
        struct move *moves = realloc(c->moves, room * sizeof(*moves));

        if (moves == NULL)
            return -ENOMEM;
        c->moves = moves;
        c->move_room = room;
    }
    c->moves[c->move_count++] = (struct move){
        .segment = from->id, .place = (uint32_t)(offset / 8), .to = (uint32_t)(c->offset / 8)};
    return 0;
}

static int copy_record(struct compaction *c, const struct segment *from, uint64_t offset,
                       const struct record *like, const uint8_t *key, const uint8_t *value)
{
    static const uint8_t zeros[8];
    struct record_position at = {
        .identity = c->ns->identity, .segment = c->out->id, .offset = c->offset};
    struct record record = *like;
    uint64_t size = record_size(record.key_len, record.value_len);
    uint8_t header[RECORD_HEADER];
    int failed = 0;

    record.synced = 0; /* claims are of the segment that made them */
    record.earlier_synced = false;
    record_encode(&record, key, &at, header);
    if (record.kind == RECORD_SET)
        failed = note_move(c, from, offset);
    if (failed == 0)
        failed = put(c, header, sizeof(header));
    if (failed == 0)
        failed = put(c, key, record.key_len);
    if (failed == 0 && value != NULL)
        failed = put(c, value, record.value_len);
    else if (failed == 0 && record.value_len > 0)
        failed = put_from_file(c, from, offset + RECORD_HEADER + record.key_len, record.value_len);
    if (failed == 0)
        failed = put(c, zeros, (size_t)(size - RECORD_HEADER - record.key_len - record.value_len));
    segment_note(c->out, record.number, c->offset);
    c->offset += size;
    c->records += record.kind <= RECORD_DEL;
    return failed;
}

/* 1 copy it, 0 drop it, -ENXIO when the namespace went. */
static int is_needed(struct compaction *c, const struct segment *from, uint64_t offset,
                     const struct record *record, const void *key)
{
    struct namespace *ns = c->ns;
    struct index_entry entry;
    uint64_t held;
    int found, needed = 0;

    if (record->kind > RECORD_DEL)
        return 0;
    pthread_mutex_lock(&ns->lock);
    found = ns->gone ? -ENXIO : namespace_find(ns, key, record->key_len, &entry);
    held = followers_hold(ns);
    pthread_mutex_unlock(&ns->lock);
    if (found < 0)
        return found;
    if (record->kind == RECORD_SET)
        needed = found > 0 && entry.segment == from->id && (uint64_t)entry.place * 8 == offset;
    else if (found == 0 && (!c->from_the_first || record->number > held)) /* K4, F1 */
        needed = 1;
    else if (found == 0)
        c->dropped = true;
    if (record->kind == RECORD_DEL && needed > 0)
        c->kept += record_size(record->key_len, 0);
    return needed;
}

struct copying {
    struct compaction *c;
    struct segment *from;
};

static int copy_if_needed(void *ctx, struct segment_walker *walker, const struct record *record,
                          const uint8_t *key, const uint8_t *value)
{
    struct copying *copying = ctx;
    uint64_t offset = walker->at.offset;
    uint8_t key_copy[RECORD_KEY_MAX];
    int n = is_needed(copying->c, copying->from, offset, record, key);

    if (n <= 0)
        return n < 0 ? n : 1;
    memcpy(key_copy, key,
           record->key_len); /* checking may read through the buffer in which it lies */
    n = segment_walker_check(walker, record, value);
    if (n <= 0)
        return n < 0 ? n : -EBADMSG;
    n = copy_record(copying->c, copying->from, offset, record, key_copy, value);
    return n < 0 ? n : 1;
}

static int copy_segment(struct compaction *c, struct segment *from)
{
    struct namespace *ns = c->ns;
    struct copying copying = {.c = c, .from = from};
    const struct segment_walk walk = {
        .from = SEGMENT_HEADER, .end = from->size, .visit = copy_if_needed};
    int failed = namespace_walk(ns, from, &walk, &copying);

    if (failed == -EBADMSG) { /* K2 */
        pthread_mutex_lock(&ns->lock);
        if (!from->damaged)
            ns->damaged++;
        from->damaged = true;
        pthread_mutex_unlock(&ns->lock);
        atomic_fetch_add(&ns->store->damaged, 1);
    }
    return failed;
}

int compaction_copy(struct compaction *c)
{
    const struct io *io = c->ns->store->io;
    struct segment *last = c->run[c->run_count - 1];
    struct record end = {.kind = RECORD_END, .number = last->next - 1, .time = store_now()};
    uint8_t header[SEGMENT_HEADER];
    int failed;

    clock_gettime(CLOCK_MONOTONIC, &c->rest_from);
    c->out->first = c->run[0]->first;
    c->out->next = last->next;
    segment_header_encode(c->out, c->ns->identity, header);
    failed = put(c, header, sizeof(header));
    c->offset = SEGMENT_HEADER;
    for (uint32_t i = 0; i < c->run_count && failed == 0; i++)
        failed = copy_segment(c, c->run[i]);
    if (failed == 0)
        failed = copy_record(c, NULL, 0, &end, NULL, NULL);
    if (failed == 0)
        failed = write_buffer(c);
    if (failed == 0)
        failed = io->sync(io, c->out->fd);
    c->out->size = c->out->written = c->out->synced = c->out->allocated = c->offset;
    c->out->kept = c->kept;
    c->out->sealed = true;
    return failed;
}

struct read_back {
    struct compaction *c;
    uint64_t records, moves;
    enum record_kind last;
};

static int compare(void *ctx, struct segment_walker *walker, const struct record *record,
                   const uint8_t *key, const uint8_t *value)
{
    struct read_back *back = ctx;
    const struct compaction *c = back->c;

    (void)key;
    (void)value;
    back->records += record->kind <= RECORD_DEL;
    back->last = record->kind;
    if (record->kind == RECORD_SET &&
        (back->moves >= c->move_count || c->moves[back->moves++].to != walker->at.offset / 8))
        return -EBADMSG;
    compaction_rest(back->c, (size_t)(walker->next - walker->at.offset));
    return 1;
}

int compaction_verify(struct compaction *c)
{
    struct read_back back = {.c = c};
    const struct segment_walk walk = {.from = SEGMENT_HEADER,
                                      .end = c->out->size,
                                      .flags = SEGMENT_CHECK_VALUES,
                                      .visit = compare};
    int failed = namespace_walk(c->ns, c->out, &walk, &back);

    if (failed == 0 &&
        (back.records != c->records || back.moves != c->move_count || back.last != RECORD_END))
        failed = -EBADMSG;
    return failed;
}
