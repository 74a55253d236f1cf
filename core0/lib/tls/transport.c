/*
 * transport.c - see transport.h.
 */
#include "lib/tls/transport.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of a record buffer, what is kept: mbedTLS counts incoming records in its first eight bytes. The rest belongs to the record it holds. */
#define KEPT 64
#define SMALL                                                                                      \
    ((size_t)2 << 10) /* bytes: such a write touches no page that resting could give back */

struct transport {
    int fd;
    unsigned wants;
    mbedtls_ssl_context *ssl; /* NULL: plain */
    size_t unsent; /* length of the write that answered "later": TLS wants to see it again */
    bool used;     /* record buffers may have been touched since the last rest */
};

static int transport_new(int fd, struct transport **ret_transport)
{
    struct transport *transport = calloc(1, sizeof(*transport));

    if (transport == NULL) {
        close(fd);
        return -ENOMEM;
    }
    transport->fd = fd;
    *ret_transport = transport;
    return 0;
}

int transport_plain_new(int fd, struct transport **ret_transport)
{
    return transport_new(fd, ret_transport);
}

/* ---- TLS ---- */

static int tls_send(void *data, const unsigned char *bytes, size_t len)
{
    struct transport *transport = data;
    ssize_t n = send(transport->fd, bytes, len, MSG_NOSIGNAL);

    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE
                                             : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int tls_receive(void *data, unsigned char *bytes, size_t len)
{
    struct transport *transport = data;
    ssize_t n = recv(transport->fd, bytes, len, 0);

    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_CONN_EOF;
}

/* What mbedTLS answered, as bytes or -errno. */
static ssize_t tls_result(struct transport *transport, int r)
{
    switch (r) {
    case MBEDTLS_ERR_SSL_WANT_READ:
        transport->wants = TRANSPORT_READ;
        return -EAGAIN;
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        transport->wants = TRANSPORT_WRITE;
        return -EAGAIN;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return 0;
    case MBEDTLS_ERR_SSL_CONN_EOF:
        return -ECONNRESET;
    default:
        return r >= 0 ? r : -EPROTO;
    }
}

int transport_tls_new(mbedtls_ssl_context *ssl, int fd, struct transport **ret_transport)
{
    struct transport *transport;
    int r = transport_new(fd, &transport);

    if (r < 0) {
        mbedtls_ssl_free(ssl);
        free(ssl);
        return r;
    }
    transport->ssl = ssl;
    transport->used = true; /* the handshake */
    mbedtls_ssl_set_bio(ssl, transport, tls_send, tls_receive, NULL);
    *ret_transport = transport;
    return 0;
}

int transport_handshake(struct transport *transport)
{
    if (transport->ssl == NULL)
        return 0;
    ssize_t r = tls_result(transport, mbedtls_ssl_handshake(transport->ssl));
    return r < 0 ? (int)r : 0;
}

size_t transport_pending(const struct transport *transport)
{
    return transport->ssl != NULL ? mbedtls_ssl_get_bytes_avail(transport->ssl) : 0;
}

/* Whether nothing in the record buffers is needed any more, bar what KEPT covers. */
static bool tls_is_empty(mbedtls_ssl_context *ssl)
{
    return mbedtls_ssl_is_handshake_over(ssl) && !mbedtls_ssl_check_pending(ssl) &&
           ssl->MBEDTLS_PRIVATE(in_left) == 0 && ssl->MBEDTLS_PRIVATE(out_left) == 0 &&
           /* of a handshake message that comes in several records */
           ssl->MBEDTLS_PRIVATE(badmac_seen_or_in_hsfraglen) == 0;
}

/* Whole pages within the record buffer; they read as zeros afterwards. */
static void give_back(unsigned char *buffer, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t skip = KEPT + page - 1 - ((uintptr_t)buffer + KEPT + page - 1) % page;

    if (skip + page <= len)
        madvise(buffer + skip, (len - skip) / page * page, MADV_DONTNEED);
}

void transport_rest(struct transport *transport)
{
    mbedtls_ssl_context *ssl = transport->ssl;

    if (ssl == NULL || !transport->used || transport->unsent > 0 || !tls_is_empty(ssl))
        return;
    give_back(ssl->MBEDTLS_PRIVATE(in_buf), MBEDTLS_SSL_IN_CONTENT_LEN);
    give_back(ssl->MBEDTLS_PRIVATE(out_buf), MBEDTLS_SSL_OUT_CONTENT_LEN);
    transport->used = false;
}

/* ---- both ---- */

ssize_t transport_read(struct transport *transport, void *data, size_t len)
{
    ssize_t n;

    if (transport->ssl != NULL) { /* does the handshake too, as far as it gets */
        transport->used = true;   /* a record of little content may be long */
        return tls_result(transport, mbedtls_ssl_read(transport->ssl, data, len));
    }
    do {
        n = recv(transport->fd, data, len, 0);
    } while (n < 0 && errno == EINTR);
    transport->wants = TRANSPORT_READ;
    return n >= 0 ? n : -errno;
}

ssize_t transport_write(struct transport *transport, const void *data, size_t len)
{
    ssize_t n;

    if (transport->ssl != NULL) {
        if (transport->unsent > 0)
            len = transport->unsent;
        else if (len > MBEDTLS_SSL_OUT_CONTENT_LEN)
            len = MBEDTLS_SSL_OUT_CONTENT_LEN;
        transport->used = transport->used || len > SMALL;
        n = tls_result(transport, mbedtls_ssl_write(transport->ssl, data, len));
        transport->unsent = n == -EAGAIN ? len : 0;
        return n;
    }
    do {
        n = send(transport->fd, data, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    transport->wants = TRANSPORT_WRITE;
    return n >= 0 ? n : -errno;
}

unsigned transport_wants(const struct transport *transport)
{
    return transport->wants;
}

void transport_free(struct transport *transport)
{
    if (transport == NULL)
        return;
    if (transport->ssl != NULL) {
        mbedtls_ssl_close_notify(transport->ssl);
        mbedtls_ssl_free(transport->ssl);
        free(transport->ssl);
    }
    close(transport->fd);
    free(transport);
}
