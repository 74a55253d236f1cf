/*
 * file.c - see file.h.
 */
#include "lib/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILE_READ_STEP 4096u /* what says size 0 is read in growing steps */
#define FILE_TREE_DEPTH 128  /* levels that file_remove_tree descends */

void file_close_cleanup(int *fd)
{
    if (*fd >= 0) {
        int saved_errno = errno;

        close(*fd);
        errno = saved_errno;
    }
}

void file_free_cleanup(void *ptr)
{
    void *memory;

    memcpy(&memory, ptr, sizeof(memory));
    free(memory);
}

/* The rest of an open file, its end marked by NUL. `capacity` bytes are there to begin with. */
static int file_read_fd(int fd, size_t max, char **data, size_t capacity, size_t *ret_len)
{
    size_t len = 0;

    for (;;) {
        ssize_t got;

        if (capacity - len < 2) {
            size_t larger = capacity < FILE_READ_STEP ? FILE_READ_STEP : capacity * 2;
            char *grown = realloc(*data, larger);

            if (grown == NULL)
                return -ENOMEM;
            *data = grown;
            capacity = larger;
        }
        got = read(fd, *data + len, capacity - len - 1);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (got == 0)
            break;
        len += (size_t)got;
        if (len > max)
            return -EFBIG;
    }
    (*data)[len] = '\0';
    *ret_len = len;
    return 0;
}

int file_read_at(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len)
{
    cleanup_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    size_t capacity = FILE_READ_STEP;
    struct stat st;
    size_t len = 0;
    char *data;
    int ret;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    /* Only a hint: files of /proc say 0, those of /sys 4096, whatever they hold. Two bytes more than the file: the NUL,
     * and one by which its end is seen at once. */
    if (S_ISREG(st.st_mode) && st.st_size > 0)
        capacity = ((uintmax_t)st.st_size < max ? (size_t)st.st_size : max) + 2;
    data = malloc(capacity);
    if (data == NULL)
        return -ENOMEM;
    ret = file_read_fd(fd, max, &data, capacity, &len);
    if (ret < 0) {
        free(data);
        return ret;
    }
    *ret_data = data;
    if (ret_len != NULL)
        *ret_len = len;
    return 0;
}

int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len)
{
    return file_read_at(AT_FDCWD, path, max, ret_data, ret_len);
}

int file_ioctl(int fd, unsigned long request, void *arg)
{
    long ret = syscall(SYS_ioctl, fd, request, arg);

    return ret < 0 ? -errno : (int)ret;
}

int file_write_all(int fd, const void *data, size_t len)
{
    const char *bytes = data;

    while (len > 0) {
        ssize_t done = write(fd, bytes, len);

        if (done < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        bytes += done;
        len -= (size_t)done;
    }
    return 0;
}

static int file_sync_parent(const char *path)
{
    cleanup_close int fd = -1;
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        snprintf(folder, sizeof(folder), ".");
    else
        snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* tmpfs and friends have nothing to sync and may say so. */
    if (fsync(fd) < 0 && errno != EINVAL && errno != EROFS)
        return -errno;
    return 0;
}

int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode)
{
    char temporary[PATH_MAX];
    cleanup_close int fd = -1;
    int written;
    int ret;

    if (path[0] == '\0')
        return -ENOENT;
    written = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    if (written < 0 || (size_t)written >= sizeof(temporary))
        return -ENAMETOOLONG;
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return -errno;

    ret = file_write_all(fd, data, len);
    if (ret == 0 && fchmod(fd, mode) < 0)
        ret = -errno;
    if (ret == 0 && fsync(fd) < 0 && errno != EINVAL)
        ret = -errno;
    if (ret == 0 && rename(temporary, path) < 0)
        ret = -errno;
    if (ret < 0) {
        unlink(temporary);
        return ret;
    }
    return file_sync_parent(path);
}

int file_write_text_at(int dirfd, const char *path, const char *text)
{
    cleanup_close int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    size_t len = strlen(text);
    ssize_t done;

    if (fd < 0)
        return -errno;
    do {
        done = write(fd, text, len);
    } while (done < 0 && errno == EINTR);
    if (done < 0)
        return -errno;
    return (size_t)done == len ? 0 : -EIO;
}

int file_write_text(const char *path, const char *text)
{
    return file_write_text_at(AT_FDCWD, path, text);
}

