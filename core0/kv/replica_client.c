/*
 * replica_client.c - see replica_client.h.
 */
#include "replica_client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "resp.h"
#include "tls.h"

#define PATIENCE_MS 30000 /* without a byte; an idle primary answers FOLLOW every second */
#define LINE_MAX_BYTES 512
#define BUFFER_KEPT ((size_t)1 << 20)

/* ---- the socket ---- */

static int wait_for(struct replica_client *c, short events)
{
    struct pollfd fds[2] = {{.fd = c->fd, .events = events}, {.fd = c->stop_fd, .events = POLLIN}};
    int n;

    do {
        n = poll(fds, 2, PATIENCE_MS);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (fds[1].revents != 0)
        return -ECANCELED;
    return n == 0 ? -ETIMEDOUT : 0;
}

/* After a call of the transport that answered `n`: 0 when it is to be made again. */
static int wait_again(struct replica_client *c, ssize_t n)
{
    if (n != -EAGAIN)
        return (int)n;
    return wait_for(c, transport_wants(c->transport) == TRANSPORT_READ ? POLLIN : POLLOUT);
}

static int resolve(const char *address, struct sockaddr_storage *ret_to, socklen_t *ret_len)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    const char *rest = strchr(address, ':');

    if (rest == NULL)
        return -EINVAL;
    rest++;
    if (strncmp(address, "unix:", 5) != 0)
        return address_parse(rest, false, ret_to, ret_len);
    if (strlen(rest) >= sizeof(local.sun_path))
        return -ENAMETOOLONG;
    memcpy(local.sun_path, rest, strlen(rest) + 1);
    memcpy(ret_to, &local, sizeof(local));
    *ret_len = sizeof(local);
    return 0;
}

static int open_socket(struct replica_client *c, const char *address)
{
    struct sockaddr_storage to;
    socklen_t len, size = sizeof(int);
    int one = 1, failed = 0, r = resolve(address, &to, &len);

    if (r < 0)
        return r;
    c->fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return -errno;
    if (to.ss_family != AF_UNIX)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(c->fd, (struct sockaddr *)&to, len) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    r = wait_for(c, POLLOUT);
    if (r == 0 && getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failed, &size) == 0)
        r = -failed;
    return r;
}

/* The bytes' way over the socket, which it takes over. */
static int open_transport(struct replica_client *c, const struct replica_primary *primary,
                          struct tls *tls)
{
    char host[ADDRESS_HOST_MAX];
    const char *port;
    mbedtls_ssl_context *ssl;
    int fd = c->fd, r;

    if (tls == NULL)
        return transport_plain_new(fd, &c->transport);
    if (primary->name == NULL && address_split(strchr(primary->address, ':') + 1, host, &port) < 0)
        return -EINVAL;
    ssl = tls_session_new(tls, primary->name != NULL ? primary->name : host);
    if (ssl == NULL)
        return -ENOMEM;
    r = transport_tls_new(ssl, fd, &c->transport);
    while (r == 0) {
        int done = transport_handshake(c->transport);

        if (done == 0)
            done = tls_session_verify(tls, ssl);
        r = wait_again(c, done);
        if (done != -EAGAIN)
            break;
    }
    return r;
}

int replica_client_open(struct replica_client *c, const struct replica_primary *primary,
                        struct tls *tls, int stop_fd, size_t value_max)
{
    int r;

    *c = (struct replica_client){.fd = -1, .stop_fd = stop_fd, .value_max = value_max};
    r = open_socket(c, primary->address);
    if (r < 0) {
        if (c->fd >= 0)
            close(c->fd);
        c->fd = -1;
        return r;
    }
    r = open_transport(c, primary, tls);
    if (r < 0)
        replica_client_close(c);
    return r;
}

void replica_client_close(struct replica_client *c)
{
    transport_free(c->transport); /* and the descriptor */
    free(c->data);
    c->transport = NULL;
    c->fd = -1;
    c->data = NULL;
    c->start = c->end = c->capacity = 0;
}

/* ---- out ---- */

