/*
 * service_orders.c - what reaches a service from outside: orders, ends of processes, messages, timers.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/cgroup.h"
#include "init/console.h"
#include "init/events.h"
#include "init/service_machine.h"
#include "init/unit_value.h"

/* ---- orders ---- */

bool service_any_active(const struct core *core)
{
    for (size_t i = 0; i < core->service_count; i++) {
        if (service_is_active(&core->services[i]))
            return true;
    }
    return false;
}

struct service *service_find(const struct core *core, const char *name)
{
    for (size_t i = 0; i < core->service_count; i++) {
        if (strcmp(core->services[i].unit.name, name) == 0)
            return &core->services[i];
    }
    return NULL;
}

void service_start(struct service *service)
{
    if (!service->loadable || service->core->stage == CORE_STOPPING)
        return;
    service->wanted = true;
    service_event(service, SERVICE_EVENT_START);
    for (size_t i = 0; i < service->unit.requires.count; i++) {
        struct service *other = service_find(service->core, service->unit.requires.items[i]);

        if (other != NULL && !other->wanted) /* the graph has no cycles: this ends */
            service_start(other);
    }
    service_settle_later(service->core);
}

void service_stop(struct service *service)
{
    service->wanted = false;
    service->restart_now = false;
    for (size_t i = 0; i < service->core->service_count; i++) {
        struct service *other = &service->core->services[i];

        if (other->wanted && unit_list_has(&other->unit.requires, service->unit.name))
            service_stop(other);
    }
    service_settle_later(service->core);
}

void service_restart(struct service *service)
{
    if (!service->loadable)
        return;
    service->wanted = true;
    if (service_is_active(service)) {
        service_event(service, SERVICE_EVENT_STOP);
        service->restart_now = true;
    } else {
        service_start(service);
    }
}

void service_start_all(struct core *core)
{
    for (size_t i = 0; i < core->service_count; i++)
        service_start(&core->services[i]);
}

void service_stop_all(struct core *core)
{
    for (size_t i = 0; i < core->service_count; i++) {
        core->services[i].wanted = false;
        core->services[i].restart_now = false;
    }
    service_settle_later(core);
}

/* ---- what reaches a service from outside ---- */

bool service_reaped(struct core *core, pid_t pid, int status)
{
    for (size_t i = 0; i < core->service_count; i++) {
        struct service *service = &core->services[i];

        if (service->pid != pid)
            continue;
        service->status = status;
        service_log_drain(service);
        service_event(service, SERVICE_EVENT_EXIT);
        return true;
    }
    return false;
}

struct service *service_of_pid(const struct core *core, pid_t pid)
{
    char name[UNIT_NAME_MAX + 1];

    for (size_t i = 0; i < core->service_count; i++) {
        if (core->services[i].pid == pid)
            return &core->services[i];
    }
    if (cgroup_name_of_pid(core, pid, name, sizeof(name)))
        return service_find(core, name);
    if (core->cgroup[0] == '\0') { /* every service is a session of its own (spawn.c) */
        pid_t session = getsid(pid);

        for (size_t i = 0; i < core->service_count && session > 0; i++) {
            if (core->services[i].pid == session)
                return &core->services[i];
        }
    }
    return NULL;
}

void service_notify_ready(struct service *service)
{
    service_event(service, SERVICE_EVENT_READY);
}

void service_notify_watchdog(struct service *service)
{
    if (service->state == SERVICE_RUNNING && service->unit.watchdog_us != 0)
        loop_timer_in(service->watchdog, service->unit.watchdog_us);
}

void service_notify_extend(struct service *service, uint64_t timeout_us)
{
    if (service->state == SERVICE_STARTING || service->state == SERVICE_STOPPING)
        loop_timer_in(service->timer, timeout_us);
}

void service_notify_status(struct service *service, const char *text)
{
    if (strcmp(service->status_text, text) == 0)
        return;
    snprintf(service->status_text, sizeof(service->status_text), "%s", text);
    events_send_text(service->core, service->unit.name, "status", "text", text);
    console_service_changed(service->core, service);
}

void service_describe(const struct service *service, char *buf, size_t size)
{
    const struct service *other;

    buf[0] = '\0';
    if (service->state == SERVICE_WAITING) {
        other = service_waits_for(service);
        if (other != NULL)
            snprintf(buf, size, "waits for %s", other->unit.name);
    } else if (service->state == SERVICE_BACKOFF || service->state == SERVICE_FAILED) {
        snprintf(buf, size, "%s", service->error.message);
    } else if (service->state == SERVICE_STOPPED && service->loadable && service->wanted &&
               !service_condition_holds(service)) {
        snprintf(buf, size, "not for this machine (a condition does not hold)");
    } else {
        snprintf(buf, size, "%s", service->status_text);
    }
}

/* ---- timers, given to the loop when a service is loaded ---- */

void service_timer_fired(struct loop_timer *timer, void *data)
{
    (void)timer;
    service_event(data, SERVICE_EVENT_TIMER);
}

void service_watchdog_fired(struct loop_timer *timer, void *data)
{
    (void)timer;
    service_event(data, SERVICE_EVENT_SILENT);
}
