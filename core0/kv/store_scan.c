/*
 * store_scan.c - walking a namespace in the order of its record numbers, and over its keys.
 *
 * A cursor's number decides; its hint (segment and place) only saves the search, and is believed only
 * when the record there has that number. So cursors outlive compaction, which moves records and keeps
 * their numbers and their order.
 */
#include "kv/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORK_RECORDS 65536u      /* examined per call */
#define WORK_BYTES (16ull << 20) /* walked over per call */
#define WORK_KEYS 4096u          /* of the index per call */

static uint64_t hint_of(const struct segment *segment, uint64_t offset)
{
    return (uint64_t)segment->id << 32 | offset / 8;
}

static int settle(struct namespace *ns)
{
    int failed;

    pthread_mutex_lock(&ns->write);
    failed = namespace_write_out(ns);
    pthread_mutex_unlock(&ns->write);
    return failed;
}

/* Whether this record is what its key has now; takes the lock. */
static bool is_live(struct namespace *ns, const struct segment *segment, uint64_t offset,
                    const struct record *record, const void *key)
{
    struct index_entry entry;
    bool live;

    if (record->kind != RECORD_SET)
        return false;
    pthread_mutex_lock(&ns->lock);
    live = namespace_find(ns, key, record->key_len, &entry) > 0 && !entry_is_suspect(ns, &entry) &&
           ((entry.segment == segment->id && (uint64_t)entry.place * 8 == offset) ||
            compaction_moves(ns, &entry, segment->id, offset));
    pthread_mutex_unlock(&ns->lock);
    return live;
}

/* Where to begin to find the first record with a number above `number`: the segment, with a reference,
 * and an offset. 1; 0: there is none. ns->lock held. */
static int begin(struct namespace *ns, const struct store_cursor *cursor, struct segment **ret,
                 uint64_t *ret_offset)
{
    struct segment *segment = namespace_segment_for(ns, cursor->number + 1), *hinted;

    if (segment == NULL)
        return 0;
    hinted = namespace_segment(ns, (uint32_t)(cursor->hint >> 32));
    *ret_offset = segment_seek(segment, cursor->number);
    if (hinted == segment && (cursor->hint & UINT32_MAX) * 8 >= *ret_offset &&
        (cursor->hint & UINT32_MAX) * 8 < segment->written)
        *ret_offset = (cursor->hint & UINT32_MAX) * 8; /* the caller looks whether it is a record */
    atomic_fetch_add(&segment->refs, 1);
    *ret = segment;
    return 1;
}

struct scan {
    struct namespace *ns;
    struct store_cursor *cursor;
    bool all; /* dead ones and deletions too, and only what is answered */
    uint32_t max, count, examined, damaged;
    uint64_t walked;
    int (*each)(void *ctx, const struct store_item *item);
    void *ctx;
    int stopped; /* what `each` returned */
    bool more;
};

static bool has_work_left(struct scan *scan)
{
    scan->more = scan->count >= scan->max || scan->examined >= WORK_RECORDS ||
                 scan->walked >= WORK_BYTES || scan->stopped != 0;
    return !scan->more;
}

/* Gives one record to the caller. */
static void scan_give(struct scan *scan, const struct segment *segment, uint64_t offset,
                      const struct record *record, const void *key)
{
    struct store_cursor here = {.number = record->number, .hint = hint_of(segment, offset)};

    scan->examined++;
    if (scan->all ? record->kind <= RECORD_DEL : is_live(scan->ns, segment, offset, record, key)) {
        struct store_item item = {.key = key,
                                  .key_len = record->key_len,
                                  .value_len = record->value_len,
                                  .time = record->time,
                                  .deleted = record->kind == RECORD_DEL,
                                  .cursor = here};

        scan->stopped = scan->each(scan->ctx, &item);
        if (scan->stopped != 0)
            return;
        scan->count++;
    }
    if (record->kind <= RECORD_DEL)
        *scan->cursor = here;
}

/* Begins to walk through a segment. 1; 0: FLUSH or NSDEL took it meanwhile; negative result. */
static int walker_begin(struct namespace *ns, struct segment *segment, uint64_t from, uint64_t end,
                        struct segment_walker *walker)
{
    int failed = namespace_walker_init(ns, segment, from, end, walker);

