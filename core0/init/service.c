/*
 * service.c - the state machine of service.h.
 *
 *            START          CHECK             READY            EXIT            EMPTY
 *  STOPPED ─────────► WAITING ─────► STARTING ─────► RUNNING ─────► CLEARING ─────► BACKOFF ──TIMER──► WAITING
 *                                        │   EXIT                     ▲        ├──► DONE   (oneshot, 0)
 *                                        └────────────────────────────┤        ├──► FAILED (limit, or no restart)
 *                             STOP, TIMER, SILENT ──► STOPPING ──EXIT─┘        └──► STOPPED (not wanted)
 *
 * Invariants
 *  1. Only service_enter() changes the state; only the table decides what an event does.
 *  2. pid != 0 exactly in STARTING, RUNNING and STOPPING.
 *  3. A failed start sets a deadline or ends in FAILED; it never ends core0.
 *  4. Who waits for whom is looked at in one place, service_settle(), at the end of a turn.
 */
#include "init/service_machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/cgroup.h"
#include "init/console.h"
#include "init/events.h"
#include "init/spawn.h"
#include "init/stop.h"
#include "init/unit_value.h"

#define SERVICE_CLEAR_US                                                                           \
    5000000u /* for a killed process to leave its cgroup; then it hangs in the kernel */

typedef void service_handler(struct service *service);

static const char *const service_states[SERVICE_STATES] = {
    "stopped",  "waiting",  "starting", "running", "done",
    "stopping", "clearing", "backoff",  "failed",
};
static const char *const service_results[] = {
    "ok", "exit-code", "signal", "timeout", "watchdog", "out-of-memory", "start-limit", "bad-file",
};

const char *service_state_name(enum service_state state)
{
    return service_states[state];
}

const char *service_result_name(enum service_result result)
{
    return service_results[result];
}

static void service_settle(void *data);

void service_settle_later(struct core *core)
{
    if (!core->settle_pending && loop_defer(core->loop, service_settle, core) == 0)
        core->settle_pending = true;
}

/* Callers wait in the socket for a service that comes back. For one that does not they would wait for ever:
 * without the socket they are told at once. The next start makes it anew. */
static void service_close_socket(struct service *service)
{
    if (service->listen_fd >= 0) {
        /* Another service's child that has not reached its exec has it open, too: nobody may wait in that either. */
        (void)shutdown(service->listen_fd, SHUT_RDWR);
        close(service->listen_fd);
    }
    service->listen_fd = -1;
}

static void service_enter(struct service *service, enum service_state state)
{
    if (service->state == state)
        return;
    service->state = state;
    if (state == SERVICE_STOPPED || state == SERVICE_DONE || state == SERVICE_FAILED)
        service_close_socket(service);
    service->since_us = loop_clock();
    events_send_service(service->core, service->unit.name, service_states[state]);
    console_service_changed(service->core, service);
    service_settle_later(service->core);
}

bool service_is_active(const struct service *service)
{
    return service->state == SERVICE_STARTING || service->state == SERVICE_RUNNING ||
           service->state == SERVICE_STOPPING || service->state == SERVICE_CLEARING;
}

/* ---- signals ---- */

static void service_signal(struct service *service, int signo, bool whole_group)
{
    if (service->pid <= 0)
        return;
    if (whole_group) {
        if (cgroup_signal(service, signo) <= 0)
            kill(-service->pid, signo);
        return;
    }
    kill(service->pid, signo);
}

static void service_kill_rest(struct service *service, pid_t group)
{
    if (cgroup_kill(service) < 0 && group > 0)
        kill(-group, SIGKILL);
}

static void service_ask_to_stop(struct service *service, int signo)
{
    if (service->state == SERVICE_STARTING || service->state == SERVICE_RUNNING) {
        loop_timer_stop(service->watchdog);
        if (service->unit.kill_mode != UNIT_KILL_NONE)
            service_signal(service, signo,
                           service->unit.kill_mode == UNIT_KILL_GROUP && signo != SIGABRT);
        loop_timer_in(service->timer, service->unit.timeout_stop_us);
        service_enter(service, SERVICE_STOPPING);
    }
}

