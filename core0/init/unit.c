/*
 * unit.c - see unit.h. One row of the table per key.
 */
#include "init/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init/seccomp.h"
#include "init/unit_value.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UNIT_LINE_MAX 4096u

enum unit_kind {
    UNIT_KIND_STRING,
    UNIT_KIND_PATH,          /* absolute, without ".." */
    UNIT_KIND_OPTIONAL_PATH, /* the same, perhaps with "-" in front */
    UNIT_KIND_WORDS,
    UNIT_KIND_NAMES,   /* words that are service names, ".service" cut off */
    UNIT_KIND_FOLDERS, /* words that are relative paths without ".." */
    UNIT_KIND_PATHS,   /* words that are absolute paths, perhaps with "-" in front */
    UNIT_KIND_VARIABLES,
    UNIT_KIND_EXEC,
    UNIT_KIND_CHOICE,
    UNIT_KIND_BOOL,
    UNIT_KIND_UINT,
    UNIT_KIND_INT,
    UNIT_KIND_MODE,
    UNIT_KIND_TIME,
    UNIT_KIND_SIZE,
    UNIT_KIND_SIGNAL,
    UNIT_KIND_ERRNO,
    UNIT_KIND_CAPS,
    UNIT_KIND_CALLS,
    UNIT_KIND_IGNORED, /* tells a reader something, core0 nothing */
};

enum unit_section {
    UNIT_SECTION_NONE,
    UNIT_SECTION_UNIT,
    UNIT_SECTION_SERVICE,
    UNIT_SECTION_SOCKET
};

static const char *const unit_sections[] = {
    [UNIT_SECTION_UNIT] = "Unit",
    [UNIT_SECTION_SERVICE] = "Service",
    [UNIT_SECTION_SOCKET] = "Socket",
};

struct unit_key {
    enum unit_section section;
    enum unit_kind kind;
    const char *name;
    size_t offset;
    const char *const *choices; /* ended by NULL */
    uint64_t min;
    uint64_t max;
};

static const char *const unit_types[] = {"simple", "notify", "oneshot", NULL};
static const char *const unit_restarts[] = {"no",          "on-success", "on-failure",
                                            "on-abnormal", "always",     NULL};
static const char *const unit_kills[] = {"control-group", "mixed", "process", "none", NULL};
static const char *const unit_outputs[] = {"ring", "null", "console", "tty", NULL};
static const char *const unit_inputs[] = {"null", "tty", NULL};
static const char *const unit_protects[] = {"no", "full", "strict", NULL};
static const char *const unit_procs[] = {"default", "invisible", NULL};
static const char *const unit_subsets[] = {"all", "pid", NULL};
static const char *const unit_mount_flags[] = {"slave", "shared", NULL};

#define AT(member) offsetof(struct unit, member)
#define TIME_MAX UNIT_INFINITY

