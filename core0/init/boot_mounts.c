/*
 * boot_mounts.c - see boot_mounts.h.
 */
#include "init/boot_mounts.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "lib/file.h"

#define NOTHING (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct {
    const char *type;
    const char *target;
    unsigned long flags;
    const char *options;
    bool optional;
} boot_mounts[] = {
    {"proc", "/proc", NOTHING, NULL, false},
    {"sysfs", "/sys", NOTHING, NULL, false},
    {"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755", false},
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666", false},
    {"tmpfs", "/dev/shm", NOTHING, "mode=0700,size=10%", false},
    /* nsdelegate: a container's own cgroup namespace is a border. favordynmods: a process enters a group in 1 ms instead
     * of 22 (containers.md). */
    {"cgroup2", "/sys/fs/cgroup", NOTHING, "nsdelegate,favordynmods", false},
    {"tmpfs", "/run", NOTHING, "mode=0755,size=20%", false},
    /* For people on the console and for programs of root: no folder is shared by daemons of different users. */
    {"tmpfs", "/tmp", NOTHING, "mode=0700,size=20%", false},
    {"securityfs", "/sys/kernel/security", NOTHING, NULL, true},
    {"pstore", "/sys/fs/pstore", NOTHING, NULL, true},
    {"efivarfs", "/sys/firmware/efi/efivars", NOTHING, NULL, true},
};

int boot_leave_initramfs(struct error *err)
{
    static const char folder[] = "/.root";

    if (file_mkdirs(folder, 0755) < 0 || mount("/", folder, NULL, MS_BIND, NULL) < 0 ||
        chdir(folder) < 0 || mount(folder, "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0)
        return error_set(err, errno, "boot.root", NULL, "the initramfs cannot be left: %s",
                         strerror(errno));
    rmdir(folder);
    /* What is mounted and unmounted from here on is so in the views of the services too (view.h). */
    if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0)
        return error_set(err, errno, "boot.root", NULL, "mounts cannot be shared: %s",
                         strerror(errno));
    return 0;
}

int boot_mount_all(struct error *err)
{
    int ret = 0;

    for (size_t i = 0; i < sizeof(boot_mounts) / sizeof(boot_mounts[0]); i++) {
        const char *target = boot_mounts[i].target;

        /* In /sys the kernel makes the folders; without one there is nothing to mount. */
        if (file_mkdirs(target, 0755) < 0 && boot_mounts[i].optional)
            continue;
        if (mount(boot_mounts[i].type, target, boot_mounts[i].type, boot_mounts[i].flags,
                  boot_mounts[i].options) < 0 &&
            errno != EBUSY && !boot_mounts[i].optional)
            ret = error_set(err, errno, "boot.mount", NULL, "%s cannot be mounted on %s: %s",
                            boot_mounts[i].type, target, strerror(errno));
    }
    return ret;
}
