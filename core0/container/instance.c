/*
 * instance.c - the life of one instance: phases, and the one function that takes the next step.
 *
 * Everything is level-triggered: wishes (wanted, again, removing) and what the shim has written are looked at anew each
 * time, so that it does not matter whether contd was there when something happened.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/contd.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/notify.h"

#define SECOND UINT64_C(1000000)
#define START_TIMEOUT (60 * SECOND) /* from the shim's start to the container's first process */
#define WORKER_TIMEOUT (60 * SECOND)
#define BACKOFF_FIRST (SECOND / 10)
#define BACKOFF_MAX (60 * SECOND)
#define CALM (10 * SECOND)         /* a run of this length starts the back-off anew */
#define KILL_TIMEOUT (20 * SECOND) /* from SIGKILL to the shim's word */
#define EXIT_FILE_MAX 2048

static void instance_end(struct instance *inst);

static void set_last(struct instance *inst, const char *code, const char *message, const char *hint)
{
    error_clear(&inst->last);
    if (code != NULL)
        error_set(&inst->last, EIO, code, hint, "%s", message);
}

/* ---- prepare ---- */

static void prepare_done(int result, const struct error *err, void *data)
{
    struct instance *inst = data;
    struct contd *contd = inst->contd;
    uint64_t reservation = inst->key.reservation;

    inst->worker = NULL;
    if (result < 0) {
        log_error(err, inst->key.name);
        waiting_answer(inst, WAITING_PREPARE, err);
        /* Whoever waits to see it gone sees it gone. */
        waiting_answer(inst, WAITING_REMOVE, NULL);
        instance_free(inst);
        watch_changed(contd);
    } else {
        char path[CONTD_PATH_MAX];

        store_path(inst, "", path);
        inst->watch = inotify_add_watch(contd->inotify, path, IN_MOVED_TO);
        inst->phase = PHASE_PREPARED;
        instance_changed(inst);
        waiting_answer(inst, WAITING_PREPARE, NULL);
        instance_advance(inst);
    }
    /* Those of the same reservation waited, so as to share its user namespace. */
    for (struct instance *other = contd->instances; other != NULL; other = other->next) {
        if (other->phase == PHASE_PREPARING && other->worker == NULL &&
            other->key.reservation == reservation) {
            instance_prepare(other);
            break;
        }
    }
}

static int prepare_work(void *data, struct error *err)
{
    struct instance *inst = data;
    int ret = clean_prepare(inst, err);

    if (ret < 0)
        clean_instance(inst, NULL);
    return ret;
}

void instance_prepare(struct instance *inst)
{
    struct error err = {0};

    inst->phase = PHASE_PREPARING;
    for (struct instance *other = inst->contd->instances; other != NULL; other = other->next) {
        if (other != inst && other->phase == PHASE_PREPARING && other->worker != NULL &&
            other->key.reservation == inst->key.reservation)
            return;
    }
    if (worker_start(inst->contd->loop, prepare_work, inst, WORKER_TIMEOUT, prepare_done, inst,
                     &inst->worker, &err) < 0)
        prepare_done(-EIO, &err, inst);
}

/* ---- start ---- */

static void shim_ended(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct instance *inst = data;

    (void)child;
    (void)pid;
    (void)status;
    inst->shim_child = NULL;
    instance_refresh(inst, true);
}

static void start_failed(struct instance *inst, const struct error *err)
{
    inst->last = *err;
    inst->failed = true;
    instance_end(inst);
}

static void instance_launch(struct instance *inst)
{
    struct error err = {0};

    inst->phase = PHASE_STARTING;
    inst->launched = true;
    inst->signalled = false;
    inst->again = false;
    inst->has_exit = false;
    instance_changed(inst);
    if (launch(inst, &err) < 0) {
        start_failed(inst, &err);
        return;
    }
    int ret = loop_child_add(inst->contd->loop, inst->shim, shim_ended, inst, &inst->shim_child);
    if (ret < 0)
        log_err("%s: its shim cannot be watched: %s", inst->key.name, strerror(-ret));
    loop_timer_set(inst->timer, loop_clock() + START_TIMEOUT);
}

