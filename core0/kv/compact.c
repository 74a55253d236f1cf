/*
 * compact.c - online compaction: a run of segments becomes one that holds what lives.
 *
 *   choose --> copy to <id>.new, sync --> verify the copy --> descriptor (the swap) --> <id>.seg
 *          --> move the index, a lump at a time --> the old segments go
 *
 * It needs space for one segment, which the store keeps free (options.reserve): a run is chosen so that
 * what lives in it fits one. Writers and readers go on: they hold ns->lock for a look-up, and so does
 * every lump here.
 *
 * Invariants
 *  K1  Records keep their number and order: the output tiles the same numbers as the run.
 *  K2  Only a record that verified is copied. A segment with damage, or with suspects, stays as it is.
 *  K3  Until the descriptor is replaced, a recovery finds the old segments and removes the copy; from
 *      then on it finds the copy and removes the old ones. The copy is synced, named durably and
 *      read back before that.
 *  K4  A deletion is dropped only when no older record of its key can be left: nothing lies before the
 *      run, or the key has a newer record. `compacted_to` says to where a follower may have missed one.
 *  K5  The newer records for whose sake others were left out are synced before the swap.
 */
#include "kv/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OVERHEAD (SEGMENT_HEADER + RECORD_HEADER) /* of a segment: never dead */
#define RUN_MAX 32u
#define LUMP 256u                /* index entries per lock */
#define BUFFER ((size_t)1 << 20) /* bytes per write */
#define PACE_BYTES (4u << 20)    /* a rest after so much */

struct compaction {
    struct namespace *ns;
    struct segment *run[RUN_MAX]; /* with a reference each */
    uint32_t run_count;
    bool from_the_first; /* nothing lies before the run */
    bool dropped;        /* a deletion */
    struct segment *out;
    uint8_t *buffer;
    size_t used;
    uint64_t written, offset; /* offset: of the next record of the output */
    uint64_t kept;
    struct move *moves;
    size_t move_count, move_room;
    uint64_t records;
    uint64_t since_rest;
    struct timespec rest_from;
};

static uint64_t dead_bytes(const struct segment *segment)
{
    uint64_t used = OVERHEAD + segment->live + segment->kept;

    return segment->size > used ? segment->size - used : 0;
}

static bool may_compact(const struct segment *segment)
{
    return segment->sealed && !segment->damaged && segment->suspect == 0 &&
           segment->synced == segment->size;
}

/* The run that begins at a place in the list: as many as fit one segment and have something dead. */
static uint32_t run_length(const struct namespace *ns, uint32_t at)
{
    uint64_t fits = ns->store->options.segment_size - OVERHEAD, used = 0;
    uint32_t count = 0;

    while (at + count < ns->segment_count && count < RUN_MAX) {
        const struct segment *segment = ns->segments[at + count];
        uint64_t lives = segment->live + segment->kept;

        if (!may_compact(segment) || used + lives > fits ||
            (count > 0 && dead_bytes(segment) * 4 < segment->size && lives > fits / 4))
            break;
        used += lives;
        count++;
    }
    return count;
}

bool compaction_moves(const struct namespace *ns, const struct index_entry *entry, uint32_t segment,
                      uint64_t offset)
{
    size_t low = 0, high = ns->move_count;

    if (ns->moving_to == NULL || entry->segment != ns->moving_to->id)
        return false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (ns->moves[middle].to < entry->place)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ns->move_count && ns->moves[low].to == entry->place &&
           ns->moves[low].segment == segment && (uint64_t)ns->moves[low].place * 8 == offset;
}

/* ---- copying ---------------------------------------------------------------------------------- */

/* Gives others the disk: half of the time, unless nobody else runs. */
static void rest(struct compaction *c, size_t done)
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

    rest(c, c->used);
    c->written += c->used;
    c->used = 0;
    return failed;
}

static int put(struct compaction *c, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        size_t part = BUFFER - c->used < len ? BUFFER - c->used : len;
        int failed;

        memcpy(c->buffer + c->used, from, part);
        c->used += part;
        from += part;
        len -= part;
        failed = c->used == BUFFER ? write_buffer(c) : 0;
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
        int failed = c->used == BUFFER ? write_buffer(c) : 0;

        part = BUFFER - c->used < len ? BUFFER - c->used : (size_t)len;
        if (failed == 0)
            failed = io_read_exactly(io, from->fd, c->buffer + c->used, part, offset);
        if (failed < 0)
            return failed;
        c->used += part;
        offset += part;
        len -= part;
    }
    return c->used == BUFFER ? write_buffer(c) : 0;
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