/* ---- starting ---- */

bool service_condition_holds(const struct service *service)
{
    const struct unit *unit = &service->unit;

    for (size_t i = 0; i < unit->condition_cmdline.count; i++) {
        if (!params_match(&service->core->params, unit->condition_cmdline.items[i]))
            return false;
    }
    for (size_t i = 0; i < unit->condition_path.count; i++) {
        const char *word = unit->condition_path.items[i];
        bool negate = *word == '!';
        char path[512];

        core_path(service->core, path, sizeof(path), negate ? word + 1 : word);
        if ((access(path, F_OK) == 0) == negate)
            return false;
    }
    return true;
}

/* What it still waits for; NULL: it may start. */
const struct service *service_waits_for(const struct service *service)
{
    for (size_t i = 0; i < service->unit.after.count; i++) {
        const char *name = service->unit.after.items[i];
        const struct service *other = service_find(service->core, name);
        bool required = unit_list_has(&service->unit.requires, name);

        if (other == NULL)
            continue;
        if (required && other->state != SERVICE_RUNNING && other->state != SERVICE_DONE)
            return other;
        if (other->wanted && !other->was_tried &&
            (other->state == SERVICE_WAITING || other->state == SERVICE_STARTING))
            return other;
    }
    return NULL;
}

static void service_cleared(struct service *service);

static void service_run(struct service *service)
{
    struct error err = {0};
    pid_t pid = 0;
    int ret;

    service->result = SERVICE_OK;
    service->status = 0;
    service->status_text[0] = '\0';
    ret = service_log_open(service);
    if (ret < 0)
        error_set(&err, -ret, "service.log", NULL, "%s: no log: %s", service->unit.name,
                  strerror(-ret));
    else
        ret = spawn_service(service, &pid, &err);
    if (ret < 0) {
        service->result = SERVICE_EXIT_CODE;
        service->error = err;
        core_error(service->core, service->unit.name, &err);
        service->was_tried = true;
        service_cleared(service);
        return;
    }
    service->pid = pid;
    service->oom_kills = cgroup_oom_kills(service);
    if (service->unit.type == UNIT_SIMPLE) {
        service->was_tried = true;
        service_enter(service, SERVICE_RUNNING);
        if (service->unit.watchdog_us != 0)
            loop_timer_in(service->watchdog, service->unit.watchdog_us);
        return;
    }
    if (service->unit.timeout_start_us != UNIT_INFINITY)
        loop_timer_in(service->timer, service->unit.timeout_start_us);
    service_enter(service, SERVICE_STARTING);
}

/* StartLimitBurst starts within StartLimitIntervalSec, counted from the first of them. */
static bool service_limit_is_hit(struct service *service)
{
    const struct unit *unit = &service->unit;
    uint64_t now = loop_clock();

    if (unit->start_limit_burst == 0)
        return false;
    if (service->limit_count == 0 ||
        now - service->limit_begin_us > unit->start_limit_interval_us) {
        service->limit_begin_us = now;
        service->limit_count = 0;
    }
    return ++service->limit_count > unit->start_limit_burst;
}

static void on_check(struct service *service)
{
    if (service->core->stage == CORE_STOPPING || service_waits_for(service) != NULL)
        return;
    if (!service_condition_holds(service)) {
        service->was_tried = true;
        service_enter(service, SERVICE_STOPPED);
        return;
    }
    if (service_limit_is_hit(service)) {
        service->result = SERVICE_START_LIMIT;
        error_clear(&service->error);
        error_set(&service->error, EAGAIN, "service.start-limit",
                  "look at its log, then start it again", "%s was started %llu times within %llu s",
                  service->unit.name, (unsigned long long)service->unit.start_limit_burst,
                  (unsigned long long)(service->unit.start_limit_interval_us / 1000000));
        core_error(service->core, service->unit.name, &service->error);
        service->was_tried = true;
        service_enter(service, SERVICE_FAILED);
        return;
    }
    service_run(service);
}

