/*
 * store.c - opening and closing a store, and the parts of a namespace in memory.
 *
 * The data folder holds `lock`, `store` ("CROFTST1", u64 id of the next namespace, u32 CRC32C; replaced
 * whole) and one folder per namespace.
 */
#include "kv/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const struct {
    int result;
    const char *code, *message, *hint;
} errors[] = {
    {STORE_NO_KEY, "kv.no-key", "there is no such key", ""},
    {STORE_DISK_FAILED, "kv.disk-failed", "the disk failed",
     "the store is read-only until the disk is replaced"},
    {STORE_NO_MEMORY, "kv.no-memory", "out of memory", "try again"},
    {STORE_IS_LOCKED, "kv.locked", "the namespace is locked: it can only be read", "NSSET lock 0"},
    {STORE_EXISTS, "kv.namespace-exists", "there is a namespace of this name", "choose another"},
    {STORE_INVALID, "kv.bad-request", "the key, id or name is not one that may be used here", ""},
    {STORE_NO_SPACE, "kv.no-space", "the disk, or the namespace's share of it, is full",
     "delete keys, or use another store"},
    {STORE_READ_ONLY, "kv.read-only", "the disk failed before, so nothing is written any more",
     "the store is read-only until the disk is replaced"},
    {STORE_NO_NAMESPACE, "kv.no-namespace", "there is no such namespace", ""},
    {STORE_DAMAGED, "kv.damaged", "what the disk holds is not what was written",
     "restore the value from its other copies, and write it again"},
    {STORE_TOO_LARGE, "kv.too-large", "the key or the value is too large",
     "keys have at most 1 KiB, values at most 64 MiB or what the server allows"},
    {STORE_OVER_QUOTA, "kv.no-space", "the namespace has reached its size limit",
     "delete keys, or raise maxsize"},
    {STORE_CROWDED, "kv.no-space", "the namespace's share of the disk is full of old records",
     "try again: they are being compacted"},
    {STORE_CONDITION, "kv.condition-failed", "the key is not in the state that was asked for",
     "read it and its version again"},
    {STORE_IS_FROZEN, "kv.frozen", "the namespace is frozen", "NSSET freeze 0"},
    {STORE_WORM, "kv.worm", "the namespace is written once: no change, no deletion", ""},
    {STORE_STALE_CURSOR, "kv.stale-cursor", "deletions after this cursor have been compacted away",
     "follow from the beginning"},
    {STORE_NOT_EMPTY, "kv.not-empty", "the mode changes only while the namespace is empty",
     "FLUSH first"},
};

int store_error(int result, struct error *err)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (errors[i].result == result)
            return error_set(err, -result, errors[i].code, errors[i].hint, "%s", errors[i].message);
    return result;
}

int store_fail(struct store *store, const char *what, const char *path, int error)
{
    pthread_mutex_lock(&store->lists);
    if (atomic_load(&store->failed) == 0) {
        snprintf(store->failed_text, sizeof(store->failed_text), "%s of %s: %s", what, path,
                 strerror(-error));
        atomic_store(&store->failed, STORE_DISK_FAILED);
    }
    pthread_mutex_unlock(&store->lists);
    store_notify_all(store);
    return STORE_DISK_FAILED;
}

uint32_t store_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (uint32_t)now.tv_sec;
}

/* ---- namespaces in memory --------------------------------------------------------------------- */

struct namespace *namespace_new(struct store *store, uint32_t id)
{
    struct namespace *ns = calloc(1, sizeof(*ns));

    if (ns == NULL)
        return NULL;
    ns->store = store;
    ns->d.id = id;
    atomic_store(&ns->refs, 1);
    pthread_mutex_init(&ns->upkeep, NULL);
    pthread_mutex_init(&ns->write, NULL);
    pthread_mutex_init(&ns->slot_lock, NULL);
    pthread_mutex_init(&ns->lock, NULL);
    snprintf(ns->folder, sizeof(ns->folder), "%.480s/ns-%08x", store->data, id);
    return ns;
}

