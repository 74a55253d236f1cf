/*
 * kv_disk.c - see kv_disk.h.
 */
#include "kv_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FD_BASE 1000
#define FD_MAX 4096

/* One unsynced write (data) or change of the size (no data). */
struct op {
    uint8_t *data;
    uint64_t offset;
    size_t len; /* of a write */
};

struct file {
    uint8_t *now, *safe;
    size_t now_size, safe_size;
    uint64_t allocated;
    struct op *ops;
    size_t op_count;
    unsigned refs; /* names and descriptors */
};

struct name {
    char *path;
    struct file *file; /* NULL: a folder */
};

struct names {
    struct name *list;
    size_t count;
};

/* An unsynced change of names: `from` empty adds `to`, `to` empty removes `from`, otherwise a move. */
struct change {
    char *from, *to;
    struct file *file;
};

struct disk {
    struct io io;
    uint64_t random;
    struct names now, safe;
    struct change *changes;
    size_t change_count;
    struct file *open[FD_MAX];
    int open_count;
    uint64_t calls, change_calls, limit;
    uint64_t cut_at, fail_at; /* counting down; 0: not */
    int fail_error;
    enum disk_fault fault;
    bool is_cut, has_failed;
};

static struct disk *disk_of(const struct io *io)
{
    return (struct disk *)(uintptr_t)io;
}

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

uint64_t disk_random(struct disk *disk)
{
    uint64_t x = disk->random += 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void file_drop(struct file *file)
{
    if (file == NULL || --file->refs > 0)
        return;
    for (size_t i = 0; i < file->op_count; i++)
        free(file->ops[i].data);
    free(file->ops);
    free(file->now);
    free(file->safe);
    free(file);
}

/* ---- names ------------------------------------------------------------------------------------ */

static struct name *names_find(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i].path, path) == 0)
            return &names->list[i];
    return NULL;
}

static void names_add(struct names *names, const char *path, struct file *file)
{
    names->list = must(realloc(names->list, (names->count + 1) * sizeof(*names->list)));
    names->list[names->count++] = (struct name){.path = must(strdup(path)), .file = file};
    if (file != NULL)
        file->refs++;
}

static void names_remove(struct names *names, const char *path)
{
    struct name *name = names_find(names, path);

    if (name == NULL)
        return;
    file_drop(name->file);
    free(name->path);
    *name = names->list[--names->count];
}

static void names_clear(struct names *names)
{
    while (names->count > 0)
        names_remove(names, names->list[0].path);
    free(names->list);
    names->list = NULL;
}

static bool is_in(const char *path, const char *folder)
{
    size_t len = strcmp(folder, "/") == 0 ? 0 : strlen(folder);

    return strncmp(path, folder, len) == 0 && path[len] == '/' &&
           strchr(path + len + 1, '/') == NULL;
}

static void change_apply(struct names *names, const struct change *change)
{
    if (change->from[0] == '\0') {
        if (names_find(names, change->to) == NULL)
            names_add(names, change->to, change->file);
        return;
    }
    if (names_find(names, change->from) == NULL)
        return;
    if (change->to[0] != '\0') {
        names_remove(names, change->to);
        names_add(names, change->to, change->file);
    }
    names_remove(names, change->from);
}

static void change_free(struct change *change)
{
    free(change->from);
    free(change->to);
    file_drop(change->file);
}

static void change_add(struct disk *disk, const char *from, const char *to, struct file *file)
{
    struct change change = {.from = must(strdup(from)), .to = must(strdup(to)), .file = file};

    if (file != NULL)
        file->refs++;
    change_apply(&disk->now, &change);
    disk->changes = must(realloc(disk->changes, (disk->change_count + 1) * sizeof(change)));
    disk->changes[disk->change_count++] = change;
}

/* ---- contents --------------------------------------------------------------------------------- */

static void content_resize(uint8_t **data, size_t *size, size_t to)
{
    if (to > *size) {
        *data = must(realloc(*data, to));
        memset(*data + *size, 0, to - *size);
    }
    *size = to;
}

