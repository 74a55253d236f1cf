/*
 * btrfs.c - subvolumes and size limits: see btrfs.h.
 */
#include "btrfs.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"

#ifndef BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA /* Linux 6.7; older headers lack it */
#define BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA 4
#endif

/* Inode number of a subvolume's root folder. */
#define ROOT_INODE 256
/*
 * Two tree blocks count under a limit that a volume's user never asked for: the root of the empty subvolume, and the one
 * that btrfs sets aside for the next write. With them a file of exactly the volume's size fits.
 */
#define EMPTY_BYTES ((uint64_t)32768)
#define LEVEL_SHIFT 48 /* of a qgroupid: level << 48 | subvolume id */
#define NESTED_MAX 64  /* depth of subvolumes inside subvolumes that removal follows */

static uint64_t group_of(uint64_t id)
{
    return (uint64_t)1 << LEVEL_SHIFT | id;
}

int btrfs_quota_enable(int pool_fd)
{
    struct btrfs_ioctl_quota_ctl_args args = {.cmd = BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA};
    int r = file_ioctl(pool_fd, BTRFS_IOC_QUOTA_CTL, &args);
    return r == -EEXIST ? 0 : r;
}

int btrfs_subvolume_id(int fd, uint64_t *ret_id)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_ino != ROOT_INODE)
        return -ENOTTY;
    struct btrfs_ioctl_ino_lookup_args args = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
    int r = file_ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args);
    if (r < 0)
        return r;
    *ret_id = args.treeid;
    return 0;
}

int btrfs_subvolume_create(int dir_fd, const char *name)
{
    struct btrfs_ioctl_vol_args_v2 args = {0};
    if (strlen(name) >= sizeof(args.name))
        return -ENAMETOOLONG;
    memcpy(args.name, name, strlen(name) + 1);
    return file_ioctl(dir_fd, BTRFS_IOC_SUBVOL_CREATE_V2, &args);
}

int btrfs_snapshot_create(int source_fd, int dir_fd, const char *name, bool read_only)
{
    struct btrfs_ioctl_vol_args_v2 args = {.fd = source_fd};
    if (strlen(name) >= sizeof(args.name))
        return -ENAMETOOLONG;
    memcpy(args.name, name, strlen(name) + 1);
    args.flags = read_only ? BTRFS_SUBVOL_RDONLY : 0;
    return file_ioctl(dir_fd, BTRFS_IOC_SNAP_CREATE_V2, &args);
}

int btrfs_subvolume_time(int fd, int64_t *ret_time)
{
    struct btrfs_ioctl_get_subvol_info_args info = {0};
    int r = file_ioctl(fd, BTRFS_IOC_GET_SUBVOL_INFO, &info);
    if (r < 0)
        return r;
    *ret_time = (int64_t)info.otime.sec;
    return 0;
}

/* The ids of the subvolumes right inside the one open as fd. *ret_ids: free(). */
static int children_of(int fd, uint64_t **ret_ids, size_t *ret_count)
{
    uint64_t *ids = NULL;
    size_t count = 0;
    struct btrfs_ioctl_get_subvol_rootref_args args = {.min_treeid = 0};
    for (;;) {
        int r = file_ioctl(fd, BTRFS_IOC_GET_SUBVOL_ROOTREF, &args);
        if (r < 0 && r != -EOVERFLOW) {
            free(ids);
            return r;
        }
        uint64_t *grown = realloc(ids, (count + args.num_items + 1) * sizeof(*ids));
        if (grown == NULL) {
            free(ids);
            return -ENOMEM;
        }
        ids = grown;
        for (size_t i = 0; i < args.num_items; i++)
            ids[count++] = args.rootref[i].treeid;
        if (r == 0)
            break;
    }
    *ret_ids = ids;
    *ret_count = count;
    return 0;
}

static int destroy_id(int pool_fd, uint64_t id)
{
    struct btrfs_ioctl_vol_args_v2 args = {.flags = BTRFS_SUBVOL_SPEC_BY_ID};
    args.subvolid = id;
    return file_ioctl(pool_fd, BTRFS_IOC_SNAP_DESTROY_V2, &args);
}

