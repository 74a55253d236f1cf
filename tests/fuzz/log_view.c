// A log as a node sends it, in pieces of any size: what is shown on a terminal has nothing in it that a terminal would obey.
// sources: core0/cli/log_view.c core0/cli/printable.c core0/cli/moment.c
// packages: yyjson
#include <stdint.h>
#include <stdlib.h>

#include "cli/log_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct log_view view;
    struct error err = {.code = ""};
    size_t step = data[1] == 0 ? size : data[1];
    log_view_init(&view);
    view.json = (data[0] & 1) != 0;
    view.timestamps = (data[0] & 2) != 0;
    view.terminal = true;
    for (size_t at = 2; at < size; at += step) {
        if (log_view_take(&view, data + at, size - at < step ? size - at : step, &err) < 0)
            break;
    }
    (void)log_view_end(&view, &err);
    for (size_t i = 0; i < view.out.len; i++) {
        uint8_t c = view.out.data[i];
        if ((c < 0x20 && c != '\t' && c != '\n') || (c == 0x7f && !view.json))
            abort();
        if (c == 0xc2 && i + 1 < view.out.len && view.out.data[i + 1] < 0xa0)
            abort(); /* ISO 6429's second set: CSI as one character */
    }
    log_view_done(&view);
    return 0;
}
