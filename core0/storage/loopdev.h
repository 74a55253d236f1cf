/*
 * loopdev.h - loop devices over the files of virtual disks (linux/loop.h).
 *
 * A device carries a name that we give it, by which it is found again after a restart. It reads and writes the file
 * directly, past the page cache, in sectors of 4096 bytes.
 */
#pragma once

#include <stdint.h>

#define LOOPDEV_NAME_MAX 63
#define LOOPDEV_PATH_MAX 32
#define LOOPDEV_SECTOR 4096u

/* All answer 0 or -errno. */
int loopdev_attach(int file_fd, const char *name, char ret_device[LOOPDEV_PATH_MAX]);
/* -ENOENT: no device carries the name. */
int loopdev_find(const char *name, char ret_device[LOOPDEV_PATH_MAX]);
/* Takes the file's new size over. */
int loopdev_resize(const char *device);
/* Ends the device now, or when its last user closes it: loopdev_find tells which. */
int loopdev_detach(const char *device);

/* Calls fn for every device whose name begins with prefix; stops at its first answer other than 0, and returns that. */
int loopdev_each(const char *prefix, int (*fn)(const char *name, const char *device, void *data),
                 void *data);