    if (failed == -ENOENT && segment_is_retired(ns, segment))
        return 0;
    if (failed < 0)
        return failed == -ENOMEM ? STORE_NO_MEMORY : STORE_DISK_FAILED;
    return 1;
}

/* One segment, forwards. 1: go on with the next one; 0: enough; negative result. */
static int scan_segment(struct scan *scan, struct segment *segment, uint64_t offset, uint64_t end)
{
    struct namespace *ns = scan->ns;
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct record record;
    bool first = true;
    int n = walker_begin(ns, segment, offset, end, &walker);

    if (n <= 0)
        return n < 0 ? n : 1;

    while (n >= 0 && has_work_left(scan)) {
        uint64_t from = walker.next;

        n = segment_walker_next(&walker, &record, &key, &value);
        if (n == -EBADMSG && first && offset != segment_seek(segment, scan->cursor->number)) {
            walker.next = segment_seek(segment, scan->cursor->number); /* a hint that was wrong */
            first = false;
            n = 0;
            continue;
        }
        if (n == -EBADMSG) {
            scan->damaged++;
            n = segment_walker_resync(&walker);
            continue;
        }
        if (n <= 0)
            break;
        if (first && record.number > scan->cursor->number &&
            offset != segment_seek(segment, scan->cursor->number)) {
            walker.next = segment_seek(segment, scan->cursor->number);
            first = false;
            continue;
        }
        first = false;
        scan->walked += walker.next - from;
        if (record.number > scan->cursor->number)
            scan_give(scan, segment, walker.at.offset, &record, key);
    }
    namespace_walker_done(segment, &walker);
    return n < 0 ? STORE_DISK_FAILED : scan->more ? 0 : 1;
}

static int scan_forwards(struct scan *scan)
{
    struct namespace *ns = scan->ns;
    uint64_t after = 0; /* numbers of segments that are done */
    int ret = 1;

    while (ret > 0) {
        struct store_cursor from = *scan->cursor;
        struct segment *segment;
        uint64_t offset, end, next;
        bool last;

        if (from.number + 1 < after)
            from = (struct store_cursor){.number = after - 1};
        pthread_mutex_lock(&ns->lock);
        if (ns->gone || begin(ns, &from, &segment, &offset) == 0) {
            pthread_mutex_unlock(&ns->lock);
            return ns->gone ? STORE_NO_NAMESPACE : 0;
        }
        end = scan->all && ns->store->options.sync == STORE_SYNC_ALWAYS ? segment->synced
                                                                        : segment->written;
        next = segment->next;
        last = next == 0;
        pthread_mutex_unlock(&ns->lock);
        ret = scan_segment(scan, segment, offset, end);
        segment_put(ns, segment);
        if (ret > 0 && last)
            ret = 0;
        after = next;
    }
    return ret;
}

/* ---- backwards -------------------------------------------------------------------------------- */

struct seen {
    uint64_t offset;
    struct record record;
    size_t key; /* where in the arena */
};

struct block {
    struct seen *list;
    size_t count, room;
    uint8_t *arena;
    size_t used, arena_room;
};

static int block_add(struct block *block, uint64_t offset, const struct record *record,
                     const uint8_t *key)
{
    if (block->count == block->room) {
        size_t room = block->room * 2 + 256;
        struct seen *list = realloc(block->list, room * sizeof(*list));

        if (list == NULL)
            return -ENOMEM;
        block->list = list;
        block->room = room;
    }
    if (block->used + record->key_len >= block->arena_room) {
        size_t room = (block->arena_room + record->key_len) * 2 + 4096;
        uint8_t *arena = realloc(block->arena, room);

        if (arena == NULL)
            return -ENOMEM;
        block->arena = arena;
        block->arena_room = room;
    }
    memcpy(block->arena + block->used, key, record->key_len);
    block->list[block->count++] =
        (struct seen){.offset = offset, .record = *record, .key = block->used};
    block->used += record->key_len;
    return 0;
}

/* What a walk through a block collects. */
struct collecting {
    struct scan *scan;
    struct block block;
    uint64_t below;
};

static int collect(void *ctx, struct segment_walker *walker, const struct record *record,
                   const uint8_t *key, const uint8_t *value)
{
    struct collecting *collecting = ctx;
    int failed = 0;

    (void)value;
    if (record == NULL) {
        collecting->scan->damaged++;
        return 1;
    }
    if (collecting->below != 0 && record->number >= collecting->below)
        return 0;
    if (record->kind <= RECORD_DEL)
        failed = block_add(&collecting->block, walker->at.offset, record, key);
    return failed < 0 ? failed : 1;
}

