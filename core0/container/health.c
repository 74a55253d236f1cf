/*
 * health.c - health checks, as Docker defines them: a command in the container whose exit status says whether it is well.
 *
 * One check at a time, the next is planned when the last has ended, so they never pile up. Until a container has first been
 * found healthy, checks come sooner than Docker's first after a whole interval: a quarter of a second after the start, then at doubling
 * distances. Those early ones only count when they succeed, so a container is found healthy sooner and unhealthy no sooner than under Docker.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/contd.h"
#include "lib/file.h"
#include "lib/log.h"

#define FIRST_CHECK UINT64_C(250000) /* us after the start, doubled each time */
#define OUTPUT_MAX ((size_t)4096)    /* of a check, as Docker keeps it */
#define KILL_GRACE (10 * UINT64_C(1000000))
#define ARGS_FIXED 7

static void health_plan(struct instance *inst);

const char *health_name(enum health_state state)
{
    static const char *const names[] = {[HEALTH_NONE] = "none",
                                        [HEALTH_STARTING] = "starting",
                                        [HEALTH_HEALTHY] = "healthy",
                                        [HEALTH_UNHEALTHY] = "unhealthy"};

    return names[state];
}

/* ---- one check: in a worker ---- */

/* The process that runc started inside the container leads a session; a check that starts others takes them along. */
static void kill_inside(const struct instance *inst)
{
    char path[CONTD_PATH_MAX], cgroup[CONTD_PATH_MAX];
    cleanup_free char *text = NULL;
    size_t len;

    store_path(inst, "health.pid", path);
    if (file_read(path, 32, &text, &len) == 0) {
        int pid = atoi(text);

        store_cgroup(inst, cgroup);
        /* The number may be somebody else's by now. */
        if (pid > 1 && pid != inst->pid && cgroup_has(inst->contd->opt.cgroup_mount, cgroup, pid)) {
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL);
        }
    }
    unlink(path);
}

/* The last line that holds something, control characters replaced. */
static void last_line(char *output, size_t len, char line[200])
{
    while (len > 0 && (unsigned char)output[len - 1] <= ' ')
        len--;
    size_t from = len;
    while (from > 0 && output[from - 1] != '\n')
        from--;
    if (len - from > 150)
        len = from + 150;
    for (size_t i = from; i < len; i++) {
        if ((unsigned char)output[i] < ' ' || (unsigned char)output[i] >= 0x7f)
            output[i] = '?';
    }
    snprintf(line, 200, "%.*s", (int)(len - from), output + from);
}

static int check_exec(const struct instance *inst, int output)
{
    const struct contd_options *opt = &inst->contd->opt;
    char pid_file[CONTD_PATH_MAX];
    size_t count = 0;

    while (inst->spec.health.argv[count] != NULL)
        count++;
    const char **argv = calloc(ARGS_FIXED + count + 1, sizeof(*argv));
    if (argv == NULL)
        return 126;
    store_path(inst, "health.pid", pid_file);
    const char *const fixed[ARGS_FIXED] = {opt->runc,    "--root", opt->runc_root, "exec",
                                           "--pid-file", pid_file, inst->key.name};
    memcpy(argv, fixed, sizeof(fixed));
    memcpy(argv + ARGS_FIXED, inst->spec.health.argv, count * sizeof(*argv));
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, 0);
    dup2(output, 1);
    dup2(output, 2);
    execv(opt->runc, (char *const *)argv);
    return 127;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* 0: it is well. 1: not, and err says what it said. */
