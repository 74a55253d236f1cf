// Any bytes as a line of croft.toml.
// sources: core0/cli/settings_line.c
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum setting setting;
    char value[64];

    if (settings_parse_line((const char *)data, size, &setting, value, sizeof(value)) == 0 &&
        setting < SETTING_COUNT && strlen(value) >= sizeof(value)) {
        abort();
    }
    return 0;
}
