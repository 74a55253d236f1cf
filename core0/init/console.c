/*
 * console.c - see console.h.
 */
#include "init/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "init/core.h"
#include "init/service.h"
#include "lib/buffer.h"
#include "lib/file.h"

#define CONSOLE_TTYS_MAX 4
#define CONSOLE_QUEUE_MAX 16384u
#define CONSOLE_LINE_MAX 400u
#define CONSOLE_REDRAW_US 100000u /* changes within 100 ms are drawn once */
/* Lines of changes: as many as a start needs, then two a second. A service that crashes in a loop stays readable. */
#define CONSOLE_BURST 200u
#define CONSOLE_REFILL_US 500000u

struct console_tty {
    struct console *console;
    struct loop_io *io;
    struct buffer queue;
    int fd;
    bool screen;
    bool owned; /* close it */
};

struct console {
    struct core *core;
    struct console_tty ttys[CONSOLE_TTYS_MAX];
    size_t count;
    struct loop_timer *redraw;
    bool redraw_set;
    uint64_t tokens;
    uint64_t refilled_us;
    uint64_t suppressed;
};

/* ---- terminals ---- */

static void console_drain(struct console_tty *tty)
{
    size_t sent = 0;

    while (sent < tty->queue.len) {
        ssize_t done = write(tty->fd, tty->queue.data + sent, tty->queue.len - sent);

        if (done > 0)
            sent += (size_t)done;
        else if (done < 0 && errno == EINTR)
            continue;
        else if (done < 0 && errno == EAGAIN)
            break;
        else
            sent = tty->queue.len; /* it cannot be written to: what was for it is gone */
    }
    buffer_consume(&tty->queue, sent);
    if (tty->queue.len == 0)
        buffer_done(&tty->queue);
    if (tty->io != NULL)
        loop_io_set(tty->io, tty->queue.len > 0 ? EPOLLOUT : 0);
}

static void console_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct console_tty *tty = data;

    (void)fd;
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) { /* would be reported for ever */
        loop_io_del(io);
        tty->io = NULL;
        return;
    }
    console_drain(tty);
}

static void console_write(struct console_tty *tty, const char *text, size_t len)
{
    if (tty->queue.len + len > CONSOLE_QUEUE_MAX)
        return;
    buffer_append(&tty->queue, text, len);
    console_drain(tty);
}

static void console_add(struct console *console, int fd, bool screen, bool owned)
{
    struct console_tty *tty = &console->ttys[console->count];

    if (fd < 0 || console->count == CONSOLE_TTYS_MAX)
        return;
    *tty = (struct console_tty){.console = console, .fd = fd, .screen = screen, .owned = owned};
    buffer_init(&tty->queue, CONSOLE_QUEUE_MAX);
    /* A plain file (a log) cannot be polled and never blocks. */
    if (loop_io_add(console->core->loop, fd, 0, console_ready, tty, &tty->io) < 0)
        tty->io = NULL;
    console->count++;
}

static void console_add_device(struct console *console, const char *name)
{
    bool is_vt = strncmp(name, "tty", 3) == 0 && name[3] >= '0' && name[3] <= '9';
    char path[64];

    snprintf(path, sizeof(path), "/dev/%.40s", name);
    /* In runmode=dev a shell lives on the screen: it gets lines too. */
    console_add(console, open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC),
                is_vt && console->core->params.runmode != PARAMS_DEV, true);
}

static void console_add_all(struct console *console)
{
    const char *only = console->core->params.console;
    cleanup_free char *active = NULL;
    char name[64];

    if (only != NULL) {
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(only, ","), only);
        console_add_device(console, name);
    } else if (file_read("/sys/class/tty/console/active", 256, &active, NULL) == 0) {
        for (char *at = strtok(active, " \n"); at != NULL; at = strtok(NULL, " \n"))
            console_add_device(console, at);
    }
    if (console->count == 0)
        console_add(console, open("/dev/console", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC),
                    false, true);
}

