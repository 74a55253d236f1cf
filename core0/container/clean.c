/*
 * clean.c - makes and removes what belongs to an instance; blocking, run in a worker (worker.h).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/contd.h"
#include "container/namespaces.h"
#include "lib/file.h"
#include "lib/process.h"

#define EMPTY_MS 20000 /* processes in the middle of disk I/O take their time to die */

/* ---- a run ---- */

/* What one run leaves: processes, runc's state, the cgroup, the mounts of the bundle. */
int clean_run(struct instance *inst, struct error *err)
{
    static const char *const mounts[] = {"etc", "files", "devices"};
    static const char *const files[] = {"shim.pid",   "pid",      "started", "config.json",
                                        "health.pid", "runc.log", "exit"};
    const struct contd_options *opt = &inst->contd->opt;
    const char *const argv[] = {opt->runc,      "--root", opt->runc_root, "delete", "--force",
                                inst->key.name, NULL};
    struct process_options options = {.timeout_us = 30 * UINT64_C(1000000)};
    char path[CONTD_PATH_MAX];

    store_cgroup(inst, path);
    /* First all processes: a container whose state runc lost would otherwise run on. */
    cgroup_kill(path);
    snprintf(path, sizeof(path), "%s/%s", opt->runc_root, inst->key.name);
    if (access(path, F_OK) == 0)
        process_check(argv, &options, "container.delete-failed", err);
    file_remove_tree(path);
    error_clear(err);
    store_cgroup(inst, path);
    int ret = cgroup_destroy(path, EMPTY_MS);
    if (ret < 0)
        error_set(err, -ret, "container.not-removed", "the node may need a reboot",
                  "the cgroup of %s stays: %s", inst->key.name, strerror(-ret));
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        store_path(inst, mounts[i], path);
        umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        store_path(inst, files[i], path);
        unlink(path);
    }
    return ret;
}

/* ---- an instance ---- */

int clean_instance(struct instance *inst, struct error *err)
{
    static const char *const pins[] = {"netns", "userns"};
    char path[CONTD_PATH_MAX];
    int ret = clean_run(inst, err);

    if (ret < 0)
        return ret;
    for (size_t i = 0; i < sizeof(pins) / sizeof(pins[0]); i++) {
        store_path(inst, pins[i], path);
        namespaces_unpin(path);
    }
    if (!inst->keep_log) {
        store_log(inst, path);
        file_remove_tree(path);
    }
    /* Without instance.json the folder is half-made, and so is removed by whoever comes next. */
    store_path(inst, "instance.json", path);
    unlink(path);
    store_path(inst, "", path);
    ret = file_remove_tree(path);
    if (ret < 0 && ret != -ENOENT)
        return error_set(err, -ret, "container.not-removed", NULL, "removing %s: %s", path,
                         strerror(-ret));
    /* The reservation's own cgroup goes with its last instance. */
    snprintf(path, sizeof(path), "%s%s/%llu", inst->contd->opt.cgroup_mount,
             inst->contd->opt.cgroup, (unsigned long long)inst->key.reservation);
    rmdir(path);
    return 0;
}

/* Another instance of the reservation already has the user namespace: all share one. */
static const struct instance *find_sibling(const struct instance *inst)
{
    for (const struct instance *other = inst->contd->instances; other != NULL;
         other = other->next) {
        if (other != inst && other->key.reservation == inst->key.reservation &&
            other->phase != PHASE_PREPARING && other->phase != PHASE_REMOVING)
            return other;
    }
    return NULL;
}

int clean_prepare(struct instance *inst, struct error *err)
{
    const struct instance *sibling = find_sibling(inst);
    char dir[CONTD_PATH_MAX], userns[CONTD_PATH_MAX], netns[CONTD_PATH_MAX],
        existing[CONTD_PATH_MAX], cgroup[CONTD_PATH_MAX];

    store_path(inst, "", dir);
    store_path(inst, "userns", userns);
    store_path(inst, "netns", netns);
    if (sibling != NULL)
        store_path(sibling, "userns", existing);
    /* 0711: the runtime reaches the bundle's files as the range's root. */
    int ret = file_mkdirs(dir, 0711);
    if (ret < 0)
        return error_set(err, -ret, "container.prepare-failed", NULL, "making %s: %s", dir,
                         strerror(-ret));
    snprintf(cgroup, sizeof(cgroup), "%s%s/%llu", inst->contd->opt.cgroup_mount,
             inst->contd->opt.cgroup, (unsigned long long)inst->key.reservation);
    ret = cgroup_make(cgroup);
    if (ret < 0)
        return error_set(err, -ret, "container.prepare-failed", NULL, "making %s: %s", cgroup,
                         strerror(-ret));
    ret = namespaces_pin(sibling != NULL ? existing : NULL, inst->uid_base, inst->uid_count, userns,
                         netns, err);
    if (ret < 0)
        return ret;
    ret = store_save_instance(inst);
    return ret < 0 ? error_set(err, -ret, "container.prepare-failed", NULL, "%s/instance.json: %s",
                               dir, strerror(-ret))
                   : 0;
}
