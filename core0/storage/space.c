/*
 * space.c - descriptions of key-value namespaces: one small file each on the pool where the namespace lies. See space.h.
 */
#include "space.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

#define FOLDER "spaces"
#define FILE_MAX 4096

int space_key_check(const char *key, struct error *err)
{
    if (strncmp(key, "kv/", 3) != 0 || !volume_key_is_valid(key))
        return error_set(err, EINVAL, "storage.bad-key", "",
                         "'%.80s' is no key of a key-value namespace", key);
    return 0;
}

int space_parse(const char *text, size_t len, const char *name, struct space *ret_space)
{
    struct {
        const char *key, *mode;
        uint64_t size;
        int64_t keep_until;
        bool is_public, tls_required;
    } row = {.mode = "user"};
    static const struct json_field fields[] = {
        {"key", JSON_STRING, offsetof(__typeof__(row), key), true, 1, 255},
        {"size", JSON_UINT, offsetof(__typeof__(row), size), true, 1, 0},
        {"mode", JSON_STRING, offsetof(__typeof__(row), mode), true, 1, 8},
        {"public", JSON_BOOL, offsetof(__typeof__(row), is_public), true, 0, 0},
        {"tlsRequired", JSON_BOOL, offsetof(__typeof__(row), tls_required), false, 0, 0},
        {"keepUntil", JSON_INT, offsetof(__typeof__(row), keep_until), false, 0, (uint64_t)1 << 40},
    };
    struct space space = {.pool = NULL};
    yyjson_doc *doc = json_parse(text, len, FILE_MAX, "storage.failed", NULL);
    int r = doc == NULL ? -EBADMSG : 0;
    if (r == 0 && json_read(yyjson_doc_get_root(doc), fields, sizeof(fields) / sizeof(fields[0]), 0,
                            &row, "storage.failed", NULL) < 0)
        r = -EBADMSG;
    if (r == 0 && (space_key_check(row.key, NULL) < 0 ||
                   (strcmp(row.mode, "user") != 0 && strcmp(row.mode, "seq") != 0)))
        r = -EBADMSG;
    if (r == 0) {
        snprintf(space.key, sizeof(space.key), "%s", row.key);
        kv_name(space.key, space.name);
        space.size = row.size;
        space.seq = strcmp(row.mode, "seq") == 0;
        space.is_public = row.is_public;
        space.tls_required = row.tls_required;
        space.keep_until = row.keep_until;
        /* A file under another's name would be a second promise for one namespace. */
        r = strcmp(space.name, name) == 0 ? 0 : -EBADMSG;
    }
    yyjson_doc_free(doc);
    if (r == 0)
        *ret_space = space;
    return r;
}

static int load(const struct pool *pool, int folder, const char *name, struct space *ret_space)
{
    cleanup_free char *text = NULL;
    size_t len;
    int r = file_read_at(folder, name, FILE_MAX, &text, &len);
    if (r == 0)
        r = space_parse(text, len, name, ret_space);
    if (r == 0)
        ret_space->pool = pool;
    return r;
}

static int open_folder(const struct pool *pool)
{
    int fd = openat(pool->fd, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int space_each(const struct pool *pool, space_fn *fn, void *data)
{
    int folder = open_folder(pool);
    if (folder < 0)
        return folder == -ENOENT ? 0 : folder;
    DIR *dir = fdopendir(folder);
    if (dir == NULL) {
        close(folder);
        return -ENOMEM;
    }
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir)) != NULL;) {
        struct space space;
        /* Besides descriptions only what a write left half done lies here (file_write_atomic). */
        if (strncmp(entry->d_name, "kv-", 3) != 0 || strlen(entry->d_name) != KV_NAME_LEN)
            continue;
        int failed = load(pool, dirfd(dir), entry->d_name, &space);
        if (failed == 0)
            r = fn(&space, data);
        else
            log_warn("namespace %s on %s: %s", entry->d_name, pool->disk, strerror(-failed));
    }
    closedir(dir);
    return r;
}

int space_find(const struct storage *storage, const char *key, struct space *ret_space)
{
    char name[KV_NAME_LEN + 1];
    kv_name(key, name);
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        cleanup_close int folder = open_folder(pool);
        int r = folder < 0 ? folder : load(pool, folder, name, ret_space);
        if (r != -ENOENT)
            return r;
    }
    return -ENOENT;
}

int space_save(const struct space *space)
{
    char path[128];
    char text[FILE_MAX];
    char keep[48] = "";
    if (mkdirat(space->pool->fd, FOLDER, 0700) < 0 && errno != EEXIST)
        return -errno;
    snprintf(path, sizeof(path), "/proc/self/fd/%d/" FOLDER "/%s", space->pool->fd, space->name);
    if (space->keep_until != 0)
        snprintf(keep, sizeof(keep), ",\"keepUntil\":%lld", (long long)space->keep_until);
    int n = snprintf(text, sizeof(text),
                     "{\"key\":\"%s\",\"size\":%llu,\"mode\":\"%s\",\"public\":%s%s%s}\n",
                     space->key, (unsigned long long)space->size, space->seq ? "seq" : "user",
                     space->is_public ? "true" : "false",
                     space->tls_required ? ",\"tlsRequired\":true" : "", keep);
    return file_write_atomic(path, text, (size_t)n, 0600);
}

int space_forget(const struct space *space)
{
    cleanup_close int folder = open_folder(space->pool);
    if (folder < 0)
        return folder == -ENOENT ? 0 : folder;
    if (unlinkat(folder, space->name, 0) < 0)
        return errno == ENOENT ? 0 : -errno;
    return fsync(folder) < 0 ? -errno : 0;
}

/*
 * A log-structured namespace holds up to as much that is dead as what lives, as compaction begins when half of a run is dead
 * (core0/kv/compact.c), and a segment that is being filled. A segment and a half are kept for compaction and deletes
 * (namespace_share() of core0/kv/store_buffer.c).
 */
uint64_t space_cost(uint64_t size)
{
    return 2 * size + SPACE_SEGMENT_BYTES * 5 / 2;
}

static int add_cost(const struct space *space, void *data)
{
    uint64_t *sum = data;
    *sum += space_cost(space->size);
    return 0;
}

static int add_size(const struct space *space, void *data)
{
    uint64_t *sum = data;
    *sum += space->size;
    return 0;
}

uint64_t space_sold(const struct pool *pool)
{
    uint64_t sum = 0;
    (void)space_each(pool, add_size, &sum);
    return sum;
}

uint64_t space_reserved(const struct pool *pool)
{
    uint64_t sum = 0;
    (void)space_each(pool, add_cost, &sum);
    return sum == 0 ? 0 : sum + SPACE_SERVER_BYTES;
}
