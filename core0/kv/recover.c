/*
 * recover.c - from the files of a store to what it knew when it ended.
 *
 *   descriptor --> segments of the namespace --> tail: claims, cut, sync --> snapshot or nothing --> replay
 *
 * The tail is what no record claims to be synced (record.h, R3). It is cut at the first record in it that
 * does not verify, header or value: writes of a power cut reach the disk in any order, so nothing
 * behind that place was ever answered as durable. What lies before a claim is never cut: what does not
 * verify there is damage, is reported, and is left as it is.
 *
 * Damage that hides a record's key makes every older value of the namespace, and every absence,
 * doubtful: the lost record may have written or deleted any key. Such keys are answered as damaged
 * (`suspect`) until they are written again. Where record numbers show that nothing was lost, they are not.
 *
 * Invariant
 *  V1  Whatever is replayed is synced first, so that what is built on it (slots, snapshots, claims) is
 *      true after the next power cut, too.
 */
#include "kv/store_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- files of a namespace --------------------------------------------------------------------- */

struct listing {
    struct namespace *ns;
    uint32_t *seg, *new;
    size_t seg_count, new_count;
    bool has_descriptor, has_temporary, failed;
};

static int listing_each(void *ctx, const char *name)
{
    struct listing *listing = ctx;
    bool is_seg = strlen(name) == 12 && strcmp(name + 8, ".seg") == 0;
    bool is_new = strlen(name) == 12 && strcmp(name + 8, ".new") == 0;
    uint32_t **list = is_seg ? &listing->seg : &listing->new, *grown;
    size_t *count = is_seg ? &listing->seg_count : &listing->new_count;

    if (strcmp(name, "descriptor") == 0)
        listing->has_descriptor = true;
    if (!is_seg && !is_new)
        return 0;
    grown = realloc(*list, (*count + 1) * sizeof(**list));
    if (grown == NULL)
        return -ENOMEM;
    *list = grown;
    grown[(*count)++] = (uint32_t)strtoul(name, NULL, 16);
    return 0;
}

static int listing_read(struct namespace *ns, struct listing *listing)
{
    *listing = (struct listing){.ns = ns};
    return ns->store->io->list(ns->store->io, ns->folder, listing_each, listing);
}

static void listing_done(struct listing *listing)
{
    free(listing->seg);
    free(listing->new);
}

