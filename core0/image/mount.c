/*
 * mount.c - an image as the root file system of an instance.
 *
 *   metadata file ─ erofs, idmapped ─► <instance>/lower ─┐
 *   objects (fs-verity) ───────────────────── datadir ───┼─ overlay, verity=require ─► <instance>/rootfs
 *   scratch volume ────────────── upper, work ───────────┘
 *
 * The order and its traps are those of the design's containers.md. The file <instance>/image says what is mounted; a
 * folder without a mounted rootfs is half made and goes at the next start or call.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image.h"
#include "lib/fault.h"
#include "lib/file.h"
#include "lib/log.h"

/* Not sys/mount.h: its constants clash with linux/mount.h. */
int umount2(const char *target, int flags);
#define DETACH 2 /* MNT_DETACH */

#ifndef STATX_ATTR_MOUNT_ROOT /* Linux 5.8; musl 1.2.5 lacks it */
#define STATX_ATTR_MOUNT_ROOT 0x2000
#endif

static int fail(struct error *err, const char *what, int r)
{
    return error_set(err, -r,
                     r == -ENOSPC || r == -EDQUOT ? "image.no-space" : "image.mount-failed", "",
                     "%s: %s", what, strerror(-r));
}

static long sys(long result)
{
    return result < 0 ? -errno : result;
}

/* A user namespace with one range, kept by a descriptor alone. */
static int userns_open(uint64_t base, uint64_t count, int *ret_fd)
{
    int pipes[2];
    char path[64];
    char map[64];
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return -errno;
    /* Raw clone: the child only waits to be killed, and must not run what libc does after a fork. */
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        char byte;
        (void)syscall(SYS_close, pipes[1]); /* so that it ends with its parent too */
        while (syscall(SYS_read, pipes[0], &byte, 1) > 0) {
        }
        syscall(SYS_exit, 0);
        __builtin_unreachable();
    }
    int r = pid < 0 ? -errno : 0;
    close(pipes[0]);
    static const char *const files[] = {"uid_map", "gid_map"};
    int len = snprintf(map, sizeof(map), "0 %llu %llu", (unsigned long long)base,
                       (unsigned long long)count);
    for (size_t i = 0; r == 0 && i < 2; i++) {
        snprintf(path, sizeof(path), "/proc/%ld/%s", pid, files[i]);
        cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, map, (size_t)len) != len)
            r = -errno;
    }
    if (r == 0) {
        snprintf(path, sizeof(path), "/proc/%ld/ns/user", pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        r = fd < 0 ? -errno : 0;
        if (r == 0)
            *ret_fd = fd;
    }
    close(pipes[1]);
    if (pid > 0) {
        (void)kill((pid_t)pid, SIGKILL);
        while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    return r;
}

struct option {
    unsigned command;
    const char *key;
    const char *value;
};

/* What the kernel says about a failed mount lies in the context's log. */
static void context_reason(int context, char reason[160])
{
    ssize_t n = read(context, reason, 159);
    reason[n > 0 ? n : 0] = '\0';
    reason[strcspn(reason, "\n")] = '\0';
}

/* fsopen, options, fsmount. */
static int mount_new(const char *type, const struct option *options, size_t count,
                     unsigned attributes, int *ret_fd, struct error *err)
{
    cleanup_close int context = (int)sys(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
    long r = context < 0 ? context : 0;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = sys(syscall(SYS_fsconfig, context, options[i].command, options[i].key, options[i].value,
                        0));
    if (r == 0)
        r = sys(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
    if (r == 0)
        r = sys(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes));
    if (r < 0) {
        char reason[160] = "";
        if (context >= 0)
            context_reason(context, reason);
        return error_set(
            err, (int)-r, r == -ENOSPC || r == -EDQUOT ? "image.no-space" : "image.mount-failed",
            "", "%s: %s%s%s", type, strerror((int)-r), reason[0] != '\0' ? ": " : "", reason);
    }
    *ret_fd = (int)r;
    return 0;
}

static int attach(int mount_fd, const char *path)
{
    return (int)sys(syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH));
}

static int mount_lower(int meta_fd, const char *path, int userns, struct error *err)
{
    char source[64];
    snprintf(source, sizeof(source), "/proc/self/fd/%d", meta_fd);
    const struct option options[] = {
        {FSCONFIG_SET_STRING, "source", source},
        {FSCONFIG_SET_FLAG, "ro", NULL},
    };
    int mounted = -1;
    int r = mount_new("erofs", options, 2, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                      &mounted, err);
    if (r < 0)
        return r;
    cleanup_close int fd = mounted;
    struct mount_attr attribute = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)userns};
    r = (int)sys(syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attribute, sizeof(attribute)));
    if (r < 0)
        return fail(err, "the range of ids cannot be mapped", r);
    r = attach(fd, path);
    return r < 0 ? fail(err, path, r) : 0;
}