static int copy_record(struct compaction *c, const struct segment *from,
                       const struct segment_walker *walker, struct record *record,
                       const uint8_t *key, const uint8_t *value)
{
    static const uint8_t zeros[8];
    struct record_position at = {
        .identity = c->ns->identity, .segment = c->out->id, .offset = c->offset};
    uint64_t size = record_size(record->key_len, record->value_len);
    uint8_t header[RECORD_HEADER], key_copy[RECORD_KEY_MAX];
    int failed = 0;

    record->synced = 0; /* claims are of the segment that made them */
    record->earlier_synced = false;
    if (record->key_len > 0)
        memcpy(key_copy, key, record->key_len);
    record_encode(record, key_copy, &at, header);
    if (record->kind == RECORD_SET)
        failed = note_move(c, from, walker->at.offset);
    if (failed == 0)
        failed = put(c, header, sizeof(header));
    if (failed == 0)
        failed = put(c, key_copy, record->key_len);
    if (failed == 0 && value != NULL)
        failed = put(c, value, record->value_len);
    else if (failed == 0)
        failed = put_from_file(c, from, walker->at.offset + RECORD_HEADER + record->key_len,
                               record->value_len);
    if (failed == 0)
        failed =
            put(c, zeros, (size_t)(size - RECORD_HEADER - record->key_len - record->value_len));
    segment_note(c->out, record->number, c->offset);
    c->offset += size;
    c->records++;
    return failed;
}

/* 1 copy it, 0 drop it, -ENXIO when the namespace went. */
static int is_needed(struct compaction *c, const struct segment *from, uint64_t offset,
                     const struct record *record, const void *key)
{
    struct namespace *ns = c->ns;
    struct index_entry entry;
    int found, needed = 0;

    if (record->kind > RECORD_DEL)
        return 0;
    pthread_mutex_lock(&ns->lock);
    found = ns->gone ? -ENXIO : namespace_find(ns, key, record->key_len, &entry);
    pthread_mutex_unlock(&ns->lock);
    if (found < 0)
        return found;
    if (record->kind == RECORD_SET)
        needed = found > 0 && entry.segment == from->id && (uint64_t)entry.place * 8 == offset;
    else if (found == 0 && !c->from_the_first) /* K4 */
        needed = 1;
    if (record->kind == RECORD_DEL && needed == 0)
        c->dropped = true;
    if (record->kind == RECORD_DEL && needed > 0)
        c->kept += record_size(record->key_len, 0);
    return needed;
}

static int copy_segment(struct compaction *c, struct segment *from)
{
    struct namespace *ns = c->ns;
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct record record;
    int n = segment_walker_init(&walker, ns->store->io, from->fd, ns->identity, from->id,
                                SEGMENT_HEADER, from->size);

    while (n >= 0) {
        int needed, good;

        n = segment_walker_next(&walker, &record, &key, &value);
        if (n <= 0)
            break;
        needed = is_needed(c, from, walker.at.offset, &record, key);
        if (needed < 0) {
            n = needed;
            break;
        }
        if (needed == 0)
            continue;
        if (value == NULL) { /* checking reads through the buffer in which the key lies */
            uint8_t key_copy[RECORD_KEY_MAX];

            memcpy(key_copy, key, record.key_len);
            good = segment_walker_check(&walker, &record, NULL);
            if (good > 0)
                n = copy_record(c, from, &walker, &record, key_copy, NULL);
        } else {
            good = segment_walker_check(&walker, &record, value);
            if (good > 0)
                n = copy_record(c, from, &walker, &record, key, value);
        }
        if (good <= 0)
            n = good < 0 ? good : -EBADMSG;
        if (n == 0)
            n = 1;
    }
    segment_walker_done(&walker);
    if (n == -EBADMSG) { /* K2 */
        pthread_mutex_lock(&ns->lock);
        if (!from->damaged)
            ns->damaged++;
        from->damaged = true;
        pthread_mutex_unlock(&ns->lock);
        atomic_fetch_add(&ns->store->damaged, 1);
    }
    return n;
}

