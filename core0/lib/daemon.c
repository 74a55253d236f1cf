/*
 * daemon.c - see daemon.h.
 */
#include "lib/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/notify.h"

#ifndef CROFT_VERSION
#define CROFT_VERSION "unknown"
#endif

#define DAEMON_LISTEN_FD 3 /* SD_LISTEN_FDS_START */

struct daemon {
    const struct daemon_spec *spec;
    struct loop *loop;
    struct varlink_server *server;
    struct loop_timer *watchdog;
    uint64_t watchdog_interval;
    void *state;
    const char *socket;
    const char *boot;
};

struct loop *daemon_loop(struct daemon *daemon)
{
    return daemon->loop;
}

const char *daemon_boot_path(struct daemon *daemon)
{
    return daemon->boot;
}

const char *daemon_version(void)
{
    /* core0 gives the image's version to its services; a program started by hand knows only its own. */
    const char *version = getenv("CROFT_VERSION");

    return version != NULL && version[0] != '\0' ? version : CROFT_VERSION;
}

/* ---- options ---- */

static void daemon_print_option(const char *name, const char *argument, const char *help)
{
    char left[64];

    snprintf(left, sizeof(left), "%s%s%s", name, argument != NULL ? " " : "",
             argument != NULL ? argument : "");
    printf("  %-22s %s\n", left, help);
}

static void daemon_print_help(const struct daemon_spec *spec)
{
    char socket_help[128];

    printf("%s - %s\n\nUsage: %s [OPTION]…\n\n", spec->name, spec->summary, spec->name);
    snprintf(socket_help, sizeof(socket_help), "where to listen (/run/croft/%s)", spec->name);
    daemon_print_option("--socket", "PATH", socket_help);
    daemon_print_option("--boot", "FILE", "what core0 parsed (/run/croft/boot.json)");
    for (const struct daemon_option *option = spec->options; option != NULL && option->name != NULL;
         option++)
        daemon_print_option(option->name, option->argument, option->help);
    daemon_print_option("--debug", NULL, "log more");
    daemon_print_option("--help", NULL, "show this");
    daemon_print_option("--version", NULL, "show the version");
    printf("\nExample: %s --socket /tmp/%s.socket --debug\n", spec->name, spec->name);
}

/* Takes "--name value", "--name=value" or a flag. 1: taken, 0: another option, -1: wrong use (said). */
static int daemon_take_option(const char *name, const char *argument, const char **value,
                              char **argv, int *index)
{
    const char *given = argv[*index];
    size_t len = strlen(name);

    if (strncmp(given, name, len) != 0 || (given[len] != '\0' && given[len] != '='))
        return 0;
    if (argument == NULL) {
        if (given[len] == '=') {
            fprintf(stderr, "%s takes no value\n", name);
            return -1;
        }
        *value = "";
        return 1;
    }
    if (given[len] == '=') {
        *value = given + len + 1;
        return 1;
    }
    if (argv[*index + 1] == NULL) {
        fprintf(stderr, "%s wants %s\n", name, argument);
        return -1;
    }
    *value = argv[++*index];
    return 1;
}

/* 0: go on; 1: done (help, version); -1: wrong use. */
static int daemon_parse_options(struct daemon *daemon, char **argv)
{
    const char *help = NULL;
    const char *version = NULL;
    const char *debug = NULL;
    const struct daemon_option common[] = {
        {"--socket", "PATH", "", &daemon->socket},
        {"--boot", "FILE", "", &daemon->boot},
        {"--debug", NULL, "", &debug},
        {"--help", NULL, "", &help},
        {"--version", NULL, "", &version},
        {NULL, NULL, NULL, NULL},
    };

    for (int i = 1; argv[i] != NULL; i++) {
        const struct daemon_option *lists[] = {common, daemon->spec->options};
        int taken = 0;

        for (size_t list = 0; list < 2 && taken == 0; list++) {
            for (const struct daemon_option *option = lists[list];
                 option != NULL && option->name != NULL && taken == 0; option++)
                taken = daemon_take_option(option->name, option->argument, option->value, argv, &i);
        }
        if (taken == 0)
            fprintf(stderr, "%s: unknown option %s (see --help)\n", daemon->spec->name, argv[i]);
        if (taken <= 0)
            return -1;
    }
    if (debug != NULL)
        log_set_level(LOG_LEVEL_DEBUG);
    if (help != NULL)
        daemon_print_help(daemon->spec);
    else if (version != NULL)
        printf("%s %s\n", daemon->spec->name, daemon_version());
    return help != NULL || version != NULL ? 1 : 0;
}

/* ---- running ---- */

