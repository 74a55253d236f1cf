/*
 * unit.h - service files: the vocabulary of systemd's units, read strictly.
 *
 * A file is text of sections, keys and values (docs/services.md lists them). A key that is not known, a value that
 * does not parse or a file that is too large is an error with its line, and that service is not started; the
 * others are. Reading is a function over a buffer, so it has a fuzz target (tests/fuzz/unit.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"

#define UNIT_NAME_MAX 63u
#define UNIT_FILE_MAX 16384u /* bytes of a service file */
#define UNIT_LIST_MAX 64u    /* words of one list */
#define UNIT_INFINITY UINT64_MAX

enum unit_type { UNIT_SIMPLE, UNIT_NOTIFY, UNIT_ONESHOT };
enum unit_restart {
    UNIT_RESTART_NO,
    UNIT_RESTART_ON_SUCCESS,
    UNIT_RESTART_ON_FAILURE,
    UNIT_RESTART_ON_ABNORMAL,
    UNIT_RESTART_ALWAYS,
};
enum unit_kill { UNIT_KILL_GROUP, UNIT_KILL_MIXED, UNIT_KILL_PROCESS, UNIT_KILL_NONE };
enum unit_output { UNIT_OUTPUT_RING, UNIT_OUTPUT_NULL, UNIT_OUTPUT_CONSOLE, UNIT_OUTPUT_TTY };
enum unit_input { UNIT_INPUT_NULL, UNIT_INPUT_TTY };
enum unit_protect { UNIT_PROTECT_NO, UNIT_PROTECT_FULL, UNIT_PROTECT_STRICT };
enum unit_proc { UNIT_PROC_DEFAULT, UNIT_PROC_INVISIBLE };
enum unit_proc_subset { UNIT_PROC_ALL, UNIT_PROC_PID };
enum unit_mounts { UNIT_MOUNTS_SLAVE, UNIT_MOUNTS_SHARED };

struct unit_list {
    char **items; /* ended by NULL; NULL when empty */
    size_t count;
};

struct unit {
    char name[UNIT_NAME_MAX + 1];
    char *description;

    struct unit_list after; /* Requires is in it too: what is required is also waited for */
    struct unit_list before;
    struct unit_list requires;
    struct unit_list condition_cmdline; /* "word", "key=value", "!…" */
    struct unit_list condition_path;

    int type; /* enum unit_type, and so on: int, because the reader writes them all alike */
    struct unit_list exec_start;
    bool exec_ignore_failure; /* "-/path" */
    int restart;
    uint64_t restart_us;
    uint64_t restart_max_us;
    uint64_t start_limit_burst; /* 0: no limit */
    uint64_t start_limit_interval_us;
    uint64_t watchdog_us; /* 0: none */
    uint64_t timeout_start_us;
    uint64_t timeout_stop_us;
    int kill_mode;
    int kill_signal;

    char *user;
    char *group;
    struct unit_list supplementary_groups;
    uint64_t bounding; /* capabilities, one bit each */
    uint64_t ambient;
    bool no_new_privileges;
    struct unit_list system_calls; /* words as written; the first may be "~" */
    bool system_calls_deny;
    int system_call_errno;               /* 0: kill */
    int protect_system;                  /* the view of the file system, see view.h */
    struct unit_list read_write_paths;   /* absolute; "-" in front: may be absent */
    struct unit_list inaccessible_paths; /* the same */
    bool private_devices;
    int protect_proc;
    int proc_subset;
    bool protect_tunables;
    bool protect_cgroups;
    int mount_flags;
    uint64_t umask;
    int64_t oom_score_adjust;
    int64_t nice;
    uint64_t limit_nofile; /* 0: inherited */
    uint64_t limit_core;

    bool delegate;
    uint64_t memory_max; /* UNIT_INFINITY: none; also the following */
    uint64_t memory_high;
    uint64_t tasks_max;
    uint64_t cpu_weight; /* 0: the kernel's */
    uint64_t io_weight;

    int output;
    int input;
    char *tty_path;
    uint64_t log_size;            /* bytes of the ring */
    struct unit_list environment; /* NAME=value */
    char *environment_file; /* more of them, read before every start; "-/path": may be absent */
    char *working_directory;
    struct unit_list runtime_directory; /* below /run */
    struct unit_list state_directory;   /* below /var/croft/state */
    uint64_t runtime_directory_mode;
    uint64_t state_directory_mode;

    char *listen_stream; /* a socket that core0 makes and hands over (LISTEN_FDS) */
    uint64_t socket_mode;
};

/* Reads a service file. *ret_unit is the caller's, to be given to unit_done; after an error it holds only the name.
 * Codes: service.bad-name, service.bad-file. */
int unit_parse(const char *name, const char *text, size_t len, struct unit *ret_unit,
               struct error *err);
void unit_done(struct unit *unit);

/* The part of an instance's name behind its "@"; NULL: it is no instance. In the file of an instance (kvd@a.service, or
 * the template kvd@.service taken for kvd@a) every value knows the specifiers %i %p %n %%. */
const char *unit_instance(const char *name);
/* True for what may stand behind the "@": as a name, but without another "@"; never a path that climbs. */
bool unit_instance_is_valid(const char *instance);

/* True for "[a-zA-Z0-9][a-zA-Z0-9_.@-]*" of at most UNIT_NAME_MAX bytes. */
bool unit_name_is_valid(const char *name, size_t len);
