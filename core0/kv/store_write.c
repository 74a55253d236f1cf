/*
 * store_write.c - sets and deletions: their conditions, and what they change in memory.
 *
 * Each is tried under ns->lock until nothing has to be learnt or made without it: the version or the
 * value of what is stored, room in the active segment, room for pending slots. So what is decided and what
 * is appended belong to one moment (linearizable per key).
 */
#include "kv/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static uint32_t seq_id(const void *key)
{
    const uint8_t *at = key;
    uint32_t id = 0;

    for (unsigned i = 0; i < STORE_SEQ_KEY; i++)
        id |= (uint32_t)at[i] << (8 * i);
    return id;
}

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
        /* A replica gives new ids, too: its primary's, of which some may be gone already. */
        if (is_seq && found == 0 && (write->number == 0 || seq_id(set->key) < ns->next_id))
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
    if (has && !unsure && write->number == 0 && old.value_len == write->value_len &&
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
            slots_forget(ns->slots, seq_id(set->key));
        else
            index_remove(ns->index, set->key, set->key_len);
        return STORE_NO_MEMORY;
    }
    if (has)
        namespace_account(ns, namespace_segment(ns, old.segment), set->key_len, old.value_len,
                          false);
    namespace_account(ns, active, set->key_len, write->value_len, true);
    if (is_seq && !has)
        ns->next_id = (uint64_t)seq_id(set->key) + 1;
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
