/*
 * spawn.c - see spawn.h.
 *
 * The parent prepares (users, folders, environment, filter program), the child only makes system calls: nothing
 * between clone and exec may allocate or take a lock.
 */
#include "init/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init/cgroup.h"
#include "init/seccomp.h"
#include "init/spawn_exec.h"
#include "init/view.h"
#include "lib/file.h"

#define SPAWN_GROUPS_MAX 32
#define SPAWN_LISTEN_FD 3 /* SD_LISTEN_FDS_START of sd_listen_fds(3) */

struct spawn_plan {
    const struct unit *unit;
    const char *root; /* in front of paths, core_path() */
    uid_t uid;
    gid_t gid;
    gid_t groups[SPAWN_GROUPS_MAX];
    size_t group_count;
    bool switch_user;
    int cgroup_fd; /* -1: none */
    int log_fd;
    int listen_fd; /* -1: none */
    char tty[96];
    struct spawn_exec exec;
    char *listen_pid; /* digits to be filled in by the child, within env */
    char *watchdog_pid;
    struct sock_filter filter[SECCOMP_PROGRAM_MAX];
    size_t filter_len; /* 0: none */
};

/* systemd.exec(5), "Process Exit Codes": the numbers people know. */
enum spawn_exit {
    SPAWN_CHDIR = 200,
    SPAWN_NICE = 201,
    SPAWN_EXEC = 203,
    SPAWN_LIMITS = 205,
    SPAWN_OOM_ADJUST = 206,
    SPAWN_STDIN = 208,
    SPAWN_STDOUT = 209,
    SPAWN_GROUP = 216,
    SPAWN_USER = 217,
    SPAWN_CAPABILITIES = 218,
    SPAWN_SETSID = 220,
    SPAWN_NAMESPACE = 226,
    SPAWN_NO_NEW_PRIVILEGES = 227,
    SPAWN_SECCOMP = 228,
};

static const struct {
    int code;
    const char *reason;
} spawn_reasons[] = {
    {SPAWN_CHDIR, "its working directory could not be entered"},
    {SPAWN_NICE, "its priority could not be set"},
    {SPAWN_EXEC, "its program could not be started"},
    {SPAWN_LIMITS, "its limits could not be set"},
    {SPAWN_OOM_ADJUST, "its OOM score could not be set"},
    {SPAWN_STDIN, "its standard input could not be opened"},
    {SPAWN_STDOUT, "its standard output could not be opened"},
    {SPAWN_GROUP, "its groups could not be set"},
    {SPAWN_USER, "its user could not be set"},
    {SPAWN_CAPABILITIES, "its capabilities could not be set"},
    {SPAWN_SETSID, "it could not get a session"},
    {SPAWN_NAMESPACE, "its view of the file system could not be made"},
    {SPAWN_NO_NEW_PRIVILEGES, "no_new_privs could not be set"},
    {SPAWN_SECCOMP, "its system call filter could not be loaded"},
};

const char *spawn_exit_reason(int code)
{
    for (size_t i = 0; i < sizeof(spawn_reasons) / sizeof(spawn_reasons[0]); i++) {
        if (spawn_reasons[i].code == code)
            return spawn_reasons[i].reason;
    }
    return NULL;
}

/* ---- parent ---- */

static int spawn_find_group(const char *name, gid_t *ret_gid)
{
    const struct group *group;
    char *end;
    unsigned long number = strtoul(name, &end, 10);

    if (name[0] >= '0' && name[0] <= '9' && *end == '\0') {
        *ret_gid = (gid_t)number;
        return 0;
    }
    group = getgrnam(name);
    if (group == NULL)
        return -ENOENT;
    *ret_gid = group->gr_gid;
    return 0;
}

