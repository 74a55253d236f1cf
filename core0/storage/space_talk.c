/*
 * space_talk.c - one conversation with a kvd over its Unix socket: all requests at once, then as many replies. See space.h.
 *
 * core0 holds the socket, so a connection is made at once even while kvd starts; the replies come when it is ready.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/buffer.h"
#include "space.h"

#define REPLIES_BYTES_MAX ((size_t)64 << 10)
/* A kvd that reads its records after a crash is not ready before it has done so. */
#define TALK_TIMEOUT_US ((uint64_t)120 * 1000000)

struct space_talk {
    int fd;
    struct loop_io *io;
    struct loop_timer *timer;
    struct buffer out, in;
    size_t count;
    space_talk_fn *fn;
    void *data;
};

/* ---- RESP (https://redis.io/docs/reference/protocol-spec/) ---- */

int space_request(struct buffer *request, const char *const *words)
{
    size_t count = 0;
    while (words[count] != NULL)
        count++;
    int r = buffer_printf(request, "*%zu\r\n", count);
    for (size_t i = 0; i < count && r >= 0; i++)
        r = buffer_printf(request, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
    return r < 0 ? r : 0;
}

static ssize_t read_bulk(const char *data, size_t len, size_t head, struct space_reply *ret_reply)
{
    size_t size = 0;
    if (head == 5 && memcmp(data, "$-1", 3) == 0) {
        *ret_reply = (struct space_reply){.type = '$'};
        return 5;
    }
    if (head < 4 || head > 10)
        return -EBADMSG;
    for (size_t i = 1; i < head - 2; i++) {
        if (data[i] < '0' || data[i] > '9')
            return -EBADMSG;
        size = size * 10 + (size_t)(data[i] - '0');
    }
    if (size > REPLIES_BYTES_MAX)
        return -EBADMSG;
    if (len < head + size + 2)
        return 0;
    if (memcmp(data + head + size, "\r\n", 2) != 0)
        return -EBADMSG;
    *ret_reply = (struct space_reply){.type = '$', .text = data + head, .len = size};
    return (ssize_t)(head + size + 2);
}

ssize_t space_reply_read(const char *data, size_t len, struct space_reply *ret_reply)
{
    const char *end = memchr(data, '\n', len);
    if (end == NULL)
        return len > REPLIES_BYTES_MAX ? -EBADMSG : 0;
    size_t head = (size_t)(end - data) + 1;
    if (head < 3 || end[-1] != '\r')
        return -EBADMSG;
    if (data[0] == '$')
        return read_bulk(data, len, head, ret_reply);
    if (strchr("+-:", data[0]) == NULL || data[0] == '\0')
        return -EBADMSG;
    *ret_reply = (struct space_reply){.type = data[0], .text = data + 1, .len = head - 3};
    return (ssize_t)head;
}

/* ---- the conversation ---- */

void space_talk_free(struct space_talk *talk)
{
    if (talk == NULL)
        return;
    loop_io_del(talk->io);
    loop_timer_del(talk->timer);
    if (talk->fd >= 0)
        close(talk->fd);
    if (talk->out.data != NULL)
        explicit_bzero(talk->out.data, talk->out.len); /* passwords */
    buffer_done(&talk->out);
    buffer_done(&talk->in);
    free(talk);
}

static void end(struct space_talk *talk, const struct space_reply *replies, int r, const char *why)
{
    struct error err = {0};
    space_talk_fn *fn = talk->fn;
    void *data = talk->data;
    size_t count = talk->count;
    if (replies == NULL)
        error_set(&err, -r, "storage.busy", "it is asked again by itself",
                  "the key-value server %s: %s", why, strerror(-r));
    fn(replies, replies == NULL ? 0 : count, &err, data);
    space_talk_free(talk);
}

/* 1: all are there (the talk is over), 0: not yet, -EBADMSG. */
static int take_replies(struct space_talk *talk)
{
    struct space_reply replies[SPACE_REPLIES_MAX];
    size_t at = 0;
    for (size_t i = 0; i < talk->count; i++) {
        ssize_t n =
            space_reply_read((const char *)talk->in.data + at, talk->in.len - at, &replies[i]);
        if (n <= 0)
            return (int)n;
        at += (size_t)n;
    }
    end(talk, replies, 0, NULL);
    return 1;
}

static void on_io(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct space_talk *talk = data;
    char bytes[4096];
    if ((events & EPOLLOUT) != 0 && talk->out.len > 0) {
        ssize_t n = send(fd, talk->out.data, talk->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            end(talk, NULL, -errno, "takes no request");
            return;
        }
        if (n > 0) {
            explicit_bzero(talk->out.data, (size_t)n);
            buffer_consume(&talk->out, (size_t)n);
        }
        if (talk->out.len == 0)
            (void)loop_io_set(io, EPOLLIN);
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
        return;
    ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end(talk, NULL, n < 0 ? -errno : -ECONNRESET, "ended before it had answered");
        return;
    }
    int r = buffer_append(&talk->in, bytes, (size_t)n);
    if (r >= 0)
        r = take_replies(talk);
    if (r < 0)
        end(talk, NULL, r, "gave an answer that cannot be read");
}

static void on_timeout(struct loop_timer *timer, void *data)
{
    (void)timer;
    end(data, NULL, -ETIMEDOUT, "does not answer");
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

int space_talk_start(struct loop *loop, const char *path, const struct buffer *request,
                     size_t count, space_talk_fn *fn, void *data, struct space_talk **ret_talk,
                     struct error *err)
{
    struct space_talk *talk = calloc(1, sizeof(*talk));
    int r = talk == NULL || count > SPACE_REPLIES_MAX ? -ENOMEM : 0;
    if (r == 0) {
        *talk = (struct space_talk){.fd = connect_to(path), .count = count, .fn = fn, .data = data};
        buffer_init(&talk->out, 0);
        buffer_init(&talk->in, REPLIES_BYTES_MAX);
        r = talk->fd < 0 ? talk->fd : buffer_append(&talk->out, request->data, request->len);
    }
    if (r >= 0)
        r = loop_io_add(loop, talk->fd, EPOLLIN | EPOLLOUT, on_io, talk, &talk->io);
    if (r >= 0)
        r = loop_timer_add(loop, on_timeout, talk, &talk->timer);
    if (r < 0) {
        space_talk_free(talk);
        return error_set(err, -r, "storage.busy", "it is asked again by itself",
                         "the key-value server cannot be reached: %s", strerror(-r));
    }
    loop_timer_in(talk->timer, TALK_TIMEOUT_US);
    *ret_talk = talk;
    return 0;
}
