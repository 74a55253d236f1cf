/*
 * roster_keep.c - the node's roster (roster.h): read when a pool comes, brought up to date with what lies on the pools,
 * and written to the fastest of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/log.h"
#include "silent.h"
#include "space.h"

#define COPIES 3
#define NAME "roster"

/* Scratch volumes are made anew with the container that they belong to. */
static bool is_named(const char *key)
{
    return strncmp(key, "volume/", 7) == 0 || strncmp(key, "kv/", 3) == 0;
}

static void copy_path(const struct pool *pool, char *ret_path, size_t size)
{
    char folder[128];
    pool_path(pool, folder, sizeof(folder));
    snprintf(ret_path, size, "%s/" NAME, folder);
}

void roster_take(struct storage *storage, const struct pool *pool)
{
    char path[160];
    cleanup_free char *text = NULL;
    size_t len;
    struct roster found = {0};
    copy_path(pool, path, sizeof(path));
    (void)file_remove_leftovers_of(path); /* of a write that was cut short */
    int r = file_read(path, ROSTER_BYTES, &text, &len);
    if (r == 0)
        r = roster_parse(text, len, &found);
    if (r < 0) {
        if (r != -ENOENT)
            log_warn("%s: %s", path, strerror(-r));
        return;
    }
    if (found.generation <= storage->roster.generation) {
        roster_done(&found);
        return;
    }
    roster_done(&storage->roster);
    storage->roster = found;
}

static const struct pool *pool_by_uuid(const struct storage *storage, const char *uuid)
{
    const struct pool *pool = storage->pools;
    while (pool != NULL && strcmp(pool->uuid, uuid) != 0)
        pool = pool->next;
    return pool;
}

static bool has(const struct roster *roster, const char *key)
{
    for (size_t i = 0; i < roster->count; i++)
        if (strcmp(roster->entries[i].key, key) == 0)
            return true;
    return false;
}

static int add_volume(const struct volume *volume, void *data)
{
    struct roster_entry entry = {.size = volume->size, .keep_until = volume->keep_until};
    if (!is_named(volume->key))
        return 0;
    snprintf(entry.pool, sizeof(entry.pool), "%s", volume->pool->uuid);
    snprintf(entry.kind, sizeof(entry.kind), "%s", pool_kind(volume->pool));
    snprintf(entry.key, sizeof(entry.key), "%s", volume->key);
    return roster_add(data, &entry);
}

static int add_space(const struct space *space, void *data)
{
    struct roster_entry entry = {.size = space->size, .keep_until = space->keep_until};
    snprintf(entry.pool, sizeof(entry.pool), "%s", space->pool->uuid);
    snprintf(entry.kind, sizeof(entry.kind), "%s", pool_kind(space->pool));
    snprintf(entry.key, sizeof(entry.key), "%s", space->key);
    return roster_add(data, &entry);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct roster_entry *)a)->key, ((const struct roster_entry *)b)->key);
}

/* What is on the pools that are there, and what is known of those that are not. */
static int collect(const struct storage *storage, struct roster *ret_roster)
{
    struct roster roster = {.generation = storage->roster.generation};
    int r = 0;
    for (const struct pool *pool = storage->pools; r == 0 && pool != NULL; pool = pool->next)
        if (!pool->ephemeral) {
            r = volume_each(pool, add_volume, &roster);
            r = r == 0 ? space_each(pool, add_space, &roster) : r;
        }
    size_t here = roster.count;
    for (size_t i = 0; r == 0 && i < storage->roster.count; i++) {
        const struct roster_entry *entry = &storage->roster.entries[i];
        struct roster known = {.entries = roster.entries, .count = here};
        if (pool_by_uuid(storage, entry->pool) == NULL && !has(&known, entry->key))
            r = roster_add(&roster, entry);
    }
    if (r < 0) {
        roster_done(&roster);
        return r;
    }
    if (roster.count > 0)
        qsort(roster.entries, roster.count, sizeof(roster.entries[0]), by_key);
    *ret_roster = roster;
    return 0;
}

static bool equal(const struct roster *a, const struct roster *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct roster_entry *x = &a->entries[i];
        const struct roster_entry *y = &b->entries[i];
        if (x->size != y->size || x->keep_until != y->keep_until || strcmp(x->key, y->key) != 0 ||
            strcmp(x->pool, y->pool) != 0 || strcmp(x->kind, y->kind) != 0)
            return false;
    }
    return true;
}

