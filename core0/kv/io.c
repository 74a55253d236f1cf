/*
 * io.c - io.h over the kernel's system calls.
 */
#include "kv/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int kernel_open(const struct io *io, const char *path, unsigned flags)
{
    int mode = O_CLOEXEC | O_NOFOLLOW | ((flags & IO_WRITE) != 0 ? O_RDWR : O_RDONLY);
    int fd;

    (void)io;
    if ((flags & IO_CREATE) != 0)
        mode |= O_CREAT | O_EXCL;
    fd = open(path, mode, 0600);
    if (fd < 0)
        return -errno;
    if ((flags & IO_LOCK) != 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int failed = errno == EWOULDBLOCK ? -EBUSY : -errno;

        close(fd);
        return failed;
    }
    return fd;
}

static void kernel_close(const struct io *io, int fd)
{
    (void)io;
    if (fd >= 0)
        close(fd);
}

static ssize_t kernel_read(const struct io *io, int fd, void *data, size_t len, uint64_t offset)
{
    size_t done = 0;

    (void)io;
    while (done < len) {
        ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static int kernel_write(const struct io *io, int fd, struct iovec *parts, int count,
                        uint64_t offset)
{
    (void)io;
    while (count > 0) {
        ssize_t n = pwritev(fd, parts, count > IOV_MAX ? IOV_MAX : count, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0 && parts->iov_len > 0)
            return -EIO;
        offset += (uint64_t)n;
        while (count > 0 && (size_t)n >= parts->iov_len) {
            n -= (ssize_t)parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + n;
            parts->iov_len -= (size_t)n;
        }
    }
    return 0;
}

/* EINTR is not retried either: what a second sync says about the first one's pages is not known. */
static int kernel_sync(const struct io *io, int fd)
{
    (void)io;
    return fdatasync(fd) == 0 ? 0 : -errno;
}

static int kernel_truncate(const struct io *io, int fd, uint64_t size)
{
    (void)io;
    return ftruncate(fd, (off_t)size) == 0 ? 0 : -errno;
}

static int kernel_allocate(const struct io *io, int fd, uint64_t offset, uint64_t len)
{
    int failed;

    (void)io;
    do
        failed = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) == 0 ? 0 : -errno;
    while (failed == -EINTR);
    return failed;
}

static int64_t kernel_size(const struct io *io, int fd)
{
    struct stat st;

    (void)io;
    return fstat(fd, &st) == 0 ? st.st_size : -errno;
}

static int kernel_rename(const struct io *io, const char *from, const char *to)
{
    (void)io;
    return rename(from, to) == 0 ? 0 : -errno;
}

static int kernel_unlink(const struct io *io, const char *path)
{
    (void)io;
    return unlink(path) == 0 ? 0 : -errno;
}

static int kernel_mkdir(const struct io *io, const char *path)
{
    (void)io;
    return mkdir(path, 0700) == 0 ? 0 : -errno;
}

static int kernel_rmdir(const struct io *io, const char *path)
{
    (void)io;
    return rmdir(path) == 0 ? 0 : -errno;
}

static int kernel_sync_dir(const struct io *io, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), failed;

    (void)io;
    if (fd < 0)
        return -errno;
    failed = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return failed;
}

static int kernel_list(const struct io *io, const char *path,
                       int (*each)(void *ctx, const char *name), void *ctx)
{
    DIR *folder = opendir(path);
    int ret = 0;

    (void)io;
    if (folder == NULL)
        return -errno;
    while (ret == 0) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(folder);
        if (entry == NULL) {
            ret = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ret = each(ctx, entry->d_name);
    }
    closedir(folder);
    return ret;
}

static int kernel_space(const struct io *io, const char *path, uint64_t *ret_free,
                        uint64_t *ret_total)
{
    struct statvfs st;

    (void)io;
    if (statvfs(path, &st) != 0)
        return -errno;
    *ret_free = (uint64_t)st.f_bavail * st.f_frsize;
    *ret_total = (uint64_t)st.f_blocks * st.f_frsize;
    return 0;
}

const struct io io_kernel = {
    .open = kernel_open,
    .close = kernel_close,
    .read = kernel_read,
    .write = kernel_write,
    .sync = kernel_sync,
    .truncate = kernel_truncate,
    .allocate = kernel_allocate,
    .size = kernel_size,
    .rename = kernel_rename,
    .unlink = kernel_unlink,
    .mkdir = kernel_mkdir,
    .rmdir = kernel_rmdir,
    .sync_dir = kernel_sync_dir,
    .list = kernel_list,
    .space = kernel_space,
};

int io_read_exactly(const struct io *io, int fd, void *data, size_t len, uint64_t offset)
{
    ssize_t n = io->read(io, fd, data, len, offset);

    if (n < 0)
        return (int)n;
    return (size_t)n == len ? 0 : -ENODATA;
}

int io_read_file(const struct io *io, const char *path, size_t max, void **ret, size_t *ret_len)
{
    int fd = io->open(io, path, 0), failed;
    int64_t size;
    void *data;

    if (fd < 0)
        return fd;
    size = io->size(io, fd);
    if (size < 0 || (uint64_t)size > max) {
        io->close(io, fd);
        return size < 0 ? (int)size : -EFBIG;
    }
    data = malloc((size_t)size + 1);
    failed = data == NULL ? -ENOMEM : io_read_exactly(io, fd, data, (size_t)size, 0);
    io->close(io, fd);
    if (failed < 0) {
        free(data);
        return failed;
    }
    *ret = data;
    *ret_len = (size_t)size;
    return 0;
}

int io_replace_file(const struct io *io, const char *folder, const char *path, const void *data,
                    size_t len)
{
    char temporary[PATH_MAX];
    int fd, failed;

    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= sizeof(temporary))
        return -ENAMETOOLONG;
    failed = io->unlink(io, temporary);
    if (failed < 0 && failed != -ENOENT)
        return failed;
    fd = io->open(io, temporary, IO_WRITE | IO_CREATE);
    if (fd < 0)
        return fd;
    failed = io_write(io, fd, data, len, 0);
    if (failed == 0)
        failed = io->sync(io, fd);
    io->close(io, fd);
    if (failed == 0)
        failed = io->rename(io, temporary, path);
    if (failed < 0) {
        io->unlink(io, temporary);
        return failed;
    }
    return io->sync_dir(io, folder);
}
