/*
 * volume_job.h - what has to wait until a volume's data is written: a snapshot, and a smaller size. How much that is, and how slow
 * its disk, is the tenant's doing, so a child process waits and storaged goes on.
 *
 * Invariants
 *  1. One job per volume. What would change the volume under it is refused meanwhile: storage.busy, and is asked again.
 *  2. A job only makes something new, or nothing: all that counts is read from the disk again when it has ended.
 */
#pragma once

#include <stdbool.h>

#include "snapshot.h"
#include "storage.h"

#define VOLUME_JOBS_MAX 32 /* at once; one more is storage.busy */

struct volume_job;

/* In the child: 0 or -errno (at least -255). The volume is as it was when the job began. */
typedef int volume_job_run(const struct volume *volume, const char *name);
/* In storaged: the child ended with that result, -ECANCELED when it was killed. The job is no more; its pool may be none either. */
typedef void volume_job_done(struct storage *storage, const struct volume_job *job, int result);

struct volume_job {
    struct volume_job *next;
    struct storage *storage;
    struct volume volume; /* its pool is for the child only */
    char name[SNAPSHOT_NAME_MAX + 1];
    volume_job_done *done;
    struct varlink_call *call; /* NULL: nobody asked */
    varlink_method_fn *method; /* of the call, with these parameters, which live as long as it */
    yyjson_val *params;
    struct loop_child *child;
};

/* Begins `run` in a child. `job` gives volume, name, done and call; it is copied. storage.busy, storage.failed. */
int volume_job_begin(struct storage *storage, const struct volume_job *job, volume_job_run *run,
                     struct error *err);
/* Whether that volume can be changed now: 0, or storage.busy while a job is at it or its disk is late (silent.h). */
int volume_job_check(const struct storage *storage, const struct volume *volume, struct error *err);