static int mount_overlay(const char *lower, const char *objects, const char *upper,
                         const char *work, const char *rootfs, struct error *err)
{
    const struct option options[] = {
        {FSCONFIG_SET_STRING, "source", "croft"},    {FSCONFIG_SET_STRING, "lowerdir+", lower},
        {FSCONFIG_SET_STRING, "datadir+", objects},  {FSCONFIG_SET_STRING, "upperdir", upper},
        {FSCONFIG_SET_STRING, "workdir", work},      {FSCONFIG_SET_STRING, "metacopy", "on"},
        {FSCONFIG_SET_STRING, "redirect_dir", "on"}, {FSCONFIG_SET_STRING, "verity", "require"},
    };
    int mounted = -1;
    int r = mount_new("overlay", options, sizeof(options) / sizeof(options[0]), MOUNT_ATTR_NODEV,
                      &mounted, err);
    if (r < 0)
        return r;
    cleanup_close int fd = mounted;
    r = attach(fd, rootfs);
    if (r < 0)
        return fail(err, rootfs, r);
    /* An upper that overlayfs cannot use makes it read-only without an error. */
    struct statvfs fs;
    if (statvfs(rootfs, &fs) < 0)
        return fail(err, rootfs, -errno);
    if ((fs.f_flag & ST_RDONLY) != 0)
        return fail(err, "the root file system came out read-only", -EROFS);
    return 0;
}

static int make_folder(const char *path, mode_t mode, uid_t uid)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return -errno;
    return chown(path, uid, uid) < 0 || chmod(path, mode) < 0 ? -errno : 0;
}

/* ---- what is there ---- */