void instance_started(struct instance *inst, pid_t pid, bool adopted)
{
    inst->phase = PHASE_RUNNING;
    inst->pid = pid;
    inst->ran = true;
    inst->failed = false;
    if (!adopted)
        inst->started_at = loop_clock();
    loop_timer_stop(inst->timer);
    if (!adopted) {
        notify_event("process",
                     "\"reservation\":%" PRIu64 ",\"revision\":%" PRIu64
                     ",\"service\":\"%s\",\"pid\":%d",
                     inst->key.reservation, inst->key.revision, inst->key.service, (int)pid);
        log_info("%s: runs as process %d", inst->key.name, (int)pid);
    }
    /* Why it was started again stays visible until it has run for a while. */
    if (inst->restarts == 0)
        set_last(inst, NULL, NULL, NULL);
    else
        loop_timer_set(inst->timer, inst->started_at + CALM);
    waiting_answer(inst, WAITING_START, NULL);
    waiting_answer(inst, WAITING_RESTART, NULL);
    health_begin(inst, adopted);
    instance_changed(inst);
}

/* ---- what the shim says ---- */

static int read_word(const struct instance *inst, const char *file, char text[EXIT_FILE_MAX])
{
    char path[CONTD_PATH_MAX];
    cleanup_free char *data = NULL;
    size_t len;

    store_path(inst, file, path);
    int ret = file_read(path, EXIT_FILE_MAX - 1, &data, &len);
    if (ret < 0)
        return ret;
    memcpy(text, data, len + 1);
    return 0;
}

/* "error <code> TAB <message> TAB <hint> LF", from launch.c's child */
static void read_error(char *text, struct error *err)
{
    char *message = strchr(text, '\t'), *hint = message != NULL ? strchr(message + 1, '\t') : NULL;

    text[strcspn(text, "\n")] = '\0';
    if (hint == NULL) {
        error_set(err, EIO, "container.start-failed", NULL, "the container could not be started");
        return;
    }
    *message = *hint = '\0';
    error_set(err, EIO, text, hint + 1, "%s", message + 1);
}

static void instance_exited(struct instance *inst, char *text)
{
    struct error err = {0};
    struct error limit = {0};
    char message[200];
    bool limited = limits_reached(inst, &limit);

    if (strncmp(text, "exit ", 5) == 0) {
        inst->has_exit = true;
        inst->exit_status = (int)(strtoul(text + 5, NULL, 10) & 255);
        inst->failed = inst->exit_status != 0 && inst->wanted && !inst->again;
        if (limited && inst->exit_status != 0) {
            set_last(inst, limit.code, limit.message, limit.hint);
        } else if (!inst->failed) {
            set_last(inst, NULL, NULL, NULL);
        } else {
            snprintf(message, sizeof(message), "it ended with status %d", inst->exit_status);
            set_last(inst, "container.exited", message, "read its log");
        }
        log_info("%s: ended with status %d%s", inst->key.name, inst->exit_status,
                 limited ? ", a limit was reached" : "");
        instance_end(inst);
        return;
    }
    if (strncmp(text, "error ", 6) == 0)
        read_error(text + 6, &err);
    else if (limited && strcmp(limit.code, "container.oom-killed") == 0)
        error_set(&err, ENOMEM, "container.oom-killed", "give the service more memory",
                  "its memory limit of %" PRIu64 " MiB is too small to start it",
                  inst->spec.memory >> 20);
    else
        launch_explain(inst, text + strcspn(text, "\n") + (strchr(text, '\n') != NULL), &err);
    log_error(&err, inst->key.name);
    start_failed(inst, &err);
}

