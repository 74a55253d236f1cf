/*
 * notify_socket.c - see notify_socket.h.
 */
#include "init/notify_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "init/console.h"
#include "init/events.h"
#include "init/service.h"
#include "init/text.h"
#include "init/unit_value.h"

#define NOTIFY_MESSAGE_MAX 4096u
#define NOTIFY_PER_TURN 64 /* datagrams: a service that floods us does not starve the others */
#define NOTIFY_FDS_MAX 16

/* ---- variables ---- */

static void notify_ready_line(struct service *service, const char *value)
{
    if (strcmp(value, "1") == 0)
        service_notify_ready(service);
}

static void notify_status_line(struct service *service, const char *value)
{
    service_notify_status(service, value);
}

static void notify_watchdog_line(struct service *service, const char *value)
{
    if (strcmp(value, "1") == 0)
        service_notify_watchdog(service);
}

static void notify_extend_line(struct service *service, const char *value)
{
    uint64_t us;

    if (unit_value_uint(value, 10, &us) == 0 && us <= 3600000000u)
        service_notify_extend(service, us);
}

static void notify_fact_line(struct service *service, const char *value)
{
    size_t len = strcspn(value, "=");
    char key[32];

    if (value[len] != '=' || len >= sizeof(key) || !unit_name_is_valid(value, len))
        return;
    memcpy(key, value, len);
    key[len] = '\0';
    core_fact_set(service->core, key, value + len + 1);
}

/* "code: sentence"; empty: the service has recovered. */
static void notify_error_line(struct service *service, const char *value)
{
    struct core *core = service->core;
    const char *colon = strstr(value, ": ");
    struct error err = {0};

    if (value[0] == '\0') {
        if (strcmp(core->last_error.service, service->unit.name) == 0) {
            core->last_error.text[0] = '\0';
            core->last_error.service[0] = '\0';
            console_changed(core);
        }
        return;
    }
    if (colon == NULL || colon == value || (size_t)(colon - value) > ERROR_CODE_MAX)
        return;
    snprintf(err.code, sizeof(err.code), "%.*s", (int)(colon - value), value);
    snprintf(err.message, sizeof(err.message), "%s", colon + 2);
    core_error(core, service->unit.name, &err);
}

static void notify_event_line(struct service *service, const char *value)
{
    events_send_json(service->core, service->unit.name, value, strlen(value));
}

static const struct {
    const char *name;
    void (*fn)(struct service *service, const char *value);
} notify_variables[] = {
    {"READY", notify_ready_line},         {"STATUS", notify_status_line},
    {"WATCHDOG", notify_watchdog_line},   {"EXTEND_TIMEOUT_USEC", notify_extend_line},
    {"X_CROFT_FACT", notify_fact_line},   {"X_CROFT_ERROR", notify_error_line},
    {"X_CROFT_EVENT", notify_event_line},
};

void notify_socket_handle(struct service *service, const char *text, size_t len)
{
    char line[NOTIFY_MESSAGE_MAX + 1];

    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t piece = newline != NULL ? (size_t)(newline - text) - at : len - at;
        char *equals;

        text_clean(line, sizeof(line), text + at, piece);
        at += piece + 1;
        equals = strchr(line, '=');
        if (equals == NULL)
            continue;
        *equals = '\0';
        for (size_t i = 0; i < sizeof(notify_variables) / sizeof(notify_variables[0]); i++) {
            if (strcmp(notify_variables[i].name, line) == 0)
                notify_variables[i].fn(service, equals + 1);
        }
    }
}

/* ---- the socket ---- */

struct notify_message {
    char text[NOTIFY_MESSAGE_MAX];
    size_t len;
    pid_t pid;
};

/* musl's CMSG_NXTHDR mixes signs; the warning is about its text, not ours. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
static struct cmsghdr *notify_next_part(struct msghdr *header, struct cmsghdr *part)
{
    return CMSG_NXTHDR(header, part);
}
#pragma GCC diagnostic pop

/* 1: a message, 0: one that is of no use, -EAGAIN: no more. */
static int notify_receive(int fd, struct notify_message *message)
{
    union {
        char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * NOTIFY_FDS_MAX)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = message->text, .iov_len = sizeof(message->text)};
    struct msghdr header = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof(control.space),
    };
    ssize_t got = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (got < 0)
        return errno == EINTR ? 0 : -EAGAIN;
    message->len = (size_t)got;
    message->pid = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&header); part != NULL;
         part = notify_next_part(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET)
            continue;
        if (part->cmsg_type == SCM_CREDENTIALS) {
            struct ucred peer;

            memcpy(&peer, CMSG_DATA(part), sizeof(peer));
            message->pid = peer.pid;
        } else if (part->cmsg_type == SCM_RIGHTS) {
            /* sd_notify_barrier() waits until we close it; nobody else's descriptors are kept either. */
            size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

            for (size_t i = 0; i < count; i++) {
                int passed;

                memcpy(&passed, CMSG_DATA(part) + i * sizeof(int), sizeof(passed));
                close(passed);
            }
        }
    }
    return message->pid > 0 && (header.msg_flags & MSG_TRUNC) == 0 ? 1 : 0;
}

static void notify_socket_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct core *core = data;
    static struct notify_message message; /* 4 KiB that the stack need not hold */

    (void)io;
    (void)events;
    for (int i = 0; i < NOTIFY_PER_TURN; i++) {
        int ret = notify_receive(fd, &message);
        struct service *service;

        if (ret < 0)
            return;
        if (ret == 0)
            continue;
        service = service_of_pid(core, message.pid);
        if (service != NULL)
            notify_socket_handle(service, message.text, message.len);
    }
}

int notify_socket_open(struct core *core, struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const int on = 1;
    int fd;

    core->notify_fd = -1;
    core_path(core, core->notify_path, sizeof(core->notify_path), "/run/croft/notify");
    if (strlen(core->notify_path) >= sizeof(addr.sun_path))
        return error_set(err, ENAMETOOLONG, "core.notify", NULL, "the path %s is too long",
                         core->notify_path);
    memcpy(addr.sun_path, core->notify_path, strlen(core->notify_path) + 1);
    unlink(core->notify_path);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Every user may write: the sender's credentials decide whether it counts. */
    if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        chmod(core->notify_path, 0666) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
        loop_io_add(core->loop, fd, EPOLLIN, notify_socket_ready, core, NULL) < 0) {
        int ret = error_set(err, errno, "core.notify", NULL, "%s: %s", core->notify_path,
                            strerror(errno));

        if (fd >= 0)
            close(fd);
        return ret;
    }
    core->notify_fd = fd;
    return 0;
}

void notify_socket_close(struct core *core)
{
    if (core->notify_fd >= 0)
        close(core->notify_fd);
    core->notify_fd = -1;
}
