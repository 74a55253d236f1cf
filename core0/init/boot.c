/*
 * boot.c - see boot.h.
 */
#include "init/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "init/boot_mounts.h"
#include "init/cgroup.h"
#include "init/console.h"
#include "init/control.h"
#include "init/events.h"
#include "init/forward.h"
#include "init/notify_socket.h"
#include "init/power_button.h"
#include "init/service.h"
#include "init/watchdog.h"
#include "lib/file.h"

#define BOOT_NODED_UID 105 /* of the image's /etc/passwd; used when that cannot be read */

struct boot {
    struct core *core;
    char *const *arguments;
    char *const *environment;
};

typedef int boot_step_fn(struct boot *boot, struct error *err);

/* ---- the machine ---- */

static int boot_root(struct boot *boot, struct error *err)
{
    (void)boot;
    return boot_leave_initramfs(err);
}

static int boot_mount(struct boot *boot, struct error *err)
{
    int ret = boot_mount_all(err);
    int fd;

    snprintf(boot->core->cgroup, sizeof(boot->core->cgroup), "/sys/fs/cgroup");
    /* The kernel opens a console only if the initramfs has one: 0, 1 and 2 are never somebody else's file. */
    fd = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3 && fd >= 0; i++) {
        if (fd != i && fcntl(i, F_GETFD) < 0)
            dup2(fd, i);
    }
    if (fd > 2)
        close(fd);
    events_look(boot->core);
    return ret;
}

static const struct {
    const char *path;
    const char *value;
} boot_settings[] = {
    /* The kernel's log holds its command line, and that the join token. */
    {"/proc/sys/kernel/dmesg_restrict", "1"},
    {"/proc/sys/kernel/kptr_restrict", "1"},
    {"/proc/sys/kernel/unprivileged_bpf_disabled", "1"},
    {"/proc/sys/fs/protected_hardlinks", "1"},
    {"/proc/sys/fs/protected_symlinks", "1"},
    {"/proc/sys/fs/protected_fifos", "1"},
    {"/proc/sys/fs/protected_regular", "1"},
    {"/proc/sys/fs/suid_dumpable", "0"},
    /* A machine that nobody sits at restarts. */
    {"/proc/sys/kernel/panic", "10"},
    {"/proc/sys/kernel/panic_on_oops", "1"},
    {"/proc/sys/kernel/ctrl-alt-del", "0"}, /* asks init instead of resetting */
    /* Databases in containers ask for these. */
    {"/proc/sys/vm/max_map_count", "262144"},
    {"/proc/sys/kernel/pid_max", "4194304"},
    {"/proc/sys/fs/inotify/max_user_instances", "1024"},
    /* Limits of the whole machine, which one tenant could use up for all. What they bound is memory, and that is counted
     * by its cgroup (Documentation/admin-guide/cgroup-v2.rst, memory). */
    {"/proc/sys/fs/file-max", "9223372036854775807"},
    {"/proc/sys/fs/aio-max-nr", "1073741824"},
    {"/proc/sys/kernel/threads-max", "4194304"},
};

#define RESERVE_SHARE 256 /* of the memory, at most */

/* For huge pages the kernel sets a reserve aside that suits large machines: 22 MB of a machine with 1 GiB, and as much again in
 * lists of free pages whose length follows from it (Documentation/admin-guide/sysctl/vm.rst, min_free_kbytes). */
static void boot_reserve(struct boot *boot)
{
    static const char path[] = "/proc/sys/vm/min_free_kbytes";
    cleanup_free char *text = NULL;
    char value[32];
    struct sysinfo info;
    size_t len;

    if (sysinfo(&info) < 0 || file_read(path, 64, &text, &len) < 0)
        return;
    unsigned long long most =
        (unsigned long long)info.totalram * info.mem_unit / 1024 / RESERVE_SHARE;
    if (strtoull(text, NULL, 10) <= most)
        return;
    snprintf(value, sizeof(value), "%llu", most);
    int ret = file_write_text(path, value);
    if (ret < 0)
        core_log(boot->core, 4, "%s: %s", path, strerror(-ret));
}