static const struct unit_key unit_keys[] = {
    {UNIT_SECTION_UNIT, UNIT_KIND_STRING, "Description", AT(description), NULL, 0, 0},
    {UNIT_SECTION_UNIT, UNIT_KIND_IGNORED, "Documentation", 0, NULL, 0, 0},
    {UNIT_SECTION_UNIT, UNIT_KIND_NAMES, "After", AT(after), NULL, 0, 0},
    {UNIT_SECTION_UNIT, UNIT_KIND_NAMES, "Before", AT(before), NULL, 0, 0},
    {UNIT_SECTION_UNIT, UNIT_KIND_NAMES, "Requires", AT(requires), NULL, 0, 0},
    {UNIT_SECTION_UNIT, UNIT_KIND_WORDS, "ConditionKernelCommandLine", AT(condition_cmdline), NULL,
     0, 0},
    {UNIT_SECTION_UNIT, UNIT_KIND_WORDS, "ConditionPathExists", AT(condition_path), NULL, 0, 0},
    {UNIT_SECTION_UNIT, UNIT_KIND_UINT, "StartLimitBurst", AT(start_limit_burst), NULL, 0, 1000000},
    {UNIT_SECTION_UNIT, UNIT_KIND_TIME, "StartLimitIntervalSec", AT(start_limit_interval_us), NULL,
     0, TIME_MAX},

    /* systemd moved these two to [Unit]; both places are known to people. */
    {UNIT_SECTION_SERVICE, UNIT_KIND_UINT, "StartLimitBurst", AT(start_limit_burst), NULL, 0,
     1000000},
    {UNIT_SECTION_SERVICE, UNIT_KIND_TIME, "StartLimitIntervalSec", AT(start_limit_interval_us),
     NULL, 0, TIME_MAX},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "Type", AT(type), unit_types, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_EXEC, "ExecStart", AT(exec_start), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "Restart", AT(restart), unit_restarts, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_TIME, "RestartSec", AT(restart_us), NULL, 0, 3600000000},
    {UNIT_SECTION_SERVICE, UNIT_KIND_TIME, "RestartMaxDelaySec", AT(restart_max_us), NULL, 0,
     3600000000},
    {UNIT_SECTION_SERVICE, UNIT_KIND_TIME, "WatchdogSec", AT(watchdog_us), NULL, 0, 3600000000},
    {UNIT_SECTION_SERVICE, UNIT_KIND_TIME, "TimeoutStartSec", AT(timeout_start_us), NULL, 1,
     TIME_MAX},
    {UNIT_SECTION_SERVICE, UNIT_KIND_TIME, "TimeoutStopSec", AT(timeout_stop_us), NULL, 1,
     600000000},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "KillMode", AT(kill_mode), unit_kills, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_SIGNAL, "KillSignal", AT(kill_signal), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_STRING, "User", AT(user), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_STRING, "Group", AT(group), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_WORDS, "SupplementaryGroups", AT(supplementary_groups), NULL,
     0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CAPS, "CapabilityBoundingSet", AT(bounding), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CAPS, "AmbientCapabilities", AT(ambient), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_BOOL, "NoNewPrivileges", AT(no_new_privileges), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CALLS, "SystemCallFilter", AT(system_calls), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_ERRNO, "SystemCallErrorNumber", AT(system_call_errno), NULL, 0,
     0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "ProtectSystem", AT(protect_system), unit_protects, 0,
     0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_PATHS, "ReadWritePaths", AT(read_write_paths), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_PATHS, "InaccessiblePaths", AT(inaccessible_paths), NULL, 0,
     0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_BOOL, "PrivateDevices", AT(private_devices), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "ProtectProc", AT(protect_proc), unit_procs, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "ProcSubset", AT(proc_subset), unit_subsets, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_BOOL, "ProtectKernelTunables", AT(protect_tunables), NULL, 0,
     0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_BOOL, "ProtectControlGroups", AT(protect_cgroups), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "MountFlags", AT(mount_flags), unit_mount_flags, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_MODE, "UMask", AT(umask), NULL, 0, 0777},
    {UNIT_SECTION_SERVICE, UNIT_KIND_INT, "OOMScoreAdjust", AT(oom_score_adjust), NULL, 1000, 1000},
    {UNIT_SECTION_SERVICE, UNIT_KIND_INT, "Nice", AT(nice), NULL, 20, 19},
    {UNIT_SECTION_SERVICE, UNIT_KIND_UINT, "LimitNOFILE", AT(limit_nofile), NULL, 3, 1048576},
    {UNIT_SECTION_SERVICE, UNIT_KIND_SIZE, "LimitCORE", AT(limit_core), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_BOOL, "Delegate", AT(delegate), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_SIZE, "MemoryMax", AT(memory_max), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_SIZE, "MemoryHigh", AT(memory_high), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_UINT, "TasksMax", AT(tasks_max), NULL, 1, 4194304},
    {UNIT_SECTION_SERVICE, UNIT_KIND_UINT, "CPUWeight", AT(cpu_weight), NULL, 1, 10000},
    {UNIT_SECTION_SERVICE, UNIT_KIND_UINT, "IOWeight", AT(io_weight), NULL, 1, 10000},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "StandardOutput", AT(output), unit_outputs, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_CHOICE, "StandardInput", AT(input), unit_inputs, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_PATH, "TTYPath", AT(tty_path), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_SIZE, "LogRingSize", AT(log_size), NULL, 4096, 1048576},
    {UNIT_SECTION_SERVICE, UNIT_KIND_VARIABLES, "Environment", AT(environment), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_OPTIONAL_PATH, "EnvironmentFile", AT(environment_file), NULL,
     0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_PATH, "WorkingDirectory", AT(working_directory), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_FOLDERS, "RuntimeDirectory", AT(runtime_directory), NULL, 0,
     0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_MODE, "RuntimeDirectoryMode", AT(runtime_directory_mode), NULL,
     0, 07777},
    {UNIT_SECTION_SERVICE, UNIT_KIND_FOLDERS, "StateDirectory", AT(state_directory), NULL, 0, 0},
    {UNIT_SECTION_SERVICE, UNIT_KIND_MODE, "StateDirectoryMode", AT(state_directory_mode), NULL, 0,
     07777},

    {UNIT_SECTION_SOCKET, UNIT_KIND_PATH, "ListenStream", AT(listen_stream), NULL, 0, 0},
    {UNIT_SECTION_SOCKET, UNIT_KIND_MODE, "SocketMode", AT(socket_mode), NULL, 0, 0777},
};

