/*
 * ws_frame.c - see ws_frame.h.
 */
#include "lib/http/ws_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/sha1.h>

#include "lib/crypto/text.h"

#define KEY_SIZE 16

static bool is_known(unsigned opcode)
{
    return opcode <= WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG_FRAME);
}

int ws_frame_parse(const uint8_t *data, size_t len, size_t max, struct ws_frame *ret_frame)
{
    if (len < 2)
        return 0;
    unsigned opcode = data[0] & 0x0fu;
    bool control = opcode >= WS_CLOSE, fin = (data[0] & 0x80u) != 0;
    uint64_t payload = data[1] & 0x7fu;
    size_t more = payload == 127 ? 8 : payload == 126 ? 2 : 0;

    if ((data[0] & 0x70u) != 0 || (data[1] & 0x80u) == 0 || !is_known(opcode) ||
        (control && (!fin || payload > WS_CONTROL_MAX)))
        return -EPROTO;
    if (len < 2 + more + 4)
        return 0;
    if (more > 0) {
        payload = 0;
        for (size_t i = 0; i < more; i++)
            payload = payload << 8 | data[2 + i];
    }
    if (payload > max)
        return -EMSGSIZE;
    ret_frame->opcode = (enum ws_opcode)opcode;
    ret_frame->fin = fin;
    memcpy(ret_frame->mask, data + 2 + more, 4);
    ret_frame->head = 2 + more + 4;
    ret_frame->payload = (size_t)payload;
    return 1;
}

void ws_frame_unmask(const struct ws_frame *frame, uint8_t *payload)
{
    for (size_t i = 0; i < frame->payload; i++)
        payload[i] ^= frame->mask[i % 4];
}

int ws_frame_append(struct buffer *out, enum ws_opcode opcode, const void *payload, size_t len)
{
    uint8_t head[10] = {(uint8_t)(0x80u | opcode)};
    size_t size = 2;

    if (len < 126) {
        head[1] = (uint8_t)len;
    } else if (len <= UINT16_MAX) {
        head[1] = 126;
        size = 4;
    } else {
        head[1] = 127;
        size = 10;
    }
    for (size_t i = size, left = len; i > 2; i--, left >>= 8)
        head[i - 1] = (uint8_t)left;
    int r = buffer_reserve(out, size + len);
    if (r < 0)
        return r;
    r = buffer_append(out, head, size);
    return r < 0 || len == 0 ? r : buffer_append(out, payload, len);
}

int ws_frame_append_close(struct buffer *out, enum ws_status status)
{
    uint8_t code[2] = {(uint8_t)(status >> 8), (uint8_t)status};

    return ws_frame_append(out, WS_CLOSE, code, sizeof(code));
}

int ws_accept(const char *key, char ret_accept[WS_ACCEPT_SIZE])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t *raw = NULL, digest[20];
    char text[24 + sizeof(guid)];
    size_t len = 0;

    int r = base64_decode(key, KEY_SIZE, &raw, &len);
    free(raw);
    if (r < 0 || len != KEY_SIZE || strlen(key) != 24)
        return -EINVAL;
    memcpy(text, key, 24);
    memcpy(text + 24, guid, sizeof(guid));
    mbedtls_sha1((const unsigned char *)text, strlen(text), digest);
    char *accept = base64_encode(digest, sizeof(digest));
    if (accept == NULL)
        return -EINVAL;
    memcpy(ret_accept, accept, WS_ACCEPT_SIZE);
    free(accept);
    return 0;
}
