/*
 * service_log.c - what services print: one pipe per service, cut into lines, kept in its ring.
 *
 * core0 keeps both ends of the pipe, so that nothing is lost between two lives of a service and a process that
 * outlives its service never meets a closed pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "init/console.h"
#include "init/control.h"
#include "init/forward.h"
#include "init/service.h"

#define LOG_READS_PER_TURN                                                                         \
    16 /* 64 KiB: a service that prints without end must not starve the others */

void service_log_add(struct service *service, int level, const char *text, size_t len)
{
    uint64_t now = core_realtime();

    ring_add(&service->log, now, (uint8_t)level, text, len);
    control_log_added(service->core, service->unit.name, &service->log);
    forward_line(service->core, service->unit.name, level, text, len);
    if (level <= 3 || service->unit.output == UNIT_OUTPUT_CONSOLE)
        console_line(service->core, service->unit.name, text, len);
}

/* "<4>text" (sd-daemon(3)); without a prefix 6. Kernel facilities in higher bits are dropped. */
static int service_log_level(const char **text, size_t *len)
{
    const char *at = *text;
    size_t left = *len;
    int level = 0;
    int digits = 0;

    if (left < 3 || at[0] != '<')
        return 6;
    for (at++, left--; left > 0 && *at >= '0' && *at <= '9' && digits < 3; at++, left--, digits++)
        level = level * 10 + (*at - '0');
    if (digits == 0 || left == 0 || *at != '>')
        return 6;
    *text = at + 1;
    *len = left - 1;
    return level & 7;
}

static void service_log_line(struct service *service)
{
    const char *text = service->line;
    size_t len = service->line_len;
    int level = service_log_level(&text, &len);

    service->line_len = 0;
    if (len > 0)
        service_log_add(service, level, text, len);
}

static void service_log_bytes(struct service *service, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '\n') {
            service_log_line(service);
            continue;
        }
        if (service->line_len == sizeof(service->line))
            service_log_line(service); /* longer than a line may be: cut, nothing is dropped */
        service->line[service->line_len++] = bytes[i];
    }
}

void service_log_drain(struct service *service)
{
    char chunk[4096];

    for (int i = 0; i < LOG_READS_PER_TURN && service->log_read_fd >= 0; i++) {
        ssize_t got = read(service->log_read_fd, chunk, sizeof(chunk));

        if (got <= 0)
            return;
        service_log_bytes(service, chunk, (size_t)got);
    }
}

static void service_log_ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    (void)events;
    service_log_drain(data);
}

int service_log_open(struct service *service)
{
    int pair[2];
    int ret;

    if (service->log_read_fd >= 0)
        return 0;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return -errno;
    ret = fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
    if (ret == 0)
        ret = loop_io_add(service->core->loop, pair[0], EPOLLIN, service_log_ready, service,
                          &service->log_io);
    if (ret < 0) {
        close(pair[0]);
        close(pair[1]);
        return ret;
    }
    service->log_read_fd = pair[0];
    service->log_write_fd = pair[1];
    return 0;
}

void service_log_close(struct service *service)
{
    loop_io_del(service->log_io);
    service->log_io = NULL;
    if (service->log_read_fd >= 0)
        close(service->log_read_fd);
    if (service->log_write_fd >= 0)
        close(service->log_write_fd);
    service->log_read_fd = -1;
    service->log_write_fd = -1;
}