/* ---- text ---- */

/* Appends text that came from elsewhere: nothing in it can steer a terminal. */
static void console_put(struct buffer *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        char safe = (char)(byte < 0x20 || byte == 0x7f ? ' ' : byte);

        /* C1 control characters (U+0080 … U+009F) are 0xc2 and one of these in UTF-8. */
        if (byte == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0) {
            i++;
            safe = ' ';
        }
        if (buffer_append(out, &safe, 1) < 0)
            return;
    }
}

static bool console_may_print(struct console *console)
{
    uint64_t now = loop_clock();
    uint64_t more = (now - console->refilled_us) / CONSOLE_REFILL_US;

    if (more > 0) {
        console->tokens =
            console->tokens + more > CONSOLE_BURST ? CONSOLE_BURST : console->tokens + more;
        console->refilled_us += more * CONSOLE_REFILL_US;
    }
    if (console->tokens == 0) {
        console->suppressed++;
        return false;
    }
    console->tokens--;
    return true;
}

static void console_print(struct console *console, const char *service, const char *text,
                          size_t len)
{
    uint64_t now = loop_clock();
    struct buffer line;

    buffer_init(&line, (size_t)2 * CONSOLE_LINE_MAX);
    buffer_printf(&line, "[%5llu.%03llu] ", (unsigned long long)(now / 1000000),
                  (unsigned long long)(now / 1000 % 1000));
    if (console->suppressed > 0) {
        buffer_printf(&line, "(%llu lines left out) ", (unsigned long long)console->suppressed);
        console->suppressed = 0;
    }
    if (service != NULL)
        buffer_printf(&line, "%s: ", service);
    console_put(&line, text, len < CONSOLE_LINE_MAX ? len : CONSOLE_LINE_MAX);
    buffer_append(&line, "\r\n", 2);
    for (size_t i = 0; i < console->count && line.data != NULL; i++) {
        if (!console->ttys[i].screen)
            console_write(&console->ttys[i], (const char *)line.data, line.len);
    }
    buffer_done(&line);
}

/* ---- the screen ---- */

static void console_draw_pair(struct buffer *out, const char *name, const char *value)
{
    buffer_printf(out, "  %-11s ", name);
    console_put(out, value, strlen(value));
    buffer_append(out, "\r\n", 2);
}

static void console_draw_fact(struct buffer *out, const struct core *core, const char *name,
                              const char *absent)
{
    const char *value = core_fact_get(core, name);

    if (value != NULL || absent != NULL)
        console_draw_pair(out, name, value != NULL ? value : absent);
}

static void console_draw(struct console *console, struct buffer *out)
{
    const struct core *core = console->core;
    char text[400];

    buffer_append_str(out, "\033[H\033[J\r\n");
    snprintf(text, sizeof(text), "%s (%s)", core->version, params_runmode_name(&core->params));
    console_draw_pair(out, "Croft", text);
    console_draw_fact(out, core, "farm", "none: this node is not registered");
    console_draw_fact(out, core, "node", "not known yet");
    console_draw_fact(out, core, "identity", NULL);
    console_draw_fact(out, core, "addresses", "none yet");
    console_draw_fact(out, core, "state",
                      core->params.error_count > 0 ? "boot parameters are wrong" : "starting");
    console_draw_fact(out, core, "pool", NULL);
    console_draw_fact(out, core, "reservations", NULL);
    if (core->previous_end[0] != '\0')
        console_draw_pair(out, "started", core->previous_end);
    if (core->last_error.text[0] != '\0') {
        snprintf(text, sizeof(text), "%.60s: %.300s", core->last_error.service,
                 core->last_error.text);
        console_draw_pair(out, "last error", text);
    }
    for (size_t i = 0; i < core->params.error_count && i < 5; i++)
        console_draw_pair(out, "parameters", core->params.errors[i].message);
    buffer_append_str(out, "\r\n");
    for (size_t i = 0; i < core->service_count; i++) {
        const struct service *service = &core->services[i];
        char said[256];

        service_describe(service, said, sizeof(said));
        snprintf(text, sizeof(text), "%-9s %.300s", service_state_name(service->state), said);
        console_draw_pair(out, service->unit.name, text);
    }
}