static void write_copies(struct storage *storage)
{
    struct buffer text;
    size_t copies = 0;
    storage->roster_owed = false;
    buffer_init(&text, ROSTER_BYTES);
    storage->roster.generation++;
    int r = roster_format(&storage->roster, &text);
    for (const struct pool *pool = storage->pools; r == 0 && pool != NULL && copies < COPIES;
         pool = pool->next) {
        char path[160];
        if (pool->ephemeral || pool->failing)
            continue;
        if (silent_late(storage, pool)) {
            storage->roster_owed = true;
            continue;
        }
        copy_path(pool, path, sizeof(path));
        int written = file_write_atomic(path, text.data, text.len, 0600);
        if (written < 0)
            log_warn("%s: %s", path, strerror(-written));
        else
            copies++;
    }
    if (r < 0)
        log_warn("the roster of volumes: %s", strerror(-r));
    buffer_done(&text);
}

static void update(struct storage *storage, bool pools_changed)
{
    struct roster now;
    int r = collect(storage, &now);
    if (r < 0) {
        log_warn("the roster of volumes stays as it was: %s", strerror(-r));
        return;
    }
    bool same = equal(&now, &storage->roster);
    roster_done(&storage->roster);
    storage->roster = now;
    /* A pool that came first now is to have a copy too, unless there is nothing to remember. */
    if (!same || (pools_changed && now.count > 0))
        write_copies(storage);
}

void roster_update(struct storage *storage)
{
    update(storage, true);
}

void roster_changed(struct storage *storage, const char *key)
{
    if (is_named(key))
        update(storage, false);
}

const struct roster_entry *roster_next_lost(const struct storage *storage, size_t *at)
{
    while (*at < storage->roster.count) {
        const struct roster_entry *entry = &storage->roster.entries[(*at)++];
        if (pool_by_uuid(storage, entry->pool) == NULL)
            return entry;
    }
    return NULL;
}

static struct roster_entry *find_lost(const struct storage *storage, const char *key)
{
    for (size_t i = 0; i < storage->roster.count; i++)
        if (strcmp(storage->roster.entries[i].key, key) == 0 &&
            pool_by_uuid(storage, storage->roster.entries[i].pool) == NULL)
            return &storage->roster.entries[i];
    return NULL;
}

const char *roster_error(const struct storage *storage, const struct roster_entry *entry)
{
    return silent_pool(storage, entry->pool) != NULL ? "storage.disk-failed"
                                                     : "storage.volume-lost";
}

int roster_check(const struct storage *storage, const char *key, struct error *err)
{
    const struct roster_entry *entry = find_lost(storage, key);
    if (entry == NULL)
        return 0;
    bool silent = silent_pool(storage, entry->pool) != NULL;
    return error_set(err, silent ? EIO : ENODEV, roster_error(storage, entry),
                     silent ? "replace its disk, or use another name"
                            : "put its disk back, or use another name",
                     "%s lies on pool %s, whose disk %s", key, entry->pool,
                     silent ? "does not answer" : "is missing");
}

bool roster_keep(struct storage *storage, const char *key, int64_t until)
{
    struct roster_entry *entry = find_lost(storage, key);
    if (entry == NULL)
        return false;
    if (entry->keep_until != until) {
        entry->keep_until = until;
        write_copies(storage);
    }
    return true;
}

static void drop(struct storage *storage, size_t i)
{
    struct roster *roster = &storage->roster;
    memmove(&roster->entries[i], &roster->entries[i + 1],
            (roster->count - i - 1) * sizeof(roster->entries[0]));
    roster->count--;
}

void roster_forget(struct storage *storage, const char *key)
{
    struct roster_entry *entry = find_lost(storage, key);
    if (entry != NULL)
        drop(storage, (size_t)(entry - storage->roster.entries));
    if (entry != NULL)
        write_copies(storage);
    roster_changed(storage, key);
}

void roster_forget_pool(struct storage *storage, const char *uuid)
{
    for (size_t i = storage->roster.count; i-- > 0;)
        if (strcmp(storage->roster.entries[i].pool, uuid) == 0)
            drop(storage, i);
}
