/*
 * ws.h - WebSocket client (RFC 6455) on libcurl and our loop: text or binary messages, pings, one connection.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/loop.h"

#define WS_MESSAGE_MAX ((size_t)1 << 20) /* bytes; a longer one ends the connection */
#define WS_QUEUE_MAX ((size_t)64 * 1024) /* bytes that wait to be sent, lengths included */

struct ws;

enum ws_event {
    WS_OPEN,
    WS_MESSAGE,  /* data: the whole message, NUL-terminated beyond len */
    WS_PONG,     /* the answer to ws_ping */
    WS_WRITABLE, /* after ws_send refused or ws_room told 0: the queue is empty again */
    WS_CLOSED, /* last event; err is set. ws_free is still the caller's (allowed in the callback) */
};
typedef void ws_fn(struct ws *ws, enum ws_event event, const char *data, size_t len,
                   const struct error *err, void *user);

struct ws_options {
    const char *url;             /* ws or wss */
    uint64_t connect_timeout_us; /* until WS_OPEN */
    const char *const *headers;  /* "Name: value", ended by NULL; may be NULL */
    const char *protocol;        /* subprotocol that the server must agree to; NULL: none */
    const uint8_t *pinned_key;   /* as in http/client.h; NULL: the bundle of certificates decides */
    bool binary;                 /* messages are binary, both ways; else text */
    ws_fn *fn;
    void *user;
};

/* Strings are copied. Error codes as http/client.h; a refused upgrade is http.status. Nothing is called from inside ws_new.
 * 0, -EINVAL (URL), -ENOMEM. */
int ws_new(struct loop *loop, const struct ws_options *options, struct ws **ret_ws);
void ws_free(struct ws *ws);
/* Queues a message. 0, -ENOTCONN, -ENOBUFS when more than WS_QUEUE_MAX would wait: WS_WRITABLE follows. */
int ws_send(struct ws *ws, const void *data, size_t len);
/* The longest message that ws_send takes now; 0: none, and WS_WRITABLE follows. */
size_t ws_room(struct ws *ws);
/* 0 or -ENOTCONN. One at a time: another one before the first is sent is left out. */
int ws_ping(struct ws *ws);
/* Stops reading from the network, so that the sender is held up, or goes on. Control frames wait too. */
void ws_pause(struct ws *ws, bool paused);
/* In WS_CLOSED of a refused upgrade: the status (else 0), and a header of the answer ("" if there is none). */
int ws_status(const struct ws *ws);
const char *ws_header(const struct ws *ws, const char *name);

/* ---- the parser of what arrives, for tests and fuzzing: one piece of a frame at a time ---- */
#include "lib/buffer.h"
struct ws_piece {
    unsigned flags; /* CURLWS_… of libcurl */
    size_t left;    /* bytes of the frame that are still to come after this piece */
    bool binary;    /* binary messages are expected, else text */
};
/* Adds a piece to message. 1: a whole message is in it, 0: more follows or nothing to deliver, -EMSGSIZE, -EPROTO, -ENOMEM. */
int ws_assemble(struct buffer *message, const struct ws_piece *piece, const void *data, size_t len);
