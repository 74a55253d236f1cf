/*
 * command_job.c - work that syncs or rebuilds, on one thread beside the workers: NSNEW, NSDEL, NSSET, FLUSH, RELOAD.
 *
 * A job belongs to its thread from command_job_start() until it is posted back; then to the worker. A session that ends
 * meanwhile leaves the job behind, which is freed when it comes back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

struct command_jobs {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct command_job *first, **last; /* under lock */
    bool stop;                         /* under lock */
};

static void job_free(struct command_job *job)
{
    if (job->ns != NULL)
        store_namespace_put(job->ns);
    free(job);
}

static void job_back(struct worker *worker, void *data, uint64_t argument)
{
    struct command_job *job = data;

    (void)worker;
    (void)argument;
    job->done = true;
    if (job->session == NULL)
        job_free(job);
    else
        session_wake(job->session);
}

static void *jobs_main(void *data)
{
    struct command_jobs *jobs = data;

    pthread_mutex_lock(&jobs->lock);
    for (;;) {
        struct command_job *job = jobs->first;

        if (job == NULL && jobs->stop)
            break;
        if (job == NULL) {
            pthread_cond_wait(&jobs->more, &jobs->lock);
            continue;
        }
        jobs->first = job->next;
        if (jobs->first == NULL)
            jobs->last = &jobs->first;
        pthread_mutex_unlock(&jobs->lock);
        job->result = job->work(job);
        /* without memory for the post nobody would ever answer: try until there is some */
        while (worker_post(job->worker, job_back, job, 0) == -ENOMEM)
            sched_yield();
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

int command_jobs_start(struct server *server, struct error *err)
{
    struct command_jobs *jobs = calloc(1, sizeof(*jobs));
    int r = ENOMEM;

    if (jobs != NULL) {
        pthread_mutex_init(&jobs->lock, NULL);
        pthread_cond_init(&jobs->more, NULL);
        jobs->last = &jobs->first;
        r = pthread_create(&jobs->thread, NULL, jobs_main, jobs);
    }
    if (r != 0) {
        free(jobs);
        return error_set(err, r, "kv.no-worker", "", "a thread cannot start: %s", strerror(r));
    }
    server->jobs = jobs;
    return 0;
}

void command_jobs_stop(struct server *server)
{
    struct command_jobs *jobs = server->jobs;

    if (jobs == NULL)
        return;
    pthread_mutex_lock(&jobs->lock);
    jobs->stop = true;
    pthread_cond_signal(&jobs->more);
    pthread_mutex_unlock(&jobs->lock);
    pthread_join(jobs->thread, NULL);
    pthread_cond_destroy(&jobs->more);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
    server->jobs = NULL;
}

enum command_result command_job_start(struct session *s, struct command_job *job)
{
    struct command_jobs *jobs = s->worker->server->jobs;

    job->store = s->worker->server->store;
    job->worker = s->worker;
    job->session = s;
    s->job = job;
    s->wait_until = UINT64_MAX;
    pthread_mutex_lock(&jobs->lock);
    *jobs->last = job;
    jobs->last = &job->next;
    pthread_cond_signal(&jobs->more);
    pthread_mutex_unlock(&jobs->lock);
    return COMMAND_WAIT;
}

bool command_job_done(struct session *s, int *ret_result)
{
    struct command_job *job = s->job;

    if (job == NULL || !job->done)
        return false;
    *ret_result = job->result;
    s->job = NULL;
    job_free(job);
    return true;
}

void command_job_abandon(struct session *s)
{
    struct command_job *job = s->job;

    s->job = NULL;
    if (job != NULL && job->done)
        job_free(job);
    else if (job != NULL)
        job->session = NULL; /* freed when it comes back */
}
