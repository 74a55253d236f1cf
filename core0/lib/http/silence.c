/*
 * silence.c - see silence.h.
 */
#include "lib/http/silence.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

void silence_writes(struct silence *silence, uint64_t now)
{
    int unacknowledged = 0; /* bytes, sent or not (tcp(7)) */
    if (silence->since != 0 && ioctl(silence->fd, SIOCOUTQ, &unacknowledged) == 0 &&
        unacknowledged > 0)
        return;
    silence->since = now;
}

void silence_ask(struct silence *silence, uint64_t now)
{
    int unacknowledged = 0;
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (silence->since == 0)
        return;
    if (ioctl(silence->fd, SIOCOUTQ, &unacknowledged) < 0 || unacknowledged == 0 ||
        getsockopt(silence->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
        silence->since = 0;
        return;
    }
    uint64_t ago = (uint64_t)info.tcpi_last_ack_recv * 1000; /* it is in ms */
    if (ago < now && now - ago > silence->since)
        silence->since = now - ago;
}

void silence_forget(const struct silence *silence)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(silence->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}