static int spawn_plan_user(struct spawn_plan *plan, struct error *err)
{
    const struct unit *unit = plan->unit;
    const struct passwd *user;
    int count = SPAWN_GROUPS_MAX;

    if (unit->user == NULL && unit->group == NULL)
        return 0;
    plan->switch_user = true;
    if (unit->user != NULL) {
        user = getpwnam(unit->user);
        if (user == NULL)
            return error_set(err, ENOENT, "service.no-user", "add it to /etc/passwd of the image",
                             "%s: there is no user %.40s", unit->name, unit->user);
        plan->uid = user->pw_uid;
        plan->gid = user->pw_gid;
    }
    if (unit->group != NULL && spawn_find_group(unit->group, &plan->gid) < 0)
        return error_set(err, ENOENT, "service.no-group", "add it to /etc/group of the image",
                         "%s: there is no group %.40s", unit->name, unit->group);
    if (unit->user != NULL && getgrouplist(unit->user, plan->gid, plan->groups, &count) > 0)
        plan->group_count = (size_t)count;
    for (size_t i = 0; i < unit->supplementary_groups.count; i++) {
        if (plan->group_count == SPAWN_GROUPS_MAX ||
            spawn_find_group(unit->supplementary_groups.items[i],
                             &plan->groups[plan->group_count++]) < 0)
            return error_set(err, ENOENT, "service.no-group", "add it to /etc/group of the image",
                             "%s: there is no group %.40s", unit->name,
                             unit->supplementary_groups.items[i]);
    }
    return 0;
}

static int spawn_env_add(struct spawn_plan *plan, const char *name, const char *value)
{
    char *text;

    if (asprintf(&text, "%s=%s", name, value) < 0)
        return -ENOMEM;
    plan->exec.env[plan->exec.env_count++] = text;
    return 0;
}

static void spawn_env_number(struct spawn_plan *plan, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    spawn_env_add(plan, name, text);
}

/* A variable whose value is the child's own pid; returns where its digits go. */
static char *spawn_env_pid(struct spawn_plan *plan, const char *name)
{
    if (spawn_env_add(plan, name, "0000000000") < 0)
        return NULL;
    return strchr(plan->exec.env[plan->exec.env_count - 1], '=') + 1;
}

static int spawn_make_folder(const struct spawn_plan *plan, const char *path, mode_t mode)
{
    int ret = file_mkdirs(path, mode | 0711);

    if (ret < 0)
        return ret;
    if (chmod(path, mode) < 0 || (plan->switch_user && lchown(path, plan->uid, plan->gid) < 0))
        return -errno;
    return 0;
}

/* Makes the folders and names them in a variable, joined by ":" as systemd does. */
static int spawn_plan_folders(struct spawn_plan *plan, const struct core *core,
                              const struct unit_list *folders, const char *base,
                              const char *variable, uint64_t mode, struct error *err)
{
    char joined[1024] = "";
    size_t len = 0;

    for (size_t i = 0; i < folders->count; i++) {
        char below[256];
        char path[512];
        int ret;

        snprintf(below, sizeof(below), "%s/%s", base, folders->items[i]);
        core_path(core, path, sizeof(path), below);
        ret = spawn_make_folder(plan, path, (mode_t)mode);
        if (ret < 0)
            return error_set(err, -ret, "service.folder", NULL, "%s: the folder %.120s: %s",
                             plan->unit->name, path, strerror(-ret));
        len += (size_t)snprintf(joined + len, sizeof(joined) - len, "%s%s", i > 0 ? ":" : "", path);
        if (len >= sizeof(joined))
            return error_set(err, E2BIG, "service.folder", NULL, "%s: too many folders",
                             plan->unit->name);
    }
    if (folders->count > 0)
        spawn_env_add(plan, variable, joined);
    return 0;
}

