/*
 * session.c - one session: bytes between the caller's socket and the program, until one of them ends.
 *
 * Invariant: what one side does not take is not read from the other, so a slow caller or a program that reads nothing costs at
 * most a frame or two of memory.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "exec.h"
#include "lib/file.h"

#define OUT_MAX ((size_t)128 << 10) /* bytes for the caller that may wait */
#define DRAIN_MS                                                                                   \
    300 /* after the program's end: what it left behind may hold its streams for ever */
#define SAY_MS 10000   /* for the caller to take the last words */
#define HANGUP_MS 1000 /* between SIGHUP and SIGKILL */
#define WAIT_STEP_MS 20

struct session {
    const struct options *opt;
    struct child child;
    int peer, signals;
    struct buffer in;  /* frames from the caller, not whole yet or not taken */
    struct buffer out; /* frames for the caller */
    struct buffer to;  /* standard input that the program has not taken */
    bool gone;         /* the caller is */
    bool ended;        /* the program is; status says how */
    bool eof;          /* the caller has ended the input */
    int status;
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- the program ---- */

static void close_stream(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void reap(struct session *s)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != s->child.pid)
            continue;
        s->ended = true;
        s->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (pid < 0 && errno == ECHILD && !s->ended) {
        s->ended = true;
        s->status = 255;
    }
}

/* One read of a stream of the program. False: there is nothing now. */
static bool take_output(struct session *s, int *fd, enum channel channel)
{
    char data[FRAME_MAX];
    ssize_t n = read(*fd, data, sizeof(data));

    if (n > 0)
        return frame_append(&s->out, channel, data, (size_t)n) == 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    close_stream(fd); /* a terminal answers EIO when nobody has it open any more */
    return false;
}

static void give_input(struct session *s)
{
    while (s->to.len > 0 && s->child.in >= 0) {
        ssize_t n = write(s->child.in, s->to.data, s->to.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            /* it reads no more; with a terminal that is its end */
            if (!s->opt->tty)
                close_stream(&s->child.in);
            buffer_done(&s->to);
            return;
        }
        buffer_consume(&s->to, (size_t)n);
    }
    if (s->eof && s->to.len == 0 && !s->opt->tty)
        close_stream(&s->child.in);
}

/* ---- the caller ---- */

static void obey(struct session *s, const char *text, size_t len)
{
    struct control control;

    if (control_parse(text, len, &control) < 0) {
        s->gone = true;
        return;
    }
    if (control.kind == CONTROL_RESIZE && s->opt->tty && s->child.in >= 0) {
        struct winsize size = {.ws_row = (unsigned short)control.rows,
                               .ws_col = (unsigned short)control.columns};

        ioctl(s->child.in, (unsigned long)TIOCSWINSZ, &size);
    } else if (control.kind == CONTROL_SIGNAL && !s->ended) {
        kill(s->child.pid, control.signal);
    } else if (control.kind == CONTROL_EOF) {
        /* a terminal's end of input is a character (termios(3), VEOF) */
        if (s->opt->tty && !s->eof)
            buffer_append(&s->to, "\004", 1);
        s->eof = true;
    }
}

/* Whole frames, as far as the program takes them. */
static void take_frames(struct session *s)
{
    enum channel channel;
    size_t payload;
    int r = 0;

    while (s->to.len == 0 && (r = frame_parse(s->in.data, s->in.len, &channel, &payload)) > 0) {
        const uint8_t *data = s->in.data + FRAME_HEAD;

        if (channel == CHANNEL_IN && !s->eof && s->child.in >= 0) {
            if (buffer_append(&s->to, data, payload) < 0)
                s->gone = true;
        } else if (channel == CHANNEL_CONTROL) {
            obey(s, (const char *)data, payload);
        } else if (channel != CHANNEL_IN) {
            s->gone = true;
        }
        buffer_consume(&s->in, FRAME_HEAD + payload);
        give_input(s);
    }
    if (r < 0)
        s->gone = true;
}

static void hear(struct session *s)
{
    char data[16384];
    ssize_t n = recv(s->peer, data, sizeof(data), MSG_DONTWAIT);

    if (n > 0 && buffer_append(&s->in, data, (size_t)n) < 0)
        s->gone = true;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        s->gone = true;
}

static void say(struct session *s)
{
    while (s->out.len > 0) {
        ssize_t n = send(s->peer, s->out.data, s->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            s->gone = errno != EAGAIN;
            return;
        }
        buffer_consume(&s->out, (size_t)n);
    }
}

/* ---- turns ---- */

