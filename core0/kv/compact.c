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
 *      run and all followers have it, or the key has a newer record. `compacted_to` says to where a
 *      follower that was away may have missed one (store_follow.c).
 *  K5  The newer records for whose sake others were left out are synced before the swap.
 */
#include "kv/compact.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OVERHEAD (SEGMENT_HEADER + RECORD_HEADER) /* of a segment: never dead */
#define LUMP 256u                                 /* index entries per lock */

/* What a run that begins at this place of the list would keep of a segment: deletions too, unless nothing older lies before
 * them and nobody follows (K4). */
static uint64_t kept_bytes(const struct namespace *ns, uint32_t at, const struct segment *segment)
{
    bool drops = at == 0 && ns->followers == NULL;

    return segment->live + (drops ? 0 : segment->kept);
}

static uint64_t dead_bytes(const struct namespace *ns, uint32_t at, const struct segment *segment)
{
    uint64_t used = OVERHEAD + kept_bytes(ns, at, segment);

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

    while (at + count < ns->segment_count && count < COMPACTION_RUN_MAX) {
        const struct segment *segment = ns->segments[at + count];
        uint64_t lives = kept_bytes(ns, at, segment);

        if (!may_compact(segment) || used + lives > fits ||
            (count > 0 && dead_bytes(ns, at, segment) * 4 < segment->size && lives > fits / 4))
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

/* The walk through the copy that moves the index: a lump of records per lock. */
struct moving {
    struct compaction *c;
    size_t at;
    unsigned lump; /* records moved under the lock that is held; 0: it is not */
};

static int move_lump_end(struct moving *moving)
{
    struct namespace *ns = moving->c->ns;
    bool gone = ns->gone;

    pthread_mutex_unlock(&ns->lock);
    moving->lump = 0;
    compaction_rest(moving->c, 64u << 10);
    if (gone)
        return 0;
    /* A full index disk only leaves them in memory. */
    if (ns->d.properties.mode == STORE_SEQ && slots_pending(ns->slots) > SLOTS_PENDING_MAX / 2 &&
        slots_flush(ns, false) == STORE_DISK_FAILED)
        return STORE_DISK_FAILED;
    return 1;
}

static int move_next(void *ctx, struct segment_walker *walker, const struct record *record,
                     const uint8_t *key, const uint8_t *value)
{
    struct moving *moving = ctx;
    struct compaction *c = moving->c;
    int failed = 0;

    (void)walker;
    (void)value;
    if (moving->lump == 0)
        pthread_mutex_lock(&c->ns->lock);
    moving->lump++;
    if (record->kind == RECORD_SET)
        failed = move_one(c->ns, record, key, &c->moves[moving->at++], c->out);
    if (failed < 0)
        return failed;
    return moving->lump < LUMP ? 1 : move_lump_end(moving);
}

/* The index, from the old places to the new ones. Reads the keys from the copy. */
static int move_index(struct compaction *c)
{
    struct moving moving = {.c = c};
    const struct segment_walk walk = {
        .from = SEGMENT_HEADER, .end = c->out->size, .visit = move_next};
    int failed = namespace_walk(c->ns, c->out, &walk, &moving);

    if (moving.lump > 0)
        pthread_mutex_unlock(&c->ns->lock);
    return failed < 0 ? failed : 0;
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
    if (c->dropped)
        followers_break(ns, c->sequence, c->out->next);
    pthread_mutex_unlock(&ns->lock);
    segment_release(c->out);
    for (uint32_t i = 0; i < c->run_count; i++)
        segment_put(ns, c->run[i]);
}

static int compact(struct compaction *c)
{
    struct namespace *ns = c->ns;
    const struct io *io = ns->store->io;
    char path[PATH_LEN];
    int failed;

    for (; c->held < c->run_count; c->held++) { /* their files go before their readers do */
        failed = segment_hold(ns, c->run[c->held]);
        if (failed < 0)
            return failed;
    }
    failed = segment_create_file(ns, c->out, "new");
    if (failed < 0)
        return failed;
    segment_path(ns, c->out->id, "new", path);
    failed = compaction_copy(c);
    if (failed == 0)
        failed = compaction_verify(c);
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

    c.buffer = malloc(COMPACTION_BUFFER);
    pthread_mutex_lock(&ns->lock);
    c.out = segment_new(ns->next_segment++);
    c.sequence = ++ns->compactions;
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
        for (uint32_t i = 0; i < c.held; i++)
            segment_release(c.run[i]);
        for (uint32_t i = 0; i < count; i++)
            segment_put(ns, c.run[i]);
        if (c.out != NULL)
            segment_close(ns->store, c.out);
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
            dead += dead_bytes(ns, at, ns->segments[at + i]);
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

/* The run where it pays best: at least half is dead, or an eighth where the namespace meets its maxdisk. ns->lock held. */
static uint32_t find_best(const struct namespace *ns, bool crowded, uint32_t *ret_at)
{
    uint32_t best_count = 0;
    uint64_t best_dead = 0;

    for (uint32_t at = 0; at < ns->segment_count; at++) {
        uint32_t count = run_length(ns, at);
        uint64_t dead = 0, size = 0;

        for (uint32_t i = 0; i < count; i++) {
            dead += dead_bytes(ns, at, ns->segments[at + i]);
            size += ns->segments[at + i]->size;
        }
        if (dead * (crowded ? 8 : 2) >= size && dead > best_dead) {
            *ret_at = at;
            best_count = count;
            best_dead = dead;
        }
    }
    return best_count;
}

/* What is not synced yet counts too: it will be. */
bool namespace_can_compact(const struct namespace *ns)
{
    uint32_t at;

    for (uint32_t i = 0; i < ns->segment_count; i++)
        if (ns->segments[i]->sealed && ns->segments[i]->synced < ns->segments[i]->size)
            return true;
    return ns->compacting || find_best(ns, true, &at) > 0;
}

int namespace_compact_best(struct namespace *ns)
{
    uint32_t best = 0, best_count;
    bool crowded;

    pthread_mutex_lock(&ns->lock);
    /* Near its limit it is compacted before a writer has to wait for that. */
    crowded = ns->crowded || (ns->d.properties.maxdisk != 0 &&
                              namespace_claimed(ns) > namespace_share(ns, false) / 4 * 3);
    ns->crowded = false;
    best_count = find_best(ns, crowded, &best);
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