static int spawn_plan_env(struct spawn_plan *plan, const struct service *service, struct error *err)
{
    const struct unit *unit = plan->unit;
    const struct core *core = service->core;
    int ret;

    ret = spawn_exec_init(&plan->exec, service, err);
    if (ret < 0)
        return ret;
    spawn_env_add(plan, "PATH", "/usr/lib/croft:/bin:/sbin:/usr/bin:/usr/sbin");
    spawn_env_add(plan, "CROFT_VERSION", core->version);
    spawn_env_add(plan, "NOTIFY_SOCKET", core->notify_path);
    if (unit->watchdog_us != 0) {
        spawn_env_number(plan, "WATCHDOG_USEC", unit->watchdog_us);
        plan->watchdog_pid = spawn_env_pid(plan, "WATCHDOG_PID");
    }
    if (plan->listen_fd >= 0) {
        spawn_env_add(plan, "LISTEN_FDS", "1");
        plan->listen_pid = spawn_env_pid(plan, "LISTEN_PID");
    }
    ret = spawn_plan_folders(plan, core, &unit->runtime_directory, "/run", "RUNTIME_DIRECTORY",
                             unit->runtime_directory_mode, err);
    if (ret < 0)
        return ret;
    return spawn_plan_folders(plan, core, &unit->state_directory, "/var/croft/state",
                              "STATE_DIRECTORY", unit->state_directory_mode, err);
}

/* /dev/console cannot be a controlling terminal; what stands behind it can. */
static void spawn_plan_tty(struct spawn_plan *plan, const struct core *core)
{
    cleanup_free char *active = NULL;
    const char *last;
    char path[300];

    if (plan->unit->tty_path != NULL) {
        core_path(core, plan->tty, sizeof(plan->tty), plan->unit->tty_path);
        return;
    }
    snprintf(plan->tty, sizeof(plan->tty), "/dev/console");
    core_path(core, path, sizeof(path), "/sys/class/tty/console/active");
    if (file_read(path, 256, &active, NULL) < 0)
        return;
    active[strcspn(active, "\n")] = '\0';
    last = strrchr(active, ' ');
    last = last != NULL ? last + 1 : active;
    if (*last != '\0')
        snprintf(plan->tty, sizeof(plan->tty), "/dev/%.60s", last);
}

static int spawn_plan_filter(struct spawn_plan *plan, struct error *err)
{
    const struct unit *unit = plan->unit;
    int ret;

    if (unit->system_calls.count == 0)
        return 0;
    ret = seccomp_build(unit->system_calls.items, unit->system_calls.count, unit->system_calls_deny,
                        unit->system_call_errno, plan->filter, SECCOMP_PROGRAM_MAX,
                        &plan->filter_len);
    if (ret < 0)
        return error_set(err, -ret, "service.bad-filter", NULL,
                         "%s: SystemCallFilter= cannot be built", unit->name);
    return 0;
}

/* A socket that outlives the service: callers wait in it while the service is replaced. */
static int spawn_plan_socket(struct spawn_plan *plan, struct service *service, struct error *err)
{
    const struct unit *unit = plan->unit;
    char path[300];
    int ret;

    plan->listen_fd = -1;
    if (unit->listen_stream == NULL)
        return 0;
    if (service->listen_fd < 0) {
        core_path(service->core, path, sizeof(path), unit->listen_stream);
        ret = varlink_listen(path, (mode_t)unit->socket_mode, err);
        if (ret < 0)
            return ret;
        service->listen_fd = ret;
        if (plan->switch_user && lchown(path, plan->uid, plan->gid) < 0)
            return error_set(err, errno, "service.socket", NULL, "%s: %.120s: %s", unit->name, path,
                             strerror(errno));
    }
    plan->listen_fd = service->listen_fd;
    return 0;
}

/* ---- child ---- */

/* Digits of the pid into text that holds at least 10; the rest of it is cut off. */
static void spawn_write_pid(char *text, pid_t pid)
{
    char digits[12];
    size_t count = 0;

    do {
        digits[count++] = (char)('0' + pid % 10);
        pid /= 10;
    } while (pid > 0 && count < sizeof(digits));
    for (size_t i = 0; i < count; i++)
        text[i] = digits[count - 1 - i];
    text[count] = '\0';
}

static _Noreturn void spawn_fail(enum spawn_exit code, const char *detail)
{
    int error = errno;
    char line[256];
    int len = snprintf(line, sizeof(line), "<3>core0: %s: %.80s: %s\n",
                       spawn_exit_reason((int)code), detail, strerror(error));

    if (len > 0 && write(STDERR_FILENO, line, (size_t)len) < 0)
        _exit((int)code);
    _exit((int)code);
}

