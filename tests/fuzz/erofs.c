// Metadata of an image from a stranger.
#include <stdint.h>
#include <stdlib.h>

#include "lib/image/erofs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct erofs_object *objects;
    size_t count;
    struct error err = {0};
    if (erofs_objects(data, size, &objects, &count, &err) == 0)
        free(objects);
    return 0;
}
