/*
 * contd.h - what the parts of contd share: the program's state, an instance, and who calls whom.
 *
 * An instance is a folder <run>/<reservation>-<revision>-<service>/ (tmpfs), and everything that is known about it
 * stands there, so that contd may die at any moment:
 *
 *   instance.json  key and range of ids; written last by Prepare: without it the folder is half-made
 *   userns, netns  pinned namespaces
 *   start.json     Start's parameters, canonical (they hold secrets: 0600)
 *   state.json     what contd decided: wanted, restarts, how it last ended, health
 *   lock           held by the living shim
 *   shim.pid, pid, started, exit, runc.log    of the current run (core0/shim/main.c)
 *   config.json, etc/, files/                 the bundle of the current run
 *   log            link to the folder of the log
 *
 * Phases (instance.c):
 *
 *   PREPARING ─► PREPARED ─► STARTING ─► RUNNING ─► CLEANING ─► WAITING ─► STARTING …
 *                              │            (stop: signal, grace, kill)     └► ENDED ─► STARTING (asked again)
 *                              └────────────────► CLEANING ─► PREPARED (a first start that failed)
 *   any phase at rest ─► REMOVING ─► gone
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <yyjson.h>

#include "container/spec.h"
#include "container/worker.h"
#include "lib/error.h"
#include "lib/loop.h"
#include "lib/varlink.h"

#define SERVICE_MAX 63
#define NAME_MAX_INSTANCE 112 /* two numbers of 20 digits, a service, two dashes */
#define CONTD_PATH_MAX 512

struct contd_options {
    const char *run;                /* /run/croft/containers */
    const char *logs;               /* /var/croft/logs */
    const char *runc, *shim, *exec; /* programs */
    const char *execs;              /* /run/croft/exec */
    const char *runc_root;          /* runc's own state */
    const char *cgroup_mount;       /* /sys/fs/cgroup */
    const char *cgroup;             /* path below the mount: /croft */
    const char *seccomp;            /* Docker's profile */
    const char *log_size;           /* bytes of one log file; there are four */
    const char *no_limits; /* set: cgroups without controllers, for tests on such a machine */
};

struct contd {
    struct loop *loop;
    struct contd_options opt;
    yyjson_doc *seccomp;
    unsigned kernel; /* major << 8 | minor */
    struct instance *instances;
    struct watcher *watchers;
    struct log_reader *readers;
    struct exec_session *execs;
    int log_inotify; /* of the readers that follow; valid once log_io is set */
    struct loop_io *log_io;
    struct loop_timer *watch_timer; /* for a watcher that reads slower than things change */
    bool watch_pending;
    int inotify;
    struct loop_io *inotify_io;
    struct daemon *daemon;
    char cgroups[CONTD_PATH_MAX]; /* folder of the cgroup below which all of ours are */
    struct reclaim *reclaim;
    bool machine_stops; /* nothing starts any more; we end when nothing runs */
};

struct instance_key {
    uint64_t reservation, revision;
    char service[SERVICE_MAX + 1];
    char name[NAME_MAX_INSTANCE]; /* "12-3-web" */
};

enum phase {
    PHASE_PREPARING,
    PHASE_PREPARED,
    PHASE_STARTING,
    PHASE_RUNNING,
    PHASE_CLEANING,
    PHASE_WAITING,
    PHASE_ENDED,
    PHASE_REMOVING
};
enum health_state { HEALTH_NONE, HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };
enum waiting_kind { WAITING_PREPARE, WAITING_START, WAITING_STOP, WAITING_RESTART, WAITING_REMOVE };

/* A varlink call that is answered later. */
struct waiting {
    struct waiting *next;
    struct instance *instance;
    struct varlink_call *call;
    enum waiting_kind kind;
};

struct health {
    enum health_state state;
    unsigned failures; /* in a row */
    unsigned early;    /* checks before the first regular one */
    struct loop_timer *timer;
    struct worker *worker;
    char message[320]; /* what the last check that failed said */
};

struct instance {
    struct instance *next;
    struct contd *contd;
    struct instance_key key;
    uint32_t uid_base, uid_count;
    enum phase phase;
    char *start; /* canonical JSON of Start's parameters; NULL before */
    size_t start_len;
    struct container_spec spec;

    /* wishes */
    bool wanted; /* shall run */
    bool again;  /* Restart: end, then start */
    bool
        stopped; /* by Stop: the same Start starts it again, while what ended by itself stays ended */
    bool removing, keep_log;

    /* this run */
    bool launched; /* a shim was started and has not been cleaned up after */
    bool ran;      /* a process has run since Start */
    pid_t shim, pid;
    struct loop_child *shim_child; /* when it is our own child */
    struct loop_io *shim_io;       /* else its pidfd */
    int shim_pidfd;
    uint64_t started_at; /* loop_clock() */
    bool signalled;
    uint64_t kill_at;         /* loop_clock(); once signalled */
    struct loop_timer *timer; /* start, grace or back-off, by phase */
    struct worker *worker;
    int watch; /* inotify */