static int boot_kernel(struct boot *boot, struct error *err)
{
    const struct rlimit files = {.rlim_cur = 65536, .rlim_max = 1048576};

    (void)err;
    for (size_t i = 0; i < sizeof(boot_settings) / sizeof(boot_settings[0]); i++) {
        int ret = file_write_text(boot_settings[i].path, boot_settings[i].value);

        if (ret < 0 && ret != -ENOENT)
            core_log(boot->core, 4, "%s: %s", boot_settings[i].path, strerror(-ret));
    }
    boot_reserve(boot);
    /* The mode belongs to the file, not to this mount: every /proc of every container gets it. */
    if (chmod("/proc/cmdline", 0400) < 0)
        core_log(boot->core, 4, "/proc/cmdline stays readable: %s", strerror(errno));
    setrlimit(RLIMIT_NOFILE, &files);
    sethostname("croft", 5);
    return 0;
}

static int boot_clock(struct boot *boot, struct error *err)
{
    const struct timespec built = {.tv_sec = (time_t)boot->core->build_time};

    if (time(NULL) >= built.tv_sec)
        return 0;
    if (clock_settime(CLOCK_REALTIME, &built) < 0)
        return error_set(err, errno, "boot.clock", NULL, "the clock cannot be set: %s",
                         strerror(errno));
    core_log(boot->core, 4, "the clock was before this image was built; it is set to that time");
    return 0;
}

static int boot_watchdog(struct boot *boot, struct error *err)
{
    struct core *core = boot->core;
    int ret = watchdog_open(core);

    if (ret < 0 && ret != -ENODEV)
        return error_set(err, -ret, "boot.watchdog", NULL, "the hardware watchdog: %s",
                         strerror(-ret));
    if (ret < 0)
        core_log(core, 6, "this machine has no hardware watchdog");
    else
        core_log(core, 6, "hardware watchdog: %s", watchdog_identity(core));
    if (core->previous_end[0] != '\0') {
        events_send_text(core, "core0", "previous-end", "text", core->previous_end);
        core_log(core, 4, "before this start: %s", core->previous_end);
    }
    return 0;
}

static int boot_button(struct boot *boot, struct error *err)
{
    (void)err;
    power_button_open(boot->core);
    return 0;
}

/* ---- what the machine is told ---- */

