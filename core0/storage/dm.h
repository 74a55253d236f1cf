/*
 * dm.h - the device mapper as storaged needs it: which devices there are, and their end (linux/dm-ioctl.h). They are
 * made by cryptsetup.
 */
#pragma once

#define DM_PATH_MAX 32

/* All answer 0 or -errno. *ret_device is "/dev/dm-3". -ENOENT: there is none of that name. */
int dm_find(const char *name, char ret_device[DM_PATH_MAX]);
/* Ends the device now, or when its last user closes it: dm_find tells which. */
int dm_remove(const char *name);
/* Calls fn for every device whose name begins with prefix; stops at its first answer other than 0, and returns that. */
int dm_each(const char *prefix, int (*fn)(const char *name, void *data), void *data);
