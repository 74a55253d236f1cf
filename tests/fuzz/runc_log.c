// runc's log, whose sentences carry words of the image.
// sources: core0/lib/runc_error.c
// packages: yyjson
#include <stdint.h>
#include <stdlib.h>

#include "lib/runc_error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[512];
    struct error err = {0};

    runc_error_last((const char *)data, size, text, sizeof(text));
    runc_error_translate(text, "/bin/program", &err);
    if (!error_is_set(&err))
        abort();
    return 0;
}