static void content_put(uint8_t **data, size_t *size, uint64_t offset, const uint8_t *from,
                        size_t len)
{
    if (offset + len > *size)
        content_resize(data, size, (size_t)(offset + len));
    if (len > 0)
        memcpy(*data + offset, from, len);
}

static void op_add(struct file *file, uint64_t offset, const void *data, size_t len)
{
    struct op op = {.offset = offset, .len = len};

    if (data != NULL) {
        op.data = must(malloc(len + 1));
        memcpy(op.data, data, len);
    }
    file->ops = must(realloc(file->ops, (file->op_count + 1) * sizeof(op)));
    file->ops[file->op_count++] = op;
}

static void file_write(struct file *file, uint64_t offset, const void *data, size_t len)
{
    content_put(&file->now, &file->now_size, offset, data, len);
    op_add(file, offset, data, len);
}

/* Carries out some of the unsynced writes: each sector with a chance of `chance` in 256. */
static void file_settle(struct disk *disk, struct file *file, unsigned chance)
{
    for (size_t i = 0; i < file->op_count; i++) {
        const struct op *op = &file->ops[i];
        uint64_t at = op->offset, end = op->offset + op->len;

        if (op->data == NULL) {
            if (disk_random(disk) % 256 < chance)
                content_resize(&file->safe, &file->safe_size, (size_t)op->offset);
            continue;
        }
        while (at < end) {
            uint64_t next = (at / DISK_SECTOR + 1) * DISK_SECTOR;

            if (next > end)
                next = end;
            if (disk_random(disk) % 256 < chance)
                content_put(&file->safe, &file->safe_size, at, op->data + (at - op->offset),
                            (size_t)(next - at));
            at = next;
        }
        /* The size may have been saved although the data was not: zeros. */
        if (end > file->safe_size && chance > 0 && disk_random(disk) % 4 == 0)
            content_resize(&file->safe, &file->safe_size, (size_t)end);
    }
    for (size_t i = 0; i < file->op_count; i++)
        free(file->ops[i].data);
    free(file->ops);
    file->ops = NULL;
    file->op_count = 0;
}

uint64_t disk_used(const struct disk *disk)
{
    uint64_t used = 0;

    for (size_t i = 0; i < disk->now.count; i++) {
        const struct file *file = disk->now.list[i].file;

        if (file != NULL)
            used += file->allocated > file->now_size ? file->allocated : file->now_size;
    }
    return used;
}

/* Room for a file that ends at `end`? */
static bool has_room(const struct disk *disk, const struct file *file, uint64_t end)
{
    uint64_t has = file->allocated > file->now_size ? file->allocated : file->now_size;

    return end <= has || disk_used(disk) + (end - has) <= disk->limit;
}

/* ---- faults ----------------------------------------------------------------------------------- */

enum kind { READS = 0, CHANGES = 1, WANTS_SPACE = 2 };

/* What the call that begins must do: 0 go on, 1 take half effect and fail (the power goes), or -errno. */
static int call_begins(struct disk *disk, unsigned kind)
{
    bool concerned = disk->fail_error != ENOSPC || (kind & WANTS_SPACE) != 0;

    disk->calls++;
    if (disk->is_cut)
        return -EIO;
    if ((kind & CHANGES) != 0) {
        disk->change_calls++;
        if (disk->cut_at > 0 && --disk->cut_at == 0) {
            disk->is_cut = true;
            return 1;
        }
    }
    if (disk->fault == DISK_NO_FAULT || !concerned)
        return 0;
    if (disk->fail_at > 0 && --disk->fail_at > 0)
        return 0;
    if (disk->fault == DISK_ONCE)
        disk->fault = DISK_NO_FAULT;
    disk->has_failed = true;
    return -disk->fail_error;
}

static struct file *file_at(struct disk *disk, int fd)
{
    if (fd < FD_BASE || fd >= FD_BASE + FD_MAX || disk->open[fd - FD_BASE] == NULL)
        abort(); /* the engine used a descriptor that is not open */
    return disk->open[fd - FD_BASE];
}