/* The records in [start, end) with a number below `below`, given last first. */
static int scan_block(struct scan *scan, struct segment *segment, uint64_t start, uint64_t end,
                      uint64_t below)
{
    struct collecting collecting = {.scan = scan, .below = below};
    const struct block *block = &collecting.block;
    const struct segment_walk walk = {
        .from = start, .end = end, .flags = SEGMENT_TELL_DAMAGE, .visit = collect};
    int failed = namespace_walk(scan->ns, segment, &walk, &collecting);

    if (failed == -ENOENT && segment_is_retired(scan->ns, segment))
        failed = 0;
    scan->walked += end - start;
    for (size_t i = block->count; failed == 0 && i > 0 && has_work_left(scan); i--) {
        const struct seen *seen = &block->list[i - 1];

        scan_give(scan, segment, seen->offset, &seen->record, block->arena + seen->key);
    }
    free(block->list);
    free(block->arena);
    if (failed < 0)
        return failed == -ENOMEM ? STORE_NO_MEMORY : STORE_DISK_FAILED;
    return 0;
}

/* The end of the block in which the record before `below` lies: the place of the first mark at or
 * above that number, or the end of what is written. */
static uint64_t block_end(const struct segment *segment, uint64_t below)
{
    for (uint32_t low = 0, high = segment->mark_count; below != 0;) {
        uint32_t middle = low + (high - low) / 2;

        if (low == high)
            return low < segment->mark_count ? (uint64_t)segment->marks[low].place * 8
                                             : segment->written;
        if (segment->marks[middle].number >= below)
            high = middle;
        else
            low = middle + 1;
    }
    return segment->written;
}

static int scan_backwards(struct scan *scan)
{
    struct namespace *ns = scan->ns;
    uint64_t below = scan->cursor->number; /* 0: the end */
    int ret = 0;

    while (ret == 0) {
        struct segment *segment;
        uint64_t start, end;
        bool first;

        pthread_mutex_lock(&ns->lock);
        if (ns->gone || ns->segment_count == 0 || below == 1) {
            pthread_mutex_unlock(&ns->lock);
            return ns->gone ? STORE_NO_NAMESPACE : 0;
        }
        segment =
            below == 0 ? ns->segments[ns->segment_count - 1] : namespace_segment_for(ns, below - 1);
        if (segment == NULL)
            segment = ns->segments[ns->segment_count - 1];
        first = segment == ns->segments[0];
        end = block_end(segment, below);
        atomic_fetch_add(&segment->refs, 1);
        start = segment_seek_back(segment, end);
        pthread_mutex_unlock(&ns->lock);
        for (;;) {
            ret = scan_block(scan, segment, start, end, below);
            if (ret < 0 || !has_work_left(scan) || start == SEGMENT_HEADER)
                break;
            end = start;
            pthread_mutex_lock(&ns->lock);
            start = segment_seek_back(segment, end);
            pthread_mutex_unlock(&ns->lock);
        }
        below = segment->first;
        segment_put(ns, segment);
        if (ret < 0 || scan->more || first)
            break;
    }
    return ret;
}

static int scan_run(struct scan *scan, bool backwards, bool *ret_more)
{
    int ret = settle(scan->ns);

    if (ret == 0)
        ret = backwards ? scan_backwards(scan) : scan_forwards(scan);
    if (ret < 0)
        return ret;
    *ret_more = scan->more;
    return scan->stopped < 0 ? scan->stopped : (int)scan->count;
}

int store_scan(struct namespace *ns, struct store_cursor *cursor, bool backwards, uint32_t max,
               int (*each)(void *ctx, const struct store_item *item), void *ctx, bool *ret_more,
               uint32_t *ret_damaged)
{
    struct scan scan = {.ns = ns, .cursor = cursor, .max = max, .each = each, .ctx = ctx};
    struct store_properties properties;
    int ret;

    store_namespace_properties(ns, &properties);
    if (properties.lock == STORE_FROZEN)
        return STORE_IS_FROZEN;
    ret = scan_run(&scan, backwards, ret_more);
    if (ret >= 0 && ret_damaged != NULL)
        *ret_damaged = scan.damaged;
    return ret;
}