void instance_refresh(struct instance *inst, bool shim_gone)
{
    char text[EXIT_FILE_MAX];

    if (inst->phase != PHASE_STARTING && inst->phase != PHASE_RUNNING)
        return;
    if (inst->phase == PHASE_STARTING && read_word(inst, "started", text) == 0) {
        long pid = strtol(text, NULL, 10);

        if (pid > 1)
            instance_started(inst, (pid_t)pid, false);
        instance_advance(inst);
    }
    if (inst->phase != PHASE_STARTING && inst->phase != PHASE_RUNNING)
        return;
    if (read_word(inst, "exit", text) == 0) {
        instance_exited(inst, text);
    } else if (shim_gone) {
        /* Nobody reads the container's streams any more, and nobody will know how it ends. */
        set_last(inst, "container.shim-lost", "the process that kept it was killed", NULL);
        log_warn("%s: its shim is gone", inst->key.name);
        inst->failed = true;
        inst->has_exit = true;
        inst->exit_status = 137;
        instance_end(inst);
    }
}

/* ---- end ---- */

static uint64_t backoff(const struct instance *inst)
{
    uint64_t delay = BACKOFF_FIRST;

    for (unsigned i = 1; i < inst->attempts && delay < BACKOFF_MAX; i++)
        delay *= 2;
    return delay < BACKOFF_MAX ? delay : BACKOFF_MAX;
}

/* True when the policy starts it once more. */
static bool policy_again(const struct instance *inst)
{
    switch (inst->spec.restart) {
    case RESTART_NO:
        return false;
    case RESTART_ALWAYS:
    case RESTART_UNLESS_STOPPED:
        return true;
    case RESTART_ON_FAILURE:
        return inst->failed &&
               (inst->spec.max_retries == 0 || inst->attempts < inst->spec.max_retries);
    }
    return false;
}

/* The first start of all failed: as if it had never been asked for, so that nothing half-made stays. */
static void forget_start(struct instance *inst)
{
    char path[CONTD_PATH_MAX];

    store_path(inst, "start.json", path);
    unlink(path);
    free(inst->start);
    inst->start = NULL;
    container_spec_done(&inst->spec);
    inst->wanted = inst->stopped = false;
    inst->phase = PHASE_PREPARED;
}

static void decide_after_end(struct instance *inst)
{
    struct error last = inst->last;
    bool ran = inst->ran;

    if (inst->again && inst->wanted) {
        inst->phase = PHASE_ENDED;
        inst->restarts++;
        inst->attempts = 0;
        instance_changed(inst);
        return;
    }
    if (!ran) {
        forget_start(inst);
    } else if (inst->wanted && policy_again(inst)) {
        inst->phase = PHASE_WAITING;
        inst->restarts++;
        inst->attempts++;
        loop_timer_set(inst->timer, loop_clock() + backoff(inst));
    } else {
        inst->wanted = false;
        inst->phase = PHASE_ENDED;
    }
    instance_changed(inst);
    /* A repeated Start of one that has run before changes nothing, so it succeeds. */
    waiting_answer(inst, WAITING_START, ran ? NULL : &last);
    waiting_answer(inst, WAITING_RESTART, &last);
}

static void clean_done(int result, const struct error *err, void *data)
{
    struct instance *inst = data;

    inst->worker = NULL;
    if (result < 0)
        log_error(err, inst->key.name);
    inst->launched = false;
    decide_after_end(inst);
    instance_advance(inst);
}

static int clean_work(void *data, struct error *err)
{
    return clean_run(data, err);
}

/* The run is over: whatever is left of it goes. */
static void instance_end(struct instance *inst)
{
    struct error err = {0};

    if (inst->phase == PHASE_RUNNING && loop_clock() - inst->started_at >= CALM)
        inst->attempts = 0;
    health_end(inst);
    instance_forget_shim(inst);
    loop_timer_stop(inst->timer);
    inst->phase = PHASE_CLEANING;
    instance_changed(inst);
    if (worker_start(inst->contd->loop, clean_work, inst, WORKER_TIMEOUT, clean_done, inst,
                     &inst->worker, &err) < 0)
        clean_done(-EIO, &err, inst);
}

/* ---- stop and removal ---- */

static void kill_all(struct instance *inst)
{
    char cgroup[CONTD_PATH_MAX];

    store_cgroup(inst, cgroup);
    if (cgroup_kill(cgroup) < 0 && inst->pid > 1)
        kill(inst->pid, SIGKILL);
}