int file_mkdirs(const char *path, mode_t mode)
{
    char copy[PATH_MAX];
    size_t len = strlen(path);
    struct stat st;

    if (len == 0)
        return -ENOENT;
    if (len >= sizeof(copy))
        return -ENAMETOOLONG;
    memcpy(copy, path, len + 1);

    for (char *at = copy + 1;; at++) {
        char byte = *at;

        if (byte != '/' && byte != '\0')
            continue;
        *at = '\0';
        if (mkdir(copy, mode) < 0) {
            int saved = errno;

            /* A parent on a read-only file system answers EROFS although it is there. */
            if (stat(copy, &st) < 0)
                return -saved;
            if (!S_ISDIR(st.st_mode))
                return -ENOTDIR;
        }
        if (byte == '\0')
            return 0;
        *at = byte;
    }
}

static int file_remove_at(int dirfd, const char *name, dev_t device, int depth);

static int file_remove_entries(DIR *dir, dev_t device, int depth)
{
    int ret = 0;

    for (;;) {
        struct dirent *entry;
        int one;

        errno = 0;
        entry = readdir(dir);
        if (entry == NULL)
            return errno != 0 && ret == 0 ? -errno : ret;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        one = file_remove_at(dirfd(dir), entry->d_name, device, depth);
        if (one < 0 && ret == 0)
            ret = one;
    }
}

/*
 * Opens a folder of the tree. A bind mount of the same file system has the same device number, so the
 * kernel must be the judge (openat2, 5.6); a btrfs subvolume is no mount but has a device number of its
 * own, so that is compared too.
 */
static int file_open_folder(int dirfd, const char *name, dev_t device)
{
    const struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
    };
    struct stat st;
    int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || st.st_dev != device) {
        close(fd);
        return -EXDEV;
    }
    return fd;
}

static int file_remove_at(int dirfd, const char *name, dev_t device, int depth)
{
    DIR *dir;
    int ret;
    int fd;

    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM) /* POSIX says EPERM for a folder, Linux EISDIR */
        return -errno;
    if (depth >= FILE_TREE_DEPTH)
        return -ELOOP;

    fd = file_open_folder(dirfd, name, device);
    if (fd < 0)
        return fd;
    dir = fdopendir(fd);
    if (dir == NULL) {
        ret = -errno;
        close(fd);
        return ret;
    }
    ret = file_remove_entries(dir, device, depth + 1);
    closedir(dir);
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT && ret == 0)
        ret = -errno;
    return ret;
}

/* of: the file that was written; NULL: any with a dot in its name. */
static bool is_leftover(const char *name, const char *of)
{
    const char *dot = strrchr(name, '.');

    if (dot == NULL || strlen(dot + 1) != strlen("XXXXXX"))
        return false;
    size_t len = (size_t)(dot - name);
    if (of == NULL ? memchr(name, '.', len) == NULL
                   : strlen(of) != len || memcmp(name, of, len) != 0)
        return false;
    for (const char *c = dot + 1; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c))
            return false;
    }
    return true;
}

static int remove_leftovers(const char *folder, const char *of)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int count = 0;

    if (dir == NULL)
        return -errno;
    while ((entry = readdir(dir)) != NULL) {
        if (is_leftover(entry->d_name, of) && unlinkat(dirfd(dir), entry->d_name, 0) == 0)
            count++;
    }
    closedir(dir);
    return count;
}

int file_remove_leftovers(const char *folder)
{
    return remove_leftovers(folder, NULL);
}

int file_remove_leftovers_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];

    if (slash == NULL || slash == path || (size_t)(slash - path) >= sizeof(folder))
        return -EINVAL;
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = '\0';
    return remove_leftovers(folder, slash + 1);
}

int file_remove_tree(const char *path)
{
    char copy[PATH_MAX];
    cleanup_close int parent = -1;
    struct stat st;
    size_t len = strlen(path);
    char *slash;

    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0 || len >= sizeof(copy))
        return len == 0 ? -ENOENT : -ENAMETOOLONG;
    memcpy(copy, path, len);
    copy[len] = '\0';

    if (lstat(copy, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    slash = strrchr(copy, '/');
    if (slash == NULL)
        return file_remove_at(AT_FDCWD, copy, st.st_dev, 0);
    *slash = '\0';
    parent = open(slash == copy ? "/" : copy, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return -errno;
    return slash[1] == '\0' ? -EBUSY : file_remove_at(parent, slash + 1, st.st_dev, 0);
}
