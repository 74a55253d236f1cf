/*
 * dm.c - see dm.h.
 */
#include "dm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/file.h"

#define CONTROL "/dev/mapper/control"
#define LIST_SIZE ((size_t)1 << 20) /* thousands of devices; the kernel says when it is too small */

static int dm_call(unsigned long request, struct dm_ioctl *arg)
{
    cleanup_close int fd = open(CONTROL, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    arg->version[0] = DM_VERSION_MAJOR;
#ifdef __GLIBC__
    int r = ioctl(fd, request, arg);
#else /* musl declares an int; the bits are the same */
    int r = ioctl(fd, (int)request, arg);
#endif
    return r < 0 ? -errno : 0;
}

int dm_find(const char *name, char ret_device[DM_PATH_MAX])
{
    struct dm_ioctl arg = {.data_size = sizeof(arg)};
    snprintf(arg.name, sizeof(arg.name), "%s", name);
    int r = dm_call(DM_DEV_STATUS, &arg);
    if (r < 0)
        return r == -ENXIO ? -ENOENT : r;
    snprintf(ret_device, DM_PATH_MAX, "/dev/dm-%u", minor((dev_t)arg.dev));
    return 0;
}

int dm_remove(const char *name)
{
    char node[sizeof("/dev/mapper/") + DM_NAME_LEN];
    struct dm_ioctl arg = {.data_size = sizeof(arg), .flags = DM_DEFERRED_REMOVE};
    snprintf(arg.name, sizeof(arg.name), "%s", name);
    int r = dm_call(DM_DEV_REMOVE, &arg);
    if (r == 0 || r == -ENXIO) {
        /* Without udev nobody else removes what cryptsetup made. */
        snprintf(node, sizeof(node), "/dev/mapper/%s", name);
        (void)unlink(node);
    }
    return r == -ENXIO ? -ENOENT : r;
}

int dm_each(const char *prefix, int (*fn)(const char *name, void *data), void *data)
{
    cleanup_free struct dm_ioctl *arg = calloc(1, LIST_SIZE);
    if (arg == NULL)
        return -ENOMEM;
    arg->data_size = LIST_SIZE;
    arg->data_start = sizeof(*arg);
    int r = dm_call(DM_LIST_DEVICES, arg);
    if (r < 0)
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freed by its attribute, which is not followed
        return r;
    if ((arg->flags & DM_BUFFER_FULL_FLAG) != 0)
        return -E2BIG;
    /* Each entry says where the next one begins, counted from itself; the last one says 0. */
    size_t at = arg->data_start;
    while (r == 0 && at + sizeof(struct dm_name_list) <= arg->data_size) {
        const struct dm_name_list *entry = (const void *)((const char *)arg + at);
        if (entry->dev == 0)
            break;
        if (strncmp(entry->name, prefix, strlen(prefix)) == 0)
            r = fn(entry->name, data);
        if (entry->next == 0)
            break;
        at += entry->next;
    }
    return r;
}
