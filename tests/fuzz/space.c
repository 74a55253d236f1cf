// What a kvd answers, and a description of a namespace as it lies on a disk.
// sources: core0/storage/space.c core0/storage/space_talk.c core0/storage/key.c
// packages: yyjson mbedtls
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "storage/space.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    char name[KV_NAME_LEN + 1];
    struct space_reply reply;
    struct space space;
    ssize_t used = space_reply_read(text, size, &reply);

    if (used > (ssize_t)size || (used > 0 && reply.text != NULL &&
                                 (reply.text < text || reply.text + reply.len > text + used)))
        abort();
    kv_name("kv/0xaa/shop/cache", name);
    if (space_parse(text, size, name, &space) == 0 && strcmp(space.name, name) != 0)
        abort(); /* only its own */
    return 0;
}
