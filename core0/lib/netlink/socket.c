/*
 * socket.c - netlink sockets: requests, dumps, batches, events; see netlink.h.
 */
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/netlink/netlink.h"

/* The kernel builds dumps in pieces of at most 32 KiB (netlink_dump); what one read offers beyond is unused. */
#define RECEIVE_SIZE ((size_t)64 << 10)
#define RECEIVE_QUEUE                                                                              \
    (4 << 20)        /* bytes the kernel may queue for us: a burst of events of 1,000 links */
#define DUMP_TRIES 8 /* a dump is repeated when the table changed under it */

struct netlink {
    int fd;
    uint32_t seq;
    uint8_t *buffer;
};

static int open_socket(int protocol, int flags, struct netlink **ret_netlink)
{
    struct netlink *netlink = calloc(1, sizeof(*netlink));
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK};
    int on = 1, size = RECEIVE_QUEUE, r;

    if (netlink == NULL)
        return -ENOMEM;
    netlink->fd = -1;
    netlink->buffer = malloc(RECEIVE_SIZE);
    if (netlink->buffer == NULL) {
        netlink_free(netlink);
        return -ENOMEM;
    }
    netlink->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol);
    if (netlink->fd < 0 || bind(netlink->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        r = -errno;
        netlink_free(netlink);
        return r;
    }
    /* Better messages and stricter dumps where the kernel has them; all work without. */
    (void)setsockopt(netlink->fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    (void)setsockopt(netlink->fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
    (void)setsockopt(netlink->fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
    if (setsockopt(netlink->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        (void)setsockopt(netlink->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    *ret_netlink = netlink;
    return 0;
}

int netlink_open(int protocol, struct netlink **ret_netlink)
{
    return open_socket(protocol, 0, ret_netlink);
}

int netlink_open_events(int protocol, const unsigned *groups, struct netlink **ret_netlink)
{
    struct netlink *netlink = NULL;
    int r = open_socket(protocol, SOCK_NONBLOCK, &netlink);

    if (r < 0 || netlink == NULL)
        return r;
    for (; *groups != 0; groups++) {
        if (setsockopt(netlink->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, groups, sizeof(*groups)) <
            0) {
            r = -errno;
            netlink_free(netlink);
            return r;
        }
    }
    *ret_netlink = netlink;
    return 0;
}

void netlink_free(struct netlink *netlink)
{
    if (netlink == NULL)
        return;
    if (netlink->fd >= 0)
        close(netlink->fd);
    free(netlink->buffer);
    free(netlink);
}

int netlink_fd(const struct netlink *netlink)
{
    return netlink->fd;
}

/* Gives every message of the buffer flags and a number; returns the first number. */
static uint32_t number(struct netlink *netlink, struct netlink_msg *msg, uint16_t flags)
{
    uint32_t first = netlink->seq + 1;
    size_t offset = 0;

    while (offset + sizeof(struct nlmsghdr) <= msg->buf.len) {
        struct nlmsghdr header;

        memcpy(&header, msg->buf.data + offset, sizeof(header));
        header.nlmsg_flags |= flags;
        header.nlmsg_seq = ++netlink->seq;
        memcpy(msg->buf.data + offset, &header, sizeof(header));
        offset += NLMSG_ALIGN((size_t)header.nlmsg_len);
    }
    return first;
}

static int send_all(struct netlink *netlink, const struct netlink_msg *msg)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t n;

    do
        n = sendto(netlink->fd, msg->buf.data, msg->buf.len, 0, (struct sockaddr *)&kernel,
                   sizeof(kernel));
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* One datagram from the kernel (what others send is dropped). Length, 0: nothing waits, or -errno. */
static ssize_t receive(struct netlink *netlink, int flags)
{
    for (;;) {
        struct sockaddr_nl from = {0};
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(netlink->fd, netlink->buffer, RECEIVE_SIZE, flags | MSG_TRUNC,
                             (struct sockaddr *)&from, &from_len);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
        }
        if (from_len != sizeof(from) || from.nl_pid != 0 || n == 0)
            continue;
        if ((size_t)n > RECEIVE_SIZE)
            return -EMSGSIZE;
        return n;
    }
}

static const struct netlink_policy ack_policy[] = {
    [NLMSGERR_ATTR_MSG] = {NETLINK_TEXT, 0, 512},
    [NLMSGERR_ATTR_OFFS] = {NETLINK_BYTES, 4, 4},
};
#define ACK_COUNT (sizeof(ack_policy) / sizeof(ack_policy[0]))

/* Turns an NLMSG_ERROR body into an error; 0 for an acknowledgement. */
static int read_ack(const struct nlmsghdr *header, const uint8_t *body, size_t len,
                    const char *what, struct error *err)
{
    struct netlink_attr attrs[ACK_COUNT] = {0};
    struct nlmsgerr answer;
    size_t skip = sizeof(answer);

    if (len < sizeof(answer))
        return -EBADMSG;
    memcpy(&answer, body, sizeof(answer));
    if (answer.error == 0)
        return 0;
    if ((header->nlmsg_flags & NLM_F_CAPPED) == 0 && answer.msg.nlmsg_len > sizeof(answer.msg))
        skip += NLMSG_ALIGN((size_t)answer.msg.nlmsg_len) - sizeof(answer.msg);
    if ((header->nlmsg_flags & NLM_F_ACK_TLVS) != 0 && skip < len)
        (void)netlink_parse(body + skip, len - skip, ack_policy, ACK_COUNT, attrs);
    if (attrs[NLMSGERR_ATTR_MSG].data != NULL)
        return error_set(err, -answer.error, "net.kernel", NULL, "%s: %s: %.200s", what,
                         strerror(-answer.error), (const char *)attrs[NLMSGERR_ATTR_MSG].data);
    return error_set(err, -answer.error, "net.kernel", NULL, "%s: %s", what,
                     strerror(-answer.error));
}

struct exchange {
    uint32_t seq;
    bool done;
    bool interrupted;
    const char *what;
    struct error *err;
    netlink_message_fn *fn;
    void *user;
};

static int on_answer(const struct nlmsghdr *header, const uint8_t *body, size_t len, void *user)
{
    struct exchange *exchange = user;
    int status;

    if (header->nlmsg_seq != exchange->seq)
        return 0; /* left over from a request that was given up */
    if ((header->nlmsg_flags & NLM_F_DUMP_INTR) != 0)
        exchange->interrupted = true;
    switch (header->nlmsg_type) {
    case NLMSG_ERROR:
        exchange->done = true;
        return read_ack(header, body, len, exchange->what, exchange->err);
    case NLMSG_DONE:
        exchange->done = true;
        if (len < sizeof(status))
            return 0;
        memcpy(&status, body, sizeof(status));
        return status < 0 ? error_set(exchange->err, -status, "net.kernel", NULL, "%s: %s",
                                      exchange->what, strerror(-status))
                          : 0;
    case NLMSG_NOOP:
    case NLMSG_OVERRUN:
        return 0;
    default:
        return exchange->fn != NULL ? exchange->fn(header, body, len, exchange->user) : 0;
    }
}

static int exchange_run(struct netlink *netlink, struct netlink_msg *msg, uint16_t flags,
                        struct exchange *exchange)
{
    int r = netlink_msg_status(msg);

    if (r == 0) {
        exchange->seq = number(netlink, msg, flags);
        r = send_all(netlink, msg);
    }
    while (r == 0 && !exchange->done) {
        ssize_t n = receive(netlink, 0);

        r = n <= 0 ? (int)n : netlink_foreach(netlink->buffer, (size_t)n, on_answer, exchange);
        if (n == 0)
            r = -EIO;
    }
    if (r < 0)
        error_set(exchange->err, -r, "net.kernel", NULL, "%s: %s", exchange->what, strerror(-r));
    return r;
}

int netlink_request(struct netlink *netlink, struct netlink_msg *msg, const char *what,
                    struct error *err)
{
    struct exchange exchange = {.what = what, .err = err};

    return exchange_run(netlink, msg, NLM_F_REQUEST | NLM_F_ACK, &exchange);
}

int netlink_query(struct netlink *netlink, struct netlink_msg *msg, netlink_message_fn *fn,
                  void *user, const char *what, struct error *err)
{
    struct exchange exchange = {.what = what, .err = err, .fn = fn, .user = user};

    return exchange_run(netlink, msg, NLM_F_REQUEST | NLM_F_ACK, &exchange);
}

int netlink_dump(struct netlink *netlink, struct netlink_msg *msg, netlink_message_fn *fn,
                 void (*restart)(void *user), void *user, const char *what, struct error *err)
{
    for (int i = 0; i < DUMP_TRIES; i++) {
        struct exchange exchange = {.what = what, .err = err, .fn = fn, .user = user};
        int r = exchange_run(netlink, msg, NLM_F_REQUEST | NLM_F_DUMP, &exchange);

        if (r < 0 || !exchange.interrupted)
            return r;
        if (restart != NULL && i + 1 < DUMP_TRIES)
            restart(user);
    }
    /* The table changes faster than it can be read: what was seen last is the best there is. */
    return 0;
}

struct batch {
    int status;
    const char *what;
    struct error *err;
};

static int on_batch_answer(const struct nlmsghdr *header, const uint8_t *body, size_t len,
                           void *user)
{
    struct batch *batch = user;

    if (header->nlmsg_type == NLMSG_ERROR) {
        int r = read_ack(header, body, len, batch->what, batch->err);

        if (r < 0 && batch->status == 0)
            batch->status = r;
    }
    return 0;
}

int netlink_batch(struct netlink *netlink, struct netlink_msg *msg, const char *what,
                  struct error *err)
{
    struct batch batch = {.what = what, .err = err};
    int size = (int)NETLINK_MESSAGE_MAX;
    int r = netlink_msg_status(msg);

    if (setsockopt(netlink->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
        (void)setsockopt(netlink->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (r == 0) {
        number(netlink, msg, NLM_F_REQUEST);
        r = send_all(netlink, msg);
    }
    /* The whole transaction was handled inside sendto(2): refusals are queued, silence is success. */
    while (r == 0 && batch.status == 0) {
        ssize_t n = receive(netlink, MSG_DONTWAIT);

        if (n == 0)
            return 0;
        r = n < 0 ? (int)n : netlink_foreach(netlink->buffer, (size_t)n, on_batch_answer, &batch);
    }
    if (batch.status < 0) {
        /* Further refusals of the same batch must not be taken for the next one's. */
        while (receive(netlink, MSG_DONTWAIT) > 0)
            ;
        return batch.status;
    }
    return error_set(err, -r, "net.kernel", NULL, "%s: %s", what, strerror(-r));
}

int netlink_receive(struct netlink *netlink, netlink_message_fn *fn, void *user)
{
    for (;;) {
        ssize_t n = receive(netlink, MSG_DONTWAIT);

        if (n <= 0)
            return (int)n;
        /* A message that does not parse says nothing; the next may. */
        (void)netlink_foreach(netlink->buffer, (size_t)n, fn, user);
    }
}