static const struct unit unit_defaults = {
    .restart_us = 100000,       /* 100 ms, doubled at every failure … */
    .restart_max_us = 30000000, /* … up to 30 s */
    .start_limit_interval_us = 10000000,
    .timeout_start_us = 90000000,
    .timeout_stop_us = 10000000,
    .kill_signal = SIGTERM,
    .bounding = UINT64_MAX,
    .umask = 0022,
    .memory_max = UNIT_INFINITY,
    .memory_high = UNIT_INFINITY,
    .tasks_max = UNIT_INFINITY,
    .limit_core = 0,
    .log_size = 65536,
    .runtime_directory_mode = 0755,
    .state_directory_mode = 0700,
    .socket_mode = 0660,
};

bool unit_name_is_valid(const char *name, size_t len)
{
    if (len == 0 || len > UNIT_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char byte = name[i];
        bool is_word = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                       (byte >= '0' && byte <= '9');

        if (!is_word && (i == 0 || strchr("_.@-", byte) == NULL || byte == '\0'))
            return false;
    }
    return true;
}

const char *unit_instance(const char *name)
{
    const char *at = strchr(name, '@');

    return at != NULL && at[1] != '\0' ? at + 1 : NULL;
}

bool unit_instance_is_valid(const char *instance)
{
    return unit_name_is_valid(instance, strlen(instance)) && strchr(instance, '@') == NULL;
}

/* ---- values ---- */

static bool unit_path_is_clean(const char *path, bool absolute)
{
    if ((path[0] == '/') != absolute || path[0] == '\0')
        return false;
    for (const char *at = strstr(path, ".."); at != NULL; at = strstr(at + 2, "..")) {
        bool starts = at == path || at[-1] == '/';

        if (starts && (at[2] == '/' || at[2] == '\0'))
            return false;
    }
    return true;
}

static int unit_set_string(char **member, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return -ENOMEM;
    free(*member);
    *member = copy;
    return 0;
}

static int unit_set_names(struct unit_list *list, const char *value)
{
    static const char suffix[] = ".service";
    size_t first = list->count;
    int ret = unit_value_words(value, list);

    for (size_t i = first; i < list->count && ret == 0; i++) {
        char *name = list->items[i];
        size_t len = strlen(name);

        if (len > sizeof(suffix) - 1 && strcmp(name + len - (sizeof(suffix) - 1), suffix) == 0) {
            len -= sizeof(suffix) - 1;
            name[len] = '\0';
        }
        if (!unit_name_is_valid(name, len))
            ret = -EINVAL;
    }
    return ret;
}

static int unit_set_checked_words(struct unit_list *list, const char *value, enum unit_kind kind)
{
    int ret = unit_value_words(value, list);

    for (size_t i = 0; i < list->count && ret == 0; i++) {
        const char *word = list->items[i];
        const char *equals = strchr(word, '=');

        if (kind == UNIT_KIND_FOLDERS && !unit_path_is_clean(word, false))
            ret = -EINVAL;
        if (kind == UNIT_KIND_PATHS && !unit_path_is_clean(word + (*word == '-'), true))
            ret = -EINVAL;
        if (kind == UNIT_KIND_VARIABLES && (equals == NULL || equals == word))
            ret = -EINVAL;
    }
    return ret;
}

