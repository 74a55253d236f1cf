/*
 * recover_replay.c - from the records of the segments to the index, and what damage in them makes doubtful.
 *
 * Damage that hides a record's key makes every older value of the namespace, and every absence,
 * doubtful: the lost record may have written or deleted any key. Such keys are answered as damaged
 * (`suspect`) until they are written again. Where record numbers show that nothing was lost, they are not.
 */
#include "kv/recover.h"

#include <errno.h>
#include <string.h>

#define WRITES 128u       /* that are put into the index together */
#define WRITES_KEYS 8192u /* bytes of their keys; more than the longest key */

/* What does not verify from `from` to `to` of a segment, both in the part that was synced. */
static void note_damage(struct namespace *ns, struct segment *segment, uint64_t to,
                        bool nothing_lost)
{
    segment->damaged = true;
    ns->damaged++;
    atomic_fetch_add(&ns->store->damaged, 1);
    if (nothing_lost)
        return;
    ns->has_suspects = true;
    segment->suspect = to;
    for (uint32_t i = 0; i < ns->segment_count && ns->segments[i] != segment; i++)
        ns->segments[i]->suspect = UINT64_MAX;
}

static bool slot_may(void *ctx, const struct index_entry *entry)
{
    (void)ctx;
    (void)entry;
    return true; /* V1: all of it is synced */
}

static int slots_relieve(struct namespace *ns, size_t above)
{
    struct slots_batch batch;
    int failed;

    if (ns->slots == NULL || slots_pending(ns->slots) <= above)
        return 0;
    failed = slots_take(ns->slots, slot_may, NULL, &batch);
    if (failed < 0)
        return failed;
    failed = slots_write(ns->slots, &batch, false);
    slots_drop(ns->slots, &batch, failed == 0);
    return failed;
}

/* Writes of user mode that wait for company: the index asks for the memory of several at once. */
struct writes {
    size_t count, used;
    struct index_item items[WRITES];
    uint8_t keys[WRITES_KEYS];
};

static int writes_put(struct namespace *ns, struct writes *writes)
{
    size_t count = writes->count;

    writes->count = writes->used = 0;
    return count > 0 ? index_put_all(ns->index, writes->items, count) : 0;
}

static int writes_add(struct namespace *ns, struct writes *writes, const struct index_item *item)
{
    uint8_t *key;

    if (writes->count == WRITES || item->len > sizeof(writes->keys) - writes->used) {
        int failed = writes_put(ns, writes);

        if (failed < 0)
            return failed;
    }
    key = writes->keys + writes->used;
    memcpy(key, item->key, item->len); /* the walker's buffer moves on */
    writes->items[writes->count] = *item;
    writes->items[writes->count++].key = key;
    writes->used += item->len;
    return 0;
}

struct replay {
    struct namespace *ns;
    struct segment *segment;
    bool ended;
    bool lost; /* what comes next follows bytes that do not verify */
    struct writes writes;
};

static int apply(struct replay *replay, uint64_t offset, const struct record *record,
                 const uint8_t *key)
{
    struct namespace *ns = replay->ns;
    struct index_entry entry = {.segment = replay->segment->id,
                                .place = (uint32_t)(offset / 8),
                                .value_len = record->value_len,
                                .check = record->body & INDEX_CHECK_MASK};
    uint32_t id;
    int failed;

    if (record->kind > RECORD_DEL)
        return 0;
    if (ns->index != NULL) {
        struct index_item item = {.key = key, .len = record->key_len, .entry = entry};

        if (record->kind == RECORD_SET)
            return writes_add(ns, &replay->writes, &item);
        failed = writes_put(ns, &replay->writes); /* the key may be among them */
        if (failed == 0)
            index_remove(ns->index, key, record->key_len);
        return failed;
    }
    if (record->key_len != STORE_SEQ_KEY)
        return 0;
    id = (uint32_t)key[0] | (uint32_t)key[1] << 8 | (uint32_t)key[2] << 16 | (uint32_t)key[3] << 24;
    if (record->kind == RECORD_DEL)
        entry.value_len = SLOT_DELETED;
    if (ns->next_id <= id)
        ns->next_id = (uint64_t)id + 1;
    if (slots_put(ns->slots, id, &entry) < 0)
        return -ENOMEM;
    return slots_relieve(ns, SLOTS_PENDING_MAX / 2);
}

static int replay_record(void *ctx, struct segment_walker *walker, const struct record *record,
                         const uint8_t *key, const uint8_t *value)
{
    struct replay *replay = ctx;
    struct namespace *ns = replay->ns;
    struct segment *segment = replay->segment;
    int failed;

    (void)value;
    if (record == NULL) {
        replay->lost = true;
        replay->ended = false;
        return 1;
    }
    if (replay->lost)
        note_damage(ns, segment, walker->at.offset,
                    segment->next == 0 &&
                        record->number == ns->number + (record->kind <= RECORD_DEL ? 1 : 0));
    replay->lost = false;
    if (record->number > ns->number)
        ns->number = record->number;
    segment_note(segment, record->number, walker->at.offset);
    failed = apply(replay, walker->at.offset, record, key);
    replay->ended = record->kind == RECORD_END;
    if (replay->ended && segment->next == 0) /* what follows was claimed and not used */
        walker->end = segment->size = segment->written = segment->allocated = walker->next;
    ns->marked = record->kind >= RECORD_MARK;
    return failed < 0 ? failed : 1;
}