/* ---- the vtable ------------------------------------------------------------------------------- */

static int call_open(const struct io *io, const char *path, unsigned flags)
{
    struct disk *disk = disk_of(io);
    bool create = (flags & IO_CREATE) != 0;
    int begins = call_begins(disk, create ? CHANGES | WANTS_SPACE : READS), fd = 0;
    const struct name *name = names_find(&disk->now, path);
    char folder[512];

    if (begins < 0)
        return begins;
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = '\0';
    if (create && (name != NULL || names_find(&disk->now, folder) == NULL))
        return begins > 0 ? -EIO : name != NULL ? -EEXIST : -ENOENT;
    if (create) {
        struct file *file = must(calloc(1, sizeof(*file)));

        if (begins == 0 || disk_random(disk) % 2 == 0)
            change_add(disk, "", path, file);
        else
            free(file);
        if (begins > 0)
            return -EIO;
        name = names_find(&disk->now, path);
    }
    if (name == NULL || name->file == NULL)
        return name == NULL ? -ENOENT : -EISDIR;
    while (fd < FD_MAX && disk->open[fd] != NULL)
        fd++;
    if (fd == FD_MAX)
        return -EMFILE;
    disk->open[fd] = name->file;
    name->file->refs++;
    disk->open_count++;
    return FD_BASE + fd;
}

static void call_close(const struct io *io, int fd)
{
    struct disk *disk = disk_of(io);

    if (fd < 0)
        return;
    file_drop(file_at(disk, fd));
    disk->open[fd - FD_BASE] = NULL;
    disk->open_count--;
}

static ssize_t call_read(const struct io *io, int fd, void *data, size_t len, uint64_t offset)
{
    struct disk *disk = disk_of(io);
    const struct file *file = file_at(disk, fd);
    int begins = call_begins(disk, READS);

    if (begins != 0)
        return begins;
    if (offset >= file->now_size)
        return 0;
    if (len > file->now_size - offset)
        len = file->now_size - (size_t)offset;
    memcpy(data, file->now + offset, len);
    return (ssize_t)len;
}

static int call_write(const struct io *io, int fd, struct iovec *parts, int count, uint64_t offset)
{
    struct disk *disk = disk_of(io);
    struct file *file = file_at(disk, fd);
    int begins;
    size_t len = 0, at = 0;
    uint8_t *data;

    for (int i = 0; i < count; i++)
        len += parts[i].iov_len;
    data = must(malloc(len + 1));
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > 0)
            memcpy(data + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    begins = call_begins(disk, CHANGES | WANTS_SPACE);
    if (begins == 0 && !has_room(disk, file, offset + len))
        begins = -ENOSPC;
    if (begins == 0)
        file_write(file, offset, data, len);
    else if (len > 0 && !(begins < 0 && disk->is_cut))
        file_write(file, offset, data, disk_random(disk) % (len + 1)); /* some of it */
    free(data);
    return begins > 0 ? -EIO : begins;
}

static int call_sync(const struct io *io, int fd)
{
    struct disk *disk = disk_of(io);
    struct file *file = file_at(disk, fd);
    int begins = call_begins(disk, CHANGES);

    if (begins == 0)
        file_settle(disk, file, 256);
    else if (begins > 0)
        file_settle(disk, file, (unsigned)(disk_random(disk) % 257));
    else if (!disk->is_cut)
        file_settle(disk, file, 128); /* what was not saved now never will be */
    return begins > 0 ? -EIO : begins;
}

static int call_truncate(const struct io *io, int fd, uint64_t size)
{
    struct disk *disk = disk_of(io);
    struct file *file = file_at(disk, fd);
    int begins = call_begins(disk, CHANGES);

    if (begins == 0 || (begins > 0 && disk_random(disk) % 2 == 0)) {
        content_resize(&file->now, &file->now_size, (size_t)size);
        if (file->allocated > size)
            file->allocated = size;
        op_add(file, size, NULL, 0);
    }
    return begins > 0 ? -EIO : begins;
}

