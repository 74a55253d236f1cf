/*
 * stop.c - see stop.h. A short list of phases; each ends by an event or by its deadline.
 */
#include "init/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/cgroup.h"
#include "init/console.h"
#include "init/events.h"
#include "init/fault.h"
#include "init/service.h"
#include "init/stop_mounts.h"
#include "init/watchdog.h"
#include "lib/file.h"

enum stop_phase {
    STOP_NOT,
    STOP_SERVICES,   /* in reverse order, each with its own time-out */
    STOP_CONTAINERS, /* asked; their networks and mounts are the kernel's and are still there */
    STOP_PROCESSES,  /* whatever is left, asked */
    STOP_KILLED,     /* whatever is left, killed */
};

/* The deadline of services is a last resort: every one has its own. */
static const uint64_t stop_deadlines[] = {
    [STOP_SERVICES] = 120000000,
    [STOP_CONTAINERS] = 10000000,
    [STOP_PROCESSES] = 2000000,
    [STOP_KILLED] = 2000000,
};

/* There is one end. */
static enum stop_phase stop_phase;
static struct loop_timer *stop_timer;
static struct loop_io *stop_cgroup_io;

static void stop_enter(struct core *core, enum stop_phase phase);

static _Noreturn void stop_now(struct core *core)
{
    bool off = core->end == CORE_END_POWEROFF;

    events_send_boot(core, off ? "power-off" : "reboot");
    core_log(core, 5, off ? "powering off" : "rebooting");
    if (core->root[0] == '\0')
        stop_mounts_all(core);
    sync();
    events_flush(core);
    console_flush(core);
    /* Switched off, nobody feeds it; at a reboot it stays armed and catches a firmware that hangs. */
    if (off)
        watchdog_disarm(core);
    syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
            off ? LINUX_REBOOT_CMD_POWER_OFF : LINUX_REBOOT_CMD_RESTART, NULL);
    fault_reboot("the kernel refused to switch off");
}

static bool stop_has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

static void stop_cgroup_event(struct loop_io *io, int fd, uint32_t events, void *data)
{
    char text[128] = "";

    (void)io;
    (void)events;
    if (pread(fd, text, sizeof(text) - 1, 0) > 0 && strstr(text, "populated 0") != NULL)
        stop_enter(data, STOP_PROCESSES);
}

static void stop_containers(struct core *core)
{
    char path[300];
    int fd;

    if (cgroup_signal_tree(core, "/croft", SIGTERM) <= 0) {
        stop_enter(core, STOP_PROCESSES);
        return;
    }
    snprintf(path, sizeof(path), "%s/croft/cgroup.events", core->cgroup);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 ||
        loop_io_add(core->loop, fd, EPOLLPRI, stop_cgroup_event, core, &stop_cgroup_io) < 0)
        stop_cgroup_io = NULL; /* the deadline is left */
    else
        stop_cgroup_event(stop_cgroup_io, fd, 0, core); /* they may be gone already */
}

static void stop_enter(struct core *core, enum stop_phase phase)
{
    stop_phase = phase;
    loop_timer_in(stop_timer, stop_deadlines[phase]);
    switch (phase) {
    case STOP_NOT:
        break;
    case STOP_SERVICES:
        service_stop_all(core);
        break;
    case STOP_CONTAINERS:
        stop_containers(core);
        break;
    case STOP_PROCESSES:
        loop_io_del(stop_cgroup_io);
        stop_cgroup_io = NULL;
        cgroup_kill_tree(core, "/croft");
        kill(-1, SIGTERM);
        stop_child_gone(core);
        break;
    case STOP_KILLED:
        kill(-1, SIGKILL);
        stop_child_gone(core);
        break;
    }
}

static void stop_deadline(struct loop_timer *timer, void *data)
{
    struct core *core = data;

    (void)timer;
    if (stop_phase == STOP_KILLED)
        stop_now(core); /* a process that even SIGKILL does not end hangs in the kernel */
    stop_enter(core, (enum stop_phase)(stop_phase + 1));
}

void stop_child_gone(struct core *core)
{
    if ((stop_phase == STOP_PROCESSES || stop_phase == STOP_KILLED) && !stop_has_children())
        stop_now(core);
}

void stop_services_gone(struct core *core)
{
    if (stop_phase == STOP_SERVICES)
        stop_enter(core, STOP_CONTAINERS);
}

void stop_begin(struct core *core, enum core_end end)
{
    if (core->stage == CORE_STOPPING)
        return;
    core->stage = CORE_STOPPING;
    core->end = end;
    core_log(core, 5, end == CORE_END_POWEROFF ? "stopping to power off" : "stopping to reboot");
    /* For services that end differently with the machine than when they are replaced. Best effort: their time-out counts. */
    char path[300];
    int fd =
        open(core_path(core, path, sizeof(path), STOP_FILE), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0)
        close(fd);
    events_send_boot(core, "stopping");
    if (loop_timer_add(core->loop, stop_deadline, core, &stop_timer) < 0)
        stop_now(core);
    stop_enter(core, STOP_SERVICES);
}
