/*
 * uevent.c - see uevent.h.
 */
#include "uevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define KERNEL_GROUP 1            /* what the kernel sends; udev's own go to group 2 */
#define MESSAGE_MAX 4096          /* the kernel's UEVENT_BUFFER_SIZE is 2048, and a header */
#define QUEUE_BYTES (1024 * 1024) /* a shelf of a hundred disks that comes at once */

struct uevent {
    int fd;
    uevent_fn *fn;
    void *data;
};

static bool has(const char *message, size_t len, const char *wanted)
{
    size_t size = strlen(wanted) + 1;
    for (const char *at = message, *end = message + len; (size_t)(end - at) >= size;) {
        if (memcmp(at, wanted, size) == 0)
            return true;
        const char *nul = memchr(at, '\0', (size_t)(end - at));
        if (nul == NULL)
            return false;
        at = nul + 1;
    }
    return false;
}

bool uevent_is_disk(const char *message, size_t len)
{
    const char *head_end = memchr(message, '\0', len);
    if (head_end == NULL || memchr(message, '@', (size_t)(head_end - message)) == NULL)
        return false;
    return has(message, len, "SUBSYSTEM=block") && has(message, len, "DEVTYPE=disk");
}

static void ready(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct uevent *uevent = data;
    bool disks = false;
    (void)io;
    (void)events;
    for (;;) {
        char message[MESSAGE_MAX];
        struct sockaddr_nl from = {0};
        socklen_t from_len = sizeof(from);
        ssize_t len = recvfrom(fd, message, sizeof(message), MSG_DONTWAIT, (struct sockaddr *)&from,
                               &from_len);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0 && errno == ENOBUFS) {
            disks = true;
            continue;
        }
        if (len < 0)
            break;
        /* Anybody may write to this socket by its port; only the kernel has port 0. */
        if (from.nl_pid == 0)
            disks |= uevent_is_disk(message, (size_t)len);
    }
    if (disks)
        uevent->fn(uevent->data);
}

int uevent_new(struct loop *loop, uevent_fn *fn, void *data, struct uevent **ret_uevent)
{
    struct uevent *uevent = malloc(sizeof(*uevent));
    if (uevent == NULL)
        return -ENOMEM;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
    int size = QUEUE_BYTES;
    struct loop_io *io;
    int r = 0;
    *uevent = (struct uevent){.fn = fn, .data = data};
    uevent->fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
    if (uevent->fd < 0 || setsockopt(uevent->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0 ||
        bind(uevent->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        r = -errno;
    if (r == 0)
        r = loop_io_add(loop, uevent->fd, EPOLLIN, ready, uevent, &io);
    if (r < 0) {
        if (uevent->fd >= 0)
            close(uevent->fd);
        free(uevent);
        return r;
    }
    *ret_uevent = uevent;
    return 0;
}