static int replay_segment(struct namespace *ns, struct segment *segment, uint64_t from)
{
    struct replay replay;
    const struct segment_walk walk = {
        .from = from, .end = segment->size, .flags = SEGMENT_TELL_DAMAGE, .visit = replay_record};
    int failed;

    replay.ns = ns;
    replay.segment = segment;
    replay.ended = replay.lost = false;
    replay.writes.count = replay.writes.used = 0;
    failed = namespace_walk(ns, segment, &walk, &replay);
    if (failed == 0)
        failed = writes_put(ns, &replay.writes);
    if (failed < 0)
        return failed;
    if (replay.lost)
        note_damage(ns, segment, segment->size, false);
    segment->sealed = replay.ended || segment->next != 0;
    return 0;
}

/* A segment is missing where one does not begin where the other ended (S1). */
static void check_tiles(struct namespace *ns, uint32_t at)
{
    struct segment *segment = ns->segments[at];
    bool last = at + 1 == ns->segment_count;
    uint64_t ends = segment->next != 0 ? segment->next : ns->number + 1;

    if (at == 0 && segment->first > ns->d.base)
        note_damage(ns, segment, SEGMENT_HEADER, false);
    if (last && !segment->sealed && !segment->damaged)
        return;
    segment->sealed = true;
    segment->next = last ? ends : ns->segments[at + 1]->first;
    if (ends > ns->number + 1)
        ns->number = ends - 1;
    if (!last && ends != ns->segments[at + 1]->first)
        note_damage(ns, ns->segments[at + 1], SEGMENT_HEADER, false);
}

static bool account_slot(void *ctx, uint32_t id, const struct index_entry *entry)
{
    struct namespace *ns = ctx;
    struct segment *segment = namespace_segment(ns, entry->segment);

    if (ns->next_id <= id)
        ns->next_id = (uint64_t)id + 1;
    if (entry->value_len == SLOT_DELETED)
        return true;
    if (segment == NULL)
        return false;
    namespace_account(ns, segment, STORE_SEQ_KEY, entry->value_len, true);
    return true;
}

/* Counts what lives. false: the index names a segment that is not there. */
static bool account_all(struct namespace *ns)
{
    struct index_entry entry;
    uint64_t at = 0;
    uint32_t len;

    ns->entries = ns->bytes = 0;
    for (uint32_t i = 0; i < ns->segment_count; i++)
        ns->segments[i]->live = 0;
    if (ns->slots != NULL)
        return slots_walk(ns->slots, account_slot, ns) == 0;
    while (index_walk(ns->index, &at, &len, &entry) != NULL) {
        struct segment *segment = namespace_segment(ns, entry.segment);

        if (segment == NULL || (uint64_t)entry.place * 8 >= segment->size)
            return false;
        namespace_account(ns, segment, len, entry.value_len, true);
    }
    return true;
}

static int open_index(struct namespace *ns, bool fresh)
{
    char path[PATH_LEN];

    if (ns->d.properties.mode == STORE_USER) {
        index_free(ns->index);
        ns->index = index_new();
        return ns->index != NULL ? 0 : -ENOMEM;
    }
    slots_close(ns->slots);
    ns->slots = NULL;
    index_path(ns, "slots", path);
    return slots_open(ns->store->io, ns->store->index, path, fresh, &ns->slots);
}

/* The index from the place on that *start and *offset name; all of it when they are 0. */
static int replay_from(struct namespace *ns, uint32_t start, uint64_t offset)
{
    int failed = 0;

    for (uint32_t i = start; failed == 0 && i < ns->segment_count; i++) {
        struct segment *segment = ns->segments[i];
        bool was_damaged = segment->damaged;

        if (segment->first != UINT64_MAX && segment->first > ns->number + 1 && i == 0)
            ns->number = segment->first - 1;
        failed = replay_segment(ns, segment, i == start && offset > 0 ? offset : SEGMENT_HEADER);
        if (failed == 0 && was_damaged)
            note_damage(ns, segment, SEGMENT_HEADER, true); /* its header */
        if (failed == 0)
            check_tiles(ns, i);
    }
    return failed;
}

int recover_index(struct namespace *ns)
{
    uint32_t start_segment = 0, start = 0;
    uint64_t start_offset = 0;
    int failed = open_index(ns, false), has_snapshot = 0;

    if (failed == 0) {
        has_snapshot = snapshot_load(ns, &start_segment, &start_offset);
        failed = has_snapshot < 0 ? has_snapshot : 0;
    }
    if (failed == 0 && has_snapshot > 0)
        while (start < ns->segment_count && ns->segments[start]->id != start_segment)
            start++;
    if (failed == 0)
        failed = recover_tail(ns, start, start_offset);
    if (failed == 0 && has_snapshot > 0) {
        failed = replay_from(ns, start, start_offset);
        if (failed == 0 && !account_all(ns)) {
            has_snapshot = 0; /* it verified, and yet is not of these segments */
            ns->number = ns->d.base > 0 ? ns->d.base - 1 : 0;
        }
    }
    if (failed == 0 && has_snapshot == 0) {
        failed = open_index(ns, true);
        if (failed == 0)
            failed = replay_from(ns, 0, 0);
        if (failed == 0)
            failed = slots_relieve(ns, 0);
        if (failed == 0 && !account_all(ns))
            failed = -EIO;
    }
    if (failed == 0 && ns->number < ns->expected_number) {
        if (ns->segment_count > 0)
            note_damage(ns, ns->segments[ns->segment_count - 1], UINT64_MAX, false);
        ns->damaged++;
        ns->has_suspects = true;
        ns->number = ns->expected_number;
    }
    return failed;
}
