/*
 * start.c - starting the program with runc: streams or a terminal, its cgroup, and why it could not be.
 *
 * runc is told to detach: it ends once the program runs, which then is our child, as we are the nearest subreaper.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exec.h"
#include "lib/file.h"
#include "lib/runc_error.h"

#define RUNC_LOG_MAX ((size_t)64 << 10)
#define TERMINAL_MS 30000

void child_path(const struct options *opt, const char *suffix, char path[256])
{
    snprintf(path, 256, "%s.%s", opt->base, suffix);
}

void child_cgroup(const struct options *opt, char path[512])
{
    snprintf(path, 512, "%s/%s", opt->cgroup, opt->name);
}

static int failed(struct error *err, int number, const char *what)
{
    return error_set(err, number, "container.exec-failed", "try again", "%s: %s", what,
                     strerror(number));
}

/* ---- streams ---- */

struct streams {
    int ours[3], theirs[3]; /* -1: none */
    int console;            /* where runc hands the terminal over; -1: none */
};

static void streams_close(int fds[3])
{
    for (int i = 0; i < 3; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

static int streams_pipes(const struct options *opt, struct streams *streams)
{
    for (int i = 0; i < 3; i++) {
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
            return -errno;
        streams->ours[i] = ends[i == 0 ? 1 : 0];
        streams->theirs[i] = ends[i == 0 ? 0 : 1];
        /* so that the program may open /dev/stdout, as in the container's own process */
        if (fchown(streams->theirs[i], opt->uid, opt->gid) < 0)
            return -errno;
        fcntl(streams->ours[i], F_SETFL, O_NONBLOCK);
    }
    return 0;
}

static int streams_console(const struct options *opt, struct streams *streams)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char path[256];

    child_path(opt, "tty", path);
    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    streams->console = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (streams->console < 0 ||
        bind(streams->console, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        chmod(path, 0600) < 0 || listen(streams->console, 1) < 0)
        return -errno;
    for (int i = 0; i < 3; i++) {
        streams->theirs[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (streams->theirs[i] < 0)
            return -errno;
    }
    return 0;
}

/* The terminal's other side, as runc sends it. A descriptor or -errno. */
static int console_receive(int listener)
{
    struct pollfd wait = {listener, POLLIN, 0};
    char byte[4096];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {byte, sizeof(byte)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    int terminal = -1;

    if (poll(&wait, 1, TERMINAL_MS) <= 0)
        return -ETIMEDOUT;
    cleanup_close int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || recvmsg(fd, &message, MSG_CMSG_CLOEXEC) < 0)
        return -errno;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head == NULL || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
        head->cmsg_len != CMSG_LEN(sizeof(int)))
        return -EPROTO;
    memcpy(&terminal, CMSG_DATA(head), sizeof(terminal));
    fcntl(terminal, F_SETFL, O_NONBLOCK);
    return terminal;
}

/* ---- runc ---- */

static void runc_exec(const struct options *opt, const struct streams *streams)
{
    char log[256], pid_file[256], process[256], console[256];
    sigset_t none;
    const char *argv[24];
    size_t n = 0;

    child_path(opt, "log", log);
    child_path(opt, "pid", pid_file);
    child_path(opt, "json", process);
    child_path(opt, "tty", console);
    const char *const fixed[] = {opt->runc,      "--root",   opt->root, "--log",     log,
                                 "--log-format", "json",     "exec",    "--detach",  "--pid-file",
                                 pid_file,       "--cgroup", opt->name, "--process", process};
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        argv[n++] = fixed[i];
    if (opt->tty) {
        argv[n++] = "--console-socket";
        argv[n++] = console;
    }
    argv[n++] = opt->id;
    argv[n] = NULL;
    for (int i = 0; i < 3; i++)
        dup2(streams->theirs[i], i);
    /* what is ignored stays ignored through execve(2), in the container too */
    for (int signo = 1; signo < 32; signo++)
        signal(signo, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(opt->runc, (char *const *)argv);
    _exit(127);
}

static void explain(const struct options *opt, struct error *err)
{
    char path[256], sentence[1024] = "";
    cleanup_free char *log = NULL;
    size_t len;

    child_path(opt, "log", path);
    if (file_read(path, RUNC_LOG_MAX, &log, &len) == 0)
        runc_error_last(log, len, sentence, sizeof(sentence));
    if (sentence[0] == '\0')
        error_set(err, EIO, "container.exec-failed", "is the container still running?",
                  "the runtime gave no reason");
    else
        runc_error_translate(sentence, opt->program, err);
}

static pid_t read_pid(const struct options *opt)
{
    char path[256];
    cleanup_free char *text = NULL;
    size_t len;

    child_path(opt, "pid", path);
    if (file_read(path, 32, &text, &len) < 0)
        return -1;
    long pid = strtol(text, NULL, 10);
    return pid > 1 ? (pid_t)pid : -1;
}

static int runc_wait(pid_t runc)
{
    int status;

    /* Only runc is reaped here: a program that ends at once stays a zombie until its number is known. */
    while (waitpid(runc, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int child_start(const struct options *opt, struct child *ret_child, struct error *err)
{
    struct streams streams = {{-1, -1, -1}, {-1, -1, -1}, -1};
    char cgroup[512];
    int ret, terminal = -1;

    child_cgroup(opt, cgroup);
    if (mkdir(cgroup, 0755) < 0 && errno != EEXIST)
        return error_set(err, errno, "container.absent", "is the service still running?",
                         "the container is not there any more");
    ret = opt->tty ? streams_console(opt, &streams) : streams_pipes(opt, &streams);
    pid_t runc = ret == 0 ? fork() : -1;
    if (runc == 0)
        runc_exec(opt, &streams);
    streams_close(streams.theirs);
    if (runc < 0) {
        ret = failed(err, ret < 0 ? -ret : errno, "no streams for the program");
    } else if ((ret = runc_wait(runc)) != 0) {
        explain(opt, err);
        ret = -EIO;
    } else if (opt->tty && (terminal = console_receive(streams.console)) < 0) {
        ret = failed(err, -terminal, "the terminal was not handed over");
    }
    if (streams.console >= 0)
        close(streams.console);
    pid_t pid = ret == 0 ? read_pid(opt) : -1;
    if (ret == 0 && pid < 0)
        ret = failed(err, ESRCH, "the program's number is not known");
    if (ret < 0) {
        streams_close(streams.ours);
        if (terminal >= 0)
            close(terminal);
        return ret;
    }
    *ret_child = opt->tty ? (struct child){pid, terminal, -1, -1}
                          : (struct child){pid, streams.ours[0], streams.ours[1], streams.ours[2]};
    return 0;
}