void namespace_clear(struct namespace *ns)
{
    while (ns->segment_count > 0)
        segment_retire(ns, ns->segments[ns->segment_count - 1]);
    if (ns->moving_to != NULL) { /* a compaction that could not be taken over */
        segment_close(ns->store, ns->moving_to);
        segment_free(ns->moving_to);
        free(ns->moves);
        ns->moving_to = NULL;
        ns->moves = NULL;
        ns->move_count = 0;
    }
    ns->chunk_unwritten = ns->chunk_end;
    chunks_drop(ns, true);
    ns->chunk_first = ns->chunk_end = ns->chunk_unwritten = 0;
    index_free(ns->index);
    slots_close(ns->slots);
    ns->index = NULL;
    ns->slots = NULL;
    ns->entries = ns->bytes = ns->next_id = 0;
    ns->has_suspects = false;
    ns->damaged = 0;
}

struct namespace *store_namespace_ref(struct namespace *ns)
{
    atomic_fetch_add(&ns->refs, 1);
    return ns;
}

void store_namespace_put(struct namespace *ns)
{
    if (ns == NULL || atomic_fetch_sub(&ns->refs, 1) != 1)
        return;
    namespace_clear(ns);
    free(ns->segments);
    free(ns->by_id);
    free(ns->chunks);
    pthread_mutex_destroy(&ns->upkeep);
    pthread_mutex_destroy(&ns->write);
    pthread_mutex_destroy(&ns->slot_lock);
    pthread_mutex_destroy(&ns->lock);
    free(ns);
}

int store_namespace_add(struct store *store, struct namespace *ns)
{
    uint32_t at;

    pthread_mutex_lock(&store->lists);
    if (store->namespace_count == store->namespace_room) {
        uint32_t room = store->namespace_room * 2 + 8;
        struct namespace **grown = realloc(store->namespaces, room * sizeof(struct namespace *));

        if (grown == NULL) {
            pthread_mutex_unlock(&store->lists);
            return STORE_NO_MEMORY;
        }
        store->namespaces = grown;
        store->namespace_room = room;
    }
    for (at = store->namespace_count; at > 0 && store->namespaces[at - 1]->d.id > ns->d.id; at--)
        store->namespaces[at] = store->namespaces[at - 1];
    store->namespaces[at] = ns;
    store->namespace_count++;
    pthread_mutex_unlock(&store->lists);
    return 0;
}

/* ---- opening and closing ---------------------------------------------------------------------- */

static void store_free(struct store *store)
{
    struct namespace *ns;

    while ((ns = store->dirty) != NULL) {
        store->dirty = ns->next_dirty;
        store_namespace_put(ns);
    }
    while ((ns = store->unsynced) != NULL) {
        store->unsynced = ns->next_unsynced;
        store_namespace_put(ns);
    }
    for (uint32_t i = 0; i < store->namespace_count; i++)
        store_namespace_put(store->namespaces[i]);
    free(store->namespaces);
    while (store->free_count > 0)
        free(store->free_chunks[--store->free_count]);
    store->io->close(store->io, store->lock_fd);
    pthread_mutex_destroy(&store->admin);
    pthread_mutex_destroy(&store->committing);
    pthread_mutex_destroy(&store->submitting);
    pthread_mutex_destroy(&store->lists);
    pthread_mutex_destroy(&store->files.lock);
    pthread_mutex_destroy(&store->wake_lock);
    pthread_cond_destroy(&store->wake_committer);
    pthread_cond_destroy(&store->wake_keeper);
    free(store);
}

static int lock_folder(struct store *store, struct error *err)
{
    char path[PATH_LEN + 8];
    int fd;

    snprintf(path, sizeof(path), "%s/lock", store->data);
    fd = store->io->open(store->io, path, IO_WRITE | IO_CREATE | IO_LOCK);
    if (fd == -EEXIST)
        fd = store->io->open(store->io, path, IO_WRITE | IO_LOCK);
    if (fd == -EBUSY)
        return error_set(err, EBUSY, "kv.in-use", "stop the other server, or give another folder",
                         "%s belongs to another running server", store->data);
    if (fd < 0)
        return error_set(err, -fd, fd == -ENOSPC ? "kv.no-space" : "kv.disk-failed",
                         "check the disk", "cannot open %s: %s", path, strerror(-fd));
    store->lock_fd = fd;
    return 0;
}

