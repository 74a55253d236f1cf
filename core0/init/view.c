/*
 * view.c - see view.h.
 *
 * A path that stays writable is bound onto itself and that mount made writable again. It is attached first and changed then: a
 * tree that is not attached anywhere gets nothing of what is mounted on the node meanwhile, and would lack it for ever.
 */
#include "init/view.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOTHING (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* The C library's <sys/mount.h> and the kernel's <linux/mount.h> do not stand each other. */
static int view_mount(const char *type, const char *target, unsigned long flags,
                      const char *options)
{
    return syscall(SYS_mount, type, target, type, flags, options) < 0 ? -errno : 0;
}

static int view_flags(const char *path, uint64_t set, uint64_t clear, unsigned how)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear};

    return syscall(SYS_mount_setattr, AT_FDCWD, path, how, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static int view_lock(const char *path)
{
    return view_flags(path, MOUNT_ATTR_RDONLY, 0, AT_RECURSIVE);
}

static int view_open(const char *path)
{
    return view_flags(path, 0, MOUNT_ATTR_RDONLY, AT_RECURSIVE);
}

/* Makes the path a mount, with all that is mounted below it. */
static int view_bind(const char *path)
{
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    int ret = tree < 0 ? -errno : 0;

    if (ret == 0 && syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        ret = -errno;
    if (tree >= 0)
        close(tree);
    return ret;
}

static bool view_has_own_proc(const struct unit *unit)
{
    return unit->protect_proc != UNIT_PROC_DEFAULT || unit->proc_subset != UNIT_PROC_ALL;
}

bool view_is_wanted(const struct unit *unit)
{
    return unit->protect_system != UNIT_PROTECT_NO || unit->private_devices ||
           view_has_own_proc(unit) || unit->protect_tunables || unit->protect_cgroups ||
           unit->read_write_paths.count > 0 || unit->inaccessible_paths.count > 0;
}

/* ---- what stays writable ---- */

static int view_writable(const char *root, const char *base, const char *path, bool optional)
{
    char whole[PATH_MAX];
    int ret;

    if (snprintf(whole, sizeof(whole), "%s%s%s", root, base, path) >= (int)sizeof(whole))
        return -ENAMETOOLONG;
    ret = view_bind(whole);
    if (ret == -ENOENT && optional)
        return 0;
    return ret < 0 ? ret : view_open(whole);
}

static int view_writables(const struct unit *unit, const char *root, const char **ret_where)
{
    const struct {
        const struct unit_list *list;
        const char *base;
    } lists[] = {
        {&unit->read_write_paths, ""},
        {&unit->runtime_directory, "/run/"},
        {&unit->state_directory, "/var/croft/state/"},
    };

    for (size_t i = 0; i < COUNT(lists); i++) {
        for (size_t j = 0; j < lists[i].list->count; j++) {
            const char *path = lists[i].list->items[j];
            bool optional = path[0] == '-';
            int ret = view_writable(root, lists[i].base, path + optional, optional);

            *ret_where = path;
            if (ret < 0)
                return ret;
        }
    }
    return 0;
}

/* systemd.exec(5): strict leaves out the kernel's own file systems, which have keys of their own. */
static int view_system(const struct unit *unit, const char *root, const char **ret_where)
{
    const struct {
        const char *path;
        bool stays; /* nothing covers it, and no other key says what it is */
    } kernels[] = {
        {"/dev", !unit->private_devices},
        {"/proc", !view_has_own_proc(unit)},
        {"/sys", !unit->protect_tunables},
    };
    int ret = 0;

    *ret_where = "/";
    if (unit->protect_system == UNIT_PROTECT_FULL)
        ret = view_flags("/", MOUNT_ATTR_RDONLY, 0, 0);
    if (unit->protect_system != UNIT_PROTECT_STRICT || ret < 0)
        return ret;
    ret = view_lock("/");
    for (size_t i = 0; i < COUNT(kernels) && ret == 0; i++) {
        *ret_where = kernels[i].path;
        ret = kernels[i].stays ? view_open(kernels[i].path) : 0;
    }
    return ret < 0 ? ret : view_writables(unit, root, ret_where);
}

/* An empty folder over each. What is mounted at or below the path later comes to lie under it, and so out of sight. */
static int view_inaccessible(const struct unit *unit, const char *root, const char **ret_where)
{
    for (size_t i = 0; i < unit->inaccessible_paths.count; i++) {
        const char *path = unit->inaccessible_paths.items[i];
        bool optional = path[0] == '-';
        char whole[PATH_MAX];
        int ret;

        *ret_where = path;
        if (snprintf(whole, sizeof(whole), "%s%s", root, path + optional) >= (int)sizeof(whole))
            return -ENAMETOOLONG;
        ret = view_mount("tmpfs", whole, NOTHING | MS_RDONLY, "mode=0000,size=4k,nr_inodes=1");
        if (ret < 0 && (ret != -ENOENT || !optional))
            return ret;
    }
    return 0;
}

/* ---- /dev ---- */

static int view_devices(void)
{
    static const struct {
        const char *path;
        unsigned major, minor;
    } nodes[] = {
        {"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
        {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"},
        {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"},
        {"/proc/self/fd/2", "/dev/stderr"},
    };
    int ret = view_mount("tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k,nr_inodes=32");

    for (size_t i = 0; i < COUNT(nodes) && ret == 0; i++) {
        if (mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0 ||
            chmod(nodes[i].path, 0666) < 0)
            ret = -errno;
    }
    for (size_t i = 0; i < COUNT(links) && ret == 0; i++) {
        if (symlink(links[i][0], links[i][1]) < 0)
            ret = -errno;
    }
    return ret < 0 ? ret : view_lock("/dev");
}

/* ---- /proc and /sys ---- */

/* Another instance of procfs, with options of its own: the node's stays as it is (proc(5), "Mount options"). */
static int view_proc(const struct unit *unit)
{
    static const char *const options[2][2] = {
        [UNIT_PROC_DEFAULT] = {[UNIT_PROC_ALL] = NULL, [UNIT_PROC_PID] = "subset=pid"},
        [UNIT_PROC_INVISIBLE] = {[UNIT_PROC_ALL] = "hidepid=invisible",
                                 [UNIT_PROC_PID] = "hidepid=invisible,subset=pid"},
    };
    const char *chosen = options[unit->protect_proc][unit->proc_subset];

    return chosen != NULL ? view_mount("proc", "/proc", NOTHING, chosen) : 0;
}

static int view_tunables(const struct unit *unit, const char **ret_where)
{
    static const char *const locked[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq",
                                         "/proc/fs", "/proc/acpi"};
    int ret = 0;

    for (size_t i = 0; i < COUNT(locked) && unit->protect_tunables && ret == 0; i++) {
        *ret_where = locked[i];
        ret = view_bind(locked[i]);
        ret = ret == -ENOENT ? 0 : ret < 0 ? ret : view_lock(locked[i]);
    }
    if (ret == 0 && unit->protect_tunables) {
        *ret_where = "/sys";
        ret = view_lock("/sys");
    }
    if (ret == 0 && unit->protect_tunables != unit->protect_cgroups) {
        *ret_where = "/sys/fs/cgroup";
        ret = unit->protect_cgroups ? view_lock("/sys/fs/cgroup") : view_open("/sys/fs/cgroup");
    }
    return ret;
}

int view_enter(const struct unit *unit, const char *root, const char **ret_where)
{
    int ret;

    *ret_where = "a mount namespace";
    if (unshare(CLONE_NEWNS) < 0)
        return -errno;
    if (unit->mount_flags == UNIT_MOUNTS_SLAVE) {
        *ret_where = "MountFlags=slave";
        ret = view_mount(NULL, "/", MS_REC | MS_SLAVE, NULL);
        if (ret < 0)
            return ret;
    }
    ret = view_system(unit, root, ret_where);
    if (ret == 0)
        ret = view_inaccessible(unit, root, ret_where);
    if (ret == 0 && unit->private_devices) {
        *ret_where = "PrivateDevices=";
        ret = view_devices();
    }
    if (ret == 0) {
        *ret_where = "ProtectProc=";
        ret = view_proc(unit);
    }
    return ret < 0 ? ret : view_tunables(unit, ret_where);
}
