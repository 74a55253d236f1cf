/*
 * image_layers.c - puts a layer, or a folder of the machine, onto the tree of an image.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/image.h"
#include "lib/file.h"

static ssize_t read_tar(void *source, void *data, size_t len, struct error *err)
{
    return tar_read(source, data, len, err);
}

int image_layer_apply(struct tree *tree, struct image_spool *spool, struct image_stream *stream,
                      bool plain, struct error *err)
{
    struct tar *tar = NULL;
    const struct tar_entry *entry;
    struct tree_node *node;
    int r = tar_new(image_stream_read, stream, &tar);
    if (r < 0) {
        return error_set(err, -r, "image.no-memory", "", "no memory");
    }
    tree->layer++;
    while ((r = tar_next(tar, &entry, err)) == 1) {
        r = tree_apply(tree, entry, plain, &node, err);
        if (r == 0 && node != NULL && entry->type == TAR_FILE) {
            r = image_spool_file(spool, read_tar, tar, node->inode, err);
        }
        if (r < 0) {
            break;
        }
    }
    tar_free(tar);
    return r;
}

/* ---- a folder ---- */

/* Files of several names, by their identity on the machine. */
struct seen {
    dev_t dev;
    ino_t ino;
    char *path;
};

struct folder_walk {
    struct tree *tree;
    struct image_spool *spool;
    struct seen *seen;
    size_t seen_count;
    size_t seen_capacity;
    struct tar_entry entry; /* large: one for all */
};

static ssize_t read_fd(void *source, void *data, size_t len, struct error *err)
{
    for (;;) {
        ssize_t n = read(*(int *)source, data, len);
        if (n >= 0 || errno != EINTR) {
            return n >= 0 ? n
                          : error_set(err, errno, "image.read-failed", "", "%s", strerror(errno));
        }
    }
}

/* Only what tree.c keeps; a file that cannot be opened for it (a link) has none of these. */
static int read_xattrs(int fd, struct tar_entry *entry)
{
    char names[65536];
    ssize_t len = flistxattr(fd, names, sizeof(names));
    entry->xattr_count = 0;
    for (ssize_t at = 0; at < len && entry->xattr_count < TAR_XATTRS_MAX;
         at += (ssize_t)strlen(names + at) + 1) {
        const char *name = names + at;
        if (strncmp(name, "user.", 5) != 0 && strcmp(name, "security.capability") != 0) {
            continue;
        }
        ssize_t size = fgetxattr(fd, name, NULL, 0);
        struct tar_xattr *xattr = &entry->xattrs[entry->xattr_count];
        if (size < 0) {
            continue;
        }
        xattr->name = strdup(name);
        xattr->value = malloc((size_t)size + 1);
        if (xattr->name == NULL || xattr->value == NULL) {
            free(xattr->name);
            free(xattr->value);
            return -ENOMEM;
        }
        size = fgetxattr(fd, name, xattr->value, (size_t)size);
        xattr->len = size < 0 ? 0 : (size_t)size;
        entry->xattr_count++;
    }
    return 0;
}

static void drop_xattrs(struct tar_entry *entry)
{
    for (size_t i = 0; i < entry->xattr_count; i++) {
        free(entry->xattrs[i].name);
        free(entry->xattrs[i].value);
    }
    entry->xattr_count = 0;
}

static const char *seen_path(const struct folder_walk *walk, const struct stat *st)
{
    for (size_t i = 0; i < walk->seen_count; i++) {
        if (walk->seen[i].dev == st->st_dev && walk->seen[i].ino == st->st_ino) {
            return walk->seen[i].path;
        }
    }
    return NULL;
}