static int copy_all(struct compaction *c)
{
    const struct io *io = c->ns->store->io;
    struct segment *last = c->run[c->run_count - 1];
    struct record end = {.kind = RECORD_END, .number = last->next - 1, .time = store_now()};
    struct segment_walker nowhere = {.at = {.offset = 0}};
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
        failed = copy_record(c, NULL, &nowhere, &end, NULL, header); /* no value: never read */
    c->records--;
    if (failed == 0)
        failed = write_buffer(c);
    if (failed == 0)
        failed = io->sync(io, c->out->fd);
    c->out->size = c->out->written = c->out->synced = c->out->allocated = c->offset;
    c->out->kept = c->kept;
    c->out->sealed = true;
    return failed;
}

/* Reads the copy back: every record verifies, and there are as many as were copied. */
static int verify_copy(struct compaction *c)
{
    struct namespace *ns = c->ns;
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct record record = {0};
    uint64_t records = 0, moves = 0;
    int n = segment_walker_init(&walker, ns->store->io, c->out->fd, ns->identity, c->out->id,
                                SEGMENT_HEADER, c->out->size);

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
        records += record.kind <= RECORD_DEL;
        if (record.kind == RECORD_SET &&
            (moves >= c->move_count || c->moves[moves++].to != walker.at.offset / 8))
            n = -EBADMSG;
        rest(c, (size_t)(walker.next - walker.at.offset));
    }
    segment_walker_done(&walker);
    if (n == 0 && (records != c->records || moves != c->move_count || record.kind != RECORD_END))
        n = -EBADMSG;
    return n;
}

/* ---- taking over ------------------------------------------------------------------------------ */

static int save_swap(struct compaction *c)
{
    struct namespace *ns = c->ns;
    struct namespace_descriptor d;
    int failed;

    pthread_mutex_lock(&ns->store->admin);
    pthread_mutex_lock(&ns->lock);
    d = ns->d;
    d.next_id = ns->next_id > d.next_id ? ns->next_id : d.next_id;
    pthread_mutex_unlock(&ns->lock);
    d.swaps++;
    if (c->dropped && d.compacted_to < c->out->next)
        d.compacted_to = c->out->next;
    d.retire_count = c->run_count;
    for (uint32_t i = 0; i < c->run_count; i++)
        d.retire[i] = c->run[i]->id;
    d.adopt_count = 1;
    d.adopt[0] = c->out->id;
    failed = namespace_save(ns, &d);
    pthread_mutex_unlock(&ns->store->admin);
    return failed;
}

static int finish_files(struct compaction *c)
{
    struct namespace *ns = c->ns;
    const struct io *io = ns->store->io;
    char from[PATH_LEN], to[PATH_LEN];
    int failed;

    segment_path(ns, c->out->id, "new", from);
    segment_path(ns, c->out->id, "seg", to);
    failed = io->rename(io, from, to);
    for (uint32_t i = 0; i < c->run_count && failed == 0; i++) {
        segment_path(ns, c->run[i]->id, "seg", from);
        failed = io->unlink(io, from);
    }
    if (failed == 0)
        failed = io->sync_dir(io, ns->folder);
    /* The next swap forgets what this one's descriptor says: that must be done by then. */
    return failed < 0 ? store_fail(ns->store, "swap", ns->folder, failed) : 0;
}

static int move_one(struct namespace *ns, const struct record *record, const uint8_t *key,
                    const struct move *move, struct segment *out)
{
    struct index_entry from, to;
    struct segment *old;
    int found = namespace_find(ns, key, record->key_len, &from);

    if (found <= 0 || from.segment != move->segment || from.place != move->place)
        return found < 0 ? found : 0; /* overwritten meanwhile: the copy is dead */
    to = from;
    to.segment = out->id;
    to.place = move->to;
    if (ns->index != NULL) {
        index_move(ns->index, key, record->key_len, &from, &to);
    } else {
        uint32_t id = (uint32_t)key[0] | (uint32_t)key[1] << 8 | (uint32_t)key[2] << 16 |
                      (uint32_t)key[3] << 24;

        if (slots_put(ns->slots, id, &to) < 0)
            return -ENOMEM;
    }
    old = namespace_segment(ns, from.segment);
    if (old != NULL)
        old->live -= record_size(record->key_len, from.value_len);
    out->live += record_size(record->key_len, from.value_len);
    return 0;
}