void daemon_exit(struct daemon *daemon)
{
    if (daemon->spec->stop != NULL)
        daemon->spec->stop(daemon->state);
    loop_exit(daemon->loop, 0);
}

static void daemon_terminate(struct loop *loop, int signo, void *data)
{
    struct daemon *daemon = data;

    (void)loop;
    (void)signo;
    notify_stopping();
    if (daemon->spec->machine_stops != NULL && access(DAEMON_MACHINE_STOPS, F_OK) == 0 &&
        daemon->spec->machine_stops(daemon->state))
        return;
    daemon_exit(daemon);
}

static void daemon_watchdog(struct loop_timer *timer, void *data)
{
    struct daemon *daemon = data;

    notify_watchdog();
    loop_timer_in(timer, daemon->watchdog_interval);
}

/* The socket that core0 made for us (sd_listen_fds(3)), or -1: it lives on while this program is replaced, and a
 * program without privileges could not make one in /run/croft. */
static int daemon_passed_socket(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");

    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != (long)getpid() ||
        strcmp(count, "1") != 0)
        return -1;
    fcntl(DAEMON_LISTEN_FD, F_SETFD, FD_CLOEXEC);
    fcntl(DAEMON_LISTEN_FD, F_SETFL, O_NONBLOCK);
    return DAEMON_LISTEN_FD;
}

static int daemon_listen(struct daemon *daemon, struct error *err)
{
    const struct daemon_spec *spec = daemon->spec;
    int fd = daemon_passed_socket();
    int ret;

    if (fd < 0)
        return varlink_server_listen(daemon->server, daemon->socket,
                                     spec->socket_mode != 0 ? spec->socket_mode : 0660, err);
    ret = varlink_server_add_fd(daemon->server, fd);
    if (ret < 0)
        return error_set(err, -ret, "daemon.start", NULL, "the socket from core0: %s",
                         strerror(-ret));
    return 0;
}

static int daemon_start(struct daemon *daemon, struct error *err)
{
    const struct daemon_spec *spec = daemon->spec;
    int ret;

    signal(SIGPIPE, SIG_IGN);
    ret = loop_new(&daemon->loop);
    if (ret == 0)
        ret = loop_signal_add(daemon->loop, SIGTERM, daemon_terminate, daemon);
    if (ret == 0)
        ret = loop_signal_add(daemon->loop, SIGINT, daemon_terminate, daemon);
    if (ret == 0)
        ret = loop_timer_add(daemon->loop, daemon_watchdog, daemon, &daemon->watchdog);
    if (ret < 0)
        return error_set(err, -ret, "daemon.start", NULL, "no event loop: %s", strerror(-ret));

    const char *folder = getenv("STATE_DIRECTORY");
    if (folder != NULL && file_remove_leftovers(folder) > 0)
        log_info("files that were half written when the program ended are removed");
    fault_start(spec->name, daemon_boot_path(daemon));
    ret = spec->start(daemon, &daemon->state, err);
    if (ret < 0)
        return error_set(err, -ret, "daemon.start", NULL, "%s", strerror(-ret));

    if (spec->interface_count == 0)
        return 0;
    ret = varlink_server_new(daemon->loop, spec->name, daemon_version(), spec->interfaces,
                             spec->interface_count, daemon->state, &daemon->server);
    if (ret < 0)
        return error_set(err, -ret, "daemon.start", NULL, "no server: %s", strerror(-ret));
    return daemon_listen(daemon, err);
}

int daemon_main(const struct daemon_spec *spec, int argc, char **argv)
{
    char socket_path[128];
    struct daemon daemon = {.spec = spec, .boot = "/run/croft/boot.json", .socket = socket_path};
    struct error err = {0};
    int ret;

    (void)argc;
    snprintf(socket_path, sizeof(socket_path), "/run/croft/%s", spec->name);
    ret = daemon_parse_options(&daemon, argv);
    if (ret != 0)
        return ret > 0 ? 0 : 2;

    ret = daemon_start(&daemon, &err);
    if (ret < 0) {
        log_error(&err, spec->name);
        notify_error(&err);
        ret = 1;
    } else {
        if (!spec->notify_late)
            notify_ready();
        /* From the start on, also before READY=1: a start that hangs is ended by its own time-out. */
        daemon.watchdog_interval = notify_watchdog_interval();
        if (daemon.watchdog_interval > 0)
            loop_timer_in(daemon.watchdog, daemon.watchdog_interval);
        ret = loop_run(daemon.loop);
        if (ret < 0) {
            log_err("%s: the event loop failed: %s", spec->name, strerror(-ret));
            ret = 1;
        }
    }
    varlink_server_free(daemon.server);
    loop_free(daemon.loop);
    return ret;
}
