// What a caller sends once the gate speaks WebSocket: frames after one another, and the key of the handshake.
// packages: mbedtls
#include <stdlib.h>
#include <string.h>

#include "lib/http/ws_frame.h"

#define MAX ((size_t)65537)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char key[64], accept[WS_ACCEPT_SIZE];
    size_t len = size < sizeof(key) - 1 ? size : sizeof(key) - 1;
    uint8_t *bytes = malloc(size + 1);
    struct ws_frame frame, again;

    if (bytes == NULL)
        return 0;
    if (size > 0)
        memcpy(bytes, data, size);
    for (size_t at = 0; ws_frame_parse(bytes + at, size - at, MAX, &frame) > 0;) {
        if (frame.head > WS_FRAME_HEAD_MAX || frame.head > size - at || frame.payload > MAX ||
            (frame.opcode >= WS_CLOSE && (!frame.fin || frame.payload > WS_CONTROL_MAX)))
            abort();
        /* the head alone says everything */
        if (ws_frame_parse(bytes + at, frame.head, MAX, &again) != 1 ||
            ws_frame_parse(bytes + at, frame.head - 1, MAX, &again) != 0)
            abort();
        if (size - at - frame.head < frame.payload)
            break;
        ws_frame_unmask(&frame, bytes + at + frame.head);
        at += frame.head + frame.payload;
    }
    free(bytes);
    memcpy(key, data, len);
    key[len] = '\0';
    if (ws_accept(key, accept) == 0 && strlen(accept) != WS_ACCEPT_SIZE - 1)
        abort();
    return 0;
}
