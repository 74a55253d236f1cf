/*
 * recover.c - from the files of a store to what it knew when it ended.
 *
 *   descriptor --> segments of the namespace --> tail: claims, cut, sync --> snapshot or nothing --> replay
 *                                                (recover_tail.c)            (recover_replay.c)
 *
 * Invariant
 *  V1  Whatever is replayed is synced first, so that what is built on it (slots, snapshots, claims) is
 *      true after the next power cut, too.
 */
#include "kv/recover.h"

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

static int first_number(void *ctx, struct segment_walker *walker, const struct record *record,
                        const uint8_t *key, const uint8_t *value)
{
    struct segment *segment = ctx;

    (void)walker;
    (void)key;
    (void)value;
    segment->first = record->number;
    return 0;
}

/* A segment without its header: its first record says where it belongs; without one it goes to the end. */
static int place_by_records(struct namespace *ns, struct segment *segment, uint64_t size)
{
    const struct segment_walk walk = {
        .from = SEGMENT_HEADER, .end = size, .flags = SEGMENT_SKIP_DAMAGE, .visit = first_number};

    segment->damaged = true;
    segment->first = UINT64_MAX;
    return namespace_walk(ns, segment, &walk, segment);
}

static int open_segment(struct namespace *ns, uint32_t id)
{
    const struct io *io = ns->store->io;
    struct segment *segment = segment_new(id);
    uint8_t header[SEGMENT_HEADER] = {0};
    int64_t size;
    int failed, fd;

    if (segment == NULL)
        return -ENOMEM;
    fd = segment_hold(ns, segment);
    if (fd < 0) {
        segment_free(segment);
        return fd;
    }
    size = io->size(io, fd);
    failed = size < 0 ? (int)size : 0;
    if (failed == 0)
        failed = io_read_exactly(io, fd, header, sizeof(header), 0);
    if (failed == -ENODATA ||
        (failed == 0 && segment_header_decode(header, ns->identity, segment) < 0))
        failed = place_by_records(ns, segment, (uint64_t)size);
    segment->size = segment->written = segment->allocated = (uint64_t)(size > 0 ? size : 0);
    if (failed == 0)
        failed = namespace_segment_add(ns, segment);
    segment_release(segment);
    if (failed < 0) {
        segment_close(ns->store, segment);
        segment_free(segment);
    }
    return failed;
}

/* Everything that descriptor and files say of a namespace, into memory. */
static int load(struct namespace *ns)
{
    struct listing listing;
    int failed = listing_read(ns, &listing);

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
        failed = recover_index(ns);
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
    atomic_store(&ns->requires_tls, d.properties.tls_required);
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