static int send_all(struct replica_client *c, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = transport_write(c->transport, data, len);
        int r = n > 0 ? 0 : wait_again(c, n);

        if (r < 0)
            return r;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

int replica_client_send(struct replica_client *c, const struct replica_argument *arguments,
                        unsigned count)
{
    uint8_t text[4096];
    size_t len = resp_head('*', count, text);

    for (unsigned i = 0; i < count; i++) {
        if (arguments[i].len > sizeof(text) - len - RESP_HEAD_MAX - 2)
            return -EMSGSIZE;
        len += resp_head('$', arguments[i].len, text + len);
        memcpy(text + len, arguments[i].data, arguments[i].len);
        len += arguments[i].len;
        text[len++] = '\r';
        text[len++] = '\n';
    }
    return send_all(c, text, len);
}

/* ---- in ---- */

/* Makes at least `want` bytes lie behind start. */
static int fill(struct replica_client *c, size_t want)
{
    while (c->end - c->start < want) {
        ssize_t n;

        if (c->start > 0) {
            memmove(c->data, c->data + c->start, c->end - c->start);
            c->end -= c->start;
            c->start = 0;
        }
        if (c->capacity < want || c->capacity == c->end) {
            size_t capacity = want > BUFFER_KEPT ? want : BUFFER_KEPT;
            uint8_t *data = realloc(c->data, capacity);

            if (data == NULL)
                return -ENOMEM;
            c->data = data;
            c->capacity = capacity;
        }
        n = transport_read(c->transport, c->data + c->end, c->capacity - c->end);
        if (n == 0)
            return -ECONNRESET;
        if (n > 0) {
            c->end += (size_t)n;
        } else {
            int r = wait_again(c, n);

            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* A line without its end, as text. */
static int line(struct replica_client *c, char ret_text[LINE_MAX_BYTES])
{
    size_t at = 0;

    for (;; at++) {
        int r = at < LINE_MAX_BYTES ? fill(c, at + 1) : -EPROTO;

        if (r < 0)
            return r;
        if (c->data[c->start + at] == '\n')
            break;
        ret_text[at] = (char)c->data[c->start + at];
    }
    if (at == 0 || ret_text[at - 1] != '\r')
        return -EPROTO;
    ret_text[at - 1] = '\0';
    c->start += at + 1;
    return 0;
}

int replica_client_head(struct replica_client *c, char *ret_type, int64_t *ret_number)
{
    char text[LINE_MAX_BYTES];
    uint64_t number = 0;
    int r = line(c, text);

    if (r < 0)
        return r;
    if (text[0] == '-') {
        snprintf(c->error, sizeof(c->error), "%.*s", (int)sizeof(c->error) - 1, text + 1);
        return -EREMOTEIO;
    }
    if (text[0] != '$' && text[0] != '*' && text[0] != ':')
        return -EPROTO;
    *ret_type = text[0];
    if (strcmp(text + 1, "-1") == 0) {
        *ret_number = -1;
        return 0;
    }
    if (resp_number((const uint8_t *)text + 1, strlen(text + 1), INT64_MAX, &number) < 0)
        return -EPROTO;
    *ret_number = (int64_t)number;
    return 0;
}

int replica_client_expect(struct replica_client *c, char type, int64_t *ret_number)
{
    char got;
    int r = replica_client_head(c, &got, ret_number);

    if (r < 0)
        return r;
    return got == type && *ret_number >= 0 ? 0 : -EPROTO;
}

int replica_client_bytes(struct replica_client *c, size_t len, const uint8_t **ret_data)
{
    int r;

    if (len > c->value_max)
        return -EPROTO;
    r = fill(c, len + 2);
    if (r < 0)
        return r;
    if (c->data[c->start + len] != '\r' || c->data[c->start + len + 1] != '\n')
        return -EPROTO;
    *ret_data = c->data + c->start;
    c->start += len + 2;
    return 0;
}

int replica_client_simple(struct replica_client *c, char *ret_text, size_t size)
{
    char text[LINE_MAX_BYTES];
    int r = line(c, text);

    if (r < 0)
        return r;
    if (text[0] == '-') {
        snprintf(c->error, sizeof(c->error), "%.*s", (int)sizeof(c->error) - 1, text + 1);
        return -EREMOTEIO;
    }
    if (text[0] != '+' || strlen(text + 1) >= size)
        return -EPROTO;
    memcpy(ret_text, text + 1, strlen(text + 1) + 1);
    return 0;
}

int replica_client_integer(struct replica_client *c, uint64_t *ret_number)
{
    int64_t number;
    int r = replica_client_expect(c, ':', &number);

    if (r == 0)
        *ret_number = (uint64_t)number;
    return r;
}

int replica_client_bulk(struct replica_client *c, void *ret_data, size_t max, size_t *ret_len)
{
    const uint8_t *data;
    int64_t len;
    int r = replica_client_expect(c, '$', &len);

    if (r < 0)
        return r;
    if ((uint64_t)len > max)
        return -EPROTO;
    r = replica_client_bytes(c, (size_t)len, &data);
    if (r < 0)
        return r;
    memcpy(ret_data, data, (size_t)len);
    *ret_len = (size_t)len;
    return 0;
}

int replica_client_count(struct replica_client *c, int64_t least, int64_t most, int64_t *ret_count)
{
    int r = replica_client_expect(c, '*', ret_count);

    if (r < 0)
        return r;
    return *ret_count >= least && *ret_count <= most ? 0 : -EPROTO;
}
