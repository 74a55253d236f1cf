/*
 * store_namespace.c - creating, changing, listing and deleting namespaces.
 */
#include "kv/store_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

int namespace_save(struct namespace *ns, const struct namespace_descriptor *d)
{
    struct store *store = ns->store;
    uint8_t data[NAMESPACE_DESCRIPTOR_MAX];
    char path[PATH_LEN];
    int failed;

    if (atomic_load(&store->failed) != 0)
        return STORE_READ_ONLY;
    snprintf(path, sizeof(path), "%.490s/descriptor", ns->folder);
    failed = io_replace_file(store->io, ns->folder, path, data, namespace_encode(d, data));
    if (failed == -ENOSPC || failed == -EDQUOT)
        return STORE_NO_SPACE;
    if (failed < 0) /* the old one or the new one may be there after a power cut */
        return store_fail(store, "replacing", path, failed);
    pthread_mutex_lock(&ns->lock);
    ns->d = *d;
    atomic_store(&ns->requires_tls, d->properties.tls_required);
    pthread_mutex_unlock(&ns->lock);
    return 0;
}

static int save_next_id(struct store *store)
{
    uint8_t data[20] = {'C', 'R', 'O', 'F', 'T', 'S', 'T', '1'};
    uint64_t next = htole64(store->next_namespace + 1);
    char path[PATH_LEN + 8];
    uint32_t crc;
    int failed;

    memcpy(data + 8, &next, sizeof(next));
    crc = htole32(record_crc32c(0, data, 16));
    memcpy(data + 16, &crc, sizeof(crc));
    snprintf(path, sizeof(path), "%s/store", store->data);
    failed = io_replace_file(store->io, store->data, path, data, sizeof(data));
    if (failed == -ENOSPC || failed == -EDQUOT)
        return STORE_NO_SPACE;
    if (failed < 0)
        return store_fail(store, "replacing", path, failed);
    store->next_namespace++;
    return 0;
}

static struct namespace *find(struct store *store, const char *name, size_t len)
{
    for (uint32_t i = 0; i < store->namespace_count; i++) {
        struct namespace *ns = store->namespaces[i];

        if (strlen(ns->d.name) == len && memcmp(ns->d.name, name, len) == 0)
            return ns;
    }
    return NULL;
}

int store_namespace_get(struct store *store, const char *name, size_t len, struct namespace **ret)
{
    struct namespace *ns;

    pthread_mutex_lock(&store->lists);
    ns = find(store, name, len);
    if (ns != NULL)
        *ret = store_namespace_ref(ns);
    pthread_mutex_unlock(&store->lists);
    return ns != NULL ? 0 : STORE_NO_NAMESPACE;
}

static int unlink_each(void *ctx, const char *name)
{
    const struct namespace *ns = ctx;
    char path[PATH_LEN + 256];

    snprintf(path, sizeof(path), "%s/%.200s", ns->folder, name);
    if (strcmp(name, "descriptor") != 0)
        ns->store->io->unlink(ns->store->io, path);
    return 0;
}

/* The descriptor goes last: until then a recovery knows that the rest is to be removed. */
int namespace_remove_files(struct namespace *ns)
{
    const struct io *io = ns->store->io;
    char path[PATH_LEN];
    int failed;

    index_path(ns, "index", path);
    io->unlink(io, path);
    index_path(ns, "slots", path);
    io->unlink(io, path);
    io->list(io, ns->folder, unlink_each, ns);
    failed = io->sync_dir(io, ns->folder);
    if (failed < 0)
        return failed;
    snprintf(path, sizeof(path), "%.490s/descriptor", ns->folder);
    io->unlink(io, path);
    io->rmdir(io, ns->folder);
    return io->sync_dir(io, ns->store->data);
}