static void spawn_child_streams(const struct spawn_plan *plan)
{
    const struct unit *unit = plan->unit;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int tty = -1;
    int out = plan->log_fd;

    /* The log first: from here on a failure has a place to go to. */
    if (dup2(plan->log_fd, STDERR_FILENO) < 0)
        spawn_fail(SPAWN_STDOUT, "the log");
    if (unit->input == UNIT_INPUT_TTY || unit->output == UNIT_OUTPUT_TTY) {
        tty = open(plan->tty, O_RDWR | O_CLOEXEC);
        if (tty < 0)
            spawn_fail(SPAWN_STDIN, plan->tty);
        ioctl(tty, TIOCSCTTY, 1);
    }
    if (unit->output == UNIT_OUTPUT_TTY)
        out = tty;
    if (unit->output == UNIT_OUTPUT_NULL)
        out = null;
    if (dup2(unit->input == UNIT_INPUT_TTY ? tty : null, STDIN_FILENO) < 0)
        spawn_fail(SPAWN_STDIN, "/dev/null");
    if (dup2(out, STDOUT_FILENO) < 0 || (out != plan->log_fd && dup2(out, STDERR_FILENO) < 0))
        spawn_fail(SPAWN_STDOUT, "standard output");
    if (plan->listen_fd >= 0) {
        if (plan->listen_fd == SPAWN_LISTEN_FD)
            fcntl(SPAWN_LISTEN_FD, F_SETFD, 0);
        else if (dup2(plan->listen_fd, SPAWN_LISTEN_FD) < 0)
            spawn_fail(SPAWN_STDIN, "the listening socket");
    }
}

/* Before anything is opened for good by path: a working directory would stay below what is mounted over it. */
static void spawn_child_view(const struct spawn_plan *plan)
{
    const char *where = NULL;
    int ret = view_is_wanted(plan->unit) ? view_enter(plan->unit, plan->root, &where) : 0;

    if (ret < 0) {
        errno = -ret;
        spawn_fail(SPAWN_NAMESPACE, where);
    }
}

static void spawn_child_limits(const struct spawn_plan *plan)
{
    const struct unit *unit = plan->unit;
    const struct rlimit core = {.rlim_cur = unit->limit_core, .rlim_max = unit->limit_core};
    const struct rlimit files = {.rlim_cur = unit->limit_nofile, .rlim_max = unit->limit_nofile};
    char text[16];
    int fd;

    umask((mode_t)unit->umask);
    if (setrlimit(RLIMIT_CORE, &core) < 0 ||
        (unit->limit_nofile != 0 && setrlimit(RLIMIT_NOFILE, &files) < 0))
        spawn_fail(SPAWN_LIMITS, "setrlimit");
    if (unit->nice != 0 && setpriority(PRIO_PROCESS, 0, (int)unit->nice) < 0)
        spawn_fail(SPAWN_NICE, "setpriority");
    if (unit->oom_score_adjust != 0) {
        int len = snprintf(text, sizeof(text), "%d", (int)unit->oom_score_adjust);

        fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, (size_t)len) < 0)
            spawn_fail(SPAWN_OOM_ADJUST, text);
        close(fd);
    }
    if (chdir(unit->working_directory != NULL ? unit->working_directory : "/") < 0)
        spawn_fail(SPAWN_CHDIR, unit->working_directory != NULL ? unit->working_directory : "/");
}

static void spawn_child_user(const struct spawn_plan *plan)
{
    const struct unit *unit = plan->unit;

    for (unsigned cap = 0; cap < 64 && unit->bounding != UINT64_MAX; cap++) {
        if ((unit->bounding >> cap & 1u) != 0)
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 &&
            errno != EINVAL) /* EINVAL: beyond the last */
            spawn_fail(SPAWN_CAPABILITIES, "bounding set");
    }
    if (!plan->switch_user)
        return;
    if (unit->ambient != 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        spawn_fail(SPAWN_CAPABILITIES, "keep");
    /* Raw system calls: the C library's versions talk to threads that do not exist here. */
    if (syscall(SYS_setgroups, plan->group_count, plan->groups) < 0 ||
        syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) < 0)
        spawn_fail(SPAWN_GROUP, unit->group != NULL ? unit->group : unit->user);
    if (syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid) < 0)
        spawn_fail(SPAWN_USER, unit->user != NULL ? unit->user : "root");
}