static int unit_set_exec(struct unit *unit, const char *value)
{
    int ret;

    if (unit->exec_start.count > 0 && *value != '\0')
        return -EINVAL; /* one program per service */
    unit->exec_ignore_failure = *value == '-';
    ret = unit_value_words(unit->exec_ignore_failure ? value + 1 : value, &unit->exec_start);
    if (ret == 0 && unit->exec_start.count > 0 &&
        !unit_path_is_clean(unit->exec_start.items[0], true))
        ret = -EINVAL;
    return ret;
}

static int unit_set_calls(struct unit *unit, const char *value)
{
    bool deny = *value == '~';
    int ret;

    if (unit->system_calls.count > 0 && *value != '\0' && deny != unit->system_calls_deny)
        return -EINVAL; /* one kind of list per service: mixing them is read differently by everybody */
    unit->system_calls_deny = deny;
    ret = unit_value_words(deny ? value + 1 : value, &unit->system_calls);
    for (size_t i = 0; i < unit->system_calls.count && ret == 0; i++) {
        if (!seccomp_knows(unit->system_calls.items[i]))
            ret = -EINVAL;
    }
    return ret;
}

static int unit_set_choice(const char *const *choices, const char *value, int *member)
{
    for (int i = 0; choices[i] != NULL; i++) {
        if (strcmp(choices[i], value) == 0) {
            *member = i;
            return 0;
        }
    }
    return -EINVAL;
}

static int unit_set_number(const struct unit_key *key, const char *value, uint64_t *member)
{
    uint64_t number = 0;
    int ret;

    if (key->kind == UNIT_KIND_TIME)
        ret = unit_value_time(value, &number);
    else if (key->kind == UNIT_KIND_SIZE)
        ret = unit_value_size(value, &number);
    else
        ret = unit_value_uint(value, key->kind == UNIT_KIND_MODE ? 8 : 10, &number);
    if (ret < 0 || number < key->min || (key->max != 0 && number > key->max))
        return -EINVAL;
    *member = number;
    return 0;
}

/* min is the amount below zero that is allowed. */
static int unit_set_int(const struct unit_key *key, const char *value, int64_t *member)
{
    bool negative = *value == '-';
    uint64_t number;

    if (unit_value_uint(negative ? value + 1 : value, 10, &number) < 0 ||
        number > (negative ? key->min : key->max))
        return -EINVAL;
    *member = negative ? -(int64_t)number : (int64_t)number;
    return 0;
}

static int unit_set(struct unit *unit, const struct unit_key *key, const char *value)
{
    void *member = (char *)unit + key->offset;

    switch (key->kind) {
    case UNIT_KIND_IGNORED:
        return 0;
    case UNIT_KIND_STRING:
        return unit_set_string(member, value);
    case UNIT_KIND_PATH:
        return unit_path_is_clean(value, true) ? unit_set_string(member, value) : -EINVAL;
    case UNIT_KIND_OPTIONAL_PATH:
        return unit_path_is_clean(value + (*value == '-'), true) ? unit_set_string(member, value)
                                                                 : -EINVAL;
    case UNIT_KIND_WORDS:
        return unit_value_words(value, member);
    case UNIT_KIND_NAMES:
        return unit_set_names(member, value);
    case UNIT_KIND_FOLDERS:
    case UNIT_KIND_PATHS:
    case UNIT_KIND_VARIABLES:
        return unit_set_checked_words(member, value, key->kind);
    case UNIT_KIND_EXEC:
        return unit_set_exec(unit, value);
    case UNIT_KIND_CHOICE:
        return unit_set_choice(key->choices, value, member);
    case UNIT_KIND_BOOL:
        return unit_value_bool(value, member);
    case UNIT_KIND_INT:
        return unit_set_int(key, value, member);
    case UNIT_KIND_UINT:
    case UNIT_KIND_MODE:
    case UNIT_KIND_TIME:
    case UNIT_KIND_SIZE:
        return unit_set_number(key, value, member);
    case UNIT_KIND_SIGNAL:
        return unit_value_signal(value, member);
    case UNIT_KIND_ERRNO:
        return unit_value_errno(value, member);
    case UNIT_KIND_CAPS:
        return unit_value_caps(value, member);
    case UNIT_KIND_CALLS:
        return unit_set_calls(unit, value);
    }
    return -EINVAL;
}

