// Pieces of WebSocket frames as libcurl hands them over: flags, bytes left, data.
#include <stdlib.h>

#include "lib/http/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer message;
    buffer_init(&message, WS_MESSAGE_MAX + 1);
    /* the third byte's upper bits are free: its first one says what kind of messages is expected */
    bool binary = size > 4 && (data[2] & 0x80) != 0;
    while (size > 4) {
        struct ws_piece piece = {
            .flags = data[0], .left = (size_t)data[1] << (data[2] & 31), .binary = binary};
        size_t len = data[3] < size - 4 ? data[3] : size - 4;
        int r = ws_assemble(&message, &piece, data + 4, len);
        if (r < 0)
            break;
        if (r == 1)
            buffer_clear(&message);
        if (message.len > WS_MESSAGE_MAX)
            abort();
        data += 4 + len;
        size -= 4 + len;
    }
    buffer_done(&message);
    return 0;
}