/* Opens a subvolume inside the one open as fd by its id: by its path within. */
static int open_child(int fd, uint64_t id)
{
    struct btrfs_ioctl_get_subvol_rootref_args refs = {.min_treeid = id};
    int r = file_ioctl(fd, BTRFS_IOC_GET_SUBVOL_ROOTREF, &refs);
    if (r < 0 && r != -EOVERFLOW)
        return r;
    if (refs.num_items == 0 || refs.rootref[0].treeid != id)
        return -ENOENT;
    struct btrfs_ioctl_ino_lookup_user_args look = {.dirid = refs.rootref[0].dirid, .treeid = id};
    r = file_ioctl(fd, BTRFS_IOC_INO_LOOKUP_USER, &look);
    if (r < 0)
        return r;
    int folder = fd;
    if (look.path[0] != '\0') {
        folder = openat(fd, look.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0)
            return -errno;
    }
    int child = openat(folder, look.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    r = child < 0 ? -errno : child;
    if (folder != fd)
        close(folder);
    return r;
}

/* Empties the subvolume open as fd of subvolumes. */
static int remove_children(int pool_fd, int fd, int depth)
{
    if (depth > NESTED_MAX)
        return -ELOOP;
    cleanup_free uint64_t *ids = NULL;
    size_t count = 0;
    int r = children_of(fd, &ids, &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = destroy_id(pool_fd, ids[i]);
        if (r != -ENOTEMPTY)
            continue;
        cleanup_close int child = open_child(fd, ids[i]);
        r = child < 0 ? child : remove_children(pool_fd, child, depth + 1);
        if (r == 0)
            r = destroy_id(pool_fd, ids[i]);
    }
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freed by its attribute, which is not followed
    return r;
}

int btrfs_subvolume_remove(int dir_fd, const char *name)
{
    cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    uint64_t id;
    int r = btrfs_subvolume_id(fd, &id);
    if (r < 0)
        return r;
    r = remove_children(dir_fd, fd, 0);
    if (r < 0)
        return r;
    struct btrfs_ioctl_vol_args_v2 args = {0};
    if (strlen(name) >= sizeof(args.name))
        return -ENAMETOOLONG;
    memcpy(args.name, name, strlen(name) + 1);
    return file_ioctl(dir_fd, BTRFS_IOC_SNAP_DESTROY_V2, &args);
}

/* Where to look: items of a tree with keys from (object, type, first) to (object, type, last). */
struct range {
    uint64_t tree, object;
    uint8_t type;
    uint64_t first, last;
};

typedef int item_fn(uint64_t offset, const uint8_t *item, size_t len, void *data);

static int tree_items(int pool_fd, const struct range *range, item_fn *fn, void *data)
{
    struct btrfs_ioctl_search_args args = {
        .key = {.tree_id = range->tree,
                .min_objectid = range->object,
                .max_objectid = range->object,
                .min_type = range->type,
                .max_type = range->type,
                .min_offset = range->first,
                .max_offset = range->last,
                .max_transid = UINT64_MAX},
    };
    for (;;) {
        args.key.nr_items = 4096;
        int r = file_ioctl(pool_fd, BTRFS_IOC_TREE_SEARCH, &args);
        if (r < 0)
            return r;
        if (args.key.nr_items == 0)
            return 0;
        size_t at = 0;
        uint64_t offset = 0;
        for (uint32_t i = 0; i < args.key.nr_items; i++) {
            struct btrfs_ioctl_search_header header;
            if (at + sizeof(header) > sizeof(args.buf))
                return -EIO;
            memcpy(&header, args.buf + at, sizeof(header));
            at += sizeof(header);
            if (header.len > sizeof(args.buf) - at)
                return -EIO;
            offset = header.offset;
            if (header.type == range->type && offset >= range->first && offset <= range->last) {
                r = fn(offset, (const uint8_t *)args.buf + at, header.len, data);
                if (r < 0)
                    return r;
            }
            at += header.len;
        }
        if (offset >= range->last)
            return 0;
        args.key.min_offset = offset + 1;
    }
}

static int quota_items(int pool_fd, uint64_t object, uint8_t type, uint64_t first, uint64_t last,
                       item_fn *fn, void *data)
{
    const struct range range = {BTRFS_QUOTA_TREE_OBJECTID, object, type, first, last};
    return tree_items(pool_fd, &range, fn, data);
}

static int take_u64(uint64_t offset, const uint8_t *item, size_t len, void *data)
{
    /* In both items, info and limit, the wanted number is the second 64-bit word (generation/flags, then rfer). */
    uint64_t value;
    (void)offset;
    if (len < 16)
        return -EIO;
    memcpy(&value, item + 8, sizeof(value));
    *(uint64_t *)data = le64toh(value);
    return 0;
}

static int take_group(uint64_t offset, const uint8_t *item, size_t len, void *data)
{
    (void)item;
    (void)len;
    *(uint64_t *)data = offset;
    return 0;
}

int btrfs_group_find(int pool_fd, uint64_t id, uint64_t *ret_group)
{
    uint64_t group = 0;
    int r = quota_items(pool_fd, id, BTRFS_QGROUP_RELATION_KEY, group_of(0),
                        group_of((1ull << LEVEL_SHIFT) - 1), take_group, &group);
    if (r < 0)
        return r;
    if (group == 0)
        return -ENOENT;
    *ret_group = group;
    return 0;
}

int btrfs_group_join(int pool_fd, uint64_t id, uint64_t group)
{
    struct btrfs_ioctl_qgroup_assign_args assign = {.assign = 1, .src = id, .dst = group};
    int r = file_ioctl(pool_fd, BTRFS_IOC_QGROUP_ASSIGN, &assign);
    return r == -EEXIST ? 0 : r < 0 ? r : 0;
}

int btrfs_limit_set(int pool_fd, uint64_t id, uint64_t bytes)
{
    uint64_t group = group_of(id);
    int r = btrfs_group_find(pool_fd, id, &group);
    if (r == -ENOENT) {
        struct btrfs_ioctl_qgroup_create_args create = {.create = 1, .qgroupid = group};
        r = file_ioctl(pool_fd, BTRFS_IOC_QGROUP_CREATE, &create);
        if (r == 0 || r == -EEXIST)
            r = btrfs_group_join(pool_fd, id, group);
    }
    if (r < 0)
        return r;
    struct btrfs_ioctl_qgroup_limit_args limit = {
        .qgroupid = group,
        .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = bytes + EMPTY_BYTES},
    };
    return file_ioctl(pool_fd, BTRFS_IOC_QGROUP_LIMIT, &limit);
}