static void on_want(struct service *service)
{
    service->failures = 0;
    service->limit_count = 0;
    service->was_tried = false;
    loop_timer_stop(service->timer);
    service_enter(service, SERVICE_WAITING);
}

static void on_ready(struct service *service)
{
    if (service->unit.type != UNIT_NOTIFY)
        return; /* a oneshot is ready when it has ended */
    loop_timer_stop(service->timer);
    if (service->unit.watchdog_us != 0)
        loop_timer_in(service->watchdog, service->unit.watchdog_us);
    service->was_tried = true;
    service_enter(service, SERVICE_RUNNING);
}

static void on_start_timeout(struct service *service)
{
    service->result = SERVICE_TIMEOUT;
    service_ask_to_stop(service, service->unit.kill_signal);
}

static void on_silent(struct service *service)
{
    service->result = SERVICE_WATCHDOG;
    service_ask_to_stop(service, SIGABRT); /* leaves a core or a trace where one is kept */
}

/* ---- ending ---- */

static void on_stop(struct service *service)
{
    service_ask_to_stop(service, service->unit.kill_signal);
}

static void on_stop_idle(struct service *service)
{
    loop_timer_stop(service->timer);
    service_enter(service, SERVICE_STOPPED);
}

static void on_stop_timeout(struct service *service)
{
    if (service->unit.kill_mode == UNIT_KILL_PROCESS || service->unit.kill_mode == UNIT_KILL_NONE)
        service_signal(service, SIGKILL, false);
    else
        service_kill_rest(service, service->pid);
    /* Again later, should the kill have met a process that was just being born. */
    loop_timer_in(service->timer, service->unit.timeout_stop_us);
}

static void on_start_while_ending(struct service *service)
{
    service->restart_now = true;
}

static void on_stop_while_ending(struct service *service)
{
    service->restart_now = false;
}

/* What the exit says, unless a time-out or a watchdog said it before. */
static void service_judge(struct service *service)
{
    int status = service->status;
    bool oom = cgroup_oom_kills(service) > service->oom_kills;
    /* Asked to stop, and went by the signal that asked: that is no failure (systemd.service(5)). */
    bool asked = service->state == SERVICE_STOPPING && WIFSIGNALED(status) &&
                 WTERMSIG(status) == service->unit.kill_signal;

    if (service->result != SERVICE_OK)
        return;
    if (oom)
        service->result = SERVICE_OOM;
    else if (WIFSIGNALED(status) && !asked)
        service->result = SERVICE_SIGNAL;
    else if (WIFEXITED(status) && WEXITSTATUS(status) != 0 && !service->unit.exec_ignore_failure)
        service->result = SERVICE_EXIT_CODE;
}

static void service_explain(struct service *service)
{
    const char *name = service->unit.name;
    struct error *err = &service->error;
    const char *reason = NULL;

    error_clear(err);
    switch (service->result) {
    case SERVICE_OK:
    case SERVICE_START_LIMIT:
    case SERVICE_BAD_FILE:
        return;
    case SERVICE_EXIT_CODE:
        reason = spawn_exit_reason(WEXITSTATUS(service->status));
        error_set(err, EIO, "service.exit-code", "look at its log",
                  "%s ended with exit code %d%s%s", name, WEXITSTATUS(service->status),
                  reason != NULL ? ": " : "", reason != NULL ? reason : "");
        break;
    case SERVICE_SIGNAL:
        error_set(err, EIO, "service.signal", "look at its log", "%s was ended by signal %d (%s)",
                  name, WTERMSIG(service->status), strsignal(WTERMSIG(service->status)));
        break;
    case SERVICE_TIMEOUT:
        error_set(err, EIO, "service.timeout", "look at its log", "%s was not ready within %llu s",
                  name, (unsigned long long)(service->unit.timeout_start_us / 1000000));
        break;
    case SERVICE_WATCHDOG:
        error_set(err, EIO, "service.watchdog", "look at its log",
                  "%s gave no sign of life for %llu s", name,
                  (unsigned long long)(service->unit.watchdog_us / 1000000));
        break;
    case SERVICE_OOM:
        error_set(err, EIO, "service.out-of-memory", "raise MemoryMax= of the service",
                  "%s needed more memory than it may have", name);
        break;
    }
    core_error(service->core, name, err);
}