static int call_allocate(const struct io *io, int fd, uint64_t offset, uint64_t len)
{
    struct disk *disk = disk_of(io);
    struct file *file = file_at(disk, fd);
    int begins = call_begins(disk, CHANGES | WANTS_SPACE);

    if (begins != 0)
        return begins > 0 ? -EIO : begins;
    if (!has_room(disk, file, offset + len))
        return -ENOSPC;
    if (file->allocated < offset + len)
        file->allocated = offset + len;
    return 0;
}

static int64_t call_size(const struct io *io, int fd)
{
    struct disk *disk = disk_of(io);
    const struct file *file = file_at(disk, fd);
    int begins = call_begins(disk, READS);

    return begins != 0 ? begins : (int64_t)file->now_size;
}

static int change_names(struct disk *disk, unsigned kind, const char *from, const char *to,
                        struct file *file)
{
    int begins = call_begins(disk, kind);

    if (begins == 0 || (begins > 0 && disk_random(disk) % 2 == 0))
        change_add(disk, from, to, file);
    return begins > 0 ? -EIO : begins;
}

static int call_rename(const struct io *io, const char *from, const char *to)
{
    struct disk *disk = disk_of(io);
    const struct name *name = names_find(&disk->now, from);

    if (name == NULL)
        return call_begins(disk, CHANGES) < 0 ? -EIO : -ENOENT;
    if (name->file == NULL)
        abort(); /* the engine renames no folders; teach this if it ever does */
    return change_names(disk, CHANGES, from, to, name->file);
}

static int call_unlink(const struct io *io, const char *path)
{
    struct disk *disk = disk_of(io);
    const struct name *name = names_find(&disk->now, path);

    if (name == NULL || name->file == NULL)
        return call_begins(disk, CHANGES) < 0 ? -EIO : -ENOENT;
    return change_names(disk, CHANGES, path, "", name->file);
}

static int call_mkdir(const struct io *io, const char *path)
{
    struct disk *disk = disk_of(io);

    if (names_find(&disk->now, path) != NULL)
        return call_begins(disk, CHANGES) < 0 ? -EIO : -EEXIST;
    return change_names(disk, CHANGES | WANTS_SPACE, "", path, NULL);
}

static int call_rmdir(const struct io *io, const char *path)
{
    struct disk *disk = disk_of(io);

    if (names_find(&disk->now, path) == NULL)
        return call_begins(disk, CHANGES) < 0 ? -EIO : -ENOENT;
    for (size_t i = 0; i < disk->now.count; i++)
        if (is_in(disk->now.list[i].path, path))
            return call_begins(disk, CHANGES) < 0 ? -EIO : -ENOTEMPTY;
    return change_names(disk, CHANGES, path, "", NULL);
}

static void changes_keep(struct disk *disk, size_t at)
{
    change_apply(&disk->safe, &disk->changes[at]);
    change_free(&disk->changes[at]);
    disk->change_count--;
    memmove(&disk->changes[at], &disk->changes[at + 1],
            (disk->change_count - at) * sizeof(*disk->changes));
}

static int call_sync_dir(const struct io *io, const char *path)
{
    struct disk *disk = disk_of(io);
    int begins = call_begins(disk, CHANGES);

    if (begins < 0)
        return begins;
    for (size_t i = 0; i < disk->change_count;) {
        const struct change *change = &disk->changes[i];
        bool concerned = is_in(change->from[0] != '\0' ? change->from : change->to, path);

        if (begins > 0 && disk_random(disk) % 2 == 0)
            break;
        if (concerned)
            changes_keep(disk, i);
        else
            i++;
    }
    return begins > 0 ? -EIO : 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->path, ((const struct name *)b)->path);
}