/* NAME=value or NAME="value" of os-release(5). */
static bool boot_release_value(const char *text, const char *name, char *buf, size_t size)
{
    size_t name_len = strlen(name);

    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, name, name_len) == 0 && line[name_len] == '=') {
            const char *value = line + name_len + 1;
            bool quoted = *value == '"';

            value += quoted ? 1 : 0;
            snprintf(buf, size, "%.*s", (int)strcspn(value, quoted ? "\"\n" : "\n"), value);
            return true;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

static void boot_read_release(struct core *core)
{
    cleanup_free char *text = NULL;
    char path[300];
    char value[64];

    snprintf(core->version, sizeof(core->version), "unknown");
    core_path(core, path, sizeof(path), "/etc/os-release");
    if (file_read(path, 16384, &text, NULL) < 0)
        return;
    if (boot_release_value(text, "VERSION_ID", value, sizeof(value)))
        snprintf(core->version, sizeof(core->version), "%s", value);
    if (boot_release_value(text, "CROFT_BUILD_TIME", value, sizeof(value)))
        core->build_time = strtoll(value, NULL, 10);
}

static void boot_read_id(struct core *core)
{
    cleanup_free char *text = NULL;
    size_t len = 0;

    if (file_read("/proc/sys/kernel/random/boot_id", 64, &text, NULL) < 0)
        return;
    for (const char *at = text; *at != '\0' && len + 1 < sizeof(core->boot_id); at++) {
        if (*at != '-' && *at != '\n')
            core->boot_id[len++] = *at;
    }
    core->boot_id[len] = '\0';
}

static int boot_identity(struct boot *boot, struct error *err)
{
    (void)err;
    boot_read_release(boot->core);
    boot_read_id(boot->core);
    return 0;
}

static void boot_read_params_file(struct core *core, enum params_source source, const char *file)
{
    cleanup_free char *text = NULL;
    char path[300];
    size_t len = 0;
    int ret;

    core_path(core, path, sizeof(path), file);
    ret = file_read(path, PARAMS_FILE_MAX + 1, &text, &len);
    if (ret == 0)
        params_read_file(&core->params, source, text, len);
    else if (ret != -ENOENT)
        params_error(&core->params, "boot.unreadable", NULL, "%s cannot be read: %s", file,
                     strerror(-ret));
}

static int boot_write_token(struct core *core, struct error *err)
{
    const struct passwd *noded = getpwnam("noded");
    uid_t uid = noded != NULL ? noded->pw_uid : BOOT_NODED_UID;
    char *token = core->params.join;
    char path[300];
    int ret;

    if (token == NULL)
        return 0;
    core_path(core, path, sizeof(path), "/run/croft/join.token");
    ret = file_write_atomic(path, token, strlen(token), 0600);
    if (ret == 0 && chown(path, uid, (gid_t)-1) < 0 && core->root[0] == '\0')
        ret = -errno;
    /* From here on only noded has it. */
    explicit_bzero(token, strlen(token));
    free(token);
    core->params.join = NULL;
    return ret < 0 ? error_set(err, -ret, "boot.token", NULL,
                               "the join token cannot be handed on: %s", strerror(-ret))
                   : 0;
}

static int boot_write_json(struct core *core, struct error *err)
{
    yyjson_mut_doc *doc =
        params_to_json(&core->params, core->version, core->boot_id, core->build_time);
    size_t len = 0;
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, &len);
    char path[300];
    int ret = text == NULL
                  ? -ENOMEM
                  : file_write_atomic(core_path(core, path, sizeof(path), "/run/croft/boot.json"),
                                      text, len, 0644);

    free(text);
    yyjson_mut_doc_free(doc);
    if (ret < 0)
        return error_set(err, -ret, "boot.json", NULL, "boot.json cannot be written: %s",
                         strerror(-ret));
    return 0;
}

static int boot_params(struct boot *boot, struct error *err)
{
    struct core *core = boot->core;
    cleanup_free char *line = NULL;
    char path[300];
    size_t len = 0;
    int ret;

    boot_read_params_file(core, PARAMS_SOURCE_DEFAULTS, "/etc/croft/chain.conf");
    boot_read_params_file(core, PARAMS_SOURCE_FILE, "/etc/croft/boot.conf");
    ret = file_read(core_path(core, path, sizeof(path), "/proc/cmdline"), 65536, &line, &len);
    if (ret == 0) {
        params_read_line(&core->params, line, len);
        explicit_bzero(line, len);
    } else if (ret != -ENOENT || core->root[0] == '\0') {
        params_error(&core->params, "boot.unreadable", NULL, "the command line cannot be read: %s",
                     strerror(-ret));
    }
    params_read_handed(&core->params, boot->arguments, boot->environment);
    params_check(&core->params);
    ret = boot_write_token(core, err);
    return ret < 0 ? ret : boot_write_json(core, err);
}

static int boot_params_told(struct boot *boot, struct error *err)
{
    struct core *core = boot->core;
    size_t shown =
        core->params.error_count < PARAMS_ERRORS_MAX ? core->params.error_count : PARAMS_ERRORS_MAX;

    (void)err;
    for (size_t i = 0; i < shown; i++)
        core_error(core, NULL, &core->params.errors[i]);
    if (core->params.error_count > 0)
        core_log(core, 3,
                 "boot parameters are wrong: this node does not register and runs nothing");
    else if (core->params.farmer_id == 0)
        core_log(core, 4, "no farmer_id is given: this node runs unregistered");
    if (core->params.chain.count == 0)
        core_log(core, 4, "this image has no chain built in, and croft.chain is not given");
    if (core->params.runmode == PARAMS_DEV) {
        char path[300];

        /* Of fault points (lib/fault.h). Here before any daemon, as its view is made when it starts. */
        (void)file_mkdirs(core_path(core, path, sizeof(path), "/run/croft/fault"), 0755);
        core_log(core, 4,
                 "runmode=dev: a shell on the console, plain HTTP to chain and relay are allowed");
    }
    return 0;
}

