// What gated sends to croft-exec: frames after one another, and control messages.
// sources: core0/exec/frame.c
#include <stdlib.h>

#include "exec/exec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control control = {0};
    enum channel channel;
    size_t payload;

    while (frame_parse(data, size, &channel, &payload) > 0) {
        if (payload > FRAME_MAX || payload > size - FRAME_HEAD || channel >= CHANNEL_COUNT)
            abort();
        if (channel == CHANNEL_CONTROL &&
            control_parse((const char *)data + FRAME_HEAD, payload, &control) == 0) {
            if (control.kind == CONTROL_RESIZE &&
                (control.rows - 1 >= 65535 || control.columns - 1 >= 65535))
                abort();
            if (control.kind == CONTROL_SIGNAL && (control.signal < 1 || control.signal > 31))
                abort();
        }
        data += FRAME_HEAD + payload;
        size -= FRAME_HEAD + payload;
    }
    return 0;
}
