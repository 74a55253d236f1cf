/*
 * bundle.c - see bundle.h. The defaults are Docker's (moby oci/defaults.go, daemon/oci_linux.go) unless a comment says why not.
 */
#include "container/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container/caps.h"
#include "container/seccomp.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CPU_PERIOD UINT64_C(100000) /* us, the kernel's default */
#define SHM_SIZE "67108864"
#define PTYS_MAX "256" /* of the 3,072 that all containers share (drivers/tty/pty.c, pty_limit) */

static yyjson_mut_val *strings(yyjson_mut_doc *doc, const char *const *list)
{
    yyjson_mut_val *array = yyjson_mut_arr(doc);

    for (; list != NULL && *list != NULL; list++)
        yyjson_mut_arr_add_str(doc, array, *list);
    return array;
}

/* ---- process ---- */

static void add_capabilities(yyjson_mut_doc *doc, yyjson_mut_val *process, uint64_t caps, bool root)
{
    /* Nothing is inheritable (CVE-2022-24769); a user other than root gets none but may not gain others either. */
    static const char *const sets[] = {"bounding", "effective", "permitted"};
    yyjson_mut_val *object = yyjson_mut_obj_add_obj(doc, process, "capabilities");

    for (size_t s = 0; s < (root ? COUNT(sets) : 1); s++) {
        yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, object, sets[s]);

        for (unsigned i = 0; i < CAPS_COUNT; i++) {
            if ((caps >> i & 1) != 0)
                yyjson_mut_arr_add_str(doc, list, caps_name(i));
        }
    }
}

static bool env_has(const char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (; env != NULL && *env != NULL; env++) {
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return true;
    }
    return false;
}

static void env_add(yyjson_mut_doc *doc, yyjson_mut_val *list, const struct bundle *bundle,
                    const char *name, const char *value)
{
    char text[512];

    if (env_has((const char *const *)bundle->spec->env, name))
        return;
    snprintf(text, sizeof(text), "%s=%s", name, value);
    yyjson_mut_arr_add_strcpy(doc, list, text);
}

static void add_process(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct bundle *bundle)
{
    static const struct {
        const char *type;
        uint64_t soft, hard;
    } limits[] = {
        {"RLIMIT_NOFILE", 1024, 524288}, /* what containerd and systemd give today */
        {"RLIMIT_CORE", 0, 0},           /* a dump would go to the host's core_pattern */
    };
    const struct container_user *user = bundle->user;
    yyjson_mut_val *process = yyjson_mut_obj_add_obj(doc, root, "process");
    yyjson_mut_val *ids = yyjson_mut_obj_add_obj(doc, process, "user");
    yyjson_mut_val *groups = yyjson_mut_obj_add_arr(doc, ids, "additionalGids");
    yyjson_mut_val *env = strings(doc, (const char *const *)bundle->spec->env);

    yyjson_mut_obj_add_bool(doc, process, "terminal", false);
    yyjson_mut_obj_add_uint(doc, ids, "uid", user->uid);
    yyjson_mut_obj_add_uint(doc, ids, "gid", user->gid);
    for (size_t i = 0; i < user->group_count; i++)
        yyjson_mut_arr_add_uint(doc, groups, user->groups[i]);
    yyjson_mut_obj_add_val(doc, process, "args",
                           strings(doc, (const char *const *)bundle->spec->argv));
    env_add(doc, env, bundle, "HOSTNAME", bundle->hostname);
    env_add(doc, env, bundle, "HOME", user->home);
    yyjson_mut_obj_add_val(doc, process, "env", env);
    yyjson_mut_obj_add_str(doc, process, "cwd", bundle->spec->cwd);
    add_capabilities(doc, process, bundle->spec->caps, user->uid == 0);
    yyjson_mut_val *rlimits = yyjson_mut_obj_add_arr(doc, process, "rlimits");
    for (size_t i = 0; i < COUNT(limits) && !bundle->no_limits; i++) {
        yyjson_mut_val *limit = yyjson_mut_arr_add_obj(doc, rlimits);

        yyjson_mut_obj_add_str(doc, limit, "type", limits[i].type);
        yyjson_mut_obj_add_uint(doc, limit, "soft", limits[i].soft);
        yyjson_mut_obj_add_uint(doc, limit, "hard", limits[i].hard);
    }
    /* As Docker: a set-user-id program gains no more than the container's own root, which is nobody on the node. */
    yyjson_mut_obj_add_bool(doc, process, "noNewPrivileges", false);
    /* When the node itself runs short, workloads go before the node's own programs. */
    yyjson_mut_obj_add_int(doc, process, "oomScoreAdj", 500);
}

/* ---- mounts ---- */

struct mount_row {
    const char *target, *type, *source, *options;
};