static int create(struct store *store, struct namespace *ns, const struct namespace_descriptor *d)
{
    int failed = store->io->mkdir(store->io, ns->folder);

    if (failed == -ENOSPC || failed == -EDQUOT)
        return STORE_NO_SPACE;
    if (failed < 0)
        return store_fail(store, "making", ns->folder, failed);
    failed = namespace_save(ns, d);
    if (failed == 0) {
        failed = namespace_load(ns); /* an empty one: opens the index */
        if (failed == 0 && store->io->sync_dir(store->io, store->data) < 0)
            failed = store_fail(store, "syncing", store->data, -EIO);
    }
    if (failed == 0)
        failed = store_namespace_add(store, ns);
    if (failed < 0)
        namespace_remove_files(ns);
    return failed;
}

int store_namespace_create(struct store *store, const char *name, size_t len,
                           const struct store_properties *properties)
{
    struct namespace_descriptor d = {.created = store_now(), .base = 1, .floor = 1};
    struct namespace *ns, *has;
    int failed = 0;

    if (!namespace_name_is_good(name, len) ||
        (properties != NULL && properties->secret_len > STORE_SECRET_MAX))
        return STORE_INVALID;
    if (getrandom(&d.identity, sizeof(d.identity), 0) != sizeof(d.identity))
        return STORE_NO_MEMORY;
    memcpy(d.name, name, len);
    if (properties != NULL)
        d.properties = *properties;
    else
        d.properties.mode = store->options.mode;
    pthread_mutex_lock(&store->admin);
    if (store_namespace_get(store, name, len, &has) == 0) {
        store_namespace_put(has);
        pthread_mutex_unlock(&store->admin);
        return STORE_EXISTS;
    }
    if (atomic_load(&store->failed) != 0)
        failed = STORE_READ_ONLY;
    if (failed == 0)
        failed = save_next_id(store); /* an id that was ever used is never used again */
    if (failed == 0) {
        d.id = (uint32_t)(store->next_namespace - 1);
        ns = namespace_new(store, d.id);
        failed = ns == NULL ? STORE_NO_MEMORY : create(store, ns, &d);
        if (failed < 0)
            store_namespace_put(ns);
    }
    pthread_mutex_unlock(&store->admin);
    return failed;
}

int store_namespace_delete(struct store *store, const char *name, size_t len)
{
    struct namespace_descriptor d;
    struct namespace *ns;
    int failed;

    if (len == 7 && memcmp(name, "default", 7) == 0)
        return STORE_INVALID;
    failed = store_namespace_get(store, name, len, &ns);
    if (failed < 0)
        return failed;
    pthread_mutex_lock(&ns->upkeep);
    pthread_mutex_lock(&store->admin);
    pthread_mutex_lock(&ns->write);
    d = ns->d;
    d.deleted = true;
    if (ns->gone)
        failed = STORE_NO_NAMESPACE;
    else if (ns->descriptor_damaged)
        failed = STORE_DAMAGED;
    else
        failed = namespace_save(ns, &d);
    if (failed == 0) {
        pthread_mutex_lock(&store->lists);
        for (uint32_t i = 0, to = 0; i < store->namespace_count; i++)
            if (store->namespaces[i] != ns)
                store->namespaces[to++] = store->namespaces[i];
        store->namespace_count--;
        pthread_mutex_unlock(&store->lists);
        pthread_mutex_lock(&ns->lock);
        ns->gone = true;
        namespace_clear(ns);
        pthread_mutex_unlock(&ns->lock);
        namespace_remove_files(ns); /* else the next recovery does */
        store_namespace_put(ns);
    }
    pthread_mutex_unlock(&ns->write);
    pthread_mutex_unlock(&store->admin);
    pthread_mutex_unlock(&ns->upkeep);
    store_namespace_put(ns);
    return failed;
}

