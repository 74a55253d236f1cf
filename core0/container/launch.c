/*
 * launch.c - one run's beginning: the child that writes the bundle and becomes the shim.
 *
 * The child does everything that reads the tenant's files, in the shims' cgroup, so that contd's loop never waits and contd's
 * end does not end it. What goes wrong before the shim takes over is left in the folder's file `exit` like an end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "container/bundle.h"
#include "container/cgroup.h"
#include "container/contd.h"
#include "lib/buffer.h"
#include "lib/file.h"
#include "lib/runc_error.h"

#define LOG_FILES "4"
#define RUNC_LOG_MAX ((size_t)64 << 10)

/* ---- folder ---- */

/* Written beside and renamed, so that contd's watch sees whole files. */
static int put(const struct instance *inst, const char *file, const char *text)
{
    char path[CONTD_PATH_MAX];

    store_path(inst, file, path);
    return file_write_atomic(path, text, strlen(text), 0600);
}

static int mount_small(const struct instance *inst, const char *name, size_t bytes,
                       unsigned long flags, char path[CONTD_PATH_MAX], struct error *err)
{
    char options[128];

    store_path(inst, name, path);
    umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    snprintf(options, sizeof(options), "mode=0711,uid=%u,gid=%u,size=%zu", inst->uid_base,
             inst->uid_base, bytes);
    if ((mkdir(path, 0711) < 0 && errno != EEXIST) ||
        mount("tmpfs", path, "tmpfs", MS_NOSUID | flags, options) < 0)
        return error_set(err, errno, "container.start-failed", NULL, "mounting %s: %s", path,
                         strerror(errno));
    return 0;
}

static int write_file(const struct instance *inst, const char *dir, const char *name,
                      const void *data, size_t len, mode_t mode, uint32_t uid, uint32_t gid,
                      struct error *err)
{
    char path[CONTD_PATH_MAX + 32];
    int ret = 0;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        ret = -errno;
    if (ret == 0)
        ret = file_write_all(fd, data, len);
    if (ret == 0 &&
        (fchown(fd, inst->uid_base + uid, inst->uid_base + gid) < 0 || fchmod(fd, mode) < 0))
        ret = -errno;
    return ret < 0 ? error_set(err, -ret, "container.start-failed", NULL, "writing %s: %s", path,
                               strerror(-ret))
                   : 0;
}

