/*
 * io.h - the one narrow layer through which the engine touches a disk.
 *
 * Everything that can fail, be lost or be torn is a function here, so that the tests can put a disk
 * beneath the engine that loses power at the n-th call (tests/unit/kv_disk.h). io_kernel is the real
 * one. All functions return 0 or a positive result, or a negative errno; paths are whole paths.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum io_flags {
    IO_WRITE = 1,  /* for reading and writing; otherwise for reading */
    IO_CREATE = 2, /* -EEXIST when it exists */
    IO_LOCK = 4,   /* -EBUSY when another process has it open with this flag */
};

struct io {
    int (*open)(const struct io *io, const char *path, unsigned flags);
    void (*close)(const struct io *io, int fd);
    /* Reads until `len` bytes or the end of the file; returns how many. */
    ssize_t (*read)(const struct io *io, int fd, void *data, size_t len, uint64_t offset);
    /* Writes all of it; 0 or -errno (then any part may have been written). Changes `parts`. */
    int (*write)(const struct io *io, int fd, struct iovec *parts, int count, uint64_t offset);
    int (*sync)(const struct io *io, int fd); /* data, and size and place of it: fdatasync(2) */
    int (*truncate)(const struct io *io, int fd, uint64_t size);
    /* Claims space for later writes without changing the size. -EOPNOTSUPP: not here. */
    int (*allocate)(const struct io *io, int fd, uint64_t offset, uint64_t len);
    int64_t (*size)(const struct io *io, int fd);
    int (*rename)(const struct io *io, const char *from, const char *to); /* within a folder */
    int (*unlink)(const struct io *io, const char *path);
    int (*mkdir)(const struct io *io, const char *path);
    int (*rmdir)(const struct io *io, const char *path);
    int (*sync_dir)(const struct io *io, const char *path); /* makes names in it durable */
    /* Names in a folder, without "." and ".."; stops at a result other than 0 and returns it. */
    int (*list)(const struct io *io, const char *path, int (*each)(void *ctx, const char *name),
                void *ctx);
    int (*space)(const struct io *io, const char *path, uint64_t *ret_free, uint64_t *ret_total);
};

extern const struct io io_kernel;

/* An iovec serves reading, too, so it takes no const; writing changes nothing. */
static inline void *io_base(const void *data)
{
    union {
        const void *from;
        void *to;
    } base = {.from = data};

    return base.to;
}

/* One buffer. */
static inline int io_write(const struct io *io, int fd, const void *data, size_t len,
                           uint64_t offset)
{
    struct iovec part = {.iov_base = io_base(data), .iov_len = len};

    return io->write(io, fd, &part, 1, offset);
}

/* Exactly `len` bytes: 0, -ENODATA when the file is shorter, -errno. */
int io_read_exactly(const struct io *io, int fd, void *data, size_t len, uint64_t offset);
/* A whole file with a limit; free with free(). -EFBIG, -ENOENT, … */
int io_read_file(const struct io *io, const char *path, size_t max, void **ret, size_t *ret_len);
/* A new content for `path` through `path`.tmp: after a power cut the old or the new, never half.
 * `folder` is the folder of `path`. Durable when it returns 0. On failure the old one is in place,
 * or, when only the last sync failed, either. */
int io_replace_file(const struct io *io, const char *folder, const char *path, const void *data,
                    size_t len);