/* The index, from the old places to the new ones. Reads the keys from the copy. */
static int move_index(struct compaction *c)
{
    struct namespace *ns = c->ns;
    struct segment_walker walker;
    const uint8_t *key, *value;
    struct record record;
    size_t at = 0;
    int n = segment_walker_init(&walker, ns->store->io, c->out->fd, ns->identity, c->out->id,
                                SEGMENT_HEADER, c->out->size);

    if (n < 0)
        return n;
    for (bool more = true; more && n >= 0;) {
        pthread_mutex_lock(&ns->lock);
        for (unsigned i = 0; i < LUMP && n >= 0 && more; i++) {
            n = segment_walker_next(&walker, &record, &key, &value);
            more = n > 0;
            if (more && record.kind == RECORD_SET)
                n = move_one(ns, &record, key, &c->moves[at++], c->out);
        }
        more = more && !ns->gone;
        pthread_mutex_unlock(&ns->lock);
        rest(c, 64u << 10);
        if (more && n >= 0 && ns->d.properties.mode == STORE_SEQ &&
            slots_pending(ns->slots) > SLOTS_PENDING_MAX / 2)
            n = slots_flush(ns, false);
    }
    segment_walker_done(&walker);
    return n < 0 ? n : 0;
}

static void take_over(struct compaction *c)
{
    struct namespace *ns = c->ns;

    pthread_mutex_lock(&ns->lock);
    for (uint32_t i = 0; i < c->run_count; i++)
        segment_retire(ns, c->run[i]);
    ns->moving_to = NULL;
    ns->moves = NULL;
    ns->move_count = 0;
    if (namespace_segment_add(ns, c->out) < 0)
        abort(); /* the lists have just become shorter: there is room */
    ns->since_snapshot += c->out->size;
    ns->swapped = true;
    ns->compacting = false;
    pthread_mutex_unlock(&ns->lock);
    for (uint32_t i = 0; i < c->run_count; i++)
        segment_put(ns, c->run[i]);
}

static int compact(struct compaction *c)
{
    struct namespace *ns = c->ns;
    const struct io *io = ns->store->io;
    char path[PATH_LEN];
    int failed;

    segment_path(ns, c->out->id, "new", path);
    c->out->fd = io->open(io, path, IO_WRITE | IO_CREATE);
    if (c->out->fd < 0)
        return c->out->fd;
    failed = copy_all(c);
    if (failed == 0)
        failed = verify_copy(c);
    if (failed == 0 && namespace_sync(ns) < 0) /* K5 */
        return STORE_DISK_FAILED;
    if (failed == 0)
        failed = io->sync_dir(io, ns->folder);
    if (failed == 0) {
        failed = save_swap(c);
        if (failed == STORE_NO_SPACE)
            failed = -ENOSPC;
        else if (failed < 0)
            return failed; /* not known which one is in force: nothing is removed */
    }
    if (failed < 0)
        io->unlink(io, path);
    return failed;
}

/* Compacts the run at a place of the list. 1 done; 0 not done, and nothing is lost by it. */
static int compact_run(struct namespace *ns, uint32_t at, uint32_t count)
{
    struct compaction c = {.ns = ns, .run_count = count};
    uint64_t before = 0;
    int failed;

    c.buffer = malloc(BUFFER);
    pthread_mutex_lock(&ns->lock);
    c.out = segment_new(ns->next_segment++);
    c.from_the_first = at == 0;
    for (uint32_t i = 0; i < count; i++) {
        c.run[i] = ns->segments[at + i];
        atomic_fetch_add(&c.run[i]->refs, 1);
        before += c.run[i]->size;
    }
    ns->compacting = true;
    pthread_mutex_unlock(&ns->lock);
    failed = c.buffer == NULL || c.out == NULL ? -ENOMEM : compact(&c);
    free(c.buffer);
    if (failed < 0) {
        pthread_mutex_lock(&ns->lock);
        ns->compacting = false;
        pthread_mutex_unlock(&ns->lock);
        for (uint32_t i = 0; i < count; i++)
            segment_put(ns, c.run[i]);
        if (c.out != NULL && c.out->fd >= 0)
            ns->store->io->close(ns->store->io, c.out->fd);
        segment_free(c.out);
        free(c.moves);
        if (failed == -EIO)
            store_fail(ns->store, "compaction", ns->folder, failed);
        return failed == -EIO || failed == STORE_READ_ONLY ? STORE_DISK_FAILED : 0;
    }
    atomic_fetch_add(&ns->store->compactions, 1);
    atomic_fetch_add(&ns->store->compacted_bytes, c.out->size);
    pthread_mutex_lock(&ns->lock);
    ns->moving_to = c.out;
    ns->moves = c.moves;
    ns->move_count = c.move_count;
    pthread_mutex_unlock(&ns->lock);
    failed = finish_files(&c);
    if (failed == 0)
        failed = move_index(&c);
    if (failed < 0) {
        /* The index may name both: all stay readable until the store is opened anew. */
        for (uint32_t i = 0; i < count; i++)
            segment_put(ns, c.run[i]);
        store_fail(ns->store, "taking over a compaction", ns->folder, failed);
        return STORE_DISK_FAILED;
    }
    take_over(&c);
    free(c.moves);
    return 1;
}

