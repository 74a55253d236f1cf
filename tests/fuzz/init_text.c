// core0's small readers: an environment file, a line of mountinfo, text for a console, a join token in a line. The first byte
// says which.
// sources: $(filter-out core0/init/main.c,$(wildcard core0/init/*.c))
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "init/spawn_exec.h"
#include "init/stop_mounts.h"
#include "init/text.h"
#include "init/unit_value.h"

static void read_environment(const char *text)
{
    struct unit_list list = {0};
    struct error err = {0};

    if (spawn_exec_read(text, &list, &err) < 0 && !error_is_set(&err))
        abort();
    for (size_t i = 0; i < list.count; i++) {
        if (strchr(list.items[i], '=') == NULL)
            abort();
    }
    unit_list_done(&list);
}

static void clean(const char *text, size_t len)
{
    char out[256];

    if (text_clean(out, sizeof(out), text, len) != strlen(out))
        abort();
    for (const char *c = out; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 && *c != '\t')
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char point[64];

    if (size == 0)
        return 0;
    char *text = strndup((const char *)data + 1, size - 1);
    if (text == NULL)
        abort();
    if (data[0] == 'e')
        read_environment(text);
    else if (data[0] == 'm')
        (void)stop_mounts_point(text, point, sizeof(point));
    else if (data[0] == 't')
        text_hide_token(text);
    else
        clean((const char *)data + 1, size - 1);
    free(text);
    return 0;
}