static int make_folder(const struct store *store, const char *path, struct error *err)
{
    int failed = store->io->mkdir(store->io, path);
    char parent[PATH_LEN], *slash;

    if (failed == -EEXIST)
        return 0;
    if (failed == 0) {
        snprintf(parent, sizeof(parent), "%s", path);
        slash = strrchr(parent, '/');
        if (slash == NULL)
            snprintf(parent, sizeof(parent), ".");
        else
            slash[slash == parent ? 1 : 0] = '\0';
        failed = store->io->sync_dir(store->io, parent);
    }
    if (failed < 0)
        return error_set(err, -failed, failed == -ENOSPC ? "kv.no-space" : "kv.disk-failed",
                         "check the disk and the folder above it", "cannot make %s: %s", path,
                         strerror(-failed));
    return 0;
}

static void options_complete(struct store_options *options)
{
    if (options->max_value == 0 || options->max_value > STORE_VALUE_MAX)
        options->max_value = STORE_VALUE_MAX;
    if (options->segment_size == 0)
        options->segment_size = 256u << 20;
    if (options->segment_size < options->max_value + 8192u)
        options->segment_size = options->max_value + 8192u;
    if (options->reserve == 0)
        options->reserve = options->segment_size;
    if (options->cache == 0)
        options->cache = 64u << 20;
    if (options->descriptors == 0)
        options->descriptors = STORE_DESCRIPTORS;
}

/* The usual soft limit is 1,024; clients and namespaces need them, too. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int store_open(const struct store_options *options, struct store **ret, struct error *err)
{
    struct store *store = calloc(1, sizeof(*store));
    pthread_condattr_t monotonic;
    struct namespace *ns;
    int failed;

    if (store == NULL)
        return error_set(err, ENOMEM, "kv.no-memory", "", "out of memory");
    store->options = *options;
    options_complete(&store->options);
    store->chunk_size =
        store->options.segment_size < CHUNK_SIZE ? store->options.segment_size : CHUNK_SIZE;
    store->io = options->io != NULL ? options->io : &io_kernel;
    if (store->io == &io_kernel)
        raise_file_limit();
    store->lock_fd = -1;
    store->next_namespace = 1;
    pthread_mutex_init(&store->admin, NULL);
    pthread_mutex_init(&store->committing, NULL);
    pthread_mutex_init(&store->submitting, NULL);
    pthread_mutex_init(&store->lists, NULL);
    pthread_mutex_init(&store->files.lock, NULL);
    store->files.limit = store->options.descriptors;
    pthread_mutex_init(&store->wake_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake_committer, &monotonic);
    pthread_cond_init(&store->wake_keeper, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (strlen(options->data) >= PATH_LEN - 64 ||
        (options->index != NULL && strlen(options->index) >= PATH_LEN - 64)) {
        store_free(store);
        return error_set(err, ENAMETOOLONG, "kv.bad-request", "use a shorter path",
                         "the path of a folder is too long");
    }
    snprintf(store->data, sizeof(store->data), "%s", options->data);
    snprintf(store->index, sizeof(store->index), "%s",
             options->index != NULL ? options->index : options->data);
    store->options.data = store->data;
    store->options.index = store->index;
    failed = make_folder(store, store->data, err);
    if (failed == 0)
        failed = make_folder(store, store->index, err);
    if (failed == 0)
        failed = lock_folder(store, err);
    if (failed == 0)
        failed = store_recover(store, err);
    if (failed == 0 && store_namespace_get(store, "default", 7, &ns) == 0)
        store_namespace_put(ns);
    else if (failed == 0) {
        struct store_properties properties = {.mode = store->options.mode, .is_public = true};

        failed = store_namespace_create(store, "default", 7, &properties);
        if (failed < 0)
            store_error(failed, err);
    }
    if (failed == 0 && !store->options.manual) {
        failed = store_threads_start(store);
        if (failed < 0)
            error_set(err, -failed, "kv.no-memory", "", "cannot start a thread: %s",
                      strerror(-failed));
    }
    if (failed < 0) {
        store_free(store);
        return failed;
    }
    *ret = store;
    return 0;
}

void store_abandon(struct store *store)
{
    if (store == NULL)
        return;
    store_threads_stop(store);
    store_free(store);
}

void store_mark(struct namespace *ns)
{
    struct record mark = {.kind = RECORD_MARK, .time = store_now()};
    struct segment *active;

    pthread_mutex_lock(&ns->lock);
    active = namespace_active(ns);
    if (active != NULL && !ns->marked && !ns->gone && active->size > SEGMENT_HEADER &&
        active->synced == active->size &&
        active->size + record_size(0, 0) * 2 + SEGMENT_HEADER <= active->allocated) {
        mark.number = ns->number;
        if (namespace_append(ns, active, &mark, NULL, NULL, false) == 0)
            store_ticket(ns);
    }
    pthread_mutex_unlock(&ns->lock);
}

/* What was claimed and not used; only space and time are lost without. */
static void give_back_space(struct namespace *ns, struct segment *active)
{
    const struct io *io = ns->store->io;
    int fd = segment_hold(ns, active);

    if (fd < 0)
        return;
    if (io->truncate(io, fd, active->size) == 0)
        io->sync(io, fd);
    segment_release(active);
}

