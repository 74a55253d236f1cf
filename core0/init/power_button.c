/*
 * power_button.c - see power_button.h. Documentation/input/input.rst
 */
#include "init/power_button.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "init/core.h"
#include "init/stop.h"
#include "lib/file.h"

static void power_button_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct input_event pressed;

    if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        loop_io_del(io);
        close(fd);
        return;
    }
    while (read(fd, &pressed, sizeof(pressed)) == (ssize_t)sizeof(pressed)) {
        if (pressed.type == EV_KEY && pressed.code == KEY_POWER && pressed.value == 1)
            stop_begin(data, CORE_END_POWEROFF);
    }
}

void power_button_open(struct core *core)
{
    static const char folder[] = "/sys/class/input";
    DIR *dir = opendir(folder);
    struct dirent *entry;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        cleanup_free char *name = NULL;
        char path[320];
        int fd;

        if (strncmp(entry->d_name, "event", 5) != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%.200s/device/name", folder, entry->d_name);
        if (file_read(path, 256, &name, NULL) < 0 || strncmp(name, "Power Button", 12) != 0)
            continue;
        snprintf(path, sizeof(path), "/dev/input/%.200s", entry->d_name);
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && loop_io_add(core->loop, fd, EPOLLIN, power_button_ready, core, NULL) < 0)
            close(fd);
    }
    closedir(dir);
}