static const struct mount_row basic_mounts[] = {
    {"/proc", "proc", "proc", "nosuid,noexec,nodev"},
    {"/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"},
    {"/dev/pts", "devpts", "devpts",
     "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5,max=" PTYS_MAX},
    {"/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"},
    {"/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"},
    {"/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"},
    {"/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=" SHM_SIZE},
};

static void add_mount(yyjson_mut_doc *doc, yyjson_mut_val *list, const char *target,
                      const char *type, const char *source, const char *options)
{
    yyjson_mut_val *mount = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_val *words = yyjson_mut_arr(doc);

    yyjson_mut_obj_add_strcpy(doc, mount, "destination", target);
    yyjson_mut_obj_add_strcpy(doc, mount, "type", type);
    yyjson_mut_obj_add_strcpy(doc, mount, "source", source);
    for (const char *p = options; *p != '\0';) {
        size_t len = strcspn(p, ",");

        yyjson_mut_arr_add_strncpy(doc, words, p, len);
        p += len + (p[len] == ',');
    }
    yyjson_mut_obj_add_val(doc, mount, "options", words);
}

static bool is_mounted(const struct container_spec *spec, const char *target)
{
    for (size_t i = 0; i < spec->mount_count; i++) {
        if (strcmp(spec->mounts[i].target, target) == 0)
            return true;
    }
    for (size_t i = 0; i < spec->file_count; i++) {
        if (strcmp(spec->files[i].target, target) == 0)
            return true;
    }
    return false;
}

static void add_mounts(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct bundle *bundle)
{
    static const char *const etc[] = {"hosts", "hostname", "resolv.conf"};
    const struct container_spec *spec = bundle->spec;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "mounts");
    char source[4200], target[64];

    for (size_t i = 0; i < COUNT(basic_mounts); i++)
        add_mount(doc, list, basic_mounts[i].target, basic_mounts[i].type, basic_mounts[i].source,
                  basic_mounts[i].options);
    for (size_t i = 0; i < COUNT(etc); i++) {
        snprintf(source, sizeof(source), "%s/%s", bundle->etc, etc[i]);
        snprintf(target, sizeof(target), "/etc/%s", etc[i]);
        if (!is_mounted(spec, target))
            add_mount(doc, list, target, "bind", source, "bind,rprivate,nosuid,nodev,noexec");
    }
    /* idmap: the disk's 0 is the container's 0, so a volume fits any range. */
    for (size_t i = 0; i < spec->mount_count; i++) {
        const struct spec_mount *mount = &spec->mounts[i];

        if (mount->block) {
            snprintf(source, sizeof(source), "%s/%zu", bundle->devices, i);
            add_mount(doc, list, mount->target, "bind", source, "bind,rprivate,nosuid,noexec");
        } else {
            add_mount(doc, list, mount->target, "bind", mount->source,
                      mount->read_only ? "bind,idmap,rprivate,nosuid,nodev,ro"
                                       : "bind,idmap,rprivate,nosuid,nodev,rw");
        }
    }
    for (size_t i = 0; i < spec->tmpfs_count; i++) {
        uint64_t size = spec->tmpfs[i].size != 0 ? spec->tmpfs[i].size : spec->memory / 2;

        snprintf(source, sizeof(source), "nosuid,nodev,noexec,mode=1777,size=%llu",
                 (unsigned long long)size);
        add_mount(doc, list, spec->tmpfs[i].target, "tmpfs", "tmpfs", source);
    }
    for (size_t i = 0; i < spec->file_count; i++) {
        snprintf(source, sizeof(source), "%s/%zu", bundle->files, i);
        add_mount(doc, list, spec->files[i].target, "bind", source,
                  "bind,rprivate,nosuid,nodev,ro");
    }
}

/* ---- linux ---- */

static const char *const masked_paths[] = {
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    /* The boot parameters carry the farm's join token. */
    "/proc/cmdline",
    /* Of no use in a container, and telling much about the node. */
    "/proc/kallsyms",
    "/proc/config.gz",
    "/proc/mdstat",
    "/proc/partitions",
    "/proc/diskstats",
    "/proc/modules",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
    NULL,
};

static const char *const readonly_paths[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL,
};

static void add_namespaces(yyjson_mut_doc *doc, yyjson_mut_val *linux_, const struct bundle *bundle)
{
    const struct {
        const char *type, *path;
    } rows[] = {{"user", bundle->userns},
                {"network", bundle->netns},
                {"pid", NULL},
                {"mount", NULL},
                {"ipc", NULL},
                {"uts", NULL},
                {"cgroup", NULL}};
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, linux_, "namespaces");

    for (size_t i = 0; i < COUNT(rows); i++) {
        yyjson_mut_val *row = yyjson_mut_arr_add_obj(doc, list);

        yyjson_mut_obj_add_str(doc, row, "type", rows[i].type);
        if (rows[i].path != NULL)
            yyjson_mut_obj_add_str(doc, row, "path", rows[i].path);
    }
}