int store_close(struct store *store)
{
    int failed;

    if (store == NULL)
        return 0;
    store_threads_stop(store);
    failed = store_commit(store);
    if (failed == 0) {
        for (uint32_t i = 0; i < store->namespace_count; i++)
            store_mark(store->namespaces[i]);
        failed = store_commit(store);
    }
    for (uint32_t i = 0; failed == 0 && i < store->namespace_count; i++) {
        struct namespace *ns = store->namespaces[i];
        struct segment *active = namespace_active(ns);

        snapshot_save(ns); /* only speed is lost without it */
        if (active != NULL && active->allocated > active->size && active->written == active->size)
            give_back_space(ns, active);
    }
    store_free(store);
    return failed;
}

void store_stats(struct store *store, struct store_stats *ret)
{
    uint64_t free_bytes = 0, total = 0;
    struct store_stats stats = {
        .sets = atomic_load(&store->sets),
        .unchanged = atomic_load(&store->unchanged),
        .dels = atomic_load(&store->dels),
        .gets = atomic_load(&store->gets),
        .hits = atomic_load(&store->hits),
        .bytes_written = atomic_load(&store->written_bytes),
        .bytes_compacted = atomic_load(&store->compacted_bytes),
        .syncs = atomic_load(&store->syncs),
        .sync_usec = atomic_load(&store->sync_usec),
        .damaged = atomic_load(&store->damaged),
        .compactions = atomic_load(&store->compactions),
        .cache = atomic_load(&store->cache_bytes),
        .failed = atomic_load(&store->failed),
    };

    store->io->space(store->io, store->data, &free_bytes, &total);
    stats.disk_free = free_bytes > store->options.reserve ? free_bytes - store->options.reserve : 0;
    pthread_mutex_lock(&store->lists);
    memcpy(stats.failed_text, store->failed_text, sizeof(stats.failed_text));
    stats.namespaces = store->namespace_count;
    stats.descriptors = store->files.count;
    stats.memory = stats.cache + (uint64_t)store->free_count * store->chunk_size;
    pthread_mutex_unlock(&store->lists);
    for (uint32_t after = 0;;) {
        struct namespace *ns = store_namespace_after(store, after);
        struct store_info info;

        if (ns == NULL)
            break;
        store_namespace_info(ns, &info);
        after = info.id;
        stats.memory += info.index_memory;
        store_namespace_put(ns);
    }
    *ret = stats;
}