int store_namespace_set(struct namespace *ns, const struct store_properties *properties)
{
    struct store *store = ns->store;
    struct namespace_descriptor d;
    bool changes_mode;
    int failed = 0;

    if (properties->secret_len > STORE_SECRET_MAX)
        return STORE_INVALID;
    pthread_mutex_lock(&ns->upkeep);
    pthread_mutex_lock(&store->admin);
    pthread_mutex_lock(&ns->write);
    pthread_mutex_lock(&ns->lock);
    changes_mode = properties->mode != ns->d.properties.mode;
    if (ns->gone)
        failed = STORE_NO_NAMESPACE;
    else if (ns->descriptor_damaged)
        failed = STORE_DAMAGED;
    else if (changes_mode && (ns->segment_count > 0 || ns->damaged > 0))
        failed = STORE_NOT_EMPTY;
    d = ns->d;
    d.properties = *properties;
    ns->flushing = failed == 0 && changes_mode;
    pthread_mutex_unlock(&ns->lock);
    if (failed == 0 && changes_mode)
        snapshot_remove(ns);
    if (failed == 0)
        failed = namespace_save(ns, &d);
    pthread_mutex_lock(&ns->lock);
    if (failed == 0 && changes_mode) {
        namespace_clear(ns);
        failed = namespace_load(ns);
    }
    ns->flushing = false;
    pthread_mutex_unlock(&ns->lock);
    pthread_mutex_unlock(&ns->write);
    pthread_mutex_unlock(&store->admin);
    pthread_mutex_unlock(&ns->upkeep);
    return failed;
}

static int unlink_old(void *ctx, const char *name)
{
    const struct namespace *ns = ctx;
    char path[PATH_LEN + 256], *end;
    unsigned long id = strtoul(name, &end, 16);

    snprintf(path, sizeof(path), "%s/%.200s", ns->folder, name);
    if (end == name + 8 && strcmp(end, ".seg") == 0 && id < ns->d.floor)
        ns->store->io->unlink(ns->store->io, path);
    return 0;
}

/* Whether FLUSH is allowed. ns->lock held. */
static int may_flush(const struct namespace *ns)
{
    if (ns->d.properties.lock != STORE_NORMAL)
        return ns->d.properties.lock == STORE_LOCKED ? STORE_IS_LOCKED : STORE_IS_FROZEN;
    return ns->d.properties.worm ? STORE_WORM : 0;
}

/* Drops all records. `anew`: whatever the properties say, and the numbers begin again. */
static int empty(struct namespace *ns, bool anew)
{
    struct store *store = ns->store;
    struct namespace_descriptor d;
    int failed;

    pthread_mutex_lock(&ns->upkeep);
    pthread_mutex_lock(&store->admin);
    pthread_mutex_lock(&ns->write);
    pthread_mutex_lock(&ns->lock);
    failed = ns->gone                 ? STORE_NO_NAMESPACE
             : ns->descriptor_damaged ? STORE_DAMAGED
             : anew                   ? 0
                                      : may_flush(ns);
    d = ns->d;
    d.floor = ns->next_segment;
    d.base = anew ? 1 : ns->number + 1;
    if (d.compacted_to < ns->number + 1)
        d.compacted_to = ns->number + 1;
    d.next_id = 0;
    d.swaps++;
    d.retire_count = d.adopt_count = 0;
    ns->flushing = failed == 0; /* writers wait: their numbers would begin before `base` */
    pthread_mutex_unlock(&ns->lock);
    if (failed == 0 && anew)
        failed = snapshot_remove(ns); /* the log need not reach its last number */
    if (failed == 0)
        failed = namespace_save(ns, &d);
    pthread_mutex_lock(&ns->lock);
    if (failed == 0) {
        namespace_clear(ns);
        ns->expected_number = 0;
        followers_break(ns, 0, UINT64_MAX);
        failed = namespace_load(ns);
    }
    ns->flushing = false;
    pthread_mutex_unlock(&ns->lock);
    if (failed == 0)
        store->io->list(store->io, ns->folder, unlink_old, ns);
    pthread_mutex_unlock(&ns->write);
    pthread_mutex_unlock(&store->admin);
    pthread_mutex_unlock(&ns->upkeep);
    return failed;
}

