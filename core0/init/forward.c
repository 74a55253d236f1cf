/*
 * forward.c - see forward.h.
 */
#include "init/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "init/core.h"

#define FORWARD_FACILITY 3 /* system daemons */

/* Only one destination exists, and its socket is core0's until the end. */
static int forward_fd = -1;
static struct sockaddr_storage forward_addr;
static socklen_t forward_addr_len;

int forward_open(struct core *core)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)core->params.log_port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                               .sin6_port = htons((uint16_t)core->params.log_port)};

    if (core->params.log_host == NULL)
        return 0;
    if (inet_pton(AF_INET, core->params.log_host, &in4.sin_addr) == 1) {
        memcpy(&forward_addr, &in4, sizeof(in4));
        forward_addr_len = sizeof(in4);
    } else if (inet_pton(AF_INET6, core->params.log_host, &in6.sin6_addr) == 1) {
        memcpy(&forward_addr, &in6, sizeof(in6));
        forward_addr_len = sizeof(in6);
    } else {
        return -EINVAL;
    }
    forward_fd = socket(forward_addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return forward_fd < 0 ? -errno : 0;
}

void forward_line(struct core *core, const char *service, int level, const char *text, size_t len)
{
    char message[RING_LINE_MAX + 256];
    const char *node = core_fact_get(core, "node");
    struct timespec now;
    struct tm when;
    char stamp[32];
    int written;

    if (forward_fd < 0)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &when);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &when);
    written = snprintf(message, sizeof(message), "<%d>1 %s.%06ldZ croft-%s %.48s - - - %.*s",
                       FORWARD_FACILITY * 8 + level, stamp, now.tv_nsec / 1000,
                       node != NULL ? node : "unregistered", service, (int)len, text);
    if (written > 0)
        sendto(forward_fd, message,
               (size_t)written < sizeof(message) ? (size_t)written : sizeof(message) - 1,
               MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&forward_addr,
               forward_addr_len);
}