int namespace_scan_all(struct namespace *ns, struct store_cursor *cursor, uint32_t max,
                       int (*each)(void *ctx, const struct store_item *item), void *ctx,
                       bool *ret_more)
{
    struct scan scan = {
        .ns = ns, .cursor = cursor, .all = true, .max = max, .each = each, .ctx = ctx};
    int ret = scan_run(&scan, false, ret_more);

    return ret >= 0 && scan.damaged > 0 ? STORE_DAMAGED : ret;
}

int store_locate(struct namespace *ns, const struct store_cursor *cursor, struct store_place *ret)
{
    struct store_cursor before = {.number = cursor->number - 1, .hint = cursor->hint};
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct segment *segment;
    struct record record = {0};
    uint64_t offset, end;
    int n;

    if (cursor->number == 0)
        return STORE_NO_KEY;
    n = settle(ns);
    if (n < 0)
        return n;
    pthread_mutex_lock(&ns->lock);
    if (ns->gone || begin(ns, &before, &segment, &offset) == 0) {
        pthread_mutex_unlock(&ns->lock);
        return ns->gone ? STORE_NO_NAMESPACE : STORE_NO_KEY;
    }
    end = segment->written;
    pthread_mutex_unlock(&ns->lock);
    n = walker_begin(ns, segment, offset, end, &walker);
    if (n <= 0) {
        segment_put(ns, segment);
        return n < 0 ? n : STORE_NO_KEY;
    }
    n = segment_walker_next(&walker, &record, &key, &value);
    if (n == -EBADMSG || (n > 0 && record.number != cursor->number)) { /* the hint was wrong */
        walker.next = segment_seek(segment, before.number);
        do {
            n = segment_walker_next(&walker, &record, &key, &value);
            if (n == -EBADMSG && segment_walker_resync(&walker) == 0) {
                record.number = 0;
                n = 1;
            }
        } while (n > 0 && record.number < cursor->number);
    }
    if (n > 0 && record.number == cursor->number && record.kind <= RECORD_DEL)
        *ret = (struct store_place){.segment = segment->id,
                                    .offset = walker.at.offset,
                                    .checksum = record_head(key - RECORD_HEADER)};
    else
        n = n < 0 ? n : 0;
    namespace_walker_done(segment, &walker);
    segment_put(ns, segment);
    return n < 0 ? STORE_DISK_FAILED : n > 0 ? 0 : STORE_NO_KEY;
}

/* ---- keys ------------------------------------------------------------------------------------- */

int store_keys(struct namespace *ns, const void *prefix, uint32_t len, uint64_t *at,
               int (*each)(void *ctx, const struct store_item *item), void *ctx)
{
    bool is_seq, more = true;
    int ret = 0;

    pthread_mutex_lock(&ns->lock);
    is_seq = ns->d.properties.mode == STORE_SEQ;
    if (ns->gone || ns->d.properties.lock == STORE_FROZEN || ns->has_suspects)
        ret = ns->gone                                ? STORE_NO_NAMESPACE
              : ns->d.properties.lock == STORE_FROZEN ? STORE_IS_FROZEN
                                                      : STORE_DAMAGED;
    for (uint32_t i = 0; ret == 0 && more && i < WORK_KEYS; i++) {
        struct store_item item = {0};
        struct index_entry entry = {0};
        uint8_t id[STORE_SEQ_KEY];

        if (is_seq) {
            int found;

            more = *at < ns->next_id;
            if (!more)
                break;
            for (unsigned b = 0; b < STORE_SEQ_KEY; b++)
                id[b] = (uint8_t)(*at >> (8 * b));
            ++*at;
            found = namespace_find(ns, id, STORE_SEQ_KEY, &entry);
            if (found < 0)
                ret = found == -EBADMSG ? STORE_DAMAGED : STORE_DISK_FAILED;
            if (found <= 0)
                continue;
            item.key = id;
            item.key_len = STORE_SEQ_KEY;
        } else {
            item.key = index_walk(ns->index, at, &item.key_len, &entry);
            more = item.key != NULL;
        }
        item.value_len = entry.value_len;
        if (more && item.key_len >= len && memcmp(item.key, prefix, len) == 0)
            ret = each(ctx, &item);
    }
    pthread_mutex_unlock(&ns->lock);
    return ret < 0 ? ret : more && ret == 0 ? 1 : 0;
}