int btrfs_limit_get(int pool_fd, uint64_t id, uint64_t *ret_used, uint64_t *ret_limit)
{
    uint64_t used = UINT64_MAX;
    uint64_t limit = UINT64_MAX;
    uint64_t group;
    int r = btrfs_group_find(pool_fd, id, &group);
    if (r == 0)
        r = quota_items(pool_fd, 0, BTRFS_QGROUP_INFO_KEY, group, group, take_u64, &used);
    if (r == 0)
        r = quota_items(pool_fd, 0, BTRFS_QGROUP_LIMIT_KEY, group, group, take_u64, &limit);
    if (r < 0)
        return r;
    if (used == UINT64_MAX || limit == UINT64_MAX)
        return -ENOENT;
    *ret_used = used > EMPTY_BYTES / 2 ? used - EMPTY_BYTES / 2 : 0;
    *ret_limit = limit > EMPTY_BYTES ? limit - EMPTY_BYTES : 0;
    return 0;
}

static int add_u64(uint64_t offset, const uint8_t *item, size_t len, void *data)
{
    uint64_t value = 0;
    int r = take_u64(offset, item, len, &value);
    *(uint64_t *)data += value;
    return r;
}

int btrfs_used(int pool_fd, uint64_t *ret_used)
{
    uint64_t used = 0;
    int r = quota_items(pool_fd, 0, BTRFS_QGROUP_INFO_KEY, 0, group_of(0) - 1, add_u64, &used);
    if (r == 0)
        *ret_used = used;
    return r;
}

struct sweep {
    uint64_t ids[256]; /* what is left over when it is full waits for the next sweep */
    size_t count;
};

static int sweep_note(uint64_t offset, const uint8_t *item, size_t len, void *data)
{
    struct sweep *sweep = data;
    uint64_t rfer;
    if (len < 16 || sweep->count == sizeof(sweep->ids) / sizeof(sweep->ids[0]))
        return 0;
    memcpy(&rfer, item + 8, sizeof(rfer));
    if (rfer == 0) /* a living subvolume has at least its root block */
        sweep->ids[sweep->count++] = offset;
    return 0;
}

static int note_item(uint64_t offset, const uint8_t *item, size_t len, void *data)
{
    (void)offset;
    (void)item;
    (void)len;
    *(bool *)data = true;
    return 0;
}

/* A subvolume of this moment is not counted yet, and Linux 6.12 would let its group be removed. */
static bool is_alive(int pool_fd, uint64_t group)
{
    const struct range range = {BTRFS_ROOT_TREE_OBJECTID, group, BTRFS_ROOT_ITEM_KEY, 0,
                                UINT64_MAX};
    bool found = false;
    return tree_items(pool_fd, &range, note_item, &found) < 0 || found;
}

/* Groups without a byte from `first` to `last` go. The kernel refuses while anything still belongs to one. */
static int sweep_level(int pool_fd, uint64_t first, uint64_t last)
{
    struct sweep sweep = {.count = 0};
    int r = quota_items(pool_fd, 0, BTRFS_QGROUP_INFO_KEY, first, last, sweep_note, &sweep);
    for (size_t i = 0; i < sweep.count; i++) {
        struct btrfs_ioctl_qgroup_create_args args = {.create = 0, .qgroupid = sweep.ids[i]};
        if (!is_alive(pool_fd, sweep.ids[i]))
            (void)file_ioctl(pool_fd, BTRFS_IOC_QGROUP_CREATE, &args);
    }
    return r;
}

int btrfs_commit(int fd)
{
    uint64_t transaction = 0;
    int r = file_ioctl(fd, BTRFS_IOC_START_SYNC, &transaction);
    return r < 0 ? r : file_ioctl(fd, BTRFS_IOC_WAIT_SYNC, &transaction);
}

int btrfs_limit_sweep(int pool_fd)
{
    /* Wakes also the thread that frees removed subvolumes, which else looks every 30 seconds. */
    (void)btrfs_commit(pool_fd);
    /* A subvolume that is gone keeps its group while a snapshot still has bytes that it wrote. */
    int r = sweep_level(pool_fd, BTRFS_FIRST_FREE_OBJECTID, group_of(0) - 1);
    return r < 0 ? r : sweep_level(pool_fd, group_of(0), group_of((1ull << LEVEL_SHIFT) - 1));
}
