/*
 * core.h - the one object of PID 1 and what its parts tell each other.
 *
 * Parts (each a file): boot (states up to ready), service (supervision), spawn (from fork to exec), cgroup, notify_socket
 * (sd_notify), control (varlink), console, events (virtio port), watchdog (hardware), stop (orderly end), fault.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "init/params.h"
#include "init/ring.h"
#include "lib/loop.h"
#include "lib/varlink.h"

struct console;
struct control;
struct events;
struct service;
struct service_template;
struct watchdog;

#define CORE_FACTS_MAX 32u
#define CORE_LAST_ERRORS_MAX 8u

struct core_fact {
    char key[32];
    char value[256];
};

enum core_stage { CORE_BOOTING, CORE_RUNNING, CORE_STOPPING };
enum core_end { CORE_END_POWEROFF, CORE_END_REBOOT };

struct core {
    struct loop *loop;
    /* "" on a machine. Else core0 runs as PID 1 of a name space below this folder (--root): it mounts nothing and
     * touches no console, clock or watchdog. */
    const char *root;
    char cgroup[256]; /* where cgroup2 is mounted; "": there is none */
    char version[64];
    int64_t build_time;
    char boot_id[33];
    uint64_t started_us;

    struct params params;
    struct service *services; /* in the order of their names */
    size_t service_count;
    size_t
        service_room; /* the count's limit: instances of templates are added while the machine runs */
    struct service_template *templates;
    size_t template_count;
    bool settle_pending; /* service_settle is deferred to the end of the turn */

    struct core_fact facts[CORE_FACTS_MAX];
    size_t fact_count;
    struct {
        char text[384];
        char service[64];
        uint64_t time_us; /* CLOCK_REALTIME */
    } last_error;
    char previous_end[160]; /* why the machine was started anew; empty: nothing unusual is known */

    enum core_stage stage;
    enum core_end end;

    struct ring log; /* core0's own lines */
    struct console *console;
    struct control *control;
    struct events *events;
    struct watchdog *watchdog;
    int notify_fd;
    char notify_path[128];
};

/* core.c: what happened, told to everybody who wants to know. */
__attribute__((format(printf, 3, 4))) void core_log(struct core *core, int level, const char *fmt,
                                                    ...);
/* An error of a service or of core0 (service NULL): log, console, last_error, event. */
void core_error(struct core *core, const char *service, const struct error *err);
void core_fact_set(struct core *core, const char *key, const char *value);
const char *core_fact_get(const struct core *core, const char *key);
/* path below the root: core_path(core, buf, size, "/run/croft"). Returns buf. */
const char *core_path(const struct core *core, char *buf, size_t size, const char *path);
uint64_t core_realtime(void); /* us */