/* ---- what core0 needs for itself ---- */

static int boot_folders(struct boot *boot, struct error *err)
{
    /* What stands above a container's root must let it pass: 711 (containers.md); noded lists the pools. */
    static const struct {
        const char *path;
        mode_t mode;
    } folders[] = {
        {"/run/croft", 0711},       {"/run/croft/containers", 0711}, {"/run/croft/images", 0711},
        {"/run/croft/disks", 0711}, {"/run/croft/pools", 0755},      {"/var", 0755},
        {"/var/croft", 0711},
    };

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char path[300];
        int ret = file_mkdirs(core_path(boot->core, path, sizeof(path), folders[i].path), 0755);

        if (ret < 0 || chmod(path, folders[i].mode) < 0)
            return error_set(err, ret < 0 ? -ret : errno, "boot.folder", NULL,
                             "%s cannot be made: %s", path, strerror(ret < 0 ? -ret : errno));
    }
    return 0;
}

static int boot_cgroups(struct boot *boot, struct error *err)
{
    int ret = cgroup_prepare(boot->core);

    if (ret < 0 && ret != -ENODEV) {
        boot->core->cgroup[0] = '\0';
        return error_set(err, -ret, "boot.cgroup", NULL, "control groups: %s", strerror(-ret));
    }
    return 0;
}

static int boot_console(struct boot *boot, struct error *err)
{
    int ret = console_open(boot->core);

    return ret < 0 ? error_set(err, -ret, "boot.console", NULL, "console: %s", strerror(-ret)) : 0;
}

static int boot_events(struct boot *boot, struct error *err)
{
    int ret = events_open(boot->core);

    return ret < 0 ? error_set(err, -ret, "boot.events", NULL, "events: %s", strerror(-ret)) : 0;
}

static int boot_forward(struct boot *boot, struct error *err)
{
    int ret = forward_open(boot->core);

    return ret < 0 ? error_set(err, -ret, "boot.log", NULL, "logs are not forwarded: %s",
                               strerror(-ret))
                   : 0;
}

static int boot_notify(struct boot *boot, struct error *err)
{
    return notify_socket_open(boot->core, err);
}

static int boot_control(struct boot *boot, struct error *err)
{
    return control_open(boot->core, err);
}

static int boot_services(struct boot *boot, struct error *err)
{
    char path[300];

    return service_load_all(boot->core,
                            core_path(boot->core, path, sizeof(path), "/etc/croft/services"), err);
}

static const struct {
    const char *name;
    boot_step_fn *fn;
    bool machine; /* only on a machine, not in a name space */
} boot_steps[] = {
    {"events", boot_events, false},     {"root", boot_root, true},
    {"mounts", boot_mount, true},       {"identity", boot_identity, false},
    {"folders", boot_folders, false},   {"parameters", boot_params, false},
    {"console", boot_console, false},   {"told", boot_params_told, false},
    {"kernel", boot_kernel, true},      {"clock", boot_clock, true},
    {"watchdog", boot_watchdog, true},  {"button", boot_button, true},
    {"cgroups", boot_cgroups, false},   {"forward", boot_forward, false},
    {"notify", boot_notify, false},     {"control", boot_control, false},
    {"services", boot_services, false},
};

void boot_run(struct core *core, char *const *arguments, char *const *environment)
{
    struct boot boot = {.core = core, .arguments = arguments, .environment = environment};

    for (size_t i = 0; i < sizeof(boot_steps) / sizeof(boot_steps[0]); i++) {
        struct error err = {0};

        if (boot_steps[i].machine && core->root[0] != '\0')
            continue;
        if (boot_steps[i].fn(&boot, &err) < 0)
            core_error(core, NULL, &err);
        events_send_boot(core, boot_steps[i].name);
    }
    core->stage = CORE_RUNNING;
    events_send_boot(core, "ready");
    core_log(core, 5, "Croft %s, core0 is ready", core->version);
    service_start_all(core);
}