/* One turn of everything; ms: how long it may wait. */
static void turn(struct session *s, int ms)
{
    bool room = s->out.len < OUT_MAX, hears = s->to.len == 0 && s->in.len <= FRAME_MAX;
    int out = s->opt->tty ? s->child.in : s->child.out;
    struct pollfd fds[5] = {
        {s->peer, (short)((hears ? POLLIN : 0) | POLLRDHUP | (s->out.len > 0 ? POLLOUT : 0)), 0},
        {s->signals, POLLIN, 0},
        {room ? out : -1, POLLIN, 0},
        {room ? s->child.err : -1, POLLIN, 0},
        {s->to.len > 0 ? s->child.in : -1, POLLOUT, 0},
    };

    if (poll(fds, 5, ms) < 0)
        return;
    if (fds[1].revents != 0) {
        struct signalfd_siginfo info;

        (void)!read(s->signals, &info, sizeof(info));
        reap(s);
    }
    if (fds[2].revents != 0)
        take_output(s, s->opt->tty ? &s->child.in : &s->child.out, CHANNEL_OUT);
    if (fds[3].revents != 0)
        take_output(s, &s->child.err, CHANNEL_ERR);
    if (fds[4].revents != 0)
        give_input(s);
    if ((fds[0].revents & (POLLIN | POLLRDHUP | POLLHUP | POLLERR)) != 0) {
        hear(s);
        if (!hears && (fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
            s->gone = true;
    }
    take_frames(s);
    say(s);
}

static void drain(struct session *s)
{
    uint64_t end = now_ms() + DRAIN_MS;
    int *out = s->opt->tty ? &s->child.in : &s->child.out;

    while (!s->gone && (*out >= 0 || s->child.err >= 0)) {
        bool some = false;

        if (s->out.len < OUT_MAX) {
            some = (*out >= 0 && take_output(s, out, CHANNEL_OUT));
            some = (s->child.err >= 0 && take_output(s, &s->child.err, CHANNEL_ERR)) || some;
        }
        say(s);
        if (some || s->out.len >= OUT_MAX)
            end = now_ms() + (s->out.len > 0 ? SAY_MS : DRAIN_MS);
        if (now_ms() >= end)
            break;
        if (!some) {
            struct pollfd fds[3] = {{s->peer, (short)(s->out.len > 0 ? POLLOUT : 0), 0},
                                    {s->out.len < OUT_MAX ? *out : -1, POLLIN, 0},
                                    {s->out.len < OUT_MAX ? s->child.err : -1, POLLIN, 0}};
            poll(fds, 3, WAIT_STEP_MS);
        }
    }
}

static void say_all(struct session *s)
{
    uint64_t end = now_ms() + SAY_MS;

    while (!s->gone && s->out.len > 0 && now_ms() < end) {
        struct pollfd wait = {s->peer, POLLOUT, 0};

        poll(&wait, 1, WAIT_STEP_MS);
        say(s);
    }
}

/* Whatever the program has started ends with it: first politely when the caller hung up. */
static void end_all(struct session *s)
{
    char path[512], control[640];
    uint64_t end = now_ms() + HANGUP_MS;

    close_stream(&s->child.in);
    close_stream(&s->child.out);
    close_stream(&s->child.err);
    if (!s->ended && s->child.pid > 0) {
        kill(-s->child.pid, SIGHUP);
        kill(s->child.pid, SIGHUP);
        while (!s->ended && now_ms() < end) {
            struct pollfd wait = {s->signals, POLLIN, 0};
            struct signalfd_siginfo info;

            if (poll(&wait, 1, WAIT_STEP_MS) > 0)
                (void)!read(s->signals, &info, sizeof(info));
            reap(s);
        }
    }
    child_cgroup(s->opt, path);
    snprintf(control, sizeof(control), "%s/cgroup.kill", path);
    file_write_text(control, "1");
    for (end = now_ms() + SAY_MS; rmdir(path) < 0 && errno == EBUSY && now_ms() < end;) {
        reap(s);
        nanosleep(&(struct timespec){.tv_nsec = WAIT_STEP_MS * 1000000L}, NULL);
    }
}

int session_run(const struct options *opt, int peer)
{
    struct session s = {.opt = opt, .peer = peer, .child = {-1, -1, -1, -1}};
    struct error err = {0};
    sigset_t child;

    buffer_init(&s.in, 2 * (FRAME_HEAD + FRAME_MAX) + 16384);
    buffer_init(&s.out, OUT_MAX + 4 * (FRAME_HEAD + FRAME_MAX));
    buffer_init(&s.to, FRAME_MAX + 1);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &child, NULL);
    s.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (opt->code != NULL) {
        error_set(&err, EIO, opt->code, opt->hint, "%s", opt->message);
        control_append_error(&s.out, &err);
    } else if (s.signals < 0 || child_start(opt, &s.child, &err) < 0) {
        control_append_error(&s.out, &err);
    } else {
        while (!s.ended && !s.gone)
            turn(&s, -1);
        drain(&s);
        if (s.ended)
            control_append_exit(&s.out, s.status);
    }
    say_all(&s);
    if (opt->code == NULL)
        end_all(&s);
    buffer_done(&s.in);
    buffer_done(&s.out);
    buffer_done(&s.to);
    return 0;
}