static void service_cgroup_event(struct loop_io *io, int fd, uint32_t events, void *data);

static void on_exit_main(struct service *service)
{
    int populated = 0;
    pid_t group = service->pid;
    int fd = -1;

    loop_timer_stop(service->timer);
    loop_timer_stop(service->watchdog);
    service_judge(service);
    service_explain(service);
    if (service->state == SERVICE_RUNNING &&
        loop_clock() - service->since_us > service->unit.restart_max_us)
        service->failures = 0; /* it was well for a while: the back-off begins anew */
    service->was_tried = true;
    service->pid = 0;
    service_enter(service, SERVICE_CLEARING);

    if (service->unit.kill_mode == UNIT_KILL_GROUP || service->unit.kill_mode == UNIT_KILL_MIXED) {
        service_kill_rest(service, group);
        populated = cgroup_populated(service, &fd);
    }
    if (populated <= 0) {
        if (fd >= 0)
            close(fd);
        service_cleared(service);
        return;
    }
    service->cgroup_events_fd = fd;
    loop_timer_in(service->timer, SERVICE_CLEAR_US);
    if (loop_io_add(service->core->loop, fd, EPOLLPRI, service_cgroup_event, service,
                    &service->cgroup_io) < 0)
        service->cgroup_io = NULL; /* the timer is left */
}

static void service_cgroup_event(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct service *service = data;
    char text[128];

    (void)io;
    (void)events;
    /* Reading re-arms the notification. */
    if (pread(fd, text, sizeof(text), 0) < 0 || cgroup_populated(service, NULL) <= 0)
        service_event(service, SERVICE_EVENT_EMPTY);
}

static bool service_restarts(const struct service *service)
{
    /* systemd.service(5), table "Exit causes and the effect of the Restart= settings" */
    static const bool table[][5] = {
        /*                     no     success failure abnormal always */
        [SERVICE_OK] = {false, true, false, false, true},
        [SERVICE_EXIT_CODE] = {false, false, true, false, true},
        [SERVICE_SIGNAL] = {false, false, true, true, true},
        [SERVICE_TIMEOUT] = {false, false, true, true, true},
        [SERVICE_WATCHDOG] = {false, false, true, true, true},
        [SERVICE_OOM] = {false, false, true, true, true},
        [SERVICE_START_LIMIT] = {false, false, false, false, false},
        [SERVICE_BAD_FILE] = {false, false, false, false, false},
    };

    return table[service->result][service->unit.restart];
}

static uint64_t service_backoff_us(const struct service *service)
{
    uint64_t delay = service->unit.restart_us;

    for (uint64_t i = 0; i < service->failures && delay < service->unit.restart_max_us; i++)
        delay *= 2;
    return delay < service->unit.restart_max_us ? delay : service->unit.restart_max_us;
}

/* Nothing of it runs any more: what now? */
static void service_cleared(struct service *service)
{
    loop_timer_stop(service->timer);
    loop_io_del(service->cgroup_io);
    service->cgroup_io = NULL;
    if (service->cgroup_events_fd >= 0)
        close(service->cgroup_events_fd);
    service->cgroup_events_fd = -1;

    if (!service->wanted || service->core->stage == CORE_STOPPING) {
        service_enter(service, SERVICE_STOPPED);
    } else if (service->restart_now) {
        on_want(service);
    } else if (service->unit.type == UNIT_ONESHOT && service->result == SERVICE_OK &&
               service->unit.restart != UNIT_RESTART_ALWAYS) {
        service_enter(service, SERVICE_DONE);
    } else if (service_restarts(service)) {
        service->restarts++;
        loop_timer_set(service->timer, loop_clock() + service_backoff_us(service));
        service->failures++;
        service_enter(service, SERVICE_BACKOFF);
    } else {
        service_enter(service, service->result == SERVICE_OK ? SERVICE_STOPPED : SERVICE_FAILED);
    }
    service->restart_now = false;
}