static bool is_among(const uint32_t *ids, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Finishes a swap, and removes what is not the namespace's (N2, N3). */
static int settle_files(struct namespace *ns, const struct listing *listing)
{
    const struct io *io = ns->store->io;
    char path[PATH_LEN], to[PATH_LEN];
    bool changed = false;
    int failed = 0;

    for (size_t i = 0; i < listing->new_count && failed == 0; i++) {
        segment_path(ns, listing->new[i], "new", path);
        segment_path(ns, listing->new[i], "seg", to);
        failed = is_among(ns->d.adopt, ns->d.adopt_count, listing->new[i])
                     ? io->rename(io, path, to)
                     : io->unlink(io, path);
        changed = true;
    }
    for (size_t i = 0; i < listing->seg_count && failed == 0; i++) {
        uint32_t id = listing->seg[i];

        if (id >= ns->d.floor && !is_among(ns->d.retire, ns->d.retire_count, id))
            continue;
        segment_path(ns, id, "seg", path);
        failed = io->unlink(io, path);
        changed = true;
    }
    if (failed == 0 && changed)
        failed = io->sync_dir(io, ns->folder);
    return failed;
}

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

static int open_segment(struct namespace *ns, uint32_t id)
{
    const struct io *io = ns->store->io;
    struct segment *segment = segment_new(id);
    uint8_t header[SEGMENT_HEADER] = {0};
    char path[PATH_LEN];
    int64_t size;
    int failed;

    if (segment == NULL)
        return -ENOMEM;
    segment_path(ns, id, "seg", path);
    segment->fd = io->open(io, path, IO_WRITE);
    if (segment->fd < 0) {
        failed = segment->fd;
        segment_free(segment);
        return failed;
    }
    size = io->size(io, segment->fd);
    failed = size < 0 ? (int)size : 0;
    if (failed == 0)
        failed = io_read_exactly(io, segment->fd, header, sizeof(header), 0);
    if (failed == -ENODATA ||
        (failed == 0 && segment_header_decode(header, ns->identity, segment) < 0)) {
        struct segment_walker walker;
        const uint8_t *key, *value;
        struct record record = {0};

        /* Its first record says where it belongs; without one it goes to the end. */
        segment->damaged = true;
        segment->first = UINT64_MAX;
        failed = segment_walker_init(&walker, io, segment->fd, ns->identity, id, SEGMENT_HEADER,
                                     (uint64_t)size);
        if (failed == 0)
            failed = segment_walker_next(&walker, &record, &key, &value);
        if (failed == -EBADMSG) {
            failed = segment_walker_resync(&walker);
            if (failed == 0)
                failed = segment_walker_next(&walker, &record, &key, &value);
        }
        if (failed > 0)
            segment->first = record.number;
        failed = failed > 0 || failed == -EBADMSG ? 0 : failed;
        segment_walker_done(&walker);
    }
    segment->size = segment->written = segment->allocated = (uint64_t)(size > 0 ? size : 0);
    if (failed == 0)
        failed = namespace_segment_add(ns, segment);
    if (failed < 0) {
        io->close(io, segment->fd);
        segment_free(segment);
    }
    return failed;
}

/* ---- the tail --------------------------------------------------------------------------------- */

/* What the records of a segment from an offset on claim: how far it is synced, and whether the ones
 * before it are. Writes to *ret_synced only what is higher. */
static int read_claims(struct namespace *ns, struct segment *segment, uint64_t from,
                       uint64_t *ret_synced, bool *ret_earlier, bool *ret_empty)
{
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct record record;
    int n = segment_walker_init(&walker, ns->store->io, segment->fd, ns->identity, segment->id,
                                from, segment->size);

    while (n >= 0) {
        n = segment_walker_next(&walker, &record, &key, &value);
        if (n == -EBADMSG) {
            n = segment_walker_resync(&walker);
            continue;
        }
        if (n <= 0)
            break;
        *ret_empty = false;
        if ((uint64_t)record.synced * 8 > *ret_synced)
            *ret_synced = (uint64_t)record.synced * 8;
        if (record.earlier_synced)
            *ret_earlier = true;
        if (record.kind == RECORD_END)
            break;
    }
    segment_walker_done(&walker);
    return n < 0 ? n : 0;
}

/* The first place from `from` on where header or value do not verify, or the end; whether the segment
 * ends as it should. */
static int verified_end(struct namespace *ns, struct segment *segment, uint64_t from, uint64_t *ret,
                        bool *ret_sealed)
{
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct record record;
    int n = segment_walker_init(&walker, ns->store->io, segment->fd, ns->identity, segment->id,
                                from, segment->size);

    *ret_sealed = false;
    while (n >= 0) {
        int good;

        n = segment_walker_next(&walker, &record, &key, &value);
        if (n <= 0)
            break;
        good = segment_walker_check(&walker, &record, value);
        if (good <= 0) {
            n = good < 0 ? good : -EBADMSG;
            break;
        }
        *ret_sealed = record.kind == RECORD_END;
        if (*ret_sealed) {
            walker.at.offset = walker.next;
            break;
        }
    }
    *ret = walker.at.offset;
    segment_walker_done(&walker);
    return n == -EBADMSG || n > 0 ? 0 : n;
}

static int drop_segment(struct namespace *ns, struct segment *segment)
{
    char path[PATH_LEN];

    ns->cut_bytes += segment->size;
    segment_path(ns, segment->id, "seg", path);
    segment_retire(ns, segment);
    return ns->store->io->unlink(ns->store->io, path);
}

/* Bytes that were written and are cut: not the zeros that were there before. */
static int count_cut(struct namespace *ns, const struct segment *segment, uint64_t from)
{
    uint8_t data[4096];
    uint64_t last = from;

    for (uint64_t at = from; at < segment->size;) {
        ssize_t n = ns->store->io->read(ns->store->io, segment->fd, data, sizeof(data), at);

        if (n <= 0)
            return (int)n;
        for (ssize_t i = 0; i < n; i++)
            if (data[i] != 0)
                last = at + (uint64_t)i + 1;
        at += (uint64_t)n;
    }
    ns->cut_bytes += last - from;
    return 0;
}

static int cut(struct namespace *ns, uint32_t at, uint64_t offset)
{
    const struct io *io = ns->store->io;
    struct segment *segment = ns->segments[at];
    int failed = 0;

    while (failed == 0 && ns->segment_count > at + 1) /* from the end: a half-way cut is one, too */
        failed = drop_segment(ns, ns->segments[ns->segment_count - 1]);
    if (failed == 0)
        failed = io->sync_dir(io, ns->folder);
    if (failed < 0)
        return failed;
    if (offset <= SEGMENT_HEADER && (segment->damaged || segment->size < SEGMENT_HEADER)) {
        failed = drop_segment(ns, segment); /* its making was cut */
        return failed < 0 ? failed : io->sync_dir(io, ns->folder);
    }
    if (offset < segment->size) {
        failed = count_cut(ns, segment, offset);
        if (failed < 0)
            return failed;
        failed = io->truncate(io, segment->fd, offset);
        segment->size = segment->written = segment->allocated = offset;
    }
    return failed;
}

/* Finds the tail, cuts it, syncs what is left. `start`: what the index holds lies before it. */
static int settle_tail(struct namespace *ns, uint32_t start, uint64_t start_offset)
{
    const struct io *io = ns->store->io;
    uint64_t *synced = calloc(ns->segment_count + 1, sizeof(*synced));
    uint32_t from = ns->segment_count;
    bool earlier = false;
    int failed = synced == NULL ? -ENOMEM : 0;

    while (failed == 0 && from > start && !earlier) {
        struct segment *segment = ns->segments[--from];
        bool empty = true;

        synced[from] =
            from == start && start_offset > SEGMENT_HEADER ? start_offset : SEGMENT_HEADER;
        if (segment->next != 0) /* written by a compaction: synced before it was adopted */
            synced[from] = segment->size;
        else
            failed = read_claims(ns, segment, synced[from], &synced[from], &earlier, &empty);
    }
    for (uint32_t i = from; failed == 0 && i < ns->segment_count; i++) {
        struct segment *segment = ns->segments[i];
        uint64_t end = 0;
        bool sealed = false, last = i + 1 == ns->segment_count;

        if (segment->next != 0 || (synced[i] > SEGMENT_HEADER && synced[i] > segment->size))
            continue; /* the latter is shorter than it was: damage, met by the replay */
        failed = verified_end(ns, segment, synced[i], &end, &sealed);
        if (failed == 0 && sealed) /* what follows is space that was claimed and not used */
            segment->size = segment->written = segment->allocated = end;
        /* Without a header and all that could follow it: its making was cut. */
        if (failed == 0 && (end < segment->size || (!sealed && !last) ||
                            (segment->damaged && end <= SEGMENT_HEADER)))
            failed = cut(ns, i, end);
        else if (failed == 0)
            continue;
        break;
    }
    free(synced);
    /* A server that was killed left it to the kernel: V1. */
    for (uint32_t i = from; failed == 0 && i < ns->segment_count; i++)
        failed = io->sync(io, ns->segments[i]->fd);
    return failed;
}

/* ---- replay ----------------------------------------------------------------------------------- */

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

static int apply(struct namespace *ns, const struct segment *segment, uint64_t offset,
                 const struct record *record, const uint8_t *key)
{
    struct index_entry entry = {.segment = segment->id,
                                .place = (uint32_t)(offset / 8),
                                .value_len = record->value_len,
                                .check = record->body & INDEX_CHECK_MASK};
    uint32_t id;

    if (record->kind > RECORD_DEL)
        return 0;
    if (ns->index != NULL) {
        if (record->kind == RECORD_SET)
            return index_put(ns->index, key, record->key_len, &entry);
        index_remove(ns->index, key, record->key_len);
        return 0;
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

static int replay(struct namespace *ns, struct segment *segment, uint64_t from)
{
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct record record;
    bool ended = false;
    int n = segment_walker_init(&walker, ns->store->io, segment->fd, ns->identity, segment->id,
                                from, segment->size);

    while (n >= 0) {
        n = segment_walker_next(&walker, &record, &key, &value);
        if (n == -EBADMSG) {
            bool nothing_lost = false;

            n = segment_walker_resync(&walker);
            if (n == 0 && walker.next < walker.end) {
                n = segment_walker_next(&walker, &record, &key, &value);
                nothing_lost = n > 0 && segment->next == 0 &&
                               record.number == ns->number + (record.kind <= RECORD_DEL ? 1 : 0);
            }
            note_damage(ns, segment, n > 0 ? walker.at.offset : walker.end, nothing_lost);
            ended = false;
        }
        if (n <= 0)
            break;
        if (record.number > ns->number)
            ns->number = record.number;
        segment_note(segment, record.number, walker.at.offset);
        n = apply(ns, segment, walker.at.offset, &record, key);
        ended = record.kind == RECORD_END;
        if (ended && segment->next == 0) /* what follows was claimed and not used */
            walker.end = segment->size = segment->written = segment->allocated = walker.next;
        ns->marked = record.kind >= RECORD_MARK;
        if (n == 0)
            n = 1;
    }
    segment_walker_done(&walker);
    if (n < 0)
        return n;
    segment->sealed = ended || segment->next != 0;
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
        failed = replay(ns, segment, i == start && offset > 0 ? offset : SEGMENT_HEADER);
        if (failed == 0 && was_damaged)
            note_damage(ns, segment, SEGMENT_HEADER, true); /* its header */
        if (failed == 0)
            check_tiles(ns, i);
    }
    return failed;
}

static int load(struct namespace *ns)
{
    struct listing listing;
    uint32_t start_segment = 0, start = 0;
    uint64_t start_offset = 0;
    int failed = listing_read(ns, &listing), has_snapshot = 0;

    if (failed == 0)
        failed = settle_files(ns, &listing);
    ns->next_segment = ns->d.floor > 0 ? ns->d.floor : 1;
    for (size_t i = 0; failed == 0 && i < listing.seg_count + listing.new_count; i++) {
        uint32_t id = i < listing.seg_count ? listing.seg[i] : listing.new[i - listing.seg_count];

        if (ns->next_segment <= id)
            ns->next_segment = id + 1;
        if (id < ns->d.floor || is_among(ns->d.retire, ns->d.retire_count, id) ||
            (i >= listing.seg_count && !is_among(ns->d.adopt, ns->d.adopt_count, id)))
            continue;
        failed = open_segment(ns, id);
    }
    listing_done(&listing);
    for (uint32_t i = 0; i < ns->d.retire_count; i++)
        if (ns->next_segment <= ns->d.retire[i])
            ns->next_segment = ns->d.retire[i] + 1;
    ns->number = ns->d.base > 0 ? ns->d.base - 1 : 0;
    ns->next_id = ns->d.next_id;
    if (failed == 0)
        failed = open_index(ns, false);
    if (failed == 0) {
        has_snapshot = snapshot_load(ns, &start_segment, &start_offset);
        failed = has_snapshot < 0 ? has_snapshot : 0;
    }
    if (failed == 0 && has_snapshot > 0)
        while (start < ns->segment_count && ns->segments[start]->id != start_segment)
            start++;
    if (failed == 0)
        failed = settle_tail(ns, start, start_offset);
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
    for (uint32_t i = 0; i < ns->segment_count; i++)
        ns->segments[i]->synced = ns->segments[i]->size;
    ns->earlier_synced = true;
    return failed;
}

int namespace_load(struct namespace *ns)
{
    char path[PATH_LEN];
    int failed;

    if (ns->identity != ns->d.identity)
        ns->identity = ns->d.identity;
    failed = load(ns);

    if (failed == 0)
        return 0;
    snprintf(path, sizeof(path), "%s", ns->folder);
    if (failed == -ENOMEM)
        return STORE_NO_MEMORY;
    if (failed == -ENOSPC || failed == -EDQUOT)
        return STORE_NO_SPACE;
    return store_fail(ns->store, "recovery", path, failed);
}

/* ---- the store -------------------------------------------------------------------------------- */

static int read_next_id(struct store *store)
{
    char path[PATH_LEN + 8];
    uint8_t *data = NULL;
    size_t len = 0;
    uint64_t next;
    uint32_t crc;
    int failed;

    snprintf(path, sizeof(path), "%s/store", store->data);
    failed = io_read_file(store->io, path, 64, (void **)&data, &len);
    if (failed == -ENOENT)
        return 0;
    if (failed < 0 && failed != -EFBIG)
        return failed;
    if (failed == 0 && len == 20 && memcmp(data, "CROFTST1", 8) == 0) {
        memcpy(&next, data + 8, sizeof(next));
        memcpy(&crc, data + 16, sizeof(crc));
        if (le32toh(crc) == record_crc32c(0, data, 16))
            store->next_namespace = le64toh(next); /* damaged: the folders say enough */
    }
    free(data);
    return 0;
}

/* A namespace whose descriptor cannot be read: kept as it is, shown, frozen. */
static int keep_damaged(struct namespace *ns)
{
    ns->d.properties.lock = STORE_FROZEN;
    snprintf(ns->d.name, sizeof(ns->d.name), "damaged-%u", ns->d.id);
    ns->descriptor_damaged = true;
    ns->damaged = 1;
    ns->index = index_new();
    return ns->index != NULL ? store_namespace_add(ns->store, ns) : STORE_NO_MEMORY;
}

/* 1: it is gone, or never was. */
static int recover_namespace(struct namespace *ns)
{
    struct store *store = ns->store;
    struct namespace_descriptor d = {0};
    struct listing listing;
    char path[PATH_LEN];
    uint8_t *data = NULL;
    size_t len = 0;
    int failed;

    snprintf(path, sizeof(path), "%.490s/descriptor", ns->folder);
    failed = io_read_file(store->io, path, NAMESPACE_DESCRIPTOR_MAX, (void **)&data, &len);
    if (failed < 0 && failed != -ENOENT && failed != -EFBIG)
        return failed;
    if (failed == -ENOENT) {
        failed = listing_read(ns, &listing);
        listing_done(&listing);
        if (failed < 0)
            return failed;
        if (listing.seg_count == 0) { /* N1: it was never made, or is deleted but for the folder */
            failed = namespace_remove_files(ns);
            return failed < 0 ? failed : 1;
        }
        return keep_damaged(ns);
    }
    if (failed == 0)
        failed = namespace_decode(data, len, &d);
    free(data);
    if (failed < 0 || d.id != ns->d.id)
        return keep_damaged(ns);
    ns->d = d;
    if (d.deleted) {
        failed = namespace_remove_files(ns);
        return failed < 0 ? failed : 1;
    }
    failed = namespace_load(ns);
    if (failed < 0)
        return failed;
    return store_namespace_add(store, ns);
}

struct folders {
    uint32_t *ids;
    size_t count;
};

static int folders_each(void *ctx, const char *name)
{
    struct folders *folders = ctx;
    uint32_t *grown;

    if (strncmp(name, "ns-", 3) != 0 || strlen(name) != 11)
        return 0;
    grown = realloc(folders->ids, (folders->count + 1) * sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    folders->ids = grown;
    grown[folders->count++] = (uint32_t)strtoul(name + 3, NULL, 16);
    return 0;
}

int store_recover(struct store *store, struct error *err)
{
    struct folders folders = {0};
    int failed = read_next_id(store);

    if (failed == 0)
        failed = store->io->list(store->io, store->data, folders_each, &folders);
    for (size_t i = 0; failed == 0 && i < folders.count; i++) {
        struct namespace *ns = namespace_new(store, folders.ids[i]);

        if (store->next_namespace <= folders.ids[i])
            store->next_namespace = (uint64_t)folders.ids[i] + 1;
        failed = ns == NULL ? -ENOMEM : recover_namespace(ns);
        if (failed != 0)
            store_namespace_put(ns);
        if (failed > 0)
            failed = 0;
    }
    free(folders.ids);
    if (failed < 0)
        return error_set(err, -failed,
                         failed == -ENOMEM   ? "kv.no-memory"
                         : failed == -ENOSPC ? "kv.no-space"
                                             : "kv.disk-failed",
                         "check the disk", "cannot recover the store in %s: %s%s%s", store->data,
                         strerror(-failed), store->failed_text[0] != '\0' ? ": " : "",
                         store->failed_text);
    return 0;
}