static void spawn_child_ambient(const struct spawn_plan *plan)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    uint64_t caps = plan->unit->ambient;
    const struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)caps, .permitted = (uint32_t)caps, .inheritable = (uint32_t)caps},
        {.effective = (uint32_t)(caps >> 32),
         .permitted = (uint32_t)(caps >> 32),
         .inheritable = (uint32_t)(caps >> 32)},
    };

    if (caps == 0 || !plan->switch_user)
        return;
    if (syscall(SYS_capset, &header, data) < 0)
        spawn_fail(SPAWN_CAPABILITIES, "capset");
    for (unsigned cap = 0; cap < 64; cap++) {
        if ((caps >> cap & 1u) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
            spawn_fail(SPAWN_CAPABILITIES, "ambient");
    }
}

static _Noreturn void spawn_child(const struct spawn_plan *plan)
{
    static const struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int signo = 1; signo < 32; signo++)
        sigaction(signo, &by_default, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (setsid() < 0)
        spawn_fail(SPAWN_SETSID, "setsid");
    if (plan->listen_pid != NULL)
        spawn_write_pid(plan->listen_pid, getpid());
    if (plan->watchdog_pid != NULL)
        spawn_write_pid(plan->watchdog_pid, getpid());

    spawn_child_streams(plan);
    spawn_child_view(plan);
    spawn_child_limits(plan);
    spawn_child_user(plan);
    spawn_child_ambient(plan);
    if (plan->unit->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        spawn_fail(SPAWN_NO_NEW_PRIVILEGES, "prctl");
    if (plan->filter_len > 0 && seccomp_load(plan->filter, plan->filter_len) < 0)
        spawn_fail(SPAWN_SECCOMP, "seccomp");
    execve(plan->exec.argv[0], plan->exec.argv, plan->exec.env);
    spawn_fail(SPAWN_EXEC, plan->exec.argv[0]);
}

/* ---- both ---- */

static pid_t spawn_clone(const struct spawn_plan *plan)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    long pid;

    /* Born in its group: no moment outside of it, and no write to cgroup.procs (containers.md: 1 instead of 22 ms). */
    if (plan->cgroup_fd >= 0) {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = (__u64)plan->cgroup_fd;
    }
    pid = syscall(SYS_clone3, &args, sizeof(args));
    return pid < 0 ? -errno : (pid_t)pid;
}

int spawn_service(struct service *service, pid_t *ret_pid, struct error *err)
{
    struct spawn_plan *plan = calloc(1, sizeof(*plan));
    pid_t pid;
    int ret;

    if (plan == NULL)
        return error_set(err, ENOMEM, "service.no-memory", NULL, "no memory");
    plan->unit = &service->unit;
    plan->root = service->core->root;
    plan->cgroup_fd = -1;
    plan->log_fd = service->log_write_fd;

    ret = spawn_plan_user(plan, err);
    if (ret == 0)
        ret = spawn_plan_socket(plan, service, err);
    if (ret == 0)
        ret = spawn_plan_env(plan, service, err);
    if (ret == 0)
        ret = spawn_plan_filter(plan, err);
    if (ret == 0) {
        spawn_plan_tty(plan, service->core);
        plan->cgroup_fd = cgroup_open(service, plan->uid, plan->gid);
        pid = spawn_clone(plan);
        if (pid == 0)
            spawn_child(plan);
        if (pid < 0)
            ret = error_set(err, -pid, "service.fork", NULL, "%s: no process: %s",
                            service->unit.name, strerror(-pid));
        else
            *ret_pid = pid;
    }
    if (plan->cgroup_fd >= 0)
        close(plan->cgroup_fd);
    spawn_exec_done(&plan->exec);
    free(plan);
    return ret;
}
