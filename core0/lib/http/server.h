/*
 * server.h - small HTTP/1.1 server on our loop, with limits on everything a peer can send.
 *
 * Requests with Content-Length only (411 for others), keep-alive, one request at a time per connection. An answer is a whole
 * body, a stream of chunks with back-pressure, or the hand-over of the connection to another protocol. Plain TCP, or TLS by
 * whatever sessions the owner makes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/ssl.h>

#include "lib/error.h"
#include "lib/loop.h"

#define HTTP_STREAM_MAX ((size_t)64 << 10) /* bytes of a streamed answer that may wait to be sent */

struct http_server;
struct http_exchange;

struct http_server_limits {
    unsigned connections; /* 0: 256; one more is closed at once */
    unsigned per_address; /* 0: 32. Of an IPv6 address only the network counts, its first 64 bits */
    unsigned
        requesting; /* of these, how many may be at a request and not yet at a stream or another protocol; 0: all */
    unsigned requesting_per_address; /* 0: all */
    size_t head;                     /* bytes of request line and headers; 0: 8 KiB, then 431 */
    size_t body;                     /* bytes; 0: 64 KiB, then 413 */
    uint64_t request_us; /* from the first byte to the last of a request; 0: 10 s, then 408 */
    uint64_t idle_us;    /* between requests; 0: 30 s */
    bool upgrades;       /* requests may ask for another protocol; false: 501 */
    uint64_t stall_us;   /* without a byte taken, while a stream waits to be sent; 0: 60 s */
    uint64_t silence_us; /* of a stream: without an acknowledgement of what was sent; 0: 60 s */
};

/* Must be answered exactly once, now or later. */
typedef void http_handler_fn(struct http_exchange *exchange, void *data);

int http_server_new(struct loop *loop, const struct http_server_limits *limits,
                    http_handler_fn *handler, void *data, struct http_server **ret_server);
/* host may be NULL (all addresses); port 0: any, told in *ret_port (may be NULL). Numeric addresses only. Error code http.listen. */
int http_server_listen(struct http_server *server, const char *host, uint16_t port,
                       uint16_t *ret_port, struct error *err);
/* TLS on every connection from now on: session_new gives each a session (allocated with malloc(3), which the server takes over; NULL:
 * the connection is closed). The handshake counts as part of the first request's time. */
void http_server_set_tls(struct http_server *server, mbedtls_ssl_context *(*session_new)(void *),
                         void *data);
/* Open exchanges are dropped without on_gone. */
void http_server_free(struct http_server *server);

const char *http_exchange_method(const struct http_exchange *exchange);
const char *http_exchange_path(
    const struct http_exchange *exchange); /* as sent, with the query, no NUL inside */
const char *http_exchange_header(const struct http_exchange *exchange,
                                 const char *name); /* any case; NULL: absent */
const uint8_t *http_exchange_body(const struct http_exchange *exchange,
                                  size_t *ret_len);                   /* ret_len bytes, no NUL */
const char *http_exchange_peer(const struct http_exchange *exchange); /* numeric address */
/* What limits count as one: the address, of IPv6 its network of 64 bits. */
const char *http_exchange_peer_network(const struct http_exchange *exchange);
/* The peer went away before the answer: the exchange is freed after the callback. */
void http_exchange_set_gone(struct http_exchange *exchange,
                            void (*on_gone)(struct http_exchange *, void *), void *data);
/* Copies the body; the exchange is gone afterwards. */
void http_exchange_reply(struct http_exchange *exchange, int status, const char *content_type,
                         const void *body, size_t len);

/* Further header lines of the answer, each ended by CRLF; before http_exchange_reply() or _stream(). Copied; without memory they are left out. */
void http_exchange_set_headers(struct http_exchange *exchange, const char *lines);

/*
 * Instead of http_exchange_reply(): an answer whose length is not known, in chunks (RFC 9112, section 7.1). What is written is sent as the
 * peer reads; when it has taken everything, on_drained (may be NULL) is called from the loop. A peer that takes nothing for limits.stall_us
 * is lost, and so is one whose kernel acknowledges nothing for limits.silence_us: who writes now and then learns that the peer is gone that
 * long after the next write at the latest. Set on_gone first: it comes once when the peer is lost, and the exchange is gone afterwards.
 */
typedef void http_drained_fn(struct http_exchange *exchange, void *data);
void http_exchange_stream(struct http_exchange *exchange, int status, const char *content_type,
                          http_drained_fn *on_drained, void *data);
/* Takes all of it, or nothing: -EAGAIN while more than HTTP_STREAM_MAX wait. -ENOMEM. Never calls back. */
int http_exchange_write(struct http_exchange *exchange, const void *data, size_t len);
size_t http_exchange_waiting(const struct http_exchange *exchange); /* bytes not sent yet */
/* The end of a stream or of another protocol: what waits is sent first; the exchange is the server's again, no callback follows. */
void http_exchange_finish(struct http_exchange *exchange);
/* Closes at once, without a callback: the answer cannot be completed. */
void http_exchange_abort(struct http_exchange *exchange);

/*
 * Instead of http_exchange_reply(): 101 with these header lines (each ended by CRLF), then bytes both ways. on_data gets what arrives
 * and takes all of it; http_exchange_write() sends as it is. http_exchange_hold(true) stops reading, so that the peer waits.
 */
typedef void http_bytes_fn(struct http_exchange *exchange, const uint8_t *bytes, size_t len,
                           void *data);
void http_exchange_upgrade(struct http_exchange *exchange, const char *headers,
                           http_bytes_fn *on_data, http_drained_fn *on_drained, void *data);
void http_exchange_hold(struct http_exchange *exchange, bool hold);

/* ---- the parser, for tests and fuzzing ---- */
#define HTTP_HEADERS_MAX 64
struct http_header {
    const char *name;
    size_t name_len;
    const char *value;
    size_t value_len;
};
struct http_head {
    const char *method;
    size_t method_len;
    const char *path;
    size_t path_len;
    int minor; /* HTTP/1.minor */
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t header_count;
    uint64_t content_length;
    int keep_alive;
    int upgrade; /* it asks for another protocol */
    size_t size; /* bytes of the head */
};
/* 1: whole, 0: more bytes are needed, or the negated status to answer (-400, -411). */
int http_head_parse(const char *data, size_t len, struct http_head *ret_head);