static int call_list(const struct io *io, const char *path,
                     int (*each)(void *ctx, const char *name), void *ctx)
{
    struct disk *disk = disk_of(io);
    int begins = call_begins(disk, READS), ret = 0;
    size_t len = strlen(path), count = 0;
    char **list;

    if (begins != 0)
        return begins;
    if (names_find(&disk->now, path) == NULL)
        return -ENOENT;
    qsort(disk->now.list, disk->now.count, sizeof(*disk->now.list), compare_names);
    list = must(calloc(disk->now.count + 1, sizeof(*list))); /* `each` may change the folder */
    for (size_t i = 0; i < disk->now.count; i++)
        if (is_in(disk->now.list[i].path, path))
            list[count++] = must(strdup(disk->now.list[i].path + len + 1));
    for (size_t i = 0; i < count; i++) {
        if (ret == 0)
            ret = each(ctx, list[i]);
        free(list[i]);
    }
    free(list);
    return ret;
}

static int call_space(const struct io *io, const char *path, uint64_t *ret_free,
                      uint64_t *ret_total)
{
    struct disk *disk = disk_of(io);
    int begins = call_begins(disk, READS);
    uint64_t used = disk_used(disk);

    (void)path;
    if (begins != 0)
        return begins;
    *ret_free = used < disk->limit ? disk->limit - used : 0;
    *ret_total = disk->limit;
    return 0;
}

/* ---- for the tests ---------------------------------------------------------------------------- */

struct disk *disk_new(uint64_t seed)
{
    struct disk *disk = must(calloc(1, sizeof(*disk)));

    disk->io = (struct io){
        .open = call_open,
        .close = call_close,
        .read = call_read,
        .write = call_write,
        .sync = call_sync,
        .truncate = call_truncate,
        .allocate = call_allocate,
        .size = call_size,
        .rename = call_rename,
        .unlink = call_unlink,
        .mkdir = call_mkdir,
        .rmdir = call_rmdir,
        .sync_dir = call_sync_dir,
        .list = call_list,
        .space = call_space,
    };
    disk->random = seed * 2 + 1;
    disk->limit = (uint64_t)1 << 40;
    names_add(&disk->now, "", NULL);
    names_add(&disk->safe, "", NULL);
    return disk;
}

static void changes_clear(struct disk *disk)
{
    for (size_t i = 0; i < disk->change_count; i++)
        change_free(&disk->changes[i]);
    free(disk->changes);
    disk->changes = NULL;
    disk->change_count = 0;
}

void disk_free(struct disk *disk)
{
    if (disk == NULL)
        return;
    for (int fd = 0; fd < FD_MAX; fd++)
        if (disk->open[fd] != NULL)
            call_close(&disk->io, FD_BASE + fd);
    changes_clear(disk);
    names_clear(&disk->now);
    names_clear(&disk->safe);
    free(disk);
}

const struct io *disk_io(struct disk *disk)
{
    return &disk->io;
}

void disk_cut_at(struct disk *disk, uint64_t n)
{
    disk->cut_at = n;
}

bool disk_is_cut(const struct disk *disk)
{
    return disk->is_cut;
}

void disk_fail_at(struct disk *disk, uint64_t n, int error, enum disk_fault fault)
{
    disk->fail_at = n;
    disk->fail_error = error;
    disk->fault = n > 0 ? fault : DISK_NO_FAULT;
    disk->has_failed = false;
}

bool disk_has_failed(const struct disk *disk)
{
    return disk->has_failed;
}

uint64_t disk_changes(const struct disk *disk)
{
    return disk->change_calls;
}

uint64_t disk_calls(const struct disk *disk)
{
    return disk->calls;
}

void disk_limit(struct disk *disk, uint64_t bytes)
{
    disk->limit = bytes == 0 ? (uint64_t)1 << 40 : bytes;
}

int disk_open_files(const struct disk *disk)
{
    return disk->open_count;
}

/* A name in a folder that is not there is not there either. */
static bool names_drop_orphan(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        char folder[512];

        if (names->list[i].path[0] == '\0')
            continue;
        snprintf(folder, sizeof(folder), "%s", names->list[i].path);
        *strrchr(folder, '/') = '\0';
        if (names_find(names, folder) == NULL) {
            names_remove(names, names->list[i].path);
            return true;
        }
    }
    return false;
}

