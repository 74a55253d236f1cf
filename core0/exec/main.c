/*
 * main.c - croft-exec: waits for its one caller, runs the session, leaves nothing. See exec.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "exec.h"

#define LISTEN_FD 3 /* made by contd */
#define LOCK_FD 4   /* held as long as we live: who can take it knows that nobody is here */
#define CALLER_MS 10000

static const char *const suffixes[] = {"sock", "json", "log", "pid", "tty", "lock"};

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The caller's connection, or -1. */
static int caller(const struct options *opt)
{
    int64_t end = now_ms() + CALLER_MS;

    for (int64_t left = CALLER_MS; left > 0; left = end - now_ms()) {
        struct pollfd wait = {LISTEN_FD, POLLIN, 0};
        struct ucred peer;
        socklen_t len = sizeof(peer);

        if (poll(&wait, 1, (int)left) <= 0)
            continue;
        int fd = accept4(LISTEN_FD, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
            (peer.uid == 0 || peer.uid == opt->peer))
            return fd;
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

static void parse(int argc, char **argv, struct options *opt)
{
    const struct {
        const char *name;
        const char **text;
    } texts[] = {{"--base", &opt->base},     {"--name", &opt->name},
                 {"--cgroup", &opt->cgroup}, {"--runc", &opt->runc},
                 {"--root", &opt->root},     {"--id", &opt->id},
                 {"--code", &opt->code},     {"--message", &opt->message},
                 {"--hint", &opt->hint},     {"--program", &opt->program}};
    const struct {
        const char *name;
        uid_t *number;
    } numbers[] = {{"--peer", &opt->peer}, {"--uid", &opt->uid}, {"--gid", &opt->gid}};

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--tty") == 0) {
            opt->tty = true;
            continue;
        }
        for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]) && i + 1 < argc; t++) {
            if (strcmp(argv[i], texts[t].name) == 0)
                *texts[t].text = argv[i + 1];
        }
        for (size_t t = 0; t < sizeof(numbers) / sizeof(numbers[0]) && i + 1 < argc; t++) {
            if (strcmp(argv[i], numbers[t].name) == 0)
                *numbers[t].number = (uid_t)strtoul(argv[i + 1], NULL, 10);
        }
        i++;
    }
}

int main(int argc, char **argv)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
    struct options opt = {0};
    char path[256];

    parse(argc, argv, &opt);
    if (!opt.base || !opt.name || !opt.cgroup || !opt.runc || !opt.root || !opt.id ||
        !opt.program) {
        fprintf(stderr,
                "croft-exec - runs one program in a container for one caller; started by contd\n"
                "usage: croft-exec --base PATH --name CGROUP --cgroup DIR --runc FILE --root DIR "
                "--id ID\n"
                "                  --program NAME --peer UID [--uid N] [--gid N] [--tty]\n"
                "                  [--code CODE --message TEXT --hint TEXT]\n");
        return 2;
    }
    /* Neither is runc's. */
    fcntl(LISTEN_FD, F_SETFD, FD_CLOEXEC);
    fcntl(LOCK_FD, F_SETFD, FD_CLOEXEC);
    syscall(SYS_close_range, (unsigned)LOCK_FD + 1, ~0u, CLOSE_RANGE_UNSHARE);
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    int peer = caller(&opt);
    close(LISTEN_FD);
    child_path(&opt, "sock", path);
    unlink(path);
    if (peer >= 0) {
        session_run(&opt, peer);
        close(peer);
    }
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        child_path(&opt, suffixes[i], path);
        unlink(path);
    }
    return 0;
}
