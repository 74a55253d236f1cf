/*
 * watchdog.c - see watchdog.h. Documentation/watchdog/watchdog-api.rst
 */
#include "init/watchdog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init/core.h"
#include "lib/file.h"

#define WATCHDOG_NAME_MAX 64

struct watchdog {
    int fd;
    char identity[WATCHDOG_NAME_MAX];
    struct loop_timer *timer;
};

/* The C libraries disagree about the type of ioctl's request. */
static int watchdog_ask(int fd, unsigned long request, int *value)
{
    return (int)syscall(SYS_ioctl, fd, request, value);
}

int watchdog_rank(const char *identity)
{
    /* A chip of its own is best. IPMI's sits behind a management controller and answers late; the software one
     * hangs together with the kernel. */
    if (strstr(identity, "Software") != NULL)
        return 3;
    if (strstr(identity, "IPMI") != NULL)
        return 2;
    return 1;
}

/* The best one's "watchdogN", its identity beside it. False: there is none. */
static bool watchdog_find(char *device, char *identity, size_t size)
{
    static const char folder[] = "/sys/class/watchdog";
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int best = 100;

    if (dir == NULL)
        return false;
    while ((entry = readdir(dir)) != NULL) {
        cleanup_free char *text = NULL;
        char path[320];
        int rank;

        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= size)
            continue;
        snprintf(path, sizeof(path), "%s/%.200s/identity", folder, entry->d_name);
        if (file_read(path, 256, &text, NULL) < 0)
            continue;
        text[strcspn(text, "\n")] = '\0';
        rank = watchdog_rank(text);
        if (rank < best) {
            best = rank;
            snprintf(device, size, "%.63s", entry->d_name); /* it was measured above */
            snprintf(identity, size, "%.60s", text);
        }
    }
    closedir(dir);
    return best < 100;
}

static void watchdog_feed(struct loop_timer *timer, void *data)
{
    struct watchdog *watchdog = data;

    watchdog_ask(watchdog->fd, WDIOC_KEEPALIVE, NULL);
    loop_timer_in(timer, WATCHDOG_TIMEOUT_S * 1000000u / 3);
}

static const struct {
    int flag;
    const char *text;
} watchdog_causes[] = {
    {WDIOF_CARDRESET, "reset the machine: core0 or the kernel did not run any more"},
    {WDIOF_OVERHEAT, "says that the machine was too hot"},
    {WDIOF_FANFAULT, "says that a fan failed"},
    {WDIOF_POWERUNDER, "says that the power was too low"},
    {WDIOF_POWEROVER, "says that the power was too high"},
};

int watchdog_open(struct core *core)
{
    struct watchdog *watchdog;
    char device[WATCHDOG_NAME_MAX];
    char path[96];
    int timeout = WATCHDOG_TIMEOUT_S;
    int status = 0;
    int ret;

    watchdog = calloc(1, sizeof(*watchdog));
    if (watchdog == NULL)
        return -ENOMEM;
    if (!watchdog_find(device, watchdog->identity, sizeof(watchdog->identity))) {
        free(watchdog);
        return -ENODEV;
    }
    snprintf(path, sizeof(path), "/dev/%s", device);
    watchdog->fd = open(path, O_WRONLY | O_CLOEXEC);
    ret = watchdog->fd < 0 ? -errno
                           : loop_timer_add(core->loop, watchdog_feed, watchdog, &watchdog->timer);
    if (ret < 0) {
        if (watchdog->fd >= 0)
            close(watchdog->fd);
        free(watchdog);
        return ret;
    }
    watchdog_ask(watchdog->fd, WDIOC_SETTIMEOUT, &timeout);
    watchdog_feed(watchdog->timer, watchdog);
    core->watchdog = watchdog;

    if (watchdog_ask(watchdog->fd, WDIOC_GETBOOTSTATUS, &status) == 0) {
        for (size_t i = 0; i < sizeof(watchdog_causes) / sizeof(watchdog_causes[0]); i++) {
            if ((status & watchdog_causes[i].flag) != 0)
                snprintf(core->previous_end, sizeof(core->previous_end), "the watchdog (%s) %s",
                         watchdog->identity, watchdog_causes[i].text);
        }
    }
    return 0;
}

const char *watchdog_identity(const struct core *core)
{
    return core->watchdog != NULL ? core->watchdog->identity : NULL;
}

void watchdog_set_timeout(struct core *core, int seconds)
{
    if (core->watchdog != NULL) {
        watchdog_ask(core->watchdog->fd, WDIOC_SETTIMEOUT, &seconds);
        watchdog_ask(core->watchdog->fd, WDIOC_KEEPALIVE, NULL);
    }
}

void watchdog_disarm(struct core *core)
{
    int options = WDIOS_DISABLECARD;

    if (core->watchdog == NULL)
        return;
    loop_timer_stop(core->watchdog->timer);
    watchdog_ask(core->watchdog->fd, WDIOC_SETOPTIONS, &options);
    /* The "magic close": without the V the driver goes on counting. */
    if (write(core->watchdog->fd, "V", 1) == 1)
        close(core->watchdog->fd);
    core->watchdog->fd = -1;
}
