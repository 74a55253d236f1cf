/*
 * service.h - supervision: every service is a state machine, driven by a table of state and event.
 */
#pragma once

#include "init/core.h"
#include "init/unit.h"

enum service_state {
    SERVICE_STOPPED,  /* not wanted, or its condition does not hold */
    SERVICE_WAITING,  /* wanted; something that it comes after is not there yet */
    SERVICE_STARTING, /* its process runs and has not said READY=1 (notify) or ended (oneshot) */
    SERVICE_RUNNING,
    SERVICE_DONE,     /* oneshot, ended well */
    SERVICE_STOPPING, /* asked to end, deadline set */
    SERVICE_CLEARING, /* the main process is gone; what it left behind is being killed */
    SERVICE_BACKOFF,  /* waits for its next start */
    SERVICE_FAILED,   /* not started again by itself */
    SERVICE_STATES,
};

enum service_event {
    SERVICE_EVENT_START, /* somebody wants it */
    SERVICE_EVENT_STOP,
    SERVICE_EVENT_CHECK, /* what it waits for may be there now */
    SERVICE_EVENT_READY,
    SERVICE_EVENT_EXIT, /* the main process ended: status in `status` */
    SERVICE_EVENT_TIMER,
    SERVICE_EVENT_SILENT, /* the watchdog was not fed */
    SERVICE_EVENT_EMPTY,  /* no process of its cgroup is left */
    SERVICE_EVENTS,
};

enum service_result {
    SERVICE_OK,
    SERVICE_EXIT_CODE,
    SERVICE_SIGNAL,
    SERVICE_TIMEOUT,
    SERVICE_WATCHDOG,
    SERVICE_OOM,
    SERVICE_START_LIMIT,
    SERVICE_BAD_FILE,
};

#define SERVICE_INSTANCES_MAX 64u /* made of templates since the boot */

/* name@.service */
struct service_template {
    char name[UNIT_NAME_MAX + 1]; /* with its "@" */
    char *text;
    size_t len;
    struct error error; /* set: nothing can be made of it */
};

struct service {
    struct core *core;
    struct unit unit;
    struct error error; /* why the file or the graph does not let it start, or its last failure */
    bool loadable;      /* false: only its error is of use */

    enum service_state state;
    enum service_result result;
    bool wanted;
    bool
        was_tried; /* a first start has ended, one way or the other: who only comes after it need not wait */
    bool restart_now; /* a stop that is only half of a restart */
    pid_t pid;
    int status;
    uint64_t since_us; /* loop_clock() of the last change of state */
    uint64_t restarts;
    uint64_t failures; /* in a row: the exponent of the back-off */
    uint64_t limit_begin_us;
    uint64_t limit_count;

    struct loop_timer *timer;
    struct loop_timer *watchdog;
    struct loop_io *cgroup_io; /* on cgroup.events, while CLEARING */
    int cgroup_events_fd;
    uint64_t oom_kills;

    struct loop_io *log_io;
    int log_read_fd;
    int log_write_fd;
    char line[RING_LINE_MAX]; /* of the log, until its newline */
    size_t line_len;
    struct ring log;
    int listen_fd;

    char status_text[256]; /* STATUS= */
};

/* Reads all *.service files of a folder, in the order of their names; links and checks the graph. A bad file is an
 * entry in state FAILED, a bad template one with an error. */
int service_load_all(struct core *core, const char *folder, struct error *err);
void service_free_all(struct core *core);

/* service_load.c: an empty entry whose unit is set gets its log, timers and place; and what that and its life took goes back. */
int service_init(struct service *service, struct core *core);
void service_done(struct service *service);

/* service_instance.c: a file name@.service, `name` with its "@". 0 also when it is bad (the template's error says so), -ENOMEM. */
int template_load(struct core *core, const char *name, const char *path);
void templates_free(struct core *core);
/* The service of this name; if there is none, it is made of its template. core.no-service, core.bad-service,
 * core.too-many-services. */
int service_instantiate(struct core *core, const char *name, struct service **ret_service,
                        struct error *err);

struct service *service_find(const struct core *core, const char *name);
void service_start(struct service *service); /* and what it requires */
void service_stop(struct service *service);  /* what requires it first */
void service_restart(struct service *service);
void service_start_all(struct core *core);
void service_stop_all(
    struct core *core); /* in reverse order; stop_services_gone() is called at the end */
bool service_any_active(const struct core *core);

/* A child ended. False: no service's main process. */
bool service_reaped(struct core *core, pid_t pid, int status);
/* The service that a process belongs to; NULL: none. */
struct service *service_of_pid(const struct core *core, pid_t pid);
void service_notify_ready(struct service *service);
void service_notify_watchdog(struct service *service);
void service_notify_extend(struct service *service, uint64_t timeout_us);
void service_notify_status(struct service *service, const char *text);

const char *service_state_name(enum service_state state);
const char *service_result_name(enum service_result result);
/* "waits for storaged", or the STATUS= text, or why it failed. */
void service_describe(const struct service *service, char *buf, size_t size);

/* The loop's callbacks of service->timer and service->watchdog. */
void service_timer_fired(struct loop_timer *timer, void *data);
void service_watchdog_fired(struct loop_timer *timer, void *data);

/* service_graph.c: sets service->error (service.cycle, service.missing) and loadable = false where the graph is wrong. */
void service_check_graph(struct core *core);
/* service_log.c */
int service_log_open(struct service *service);
void service_log_close(struct service *service);
void service_log_drain(struct service *service); /* reads what is in the pipe now */
void service_log_add(struct service *service, int level, const char *text, size_t len);
