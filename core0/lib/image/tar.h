/*
 * tar.h - reads tar streams from strangers: ustar (POSIX.1-1988), pax (POSIX.1-2001), GNU long names.
 *
 * Names come out relative and clean: no leading slash, no ".", never "..". What could be unpacked in more than one way
 * (sparse files, unknown types, names with NUL) is refused.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"

#define TAR_PATH_MAX 4095
#define TAR_NAME_MAX 255
#define TAR_DEPTH_MAX 256
#define TAR_PAX_MAX ((size_t)1 << 20) /* bytes of one extended header */
#define TAR_XATTRS_MAX 64

enum tar_type { TAR_FILE, TAR_HARDLINK, TAR_SYMLINK, TAR_CHAR, TAR_BLOCK, TAR_FOLDER, TAR_FIFO };

struct tar_xattr {
    char *name;
    uint8_t *value;
    size_t len;
};

struct tar_entry {
    enum tar_type type;
    char path[TAR_PATH_MAX + 1]; /* "" is the root folder */
    char link[TAR_PATH_MAX + 1]; /* a hard link's clean target, or a symbolic link's text */
    uint32_t mode;               /* permission bits, 07777 */
    uint32_t uid;
    uint32_t gid;
    uint64_t size; /* of a TAR_FILE */
    int64_t mtime;
    uint32_t mtime_nsec;
    uint32_t major;
    uint32_t minor;
    struct tar_xattr xattrs[TAR_XATTRS_MAX]; /* sorted by nothing; names are unique */
    size_t xattr_count;
};

/* Reads up to len bytes into data: bytes read, 0 at the end, -errno. */
typedef ssize_t tar_read_fn(void *source, void *data, size_t len);

struct tar;

int tar_new(tar_read_fn *read, void *source, struct tar **ret_tar);
void tar_free(struct tar *tar);
/* The next entry, valid until the next call: 1, 0 at the end, or -errno. image.bad-archive. */
int tar_next(struct tar *tar, const struct tar_entry **ret_entry, struct error *err);
/* Content of the current TAR_FILE: bytes read, 0 at its end, -errno. What is not read is skipped. */
ssize_t tar_read(struct tar *tar, void *data, size_t len, struct error *err);
/* Bytes of the stream up to the current entry's content. */
uint64_t tar_offset(const struct tar *tar);

/* Cleans a path as described above into ret_path (TAR_PATH_MAX + 1 bytes). 0, -EINVAL, -ENAMETOOLONG. */
int tar_path_clean(const char *path, char *ret_path);
