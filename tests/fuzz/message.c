// Messages that a stranger posts to the relay: what is taken has one form, there and back.
#include <stdlib.h>
#include <string.h>

#include "lib/grid/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int kind = 0; kind < GRID_KIND_COUNT; kind++) {
        struct grid_message message, copy;
        struct buffer text, call, again;
        if (grid_message_from_json((enum grid_kind)kind, (const char *)data, size, &message, NULL) <
            0)
            continue;
        buffer_init(&text, 0);
        buffer_init(&call, 0);
        buffer_init(&again, 0);
        if (grid_message_to_json(&message, &text) < 0 || grid_message_call(&message, &call) < 0)
            abort();
        if (grid_message_from_json((enum grid_kind)kind, (const char *)text.data, text.len, &copy,
                                   NULL) < 0 ||
            grid_message_call(&copy, &again) < 0 || again.len != call.len ||
            memcmp(again.data, call.data, call.len) != 0)
            abort();
        buffer_done(&again);
        buffer_done(&call);
        buffer_done(&text);
    }
    return 0;
}