void disk_reboot(struct disk *disk)
{
    unsigned how = (unsigned)(disk_random(disk) % 4), chances[] = {0, 32, 128, 224, 256};
    bool stopped = false;

    for (int fd = 0; fd < FD_MAX; fd++)
        if (disk->open[fd] != NULL)
            call_close(&disk->io, FD_BASE + fd);
    for (size_t i = 0; i < disk->change_count; i++) { /* none, all, the first ones, or any */
        stopped = stopped || (how == 2 && disk_random(disk) % 4 == 0);
        if (how == 1 || (how == 2 && !stopped) || (how == 3 && disk_random(disk) % 2 == 0))
            change_apply(&disk->safe, &disk->changes[i]);
    }
    changes_clear(disk);
    while (names_drop_orphan(&disk->safe)) {
    }
    names_clear(&disk->now);
    for (size_t i = 0; i < disk->safe.count; i++) {
        struct file *file = disk->safe.list[i].file;

        names_add(&disk->now, disk->safe.list[i].path, file);
        if (file == NULL)
            continue;
        file_settle(disk, file, chances[disk_random(disk) % 5]);
        file->now_size = 0;
        content_put(&file->now, &file->now_size, 0, file->safe, file->safe_size);
        file->allocated = 0;
    }
    disk->is_cut = false;
    disk->cut_at = 0;
    disk->fault = DISK_NO_FAULT;
    disk->has_failed = false;
}

struct disk *disk_copy(const struct disk *disk, uint64_t seed)
{
    struct disk *copy = disk_new(seed);

    copy->limit = disk->limit;
    for (size_t i = 0; i < disk->now.count; i++) {
        const struct name *from = &disk->now.list[i];
        struct file *file = NULL;

        if (from->path[0] == '\0')
            continue;
        if (from->file != NULL) {
            file = must(calloc(1, sizeof(*file)));
            content_put(&file->now, &file->now_size, 0, from->file->now, from->file->now_size);
            content_put(&file->safe, &file->safe_size, 0, from->file->now, from->file->now_size);
        }
        names_add(&copy->now, from->path, file);
        names_add(&copy->safe, from->path, file);
    }
    return copy;
}

static struct file *file_named(struct disk *disk, const char *path)
{
    struct name *name = names_find(&disk->now, path);

    return name != NULL ? name->file : NULL;
}

int64_t disk_size(struct disk *disk, const char *path)
{
    const struct file *file = file_named(disk, path);

    return file == NULL ? -ENOENT : (int64_t)file->now_size;
}

uint8_t disk_peek(struct disk *disk, const char *path, uint64_t offset)
{
    const struct file *file = file_named(disk, path);

    if (file == NULL || offset >= file->now_size)
        abort();
    return file->now[offset];
}

void disk_poke(struct disk *disk, const char *path, uint64_t offset, uint8_t value)
{
    struct file *file = file_named(disk, path);

    if (file == NULL || offset >= file->now_size)
        abort();
    file->now[offset] = value;
    if (offset < file->safe_size)
        file->safe[offset] = value;
}

void disk_chop(struct disk *disk, const char *path, uint64_t size)
{
    struct file *file = file_named(disk, path);

    if (file == NULL || size > file->now_size)
        abort();
    file->now_size = (size_t)size;
    if (file->safe_size > size)
        file->safe_size = (size_t)size;
}

void disk_remove(struct disk *disk, const char *path)
{
    names_remove(&disk->now, path);
    names_remove(&disk->safe, path);
}

const char *disk_find(struct disk *disk, const char *suffix, unsigned n)
{
    size_t len = strlen(suffix);

    qsort(disk->now.list, disk->now.count, sizeof(*disk->now.list), compare_names);
    for (size_t i = 0; i < disk->now.count; i++) {
        size_t has = strlen(disk->now.list[i].path);

        if (disk->now.list[i].file != NULL && has >= len &&
            strcmp(disk->now.list[i].path + has - len, suffix) == 0 && n-- == 0)
            return disk->now.list[i].path;
    }
    return NULL;
}