static void on_backoff_over(struct service *service)
{
    service_enter(service, SERVICE_WAITING);
}

/* ---- the table ---- */

static service_handler *const service_table[SERVICE_STATES][SERVICE_EVENTS] = {
    [SERVICE_STOPPED] = {[SERVICE_EVENT_START] = on_want},
    [SERVICE_WAITING] = {[SERVICE_EVENT_STOP] = on_stop_idle, [SERVICE_EVENT_CHECK] = on_check},
    [SERVICE_STARTING] = {[SERVICE_EVENT_STOP] = on_stop,
                          [SERVICE_EVENT_READY] = on_ready,
                          [SERVICE_EVENT_EXIT] = on_exit_main,
                          [SERVICE_EVENT_TIMER] = on_start_timeout},
    [SERVICE_RUNNING] = {[SERVICE_EVENT_STOP] = on_stop,
                         [SERVICE_EVENT_EXIT] = on_exit_main,
                         [SERVICE_EVENT_SILENT] = on_silent},
    [SERVICE_DONE] = {[SERVICE_EVENT_START] = on_want, [SERVICE_EVENT_STOP] = on_stop_idle},
    [SERVICE_STOPPING] = {[SERVICE_EVENT_START] = on_start_while_ending,
                          [SERVICE_EVENT_STOP] = on_stop_while_ending,
                          [SERVICE_EVENT_EXIT] = on_exit_main,
                          [SERVICE_EVENT_TIMER] = on_stop_timeout},
    [SERVICE_CLEARING] = {[SERVICE_EVENT_START] = on_start_while_ending,
                          [SERVICE_EVENT_STOP] = on_stop_while_ending,
                          [SERVICE_EVENT_TIMER] = service_cleared,
                          [SERVICE_EVENT_EMPTY] = service_cleared},
    [SERVICE_BACKOFF] = {[SERVICE_EVENT_START] = on_want,
                         [SERVICE_EVENT_STOP] = on_stop_idle,
                         [SERVICE_EVENT_TIMER] = on_backoff_over},
    [SERVICE_FAILED] = {[SERVICE_EVENT_START] = on_want, [SERVICE_EVENT_STOP] = on_stop_idle},
};

void service_event(struct service *service, enum service_event event)
{
    service_handler *handler = service_table[service->state][event];

    if (handler != NULL)
        handler(service);
}

/* ---- who waits for whom ---- */

/* Something that comes after it and is to stop as well has not stopped yet. */
static bool service_is_held(const struct service *service)
{
    for (size_t i = 0; i < service->core->service_count; i++) {
        const struct service *other = &service->core->services[i];

        if (other != service && !other->wanted && service_is_active(other) &&
            unit_list_has(&other->unit.after, service->unit.name))
            return true;
    }
    return false;
}

static void service_settle(void *data)
{
    struct core *core = data;

    core->settle_pending = false;
    for (size_t i = 0; i < core->service_count; i++) {
        struct service *service = &core->services[i];

        if (!service->loadable)
            continue;
        if (service->wanted && service->state == SERVICE_WAITING)
            service_event(service, SERVICE_EVENT_CHECK);
        else if (!service->wanted && service->state != SERVICE_STOPPED &&
                 service->state != SERVICE_STOPPING && service->state != SERVICE_CLEARING &&
                 !service_is_held(service))
            service_event(service, SERVICE_EVENT_STOP);
    }
    if (core->stage == CORE_STOPPING && !service_any_active(core))
        stop_services_gone(core);
}
