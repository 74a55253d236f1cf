/*
 * volume_job.c - see volume_job.h.
 */
#include "volume_job.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "silent.h"

static void ended(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct volume_job *job = data;
    struct volume_job **at = &job->storage->volume_jobs;
    (void)child;
    (void)pid;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    job->done(job->storage, job, WIFEXITED(status) ? -WEXITSTATUS(status) : -ECANCELED);
    free(job);
}

int volume_job_check(const struct storage *storage, const struct volume *volume, struct error *err)
{
    for (const struct volume_job *job = storage->volume_jobs; job != NULL; job = job->next)
        if (strcmp(job->volume.key, volume->key) == 0)
            return error_set(err, EBUSY, "storage.busy", "try again; a node asks again by itself",
                             "the data of volume %s is being written", volume->key);
    return silent_check(storage, volume->pool, err);
}

static int begin(struct volume_job *job, volume_job_run *run)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        /* Half made is made whole by our successor; it must not find us still at it. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(getppid() == parent ? -run(&job->volume, job->name) : EIO);
    }
    int r = pid < 0
                ? -errno
                : loop_child_add(daemon_loop(job->storage->daemon), pid, ended, job, &job->child);
    if (r < 0 && pid > 0)
        (void)kill(pid, SIGKILL);
    return r;
}

int volume_job_begin(struct storage *storage, const struct volume_job *job, volume_job_run *run,
                     struct error *err)
{
    size_t count = 0;
    int r = volume_job_check(storage, &job->volume, err);
    for (const struct volume_job *other = storage->volume_jobs; other != NULL; other = other->next)
        count++;
    if (r == 0 && count >= VOLUME_JOBS_MAX)
        r = error_set(err, EBUSY, "storage.busy", "try again; a node asks again by itself",
                      "the data of %zu volumes is being written already", count);
    if (r < 0)
        return r;
    struct volume_job *own = malloc(sizeof(*own));
    r = own == NULL ? -ENOMEM : 0;
    if (r == 0) {
        *own = *job;
        own->storage = storage;
        r = begin(own, run);
    }
    if (r < 0) {
        free(own);
        return error_set(err, -r, "storage.failed", "see the log of storaged",
                         "no process for the work on volume %s: %s", job->volume.key, strerror(-r));
    }
    own->next = storage->volume_jobs;
    storage->volume_jobs = own;
    return 0;
}