/* ---- lines ---- */

static bool unit_is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

struct unit_reader {
    struct unit *unit;
    enum unit_section section;
    int line;
    struct error *err;
};

#define UNIT_HINT "see docs/services.md for the keys that core0 knows"

static int unit_read_section(struct unit_reader *reader, const char *text)
{
    for (size_t i = UNIT_SECTION_UNIT; i < COUNT(unit_sections); i++) {
        size_t len = strlen(unit_sections[i]);

        if (strncmp(text + 1, unit_sections[i], len) == 0 && strcmp(text + 1 + len, "]") == 0) {
            reader->section = (enum unit_section)i;
            return 0;
        }
    }
    return error_set(
        reader->err, EINVAL, "service.bad-file",
        "sections are [Unit], [Service] and [Socket]; every service of the folder is started",
        "%s, line %d: section %.40s is not known", reader->unit->name, reader->line, text);
}

static int unit_read_pair(struct unit_reader *reader, char *text)
{
    char *equals = strchr(text, '=');
    const struct unit_key *found = NULL;
    char expanded[UNIT_LINE_MAX];
    const char *value;
    size_t len;
    int ret;

    if (equals == NULL)
        return error_set(reader->err, EINVAL, "service.bad-file", UNIT_HINT,
                         "%s, line %d: neither a section nor Key=value", reader->unit->name,
                         reader->line);
    value = equals + 1;
    while (unit_is_space(*value))
        value++;
    len = (size_t)(equals - text);
    while (len > 0 && unit_is_space(text[len - 1]))
        len--;
    text[len] = '\0';

    for (size_t i = 0; i < COUNT(unit_keys); i++) {
        if (unit_keys[i].section == reader->section && strcmp(unit_keys[i].name, text) == 0)
            found = &unit_keys[i];
    }
    if (found == NULL)
        return error_set(reader->err, EINVAL, "service.bad-file", UNIT_HINT,
                         "%s, line %d: key %.40s is not known%s%s%s", reader->unit->name,
                         reader->line, text,
                         reader->section == UNIT_SECTION_NONE ? " outside of a section" : " in [",
                         reader->section == UNIT_SECTION_NONE ? "" : unit_sections[reader->section],
                         reader->section == UNIT_SECTION_NONE ? "" : "]");
    ret = 0;
    if (unit_instance(reader->unit->name) != NULL) {
        ret = unit_value_expand(value, reader->unit->name, expanded, sizeof(expanded));
        value = ret == 0 ? expanded : value;
    }
    if (ret == 0)
        ret = unit_set(reader->unit, found, value);
    if (ret < 0)
        return error_set(reader->err, -ret, "service.bad-file", UNIT_HINT,
                         "%s, line %d: %s=%.80s is not valid", reader->unit->name, reader->line,
                         found->name, value);
    return 0;
}

static int unit_read_line(struct unit_reader *reader, char *text)
{
    size_t len = strlen(text);

    while (len > 0 && unit_is_space(text[len - 1]))
        text[--len] = '\0';
    while (unit_is_space(*text))
        text++;
    if (*text == '\0' || *text == '#' || *text == ';')
        return 0;
    return *text == '[' ? unit_read_section(reader, text) : unit_read_pair(reader, text);
}

/* Lines that end with a backslash go on in the next one. */
static int unit_read_lines(struct unit_reader *reader, const char *text, size_t len)
{
    char line[UNIT_LINE_MAX];
    size_t filled = 0;
    int number = 1;
    size_t at = 0;

    while (at < len) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t piece = newline != NULL ? (size_t)(newline - text) - at : len - at;
        bool goes_on = piece > 0 && text[at + piece - 1] == '\\';

        if (filled == 0)
            reader->line = number;
        if (piece >= sizeof(line) - filled)
            return error_set(reader->err, E2BIG, "service.bad-file", NULL,
                             "%s, line %d is longer than %u bytes", reader->unit->name, number,
                             UNIT_LINE_MAX);
        memcpy(line + filled, text + at, piece);
        filled += piece;
        line[filled] = '\0';
        if (goes_on) {
            line[filled - 1] = ' ';
        } else {
            int ret = unit_read_line(reader, line);

            if (ret < 0)
                return ret;
            filled = 0;
        }
        at += piece + 1;
        number++;
    }
    return filled > 0 ? unit_read_line(reader, line) : 0;
}

