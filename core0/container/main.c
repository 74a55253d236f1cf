/*
 * main.c - contd: containers through runc, each under a shim that outlives contd. See contd.h for the whole.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/contd.h"
#include "container/reclaim.h"
#include "container/seccomp.h"
#include "lib/daemon.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/notify.h"

#define PROFILE_MAX ((size_t)1 << 20)

static struct contd contd = {
    .opt =
        {
            .run = "/run/croft/containers",
            .logs = "/var/croft/logs",
            .runc = "/usr/bin/runc",
            .shim = "/usr/lib/croft/croft-shim",
            .exec = "/usr/lib/croft/croft-exec",
            .execs = "/run/croft/exec",
            .runc_root = "/run/croft/runc",
            .cgroup_mount = "/sys/fs/cgroup",
            .cgroup = "/croft",
            .seccomp = "/usr/lib/croft/seccomp.json",
            .log_size = "4194304",
        },
};

static const struct daemon_option options[] = {
    {"--run", "DIR", "folder of the instances", &contd.opt.run},
    {"--logs", "DIR", "folder of the containers' logs", &contd.opt.logs},
    {"--runc", "FILE", "the OCI runtime", &contd.opt.runc},
    {"--shim", "FILE", "croft-shim", &contd.opt.shim},
    {"--exec", "FILE", "croft-exec", &contd.opt.exec},
    {"--execs", "DIR", "folder of the sessions of croft-exec", &contd.opt.execs},
    {"--runc-root", "DIR", "the runtime's own state", &contd.opt.runc_root},
    {"--cgroup-mount", "DIR", "where cgroup2 is mounted", &contd.opt.cgroup_mount},
    {"--cgroup", "PATH", "the containers' cgroup, below the mount", &contd.opt.cgroup},
    {"--seccomp", "FILE", "Docker's profile; \"none\" for none", &contd.opt.seccomp},
    {"--log-size", "BYTES", "size of one log file; a container has four", &contd.opt.log_size},
    {"--no-limits", NULL, "for tests on a machine without cgroup2 controllers",
     &contd.opt.no_limits},
    {NULL, NULL, NULL, NULL},
};

/* ---- who may call: methods.c ---- */

uid_t contd_uids_provd[2], contd_uids_gated[2], contd_uids_readers[4];

static void find_callers(void)
{
    static const char *const readers[] = {"provd", "gated", "metricsd"};
    const struct passwd *user = getpwnam("provd");
    size_t count = 0;

    contd_uids_provd[0] = user != NULL ? user->pw_uid : VARLINK_UID_END;
    contd_uids_provd[1] = VARLINK_UID_END;
    user = getpwnam("gated");
    contd_uids_gated[0] = user != NULL ? user->pw_uid : VARLINK_UID_END;
    contd_uids_gated[1] = VARLINK_UID_END;
    for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
        user = getpwnam(readers[i]);
        if (user != NULL)
            contd_uids_readers[count++] = user->pw_uid;
    }
    contd_uids_readers[count] = VARLINK_UID_END;
}

/* ---- what the shims say ---- */

static void inotify_event(const struct inotify_event *event)
{
    if (event->len == 0 ||
        (strcmp(event->name, "started") != 0 && strcmp(event->name, "exit") != 0))
        return;
    for (struct instance *inst = contd.instances; inst != NULL; inst = inst->next) {
        if (inst->watch == event->wd) {
            instance_refresh(inst, false);
            return;
        }
    }
}

static void inotify_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    _Alignas(struct inotify_event) char buffer[4096];
    ssize_t n;

    (void)io;
    (void)events;
    (void)data;
    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event =
                (const struct inotify_event *)(const void *)(buffer + at);

            at += (ssize_t)(sizeof(*event) + event->len);
            if ((event->mask & IN_Q_OVERFLOW) != 0) {
                /* Some were lost: look at all. */
                for (struct instance *inst = contd.instances, *next; inst != NULL; inst = next) {
                    next = inst->next;
                    instance_refresh(inst, false);
                }
            } else {
                inotify_event(event);
            }
        }
    }
}

/* ---- start ---- */

static int load_seccomp(struct error *err)
{
    cleanup_free char *text = NULL;
    size_t len;

    if (strcmp(contd.opt.seccomp, "none") == 0)
        return 0;
    int ret = file_read(contd.opt.seccomp, PROFILE_MAX, &text, &len);
    if (ret < 0)
        return error_set(err, -ret, "container.bad-seccomp", NULL, "reading %s: %s",
                         contd.opt.seccomp, strerror(-ret));
    contd.seccomp = json_parse(text, len, PROFILE_MAX, "container.bad-seccomp", err);
    return contd.seccomp != NULL ? 0 : -EINVAL;
}

static int make_folders(struct error *err)
{
    char shims[CONTD_PATH_MAX], all[CONTD_PATH_MAX];
    const struct {
        const char *path;
        mode_t mode;
    } folders[] = {{contd.opt.run, 0711},
                   {contd.opt.logs, 0700},
                   {contd.opt.runc_root, 0711},
                   {contd.opt.execs, 0711}};

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        int ret = file_mkdirs(folders[i].path, folders[i].mode);

        if (ret < 0)
            return error_set(err, -ret, "container.bad-folder", NULL, "making %s: %s",
                             folders[i].path, strerror(-ret));
        chmod(folders[i].path, folders[i].mode);
    }
    snprintf(all, sizeof(all), "%s%s", contd.opt.cgroup_mount, contd.opt.cgroup);
    snprintf(shims, sizeof(shims), "%s%s/shim", contd.opt.cgroup_mount, contd.opt.cgroup);
    int ret = cgroup_make(all);
    if (ret == 0)
        ret = file_mkdirs(shims, 0755);
    return ret < 0 ? error_set(err, -ret, "container.bad-folder", "mount cgroup2 there",
                               "making %s: %s", all, strerror(-ret))
                   : 0;
}

static int start(struct daemon *daemon, void **ret_state, struct error *err)
{
    struct utsname name;
    int ret;

    contd.loop = daemon_loop(daemon);
    contd.daemon = daemon;
    find_callers();
    if (uname(&name) == 0)
        contd.kernel = seccomp_kernel(name.release);
    if ((ret = load_seccomp(err)) < 0 || (ret = make_folders(err)) < 0)
        return ret;
    contd.inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (contd.inotify < 0)
        return error_set(err, errno, "container.internal", NULL, "inotify: %s", strerror(errno));
    ret = loop_io_add(contd.loop, contd.inotify, EPOLLIN, inotify_ready, NULL, &contd.inotify_io);
    if (ret < 0)
        return error_set(err, -ret, "container.internal", NULL, "inotify: %s", strerror(-ret));
    snprintf(contd.cgroups, sizeof(contd.cgroups), "%s%s", contd.opt.cgroup_mount,
             contd.opt.cgroup);
    ret = reclaim_start(contd.loop, contd.cgroups, &contd.reclaim);
    if (ret < 0)
        return error_set(err, -ret, "container.internal", NULL, "a timer: %s", strerror(-ret));
    exec_clean_all(&contd);
    ret = adopt_all(&contd, err);
    *ret_state = &contd;
    return ret;
}

int main(int argc, char **argv)
{
    static const struct daemon_spec spec = {
        .name = "contd",
        .summary = "containers of a node, through runc",
        .interfaces = &contd_interface,
        .interface_count = 1,
        .options = options,
        .socket_mode = 0666, /* methods have their own callers */
        .start = start,
        .machine_stops = shutdown_begin,
    };

    return daemon_main(&spec, argc, argv);
}
