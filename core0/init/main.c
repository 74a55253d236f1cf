/*
 * main.c - core0, PID 1 of a node: mounts, boot parameters, services, logs, the machine's end.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/boot.h"
#include "init/core.h"
#include "init/fault.h"
#include "init/service.h"
#include "init/stop.h"
#include "lib/file.h"

#define CORE_LOG_SIZE 32768u

static const char core_help[] =
    "core0 - PID 1 of a Croft node: boot, services, logs, shutdown\n"
    "\n"
    "Usage: core0                     as the kernel's init\n"
    "       core0 --root DIR          as PID 1 of a name space, below DIR: mounts nothing, touches "
    "no device\n"
    "       core0 --check DIR         reads the service files of DIR and says what is wrong with "
    "them\n"
    "       core0 --help\n"
    "\n"
    "Services are read from /etc/croft/services/*.service (docs/services.md), boot parameters "
    "from\n"
    "/etc/croft/chain.conf, /etc/croft/boot.conf and the kernel's command line (later ones win).\n"
    "What was parsed is in /run/croft/boot.json; control is org.croft.core on /run/croft/core0.\n"
    "\n"
    "Signals: INT (Ctrl-Alt-Del), TERM: reboot; USR1, USR2: power off.\n"
    "Exit status of --check: 0 all files are good, 1 some are not, 2 wrong use.\n"
    "\n"
    "Example: unshare --user --map-root-user --pid --fork core0 --root /tmp/node\n";

/* ---- signals ---- */

static void core_on_child(struct loop *loop, int signo, void *data)
{
    struct core *core = data;
    int status;
    pid_t pid;

    (void)loop;
    (void)signo;
    /* Everything whose parent has gone is ours as well, and is reaped without a word. */
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        service_reaped(core, pid, status);
    stop_child_gone(core);
}

static void core_on_end(struct loop *loop, int signo, void *data)
{
    (void)loop;
    stop_begin(data, signo == SIGUSR1 || signo == SIGUSR2 ? CORE_END_POWEROFF : CORE_END_REBOOT);
}

static int core_add_signals(struct core *core)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    static const int ignored[] = {SIGPIPE, SIGHUP, SIGALRM, SIGQUIT};
    int ret = loop_signal_add(core->loop, SIGCHLD, core_on_child, core);

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]) && ret == 0; i++)
        ret = loop_signal_add(core->loop, ends[i], core_on_end, core);
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    return ret;
}

/* ---- roles ---- */

static int core_check(const char *folder)
{
    struct core core = {.root = "", .notify_fd = -1};
    struct error err = {0};
    bool bad = false;

    params_init(&core.params);
    ring_init(&core.log, CORE_LOG_SIZE);
    if (loop_new(&core.loop) < 0)
        return 1;
    if (service_load_all(&core, folder, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        bad = true;
    }
    for (size_t i = 0; i < core.service_count; i++) {
        const struct service *service = &core.services[i];

        bad = bad || !service->loadable;
        if (!service->loadable)
            fprintf(stderr, "%s (%s)%s%s\n", service->error.message, service->error.code,
                    service->error.hint[0] != '\0' ? " - " : "", service->error.hint);
    }
    for (size_t i = 0; i < core.template_count; i++) {
        const struct service_template *template = &core.templates[i];

        bad = bad || error_is_set(&template->error);
        if (error_is_set(&template->error))
            fprintf(stderr, "%s (%s)%s%s\n", template->error.message, template->error.code,
                    template->error.hint[0] != '\0' ? " - " : "", template->error.hint);
    }
    service_free_all(&core);
    ring_done(&core.log);
    loop_free(core.loop);
    return bad ? 1 : 0;
}

static _Noreturn void core_run(const char *root, char **arguments, char **environment)
{
    static struct core core; /* large, and as long-lived as the machine */

    core.root = root;
    core.notify_fd = -1;
    core.started_us = loop_clock();
    params_init(&core.params);
    ring_init(&core.log, CORE_LOG_SIZE);
    fault_arm();
    if (loop_new(&core.loop) < 0 || core_add_signals(&core) < 0)
        fault_reboot("no event loop");
    boot_run(&core, arguments, environment);
    loop_run(core.loop);
    fault_reboot("the event loop ended");
}

int main(int argc, char **argv)
{
    static char *nothing[] = {NULL};

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(core_help, stdout);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--check") == 0)
        return core_check(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--root") == 0 && getpid() == 1)
        core_run(argv[2], nothing, nothing);
    if (getpid() != 1) {
        fputs("core0 is PID 1 and nothing else; see --help\n", stderr);
        return 2;
    }
    core_run("", argv + 1, environ);
}