static void add_resources(yyjson_mut_doc *doc, yyjson_mut_val *linux_, const struct bundle *bundle)
{
    const struct container_spec *spec = bundle->spec;
    yyjson_mut_val *resources = yyjson_mut_obj_add_obj(doc, linux_, "resources");
    yyjson_mut_val *devices = yyjson_mut_obj_add_arr(doc, resources, "devices");
    yyjson_mut_val *all = yyjson_mut_arr_add_obj(doc, devices);

    /* The runtime adds null, zero, full, random, urandom, tty and ptmx. */
    yyjson_mut_obj_add_bool(doc, all, "allow", false);
    yyjson_mut_obj_add_str(doc, all, "access", "rwm");
    for (size_t i = 0; i < spec->mount_count; i++) {
        if (!spec->mounts[i].block)
            continue;
        yyjson_mut_val *device = yyjson_mut_arr_add_obj(doc, devices);
        yyjson_mut_obj_add_bool(doc, device, "allow", true);
        yyjson_mut_obj_add_str(doc, device, "type", "b");
        yyjson_mut_obj_add_uint(doc, device, "major", bundle->numbers[i].major);
        yyjson_mut_obj_add_uint(doc, device, "minor", bundle->numbers[i].minor);
        yyjson_mut_obj_add_str(doc, device, "access", spec->mounts[i].read_only ? "r" : "rw");
    }
    if (bundle->no_limits)
        return;
    yyjson_mut_val *cpu = yyjson_mut_obj_add_obj(doc, resources, "cpu");
    /* The kernel refuses less than 1 ms of a period. */
    uint64_t quota = spec->milli_cores * (CPU_PERIOD / 1000);
    yyjson_mut_obj_add_uint(doc, cpu, "quota", quota < 1000 ? 1000 : quota);
    yyjson_mut_obj_add_uint(doc, cpu, "period", CPU_PERIOD);
    yyjson_mut_val *memory = yyjson_mut_obj_add_obj(doc, resources, "memory");
    yyjson_mut_obj_add_uint(doc, memory, "limit", spec->memory);
    /* Memory and swap together: so memory.swap.max becomes 0. */
    yyjson_mut_obj_add_uint(doc, memory, "swap", spec->memory);
    yyjson_mut_val *pids = yyjson_mut_obj_add_obj(doc, resources, "pids");
    yyjson_mut_obj_add_uint(doc, pids, "limit", spec->pids);
}

static int add_linux(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct bundle *bundle,
                     struct error *err)
{
    yyjson_mut_val *linux_ = yyjson_mut_obj_add_obj(doc, root, "linux");

    add_namespaces(doc, linux_, bundle);
    add_resources(doc, linux_, bundle);
    yyjson_mut_obj_add_str(doc, linux_, "cgroupsPath", bundle->cgroup);
    yyjson_mut_obj_add_val(doc, linux_, "maskedPaths", strings(doc, masked_paths));
    yyjson_mut_obj_add_val(doc, linux_, "readonlyPaths", strings(doc, readonly_paths));
    if (bundle->seccomp != NULL) {
        yyjson_mut_val *seccomp;
        int ret = seccomp_resolve(bundle->seccomp, bundle->spec->caps, bundle->kernel, doc,
                                  &seccomp, err);

        if (ret < 0)
            return ret;
        yyjson_mut_obj_add_val(doc, linux_, "seccomp", seccomp);
    }
    return 0;
}

int bundle_config(const struct bundle *bundle, char **ret_json, size_t *ret_len, struct error *err)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = doc != NULL ? yyjson_mut_obj(doc) : NULL;

    if (root == NULL) {
        yyjson_mut_doc_free(doc);
        return -ENOMEM;
    }
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "ociVersion", "1.2.0");
    yyjson_mut_obj_add_str(doc, root, "hostname", bundle->hostname);
    yyjson_mut_val *rootfs = yyjson_mut_obj_add_obj(doc, root, "root");
    yyjson_mut_obj_add_str(doc, rootfs, "path", bundle->spec->rootfs);
    yyjson_mut_obj_add_bool(doc, rootfs, "readonly", bundle->spec->read_only);
    add_process(doc, root, bundle);
    add_mounts(doc, root, bundle);
    int ret = add_linux(doc, root, bundle, err);
    if (ret == 0) {
        /* Strings of the image may hold any bytes; what is no UTF-8 cannot be written as JSON. */
        *ret_json = yyjson_mut_write(doc, 0, ret_len);
        if (*ret_json == NULL)
            ret = error_set(err, EINVAL, SPEC_BAD, NULL,
                            "the specification cannot be written as JSON");
    }
    yyjson_mut_doc_free(doc);
    return ret;
}
