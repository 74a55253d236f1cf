/*
 * helper.c - see helper.h.
 */
#include "helper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"

/* ---- the script's side ---- */

static int open_address(const char *path, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr->sun_path))
        return -ENAMETOOLONG;
    strcpy(addr->sun_path, path);
    return 0;
}

int helper_script_main(int argc, char **argv)
{
    const char *path = getenv(HELPER_SOCKET_ENV), *stratum = getenv("stratum");
    char text[HELPER_REPORT_MAX];
    struct sockaddr_un addr;
    int fd, n;

    if (argc < 2 || path == NULL || open_address(path, &addr) < 0)
        return 2;
    n = snprintf(text, sizeof(text), "%s %s", argv[1], stratum != NULL ? stratum : "0");
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (n < 0 || (size_t)n >= sizeof(text) || fd < 0 ||
        sendto(fd, text, (size_t)n, 0, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        fprintf(stderr, "<3>telling netd about %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    return 0;
}

static const char *const helper_events[] = {"step", "stratum", "periodic", "unsync"};

int helper_report_parse(const char *text, size_t len, struct helper_report *ret_report)
{
    const char *space = memchr(text, ' ', len);
    size_t event_len = space != NULL ? (size_t)(space - text) : len;
    struct helper_report report = {0};
    bool known = false;

    if (space == NULL || len - event_len - 1 > 3)
        return -EBADMSG;
    for (size_t i = 0; i < sizeof(helper_events) / sizeof(helper_events[0]); i++)
        known = known || (strlen(helper_events[i]) == event_len &&
                          memcmp(helper_events[i], text, event_len) == 0);
    for (size_t i = event_len + 1; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EBADMSG;
        report.stratum = report.stratum * 10 + (unsigned)(text[i] - '0');
    }
    if (!known)
        return -EBADMSG;
    report.unsynchronised = event_len == 6; /* "unsync" is the only one of that length … */
    report.stepped = event_len == 4;        /* … and so is "step" */
    *ret_report = report;
    return 0;
}

/* ---- the daemon's side ---- */

struct helper_socket {
    int fd;
    struct loop_io *io;
    void (*fn)(const struct helper_report *report, void *data);
    void *data;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

/* One report; 0, or -EAGAIN when none waits. */
static int receive(struct helper_socket *socket)
{
    char text[HELPER_REPORT_MAX];
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control = {0};
    struct iovec iov = {.iov_base = text, .iov_len = sizeof(text)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *cmsg;
    struct ucred cred = {.uid = (uid_t)-1};
    struct helper_report report;
    ssize_t n = recvmsg(socket->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0)
        return errno == EINTR ? 0 : -EAGAIN;
    cmsg = CMSG_FIRSTHDR(&msg);
    if (cmsg != NULL && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_CREDENTIALS)
        memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
    if (cred.uid != 0 && cred.uid != geteuid())
        return 0;
    if ((msg.msg_flags & MSG_TRUNC) == 0 && helper_report_parse(text, (size_t)n, &report) == 0)
        socket->fn(&report, socket->data);
    else
        log_warn("a report about the time cannot be read; it is passed over");
    return 0;
}

static void on_report(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io, (void)fd, (void)events;
    for (int i = 0; i < 64 && receive(data) == 0; i++)
        ;
}

int helper_socket_new(struct loop *loop, const char *path,
                      void (*fn)(const struct helper_report *, void *), void *data,
                      struct helper_socket **ret_socket, struct error *err)
{
    struct helper_socket *socket_ = calloc(1, sizeof(*socket_));
    struct sockaddr_un addr;
    int on = 1, r;

    if (socket_ == NULL)
        return error_set(err, ENOMEM, "net.no-memory", NULL, "no memory");
    socket_->fd = -1;
    socket_->fn = fn;
    socket_->data = data;
    r = open_address(path, &addr);
    if (r == 0) {
        strcpy(socket_->path, path);
        (void)unlink(path);
        socket_->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (socket_->fd < 0 ||
            setsockopt(socket_->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
            bind(socket_->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(path, 0600) < 0)
            r = -errno;
    }
    if (r == 0)
        r = loop_io_add(loop, socket_->fd, EPOLLIN, on_report, socket_, &socket_->io);
    if (r < 0) {
        helper_socket_free(socket_);
        return error_set(err, -r, "net.no-socket", NULL, "%s: %s", path, strerror(-r));
    }
    *ret_socket = socket_;
    return 0;
}

void helper_socket_free(struct helper_socket *socket)
{
    if (socket == NULL)
        return;
    loop_io_del(socket->io);
    if (socket->fd >= 0) {
        close(socket->fd);
        (void)unlink(socket->path);
    }
    free(socket);
}

/* ---- helpers ---- */

#define HELPER_DELAY_MIN ((uint64_t)1000000) /* us before a helper that ended is started again … */
#define HELPER_DELAY_MAX ((uint64_t)60000000) /* … doubled each time up to this */
#define HELPER_HEALTHY ((uint64_t)60000000)   /* ran that long: the next delay is short again */

struct helper {
    struct loop *loop;
    struct loop_child *child;
    struct loop_timer *timer;
    pid_t pid;
    uint64_t started, delay;
    char *busybox;
    char *argv[HELPER_ARGS_MAX + 1];
};

static void start(struct helper *helper);

static void on_exit_(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct helper *helper = data;

    (void)child, (void)pid;
    helper->child = NULL;
    helper->pid = 0;
    if (loop_clock() - helper->started > HELPER_HEALTHY)
        helper->delay = 0;
    helper->delay = helper->delay == 0 ? HELPER_DELAY_MIN : helper->delay * 2;
    if (helper->delay > HELPER_DELAY_MAX)
        helper->delay = HELPER_DELAY_MAX;
    log_warn("%s ended with status %d; again in %llu s", helper->argv[0],
             WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
             (unsigned long long)(helper->delay / 1000000));
    loop_timer_in(helper->timer, helper->delay);
}

static void on_again(struct loop_timer *timer, void *data)
{
    (void)timer;
    start(data);
}

static void start(struct helper *helper)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    if (pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(127);
        execve(helper->busybox, helper->argv, environ);
        _exit(127);
    }
    helper->started = loop_clock();
    if (pid > 0 && loop_child_add(helper->loop, pid, on_exit_, helper, &helper->child) == 0) {
        helper->pid = pid;
        return;
    }
    if (pid > 0) {
        kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    loop_timer_in(helper->timer, HELPER_DELAY_MAX);
}

int helper_new(struct loop *loop, const char *busybox, const char *const *argv,
               struct helper **ret_helper)
{
    struct helper *helper = calloc(1, sizeof(*helper));
    int r = helper == NULL ? -ENOMEM : 0;

    if (r == 0) {
        helper->loop = loop;
        helper->busybox = strdup(busybox);
        r = helper->busybox == NULL ? -ENOMEM
                                    : loop_timer_add(loop, on_again, helper, &helper->timer);
    }
    for (size_t i = 0; r == 0 && argv[i] != NULL; i++) {
        if (i == HELPER_ARGS_MAX)
            r = -E2BIG;
        else if ((helper->argv[i] = strdup(argv[i])) == NULL)
            r = -ENOMEM;
    }
    if (r < 0) {
        helper_free(helper);
        return r;
    }
    start(helper);
    *ret_helper = helper;
    return 0;
}

static void on_reaped(struct loop_child *child, pid_t pid, int status, void *data)
{
    (void)child, (void)pid, (void)status, (void)data;
}

void helper_free(struct helper *helper)
{
    if (helper == NULL)
        return;
    loop_timer_del(helper->timer);
    if (helper->pid > 0) {
        struct loop_child *reaper;

        /* The loop goes on to reap it, for nobody. */
        loop_child_del(helper->child);
        kill(helper->pid, SIGTERM);
        (void)loop_child_add(helper->loop, helper->pid, on_reaped, NULL, &reaper);
    }
    free(helper->busybox);
    for (size_t i = 0; i < HELPER_ARGS_MAX; i++)
        free(helper->argv[i]);
    free(helper);
}
