// What a caller's side says to croft-exec: frames, and documents on the control channel.
// sources: core0/exec/frame.c
// packages: yyjson
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exec/exec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control control;
    enum channel channel;
    size_t payload, at = 0;
    int ret;

    while ((ret = frame_parse(data + at, size - at, &channel, &payload)) == 1) {
        const char *text = (const char *)data + at + FRAME_HEAD;
        struct buffer out;

        if (channel >= CHANNEL_COUNT || payload > FRAME_MAX || FRAME_HEAD + payload > size - at)
            abort();
        if (channel == CHANNEL_CONTROL && control_parse(text, payload, &control) == 0 &&
            control.kind == CONTROL_RESIZE &&
            (control.rows == 0 || control.rows > UINT16_MAX || control.columns > UINT16_MAX))
            abort();
        buffer_init(&out, 0);
        if (frame_append(&out, channel, text, payload) < 0 || out.len != FRAME_HEAD + payload ||
            memcmp(out.data, data + at, out.len) != 0)
            abort();
        buffer_done(&out);
        at += FRAME_HEAD + payload;
    }
    if (ret < 0 && ret != -EPROTO)
        abort();
    if (control_parse((const char *)data, size, &control) == 0 && control.kind == CONTROL_SIGNAL &&
        control.signal <= 0)
        abort();
    return 0;
}
