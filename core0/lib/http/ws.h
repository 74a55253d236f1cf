/*
 * ws.h - WebSocket client (RFC 6455) on libcurl and our loop: text messages, pings, one connection.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/loop.h"

#define WS_MESSAGE_MAX ((size_t)1 << 20) /* bytes; a longer one ends the connection */

struct ws;

enum ws_event {
    WS_OPEN,
    WS_MESSAGE, /* data: text, NUL-terminated beyond len */
    WS_PONG,
    WS_CLOSED, /* last event; err is set. ws_free is still the caller's (allowed in the callback) */
};
typedef void ws_fn(struct ws *ws, enum ws_event event, const char *data, size_t len,
                   const struct error *err, void *user);

/* url: ws or wss. Error codes as http/client.h. Nothing is called from inside ws_new. */
int ws_new(struct loop *loop, const char *url, uint64_t connect_timeout_us, ws_fn *fn, void *user,
           struct ws **ret_ws);
void ws_free(struct ws *ws);
/* 0, -ENOTCONN, -ENOBUFS when more than 64 KiB wait to be sent. */
int ws_send(struct ws *ws, const char *text, size_t len);
int ws_ping(struct ws *ws);

/* ---- the parser of what arrives, for tests and fuzzing: one piece of a frame at a time ---- */
#include "lib/buffer.h"
struct ws_piece {
    unsigned flags; /* CURLWS_… of libcurl */
    size_t left;    /* bytes of the frame that are still to come after this piece */
};
/* Adds a piece to message. 1: a whole text message is in it, 0: more follows or nothing to deliver, -EMSGSIZE, -EPROTO, -ENOMEM. */
int ws_assemble(struct buffer *message, const struct ws_piece *piece, const void *data, size_t len);
