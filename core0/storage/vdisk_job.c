/*
 * vdisk_job.c - virtual disks, the daemon's side: one child per task, one task at a time per disk. See vdisk.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "lib/crypto/hash.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vdisk.h"

#define TRIM_EVERY_US ((uint64_t)24 * 3600 * 1000000)

struct vdisk_job {
    struct vdisk_job *next;
    struct storage *storage;
    struct vdisk_task task;
    struct varlink_call *call; /* NULL: nobody asked */
    bool created;              /* its volume was made for this call */
    pid_t pid;                 /* 0: it waits */
    int fd;                    /* gives one struct vdisk_result */
    struct loop_child *child;
};

static void advance(struct storage *storage);

/* ---- the end of a job ---- */

static void answer(const struct vdisk_job *job, const struct vdisk_result *result)
{
    if (job->call == NULL) {
        if (result->status < 0)
            log_warn("virtual disk %s: %s", job->task.id, result->err.message);
        return;
    }
    if (result->status < 0) {
        varlink_call_fail(job->call, &result->err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    if (job->task.op == VDISK_ENSURE)
        yyjson_mut_obj_add_bool(doc, root, "created", job->created);
    if (job->task.op == VDISK_ATTACH) {
        yyjson_mut_obj_add_strcpy(doc, root, "path", result->path);
        yyjson_mut_obj_add_bool(doc, root, "block", strcmp(job->task.form.filesystem, "raw") == 0);
    }
    varlink_call_reply(job->call, doc);
}

static void finish(struct vdisk_job *job, const struct vdisk_result *result)
{
    struct storage *storage = job->storage;
    struct vdisk_job **at = &storage->vdisk_jobs;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    answer(job, result);
    crypto_wipe(&job->task, sizeof(job->task));
    free(job);
    advance(storage);
}

static void fail(struct vdisk_job *job, int r, const char *what)
{
    struct vdisk_result result = {.status = r};
    error_set(&result.err, -r, "storage.failed", "see the log of storaged", "%s: %s", what,
              strerror(-r));
    finish(job, &result);
}

static void ended(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct vdisk_job *job = data;
    struct vdisk_result result;
    (void)child;
    (void)pid;
    ssize_t len = read(job->fd, &result, sizeof(result));
    close(job->fd);
    if (len != (ssize_t)sizeof(result)) {
        log_warn("virtual disk %s: the work on it ended with status %d", job->task.id, status);
        fail(job, -EIO, "the work on the virtual disk was cut off");
        return;
    }
    finish(job, &result);
}

/* ---- its beginning ---- */

static int begin(struct vdisk_job *job)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        struct vdisk_result result;
        /* Half made is made whole by our successor; it must not find us still at it. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        vdisk_run(&job->task, &result);
        /* Smaller than PIPE_BUF: it arrives whole or not at all. */
        _Static_assert(sizeof(struct vdisk_result) < 4096, "one write");
        _exit(file_write_all(fds[1], &result, sizeof(result)) < 0);
    }
    int r = pid < 0 ? -errno : 0;
    close(fds[1]);
    if (r == 0)
        r = loop_child_add(daemon_loop(job->storage->daemon), pid, ended, job, &job->child);
    if (r < 0) {
        if (pid > 0)
            (void)kill(pid, SIGKILL);
        close(fds[0]);
        return r;
    }
    crypto_wipe(job->task.key, sizeof(job->task.key));
    job->pid = pid;
    job->fd = fds[0];
    return 0;
}

/* Nothing is done to a disk while something else is, and nothing at all before the recovery. */
static bool must_wait(const struct vdisk_job *job)
{
    for (const struct vdisk_job *before = job->storage->vdisk_jobs; before != job;
         before = before->next)
        if (before->task.op == VDISK_RECOVER || strcmp(before->task.id, job->task.id) == 0)
            return true;
    return false;
}

static void advance(struct storage *storage)
{
    for (struct vdisk_job *job = storage->vdisk_jobs; job != NULL; job = job->next) {
        if (job->pid != 0 || must_wait(job))
            continue;
        int r = begin(job);
        if (r < 0) {
            fail(job, r, "no process for the work on the virtual disk");
            return; /* that went on with the others */
        }
    }
}

void vdisk_do(struct storage *storage, struct vdisk_task *task, bool created,
              struct varlink_call *call)
{
    struct vdisk_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        struct error err = {0};
        error_set(&err, ENOMEM, "storage.no-memory", "", "no memory");
        crypto_wipe(task->key, sizeof(task->key));
        if (call != NULL)
            varlink_call_fail(call, &err);
        return;
    }
    job->storage = storage;
    job->task = *task;
    job->call = call;
    job->created = created;
    crypto_wipe(task->key, sizeof(task->key));
    struct vdisk_job **at = &storage->vdisk_jobs;
    while (*at != NULL)
        at = &(*at)->next;
    *at = job;
    advance(storage);
}

int vdisk_idle(const struct storage *storage, const char *key, struct error *err)
{
    char id[VDISK_ID_SIZE];
    char holder[VDISK_HOLDER_MAX + 1];
    vdisk_id(key, id);
    for (const struct vdisk_job *job = storage->vdisk_jobs; job != NULL; job = job->next)
        if (strcmp(job->task.id, id) == 0)
            return error_set(err, EBUSY, "storage.busy", "try again",
                             "something is being done to virtual disk %s", key);
    if (vdisk_holder(id, holder) == 0)
        return error_set(err, EBUSY, "storage.in-use", "detach it first",
                         "virtual disk %s is attached to %s", key, holder);
    return 0;
}

/* ---- by itself ---- */

static int trim_one(const struct volume *volume, void *data)
{
    struct vdisk_task task = {.op = VDISK_TRIM};
    char holder[VDISK_HOLDER_MAX + 1];
    if (!volume_is_disk(volume) || strcmp(volume->form.filesystem, "raw") == 0)
        return 0;
    vdisk_id(volume->key, task.id);
    if (vdisk_holder(task.id, holder) == 0)
        vdisk_do(data, &task, false, NULL);
    return 0;
}

static void trim_all(struct loop_timer *timer, void *data)
{
    struct storage *storage = data;
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next)
        (void)volume_each(pool, trim_one, storage);
    loop_timer_in(timer, TRIM_EVERY_US);
}

void vdisk_start(struct storage *storage)
{
    struct vdisk_task task = {.op = VDISK_RECOVER};
    vdisk_do(storage, &task, false, NULL);
    if (loop_timer_add(daemon_loop(storage->daemon), trim_all, storage, &storage->vdisk_timer) == 0)
        loop_timer_in(storage->vdisk_timer, TRIM_EVERY_US);
}

void vdisk_stop(void)
{
    struct vdisk_task task = {.op = VDISK_STOP};
    struct vdisk_result result;
    vdisk_run(&task, &result);
}