int store_namespace_flush(struct namespace *ns)
{
    return empty(ns, false);
}

int store_namespace_restart(struct namespace *ns)
{
    return empty(ns, true);
}

int store_namespace_reload(struct namespace *ns)
{
    int failed = namespace_sync(ns);

    if (failed < 0)
        return failed;
    pthread_mutex_lock(&ns->upkeep);
    pthread_mutex_lock(&ns->write);
    failed = namespace_write_out(ns);
    pthread_mutex_lock(&ns->lock);
    if (failed == 0 && ns->gone)
        failed = STORE_NO_NAMESPACE;
    if (failed == 0) {
        snapshot_remove(ns);
        namespace_clear(ns);
        failed = namespace_load(ns);
    }
    pthread_mutex_unlock(&ns->lock);
    pthread_mutex_unlock(&ns->write);
    pthread_mutex_unlock(&ns->upkeep);
    return failed;
}

uint64_t store_namespace_ticket(struct namespace *ns)
{
    uint64_t ticket;

    pthread_mutex_lock(&ns->lock);
    ticket = ns->last_ticket;
    pthread_mutex_unlock(&ns->lock);
    return ticket;
}

void store_namespace_properties(struct namespace *ns, struct store_properties *ret)
{
    pthread_mutex_lock(&ns->lock);
    *ret = ns->d.properties;
    pthread_mutex_unlock(&ns->lock);
}

bool store_namespace_requires_tls(const struct namespace *ns)
{
    return atomic_load_explicit(&ns->requires_tls, memory_order_relaxed);
}

void store_namespace_info(struct namespace *ns, struct store_info *ret)
{
    pthread_mutex_lock(&ns->lock);
    *ret = (struct store_info){
        .id = ns->d.id,
        .properties = ns->d.properties,
        .created = ns->d.created,
        .entries = ns->entries,
        .bytes = ns->bytes,
        .index_memory = ns->index != NULL ? index_memory(ns->index) : 0,
        .index_disk = ns->index_disk,
        .last_number = ns->number,
        .next_id = ns->next_id,
        .compacted_to = ns->d.compacted_to,
        .cut_bytes = ns->cut_bytes,
        .segments = ns->segment_count,
        .damaged = ns->damaged,
        .descriptor_damaged = ns->descriptor_damaged,
        .compacting = ns->compacting,
    };
    memcpy(ret->name, ns->d.name, sizeof(ret->name));
    if (ns->slots != NULL) {
        ret->index_memory = slots_memory(ns->slots);
        ret->index_disk = (uint64_t)slots_file_size(ns->slots);
    }
    for (uint32_t i = 0; i < ns->segment_count; i++)
        ret->disk_bytes += ns->segments[i]->size;
    ret->disk_claimed = namespace_claimed(ns);
    pthread_mutex_unlock(&ns->lock);
}

struct namespace *store_namespace_after(struct store *store, uint32_t after)
{
    struct namespace *ns = NULL;

    pthread_mutex_lock(&store->lists);
    for (uint32_t i = 0; i < store->namespace_count && ns == NULL; i++)
        if (store->namespaces[i]->d.id > after)
            ns = store_namespace_ref(store->namespaces[i]);
    pthread_mutex_unlock(&store->lists);
    return ns;
}

int store_namespace_list(struct store *store, int (*each)(void *ctx, const struct store_info *info),
                         void *ctx)
{
    uint32_t after = 0;
    int ret = 0;

    while (ret == 0) {
        struct namespace *ns = store_namespace_after(store, after);
        struct store_info info;

        if (ns == NULL)
            break;
        store_namespace_info(ns, &info);
        after = info.id;
        store_namespace_put(ns);
        ret = each(ctx, &info);
    }
    return ret;
}