static void console_redraw(struct loop_timer *timer, void *data)
{
    struct console *console = data;
    struct buffer out;

    (void)timer;
    console->redraw_set = false;
    buffer_init(&out, CONSOLE_QUEUE_MAX / 2);
    console_draw(console, &out);
    for (size_t i = 0; i < console->count && out.data != NULL; i++) {
        if (!console->ttys[i].screen)
            continue;
        buffer_clear(&console->ttys[i].queue); /* an older picture that was not read yet */
        console_write(&console->ttys[i], (const char *)out.data, out.len);
    }
    buffer_done(&out);
}

/* ---- public ---- */

int console_open(struct core *core)
{
    struct console *console = calloc(1, sizeof(*console));
    int ret;

    if (console == NULL)
        return -ENOMEM;
    console->core = core;
    console->tokens = CONSOLE_BURST;
    console->refilled_us = loop_clock();
    ret = loop_timer_add(core->loop, console_redraw, console, &console->redraw);
    if (ret < 0) {
        free(console);
        return ret;
    }
    if (core->root[0] != '\0')
        console_add(console, STDERR_FILENO, false, false);
    else
        console_add_all(console);
    core->console = console;
    console_changed(core);
    return 0;
}

void console_close(struct core *core)
{
    struct console *console = core->console;

    if (console == NULL)
        return;
    core->console = NULL;
    loop_timer_del(console->redraw);
    for (size_t i = 0; i < console->count; i++) {
        loop_io_del(console->ttys[i].io);
        buffer_done(&console->ttys[i].queue);
        if (console->ttys[i].owned)
            close(console->ttys[i].fd);
    }
    free(console);
}

void console_line(struct core *core, const char *service, const char *text, size_t len)
{
    if (core->console != NULL && console_may_print(core->console))
        console_print(core->console, service, text, len);
}

void console_service_changed(struct core *core, const struct service *service)
{
    char said[256];
    char text[320];

    if (core->console == NULL)
        return;
    console_changed(core);
    /* Failures are told by core_error; the steps in between only matter on the screen. */
    if (service->state != SERVICE_RUNNING && service->state != SERVICE_DONE)
        return;
    service_describe(service, said, sizeof(said));
    snprintf(text, sizeof(text), "%s%s%s", service_state_name(service->state),
             said[0] != '\0' ? ": " : "", said);
    console_line(core, service->unit.name, text, strlen(text));
}

void console_changed(struct core *core)
{
    struct console *console = core->console;

    if (console == NULL || console->redraw_set)
        return;
    console->redraw_set = true;
    loop_timer_set(console->redraw, loop_clock() + CONSOLE_REDRAW_US);
}

static int console_unsent(int fd)
{
    int bytes = 0;

    return ioctl(fd, TIOCOUTQ, &bytes) < 0 ? 0 : bytes;
}

void console_flush(struct core *core)
{
    struct console *console = core->console;

    for (size_t i = 0; console != NULL && i < console->count; i++) {
        struct console_tty *tty = &console->ttys[i];
        struct pollfd polled = {.fd = tty->fd, .events = POLLOUT};
        uint64_t deadline = loop_clock() + 100000;

        while (tty->queue.len > 0 && loop_clock() < deadline) {
            if (poll(&polled, 1, 10) > 0)
                console_drain(tty);
        }
        /* What the terminal has taken may still wait in its line's buffer; tcdrain() could wait for ever. */
        while (console_unsent(tty->fd) > 0 && loop_clock() < deadline)
            poll(NULL, 0, 5);
    }
}
