/*
 * daemon.h - what every daemon's main() shares: options, loop, socket, readiness, watchdog, SIGTERM.
 *
 * Options of every daemon: --help --version --socket PATH --boot FILE --debug. A program's own further options go
 * through `option`. main() is: fill the struct, return daemon_main(&spec, argc, argv).
 */
#pragma once

#include "lib/error.h"
#include "lib/loop.h"
#include "lib/varlink.h"

struct daemon;

struct daemon_option {
    const char *name;     /* "--state" */
    const char *argument; /* "DIR"; NULL: a flag */
    const char *help;
    const char **value; /* set to the argument, or to "" for a flag */
};

/* Made by core0 when it begins to power off or reboot. */
#define DAEMON_MACHINE_STOPS "/run/croft/stopping"

struct daemon_spec {
    const char *name;    /* "netd": socket is /run/croft/<name> unless --socket */
    const char *summary; /* one line for --help */
    const struct varlink_interface *interfaces;
    size_t interface_count;
    const struct daemon_option *options; /* ended by name NULL; may be NULL */
    mode_t socket_mode;                  /* 0: 0660 */
    /* Starts the program; *ret_state is given to every varlink method as data. A failure is logged, told to core0,
     * and ends the program with 1. READY=1 is sent afterwards unless `notify_late` (then the program sends it). */
    int (*start)(struct daemon *daemon, void **ret_state, struct error *err);
    void (*stop)(void *state); /* on SIGTERM, before the loop ends */
    /* On SIGTERM when the whole machine stops (DAEMON_MACHINE_STOPS exists), before stop(). True: the program goes on and
     * calls daemon_exit() itself, within the TimeoutStopSec= of its service. */
    bool (*machine_stops)(void *state);
    bool notify_late;
};

int daemon_main(const struct daemon_spec *spec, int argc, char **argv);

struct loop *daemon_loop(struct daemon *daemon);
/* Ends as SIGTERM does, once the work that machine_stops() announced is done. */
void daemon_exit(struct daemon *daemon);
const char *daemon_boot_path(struct daemon *daemon); /* /run/croft/boot.json unless --boot */
const char *daemon_version(void);                    /* CROFT_VERSION of the build */