static int seen_add(struct folder_walk *walk, const struct stat *st, const char *path)
{
    if (walk->seen_count == walk->seen_capacity) {
        size_t capacity = walk->seen_capacity == 0 ? 64 : walk->seen_capacity * 2;
        struct seen *grown = realloc(walk->seen, capacity * sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        walk->seen = grown;
        walk->seen_capacity = capacity;
    }
    walk->seen[walk->seen_count] = (struct seen){st->st_dev, st->st_ino, strdup(path)};
    return walk->seen[walk->seen_count++].path == NULL ? -ENOMEM : 0;
}

static int fail(struct error *err, const char *path, int r)
{
    return error_set(err, -r, "image.read-failed", "", "%.120s: %s", path, strerror(-r));
}

static int fill_entry(struct tar_entry *entry, const struct stat *st, const char *path, int folder,
                      const char *name)
{
    static const struct {
        mode_t format;
        enum tar_type type;
    } types[] = {{S_IFREG, TAR_FILE}, {S_IFDIR, TAR_FOLDER}, {S_IFLNK, TAR_SYMLINK},
                 {S_IFCHR, TAR_CHAR}, {S_IFBLK, TAR_BLOCK},  {S_IFIFO, TAR_FIFO}};
    size_t i = 0;
    while (i < sizeof(types) / sizeof(types[0]) && (st->st_mode & S_IFMT) != types[i].format) {
        i++;
    }
    if (i == sizeof(types) / sizeof(types[0])) {
        return 0; /* a socket: means nothing without who listens */
    }
    entry->type = types[i].type;
    if (strlen(path) > TAR_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(entry->path, path, strlen(path) + 1);
    entry->link[0] = '\0';
    if (entry->type == TAR_SYMLINK) {
        ssize_t len = readlinkat(folder, name, entry->link, TAR_PATH_MAX);
        if (len < 0) {
            return -errno;
        }
        entry->link[len] = '\0';
    }
    entry->mode = st->st_mode & 07777;
    entry->uid = st->st_uid;
    entry->gid = st->st_gid;
    entry->size = entry->type == TAR_FILE ? (uint64_t)st->st_size : 0;
    entry->mtime = st->st_mtim.tv_sec;
    entry->mtime_nsec = (uint32_t)st->st_mtim.tv_nsec;
    entry->major = major(st->st_rdev);
    entry->minor = minor(st->st_rdev);
    return 1;
}

static int folder_walk(struct folder_walk *walk, int folder, const char *path, size_t depth,
                       struct error *err);

/* One name in the open folder. */
static int folder_entry(struct folder_walk *walk, int folder, const char *name, const char *path,
                        size_t depth, struct error *err)
{
    struct stat st;
    struct tar_entry *entry = &walk->entry;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return fail(err, path, -errno);
    }
    int r = fill_entry(entry, &st, path, folder, name);
    if (r <= 0) {
        return r < 0 ? fail(err, path, r) : 0;
    }
    cleanup_close int fd = -1;
    if (entry->type == TAR_FILE || entry->type == TAR_FOLDER) {
        fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
            return fail(err, path, -errno);
        }
    }
    const char *first = S_ISDIR(st.st_mode) || st.st_nlink < 2 ? NULL : seen_path(walk, &st);
    if (first != NULL) {
        entry->type = TAR_HARDLINK;
        memcpy(entry->link, first, strlen(first) + 1);
    } else if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && seen_add(walk, &st, path) < 0) {
        return fail(err, path, -ENOMEM);
    }
    if (fd >= 0 && first == NULL && read_xattrs(fd, entry) < 0) {
        return fail(err, path, -ENOMEM);
    }
    struct tree_node *node;
    r = tree_apply(walk->tree, entry, true, &node, err);
    bool file = entry->type == TAR_FILE;
    drop_xattrs(entry);
    if (r == 0 && file) {
        r = image_spool_file(walk->spool, read_fd, &fd, node->inode, err);
    }
    return r == 0 && S_ISDIR(st.st_mode) ? folder_walk(walk, fd, path, depth + 1, err) : r;
}

static int folder_walk(struct folder_walk *walk, int folder, const char *path, size_t depth,
                       struct error *err)
{
    if (depth > TAR_DEPTH_MAX) {
        return error_set(err, ENAMETOOLONG, "image.read-failed", "", "%.100s lies too deep", path);
    }
    int copy = fcntl(folder, F_DUPFD_CLOEXEC, 3);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (dir == NULL) {
        int r = -errno;
        if (copy >= 0) {
            close(copy);
        }
        return fail(err, path, r);
    }
    int r = 0;
    char *child = malloc(TAR_PATH_MAX + 1);
    for (struct dirent *item; r == 0 && child != NULL && (item = readdir(dir)) != NULL;) {
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) {
            continue;
        }
        int len = snprintf(child, TAR_PATH_MAX + 1, "%s%s%s", path, path[0] != '\0' ? "/" : "",
                           item->d_name);
        if (len >= TAR_PATH_MAX) {
            r = fail(err, path, -ENAMETOOLONG);
            break;
        }
        r = folder_entry(walk, folder, item->d_name, child, depth, err);
    }
    if (child == NULL) {
        r = fail(err, path, -ENOMEM);
    }
    free(child);
    closedir(dir);
    return r;
}

int image_folder_apply(struct tree *tree, struct image_spool *spool, const char *path,
                       struct error *err)
{
    struct folder_walk *walk = calloc(1, sizeof(*walk));
    cleanup_close int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (walk == NULL || folder < 0 || fstat(folder, &st) < 0) {
        int r = walk == NULL ? -ENOMEM : -errno;
        free(walk);
        return error_set(err, -r, "image.not-found", "", "%s: %s", path, strerror(-r));
    }
    walk->tree = tree;
    walk->spool = spool;
    tree->layer++;
    struct tree_node *node;
    int r = fill_entry(&walk->entry, &st, "", folder, "");
    r = r == 1 ? tree_apply(tree, &walk->entry, true, &node, err) : -EINVAL;
    if (r == 0) {
        r = folder_walk(walk, folder, "", 0, err);
    }
    for (size_t i = 0; i < walk->seen_count; i++) {
        free(walk->seen[i].path);
    }
    free(walk->seen);
    free(walk);
    return r;
}
