/*
 * outlet.c - see outlet.h.
 */
#include "cli/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes written, 0: not now, or -errno. */
static ssize_t put(const struct outlet *outlet, const void *data, size_t len)
{
    ssize_t n;
    do {
        n = send(outlet->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == ENOTSOCK) {
            n = write(outlet->fd, data, len);
        }
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    }
    return n;
}

static void drain(struct outlet *outlet)
{
    while (outlet->waiting.len > 0 && outlet->failed == 0) {
        ssize_t n = put(outlet, outlet->waiting.data, outlet->waiting.len);
        if (n == 0) {
            break;
        }
        if (n < 0) {
            outlet->failed = (int)-n;
            buffer_clear(&outlet->waiting);
        } else {
            buffer_consume(&outlet->waiting, (size_t)n);
        }
    }
    if (outlet->io != NULL) {
        loop_io_set(outlet->io, outlet->waiting.len > 0 ? EPOLLOUT : 0);
    }
}

static void on_io(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    struct outlet *outlet = data;
    if (outlet->waiting.len == 0 && (events & (EPOLLERR | EPOLLHUP)) != 0) {
        outlet->failed = EPIPE; /* the reader is gone, and the loop would say so again and again */
    }
    drain(outlet);
    if (outlet->failed != 0) {
        loop_io_del(outlet->io);
        outlet->io = NULL;
    }
    outlet->changed(outlet->data);
}

int outlet_init(struct outlet *outlet, struct loop *loop, int fd, void (*changed)(void *data),
                void *data)
{
    char path[32];
    struct stat st;

    *outlet = (struct outlet){.loop = loop, .fd = fd, .own = -1, .changed = changed, .data = data};
    buffer_init(&outlet->waiting, 0);
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        outlet->own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        outlet->fd = outlet->own >= 0 ? outlet->own : fd; /* else: as well as it can be */
    }
    int ret = loop_io_add(loop, outlet->fd, 0, on_io, outlet, &outlet->io);
    return ret == -EPERM ? 0 : ret; /* a file is always ready */
}

int outlet_write(struct outlet *outlet, const void *data, size_t len)
{
    if (outlet->failed != 0) {
        return 0;
    }
    int ret = buffer_append(&outlet->waiting, data, len);
    drain(outlet);
    return ret < 0 ? ret : 0;
}

void outlet_done(struct outlet *outlet)
{
    while (outlet->waiting.len > 0 && outlet->failed == 0) {
        struct pollfd wait = {.fd = outlet->fd, .events = POLLOUT};
        poll(&wait, 1, -1);
        drain(outlet);
    }
    loop_io_del(outlet->io);
    outlet->io = NULL;
    if (outlet->own >= 0) {
        close(outlet->own);
    }
    buffer_done(&outlet->waiting);
}