static bool is_mounted(const char *path)
{
    struct statx own;
    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &own) == 0 &&
           (own.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

static bool is_service(const char *service)
{
    size_t len = strlen(service);
    return len > 0 && len < 64 &&
           strspn(service, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len && service[0] != '-' &&
           service[0] != '_';
}

static int instance_path(const struct images *images, int64_t reservation, int64_t revision,
                         const char *service, char path[200], struct error *err)
{
    if (reservation < 1 || revision < 1 || !is_service(service))
        return error_set(err, EINVAL, "image.bad-request", "", "'%lld-%lld-%.64s' is no instance",
                         (long long)reservation, (long long)revision, service);
    snprintf(path, 200, "%s/%lld-%lld-%s", images->run, (long long)reservation, (long long)revision,
             service);
    return 0;
}

/* Takes everything of an instance away. */
static int instance_clear(const char *path)
{
    static const char *const mounts[] = {"rootfs", "lower"};
    char inner[256];
    for (size_t i = 0; i < 2; i++) {
        snprintf(inner, sizeof(inner), "%s/%s", path, mounts[i]);
        while (is_mounted(inner))
            if (umount2(inner, 0) < 0 && umount2(inner, DETACH) < 0)
                return -errno;
    }
    int r = file_remove_tree(path);
    return r == -ENOENT ? 0 : r;
}

/* The id of a mounted instance: 0, -ENOENT when none is mounted. */
static int instance_image(const char *path, char id[IMAGE_ID_TEXT])
{
    char inner[256];
    cleanup_free char *text = NULL;
    size_t len;
    snprintf(inner, sizeof(inner), "%s/rootfs", path);
    if (!is_mounted(inner))
        return -ENOENT;
    snprintf(inner, sizeof(inner), "%s/image", path);
    int r = file_read(inner, 256, &text, &len);
    if (r == 0 && (len != IMAGE_ID_TEXT - 1 || image_id_check(text, NULL) < 0))
        r = -ENOENT;
    if (r == 0)
        memcpy(id, text, IMAGE_ID_TEXT);
    return r;
}

int mount_each(const struct images *images, mount_fn *fn, void *data)
{
    DIR *dir = opendir(images->run);
    if (dir == NULL)
        return -errno;
    int r = 0;
    for (struct dirent *item; r == 0 && (item = readdir(dir)) != NULL;) {
        struct mount_entry entry = {0};
        long long reservation;
        long long revision;
        int at = 0;
        char path[200];
        if (sscanf(item->d_name, "%lld-%lld-%n", &reservation, &revision, &at) != 2 || at == 0 ||
            !is_service(item->d_name + at))
            continue;
        entry.reservation = reservation;
        entry.revision = revision;
        snprintf(entry.service, sizeof(entry.service), "%.63s", item->d_name + at);
        snprintf(path, sizeof(path), "%s/%.120s", images->run, item->d_name);
        snprintf(entry.rootfs, sizeof(entry.rootfs), "%s/rootfs", path);
        if (instance_image(path, entry.id) == 0)
            r = fn(&entry, data);
    }
    closedir(dir);
    return r;
}

void mount_recover(const struct images *images)
{
    DIR *dir = opendir(images->run);
    if (dir == NULL)
        return;
    for (struct dirent *item; (item = readdir(dir)) != NULL;) {
        char path[200];
        char inner[256];
        char id[IMAGE_ID_TEXT];
        if (item->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%.120s", images->run, item->d_name);
        int r = 0;
        if (instance_image(path, id) < 0) {
            r = instance_clear(path);
        } else {
            snprintf(inner, sizeof(inner), "%s/lower", path);
            if (is_mounted(inner) && umount2(inner, DETACH) < 0)
                r = -errno;
        }
        if (r < 0)
            log_warn("%s: %s", path, strerror(-r));
    }
    closedir(dir);
}

/* ---- making and removing ---- */

static int instance_make(const struct images *images, const struct mount_request *request,
                         const char *path, const struct image_config *config, struct error *err)
{
    char lower[256];
    char rootfs[256];
    char upper[256];
    char work[256];
    char objects[256];
    char image[256];
    if (strlen(request->scratch) > 240 || strlen(images->root) > 240)
        return error_set(err, ENAMETOOLONG, "image.bad-request", "",
                         "the path of the scratch volume is too long");
    snprintf(lower, sizeof(lower), "%s/lower", path);
    snprintf(rootfs, sizeof(rootfs), "%s/rootfs", path);
    snprintf(image, sizeof(image), "%s/image", path);
    snprintf(upper, sizeof(upper), "%.240s/upper", request->scratch);
    snprintf(work, sizeof(work), "%.240s/work", request->scratch);
    snprintf(objects, sizeof(objects), "%.240s/objects", images->root);
    /* Opened once: what was measured is what is mounted. */
    int meta;
    int r = store_meta_open(images, config->digest, &meta, err);
    if (r < 0)
        return r;
    cleanup_close int meta_fd = meta;
    int userns = -1;
    r = file_mkdirs(path, 0711);
    r = r == 0 ? make_folder(lower, 0711, 0) : r;
    r = r == 0 ? make_folder(rootfs, 0711, 0) : r;
    r = r == 0 ? make_folder(upper, 0755, (uid_t)request->uid_base) : r;
    r = r == 0 ? make_folder(work, 0700, 0) : r;
    r = r == 0 ? userns_open(request->uid_base, request->uid_count, &userns) : r;
    cleanup_close int userns_fd = userns;
    if (r < 0)
        return fail(err, path, r);
    r = mount_lower(meta_fd, lower, userns_fd, err);
    if (r < 0)
        return r;
    fault_point("mount.lower");
    r = mount_overlay(lower, objects, upper, work, rootfs, err);
    (void)umount2(lower, DETACH); /* the overlay has its own hold of it */
    (void)rmdir(lower);
    fault_point("mount.overlay");
    if (r == 0)
        r = file_write_atomic(image, config->id, strlen(config->id), 0644);
    return r < 0 && !error_is_set(err) ? fail(err, image, r) : r;
}

int mount_make(struct images *images, const struct mount_request *request, char *ret_rootfs,
               size_t size, struct image_config *ret_config, struct error *err)
{
    char path[200];
    char id[IMAGE_ID_TEXT];
    struct image_config config;
    int r =
        instance_path(images, request->reservation, request->revision, request->service, path, err);
    if (r < 0)
        return r;
    if (request->uid_base < 65536 || request->uid_count < 1 ||
        request->uid_base + request->uid_count > UINT32_MAX)
        return error_set(err, EINVAL, "image.bad-request", "", "the range of ids is impossible");
    r = store_config(images, request->id, &config, err);
    if (r < 0)
        return r;
    r = instance_image(path, id);
    if (r == 0 && strcmp(id, request->id) != 0) {
        r = error_set(err, EEXIST, "image.conflict", "unmount it first",
                      "%s has another image mounted", path);
    } else if (r < 0) {
        r = instance_clear(path);
        r = r < 0 ? fail(err, path, r) : instance_make(images, request, path, &config, err);
        if (r < 0)
            (void)instance_clear(path);
    }
    if (r < 0) {
        image_config_done(&config);
        return r;
    }
    snprintf(ret_rootfs, size, "%s/rootfs", path);
    *ret_config = config;
    return 0;
}

int mount_remove(struct images *images, int64_t reservation, int64_t revision, const char *service,
                 struct error *err)
{
    char path[200];
    int r = instance_path(images, reservation, revision, service, path, err);
    if (r < 0)
        return r;
    r = instance_clear(path);
    return r < 0 ? fail(err, path, r) : 0;
}