/* /etc/hosts, /etc/hostname, /etc/resolv.conf: writable as in Docker, on a file system of its own that the container can fill. */
static int write_etc(const struct instance *inst, struct error *err)
{
    const struct container_spec *spec = &inst->spec;
    char dir[CONTD_PATH_MAX];
    struct buffer hosts, resolv, name;
    int ret = mount_small(inst, "etc", 256 << 10, MS_NODEV, dir, err);

    if (ret < 0)
        return ret;
    buffer_init(&hosts, 0);
    buffer_init(&resolv, 0);
    buffer_init(&name, 0);
    buffer_append_str(&hosts, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (size_t i = 0; i < spec->host_count; i++)
        buffer_printf(&hosts, "%s\t%s\n", spec->hosts[i].address, spec->hosts[i].name);
    for (const char **dns = spec->dns; dns != NULL && *dns != NULL; dns++)
        buffer_printf(&resolv, "nameserver %s\n", *dns);
    buffer_append_str(&resolv, "options ndots:0\n");
    buffer_printf(&name, "%s\n", inst->key.service);
    ret = write_file(inst, dir, "hosts", hosts.data, hosts.len, 0644, 0, 0, err);
    if (ret == 0)
        ret = write_file(inst, dir, "resolv.conf", resolv.data, resolv.len, 0644, 0, 0, err);
    if (ret == 0)
        ret = write_file(inst, dir, "hostname", name.data, name.len, 0644, 0, 0, err);
    buffer_done(&hosts);
    buffer_done(&resolv);
    buffer_done(&name);
    return ret;
}

/* Configs and secrets: a file system of their own that nobody can make writable again. */
static int write_files(const struct instance *inst, struct error *err)
{
    const struct container_spec *spec = &inst->spec;
    size_t bytes = (size_t)64 << 10;
    char dir[CONTD_PATH_MAX], name[24];

    if (spec->file_count == 0)
        return 0;
    for (size_t i = 0; i < spec->file_count; i++)
        bytes += spec->files[i].len + 8192;
    int ret = mount_small(inst, "files", bytes, MS_NODEV, dir, err);
    for (size_t i = 0; ret == 0 && i < spec->file_count; i++) {
        const struct spec_file *file = &spec->files[i];

        snprintf(name, sizeof(name), "%zu", i);
        ret = write_file(inst, dir, name, file->data, file->len, file->mode, file->uid, file->gid,
                         err);
    }
    if (ret == 0 &&
        mount("tmpfs", dir, "tmpfs", MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
        ret = error_set(err, errno, "container.start-failed", NULL, "making %s read-only: %s", dir,
                        strerror(errno));
    return ret;
}

/* A second node of the block device, at path. */
static int make_device(const char *source, const char *path, uint32_t owner,
                       struct bundle_device *ret_number)
{
    struct stat st;

    if (stat(source, &st) < 0)
        return -errno;
    if (!S_ISBLK(st.st_mode))
        return -ENOTBLK;
    if (mknod(path, S_IFBLK | 0600, st.st_rdev) < 0 || chown(path, owner, owner) < 0)
        return -errno;
    *ret_number = (struct bundle_device){major(st.st_rdev), minor(st.st_rdev)};
    return 0;
}

/*
 * Nodes of block devices that are mounts: the node's own belong to its root, who is nobody in there. Each is a node of
 * the container's root; what it may do with the device is in the cgroup's rule.
 */
static int make_devices(const struct instance *inst, struct bundle_device *ret_numbers,
                        struct error *err)
{
    const struct container_spec *spec = &inst->spec;
    char dir[CONTD_PATH_MAX], path[CONTD_PATH_MAX + 32];
    bool mounted = false;
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < spec->mount_count; i++) {
        if (!spec->mounts[i].block)
            continue;
        if (!mounted && (ret = mount_small(inst, "devices", 64 << 10, 0, dir, err)) < 0)
            return ret;
        mounted = true;
        snprintf(path, sizeof(path), "%s/%zu", dir, i);
        ret = make_device(spec->mounts[i].source, path, inst->uid_base, &ret_numbers[i]);
    }
    return ret < 0 ? error_set(err, -ret, "container.start-failed", NULL,
                               "the node of a block device: %s", strerror(-ret))
                   : 0;
}

static int write_config(const struct instance *inst, const struct container_user *user,
                        const struct bundle_device *numbers, struct error *err)
{
    char userns[CONTD_PATH_MAX], netns[CONTD_PATH_MAX], cgroup[CONTD_PATH_MAX], etc[CONTD_PATH_MAX],
        files[CONTD_PATH_MAX], devices[CONTD_PATH_MAX], path[CONTD_PATH_MAX];
    struct bundle bundle = {.spec = &inst->spec,
                            .user = user,
                            .hostname = inst->key.service,
                            .userns = userns,
                            .netns = netns,
                            .etc = etc,
                            .files = files,
                            .devices = devices,
                            .numbers = numbers,
                            .seccomp = yyjson_doc_get_root(inst->contd->seccomp),
                            .kernel = inst->contd->kernel,
                            .no_limits = inst->contd->opt.no_limits != NULL};
    cleanup_free char *json = NULL;
    size_t len;

    store_path(inst, "userns", userns);
    store_path(inst, "netns", netns);
    store_path(inst, "etc", etc);
    store_path(inst, "files", files);
    store_path(inst, "devices", devices);
    store_cgroup(inst, cgroup);
    bundle.cgroup = cgroup + strlen(inst->contd->opt.cgroup_mount);
    int ret = bundle_config(&bundle, &json, &len, err);
    if (ret < 0)
        return ret;
    store_path(inst, "config.json", path);
    ret = file_write_atomic(path, json, len, 0600);
    return ret < 0 ? error_set(err, -ret, "container.start-failed", NULL, "%s: %s", path,
                               strerror(-ret))
                   : 0;
}

static int make_log(const struct instance *inst)
{
    char path[CONTD_PATH_MAX], link[CONTD_PATH_MAX];

    store_log(inst, path);
    store_path(inst, "log", link);
    int ret = file_mkdirs(path, 0700);
    if (symlink(path, link) < 0 && errno != EEXIST)
        return -errno;
    return ret;
}

/* ---- the child ---- */

static int become_shim(const struct instance *inst, struct error *err)
{
    const struct contd_options *opt = &inst->contd->opt;
    struct container_user user;
    struct bundle_device numbers[SPEC_MOUNTS_MAX];
    char dir[CONTD_PATH_MAX], logs[CONTD_PATH_MAX], uid[16], gid[16];
    int ret = user_resolve(inst->spec.rootfs, inst->spec.user, inst->uid_count, &user, err);

    if (ret == 0)
        ret = write_etc(inst, err);
    if (ret == 0)
        ret = write_files(inst, err);
    if (ret == 0)
        ret = make_devices(inst, numbers, err);
    if (ret == 0)
        ret = write_config(inst, &user, numbers, err);
    if (ret < 0)
        return ret;
    make_log(inst);
    store_path(inst, "", dir);
    store_log(inst, logs);
    snprintf(uid, sizeof(uid), "%u", inst->uid_base + user.uid);
    snprintf(gid, sizeof(gid), "%u", inst->uid_base + user.gid);
    const char *const argv[] = {
        opt->shim, "--dir",        dir,           "--logs",       logs,      "--runc", opt->runc,
        "--root",  opt->runc_root, "--id",        inst->key.name, "--uid",   uid,      "--gid",
        gid,       "--log-size",   opt->log_size, "--log-files",  LOG_FILES, NULL};
    const char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    execve(opt->shim, (char *const *)argv, (char *const *)env);
    return error_set(err, errno, "container.start-failed", NULL, "running %s: %s", opt->shim,
                     strerror(errno));
}

void launch_enter_shims_cgroup(const struct contd *contd)
{
    char path[CONTD_PATH_MAX];

    snprintf(path, sizeof(path), "%s%s/shim/cgroup.procs", contd->opt.cgroup_mount,
             contd->opt.cgroup);
    file_write_text(path, "0");
}

static void child(const struct instance *inst, int lock)
{
    struct error err = {0};
    char text[800];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    worker_reset_signals();
    launch_enter_shims_cgroup(inst->contd);
    snprintf(text, sizeof(text), "%d\n", (int)getpid());
    put(inst, "shim.pid", text);
    /* Nothing of contd's is handed on but the lock. */
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    fcntl(lock, F_SETFD, 0);
    become_shim(inst, &err);
    snprintf(text, sizeof(text), "error %s\t%s\t%s\n", err.code, err.message, err.hint);
    put(inst, "exit", text);
    _exit(1);
}

/* ---- contd's side ---- */

int launch(struct instance *inst, struct error *err)
{
    char path[CONTD_PATH_MAX];

    store_path(inst, "lock", path);
    cleanup_close int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0)
        return error_set(err, errno, "container.busy", "try again",
                         "%s is held by another process: %s", path, strerror(errno));
    pid_t pid = fork();
    if (pid == 0)
        child(inst, lock);
    if (pid < 0)
        return error_set(err, errno, "container.start-failed", NULL, "no process: %s",
                         strerror(errno));
    inst->shim = pid;
    return 0;
}

void launch_explain(const struct instance *inst, const char *said, struct error *err)
{
    char path[CONTD_PATH_MAX], sentence[1024];
    cleanup_free char *log = NULL;
    size_t len;

    snprintf(sentence, sizeof(sentence), "%s", said);
    store_path(inst, "runc.log", path);
    if (sentence[0] == '\0' && file_read(path, RUNC_LOG_MAX, &log, &len) == 0)
        runc_error_last(log, len, sentence, sizeof(sentence));
    if (sentence[0] == '\0')
        error_set(err, EIO, "container.start-failed", "look at contd's log",
                  "the runtime gave no reason");
    else
        runc_error_translate(sentence, inst->spec.argv[0], err);
}