int namespace_compact_step(struct namespace *ns, uint64_t *from)
{
    uint32_t at = 0, count = 0;
    uint64_t dead = 0;
    int ret;

    pthread_mutex_lock(&ns->lock);
    while (at < ns->segment_count) {
        count = ns->segments[at]->first < *from ? 0 : run_length(ns, at);
        dead = 0;
        for (uint32_t i = 0; i < count; i++)
            dead += dead_bytes(ns->segments[at + i]);
        if (dead > 0 || count > 1)
            break;
        at++;
    }
    if (at == ns->segment_count || ns->gone) {
        pthread_mutex_unlock(&ns->lock);
        return 0;
    }
    *from = ns->segments[at + count - 1]->next;
    pthread_mutex_unlock(&ns->lock);
    ret = compact_run(ns, at, count);
    return ret < 0 ? ret : 1;
}

int namespace_compact_best(struct namespace *ns)
{
    uint32_t best = 0, best_count = 0;
    uint64_t best_dead = 0;

    pthread_mutex_lock(&ns->lock);
    for (uint32_t at = 0; at < ns->segment_count; at++) {
        uint32_t count = run_length(ns, at);
        uint64_t dead = 0, size = 0;

        for (uint32_t i = 0; i < count; i++) {
            dead += dead_bytes(ns->segments[at + i]);
            size += ns->segments[at + i]->size;
        }
        if (dead * 2 >= size && dead > best_dead) {
            best = at;
            best_count = count;
            best_dead = dead;
        }
    }
    if (ns->gone)
        best_count = 0;
    pthread_mutex_unlock(&ns->lock);
    return best_count > 0 ? compact_run(ns, best, best_count) : 0;
}

int store_namespace_compact(struct namespace *ns)
{
    uint64_t from = 0;
    int ret = namespace_sync(ns);

    /* A run ends where the next begins, so this ends. */
    for (int n = 1; ret == 0 && n > 0;) {
        pthread_mutex_lock(&ns->upkeep);
        n = namespace_compact_step(ns, &from);
        pthread_mutex_unlock(&ns->upkeep);
        if (n < 0)
            ret = n;
    }
    return ret;
}

/* ---- once a second ---------------------------------------------------------------------------- */

#define SNAPSHOT_MIN (64ull << 20) /* bytes of log that are worth a new snapshot */

static void upkeep(struct namespace *ns)
{
    uint64_t since, cost;
    bool idle, is_old;

    pthread_mutex_lock(&ns->lock);
    since = ns->since_snapshot;
    cost = ns->index != NULL ? index_count(ns->index) * 40 : 0;
    idle = ++ns->idle_ticks > 60;
    is_old = ns->swapped && ++ns->snapshot_ticks > 60; /* the last one is of no use any more */
    if (idle) /* its newest records leave the memory to others */
        chunks_drop(ns, true);
    pthread_mutex_unlock(&ns->lock);
    namespace_compact_best(ns);
    slots_flush(ns, false);
    if (is_old || (since > SNAPSHOT_MIN && since > 4 * cost))
        snapshot_save(ns);
}

int store_tick(struct store *store)
{
    uint32_t after = 0;

    if (atomic_load(&store->failed) != 0)
        return STORE_DISK_FAILED;
    for (;;) {
        struct namespace *ns = store_namespace_after(store, after);

        if (ns == NULL)
            break;
        after = ns->d.id;
        if (!ns->descriptor_damaged && pthread_mutex_trylock(&ns->upkeep) == 0) {
            upkeep(ns);
            pthread_mutex_unlock(&ns->upkeep);
        }
        store_mark(ns);
        store_namespace_put(ns);
        if (store->stopping)
            break;
    }
    return atomic_load(&store->failed);
}
