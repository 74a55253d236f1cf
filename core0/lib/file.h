/*
 * file.h - files and folders: whole reads with a limit, atomic writes, recursive removal.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define cleanup_close __attribute__((cleanup(file_close_cleanup)))
#define cleanup_free __attribute__((cleanup(file_free_cleanup)))
void file_close_cleanup(int *fd); /* closes when >= 0, keeps errno */
void file_free_cleanup(void *ptr);
/* Hands the descriptor of a cleanup_close variable over: the variable holds -1 afterwards. */
static inline int file_fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* Reads the whole file, adds a NUL byte that is not counted. -EFBIG above max. Free with free(). */
int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len);
int file_read_at(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len);
/* Writes to a temporary name beside it, fsyncs file and folder, renames: old or new, never half. */
int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode);
/* One write(2) into an existing file of /proc, /sys or a cgroup. */
int file_write_text(const char *path, const char *text);
int file_write_text_at(int dirfd, const char *path, const char *text);
int file_mkdirs(const char *path, mode_t mode); /* like mkdir -p; mode for new ones */
/* Takes away what file_write_atomic() left in a folder when its program was killed: <name with a dot>.<six letters or digits>.
 * For folders of one program, which writes nothing else of that form and is not writing now. Their number or -errno. */
int file_remove_leftovers(const char *folder);
/* The same of this file alone, whatever its name: for folders with other things in them. */
int file_remove_leftovers_of(const char *path);
int file_remove_tree(const char *path); /* never crosses a mount, never follows a link */
/* ioctl(2): the C libraries disagree about the type of the request. Its result or -errno. */
int file_ioctl(int fd, unsigned long request, void *arg);
int file_write_all(int fd, const void *data, size_t len); /* blocking descriptor; 0 or -errno */