static void instance_signal(struct instance *inst)
{
    if (inst->signalled)
        return;
    inst->signalled = true;
    health_end(inst);
    if (inst->spec.stop_signal == SIGKILL || kill(inst->pid, inst->spec.stop_signal) < 0)
        kill_all(inst);
    inst->kill_at = loop_clock() + inst->spec.stop_grace;
    loop_timer_set(inst->timer, inst->kill_at);
    instance_changed(inst);
}

void instance_hurry(struct instance *inst, uint64_t grace_us)
{
    if (inst->spec.stop_grace > grace_us)
        inst->spec.stop_grace = grace_us;
    if (inst->phase != PHASE_RUNNING || !inst->signalled ||
        inst->kill_at <= loop_clock() + grace_us)
        return;
    inst->kill_at = loop_clock() + grace_us;
    loop_timer_set(inst->timer, inst->kill_at);
}

void instance_timer(struct loop_timer *timer, void *data)
{
    struct instance *inst = data;

    (void)timer;
    switch (inst->phase) {
    case PHASE_STARTING:
        log_warn("%s: did not start within a minute", inst->key.name);
        kill_all(inst);
        /* The shim leads a session of its own in which runc is. */
        if (inst->shim > 1)
            kill(-inst->shim, SIGKILL);
        break;
    case PHASE_RUNNING:
        if (!inst->signalled) {
            inst->attempts = 0;
            set_last(inst, NULL, NULL, NULL);
            instance_changed(inst);
            break;
        }
        kill_all(inst);
        /* The shim's word follows; were it stuck, it is told again. */
        loop_timer_set(inst->timer, loop_clock() + KILL_TIMEOUT);
        break;
    case PHASE_WAITING:
        inst->phase = PHASE_ENDED;
        instance_advance(inst);
        break;
    default:
        break;
    }
}

static void remove_done(int result, const struct error *err, void *data)
{
    struct instance *inst = data;
    struct contd *contd = inst->contd;

    inst->worker = NULL;
    if (result < 0) {
        log_error(err, inst->key.name);
        inst->removing = false;
        inst->phase = PHASE_ENDED;
        waiting_answer(inst, WAITING_REMOVE, err);
        return;
    }
    waiting_answer(inst, WAITING_STOP, NULL);
    waiting_answer(inst, WAITING_REMOVE, NULL);
    instance_free(inst);
    watch_changed(contd);
}

static int remove_work(void *data, struct error *err)
{
    return clean_instance(data, err);
}

static void instance_remove(struct instance *inst)
{
    struct error err = {0};

    inst->phase = PHASE_REMOVING;
    loop_timer_stop(inst->timer);
    watch_changed(inst->contd);
    if (worker_start(inst->contd->loop, remove_work, inst, WORKER_TIMEOUT, remove_done, inst,
                     &inst->worker, &err) < 0)
        remove_done(-EIO, &err, inst);
}

/* ---- the next step ---- */

void instance_advance(struct instance *inst)
{
    struct error stopped = {0};

    switch (inst->phase) {
    case PHASE_RUNNING:
        if (!inst->wanted || inst->removing || inst->again)
            instance_signal(inst);
        return;
    case PHASE_STARTING:
        /* runc is at work; as soon as there is a process, or an end, this is called again. */
        return;
    case PHASE_PREPARED:
    case PHASE_ENDED:
    case PHASE_WAITING:
        break;
    default:
        return;
    }
    if (!inst->wanted || inst->removing) {
        if (inst->phase == PHASE_WAITING) {
            inst->phase = PHASE_ENDED;
            loop_timer_stop(inst->timer);
            instance_changed(inst);
        }
        error_set(&stopped, ECANCELED, "container.stopped", NULL, "%s was stopped before it ran",
                  inst->key.name);
        waiting_answer(inst, WAITING_START, &stopped);
        waiting_answer(inst, WAITING_RESTART, &stopped);
        waiting_answer(inst, WAITING_STOP, NULL);
    }
    if (inst->removing)
        instance_remove(inst);
    else if (inst->wanted && inst->start != NULL && (inst->phase != PHASE_WAITING || inst->again))
        instance_launch(inst);
}
