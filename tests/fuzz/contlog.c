// Records of a container's log as they lie on disk.
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "lib/contlog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    for (size_t at = 0; at < size;) {
        struct contlog_record record;
        size_t skip = 0;
        ssize_t n = contlog_parse(text + at, size - at, &record, &skip);

        if (n == 0)
            break;
        if (n > 0 && (record.text < text + at || record.text + record.len + 1 != text + at + n))
            abort();
        if (n < 0 && (n != -EBADMSG || skip == 0 || skip > size - at))
            abort();
        at += n > 0 ? (size_t)n : skip;
    }
    return 0;
}