static int check_work(void *data, struct error *err)
{
    struct instance *inst = data;
    char output[OUTPUT_MAX], line[200];
    size_t len = 0;
    int pipes[2], status;
    int64_t end = now_ms() + (int64_t)(inst->spec.health.timeout / 1000);

    kill_inside(inst);
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return error_set(err, errno, "container.unhealthy", NULL, "no pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        _exit(check_exec(inst, pipes[1]));
    }
    close(pipes[1]);
    if (pid < 0)
        return error_set(err, errno, "container.unhealthy", NULL, "no process: %s",
                         strerror(errno));
    /* What it leaves in the background may hold the pipe open: the limit is on the whole. */
    for (;;) {
        char more[512];
        struct pollfd wait = {pipes[0], POLLIN, 0};
        int64_t left = end - now_ms();

        if (left <= 0 || poll(&wait, 1, (int)left) == 0) {
            kill_inside(inst);
            kill(-pid, SIGKILL);
            waitpid(pid, &status, 0);
            error_set(err, ETIMEDOUT, "container.unhealthy", NULL,
                      "the health check took longer than %llu ms",
                      (unsigned long long)inst->spec.health.timeout / 1000);
            return 1;
        }
        ssize_t n = read(pipes[0], more, sizeof(more));
        if (n <= 0)
            break;
        /* The end of a long output tells more than its beginning. */
        if (len + (size_t)n > sizeof(output)) {
            size_t drop = len + (size_t)n - sizeof(output);

            memmove(output, output + drop, len - drop);
            len -= drop;
        }
        memcpy(output + len, more, (size_t)n);
        len += (size_t)n;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    char path[CONTD_PATH_MAX];
    store_path(inst, "health.pid", path);
    unlink(path);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    last_line(output, len, line);
    error_set(err, EIO, "container.unhealthy", NULL, "the health check ended with status %d%s%s",
              WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
              line[0] != '\0' ? ": " : "", line);
    return 1;
}

/* ---- what it means ---- */

/* Until when failures do not count. */
static uint64_t grace_end(const struct instance *inst)
{
    const struct spec_health *spec = &inst->spec.health;

    return inst->started_at +
           (spec->start_period > spec->interval ? spec->start_period : spec->interval);
}

static void check_done(int result, const struct error *err, void *data)
{
    struct instance *inst = data;
    struct health *health = &inst->health;
    enum health_state before = health->state;

    health->worker = NULL;
    if (result == 0) {
        health->failures = 0;
        health->state = HEALTH_HEALTHY;
        health->message[0] = '\0';
    } else if (health->state == HEALTH_HEALTHY || loop_clock() >= grace_end(inst)) {
        health->failures++;
        snprintf(health->message, sizeof(health->message), "%s", err->message);
        if (health->failures >= inst->spec.health.retries)
            health->state = HEALTH_UNHEALTHY;
    } else {
        snprintf(health->message, sizeof(health->message), "%s", err->message);
    }
    if (health->state != before) {
        log_info("%s: %s%s%s", inst->key.name, health_name(health->state), result == 0 ? "" : ": ",
                 health->message);
        instance_changed(inst);
    }
    health_plan(inst);
}

static void check_begin(struct loop_timer *timer, void *data)
{
    struct instance *inst = data;
    struct error err = {0};

    (void)timer;
    if (inst->phase != PHASE_RUNNING || inst->health.worker != NULL)
        return;
    if (worker_start(inst->contd->loop, check_work, inst, inst->spec.health.timeout + KILL_GRACE,
                     check_done, inst, &inst->health.worker, &err) < 0)
        check_done(1, &err, inst);
}

static void health_plan(struct instance *inst)
{
    const struct spec_health *spec = &inst->spec.health;
    uint64_t delay = spec->interval;

    if (inst->health.state == HEALTH_STARTING && loop_clock() < grace_end(inst)) {
        uint64_t limit =
            spec->start_interval < spec->interval ? spec->start_interval : spec->interval;

        delay = inst->health.early < 16 ? FIRST_CHECK << inst->health.early : limit;
        inst->health.early++;
        if (delay > limit)
            delay = limit;
    }
    loop_timer_set(inst->health.timer, loop_clock() + delay);
}

void health_begin(struct instance *inst, bool adopted)
{
    struct health *health = &inst->health;

    if (inst->spec.health.argv == NULL) {
        health->state = HEALTH_NONE;
        return;
    }
    if (health->timer == NULL &&
        loop_timer_add(inst->contd->loop, check_begin, inst, &health->timer) < 0)
        return;
    if (!adopted || health->state == HEALTH_NONE) {
        health->state = HEALTH_STARTING;
        health->failures = 0;
        health->early = 0;
        health->message[0] = '\0';
        health_plan(inst);
    } else {
        /* What was known stays known; whether it still holds is asked at once. */
        loop_timer_set(health->timer, loop_clock());
    }
}

void health_end(struct instance *inst)
{
    struct health *health = &inst->health;

    if (health->timer != NULL)
        loop_timer_stop(health->timer);
    if (health->worker != NULL) {
        worker_cancel(health->worker);
        health->worker = NULL;
        kill_inside(inst);
    }
    health->state = HEALTH_NONE;
}
