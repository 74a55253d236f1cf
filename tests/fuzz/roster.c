// A copy of the list of volumes, as it lies on a disk that came from anywhere.
// sources: core0/storage/roster.c
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "storage/roster.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct roster roster;
    struct roster again;
    struct buffer text;
    if (roster_parse((const char *)data, size, &roster) < 0)
        return 0;
    /* What was taken is written in a form that is taken, too. */
    buffer_init(&text, ROSTER_BYTES);
    if (roster_format(&roster, &text) < 0 ||
        roster_parse((const char *)text.data, text.len, &again) < 0 || again.count != roster.count)
        abort();
    roster_done(&roster);
    roster_done(&again);
    buffer_done(&text);
    return 0;
}