    /* how it went */
    unsigned restarts; /* since Start */
    unsigned attempts; /* in a row, without a run of RESTART_CALM_US */
    bool has_exit, failed;
    int exit_status;
    struct error last; /* code: reason */
    struct health health;
    struct waiting *calls;
};

/* ---- registry.c ---- */
struct instance *instance_find(struct contd *contd, const struct instance_key *key);
int instance_new(struct contd *contd, const struct instance_key *key,
                 struct instance **ret_instance);
void instance_free(struct instance *inst);
const char *instance_state(const struct instance *inst);
bool instance_done(const struct instance *inst);
void instance_changed(struct instance *inst); /* saves, and tells the watchers */
void instance_forget_shim(struct instance *inst);

/* ---- instance.c ---- */
/* Takes the next step that phase and wishes allow. Call after any change of either. */
void instance_advance(struct instance *inst);
/* Looks at what the shim has written; shim_gone: it lives no more. */
void instance_refresh(struct instance *inst, bool shim_gone);
void instance_prepare(struct instance *inst);
/* At most `grace_us` pass between the signal that asks it to end and SIGKILL; one that was asked already has so long from now. */
void instance_hurry(struct instance *inst, uint64_t grace_us);
/* The container's first process runs. adopted: it did before us; started_at is set. */
void instance_started(struct instance *inst, pid_t pid, bool adopted);
void instance_timer(struct loop_timer *timer, void *data);

/* ---- limits.c ---- */
/* Whether the kernel holds against this run that it reached a limit: container.oom-killed, container.pids-limit. */
bool limits_reached(const struct instance *inst, struct error *ret_reason);

/* ---- wait.c: calls that are answered later ---- */
void waiting_add(struct instance *inst, struct varlink_call *call, enum waiting_kind kind);
void waiting_answer(struct instance *inst, enum waiting_kind kind, const struct error *err);
bool waiting_has(const struct instance *inst, enum waiting_kind kind);

/* ---- launch.c ---- */
/* Starts a shim for one run. */
int launch(struct instance *inst, struct error *err);
/* What a failed run left to say, in our words: what the shim said, else runc's log. */
void launch_explain(const struct instance *inst, const char *said, struct error *err);

/* ---- clean.c: for workers ---- */
int clean_run(struct instance *inst, struct error *err);
int clean_instance(struct instance *inst, struct error *err);
int clean_prepare(struct instance *inst, struct error *err);

/* In a child: out of contd's cgroup, so that it outlives contd. */
void launch_enter_shims_cgroup(const struct contd *contd);

/* ---- store.c ---- */
void store_path(const struct instance *inst, const char *file, char path[CONTD_PATH_MAX]);
void store_cgroup(const struct instance *inst, char path[CONTD_PATH_MAX]);
void store_log(const struct instance *inst, char path[CONTD_PATH_MAX]);
int store_save_instance(const struct instance *inst);
int store_save_start(const struct instance *inst);
int store_save_state(const struct instance *inst);
/* 0; -ENOENT: half-made. */
int store_load(struct instance *inst);
/* Key from "12-3-web"; -EINVAL. */
int store_key(const char *name, struct instance_key *ret_key);
int store_key_make(uint64_t reservation, uint64_t revision, const char *service,
                   struct instance_key *ret_key);

/* ---- adopt.c ---- */
/* Takes over what a predecessor left, and removes what it left half-made. */
int adopt_all(struct contd *contd, struct error *err);

/* ---- health.c ---- */
void health_begin(struct instance *inst, bool adopted);
void health_end(struct instance *inst);
const char *health_name(enum health_state state);

/* ---- shutdown.c ---- */
/* daemon_spec's machine_stops: every container ends by its own signal and grace period. */
bool shutdown_begin(void *state);
/* Something changed: perhaps the last one has ended. */
void shutdown_check(struct contd *contd);

/* ---- watch.c ---- */
void watch_changed(struct contd *contd);
void method_list(struct varlink_call *call, yyjson_val *params, void *data);
void method_watch(struct varlink_call *call, yyjson_val *params, void *data);

/* ---- logs.c ---- */
void method_get_log(struct varlink_call *call, yyjson_val *params, void *data);
/* Ends those that follow the log of an instance that will write no more. */
void logs_changed(struct contd *contd);

/* ---- exec.c ---- */
void method_exec(struct varlink_call *call, yyjson_val *params, void *data);
/* Removes what sessions left whose croft-exec is dead. */
void exec_clean_all(struct contd *contd);

/* ---- methods.c ---- */
extern const struct varlink_interface contd_interface;
/* Key from a call's parameters; answers the call itself when they are wrong. */
bool method_key(struct varlink_call *call, yyjson_val *params, struct instance_key *ret_key);