static int unit_check(struct unit *unit, struct error *err)
{
    if (unit->exec_start.count == 0)
        return error_set(err, EINVAL, "service.bad-file", UNIT_HINT, "%s: ExecStart= is missing",
                         unit->name);
    for (size_t i = 0; i < unit->requires.count; i++) {
        int ret = unit_list_has(&unit->after, unit->requires.items[i])
                      ? 0
                      : unit_list_add(&unit->after, unit->requires.items[i]);

        if (ret < 0)
            return error_set(err, -ret, "service.bad-file", NULL, "%s: too many dependencies",
                             unit->name);
    }
    if (unit->restart_max_us < unit->restart_us)
        unit->restart_max_us = unit->restart_us;
    /* What a peer of the node's mount namespace binds or covers, it binds and covers for everybody. */
    if (unit->mount_flags == UNIT_MOUNTS_SHARED &&
        (unit->protect_system == UNIT_PROTECT_STRICT || unit->read_write_paths.count > 0 ||
         unit->inaccessible_paths.count > 0 || unit->private_devices ||
         unit->protect_proc != UNIT_PROC_DEFAULT || unit->proc_subset != UNIT_PROC_ALL ||
         unit->protect_tunables || unit->protect_cgroups))
        return error_set(err, EINVAL, "service.bad-file", UNIT_HINT,
                         "%s: with MountFlags=shared only ProtectSystem=full is possible",
                         unit->name);
    if (unit->read_write_paths.count > 0 && unit->protect_system != UNIT_PROTECT_STRICT)
        return error_set(err, EINVAL, "service.bad-file", UNIT_HINT,
                         "%s: ReadWritePaths= means nothing without ProtectSystem=strict",
                         unit->name);
    /* Without it only CAP_SYS_ADMIN may load a filter (seccomp(2)), and after the switch of users that is gone. For root it is the
     * file's choice, as its children inherit it (systemd.exec(5) says the same). */
    if (unit->system_calls.count > 0 && (unit->user != NULL || unit->group != NULL))
        unit->no_new_privileges = true;
    return 0;
}

int unit_parse(const char *name, const char *text, size_t len, struct unit *ret_unit,
               struct error *err)
{
    struct unit_reader reader = {.unit = ret_unit, .err = err};
    int ret;

    *ret_unit = unit_defaults;
    snprintf(ret_unit->name, sizeof(ret_unit->name), "%s", name);
    if (!unit_name_is_valid(name, strlen(name)))
        return error_set(err, EINVAL, "service.bad-name", NULL,
                         "\"%.80s\" cannot be a service's name", name);
    if (len > UNIT_FILE_MAX)
        return error_set(err, EFBIG, "service.bad-file", NULL, "%s is larger than %u bytes", name,
                         UNIT_FILE_MAX);
    if (memchr(text, '\0', len) != NULL)
        return error_set(err, EINVAL, "service.bad-file", NULL, "%s holds a NUL byte", name);
    ret = unit_read_lines(&reader, text, len);
    if (ret == 0)
        ret = unit_check(ret_unit, err);
    if (ret < 0) {
        unit_done(ret_unit);
        snprintf(ret_unit->name, sizeof(ret_unit->name), "%s", name);
    }
    return ret;
}

void unit_done(struct unit *unit)
{
    for (size_t i = 0; i < COUNT(unit_keys); i++) {
        void *member = (char *)unit + unit_keys[i].offset;

        switch (unit_keys[i].kind) {
        case UNIT_KIND_STRING:
        case UNIT_KIND_PATH:
        case UNIT_KIND_OPTIONAL_PATH:
            free(*(char **)member);
            break;
        case UNIT_KIND_WORDS:
        case UNIT_KIND_NAMES:
        case UNIT_KIND_FOLDERS:
        case UNIT_KIND_PATHS:
        case UNIT_KIND_VARIABLES:
        case UNIT_KIND_EXEC:
        case UNIT_KIND_CALLS:
            unit_list_done(member);
            break;
        default:
            break;
        }
    }
    *unit = (struct unit){0};
}
