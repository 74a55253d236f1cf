/*
 * ws_frame.h - frames of WebSocket (RFC 6455) as a server reads and writes them. Pure functions over buffers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"

#define WS_FRAME_HEAD_MAX 14 /* bytes before the payload of a client's frame */
#define WS_CONTROL_MAX 125   /* bytes of payload of a close, ping or pong (section 5.5) */
#define WS_ACCEPT_SIZE 29    /* characters of Sec-WebSocket-Accept, and the NUL */

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG_FRAME = 10,
};

/* Status codes of a close (section 7.4.1). */
enum ws_status {
    WS_STATUS_NORMAL = 1000,
    WS_STATUS_GOING_AWAY = 1001,
    WS_STATUS_PROTOCOL = 1002,
    WS_STATUS_TOO_BIG = 1009,
};

struct ws_frame {
    enum ws_opcode opcode;
    bool fin;
    uint8_t mask[4];
    size_t head;    /* bytes of the head */
    size_t payload; /* bytes after it */
};

/*
 * Reads the head of a client's frame. 1: it is whole (its payload may not be there yet); 0: more bytes are needed; -EPROTO: not masked,
 * reserved bits, unknown opcode, a control frame that is long or in pieces; -EMSGSIZE: payload above max.
 */
int ws_frame_parse(const uint8_t *data, size_t len, size_t max, struct ws_frame *ret_frame);
/* Undoes the mask in place. */
void ws_frame_unmask(const struct ws_frame *frame, uint8_t *payload);
/* Appends a whole, unmasked frame. 0, -ENOMEM, -EFBIG. */
int ws_frame_append(struct buffer *out, enum ws_opcode opcode, const void *payload, size_t len);
/* Appends a close with a status. */
int ws_frame_append_close(struct buffer *out, enum ws_status status);
/* What a server answers to Sec-WebSocket-Key (section 4.2.2). 0, or -EINVAL when it is not the base64 of 16 bytes. */
int ws_accept(const char *key, char ret_accept[WS_ACCEPT_SIZE]);
