/*
 * loopdev.c - see loopdev.h.
 */
#include "loopdev.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/file.h"

#define ATTEMPTS 64 /* somebody else may take the free device that the kernel named */

static int configure(int loop_fd, int file_fd, const char *name)
{
    struct loop_config config = {.fd = (uint32_t)file_fd, .block_size = LOOPDEV_SECTOR};
    config.info.lo_flags = LO_FLAGS_DIRECT_IO;
    snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), "%s", name);
    return ioctl(loop_fd, LOOP_CONFIGURE, &config) < 0 ? -errno : 0;
}

int loopdev_attach(int file_fd, const char *name, char ret_device[LOOPDEV_PATH_MAX])
{
    cleanup_close int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return -errno;
    for (int i = 0; i < ATTEMPTS; i++) {
        char device[LOOPDEV_PATH_MAX];
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return -errno;
        snprintf(device, sizeof(device), "/dev/loop%d", number);
        cleanup_close int fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        int r = configure(fd, file_fd, name);
        if (r == -EBUSY)
            continue;
        if (r == 0)
            memcpy(ret_device, device, sizeof(device));
        return r;
    }
    return -EBUSY;
}

static bool has_file(const char *entry)
{
    char path[96];
    snprintf(path, sizeof(path), "/sys/block/%.32s/loop/backing_file", entry);
    return access(path, F_OK) == 0;
}

int loopdev_each(const char *prefix, int (*fn)(const char *name, const char *device, void *data),
                 void *data)
{
    DIR *dir = opendir("/sys/block");
    if (dir == NULL)
        return -errno;
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir)) != NULL;) {
        char device[LOOPDEV_PATH_MAX];
        struct loop_info64 info;
        if (strncmp(entry->d_name, "loop", 4) != 0 || !has_file(entry->d_name))
            continue;
        snprintf(device, sizeof(device), "/dev/%.26s", entry->d_name);
        int fd = open(device, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        bool known = ioctl(fd, LOOP_GET_STATUS64, &info) == 0;
        /* Closed first: fn may want the device to end, and we would be its last user. */
        close(fd);
        info.lo_file_name[sizeof(info.lo_file_name) - 1] = '\0';
        const char *name = (const char *)info.lo_file_name;
        if (known && strncmp(name, prefix, strlen(prefix)) == 0)
            r = fn(name, device, data);
    }
    closedir(dir);
    return r;
}

struct search {
    const char *name;
    char device[LOOPDEV_PATH_MAX];
};

static int compare(const char *name, const char *device, void *data)
{
    struct search *search = data;
    if (strcmp(name, search->name) != 0)
        return 0;
    snprintf(search->device, sizeof(search->device), "%s", device);
    return 1;
}

int loopdev_find(const char *name, char ret_device[LOOPDEV_PATH_MAX])
{
    struct search search = {.name = name};
    int r = loopdev_each(name, compare, &search);
    if (r != 1)
        return r < 0 ? r : -ENOENT;
    memcpy(ret_device, search.device, sizeof(search.device));
    return 0;
}

int loopdev_resize(const char *device)
{
    cleanup_close int fd = open(device, O_RDWR | O_CLOEXEC);
    return fd < 0 || ioctl(fd, LOOP_SET_CAPACITY) < 0 ? -errno : 0;
}

int loopdev_detach(const char *device)
{
    cleanup_close int fd = open(device, O_RDWR | O_CLOEXEC);
    return fd < 0 || ioctl(fd, LOOP_CLR_FD) < 0 ? -errno : 0;
}
