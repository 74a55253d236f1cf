// Frames as callers of a gate send them, one after another; and any text as a key of the handshake.
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/http/ws_frame.h"

#define MAX 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char accept[WS_ACCEPT_SIZE];
    struct ws_frame frame, again;
    size_t at = 0;
    int ret;

    while ((ret = ws_frame_parse(data + at, size - at, MAX, &frame)) == 1) {
        if (frame.head > WS_FRAME_HEAD_MAX || frame.head > size - at || frame.payload > MAX)
            abort();
        if (frame.opcode >= WS_CLOSE && (frame.payload > WS_CONTROL_MAX || !frame.fin))
            abort();
        /* its head alone says the same */
        if (ws_frame_parse(data + at, frame.head, MAX, &again) != 1 ||
            again.payload != frame.payload)
            abort();
        if (frame.payload > size - at - frame.head)
            break;
        uint8_t *payload = malloc(frame.payload + 1);
        if (payload == NULL)
            abort();
        memcpy(payload, data + at + frame.head, frame.payload);
        ws_frame_unmask(&frame, payload);
        ws_frame_unmask(&frame, payload);
        if (memcmp(payload, data + at + frame.head, frame.payload) != 0)
            abort();
        free(payload);
        at += frame.head + frame.payload;
    }
    if (ret < 0 && ret != -EPROTO && ret != -EMSGSIZE)
        abort();
    char *key = strndup((const char *)data, size);
    if (key == NULL)
        abort();
    if (ws_accept(key, accept) == 0 && strlen(accept) != WS_ACCEPT_SIZE - 1)
        abort();
    free(key);
    return 0;
}
