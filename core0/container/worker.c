/*
 * worker.c - see worker.h.
 */
#include "container/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Below PIPE_BUF: written whole or not at all. */
struct worker_result {
    int result;
    struct error err;
};

struct worker {
    struct loop_child *child;
    struct loop_timer *timer;
    pid_t pid;
    int pipe;
    worker_done_fn *done;
    void *data;
};

void worker_reset_signals(void)
{
    sigset_t none;

    for (int signo = 1; signo < 32; signo++)
        signal(signo, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void worker_free(struct worker *worker)
{
    loop_child_del(worker->child);
    loop_timer_del(worker->timer);
    close(worker->pipe);
    free(worker);
}

static void worker_ended(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct worker *worker = data;
    worker_done_fn *done = worker->done;
    void *done_data = worker->data;
    struct worker_result result;
    struct error err = {0};

    (void)child;
    (void)pid;
    worker->child = NULL;
    if (read(worker->pipe, &result, sizeof(result)) != (ssize_t)sizeof(result)) {
        error_set(&err, EIO, "container.internal", "look at contd's log",
                  "a helper process ended with status 0x%x and no result", status);
        result.result = -EIO;
    } else {
        err = result.err;
    }
    worker_free(worker);
    done(result.result, &err, done_data);
}

/* Its end is reported as that of any other child. */
static void worker_late(struct loop_timer *timer, void *data)
{
    struct worker *worker = data;

    (void)timer;
    kill(worker->pid, SIGKILL);
}

int worker_start(struct loop *loop, worker_fn *fn, void *data, uint64_t timeout_us,
                 worker_done_fn *done, void *done_data, struct worker **ret_worker,
                 struct error *err)
{
    int pipes[2];
    struct worker *worker = calloc(1, sizeof(*worker));

    if (worker == NULL || pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0) {
        free(worker);
        return error_set(err, ENOMEM, "container.internal", NULL, "no helper process: %s",
                         strerror(errno));
    }
    worker->pipe = pipes[0];
    worker->done = done;
    worker->data = done_data;
    worker->pid = fork();
    if (worker->pid == 0) {
        struct worker_result result = {0};

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        worker_reset_signals();
        result.result = fn(data, &result.err);
        (void)!write(pipes[1], &result, sizeof(result));
        _exit(0);
    }
    close(pipes[1]);
    int ret = worker->pid < 0
                  ? -errno
                  : loop_child_add(loop, worker->pid, worker_ended, worker, &worker->child);
    if (ret == 0)
        ret = loop_timer_add(loop, worker_late, worker, &worker->timer);
    if (ret < 0) {
        if (worker->pid > 0)
            kill(worker->pid, SIGKILL);
        worker_free(worker);
        return error_set(err, -ret, "container.internal", NULL, "no helper process: %s",
                         strerror(-ret));
    }
    loop_timer_set(worker->timer, loop_clock() + timeout_us);
    *ret_worker = worker;
    return 0;
}

void worker_cancel(struct worker *worker)
{
    if (worker == NULL)
        return;
    loop_child_del(worker->child);
    worker->child = NULL;
    kill(worker->pid, SIGKILL);
    while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    worker_free(worker);
}
